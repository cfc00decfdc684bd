package rekisteri

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"strings"
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

	// Hash compares every zip with its sum, which reads them all.
	Hash bool

	// Progress is called before each provider. Nil is not called.
	Progress func(Provider)
}

// Check reads the tree anew and yields what is wrong with it. It ends early
// when ctx is done. Nil options are the defaults.
func (b *FSBackend) Check(ctx context.Context, opts *CheckOptions) iter.Seq[Problem] {
	if opts == nil {
		opts = new(CheckOptions)
	}
	return func(yield func(Problem) bool) {
		providers := opts.Providers
		if providers == nil {
			for p, err := range b.Providers(ctx) {
				if err == nil {
					providers = append(providers, p)
				} else if ctx.Err() == nil && !yield(Problem{Path: cmp.Or(p.Namespace, "."), What: reason(err),
					Effect: "nothing in it is served", Fix: "make the directory readable"}) {
					return
				}
			}
			for problem := range b.checkNames() {
				if !yield(problem) {
					return
				}
			}
		}
		for _, p := range providers {
			if ctx.Err() != nil {
				return
			}
			if opts.Progress != nil {
				opts.Progress(p)
			}
			for problem := range b.checkProvider(ctx, p, opts.Hash) {
				if !yield(problem) {
					return
				}
			}
		}
	}
}

// checkNames yields what no client can ask for by its name, and links that are
// not followed.
func (b *FSBackend) checkNames() iter.Seq[Problem] {
	return func(yield func(Problem) bool) {
		namespaces, err := fs.ReadDir(b.fsys, ".")
		if err != nil {
			return
		}
		for _, entry := range namespaces {
			name := entry.Name()
			if !b.isDir(name, entry) {
				if strings.HasSuffix(name, ".json") && !ignored(name) &&
					!yield(Problem{Path: name, What: "it is in no namespace", Effect: "it is not served", Fix: "move it to the directory of its namespace"}) {
					return
				}
				if entry.Type()&fs.ModeSymlink != 0 && !b.yieldLink(name, yield) {
					return
				}
				continue
			}
			if !validName(name) {
				if !ignored(name) && !yield(nameProblem(name, name)) {
					return
				}
				continue
			}
			types, err := fs.ReadDir(b.fsys, name)
			if err != nil {
				continue // Providers has yielded that
			}
			for _, entry := range types {
				at := name + "/" + entry.Name()
				t, isDocument := strings.CutSuffix(entry.Name(), ".json")
				if !ignored(t) && !validName(t) && (isDocument || b.isDir(at, entry)) && !yield(nameProblem(at, t)) {
					return
				}
			}
		}
	}
}

func (b *FSBackend) yieldLink(name string, yield func(Problem) bool) bool {
	why := b.badLink(name)
	return why == "" || ignored(name) || yield((&linkError{name, why}).problem("nothing behind it is served"))
}

func nameProblem(at, name string) Problem {
	p := Problem{Path: at, What: "no client can ask for such a name", Effect: "it is not served", Fix: "use letters, digits, - and _"}
	if lower := strings.ToLower(name); lower != name && validName(lower) {
		p.What, p.Fix = "clients ask for names in lower case", "rename it to "+strings.Replace(at, name, lower, 1)
	}
	return p
}

// checkProvider yields what is wrong with a provider.
func (b *FSBackend) checkProvider(ctx context.Context, p Provider, hash bool) iter.Seq[Problem] {
	return func(yield func(Problem) bool) {
		if !p.valid() {
			yield(nameProblem(p.String(), p.String()))
			return
		}
		c, err := b.read(p, nil)
		if errors.Is(err, fs.ErrNotExist) {
			yield(Problem{Path: p.String(), What: "there is no such provider", Effect: "clients are told so", Fix: "add its directory or its document"})
			return
		} else if err != nil {
			yield(Problem{Path: ".", What: err.Error(), Effect: "what was read before is still served, the rest fails", Fix: "mount the volume, and make it readable"})
			return
		}
		for _, problem := range c.problems {
			if !yield(problem) {
				return
			}
		}
		if !hash {
			return
		}
		for _, v := range c.listing.Versions {
			if r := c.held[v.Version]; r != nil {
				for i := range r.packages {
					pkg := &r.packages[i]
					if problem := b.checkHash(ctx, pkg); ctx.Err() != nil || problem != nil && !yield(*problem) {
						return
					}
				}
			}
		}
	}
}

// checkHash compares a zip with its sum.
func (b *FSBackend) checkHash(ctx context.Context, p *heldPackage) *Problem {
	f, err := b.openZip(p)
	if err != nil {
		return &Problem{Path: p.path, What: err.Error(), Effect: "clients cannot download it", Fix: "make the file readable"}
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, contextReader{ctx, f}); err != nil {
		return &Problem{Path: p.path, What: reason(err), Effect: "clients cannot download it", Fix: "make the file readable"}
	}
	if [sha256.Size]byte(h.Sum(nil)) != p.sha256 {
		return &Problem{Path: p.path, What: "it has another sum than SHA256SUMS says",
			Effect: "clients download it and refuse it", Fix: "copy the zip that was released"}
	}
	return nil
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
