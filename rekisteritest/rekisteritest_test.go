package rekisteritest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

var (
	acmeFoo    = rekisteri.Provider{Namespace: "acme", Type: "foo"}
	acmeFooBar = rekisteri.Provider{Namespace: "acme", Type: "foo-bar"}
	labsFoo    = rekisteri.Provider{Namespace: "acme-labs", Type: "foo"}
)

// A fakeBackend has all optional interfaces, and methods that can be replaced.
type fakeBackend struct {
	versions  func(context.Context, rekisteri.Provider) (*rekisteri.Listing, error)
	release   func(context.Context, rekisteri.Provider, string) (*rekisteri.Release, error)
	open      func(context.Context, rekisteri.Provider, string, string) (io.ReadSeekCloser, error)
	providers func(context.Context) iter.Seq2[rekisteri.Provider, error]
}

// newFakeBackend returns a good backend with the content of m.
func newFakeBackend(m memory) *fakeBackend {
	return &fakeBackend{m.Versions, m.Release, m.Open, func(context.Context) iter.Seq2[rekisteri.Provider, error] {
		return func(yield func(rekisteri.Provider, error) bool) {
			for p := range m {
				if !yield(p, nil) {
					return
				}
			}
		}
	}}
}

func (b *fakeBackend) Versions(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
	return b.versions(ctx, p)
}

func (b *fakeBackend) Release(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
	return b.release(ctx, p, version)
}

func (b *fakeBackend) Open(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
	return b.open(ctx, p, version, name)
}

func (b *fakeBackend) Providers(ctx context.Context) iter.Seq2[rekisteri.Provider, error] {
	return b.providers(ctx)
}

// A backendOnly hides the optional interfaces of a backend.
type backendOnly struct{ rekisteri.Backend }

func load() memory { return memory(rekisteritest.Contents()) }

// link sets the URLs of all packages of m: those of the zips, or of all files.
func link(m memory, all bool) memory {
	for p, c := range m {
		for version, rel := range c.Releases {
			dir := "https://downloads.example.com/" + p.String() + "/" + version + "/"
			for i := range rel.Packages {
				rel.Packages[i].URL = dir + rel.Packages[i].Filename
				if all {
					rel.Packages[i].SHASumsURL, rel.Packages[i].SHASumsSignatureURL = dir+"SHA256SUMS", dir+"SHA256SUMS.sig"
				}
			}
		}
	}
	return m
}

// TestGood tests that good backends of all kinds pass.
func TestGood(t *testing.T) {
	tests := map[string]func() rekisteri.Backend{
		"memory":                  func() rekisteri.Backend { return load() },
		"all optional interfaces": func() rekisteri.Backend { return newFakeBackend(load()) },
		"links":                   func() rekisteri.Backend { return backendOnly{link(load(), true)} },
		"links to zips and stores the other files": func() rekisteri.Backend {
			m := link(load(), false)
			for _, c := range m {
				for _, files := range c.Files {
					maps.DeleteFunc(files, func(name string, _ []byte) bool { return strings.HasSuffix(name, ".zip") })
				}
			}
			return m
		},
		"keys with line ends of Windows and empty lines around": func() rekisteri.Backend {
			m := load()
			m.editKeys(func(key *rekisteri.SigningKey) {
				key.ASCIIArmor = "\r\n" + strings.ReplaceAll(key.ASCIIArmor, "\n", "\r\n") + "\r\n"
			})
			return m
		},
		"keys without a last line end": func() rekisteri.Backend {
			m := load()
			m.editKeys(func(key *rekisteri.SigningKey) { key.ASCIIArmor = strings.TrimSpace(key.ASCIIArmor) })
			return m
		},
		"new values with each call": func() rekisteri.Backend { return backendOnly{newDatabase()} },
		"redirects to zips": func() rekisteri.Backend {
			m := load()
			b := newFakeBackend(m)
			redirectWith(func(to *rekisteri.Redirect) error { return to })(nil, m, b)
			return b
		},
		"a provider list that ends with its context": func() rekisteri.Backend {
			m := load()
			b := newFakeBackend(m)
			b.providers = func(ctx context.Context) iter.Seq2[rekisteri.Provider, error] {
				return func(yield func(rekisteri.Provider, error) bool) {
					for p := range m {
						if err := ctx.Err(); err != nil {
							yield(rekisteri.Provider{}, err)
							return
						}
						if !yield(p, nil) {
							return
						}
					}
				}
			}
			return b
		},
	}
	for name, backend := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if err := rekisteritest.Test(t.Context(), backend()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// newDatabase returns a backend that behaves like a database without a cache:
// each call returns new values in another order, with newly signed URLs, and
// nothing if its context is done.
func newDatabase() *fakeBackend {
	m := link(load(), true)
	var mu sync.Mutex
	signed := 0
	return &fakeBackend{
		versions: func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			l, err := m.Versions(ctx, p)
			if err == nil {
				l = rekisteritest.CloneListing(l)
				slices.Reverse(l.Versions)
				for _, v := range l.Versions {
					slices.Reverse(v.Platforms)
					slices.Reverse(v.Protocols)
				}
			}
			return l, err
		},
		release: func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			rel, err := m.Release(ctx, p, version)
			if err == nil {
				rel = rekisteritest.CloneRelease(rel)
				mu.Lock()
				defer mu.Unlock()
				signed++
				slices.Reverse(rel.Packages)
				for i := range rel.Packages {
					rel.Packages[i].URL += fmt.Sprint("?signature=", signed)
				}
			}
			return rel, err
		},
	}
}

// TestFSBackend tests that an FSBackend passes, whatever it reads.
func TestFSBackend(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, rekisteritest.Releases()); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	tests := map[string]fs.FS{
		"embed.FS":     rekisteritest.Releases(),
		"os.DirFS":     os.DirFS(dir),
		"os.Root.FS()": root.FS(),
	}
	for name, fsys := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := rekisteritest.Test(t.Context(), rekisteri.NewFSBackend(fsys, nil)); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestNoOpener tests a backend without URLs that has no method Open.
func TestNoOpener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		err := rekisteritest.Test(t.Context(), backendOnly{load()})
		if got := brokenRules(err); !slices.Equal(got, []string{source}) {
			t.Errorf("broken rules are %q, want %q:\n%v", got, source, err)
		}
	})
}

// TestError tests the text of an error.
func TestError(t *testing.T) {
	m := load()
	l := m[acmeFoo].Listing
	l.Versions = l.Versions[:2]
	m[labsFoo].Releases["1.0.0"].Packages[0].Filename = "foo.zip"
	const want = `the listing is complete:
	Versions(acme/foo) does not list 9.0.0
	Versions(acme/foo) does not list 10.0.0
	why: a missing version breaks init for everyone who has it in a lock file; an extra version is chosen as the newest, and then cannot be installed; warnings tell users that a provider is deprecated
file names match SHA256SUMS:
	Release(acme-labs/foo, 1.0.0) has the file name "foo.zip" for linux_amd64, but SHA256SUMS has "terraform-provider-foo_1.0.0_linux_amd64.zip"
	why: clients look up a package's sum by its file name, and reject a package without a sum`
	synctest.Test(t, func(t *testing.T) {
		err := rekisteritest.Test(t.Context(), backendOnly{link(m, true)})
		if err == nil || err.Error() != want {
			t.Errorf("got:\n%v\nwant:\n%s", err, want)
		}
	})
}

// TestManyFaults tests that the error does not show every fault of a rule.
func TestManyFaults(t *testing.T) {
	m := load()
	for _, c := range m {
		for _, rel := range c.Releases {
			for i := range rel.Packages {
				rel.Packages[i].SHA256[0]++
			}
		}
	}
	synctest.Test(t, func(t *testing.T) {
		err := rekisteritest.Test(t.Context(), m)
		if err == nil || strings.Count(err.Error(), "has the digest") != 8 || !strings.Contains(err.Error(), "\n\tand 8 more\n") {
			t.Errorf("got %v, want 8 of 16 faults", err)
		}
	})
}

// TestContext tests that a test whose context is done reports that, and no
// broken rule.
func TestContext(t *testing.T) {
	canceled := func(t *testing.T, err error) {
		t.Helper()
		if !errors.Is(err, context.Canceled) || len(brokenRules(err)) > 0 {
			t.Errorf("got %v, want only context.Canceled", err)
		}
	}
	t.Run("from the start", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		canceled(t, rekisteritest.Test(ctx, newFakeBackend(load())))
	})
	t.Run("during a call", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			m := load()
			b := newFakeBackend(m)
			b.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
				if name == "" {
					cancel()
					return nil, ctx.Err()
				}
				return m.Open(ctx, p, version, name)
			}
			canceled(t, rekisteritest.Test(ctx, b))
		})
	})
}
