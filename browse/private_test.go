package browse_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/browse"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

// newPrivatePages returns the pages of a private registry, whose tokens are "all",
// and the names of namespaces.
func newPrivatePages(t *testing.T, b rekisteri.Backend) http.Handler {
	var lines strings.Builder
	for token, namespaces := range map[string]string{"all": "*", "acme": "acme", "nothing": "x"} {
		fmt.Fprintf(&lines, "%x %s\n", sha256.Sum256([]byte(token)), namespaces)
	}
	name := filepath.Join(t.TempDir(), "tokens")
	if err := os.WriteFile(name, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	tokens, err := rekisteri.NewTokenFile(name, nil)
	if err != nil {
		t.Fatal(err)
	}
	reg := rekisteri.New(b, &rekisteri.Options{Authorize: tokens.Authorize, LinkKeys: [][32]byte{{1}}})
	return browse.New(reg, &browse.Options{Authorize: tokens.AuthorizeBasic, Realm: `the "registry"`, Problems: problemsOf(rekisteri.Problem{Path: "a problem"})})
}

// withToken sends a token as a browser does.
func withToken(h http.Handler, url, token string, headers ...string) *httptest.ResponseRecorder {
	req := httptest.NewRequest("GET", url, nil)
	req.SetBasicAuth("anybody", token)
	return get(h, url, append(headers, "Authorization: "+req.Header.Get("Authorization"))...)
}

// TestPrivate shows the pages of a private registry to several people.
func TestPrivate(t *testing.T) {
	b := rekisteri.NewFSBackend(rekisteritest.Releases(), nil)
	h := newPrivatePages(t, b)
	for _, test := range []struct {
		name, url, token string // no token: nothing is sent
		status           int
		want, not        string
	}{
		{name: "the list, all", url: "/", token: "all", status: 200, want: "acme-labs"},
		{name: "the list, one namespace", url: "/", token: "acme", status: 200, want: "acme/foo", not: "labs"},
		{name: "the list, another filter", url: "/?q=lab", token: "acme", status: 200, want: "No provider matches", not: "labs"},
		{name: "the list, a namespace that is not there", url: "/", token: "nothing", status: 200, want: "no provider to show", not: "acme"},
		{name: "the list, an unknown token", url: "/", token: "x", status: 401, want: "Please sign in", not: "acme"},
		{name: "the list, no token", url: "/", status: 401, want: "Please sign in", not: "acme"},
		{name: "a provider", url: "/providers/acme/foo", token: "acme", status: 200, want: "credentials &#34;example.com&#34;"},
		{name: "a provider, problems", url: "/providers/acme/foo", token: "acme", status: 200, want: "a problem"},
		{name: "a provider, no token", url: "/providers/acme/foo", status: 401, want: "Please sign in", not: "problem"},
		{name: "another provider", url: "/providers/acme-labs/foo", token: "acme", status: 403, want: "No access", not: "problem"},
		{name: "a provider that is not there", url: "/providers/acme-labs/x", token: "acme", status: 403, want: "No access"},
		{name: "a style sheet, no token", url: "/assets/style.css", status: 200},
	} {
		t.Run(test.name, func(t *testing.T) {
			for range 2 { // once from the cache
				w := get(h, test.url)
				if test.token != "" {
					w = withToken(h, test.url, test.token)
				}
				wantPage(t, w, test.status, test.want)
				if test.not != "" && strings.Contains(w.Body.String(), test.not) {
					t.Errorf("the page has %q:\n%s", test.not, w.Body)
				}
				if strings.Contains(w.Body.String(), "signature=") || strings.Contains(w.Body.String(), "/files/") {
					t.Errorf("the page links a file:\n%s", w.Body)
				}
				if challenge := w.Header().Get("WWW-Authenticate"); (challenge == `Basic realm="the \"registry\"", charset="UTF-8"`) != (test.status == 401) {
					t.Errorf("WWW-Authenticate: %s", challenge)
				}
				want := map[int]string{200: "private, no-cache", 401: "no-store", 403: "no-store"}[test.status]
				if cache := w.Header().Get("Cache-Control"); cache != want && !strings.HasPrefix(test.url, "/assets/") {
					t.Errorf("Cache-Control: %s, want %s", cache, want)
				}
			}
		})
	}
}

// Somebody who may see nothing cannot tell an empty registry from a full one.
func TestPrivateTellsNothing(t *testing.T) {
	full, empty := newPrivatePages(t, newMemory("acme/foo", "other/bar")), newPrivatePages(t, newMemory())
	failing := newMemory("acme/foo")
	failing.listErr = errors.New("other cannot be read")
	partly := newPrivatePages(t, failing)
	for _, url := range []string{"/", "/?q=foo", "/?after=a/b", "/providers/acme/foo", "/providers/acme/x"} {
		for _, token := range []string{"", "x"} {
			var answers []string
			for _, h := range []http.Handler{full, empty, partly} {
				w := get(h, url)
				if token != "" {
					w = withToken(h, url, token)
				}
				answers = append(answers, fmt.Sprint(w.Code, w.Header(), w.Body))
			}
			if answers[0] != answers[1] || answers[0] != answers[2] || !strings.HasPrefix(answers[0], "401") {
				t.Errorf("GET %s differs:\n%s\n%s\n%s", url, answers[0], answers[1], answers[2])
			}
		}
	}
	if a, b := withToken(full, "/", "nothing"), withToken(empty, "/", "nothing"); a.Code != 200 || a.Body.String() != b.Body.String() {
		t.Errorf("the list differs:\n%s\n%s", a.Body, b.Body)
	}
}

// TestAuthorize has a hook that decides for single providers, and by default that
// of the registry.
func TestAuthorize(t *testing.T) {
	outage := errors.New("the directory of users is down")
	var asked int
	reg := rekisteri.New(newMemory(append(many(1000), "secret/one", "a/outage")...), &rekisteri.Options{Authorize: func(req *http.Request, p rekisteri.Provider) error {
		asked++
		switch {
		case req.Header.Get("User") == "":
			return rekisteri.ErrUnauthenticated
		case p.Namespace == "secret":
			return fs.ErrNotExist
		case p.Type == "outage" && req.Header.Get("User") == "bob":
			return outage
		}
		return nil
	}})
	h := browse.New(reg, nil)
	for _, test := range []struct {
		name, url, user string
		status          int
	}{
		{name: "nobody", url: "/", status: 401},
		{name: "nobody, a provider", url: "/providers/team-000/provider-000", status: 401},
		{name: "a provider", url: "/providers/team-000/provider-000", user: "eve", status: 200},
		{name: "a hidden provider", url: "/providers/secret/one", user: "eve", status: 404},
		{name: "the list", url: "/", user: "eve", status: 200},
		{name: "the list, a hidden provider", url: "/?q=secret", user: "eve", status: 200},
		{name: "an outage", url: "/providers/a/outage", user: "bob", status: 500},
		{name: "an outage in the list", url: "/", user: "bob", status: 500},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked = 0
			w := get(h, test.url, "User: "+test.user)
			wantPage(t, w, test.status)
			if asked > 300 {
				t.Errorf("Authorize was called %d times", asked)
			}
			if strings.Contains(w.Body.String(), "/one") || strings.Contains(w.Body.String(), "directory of users") {
				t.Errorf("the page tells too much:\n%s", w.Body)
			}
			if test.status == 401 && w.Header().Get("WWW-Authenticate") != "Bearer" {
				t.Errorf("without a realm, the browser is asked for a password: %v", w.Header())
			}
		})
	}
}

// A wrapper that embeds FSBackend and hides a provider in the three methods that
// return something hides it from all pages, also if Problems knows it.
func TestHidden(t *testing.T) {
	inner := rekisteri.NewFSBackend(rekisteritest.Releases(), nil)
	h := newPages(t, hiding{inner}, &browse.Options{Problems: func(req *http.Request, p rekisteri.Provider) ([]rekisteri.Problem, error) {
		problems, err := inner.Problems(req.Context(), p)
		return append(problems, rekisteri.Problem{Path: "a problem"}), err
	}})
	wantPage(t, get(h, "/providers/acme/foo"), 200, "a problem")
	w := get(h, "/providers/acme-labs/foo")
	wantPage(t, w, 404, "Not found")
	if strings.Contains(w.Body.String(), "problem") {
		t.Errorf("the page has problems:\n%s", w.Body)
	}
	if strings.Contains(get(h, "/").Body.String(), "labs") {
		t.Error("the list has the hidden provider")
	}
}
