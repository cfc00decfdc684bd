package rekisteritest_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
)

var brokenContexts = map[string]broken{
	"not found for a canceled Versions": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
				if ctx.Err() != nil {
					return nil, fs.ErrNotExist
				}
				return m.Versions(ctx, p)
			}
		},
		rules: []string{doneNotFound},
		fault: "Versions(acme-labs/foo) with a canceled context reports that it does not exist: file does not exist",
	},
	"not found for a canceled Release": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
				if ctx.Err() != nil {
					return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, ctx.Err())
				}
				return m.Release(ctx, p, version)
			}
		},
		rules: []string{doneNotFound},
	},
	"not found for a canceled Open": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
				if ctx.Err() != nil {
					return nil, fs.ErrNotExist
				}
				return m.Open(ctx, p, version, name)
			}
		},
		rules: []string{doneNotFound},
	},
	"not found for an interrupted load": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			var loaded sync.Map
			load := func(ctx context.Context, p rekisteri.Provider, version string) error {
				if _, ok := loaded.Load(version); ok || p != labsFoo {
					return nil
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
				select {
				case <-time.After(100 * time.Millisecond):
					loaded.Store(version, true)
					return nil
				case <-ctx.Done():
					return fs.ErrNotExist
				}
			}
			loadBefore(m, b, load)
		},
		rules: []string{doneNotFound},
		fault: "Versions(acme-labs/foo) with a context that expires during the call reports that it does not exist",
	},
	"some versions for a canceled Versions": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
				l, err := m.Versions(ctx, p)
				if err == nil && ctx.Err() != nil {
					return &rekisteri.Listing{Versions: l.Versions[:1], Warnings: l.Warnings}, nil
				}
				return l, err
			}
		},
		rules: []string{doneNotFound},
	},
	"caches the error of a context": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			var failed sync.Map
			b.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
				if p == labsFoo && ctx.Err() != nil {
					failed.LoadOrStore(p, ctx.Err())
				}
				if err, ok := failed.Load(p); ok {
					return nil, err.(error)
				}
				return m.Versions(ctx, p)
			}
		},
		rules: []string{doneEffect, listing},
		fault: "Versions(acme-labs/foo) fails after calls with a done context: context canceled",
	},
	"loads once with the context of the first call": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			var once sync.Once
			var err error
			b.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
				if once.Do(func() { err = ctx.Err() }); err != nil {
					return nil, err
				}
				return m.Versions(ctx, p)
			}
		},
		rules: []string{doneEffect, listing, notFound},
	},
	"shares a load and the context of the first caller": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			var loads sharedLoads
			loadBefore(m, b, loads.load)
		},
		rules: []string{doneEffect},
		fault: "Versions(acme/foo-bar), with a concurrent caller that hangs up, fails: context canceled",
	},
}

// loadBefore makes Versions and Release call load first, and return its error.
func loadBefore(m memory, b *fakeBackend, load func(ctx context.Context, p rekisteri.Provider, version string) error) {
	b.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
		if err := load(ctx, p, ""); err != nil {
			return nil, err
		}
		return m.Versions(ctx, p)
	}
	b.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
		if err := load(ctx, p, version); err != nil {
			return nil, err
		}
		return m.Release(ctx, p, version)
	}
}

// A sharedLoads makes callers for the same version wait for one load. It caches
// successful loads.
type sharedLoads struct{ byVersion sync.Map }

// load takes a while for one of the providers, and fails with the context of the
// caller that started it.
func (s *sharedLoads) load(ctx context.Context, p rekisteri.Provider, version string) error {
	if p != acmeFooBar {
		return nil
	}
	type load struct {
		done chan struct{}
		err  error
	}
	l := &load{done: make(chan struct{})}
	if running, ok := s.byVersion.LoadOrStore(version, l); ok {
		l = running.(*load)
		<-l.done
		return l.err
	}
	select {
	case <-time.After(100 * time.Millisecond):
	case <-ctx.Done():
		l.err = ctx.Err()
		s.byVersion.Delete(version)
	}
	close(l.done)
	return l.err
}
