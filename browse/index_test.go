package browse_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/browse"
)

// A listJSON is the list of providers as JSON.
type listJSON struct {
	Providers []struct {
		Namespace string `json:"namespace"`
		Type      string `json:"type"`
		URL       string `json:"url"`
	} `json:"providers"`
	Next       string `json:"next"`
	Incomplete bool   `json:"incomplete"`
}

// names returns the addresses in the list.
func (l *listJSON) names() (names []string) {
	for _, p := range l.Providers {
		names = append(names, p.Namespace+"/"+p.Type)
	}
	return names
}

func getList(t *testing.T, h http.Handler, url string) (list listJSON) {
	t.Helper()
	w := get(h, url, "Accept: application/json")
	if err := json.Unmarshal(w.Body.Bytes(), &list); err != nil || w.Code != 200 || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("GET %s: %d %v\n%s", url, w.Code, err, w.Body)
	}
	return list
}

func TestList(t *testing.T) {
	h := newPages(t, newMemory("acme/foo", "acme/bar-baz", "acme-labs/foo", "other/thing", "other/ünï"), nil)
	for _, test := range []struct {
		name, url string
		want      []string
	}{
		{name: "all", url: "/", want: []string{"acme/bar-baz", "acme/foo", "acme-labs/foo", "other/thing", "other/ünï"}},
		{name: "part of a type", url: "/?q=ba", want: []string{"acme/bar-baz"}},
		{name: "part of a namespace", url: "/?q=lab", want: []string{"acme-labs/foo"}},
		{name: "a namespace", url: "/?q=acme/", want: []string{"acme/bar-baz", "acme/foo"}},
		{name: "a part of a namespace's types", url: "/?q=acme/fo", want: []string{"acme/foo"}},
		{name: "another case, and spaces", url: "/?q=+THING+", want: []string{"other/thing"}},
		{name: "nothing matches", url: "/?q=x/y/z", want: nil},
		{name: "after one", url: "/?after=acme/foo", want: []string{"acme-labs/foo", "other/thing", "other/ünï"}},
		{name: "after the last one", url: "/?after=z/z", want: nil},
		{name: "letters that URLs encode", url: "/?q=%C3%BCn", want: []string{"other/ünï"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			list := getList(t, h, test.url)
			slices.Sort(test.want)
			if got := list.names(); !slices.Equal(slices.Sorted(slices.Values(got)), test.want) || list.Next != "" {
				t.Errorf("%q, next %q, want %q", got, list.Next, test.want)
			}
			w := get(h, test.url)
			wantPage(t, w, 200, "<title>Providers")
			for _, p := range list.Providers {
				if page := get(h, "/"+p.URL); page.Code != 200 {
					t.Errorf("the link %s is %d", p.URL, page.Code)
				}
				if !strings.Contains(w.Body.String(), `href="`+p.URL+`"`) {
					t.Errorf("the page has no link %s:\n%s", p.URL, w.Body)
				}
			}
		})
	}
}

// TestPaging goes through a long list.
func TestPaging(t *testing.T) {
	if testing.Short() {
		t.Skip("it is long")
	}
	all := many(5000)
	h := newPages(t, newMemory(all...), nil)
	next := regexp.MustCompile(`<a class="rk-next" href="([^"]*)"`)
	var got []string
	pages := 0
	for url := "/"; url != ""; pages++ {
		list := getList(t, h, url)
		got = append(got, list.names()...)
		w := get(h, url, "Accept-Encoding: gzip")
		if size := w.Body.Len(); w.Header().Get("Content-Encoding") != "gzip" || size > 20_000 {
			t.Errorf("the page takes %d bytes on the wire", size)
		}
		if size := get(h, url).Body.Len(); size > 200_000 {
			t.Errorf("the page has %d bytes", size)
		}
		link := ""
		if m := next.FindStringSubmatch(get(h, url).Body.String()); m != nil {
			link = m[1]
		}
		if link != list.Next {
			t.Fatalf("the page links %q, and JSON %q", link, list.Next)
		}
		url = strings.TrimPrefix(link, ".")
	}
	if !slices.Equal(got, all) || pages != 25 {
		t.Errorf("%d pages have %d providers", pages, len(got))
	}
}

// The list says so if a part of it is missing, and fails if all of it is.
func TestIncompleteList(t *testing.T) {
	m := newMemory("acme/foo")
	m.listErr = errors.New("/srv/secret: input/output error")
	h := newPages(t, m, nil)
	if list := getList(t, h, "/"); !list.Incomplete || len(list.Providers) != 1 {
		t.Errorf("%+v", list)
	}
	w := get(h, "/")
	wantPage(t, w, 200, "Some providers are missing")
	if strings.Contains(w.Body.String(), "secret") {
		t.Errorf("the page has a path of the server:\n%s", w.Body)
	}
	m.err = errors.New("/srv/secret: stale handle")
	for _, url := range []string{"/", "/providers/acme/foo"} {
		w = get(h, url)
		wantPage(t, w, 500, "The registry cannot read this")
		if strings.Contains(w.Body.String(), "secret") || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("%v\n%s", w.Header(), w.Body)
		}
	}
}

// A part of the list that cannot be read does not reveal whether the rest has a
// provider that the request may not see.
func TestIncompleteListTellsNothing(t *testing.T) {
	m := newMemory("acme/foo", "secret/plan")
	m.listErr = errors.New("input/output error")
	h := newPages(t, m, &browse.Options{Authorize: func(_ *http.Request, p rekisteri.Provider) error {
		if p.Namespace != "acme" {
			return fs.ErrPermission
		}
		return nil
	}})
	there, notThere := get(h, "/?q=secret/plan"), get(h, "/?q=secret/none")
	if there.Code != notThere.Code {
		t.Errorf("a provider that is there is answered with %d, and one that is not with %d", there.Code, notThere.Code)
	}
}

// A filter with a NUL is not another list.
func TestListKeys(t *testing.T) {
	h := newPages(t, newMemory("acme/foo"), nil)
	wantPage(t, get(h, "/?q=%00after"), 200, "No provider matches")
	wantPage(t, get(h, "/?after=z/z"), 200, "no provider to show")
}

// A backend that cannot list still has pages for its providers.
func TestNoLister(t *testing.T) {
	h := newPages(t, struct{ rekisteri.Backend }{newMemory("acme/foo")}, nil)
	wantPage(t, get(h, "/"), 200, "no provider to show")
	wantPage(t, get(h, "/providers/acme/foo"), 200, "Use this provider")
}

// Wherever the pages are mounted, their links lead to pages.
func TestMounts(t *testing.T) {
	h := newPages(t, newMemory(many(250)...), nil)
	mux := http.NewServeMux()
	mux.Handle("/tf/", http.StripPrefix("/tf", h))
	bare := http.NewServeMux()
	bare.Handle("/a/b", http.StripPrefix("/a/b", h))
	for _, test := range []struct {
		name, base string
		handler    http.Handler
	}{
		{name: "root", base: "http://registry.example", handler: h},
		{name: "StripPrefix", base: "http://registry.example/tf", handler: mux},
	} {
		t.Run(test.name, func(t *testing.T) {
			links := regexp.MustCompile(`(?:href|src|action)="([^"#]*)"`)
			seen := map[string]bool{}
			todo := []string{test.base + "/"}
			for len(todo) > 0 && len(seen) < 400 {
				at := todo[0]
				todo = todo[1:]
				if seen[at] {
					continue
				}
				seen[at] = true
				req := httptest.NewRequest("GET", at, nil)
				req.Header.Set("Accept", browserAccept)
				w := httptest.NewRecorder()
				test.handler.ServeHTTP(w, req)
				if w.Code != 200 {
					t.Fatalf("GET %s: %d", at, w.Code)
				}
				for _, m := range links.FindAllStringSubmatch(w.Body.String(), -1) {
					link := strings.ReplaceAll(m[1], "&amp;", "&")
					if u, err := req.URL.Parse(link); err == nil && u.Scheme == "http" {
						u.Host = "registry.example"
						todo = append(todo, u.String())
					}
				}
			}
			if len(seen) < 250 {
				t.Errorf("the links lead to %d pages", len(seen))
			}
		})
	}
	w := get(bare, "/a/b?q=x")
	if location := w.Header().Get("Location"); w.Code != 308 || location != "./b/?q=x" {
		t.Errorf("a mount without a slash: %d %s", w.Code, location)
	}
}

// BenchmarkList makes the first page of 5,000 providers, anew for each request.
func BenchmarkList(b *testing.B) {
	h := newPages(b, newMemory(many(5000)...), &browse.Options{CacheBytes: -1})
	i := 0
	for b.Loop() {
		i++
		if w := get(h, fmt.Sprintf("/?q=%s", strings.Repeat("+", i%2))); w.Code != 200 {
			b.Fatal(w.Code)
		}
	}
}
