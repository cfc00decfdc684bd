package rekisteri

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/rekisteri/rekisteri/internal/openpgp"
	"github.com/rekisteri/rekisteri/internal/release"
	"github.com/rekisteri/rekisteri/internal/tree"
)

// CheckOptions are the settings of [FSBackend.Check]. The zero value is ready to
// use.
type CheckOptions struct {
	// Providers are the providers to check. If it is nil, Check checks all of
	// them, and the names in the tree.
	Providers []Provider

	// Hash compares every zip with its sum, and looks for the provider's binary
	// in it. It reads all zips.
	Hash bool

	// Progress is called after each provider. It may be nil.
	Progress func(Provider)
}

// Check reads the tree, independently of what is in memory, and yields what is
// wrong with it, each problem once. It checks several providers at a time, and
// yields their problems in the order of their names. It ends early when ctx is
// done. Nil options are the defaults.
func (b *FSBackend) Check(ctx context.Context, opts *CheckOptions) iter.Seq[Problem] {
	if opts == nil {
		opts = new(CheckOptions)
	}
	return func(yield func(Problem) bool) {
		fresh := NewFSBackend(b.tree.fsys, &FSOptions{Logger: slog.New(slog.DiscardHandler)})
		c := &checker{FSBackend: fresh, opts: opts, yield: yield, seen: make(map[problemKey]bool)}
		providers := opts.Providers
		if providers == nil {
			providers = c.checkNames(ctx)
		}
		c.checkProviders(ctx, providers)
	}
}

// A checker goes through a tree.
type checker struct {
	*FSBackend
	opts  *CheckOptions
	yield func(Problem) bool
	seen  map[problemKey]bool
	done  bool // yield has returned false
}

func (c *checker) report(problems ...Problem) {
	for _, p := range problems {
		if key := (problemKey{p.Path, p.What}); !c.done && !c.seen[key] {
			c.seen[key] = true
			c.done = !c.yield(p)
		}
	}
}

// checkNames returns the providers in the tree. It reports names that clients
// cannot ask for, links that are not followed, and what is wrong with the keys
// of the namespaces.
func (c *checker) checkNames(ctx context.Context) (providers []Provider) {
	root, err := c.tree.root.Get(ctx)
	if err == nil {
		err = root.err
	}
	if err != nil {
		if failed, ok := errors.AsType[*treeError](err); ok {
			err = failed.cause
		}
		if ctx.Err() == nil {
			c.report(unreadableProblem(".", err, "nothing is served"))
		}
		return nil
	}
	c.report(root.problems...)
	hasKey := false
	for _, name := range slices.Sorted(maps.Keys(root.namespaces)) {
		dir, err := c.tree.namespace(name).dir.Get(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			c.report(unreadableProblem(name, err, "nothing in it is served"))
			continue
		}
		hasKey = hasKey || len(dir.keys) > 0
		all, problems := dir.providers(name)
		providers = append(providers, all...)
		c.report(dir.problems...)
		c.report(problems...)
	}
	if len(providers) == 0 && len(c.seen) == 0 {
		effect := "clients get errors for everything"
		if hasKey {
			effect = "clients get 404 for everything"
		}
		c.report(Problem{Path: ".", What: "there is no provider in the tree", Effect: effect,
			Fix: "mount the volume, or add a provider as <namespace>/<type>/<version>/"})
	}
	return providers
}

// checkProviders reports what is wrong with providers.
func (c *checker) checkProviders(ctx context.Context, providers []Provider) {
	pool := tree.NewPool(maxReadsPerLoad)
	for chunk := range slices.Chunk(providers, 2*maxReadsPerLoad) {
		problems := make([][]Problem, len(chunk))
		pool.Each(len(chunk), func(i int) { problems[i] = c.checkProvider(ctx, chunk[i]) })
		for i, p := range chunk {
			if c.done || ctx.Err() != nil {
				return
			}
			c.report(problems[i]...)
			if c.opts.Progress != nil {
				c.opts.Progress(p)
			}
		}
	}
}

// checkProvider returns what is wrong with a provider.
func (c *checker) checkProvider(ctx context.Context, p Provider) []Problem {
	if !p.valid() {
		return []Problem{nameProblem(p.String(), p.String())}
	}
	dir, names, err := c.tree.lookUp(ctx, p)
	if errors.Is(err, fs.ErrNotExist) {
		return []Problem{{Path: p.String(), What: "there is no such provider", Effect: "clients get 404 for it", Fix: "add its directory or its document"}}
	} else if err != nil {
		return []Problem{unreadableProblem(p.Namespace, err, "nothing in it is served")}
	}
	state, _ := c.readOnce(scope{Provider: p}, dir, names, nil)
	problems := append(slices.Clone(dir.problems), state.content.problems...)
	for _, v := range state.content.listing.Versions {
		if r := state.content.stored[v.Version]; r != nil {
			_, err := state.keys.Verify([]byte(r.sums), []byte(r.signature), time.Now())
			if errors.Is(err, openpgp.ErrBadSignature) || errors.Is(err, openpgp.ErrFuture) {
				problems = append(problems, badSignatureProblem(r, err))
			}
		}
	}
	if c.opts.Hash {
		for _, v := range state.content.listing.Versions {
			if r := state.content.stored[v.Version]; r != nil {
				problems = append(problems, c.checkZips(ctx, dir.fsys, p, r)...)
			}
		}
	}
	return problems
}

// checkZips compares the zips of a release with their sums, and looks for the
// provider's binary in each.
func (c *checker) checkZips(ctx context.Context, fsys fs.FS, p Provider, r *storedRelease) (problems []Problem) {
	for i := range r.release.Packages {
		pkg := &r.release.Packages[i]
		path := r.path(pkg.Filename)
		file, err := hashZip(ctx, fsys, path, p.Type)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			problems = append(problems, unreadableProblem(path, err, "clients cannot download it"))
			continue
		}
		if finding, ok := release.InspectZip(p.Type, release.Sum{Name: pkg.Filename, SHA256: pkg.SHA256}, file); !ok {
			finding.Effect = "clients download it, and refuse it"
			problems = append(problems, findingProblem(r.dir, r.version, finding))
		}
	}
	return problems
}

// hashZip reads all of a zip.
func hashZip(ctx context.Context, fsys fs.FS, path, typ string) (*release.File, error) {
	f, info, err := tree.Open(fsys, path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, contextReader{ctx, f}); err != nil {
		return nil, err
	}
	sum := [sha256.Size]byte(h.Sum(nil))
	z, err := zip.NewReader(f, info.Size())
	found := err == nil && slices.ContainsFunc(z.File, func(f *zip.File) bool { return release.IsBinary(f.Name, typ) })
	return &release.File{Size: info.Size(), SHA256: &sum, NoBinary: !found}, nil
}
