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
	c, err := b.read(p, h.content)
	if err == nil && c != h.content {
		err = errors.New("it has changed")
	}
	return err
}
