package rekisteritest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

var (
	acmeFoo    = rekisteri.Provider{Namespace: "acme", Type: "foo"}
	acmeFooBar = rekisteri.Provider{Namespace: "acme", Type: "foo-bar"}
	labsFoo    = rekisteri.Provider{Namespace: "acme-labs", Type: "foo"}
)

// A calls is a backend whose methods can be replaced one by one.
type calls struct {
	versions func(context.Context, rekisteri.Provider) (*rekisteri.Listing, error)
	release  func(context.Context, rekisteri.Provider, string) (*rekisteri.Release, error)
	open     func(context.Context, rekisteri.Provider, string, string) (io.ReadSeekCloser, error)
}

func (c *calls) Versions(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
	return c.versions(ctx, p)
}

func (c *calls) Release(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
	return c.release(ctx, p, version)
}

func (c *calls) Open(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
	return c.open(ctx, p, version, name)
}

// A noOpener hides the Open of a backend.
type noOpener struct{ rekisteri.Backend }

// link gives the packages of m URLs: of the zips, and of the rest if all is true.
func link(m memory, all bool) memory {
	for p, c := range m {
		for version, rel := range c.Releases {
			at := "https://downloads.example.com/" + p.String() + "/" + version + "/"
			for i := range rel.Packages {
				rel.Packages[i].URL = at + rel.Packages[i].Filename
				if all {
					rel.Packages[i].SHASumsURL, rel.Packages[i].SHASumsSignatureURL = at+"SHA256SUMS", at+"SHA256SUMS.sig"
				}
			}
		}
	}
	return m
}

func load() memory { return memory(rekisteritest.Contents()) }

// TestGood passes backends of all kinds that do what they have to.
func TestGood(t *testing.T) {
	tests := map[string]func(t *testing.T) rekisteri.Backend{
		"memory": func(*testing.T) rekisteri.Backend { return load() },
		"links":  func(*testing.T) rekisteri.Backend { return noOpener{link(load(), true)} },
		"links to zips, and holds the rest": func(*testing.T) rekisteri.Backend {
			m := link(load(), false)
			for _, c := range m {
				for _, files := range c.Files {
					maps.DeleteFunc(files, func(name string, _ []byte) bool { return strings.HasSuffix(name, ".zip") })
				}
			}
			return m
		},
		"FSBackend of the embedded tree": func(t *testing.T) rekisteri.Backend {
			return rekisteri.NewFSBackend(rekisteritest.Releases(), nil)
		},
		"FSBackend of a directory": func(t *testing.T) rekisteri.Backend {
			dir := t.TempDir()
			if err := os.CopyFS(dir, rekisteritest.Releases()); err != nil {
				t.Fatal(err)
			}
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { root.Close() })
			return rekisteri.NewFSBackend(root.FS(), nil)
		},
		// As a database that is asked each time: other values with each call, in
		// another order, with URLs that are signed anew, and nothing for whoever
		// has hung up.
		"fresh values": func(*testing.T) rekisteri.Backend {
			var mu sync.Mutex
			signed := 0
			b := new(calls)
			b.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
				if ctx.Err() != nil {
					return nil, ctx.Err()
				}
				l, err := load().Versions(ctx, p)
				if err == nil {
					slices.Reverse(l.Versions)
					for _, v := range l.Versions {
						slices.Reverse(v.Platforms)
						slices.Reverse(v.Protocols)
					}
				}
				return l, err
			}
			b.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
				if ctx.Err() != nil {
					return nil, context.Cause(ctx)
				}
				rel, err := link(load(), true).Release(ctx, p, version)
				if err == nil {
					mu.Lock()
					defer mu.Unlock()
					signed++
					slices.Reverse(rel.Packages)
					for i := range rel.Packages {
						rel.Packages[i].URL += fmt.Sprint("?signature=", signed)
					}
				}
				return rel, err
			}
			return noOpener{b}
		},
	}
	for name, backend := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := rekisteritest.Test(t.Context(), backend(t)); err != nil {
				t.Error(err)
			}
		})
	}
}

// The names of the rules, as they stand in errors.
const (
	neverNil      = "no nil without an error"
	neverPanics   = "no panics"
	inTime        = "an answer in time"
	immutable     = "what is returned does not change"
	endedAbsence  = "an ended context is no absence"
	endedTrace    = "an ended context leaves no trace"
	concurrency   = "concurrent calls do not disturb each other"
	listing       = "the listing is complete"
	canonical     = "versions are canonical"
	agreement     = "a release is what the listing says"
	fileNames     = "file names are those in SHA256SUMS"
	digests       = "digests are those of the zips"
	keys          = "packages come with the key that signed them"
	somewhere     = "every file is somewhere"
	unknown       = "the unknown does not exist"
	ownNames      = "a name leads to its own release's files only"
	contents      = "files are what was released"
	inParts       = "files can be read in parts"
	openTwice     = "a file can be open twice"
	privateAbsent = "no such thing" // what a saboteur says, and no rule
)

// A saboteur breaks a good backend. It gets the backend's values, which it may
// modify, and its methods, which it may replace.
type saboteur struct {
	name     string
	sabotage func(t *testing.T, m memory, c *calls)
	breaks   []string // the rules, and no others
}

var saboteurs = []saboteur{
	// What does not exist.
	{"returns nil, nil for unknown providers", func(_ *testing.T, m memory, c *calls) {
		c.versions = func(_ context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) { return m[p].Listing, nil }
	}, []string{neverNil}},
	{"returns nil, nil for unknown releases", func(_ *testing.T, m memory, c *calls) {
		c.release = func(_ context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
			return m[p].Releases[version], nil
		}
	}, []string{neverNil}},
	{"has an error of its own for unknown providers", func(_ *testing.T, m memory, c *calls) {
		c.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
			l, err := m.Versions(ctx, p)
			if err != nil {
				return nil, errors.New(privateAbsent)
			}
			return l, nil
		}
	}, []string{unknown}},
	{"has an error of its own for unknown releases", func(_ *testing.T, m memory, c *calls) {
		c.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
			rel, err := m.Release(ctx, p, version)
			if err != nil {
				return nil, errors.New(privateAbsent)
			}
			return rel, nil
		}
	}, []string{unknown}},
	{"returns an empty listing for unknown providers", func(_ *testing.T, m memory, c *calls) {
		c.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
			if l := m[p].Listing; l != nil {
				return l, nil
			}
			return new(rekisteri.Listing), nil
		}
	}, []string{unknown}},
	{"returns an empty release for unknown versions", func(_ *testing.T, m memory, c *calls) {
		c.release = func(_ context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
			if rel := m[p].Releases[version]; rel != nil {
				return rel, nil
			}
			return new(rekisteri.Release), nil
		}
	}, []string{unknown}},
	{"looks for providers by prefix", func(_ *testing.T, m memory, c *calls) {
		c.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
			for _, known := range []rekisteri.Provider{acmeFoo, acmeFooBar, labsFoo} {
				if strings.HasPrefix(known.String(), p.String()) {
					return m[known].Listing, nil
				}
			}
			return nil, fs.ErrNotExist
		}
	}, []string{unknown}},
	{"lists what has the provider's name for a prefix", func(_ *testing.T, m memory, c *calls) {
		l := m[acmeFoo].Listing
		l.Versions = append(l.Versions, m[acmeFooBar].Listing.Versions...)
	}, []string{listing, agreement}},
	{"looks for a type in all namespaces", func(_ *testing.T, m memory, c *calls) {
		c.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
			if p == (rekisteri.Provider{Namespace: "acme-labs", Type: "foo-bar"}) {
				p = acmeFooBar
			}
			return m.Versions(ctx, p)
		}
	}, []string{unknown}},
	{"takes builds of a version for the version", func(_ *testing.T, m memory, c *calls) {
		c.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
			if p == acmeFooBar && version == "1.0.0" {
				version = "1.0.0+build"
			}
			return m.Release(ctx, p, version)
		}
	}, []string{unknown}},

	// Listings.
	{"holds nothing", func(_ *testing.T, m memory, _ *calls) {
		clear(m)
	}, []string{listing}},
	{"drops a version", func(_ *testing.T, m memory, _ *calls) {
		l := m[acmeFoo].Listing
		l.Versions = l.Versions[:len(l.Versions)-1]
	}, []string{listing}},
	{"drops a pre-release and the release", func(_ *testing.T, m memory, _ *calls) {
		c := m[acmeFoo]
		c.Listing.Versions = slices.Delete(c.Listing.Versions, 1, 2)
		delete(c.Releases, "2.0.0-rc.1")
	}, []string{listing}},
	{"lists a version more", func(_ *testing.T, m memory, _ *calls) {
		l := m[acmeFoo].Listing
		v := l.Versions[0]
		v.Version = "11.0.0"
		l.Versions = append(l.Versions, v)
	}, []string{listing, agreement}},
	{"lists a version twice", func(_ *testing.T, m memory, _ *calls) {
		l := m[acmeFoo].Listing
		l.Versions = append(l.Versions, l.Versions[0])
	}, []string{listing}},
	{"lists a wrong platform", func(_ *testing.T, m memory, _ *calls) {
		m[acmeFoo].Listing.Versions[0].Platforms[0].Arch = "386"
	}, []string{listing, agreement}},
	{"lists wrong protocols", func(_ *testing.T, m memory, _ *calls) {
		m[acmeFoo].Listing.Versions[0].Protocols[0] = "4.0"
		m[acmeFoo].Releases["1.0.0"].Protocols[0] = "4.0"
	}, []string{listing}},
	{"loses warnings", func(_ *testing.T, m memory, _ *calls) {
		m[acmeFooBar].Listing.Warnings = nil
	}, []string{listing}},
	{"leads versions with a v", func(_ *testing.T, m memory, _ *calls) {
		for i := range m[acmeFoo].Listing.Versions {
			m[acmeFoo].Listing.Versions[i].Version = "v" + m[acmeFoo].Listing.Versions[i].Version
		}
	}, []string{canonical, listing}},
	{"loses the build of a version", func(_ *testing.T, m memory, _ *calls) {
		c := m[acmeFooBar]
		c.Listing.Versions[0].Version = "1.0.0"
		c.Releases["1.0.0"] = c.Releases["1.0.0+build"]
	}, []string{listing, unknown}},

	// Releases.
	{"lacks a listed release", func(_ *testing.T, m memory, _ *calls) {
		delete(m[acmeFoo].Releases, "9.0.0")
	}, []string{agreement}},
	{"lacks a listed platform", func(_ *testing.T, m memory, _ *calls) {
		rel := m[acmeFoo].Releases["10.0.0"]
		rel.Packages = rel.Packages[1:]
	}, []string{agreement}},
	{"has a package that is not listed", func(_ *testing.T, m memory, _ *calls) {
		rel := m[acmeFoo].Releases["9.0.0"]
		pkg := rel.Packages[0]
		pkg.OS = "plan9"
		rel.Packages = append(rel.Packages, pkg)
	}, []string{agreement}},
	{"has a package twice", func(_ *testing.T, m memory, _ *calls) {
		rel := m[acmeFoo].Releases["9.0.0"]
		rel.Packages = append(rel.Packages, rel.Packages[0])
	}, []string{agreement}},
	{"has other protocols than are listed", func(_ *testing.T, m memory, _ *calls) {
		m[acmeFoo].Releases["9.0.0"].Protocols = nil
	}, []string{agreement}},
	{"has a wrong digest", func(_ *testing.T, m memory, _ *calls) {
		m[acmeFooBar].Releases["1.1.0"].Packages[0].SHA256[31]++
	}, []string{digests}},
	{"has another release's packages", func(_ *testing.T, m memory, _ *calls) {
		m[labsFoo].Releases["1.0.0"] = &rekisteri.Release{
			Protocols: []string{"5.0"},
			Packages:  m[acmeFoo].Releases["1.0.0"].Packages[1:2],
		}
	}, []string{digests, keys}},
	{"calls a file otherwise", func(_ *testing.T, m memory, c *calls) {
		m[acmeFoo].Releases["1.0.0"].Packages[0].Filename = "package.zip"
		m[acmeFoo].Files["1.0.0"]["package.zip"] = m[acmeFoo].Files["1.0.0"]["terraform-provider-foo_1.0.0_darwin_arm64.zip"]
	}, []string{fileNames}},
	{"has no keys", func(_ *testing.T, m memory, _ *calls) {
		for i := range m[acmeFoo].Releases["1.0.0"].Packages {
			m[acmeFoo].Releases["1.0.0"].Packages[i].SigningKeys = nil
		}
	}, []string{keys}},
	{"has the namespace's key only", func(_ *testing.T, m memory, _ *calls) {
		pkg := &m[acmeFooBar].Releases["1.1.0"].Packages[0]
		pkg.SigningKeys = pkg.SigningKeys[1:]
	}, []string{keys}},
	{"has a key that cannot be read", func(_ *testing.T, m memory, _ *calls) {
		key := &m[acmeFoo].Releases["1.0.0"].Packages[0].SigningKeys[0]
		key.ASCIIArmor = strings.ReplaceAll(key.ASCIIArmor, "\n", " ")
	}, []string{keys}},
	{"has a wrong key ID", func(_ *testing.T, m memory, _ *calls) {
		key := &m[acmeFoo].Releases["1.0.0"].Packages[0].SigningKeys[0]
		key.KeyID = key.KeyID[8:]
	}, []string{keys}},
	{"has a trust signature", func(_ *testing.T, m memory, _ *calls) {
		m[acmeFoo].Releases["1.0.0"].Packages[0].SigningKeys[0].TrustSignature = "trusted"
	}, []string{keys}},
	{"has a URL that is none", func(_ *testing.T, m memory, _ *calls) {
		m[acmeFoo].Releases["1.0.0"].Packages[0].URL = "s3://bucket/foo.zip"
	}, []string{somewhere}},

	// Contexts and time.
	{"takes a cancelled Versions for an absence", func(_ *testing.T, m memory, c *calls) {
		c.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
			if ctx.Err() != nil {
				return nil, fs.ErrNotExist
			}
			return m.Versions(ctx, p)
		}
	}, []string{endedAbsence}},
	{"takes a cancelled Release for an absence", func(_ *testing.T, m memory, c *calls) {
		c.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
			if ctx.Err() != nil {
				return nil, fmt.Errorf("%w: %w", fs.ErrNotExist, ctx.Err())
			}
			return m.Release(ctx, p, version)
		}
	}, []string{endedAbsence}},
	{"takes a cancelled Open for an absence", func(_ *testing.T, m memory, c *calls) {
		c.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
			if ctx.Err() != nil {
				return nil, fs.ErrNotExist
			}
			return m.Open(ctx, p, version, name)
		}
	}, []string{endedAbsence}},
	{"takes a look that is cut short for an absence", func(_ *testing.T, m memory, c *calls) {
		var held sync.Map
		look := func(ctx context.Context, p rekisteri.Provider, version string) error {
			if _, ok := held.Load(version); ok || p != labsFoo {
				return nil
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			select {
			case <-time.After(100 * time.Millisecond):
				held.Store(version, true)
				return nil
			case <-ctx.Done():
				return fs.ErrNotExist
			}
		}
		c.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
			if err := look(ctx, p, ""); err != nil {
				return nil, err
			}
			return m.Versions(ctx, p)
		}
		c.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
			if err := look(ctx, p, version); err != nil {
				return nil, err
			}
			return m.Release(ctx, p, version)
		}
	}, []string{endedAbsence}},
	{"returns what it has when the context ends", func(_ *testing.T, m memory, c *calls) {
		c.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
			l, err := m.Versions(ctx, p)
			if err == nil && ctx.Err() != nil {
				return &rekisteri.Listing{Versions: l.Versions[:1], Warnings: l.Warnings}, nil
			}
			return l, err
		}
	}, []string{endedAbsence}},
	{"remembers that a context has ended", func(_ *testing.T, m memory, c *calls) {
		var ended sync.Map
		c.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
			if p == labsFoo && ctx.Err() != nil {
				ended.LoadOrStore(p, ctx.Err())
			}
			if err, ok := ended.Load(p); ok {
				return nil, err.(error)
			}
			return m.Versions(ctx, p)
		}
	}, []string{endedTrace, listing}},
	{"is loaded once, in the first call's context", func(_ *testing.T, m memory, c *calls) {
		var once sync.Once
		var err error
		c.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
			if once.Do(func() { err = ctx.Err() }); err != nil {
				return nil, err
			}
			return m.Versions(ctx, p)
		}
	}, []string{endedTrace, listing, unknown}},
	{"hangs", func(t *testing.T, m memory, c *calls) {
		c.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
			<-t.Context().Done()
			return m.Versions(ctx, p)
		}
	}, []string{inTime}},
	{"waits for its context to end", func(_ *testing.T, m memory, c *calls) {
		c.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
	}, []string{inTime}},
	{"has files that hang", func(t *testing.T, m memory, c *calls) {
		c.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
			f, err := m.Open(ctx, p, version, name)
			if err != nil {
				return nil, err
			}
			return &brokenFile{ReadSeekCloser: f, read: func([]byte) (int, error) {
				<-t.Context().Done()
				return 0, io.EOF
			}}, nil
		}
	}, []string{inTime}},

	// Panics.
	{"panics for unknown providers", func(_ *testing.T, m memory, c *calls) {
		c.versions = func(_ context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
			return &rekisteri.Listing{Versions: m[p].Listing.Versions, Warnings: m[p].Listing.Warnings}, nil
		}
	}, []string{neverPanics}},
	{"panics in Open", func(_ *testing.T, m memory, c *calls) {
		c.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
			_ = m[p].Files[version][name][0]
			return m.Open(ctx, p, version, name)
		}
	}, []string{neverPanics}},
	{"ends the goroutine", func(_ *testing.T, m memory, c *calls) {
		c.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
			rel, err := m.Release(ctx, p, version)
			if err != nil {
				runtime.Goexit() // as t.Fatal does
			}
			return rel, nil
		}
	}, []string{neverPanics}},

	// Memory and concurrency. What changes here changes in the call that asks for
	// a file without a name, which comes when no other runs: these tests, too,
	// run under the race detector.
	{"changes a listing that it has returned", func(_ *testing.T, m memory, c *calls) {
		c.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
			if name == "" {
				m[acmeFoo].Listing.Versions[0].Platforms[0].OS = "plan9"
			}
			return m.Open(ctx, p, version, name)
		}
	}, []string{immutable}},
	{"uses the memory of one listing for the next", func(_ *testing.T, m memory, c *calls) {
		scratch := slices.Clone(m[labsFoo].Listing.Versions)
		c.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
			if name == "" {
				copy(scratch, m[acmeFoo].Listing.Versions)
			}
			return m.Open(ctx, p, version, name)
		}
		c.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
			if p == labsFoo {
				return &rekisteri.Listing{Versions: scratch}, nil
			}
			return m.Versions(ctx, p)
		}
	}, []string{immutable}},
	{"returns a pointer again with another content", func(_ *testing.T, m memory, c *calls) {
		rel := m[acmeFoo].Releases["1.0.0"]
		before := *rel
		changed := false
		c.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
			if name == "" {
				changed = true
			}
			return m.Open(ctx, p, version, name)
		}
		c.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
			if changed && p == acmeFoo {
				// It is as it was whenever another release is asked for.
				if *rel = before; version == "1.0.0" {
					rel.Protocols = []string{"6.0"}
				}
			}
			return m.Release(ctx, p, version)
		}
	}, []string{immutable}},
	{"mixes up concurrent calls", func(_ *testing.T, m memory, c *calls) {
		var mu sync.Mutex
		var current rekisteri.Provider
		c.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
			mu.Lock()
			current = p
			mu.Unlock()
			time.Sleep(time.Millisecond / 10)
			mu.Lock()
			defer mu.Unlock()
			return m.Versions(ctx, current)
		}
	}, []string{concurrency}},
	{"fails for callers beyond the first few", func(_ *testing.T, m memory, c *calls) {
		places := make(chan struct{}, 3)
		c.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
			select {
			case places <- struct{}{}:
				defer func() { <-places }()
				time.Sleep(time.Millisecond)
				return m.Release(ctx, p, version)
			default:
				return nil, errors.New("too many connections")
			}
		}
	}, []string{concurrency}},
	{"shares a call, and the context of whoever began it", func(_ *testing.T, m memory, c *calls) {
		var versions, releases sharing
		c.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
			if err := versions.look(ctx, p, ""); err != nil {
				return nil, err
			}
			return m.Versions(ctx, p)
		}
		c.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
			if err := releases.look(ctx, p, version); err != nil {
				return nil, err
			}
			return m.Release(ctx, p, version)
		}
	}, []string{endedTrace}},

	// Files.
	{"opens paths", func(_ *testing.T, _ memory, c *calls) {
		c.open = func(_ context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
			at := path.Join(p.String(), version, name)
			content, err := fs.ReadFile(rekisteritest.Releases(), at)
			if err != nil {
				return nil, fs.ErrNotExist
			}
			return memoryFile{bytes.NewReader(content)}, nil
		}
	}, []string{ownNames}},
	{"opens the files of all versions", func(_ *testing.T, m memory, c *calls) {
		c.open = func(ctx context.Context, p rekisteri.Provider, _, name string) (io.ReadSeekCloser, error) {
			for version := range m[p].Files {
				if f, err := m.Open(ctx, p, version, name); err == nil {
					return f, nil
				}
			}
			return nil, fs.ErrNotExist
		}
	}, []string{ownNames}},
	{"opens another version's file", func(_ *testing.T, m memory, c *calls) {
		c.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
			if p == acmeFoo && version == "9.0.0" {
				version, name = "10.0.0", strings.Replace(name, "9.0.0", "10.0.0", 1)
			}
			return m.Open(ctx, p, version, name)
		}
	}, []string{contents}},
	{"has an error of its own for unknown files", func(_ *testing.T, m memory, c *calls) {
		c.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
			f, err := m.Open(ctx, p, version, name)
			if err != nil {
				return nil, errors.New(privateAbsent)
			}
			return f, nil
		}
	}, []string{ownNames}},
	{"opens nil, nil for unknown files", func(_ *testing.T, m memory, c *calls) {
		c.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
			if f, err := m.Open(ctx, p, version, name); err == nil {
				return f, nil
			}
			return nil, nil
		}
	}, []string{neverNil}},
	{"truncates a file", func(_ *testing.T, m memory, _ *calls) {
		files := m[acmeFoo].Files["1.0.0"]
		name := "terraform-provider-foo_1.0.0_linux_amd64.zip"
		files[name] = files[name][:100]
	}, []string{contents}},
	{"ends lines otherwise", func(_ *testing.T, m memory, _ *calls) {
		files := m[acmeFoo].Files["1.0.0"]
		name := "terraform-provider-foo_1.0.0_SHA256SUMS"
		files[name] = bytes.ReplaceAll(files[name], []byte("\n"), []byte("\r\n"))
	}, []string{contents}},
	{"has no signature", func(_ *testing.T, m memory, _ *calls) {
		delete(m[acmeFoo].Files["1.0.0"], "terraform-provider-foo_1.0.0_SHA256SUMS.sig")
	}, []string{contents}},
	{"has files that do not seek", func(_ *testing.T, m memory, c *calls) {
		c.open = seeking(m, func(f io.Seeker, _ int64, _ int) (int64, error) { return 0, nil })
	}, []string{inParts}},
	{"has files that refuse to seek", func(_ *testing.T, m memory, c *calls) {
		c.open = seeking(m, func(f io.Seeker, _ int64, _ int) (int64, error) { return 0, errors.ErrUnsupported })
	}, []string{inParts}},
	{"has files that know their size and always rewind", func(_ *testing.T, m memory, c *calls) {
		c.open = seeking(m, func(f io.Seeker, offset int64, whence int) (int64, error) {
			if whence == io.SeekEnd {
				return f.Seek(offset, whence)
			}
			_, err := f.Seek(0, io.SeekStart)
			return offset, err
		})
	}, []string{inParts}},
	{"opens each file once", func(_ *testing.T, m memory, c *calls) {
		var mu sync.Mutex
		opened := make(map[string]io.ReadSeekCloser)
		c.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
			mu.Lock()
			defer mu.Unlock()
			at := path.Join(p.String(), version) + "/" + name
			f := opened[at]
			if f == nil {
				var err error
				if f, err = m.Open(ctx, p, version, name); err != nil {
					return nil, err
				}
				opened[at] = f
			}
			_, err := f.Seek(0, io.SeekStart)
			return &brokenFile{
				ReadSeekCloser: f,
				read: func(b []byte) (int, error) {
					mu.Lock()
					defer mu.Unlock()
					time.Sleep(time.Millisecond / 10) // time for others
					return f.Read(b)
				},
				seek: func(offset int64, whence int) (int64, error) {
					mu.Lock()
					defer mu.Unlock()
					return f.Seek(offset, whence)
				},
			}, err
		}
	}, []string{openTwice, concurrency}},
}

// A sharing lets callers that ask for the same wait for the first of them. What
// was found once is held.
type sharing struct{ looks sync.Map }

// look takes a while for one of the providers, and fails with the first
// caller's context.
func (s *sharing) look(ctx context.Context, p rekisteri.Provider, version string) error {
	if p != acmeFooBar {
		return nil
	}
	type look struct {
		done chan struct{}
		err  error
	}
	l := &look{done: make(chan struct{})}
	if running, ok := s.looks.LoadOrStore(version, l); ok {
		l = running.(*look)
		<-l.done
		return l.err
	}
	select {
	case <-time.After(100 * time.Millisecond):
	case <-ctx.Done():
		l.err = ctx.Err()
		s.looks.Delete(version)
	}
	close(l.done)
	return l.err
}

// A brokenFile is a file with methods of its own.
type brokenFile struct {
	io.ReadSeekCloser
	read func([]byte) (int, error)
	seek func(int64, int) (int64, error)
}

func (f *brokenFile) Read(b []byte) (int, error) {
	if f.read == nil {
		return f.ReadSeekCloser.Read(b)
	}
	return f.read(b)
}

func (f *brokenFile) Seek(offset int64, whence int) (int64, error) {
	if f.seek == nil {
		return f.ReadSeekCloser.Seek(offset, whence)
	}
	return f.seek(offset, whence)
}

// seeking returns the Open of m with files that seek otherwise.
func seeking(m memory, seek func(f io.Seeker, offset int64, whence int) (int64, error)) func(context.Context, rekisteri.Provider, string, string) (io.ReadSeekCloser, error) {
	return func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
		f, err := m.Open(ctx, p, version, name)
		if err != nil {
			return nil, err
		}
		return &brokenFile{ReadSeekCloser: f, seek: func(offset int64, whence int) (int64, error) { return seek(f, offset, whence) }}, nil
	}
}

// brokenRules returns the rules that an error names.
func brokenRules(err error) []string {
	var broken []string
	for _, name := range rekisteritest.RuleNames() {
		if strings.Contains("\n"+err.Error(), "\n"+name+":\n\t") {
			broken = append(broken, name)
		}
	}
	slices.Sort(broken)
	return broken
}

// TestSaboteurs tests that every saboteur is caught, for what it does and for
// nothing else.
func TestSaboteurs(t *testing.T) {
	for _, s := range saboteurs {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			m := load()
			c := &calls{versions: m.Versions, release: m.Release, open: m.Open}
			s.sabotage(t, m, c)
			patience := time.Minute
			if slices.Contains(s.breaks, inTime) {
				patience = time.Second / 4
			}
			err := rekisteritest.Within(t.Context(), c, patience)
			if err == nil {
				t.Fatal("was not caught")
			}
			want := slices.Sorted(slices.Values(s.breaks))
			if got := brokenRules(err); !slices.Equal(got, want) {
				t.Errorf("caught for %q, want %q:\n%v", got, want, err)
			}
		})
	}
}

// TestRules tests that there is a saboteur for every rule.
func TestRules(t *testing.T) {
	broken := []string{somewhere} // by TestNoOpener
	for _, s := range saboteurs {
		broken = append(broken, s.breaks...)
	}
	slices.Sort(broken)
	broken = slices.Compact(broken)
	if rules := slices.Sorted(slices.Values(rekisteritest.RuleNames())); !slices.Equal(broken, rules) {
		t.Errorf("the saboteurs break %q, and the rules are %q", broken, rules)
	}
}

// TestNoOpener tests a backend that says that it holds files, and has no Open.
func TestNoOpener(t *testing.T) {
	err := rekisteritest.Test(t.Context(), noOpener{load()})
	if err == nil || !slices.Equal(brokenRules(err), []string{somewhere}) {
		t.Errorf("got %v, want a broken rule: %s", err, somewhere)
	}
}

// TestError tests what a failure says.
func TestError(t *testing.T) {
	m := load()
	l := m[acmeFoo].Listing
	l.Versions = l.Versions[:2]
	m[labsFoo].Releases["1.0.0"].Packages[0].Filename = "foo.zip"
	err := rekisteritest.Test(t.Context(), noOpener{link(m, true)})
	const want = `the listing is complete:
	Versions(acme/foo) lacks 9.0.0
	Versions(acme/foo) lacks 10.0.0
	why: a version that is missing breaks init for everyone who has it in a lock file; one that is too many is chosen as the newest, and then cannot be installed; and warnings are how a provider is deprecated
file names are those in SHA256SUMS:
	Release(acme-labs/foo, 1.0.0) calls the package for linux_amd64 "foo.zip", and SHA256SUMS "terraform-provider-foo_1.0.0_linux_amd64.zip"
	why: a client looks for the name there, and refuses the package if it has no sum`
	if err == nil || err.Error() != want {
		t.Errorf("got:\n%v\nwant:\n%s", err, want)
	}
}

// TestContext tests that a test which is ended blames nothing on the backend.
func TestContext(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := rekisteritest.Test(ctx, load())
		if !errors.Is(err, context.Canceled) || len(brokenRules(err)) > 0 {
			t.Errorf("got %v, want nothing but context.Canceled", err)
		}
	})
	t.Run("in the middle", func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		m := load()
		c := &calls{versions: m.Versions, release: m.Release, open: m.Open}
		c.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
			if name == "" {
				cancel(nil)
				return nil, ctx.Err()
			}
			return m.Open(ctx, p, version, name)
		}
		err := rekisteritest.Test(ctx, c)
		if !errors.Is(err, context.Canceled) || len(brokenRules(err)) > 0 {
			t.Errorf("got %v, want nothing but context.Canceled", err)
		}
	})
}

// TestReleases tests that the tree is a good one, and that the two forms of the
// releases are the same.
func TestReleases(t *testing.T) {
	b := rekisteri.NewFSBackend(rekisteritest.Releases(), nil)
	for problem := range b.Check(t.Context(), &rekisteri.CheckOptions{Hash: true}) {
		t.Error(problem)
	}
	all := rekisteritest.Contents()
	for p, err := range b.Providers(t.Context()) {
		if _, ok := all[p]; err != nil || !ok {
			t.Errorf("the tree has %v (%v), and Contents has not", p, err)
		}
	}
	files := 0
	for p, content := range all {
		for version, want := range content.Releases {
			got, err := b.Release(t.Context(), p, version)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%v %s: FSBackend has %+v (%v), Contents has %+v", p, version, got, err, want)
			}
			for name, want := range content.Files[version] {
				got, err := fs.ReadFile(rekisteritest.Releases(), path.Join(p.String(), version, name))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%v %s: Contents does not have what is in %s (%v)", p, version, name, err)
				}
				files++
			}
		}
	}
	size := int64(0)
	err := fs.WalkDir(rekisteritest.Releases(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		size += info.Size()
		if ext := path.Ext(name); ext != ".json" && ext != ".asc" {
			files--
		}
		return nil
	})
	if err != nil || files != 0 {
		t.Errorf("there are %d files more in Contents than in the tree (%v)", files, err)
	}
	if size > 32<<10 {
		t.Errorf("the tree has %d bytes: everyone who imports the package carries them", size)
	}
}

// TestContentsOwn tests that who modifies what Contents has returned modifies
// nothing else.
func TestContentsOwn(t *testing.T) {
	want := load()
	m := load()
	link(m, true)
	for _, c := range m {
		c.Listing.Versions[0].Platforms[0].OS = "plan9"
		c.Listing.Versions[0].Protocols[0] = "4.0"
		for version, rel := range c.Releases {
			rel.Protocols[0] = "4.0"
			rel.Packages[0].SigningKeys[0].KeyID = ""
			for _, content := range c.Files[version] {
				clear(content)
			}
		}
	}
	m[acmeFooBar].Listing.Warnings[0] = ""
	if !reflect.DeepEqual(load(), want) {
		t.Error("what Contents returns has changed")
	}
}
