package rekisteritest_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
)

// The changes in these backends happen in the call of Open without a name, while
// no other call runs: the race detector must not find them before Test does.
var brokenConcurrency = map[string]broken{
	"changes a returned listing": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
				if name == "" {
					m[acmeFoo].Listing.Versions[0].Platforms[0].OS = "plan9"
				}
				return m.Open(ctx, p, version, name)
			}
		},
		rules: []string{unchanged},
		fault: "Versions(acme/foo) returned has changed after other calls",
	},
	"reuses the memory of a listing": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			scratch := slices.Clone(m[labsFoo].Listing.Versions)
			b.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
				if name == "" {
					copy(scratch, m[acmeFoo].Listing.Versions)
				}
				return m.Open(ctx, p, version, name)
			}
			b.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
				if p == labsFoo {
					return &rekisteri.Listing{Versions: scratch}, nil
				}
				return m.Versions(ctx, p)
			}
		},
		rules: []string{unchanged},
	},
	"returns a pointer with another content": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			rel := m[acmeFoo].Releases["1.0.0"]
			before := *rel
			changed := false
			b.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
				if name == "" {
					changed = true
				}
				return m.Open(ctx, p, version, name)
			}
			b.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
				if changed && p == acmeFoo {
					// Other calls restore the content.
					if *rel = before; version == "1.0.0" {
						rel.Protocols = []string{"6.0"}
					}
				}
				return m.Release(ctx, p, version)
			}
		},
		rules: []string{unchanged},
		fault: "Release(acme/foo, 1.0.0) returns the same pointer as Release(acme/foo, 1.0.0), with another content",
	},
	"mixes up concurrent calls": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			var mu sync.Mutex
			var current rekisteri.Provider
			b.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
				mu.Lock()
				current = p
				mu.Unlock()
				time.Sleep(time.Millisecond)
				mu.Lock()
				defer mu.Unlock()
				return m.Versions(ctx, current)
			}
		},
		rules: []string{concurrency},
	},
	"allows three calls at a time": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			connections := make(chan struct{}, 3)
			b.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
				select {
				case connections <- struct{}{}:
					defer func() { <-connections }()
					time.Sleep(time.Millisecond)
					return m.Release(ctx, p, version)
				default:
					return nil, errors.New("too many connections")
				}
			}
		},
		rules: []string{concurrency},
		fault: "Release(acme/foo, 1.0.0), among concurrent calls, fails: too many connections",
	},
}
