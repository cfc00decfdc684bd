package rekisteri

import (
	"archive/zip"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"slices"
	"strings"

	"github.com/rekisteri/rekisteri/internal/names"
)

// A Problem is something in the tree of an [FSBackend] that a client would
// choke on, or that keeps a part of the tree from being served.
type Problem struct {
	Path   string // the file or directory, relative to the tree's root
	What   string // what is wrong
	Effect string // what is served all the same, or what a client would do
	Fix    string // how to mend it

	pending bool // a copy on its way would mend it
}

// String returns the problem as a line of text.
func (p Problem) String() string {
	return fmt.Sprintf("%s: %s; %s; to mend it: %s", p.Path, p.What, p.Effect, p.Fix)
}

// CheckOptions are the settings of [FSBackend.Check]. The zero value is ready
// to use.
type CheckOptions struct {
	// Providers are those to check. Nil is all, and the names in the tree.
	Providers []Provider

	// Hash compares every zip with its sum, which reads them all, and looks for
	// the provider's binary in it.
	Hash bool

	// Progress is called before each provider. Nil is not called.
	Progress func(Provider)
}

// Check reads the tree anew and yields what is wrong with it, each problem
// once. It ends early when ctx is done. Nil options are the defaults.
func (b *FSBackend) Check(ctx context.Context, opts *CheckOptions) iter.Seq[Problem] {
	if opts == nil {
		opts = new(CheckOptions)
	}
	return func(yield func(Problem) bool) {
		c := &checker{FSBackend: NewFSBackend(b.fsys, &FSOptions{Logger: slog.New(slog.DiscardHandler)}), yield: yield, seen: make(map[report]bool)}
		providers := opts.Providers
		if providers == nil {
			providers = c.allNames(ctx)
		}
		for _, p := range providers {
			if c.done || ctx.Err() != nil {
				return
			}
			if opts.Progress != nil {
				opts.Progress(p)
			}
			c.provider(ctx, p, opts.Hash)
		}
	}
}

// A checker goes through a tree.
type checker struct {
	*FSBackend
	yield func(Problem) bool
	seen  map[report]bool
	done  bool // nobody wants any more problems
}

func (c *checker) found(problems ...Problem) {
	for _, p := range problems {
		if key := (report{p.Path, p.What}); !c.done && !c.seen[key] {
			c.seen[key] = true
			c.done = !c.yield(p)
		}
	}
}

// allNames returns the providers in the tree. It finds what no client can ask for
// by its name, and links that are not followed.
func (c *checker) allNames(ctx context.Context) (providers []Provider) {
	for p, err := range c.Providers(ctx) {
		if err == nil {
			providers = append(providers, p)
		} else if ctx.Err() == nil {
			c.found(Problem{Path: cmp.Or(p.Namespace, "."), What: reason(err), Effect: "nothing in it is served", Fix: "make the directory readable"})
		}
	}
	root, err := fs.ReadDir(c.fsys, ".")
	if err == nil && len(providers) == 0 && ctx.Err() == nil {
		c.found(Problem{Path: ".", What: "there is no provider in the tree", Effect: "clients are told that there is none", Fix: "mount the volume, or add a provider"})
	}
	for _, entry := range root {
		name := entry.Name()
		if ignored(name) {
			continue
		}
		var problems []Problem
		if !mayBeDir(entry) || !c.isDir(name, entry, &problems) {
			c.found(problems...)
			if strings.HasSuffix(name, ".json") {
				c.found(Problem{Path: name, What: "it is in no namespace", Effect: "it is not served", Fix: "move it to the directory of its namespace"})
			}
			continue
		}
		if !names.Valid(name) {
			c.found(nameProblem(name, name))
			continue
		}
		types, _ := fs.ReadDir(c.fsys, name) // an error was found above
		for _, entry := range types {
			t, isDocument := strings.CutSuffix(entry.Name(), ".json")
			if !ignored(t) && !names.Valid(t) && (isDocument || entry.IsDir()) {
				c.found(nameProblem(name+"/"+entry.Name(), t))
			}
		}
		if ns, err := c.namespace(name); err == nil {
			c.found(ns.problems...)
		}
	}
	return providers
}

// provider finds what is wrong with a provider.
func (c *checker) provider(ctx context.Context, p Provider, hash bool) {
	if !p.valid() {
		c.found(nameProblem(p.String(), p.String()))
		return
	}
	ns, err := c.find(p)
	if errors.Is(err, fs.ErrNotExist) {
		c.found(Problem{Path: p.String(), What: "there is no such provider", Effect: "clients are told so", Fix: "add its directory or its document"})
		return
	} else if err != nil {
		c.found(Problem{Path: p.Namespace, What: err.Error(), Effect: "what was read before is still served, the rest fails", Fix: "mount the volume, and make it readable"})
		return
	}
	c.found(ns.problems...)
	content := c.read(p, ns, nil)
	c.found(content.problems...)
	if !hash {
		return
	}
	for _, v := range content.listing.Versions {
		if r := content.held[v.Version]; r != nil {
			for i := range r.packages {
				if c.done || ctx.Err() != nil {
					return
				}
				c.zip(ctx, p, &r.packages[i])
			}
		}
	}
}

// zip compares a zip with its sum, and looks for the provider's binary in it.
func (c *checker) zip(ctx context.Context, p Provider, pkg *heldPackage) {
	h := sha256.New()
	f, err := c.openZip(pkg)
	if err == nil {
		defer f.Close()
		_, err = io.Copy(h, contextReader{ctx, f})
	}
	switch {
	case ctx.Err() != nil:
	case err != nil:
		c.found(Problem{Path: pkg.path, What: reason(err), Effect: "clients cannot download it", Fix: "make the file readable"})
	case [sha256.Size]byte(h.Sum(nil)) != pkg.sha256:
		c.found(Problem{Path: pkg.path, What: "it has another sum than SHA256SUMS says",
			Effect: "clients download it and refuse it", Fix: "copy the zip that was released"})
	case !holdsBinary(f, pkg.size, p.Type):
		c.found(Problem{Path: pkg.path, What: "it holds no terraform-provider-" + p.Type + " at its root",
			Effect: "clients download it and find no provider binary", Fix: "release it again, with the binary at the zip's root"})
	}
}

// holdsBinary reports whether a zip has the file that clients look for in it.
func holdsBinary(f io.ReaderAt, size int64, providerType string) bool {
	z, err := zip.NewReader(f, size)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(z.File, func(f *zip.File) bool {
		rest, ok := strings.CutPrefix(f.Name, "terraform-provider-"+providerType)
		return ok && (rest == "" || rest[0] == '_' || rest[0] == '.') && !strings.Contains(rest, "/")
	})
}

func nameProblem(at, name string) Problem {
	p := Problem{Path: at, What: "no client can ask for such a name", Effect: "it is not served", Fix: "use letters, digits, - and _"}
	if lower := strings.ToLower(name); lower != name && names.Valid(lower) {
		p.What, p.Fix = "clients ask for names in lower case", "rename it to "+strings.Replace(at, name, lower, 1)
	}
	return p
}

// A contextReader fails when its context is done.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}
