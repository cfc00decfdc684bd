package rekisteritest_test

import (
	"context"
	"io"
	"runtime"
	"testing"

	"github.com/rekisteri/rekisteri"
)

var brokenCalls = map[string]broken{
	"hangs": {
		breakIt: func(t *testing.T, m memory, b *fakeBackend) {
			b.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
				<-t.Context().Done()
				return m.Versions(ctx, p)
			}
		},
		rules: []string{inTime},
		fault: "the test stopped early: the backend hangs",
	},
	"waits for its context": {
		breakIt: func(_ *testing.T, _ memory, b *fakeBackend) {
			b.release = func(ctx context.Context, _ rekisteri.Provider, _ string) (*rekisteri.Release, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		},
		rules: []string{inTime},
		fault: "Release(acme-labs/foo, 1.0.0) does not return within 10s",
	},
	"file that hangs": {
		breakIt: func(t *testing.T, m memory, b *fakeBackend) {
			b.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
				f, err := m.Open(ctx, p, version, name)
				if err != nil {
					return nil, err
				}
				return &fakeFile{ReadSeekCloser: f, read: func([]byte) (int, error) {
					<-t.Context().Done()
					return 0, io.EOF
				}}, nil
			}
		},
		rules: []string{inTime},
	},
	"panics for unknown providers": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.versions = func(_ context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
				return &rekisteri.Listing{Versions: m[p].Listing.Versions, Warnings: m[p].Listing.Warnings}, nil
			}
		},
		rules: []string{noPanic},
		fault: "the stack of the first panic:\ngoroutine ",
	},
	"panics in Open": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
				_ = m[p].Files[version][name][0]
				return m.Open(ctx, p, version, name)
			}
		},
		rules: []string{noPanic},
	},
	"ends the goroutine": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
				rel, err := m.Release(ctx, p, version)
				if err != nil {
					runtime.Goexit() // as t.Fatal does
				}
				return rel, nil
			}
		},
		rules: []string{noPanic},
		fault: "Release(acme/foo, 99.0.0) ends the goroutine that calls it",
	},
}
