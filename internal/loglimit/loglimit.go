// Package loglimit keeps repeated reports out of logs.
package loglimit

import (
	"hash/maphash"
	"sync"
	"time"
)

const (
	every      = time.Hour
	maxReports = 10_000 // in that time; further ones are dropped
)

// A Limit allows each report once an hour, and a limited number of them. Its zero
// value is ready to use. It is safe for concurrent use.
type Limit struct {
	mu    sync.Mutex
	seed  maphash.Seed
	since time.Time
	seen  map[uint64]bool // the hashes of the reports since then
}

// Allow reports whether a report is to be logged now.
func (l *Limit) Allow(report string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); l.seen == nil || now.Sub(l.since) >= every {
		l.seed, l.since, l.seen = maphash.MakeSeed(), now, make(map[uint64]bool)
	}
	hash := maphash.String(l.seed, report)
	if l.seen[hash] || len(l.seen) >= maxReports {
		return false
	}
	l.seen[hash] = true
	return true
}
