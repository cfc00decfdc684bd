package rekisteritest_test

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
)

var brokenProviders = map[string]broken{
	"nil iterator": {
		breakIt: func(_ *testing.T, _ memory, b *fakeBackend) {
			b.providers = func(context.Context) iter.Seq2[rekisteri.Provider, error] { return nil }
		},
		rules: []string{noNil},
		fault: "Providers returns a nil iterator",
	},
	"panics": {
		breakIt: iterateWith(func(context.Context, func(rekisteri.Provider, error) bool) { panic("no list") }),
		rules:   []string{noPanic},
		fault:   "Providers panics: no list",
	},
	"waits for its context": {
		breakIt: iterateWith(func(ctx context.Context, yield func(rekisteri.Provider, error) bool) {
			<-ctx.Done()
			yield(rekisteri.Provider{}, ctx.Err())
		}),
		rules: []string{inTime},
		fault: "Providers does not return within 10s",
	},
	"missing provider": {
		breakIt: yieldProviders(acmeFoo, labsFoo),
		rules:   []string{list},
		fault:   "Providers does not yield acme/foo-bar",
	},
	"provider twice": {
		breakIt: yieldProviders(acmeFoo, labsFoo, acmeFooBar, acmeFoo),
		rules:   []string{list},
		fault:   "Providers yields acme/foo more than once",
	},
	"extra provider": {
		breakIt: yieldProviders(acmeFoo, labsFoo, acmeFooBar, rekisteri.Provider{Namespace: "acme", Type: "new"}),
		rules:   []string{list},
		fault:   `Providers yields "acme/new", which was not loaded`,
	},
	"the same provider without end": {
		breakIt: iterateWith(func(_ context.Context, yield func(rekisteri.Provider, error) bool) {
			for yield(acmeFoo, nil) {
			}
		}),
		rules: []string{list},
	},
	"an error after all providers": {
		breakIt: iterateWith(func(_ context.Context, yield func(rekisteri.Provider, error) bool) {
			_ = yield(acmeFoo, nil) && yield(labsFoo, nil) && yield(acmeFooBar, nil) && yield(rekisteri.Provider{}, errors.New("next page: timeout"))
		}),
		rules: []string{list},
		fault: "Providers yields an error: next page: timeout",
	},
	"ignores a break": {
		breakIt: iterateWith(func(_ context.Context, yield func(rekisteri.Provider, error) bool) {
			yield(acmeFoo, nil)
			yield(acmeFooBar, nil)
			yield(labsFoo, nil)
		}),
		rules: []string{listStop},
	},
	"allows one list at a time": {
		breakIt: func(t *testing.T, m memory, b *fakeBackend) {
			cursor := make(chan struct{}, 1)
			good := b.providers
			iterateWith(func(ctx context.Context, yield func(rekisteri.Provider, error) bool) {
				select {
				case cursor <- struct{}{}:
					defer func() { <-cursor }()
					time.Sleep(time.Millisecond)
					good(ctx)(yield)
				default:
					yield(rekisteri.Provider{}, errors.New("the cursor is in use"))
				}
			})(t, m, b)
		},
		rules: []string{concurrency},
		fault: "Providers, among concurrent calls, yields an error: the cursor is in use",
	},
	"no providers for a done context": {
		breakIt: iterateWith(func(ctx context.Context, yield func(rekisteri.Provider, error) bool) {
			for _, p := range []rekisteri.Provider{acmeFoo, acmeFooBar, labsFoo} {
				if ctx.Err() != nil || !yield(p, nil) {
					return
				}
			}
		}),
		rules: []string{listInterrupt},
		fault: "Providers with a context that is canceled after the first provider yields 1 of 3 providers without an error",
	},
	"not found for a done context": {
		breakIt: iterateWith(func(ctx context.Context, yield func(rekisteri.Provider, error) bool) {
			for _, p := range []rekisteri.Provider{acmeFoo, acmeFooBar, labsFoo} {
				if ctx.Err() != nil {
					yield(rekisteri.Provider{}, fs.ErrNotExist)
					return
				}
				if !yield(p, nil) {
					return
				}
			}
		}),
		rules: []string{listInterrupt},
		fault: "Providers with a canceled context reports that something does not exist: file does not exist",
	},
}

// iterateWith returns a function that replaces Providers.
func iterateWith(providers func(context.Context, func(rekisteri.Provider, error) bool)) func(*testing.T, memory, *fakeBackend) {
	return func(_ *testing.T, _ memory, b *fakeBackend) {
		b.providers = func(ctx context.Context) iter.Seq2[rekisteri.Provider, error] {
			return func(yield func(rekisteri.Provider, error) bool) { providers(ctx, yield) }
		}
	}
}

// yieldProviders returns a function that makes Providers yield these.
func yieldProviders(providers ...rekisteri.Provider) func(*testing.T, memory, *fakeBackend) {
	return iterateWith(func(_ context.Context, yield func(rekisteri.Provider, error) bool) {
		for _, p := range providers {
			if !yield(p, nil) {
				return
			}
		}
	})
}
