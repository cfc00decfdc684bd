package browse_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/browse"
	"github.com/rekisteri/rekisteri/internal/pgptest"
)

var foo = rekisteri.Provider{Namespace: "acme", Type: "foo"}

// A memory is a backend of values. It is a Lister, in an order of its own.
type memory struct {
	listings map[rekisteri.Provider]*rekisteri.Listing
	releases map[rekisteri.Provider]*rekisteri.Release // of every version
	err      error                                     // of all methods
	listErr  error                                     // that the list ends with
}

func (m *memory) Versions(_ context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
	if l, ok := m.listings[p]; ok || m.err != nil {
		return l, m.err
	}
	return nil, fs.ErrNotExist
}

func (m *memory) Release(_ context.Context, p rekisteri.Provider, _ string) (*rekisteri.Release, error) {
	if rel, ok := m.releases[p]; ok || m.err != nil {
		return rel, m.err
	}
	return nil, fs.ErrNotExist
}

func (m *memory) Providers(context.Context) iter.Seq2[rekisteri.Provider, error] {
	return func(yield func(rekisteri.Provider, error) bool) {
		if m.err == nil {
			for p := range m.listings {
				if !yield(p, nil) {
					return
				}
			}
		}
		if err := errors.Join(m.err, m.listErr); err != nil {
			yield(rekisteri.Provider{}, err)
		}
	}
}

// newMemory returns a backend with providers by their addresses, each with a
// version for linux_amd64 that is signed with a key.
func newMemory(addresses ...string) *memory {
	m := &memory{listings: make(map[rekisteri.Provider]*rekisteri.Listing), releases: make(map[rekisteri.Provider]*rekisteri.Release)}
	for _, address := range addresses {
		namespace, typ, _ := strings.Cut(address, "/")
		m.put(rekisteri.Provider{Namespace: namespace, Type: typ}, &rekisteri.Listing{Versions: []rekisteri.Version{versionOf("1.0.0")}})
	}
	return m
}

func (m *memory) put(p rekisteri.Provider, l *rekisteri.Listing) {
	key := pgptest.NewKey("releases@acme.example")
	m.listings[p] = l
	m.releases[p] = &rekisteri.Release{Packages: []rekisteri.Package{{
		Platform: rekisteri.Platform{OS: "linux", Arch: "amd64"}, Filename: "x.zip",
		SigningKeys: []rekisteri.SigningKey{{KeyID: key.ID(), ASCIIArmor: key.Armor()}},
	}}}
}

func versionOf(version string, protocols ...string) rekisteri.Version {
	return rekisteri.Version{Version: version, Protocols: protocols, Platforms: []rekisteri.Platform{{OS: "linux", Arch: "amd64"}}}
}

// newPages returns the pages of a public registry.
func newPages(t testing.TB, b rekisteri.Backend, opts *browse.Options) http.Handler {
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
	if opts == nil {
		opts = new(browse.Options)
	}
	if opts.Logger == nil {
		opts.Logger = log
	}
	return browse.New(rekisteri.New(b, &rekisteri.Options{Logger: log}), opts)
}

const browserAccept = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"

// get sends what a browser sends, with headers as "Name: value".
func get(h http.Handler, url string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest("GET", url, nil)
	req.Header.Set("Accept", browserAccept)
	for _, header := range headers {
		name, value, _ := strings.Cut(header, ": ")
		if name == "Host" {
			req.Host = value
		} else {
			req.Header.Set(name, value)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, req)
	return w
}

// wantPage checks an answer.
func wantPage(t *testing.T, w *httptest.ResponseRecorder, status int, parts ...string) {
	t.Helper()
	if w.Code != status {
		t.Errorf("status %d, want %d", w.Code, status)
	}
	for _, part := range parts {
		if !strings.Contains(w.Body.String(), part) {
			t.Errorf("the page does not have %q:\n%s", part, w.Body)
		}
	}
}

// signedBy returns a release that is signed with a key that expires.
func signedBy(expires time.Time) *rekisteri.Release {
	key := pgptest.NewKey("releases@acme.example")
	key.Created, key.Expires = expires.AddDate(-1, 0, 0), expires
	return &rekisteri.Release{Packages: []rekisteri.Package{{SigningKeys: []rekisteri.SigningKey{{KeyID: key.ID(), ASCIIArmor: key.Armor()}}}}}
}

// problemsOf returns an Options.Problems with problems of any provider.
func problemsOf(problems ...rekisteri.Problem) func(*http.Request, rekisteri.Provider) ([]rekisteri.Problem, error) {
	return func(*http.Request, rekisteri.Provider) ([]rekisteri.Problem, error) { return problems, nil }
}

// many returns the addresses of providers in namespaces of 100.
func many(n int) (addresses []string) {
	for i := range n {
		addresses = append(addresses, fmt.Sprintf("team-%03d/provider-%03d", i/100, i%100))
	}
	return addresses
}

// A hiding is a backend without the namespace acme-labs.
type hiding struct{ *rekisteri.FSBackend }

func (h hiding) Versions(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
	if p.Namespace == "acme-labs" {
		return nil, fs.ErrNotExist
	}
	return h.FSBackend.Versions(ctx, p)
}

func (h hiding) Release(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
	if p.Namespace == "acme-labs" {
		return nil, fs.ErrNotExist
	}
	return h.FSBackend.Release(ctx, p, version)
}

func (h hiding) Providers(ctx context.Context) iter.Seq2[rekisteri.Provider, error] {
	return func(yield func(rekisteri.Provider, error) bool) {
		for p, err := range h.FSBackend.Providers(ctx) {
			if p.Namespace != "acme-labs" && !yield(p, err) {
				return
			}
		}
	}
}
