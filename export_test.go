package rekisteri

import (
	"context"
	"errors"
)

// Refresh refreshes a provider in memory, as a request would.
func Refresh(b *FSBackend, p Provider) error {
	l, ok := b.cache.Get(scope{Provider: p})
	if !ok {
		return errors.New("the provider is not in memory")
	}
	before, _ := l.Peek()
	after, err := l.Reload(context.Background())
	if err == nil && after.content != before.content {
		err = errors.New("it has changed")
	}
	return err
}

// Cached returns the number of providers and versions in memory.
func Cached(b *FSBackend) int {
	n, _ := b.cache.Usage()
	return n
}

// Namespaces returns the number of namespaces in memory.
func Namespaces(b *FSBackend) int {
	b.tree.mu.Lock()
	defer b.tree.mu.Unlock()
	return len(b.tree.namespaces)
}

// CacheSize returns what is charged for what is in memory.
func CacheSize(b *FSBackend) int64 {
	_, size := b.cache.Usage()
	_, indexes := b.indexes.Usage()
	return size + indexes
}

// Pages returns the number of the pages in the cache, and their size.
func Pages(r *Registry) (n int, size int64) { return r.pages.pages.Usage() }

// OnStep has a function called before each step that d takes to store a file.
func OnStep(d *Dir, step func(op, name string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.step = step
}
