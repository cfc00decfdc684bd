package rekisteritest_test

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri"
)

var brokenNotFound = map[string]broken{
	"nil, nil for unknown providers": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.versions = func(_ context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) { return m[p].Listing, nil }
		},
		rules: []string{noNil},
		fault: "Versions(nobody/foo) returns nil, nil",
	},
	"nil, nil for unknown releases": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.release = func(_ context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
				return m[p].Releases[version], nil
			}
		},
		rules: []string{noNil},
		fault: "Release(acme/foo, 99.0.0) returns nil, nil",
	},
	"another error for unknown providers": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
				l, err := m.Versions(ctx, p)
				if err != nil {
					return nil, errors.New("no rows")
				}
				return l, nil
			}
		},
		rules: []string{notFound},
		fault: "Versions(acme/fo), a prefix of a type, fails with an error that does not match fs.ErrNotExist: no rows",
	},
	"another error for unknown releases": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
				rel, err := m.Release(ctx, p, version)
				if err != nil {
					return nil, errors.New("no rows")
				}
				return rel, nil
			}
		},
		rules: []string{notFound},
	},
	"empty listing for unknown providers": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.versions = func(_ context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
				if l := m[p].Listing; l != nil {
					return l, nil
				}
				return new(rekisteri.Listing), nil
			}
		},
		rules: []string{notFound},
		fault: "Versions(nobody/foo), a namespace that does not exist, succeeds",
	},
	"empty release for unknown versions": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.release = func(_ context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
				if rel := m[p].Releases[version]; rel != nil {
					return rel, nil
				}
				return new(rekisteri.Release), nil
			}
		},
		rules: []string{notFound},
	},
	"finds providers by prefix": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.versions = func(_ context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
				for _, known := range []rekisteri.Provider{acmeFoo, acmeFooBar, labsFoo} {
					if strings.HasPrefix(known.String(), p.String()) {
						return m[known].Listing, nil
					}
				}
				return nil, fs.ErrNotExist
			}
		},
		rules: []string{notFound},
	},
	"finds a type in another namespace": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
				if p == (rekisteri.Provider{Namespace: "acme-labs", Type: "foo-bar"}) {
					p = acmeFooBar
				}
				return m.Versions(ctx, p)
			}
		},
		rules: []string{notFound},
	},
	"ignores build metadata": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
				if p == acmeFooBar && version == "1.0.0" {
					version = "1.0.0+build"
				}
				return m.Release(ctx, p, version)
			}
		},
		rules: []string{notFound},
	},
}

var brokenListings = map[string]broken{
	"empty backend": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) { clear(m) },
		rules:   []string{listing, list},
		fault:   "Versions(acme/foo) fails: no provider acme/foo",
	},
	"missing version": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			l := m[acmeFoo].Listing
			l.Versions = l.Versions[:len(l.Versions)-1]
		},
		rules: []string{listing},
		fault: "Versions(acme/foo) does not list 10.0.0",
	},
	"missing pre-release": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			c := m[acmeFoo]
			c.Listing.Versions = slices.Delete(c.Listing.Versions, 1, 2)
			delete(c.Releases, "2.0.0-rc.1")
		},
		rules: []string{listing},
	},
	"extra version": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			l := m[acmeFoo].Listing
			v := l.Versions[0]
			v.Version = "11.0.0"
			l.Versions = append(l.Versions, v)
		},
		rules: []string{listing, release},
		fault: `Versions(acme/foo) lists "11.0.0", which was not loaded`,
	},
	"versions of a provider with a longer name": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			l := m[acmeFoo].Listing
			l.Versions = append(l.Versions, m[acmeFooBar].Listing.Versions...)
		},
		rules: []string{listing, release},
	},
	"version twice": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			l := m[acmeFoo].Listing
			l.Versions = append(l.Versions, l.Versions[0])
		},
		rules: []string{listing},
		fault: "Versions(acme/foo) lists 1.0.0 twice",
	},
	"wrong platform": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			m[acmeFoo].Listing.Versions[0].Platforms[0].Arch = "386"
		},
		rules: []string{listing, release},
	},
	"wrong protocols": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			m[acmeFoo].Listing.Versions[0].Protocols[0] = "4.0"
			m[acmeFoo].Releases["1.0.0"].Protocols[0] = "4.0"
		},
		rules: []string{listing},
		fault: "Versions(acme/foo) lists 1.0.0 with the protocols [4.0], want [5.0]",
	},
	"missing warnings": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) { m[acmeFooBar].Listing.Warnings = nil },
		rules:   []string{listing},
	},
	"versions with a leading v": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			for i := range m[acmeFoo].Listing.Versions {
				m[acmeFoo].Listing.Versions[i].Version = "v" + m[acmeFoo].Listing.Versions[i].Version
			}
		},
		rules: []string{canonical, listing},
	},
	"no build metadata": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			c := m[acmeFooBar]
			c.Listing.Versions[0].Version = "1.0.0"
			c.Releases["1.0.0"] = c.Releases["1.0.0+build"]
		},
		rules: []string{listing, notFound},
	},
}
