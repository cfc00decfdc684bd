package browse_test

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/browse"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

func TestNewPanics(t *testing.T) {
	reg := rekisteri.New(newMemory(), nil)
	for name, f := range map[string]func(){
		"no registry":        func() { browse.New(nil, nil) },
		"a URL for a host":   func() { browse.New(reg, &browse.Options{Host: "https://registry.example.com"}) },
		"a host with a path": func() { browse.New(reg, &browse.Options{Host: "registry.example.com/tf"}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: New does not panic", name)
				}
			}()
			f()
		}()
	}
}

// TestAccept has clients ask for pages in several ways.
func TestAccept(t *testing.T) {
	h := newPages(t, newMemory("acme/foo"), nil)
	for _, test := range []struct {
		accept      string
		page, error string
	}{
		{accept: browserAccept, page: "html", error: "html"},
		{accept: "text/html", page: "html", error: "html"},
		{accept: "application/json", page: "json", error: "json"},
		{accept: "Application/JSON", page: "json", error: "json"},
		{accept: "*/*", page: "html", error: "json"}, // curl
		{accept: "", page: "html", error: "json"},
		{accept: "application/json, text/html;q=0.9", page: "json", error: "json"},
		{accept: "application/json;q=0.5, text/html", page: "html", error: "html"},
		{accept: "application/json;q=0, */*", page: "html", error: "html"},
		{accept: "text/html;q=0, */*", page: "json", error: "json"},
		{accept: "application/json, text/plain, */*", page: "json", error: "json"}, // axios
		{accept: "text/html, application/xhtml+xml, */*", page: "html", error: "html"},
		{accept: "application/*", page: "json", error: "json"},
		{accept: "text/*", page: "html", error: "html"},
		{accept: "image/png", page: "html", error: "json"},
		{accept: "application/json;q=high", page: "json", error: "json"},
		{accept: ";;,,q=", page: "html", error: "json"},
	} {
		for url, want := range map[string]string{"/": test.page, "/providers/acme/foo": test.page, "/providers/acme/x": test.error, "/x": test.error} {
			w := get(h, url, "Accept: "+test.accept)
			contentType := map[string]string{"html": "text/html; charset=utf-8", "json": "application/json"}[want]
			if got := w.Header().Get("Content-Type"); got != contentType || w.Header().Get("Vary") != "Accept" {
				t.Errorf("GET %s, Accept %q: %s, want %s; %v", url, test.accept, got, contentType, w.Header())
			}
		}
	}
	if w := get(h, "/x", "Accept: */*"); w.Body.String() != `{"errors":["Not Found"]}` {
		t.Errorf("an error is %s", w.Body)
	}
}

func TestMethods(t *testing.T) {
	h := newPages(t, newMemory("acme/foo"), nil)
	for _, test := range []struct {
		method string
		status int
	}{
		{method: "HEAD", status: 200},
		{method: "POST", status: 405},
		{method: "PUT", status: 405},
		{method: "OPTIONS", status: 405},
	} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(test.method, "/", nil))
		if allow := w.Header().Get("Allow"); w.Code != test.status || (allow == "GET, HEAD") != (test.status == 405) {
			t.Errorf("%s: %d, Allow %q", test.method, w.Code, allow)
		}
		if test.method == "HEAD" && (w.Body.Len() > 0 || w.Header().Get("Content-Length") == "") {
			t.Errorf("HEAD: %v\n%s", w.Header(), w.Body)
		}
	}
}

// TestConditions asks again for pages that a browser has.
func TestConditions(t *testing.T) {
	m := newMemory(many(20)...)
	m.put(foo, &rekisteri.Listing{Versions: []rekisteri.Version{versionOf("1.0.0")}})
	h := newPages(t, m, nil)
	for _, url := range []string{"/", "/providers/acme/foo", "/assets/style.css", "/assets/script.js"} {
		for _, encoding := range []string{"", "gzip"} {
			first := get(h, url, "Accept-Encoding: "+encoding)
			etag := first.Header().Get("Etag")
			if first.Code != 200 || etag == "" || first.Header().Get("Content-Encoding") != encoding {
				t.Fatalf("GET %s: %d %v", url, first.Code, first.Header())
			}
			again := get(h, url, "Accept-Encoding: "+encoding, "If-None-Match: "+etag)
			if again.Code != 304 || again.Body.Len() > 0 || again.Header().Get("Etag") != etag {
				t.Errorf("GET %s again: %d %v", url, again.Code, again.Header())
			}
			if changed := get(h, url, "If-None-Match: \"other\""); changed.Code != 200 || changed.Body.Len() == 0 {
				t.Errorf("GET %s with another ETag: %d", url, changed.Code)
			}
			if refused := get(h, url, "If-Match: \"other\""); refused.Code != 412 {
				t.Errorf("GET %s if it is another: %d", url, refused.Code)
			}
			if encoding == "gzip" {
				r, err := gzip.NewReader(first.Body)
				if err != nil {
					t.Fatal(err)
				}
				plain, err := io.ReadAll(r)
				if err != nil || string(plain) != get(h, url).Body.String() {
					t.Errorf("GET %s: %v, or another body", url, err)
				}
			}
		}
	}
	etag := get(h, "/providers/acme/foo").Header().Get("Etag")
	m.listings[foo] = &rekisteri.Listing{Versions: []rekisteri.Version{versionOf("1.1.0")}}
	if w := get(h, "/providers/acme/foo", "If-None-Match: "+etag); w.Code != 200 || !strings.Contains(w.Body.String(), "1.1.0") {
		t.Errorf("a new version: %d", w.Code)
	}
}

// An asset may be kept for ever under the URL that pages use.
func TestAssets(t *testing.T) {
	h := newPages(t, newMemory("acme/foo"), nil)
	for _, test := range []struct {
		file, cacheControl string
	}{
		{file: "style.css", cacheControl: "no-cache"},
		{file: "style.css?v=old", cacheControl: "no-cache"},
		{file: "script.js", cacheControl: "no-cache"},
		{file: page(t, get(h, "/").Body.String(), "assets/style.css?v="), cacheControl: "public, max-age=31536000, immutable"},
		{file: page(t, get(h, "/").Body.String(), "assets/script.js?v="), cacheControl: "public, max-age=31536000, immutable"},
	} {
		w := get(h, "/assets/"+test.file)
		if got := w.Header().Get("Cache-Control"); w.Code != 200 || got != test.cacheControl {
			t.Errorf("%s: %d, Cache-Control: %s", test.file, w.Code, got)
		}
	}
}

// page returns the file name in the first link of a page that begins so.
func page(t *testing.T, body, start string) string {
	_, rest, ok := strings.Cut(body, `"./`+start)
	if !ok {
		t.Fatalf("the page has no link %s:\n%s", start, body)
	}
	version, _, _ := strings.Cut(rest, `"`)
	return strings.TrimPrefix(start, "assets/") + version
}

// TestFrame puts pages into the layout of a portal, which greets the user.
func TestFrame(t *testing.T) {
	layout := template.Must(template.New("portal").Parse(
		`<title>{{.Title}}</title><link href="{{.Style}}"><script src="{{.Script}}"></script><a href="{{.Root}}">providers</a>{{.User}}|{{.Content}}`))
	h := newPages(t, newMemory("acme/foo"), &browse.Options{Frame: func(w io.Writer, req *http.Request, p browse.Page) error {
		return layout.Execute(w, struct {
			browse.Page
			Content template.HTML
			User    string
		}{p, template.HTML(p.Content), req.Header.Get("User")})
	}})
	for _, user := range []string{"Ann <b>", "Bob"} {
		for url, title := range map[string]string{"/": "Providers", "/providers/acme/foo": "acme/foo"} {
			w := get(h, url, "User: "+user)
			wantPage(t, w, 200, `<title>`+title+`</title>`, template.HTMLEscapeString(user)+`|<div class="rk">`, `assets/style.css?v=`, `assets/script.js?v=`)
			etag := w.Header().Get("Etag")
			if again := get(h, url, "User: "+user, "If-None-Match: "+etag); again.Code != 304 {
				t.Errorf("GET %s again: %d", url, again.Code)
			}
			if other := get(h, url, "User: x", "If-None-Match: "+etag); other.Code != 200 {
				t.Errorf("GET %s as another user: %d", url, other.Code)
			}
		}
		wantPage(t, get(h, "/x", "User: "+user), 404, template.HTMLEscapeString(user)+`|<div class="rk rk-error">`)
	}
	w := httptest.NewRecorder()
	w.Header().Set("Content-Security-Policy", "default-src 'self'")
	h.ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if csp := w.Header().Values("Content-Security-Policy"); !slices.Equal(csp, []string{"default-src 'self'"}) {
		t.Errorf("the policy of the portal became %q", csp)
	}
	if n, size := browse.Cached(h); n != 2 || size < 2000 {
		t.Errorf("for two pages and three users, the cache has %d pages in %d bytes", n, size)
	}
}

// TestBrokenFrame has a frame that fails.
func TestBrokenFrame(t *testing.T) {
	calls := 0
	h := newPages(t, newMemory("acme/foo"), &browse.Options{Frame: func(w io.Writer, _ *http.Request, _ browse.Page) error {
		calls++
		io.WriteString(w, "a part")
		return errors.New("broken")
	}})
	for url, code := range map[string]int{"/": 500, "/providers/acme/foo": 500, "/x": 404} {
		calls = 0
		w := get(h, url)
		if want := fmt.Sprintf(`{"errors":[%q]}`, http.StatusText(code)); w.Code != code || w.Body.String() != want || calls != 1 {
			t.Errorf("GET %s: %d %s after %d calls, want %d %s", url, w.Code, w.Body, calls, code, want)
		}
	}
}

// TestObserve compares the events of requests.
func TestObserve(t *testing.T) {
	var events []rekisteri.Event
	m := newMemory("acme/foo")
	h := newPages(t, m, &browse.Options{Observe: func(_ *http.Request, e rekisteri.Event) { events = append(events, e) }})
	for _, test := range []struct {
		url      string
		headers  []string
		route    string
		provider string
		status   int
		pattern  string
		reason   string
	}{
		{url: "/", route: "page", status: 200, pattern: "GET /{$}"},
		{url: "/providers/acme/foo", route: "page", provider: "acme/foo", status: 200, pattern: "GET /providers/{namespace}/{type}"},
		{url: "/providers/acme/x", route: "page", provider: "acme/x", status: 404, pattern: "GET /providers/{namespace}/{type}", reason: "not_found"},
		{url: "/providers/Acme/foo", route: "page", provider: "acme/foo", status: 308, pattern: "GET /providers/{namespace}/{type}", reason: "redirect"},
		{url: "/providers/acme/.", route: "page", provider: "/", status: 404, pattern: "GET /providers/{namespace}/{type}", reason: "not_found"},
		{url: "/assets/style.css", route: "page", status: 200, pattern: "GET /assets/{name}"},
		{url: "/assets/style.css", headers: []string{"If-None-Match: *"}, route: "page", status: 304, pattern: "GET /assets/{name}"},
		{url: "/", headers: []string{"If-Match: x"}, route: "page", status: 412, pattern: "GET /{$}", reason: "condition"},
		{url: "/other", route: "other", status: 404, reason: "not_found"},
	} {
		events = nil
		req := httptest.NewRequest("GET", test.url, nil)
		req.Pattern = "/"
		for _, header := range test.headers {
			name, value, _ := strings.Cut(header, ": ")
			req.Header.Set(name, value)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, req)
		if len(events) != 1 {
			t.Fatalf("GET %s: %d events", test.url, len(events))
		}
		e := events[0]
		if test.provider == "" {
			test.provider = "/"
		}
		if e.Route != test.route || e.Provider.String() != test.provider || e.Status != test.status || e.Status != w.Code || e.Bytes != int64(w.Body.Len()) || e.Duration <= 0 || (e.Err != nil) != (e.Reason != "") || e.Reason != test.reason || req.Pattern != test.pattern {
			t.Errorf("GET %s: %+v, pattern %q", test.url, e, req.Pattern)
		}
	}
	events = nil
	m.releases[foo] = nil
	h = newPages(t, panicking{m}, &browse.Options{Observe: func(_ *http.Request, e rekisteri.Event) { events = append(events, e) }})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("the panic does not go on")
			}
		}()
		get(h, "/providers/acme/foo")
	}()
	if len(events) != 1 || events[0].Status != 500 || events[0].Err == nil || events[0].Reason != "error" {
		t.Errorf("a panic: %+v", events)
	}
}

// A panicking is a backend with a bug.
type panicking struct{ *memory }

func (panicking) Versions(context.Context, rekisteri.Provider) (*rekisteri.Listing, error) {
	panic("a bug")
}

// TestCacheBytes has anyone ask for anything: the cache stays within its limit.
func TestCacheBytes(t *testing.T) {
	if testing.Short() {
		t.Skip("it is long")
	}
	m := newMemory("acme/foo")
	for _, test := range []struct {
		limit int64
		pages bool
	}{
		{limit: 100_000, pages: true},
		{limit: 1000},
		{limit: -1},
	} {
		h := newPages(t, m, &browse.Options{CacheBytes: test.limit})
		for i := range 200 {
			get(h, "/providers/acme/foo", fmt.Sprintf("Host: host-%d.example", i))
			get(h, fmt.Sprintf("/?q=%d", i))
			get(h, fmt.Sprintf("/?q=%s", strings.Repeat("x", 100*i)))
			get(h, fmt.Sprintf("/providers/acme/nothing-%d", i))
		}
		if n, size := browse.Cached(h); size > max(test.limit, 0) || (n > 0) != test.pages {
			t.Errorf("limit %d: %d pages in %d bytes", test.limit, n, size)
		}
	}
}

// A countingFS counts what is read of a file system.
type countingFS struct {
	fs.FS
	mu    sync.Mutex
	calls []string
}

func (c *countingFS) Open(name string) (fs.File, error) { c.count(name); return c.FS.Open(name) }
func (c *countingFS) Stat(name string) (fs.FileInfo, error) {
	c.count(name)
	return fs.Stat(c.FS, name)
}

func (c *countingFS) count(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, name)
}

// taken returns the calls since the last time, in order of their names.
func (c *countingFS) taken() []string {
	synctest.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	calls := c.calls
	c.calls = nil
	slices.Sort(calls)
	return calls
}

// TestCost compares the calls of the file system for the page of a provider with
// those for the document of its versions, and looks which files a list reads.
func TestCost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cost := func(tree fs.FS, url string, status int) (first, second []string) {
			fsys := &countingFS{FS: tree}
			b := rekisteri.NewFSBackend(fsys, nil)
			reg := rekisteri.New(b, nil)
			mux := http.NewServeMux()
			mux.Handle("/v1/", reg)
			mux.Handle("/", browse.New(reg, &browse.Options{Problems: func(req *http.Request, p rekisteri.Provider) ([]rekisteri.Problem, error) {
				return b.Problems(req.Context(), p)
			}}))
			for _, calls := range []*[]string{&first, &second} {
				if w := get(mux, url); w.Code != status {
					t.Fatalf("GET %s: %d", url, w.Code)
				}
				*calls = fsys.taken()
			}
			return first, second
		}
		releases := rekisteritest.Releases()
		broken := fstest.MapFS{"aaa/x.json": {Data: []byte("{}")}, "acme/foo/1.0.0/README": {}}
		for status, tree := range map[int]fs.FS{200: releases, 404: broken} {
			page, pageAgain := cost(tree, "/providers/acme/foo", status)
			document, documentAgain := cost(tree, "/v1/providers/acme/foo/versions", status)
			if !slices.Equal(page, document) || !slices.Equal(pageAgain, documentAgain) || len(page) == 0 {
				t.Errorf("a page costs\n%q, then %q\na document costs\n%q, then %q", page, pageAgain, document, documentAgain)
			}
		}
		list, _ := cost(releases, "/", 200)
		for _, name := range list {
			if strings.Count(name, "/") > 1 || strings.HasSuffix(name, ".json") {
				t.Errorf("the list reads %s", name)
			}
		}
	})
}

// A page is made once, and while nothing changes, sent again.
func TestMadeOnce(t *testing.T) {
	m := newMemory("acme/foo", "acme/bar")
	problems := []rekisteri.Problem{{Path: "a"}}
	seen := make(map[any]bool)
	h := newPages(t, m, &browse.Options{Problems: func(*http.Request, rekisteri.Provider) ([]rekisteri.Problem, error) {
		return slices.Clone(problems), nil
	}})
	for _, step := range []struct {
		name   string
		change func()
		url    string
		made   int
	}{
		{name: "a provider", url: "/providers/acme/foo", made: 1},
		{name: "the same again", url: "/providers/acme/foo"},
		{name: "another provider", url: "/providers/acme/bar", made: 1},
		{name: "a new listing", change: func() {
			m.listings[foo] = &rekisteri.Listing{Versions: []rekisteri.Version{versionOf("1.0.0")}}
		}, url: "/providers/acme/foo", made: 1},
		{name: "a new release", change: func() { m.releases[foo] = &rekisteri.Release{Packages: m.releases[foo].Packages} }, url: "/providers/acme/foo", made: 1},
		{name: "another problem", change: func() { problems = []rekisteri.Problem{{Path: "b"}} }, url: "/providers/acme/foo", made: 1},
		{name: "no problem", change: func() { problems = nil }, url: "/providers/acme/foo", made: 1},
		{name: "nothing new", url: "/providers/acme/foo"},
		{name: "the list", url: "/", made: 1},
		{name: "the list again", url: "/"},
		{name: "a filter", url: "/?q=x", made: 1},
		{name: "a new provider", change: func() { m.listings[rekisteri.Provider{Namespace: "acme", Type: "new"}] = m.listings[foo] }, url: "/", made: 1},
	} {
		if step.change != nil {
			step.change()
		}
		wantPage(t, get(h, step.url), 200)
		made := 0
		for _, page := range browse.Pages(h) {
			if !seen[page] {
				seen[page] = true
				made++
			}
		}
		if made != step.made {
			t.Errorf("%s: made %d times, want %d", step.name, made, step.made)
		}
	}
}

// A client that goes away is no failure of the server.
func TestCanceled(t *testing.T) {
	var events []rekisteri.Event
	h := newPages(t, waiting{newMemory("acme/foo")}, &browse.Options{Observe: func(_ *http.Request, e rekisteri.Event) { events = append(events, e) }})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, url := range []string{"/", "/providers/acme/foo"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "GET", url, nil))
		if w.Code != 504 {
			t.Errorf("GET %s: %d", url, w.Code)
		}
	}
	for _, e := range events {
		if !errors.Is(e.Err, context.Canceled) || e.Reason != "aborted" {
			t.Errorf("%+v", e)
		}
	}
}

// A waiting is a backend that does not answer.
type waiting struct{ *memory }

func (waiting) Versions(ctx context.Context, _ rekisteri.Provider) (*rekisteri.Listing, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func (waiting) Providers(ctx context.Context) iter.Seq2[rekisteri.Provider, error] {
	return func(yield func(rekisteri.Provider, error) bool) {
		<-ctx.Done()
		yield(rekisteri.Provider{}, ctx.Err())
	}
}

// TestConcurrent asks for pages while the provider changes.
func TestConcurrent(t *testing.T) {
	m := &changing{memory: newMemory(many(300)...)}
	h := newPages(t, m, &browse.Options{CacheBytes: 100_000, Problems: problemsOf(rekisteri.Problem{Path: "a"})})
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 50 {
				for _, url := range []string{"/", "/providers/team-000/provider-000", fmt.Sprintf("/?q=%d", j)} {
					w := get(h, url, fmt.Sprintf("Host: host-%d.example", i%2), "Accept-Encoding: gzip")
					if w.Code != 200 {
						t.Errorf("GET %s: %d", url, w.Code)
					}
				}
			}
		})
	}
	group.Wait()
}

// A changing is a backend whose every third listing is a new one.
type changing struct {
	*memory
	calls atomic.Int64
	last  atomic.Pointer[rekisteri.Listing]
}

func (c *changing) Versions(context.Context, rekisteri.Provider) (*rekisteri.Listing, error) {
	if n := c.calls.Add(1); n%3 == 1 {
		c.last.Store(&rekisteri.Listing{Versions: []rekisteri.Version{versionOf(fmt.Sprintf("1.%d.0", n%6))}})
	}
	return c.last.Load(), nil
}
