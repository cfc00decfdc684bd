package server

import (
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
)

// defaultCacheMiB is what the library's two caches take by default: 32 MiB for
// the tree and 16 MiB for encoded documents.
const defaultCacheMiB = 48

// cacheSizes divides a number of MiB among the caches of the backend and of the
// registry.
func cacheSizes(mib int) (tree, documents int64) {
	bytes := int64(mib) << 20
	return bytes * 2 / 3, bytes / 3
}

// A memoryLimit makes the garbage collector run rarely, and more often as the
// process nears a limit. Nearly all of the memory is caches, whose size is
// bounded. With more connections than usual the limit grows. Otherwise the
// collector would run all the time.
type memoryLimit struct {
	bytes int64 // the limit with up to connsStep connections; 0: the environment sets it
	conns atomic.Int64

	mu   sync.Mutex
	room atomic.Int64 // the connections that the current limit is for; it never shrinks
}

const (
	connsStep = 256
	connBytes = 48 << 10 // of a connection with TLS, and its garbage
)

// limitMemory sets the limit for caches of a number of MiB, unless the
// environment sets one.
func limitMemory(cacheMiB int) *memoryLimit {
	m := new(memoryLimit)
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return m
	}
	m.bytes = max(int64(cacheMiB), defaultCacheMiB) << 20 * 120 / defaultCacheMiB
	m.room.Store(connsStep)
	debug.SetGCPercent(400)
	debug.SetMemoryLimit(m.bytes)
	return m
}

// track counts connections. It is the ConnState of an [http.Server].
func (m *memoryLimit) track(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if n := m.conns.Add(1); m.bytes > 0 && n > m.room.Load() {
			m.grow(n)
		}
	case http.StateClosed, http.StateHijacked:
		m.conns.Add(-1)
	}
}

// grow sets the limit for a number of connections. It does so in steps, since
// setting the limit stops all goroutines for a moment.
func (m *memoryLimit) grow(conns int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if room := m.room.Load(); conns > room {
		m.room.Store(room + connsStep)
		debug.SetMemoryLimit(m.bytes + room*connBytes)
	}
}
