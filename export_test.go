package rekisteri

import "errors"

// Look looks at a provider that is held, as a request would have it done.
func Look(b *FSBackend, p Provider) error {
	b.mu.Lock()
	h := b.held[p]
	b.mu.Unlock()
	if h == nil {
		return errors.New("it is not held")
	}
	ns, err := b.find(p)
	if err == nil && b.read(p, ns, h.content) != h.content {
		err = errors.New("it has changed")
	}
	return err
}

// Held returns the number of providers that are held.
func Held(b *FSBackend) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.held)
}

// Pages returns the number of the pages in the cache, and their size.
func Pages(r *Registry) (n int, size int64) { return r.pages.pages.Usage() }
