package refresh

import (
	"container/list"
	"sync"
)

// A Map is a cache of bounded size. If it is full, it evicts the least recently
// used values. A Map is safe for concurrent use.
type Map[K comparable, V any] struct {
	limit   int64
	evicted func(K, V)

	mu      sync.RWMutex
	size    int64
	entries map[K]*list.Element
	recent  list.List // of *entry[K, V], the most recently used in front
}

type entry[K comparable, V any] struct {
	key   K
	value V
	size  int64
}

// NewMap returns a Map for values of a total size of at most limit. evicted is
// called for each value that leaves the map for lack of room, without the map's
// lock; nil is not called.
func NewMap[K comparable, V any](limit int64, evicted func(K, V)) *Map[K, V] {
	return &Map[K, V]{limit: limit, evicted: evicted, entries: make(map[K]*list.Element)}
}

// Get returns the value of a key, and marks it as used.
func (m *Map[K, V]) Get(key K) (value V, ok bool) {
	m.mu.RLock()
	e := m.entries[key]
	if e == nil {
		m.mu.RUnlock()
		return value, false
	}
	value = e.Value.(*entry[K, V]).value
	first := e == m.recent.Front()
	m.mu.RUnlock()
	// A write lock for each read would make all requests wait for each other. If
	// it is taken, the order stays as it is, which is still about right.
	if !first && m.mu.TryLock() {
		m.recent.MoveToFront(e) // does nothing if e was removed meanwhile
		m.mu.Unlock()
	}
	return value, true
}

// GetOrPut returns the value of a key. If there is none, it puts the one that
// make returns, with size zero.
func (m *Map[K, V]) GetOrPut(key K, make func() (K, V)) V {
	if value, ok := m.Get(key); ok {
		return value
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.entries[key]; e != nil {
		return e.Value.(*entry[K, V]).value
	}
	key, value := make()
	m.entries[key] = m.recent.PushFront(&entry[K, V]{key, value, 0})
	return value
}

// Put sets the value of a key and its size. It evicts others to make room, but
// never those of size zero, which take none. A value larger than the whole map
// is kept until the next one comes.
func (m *Map[K, V]) Put(key K, value V, size int64) {
	var out []*entry[K, V]
	m.mu.Lock()
	if e := m.entries[key]; e != nil {
		old := e.Value.(*entry[K, V])
		m.size += size - old.size
		e.Value = &entry[K, V]{old.key, value, size}
		m.recent.MoveToFront(e)
	} else {
		m.entries[key] = m.recent.PushFront(&entry[K, V]{key, value, size})
		m.size += size
	}
	for e := m.recent.Back(); e != m.recent.Front() && m.size > m.limit; {
		last := e
		e = e.Prev()
		if last.Value.(*entry[K, V]).size > 0 {
			out = append(out, m.remove(last))
		}
	}
	m.mu.Unlock()
	if m.evicted != nil {
		for _, e := range out {
			m.evicted(e.key, e.value)
		}
	}
}

// Delete removes a key. It does not call the function for evicted values.
func (m *Map[K, V]) Delete(key K) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.entries[key]; e != nil {
		m.remove(e)
	}
}

func (m *Map[K, V]) remove(e *list.Element) *entry[K, V] {
	gone := m.recent.Remove(e).(*entry[K, V])
	delete(m.entries, gone.key)
	m.size -= gone.size
	return gone
}

// Each calls f for every value, in no order. f must not use the map.
func (m *Map[K, V]) Each(f func(K, V)) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for key, e := range m.entries {
		f(key, e.Value.(*entry[K, V]).value)
	}
}

// Usage returns the number of the values in the map, and their total size.
func (m *Map[K, V]) Usage() (n int, size int64) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.entries), m.size
}
