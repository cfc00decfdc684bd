package rekisteri

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"maps"
	"slices"

	"github.com/rekisteri/rekisteri/internal/tree"
)

// Providers implements [Lister]. It yields the providers in the order of their
// names. It reads directories, not the contents of files. If a directory cannot be
// read, it yields an error and goes on with the others. An error can also be about
// the whole tree, for example if the tree is empty.
func (b *FSBackend) Providers(ctx context.Context) iter.Seq2[Provider, error] {
	return func(yield func(Provider, error) bool) {
		root, err := b.tree.root.Get(ctx)
		if err == nil {
			err = root.err
		}
		if err != nil {
			yield(Provider{}, err)
			return
		}
		empty := true
		// A request waits for one read that hangs, but not for another one after
		// that. A read with noWait returns what is in memory, or an error.
		canWait, stopWaiting := context.WithCancel(ctx)
		defer stopWaiting()
		noWait, cancel := context.WithCancel(ctx)
		cancel()
		for _, name := range slices.Sorted(maps.Keys(root.namespaces)) {
			if err := ctx.Err(); err != nil {
				yield(Provider{}, err)
				return
			}
			ns, readCtx := b.tree.namespace(name), canWait
			if b.tree.root.Overdue() || ns.overdue() {
				readCtx = noWait
			}
			providers, err := b.tree.providers(readCtx, name)
			if readCtx == canWait && ns.overdue() {
				stopWaiting()
			}
			if err != nil && readCtx.Err() != nil && ctx.Err() == nil {
				err = errHangs
			}
			if err != nil {
				empty = false
				if !yield(Provider{Namespace: name}, err) {
					return
				}
				continue
			}
			for _, p := range providers {
				empty = false
				if !yield(p, nil) {
					return
				}
			}
		}
		if empty {
			if _, _, err := b.tree.find(ctx, Provider{}); err != nil && !errors.Is(err, fs.ErrNotExist) {
				yield(Provider{}, err) // it is an outage
			}
		}
	}
}

// providers returns the providers of a namespace that the root has. Links among
// them are examined no more often than the directory is read, and nobody waits
// for that if the file system hangs.
func (t *treeNames) providers(ctx context.Context, namespace string) ([]Provider, error) {
	ns := t.namespace(namespace)
	dir, err := ns.dir.Get(ctx)
	if err != nil {
		return nil, err
	}
	for _, names := range dir.types {
		if names.link && !names.document {
			return ns.linked.Get(ctx)
		}
	}
	all, _ := dir.providers(namespace)
	return all, nil
}

// providers returns the providers of a namespace, by type, and the problems of
// links that are not followed.
func (d *namespaceDir) providers(namespace string) (all []Provider, problems []Problem) {
	types := slices.Sorted(maps.Keys(d.types))
	errs := make([]error, len(types))
	tree.NewPool(maxReadsPerLoad).Each(len(types), func(i int) {
		if t := d.types[types[i]]; !t.link || t.document {
			return
		}
		at := namespace + "/" + types[i]
		info, err := fs.Stat(d.fsys, at)
		if err == nil && !info.IsDir() {
			err = fs.ErrNotExist
		}
		errs[i] = tree.Explain(d.fsys, at, err)
	})
	for i, typ := range types {
		if link, ok := errors.AsType[*tree.LinkError](errs[i]); ok {
			problems = append(problems, linkProblem(link, effectNotServed))
		}
		if !errors.Is(errs[i], fs.ErrNotExist) {
			all = append(all, Provider{namespace, typ})
		}
	}
	return all, problems
}
