package rekisteri_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
)

const (
	zip100  = "terraform-provider-hello_1.0.0_linux_amd64.zip"
	sums100 = "terraform-provider-hello_1.0.0_SHA256SUMS"
	files   = "/files/acme/hello/1.0.0/"
)

// observed answers a request, and returns the answer and the one event that the
// registry reported. If the registry panics, the value is returned.
func observed(t *testing.T, b rekisteri.Backend, opts rekisteri.Options, mount func(*rekisteri.Registry) http.Handler, req *http.Request) (*httptest.ResponseRecorder, rekisteri.Event, any) {
	t.Helper()
	var events []rekisteri.Event
	opts.Logger = quiet(t)
	opts.Observe = func(seen *http.Request, e rekisteri.Event) {
		if seen.Method != req.Method {
			t.Errorf("the event is of another request: %v", seen)
		}
		if e.Duration <= 0 {
			t.Errorf("it took %v", e.Duration)
		}
		e.Duration = 0
		events = append(events, e)
	}
	h := mount(rekisteri.New(b, &opts))
	rec := httptest.NewRecorder()
	panicked := func() (v any) {
		defer func() { v = recover() }()
		h.ServeHTTP(rec, req)
		return nil
	}()
	if len(events) != 1 {
		t.Fatalf("%d events: %v", len(events), events)
	}
	return rec, events[0], panicked
}

func TestObserve(t *testing.T) {
	tr := newTree(t, "1.0.0")
	backend := newBackend(t, tr.mapFS())
	root := func(r *rekisteri.Registry) http.Handler { return r }
	below := func(r *rekisteri.Registry) http.Handler { return http.StripPrefix("/tf", r) }
	discovery := func(r *rekisteri.Registry) http.Handler { return r.Discovery("/tf") }
	const (
		discoveryPattern = "GET /.well-known/terraform.json"
		versionsPattern  = "GET /v1/providers/{namespace}/{type}/versions"
		downloadPattern  = "GET /v1/providers/{namespace}/{type}/{version}/download/{os}/{arch}"
		filePattern      = "GET /files/{namespace}/{type}/{version}/{name}"
	)
	size := int64(len(tr["acme/hello/1.0.0/"+zip100]))
	for _, test := range []struct {
		name, method, target string
		header               [2]string
		mount                func(*rekisteri.Registry) http.Handler
		backend              rekisteri.Backend
		authorize            error

		route    string
		provider rekisteri.Provider
		version  string
		status   int
		bytes    int64 // -1: those of the answer
		err      string
		reason   string
		pattern  string
		panics   bool
	}{
		{name: "discovery", target: "/.well-known/terraform.json", route: rekisteri.RouteDiscovery, status: 200, bytes: -1, pattern: discoveryPattern},
		{name: "discovery at the root", mount: discovery, target: "/.well-known/terraform.json", route: rekisteri.RouteDiscovery, status: 200, bytes: -1, pattern: discoveryPattern},
		{name: "another path of it", mount: discovery, target: "/", route: rekisteri.RouteOther, status: 404, bytes: -1, err: "no such route", reason: rekisteri.ReasonNotFound},
		{name: "versions", target: "/v1/providers/acme/hello/versions", route: rekisteri.RouteVersions, provider: acmeHello, status: 200, bytes: -1, pattern: versionsPattern},
		{name: "HEAD", method: "HEAD", target: "/v1/providers/acme/hello/versions", route: rekisteri.RouteVersions, provider: acmeHello, status: 200, pattern: versionsPattern},
		{name: "below a prefix", mount: below, target: "/tf/v1/providers/acme/hello/versions", route: rekisteri.RouteVersions, provider: acmeHello, status: 200, bytes: -1},
		{name: "no such provider", target: "/v1/providers/acme/no/versions", route: rekisteri.RouteVersions, provider: rekisteri.Provider{Namespace: "acme", Type: "no"},
			status: 404, bytes: -1, err: "no", reason: rekisteri.ReasonNotFound, pattern: versionsPattern},
		{name: "HEAD of no such provider", method: "HEAD", target: "/v1/providers/acme/no/versions", route: rekisteri.RouteVersions, provider: rekisteri.Provider{Namespace: "acme", Type: "no"},
			status: 404, err: "no", reason: rekisteri.ReasonNotFound, pattern: versionsPattern},
		{name: "no valid name", target: "/v1/providers/acme/a.b/versions", route: rekisteri.RouteVersions, status: 404, bytes: -1, err: "name", reason: rekisteri.ReasonNotFound, pattern: versionsPattern},
		{name: "not allowed", authorize: fmt.Errorf("rule 7: %w", fs.ErrPermission), target: "/v1/providers/acme/hello/versions", route: rekisteri.RouteVersions,
			provider: acmeHello, status: 403, bytes: -1, err: "rule 7", reason: rekisteri.ReasonForbidden, pattern: versionsPattern},
		{name: "method", method: "POST", target: "/v1/providers/acme/hello/versions", route: rekisteri.RouteVersions, status: 405, bytes: -1, err: "method", reason: rekisteri.ReasonMethod},
		{name: "publishing is off", method: "PUT", target: files + zip100, route: rekisteri.RouteFile, status: 405, bytes: -1, err: "publishing is off", reason: rekisteri.ReasonMethod},
		{name: "download", target: download100, route: rekisteri.RouteDownload, provider: acmeHello, version: "1.0.0", status: 200, bytes: -1, pattern: downloadPattern},
		{name: "no valid version", target: "/v1/providers/acme/hello/1.0/download/linux/amd64", route: rekisteri.RouteDownload, provider: acmeHello, status: 404, bytes: -1, err: "version", reason: rekisteri.ReasonNotFound, pattern: downloadPattern},
		{name: "zip", target: files + zip100, route: rekisteri.RouteFile, provider: acmeHello, version: "1.0.0", status: 200, bytes: size, pattern: filePattern},
		{name: "HEAD of a zip", method: "HEAD", target: files + zip100, route: rekisteri.RouteFile, provider: acmeHello, version: "1.0.0", status: 200, pattern: filePattern},
		{name: "range", header: [2]string{"Range", "bytes=10-19"}, target: files + zip100, route: rekisteri.RouteFile, provider: acmeHello, version: "1.0.0", status: 206, bytes: 10, pattern: filePattern},
		{name: "two ranges", header: [2]string{"Range", "bytes=0-9,20-29"}, target: files + zip100, route: rekisteri.RouteFile, provider: acmeHello, version: "1.0.0", status: 206, bytes: -1, pattern: filePattern},
		{name: "no such range", header: [2]string{"Range", "bytes=9999999-"}, target: files + zip100, route: rekisteri.RouteFile, provider: acmeHello, version: "1.0.0", status: 416, bytes: -1, err: "range", reason: rekisteri.ReasonCondition, pattern: filePattern},
		{name: "unchanged", header: [2]string{"If-None-Match", "*"}, target: "/v1/providers/acme/hello/versions", route: rekisteri.RouteVersions, provider: acmeHello, status: 304, pattern: versionsPattern},
		{name: "no such file", target: files + "x.zip", route: rekisteri.RouteFile, provider: acmeHello, version: "1.0.0", status: 404, bytes: -1, err: "no such file", reason: rekisteri.ReasonNotFound, pattern: filePattern},
		{name: "no such route", target: "/v2/", route: rekisteri.RouteOther, status: 404, bytes: -1, err: "no such route", reason: rekisteri.ReasonNotFound},
		{name: "failure", backend: &fake{err: errors.New("a failure")}, target: "/v1/providers/acme/hello/versions", route: rekisteri.RouteVersions, provider: acmeHello,
			status: 500, bytes: -1, err: "a failure", reason: rekisteri.ReasonError, pattern: versionsPattern},
		{name: "panic", backend: panicky{backend}, target: "/v1/providers/panics/hello/versions", route: rekisteri.RouteVersions, provider: rekisteri.Provider{Namespace: "panics", Type: "hello"},
			status: 500, err: "panic: a backend's bug", reason: rekisteri.ReasonError, pattern: versionsPattern, panics: true},
		{name: "unreadable zip", backend: &broken{FSBackend: backend, after: 100, err: errAway}, target: files + zip100, route: rekisteri.RouteFile, provider: acmeHello, version: "1.0.0",
			status: 200, bytes: 100, err: zip100 + " of acme/hello 1.0.0: the file cannot be read after 100 bytes: the bucket is away", reason: rekisteri.ReasonError, pattern: filePattern},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.method == "" {
				test.method = "GET"
			}
			if test.mount == nil {
				test.mount = root
			}
			if test.backend == nil {
				test.backend = backend
			}
			var opts rekisteri.Options
			if test.authorize != nil {
				opts.Authorize = func(*http.Request, rekisteri.Provider) error { return test.authorize }
			}
			req := httptest.NewRequest(test.method, test.target, nil)
			req.Pattern = "/tf/"
			if test.header[0] != "" {
				req.Header.Set(test.header[0], test.header[1])
			}
			rec, e, panicked := observed(t, test.backend, opts, test.mount, req)
			if test.bytes < 0 {
				test.bytes = int64(rec.Body.Len())
			}
			if (e.Err != nil) != (test.err != "") || e.Err != nil && !strings.Contains(e.Err.Error(), test.err) {
				t.Errorf("error %v, want %q", e.Err, test.err)
			}
			e.Err = nil
			if want := (rekisteri.Event{Route: test.route, Provider: test.provider, Version: test.version, Status: test.status, Bytes: test.bytes, Reason: test.reason}); e != want {
				t.Errorf("got  %+v\nwant %+v", e, want)
			}
			if test.panics != (panicked != nil) || !test.panics && rec.Code != test.status {
				t.Errorf("answer %d, panic %v", rec.Code, panicked)
			}
			if test.name == "below a prefix" {
				test.pattern = "/tf/" // StripPrefix copies the request
			}
			if req.Pattern != test.pattern {
				t.Errorf("pattern %q, want %q", req.Pattern, test.pattern)
			}
		})
	}
}

// The registry writes to the connection as it does without an observer: a file
// goes there as it is, and nothing is allocated.
func TestObserveCosts(t *testing.T) {
	dir := t.TempDir()
	newTree(t, "1.0.0").write(t, dir)
	backend := newBackend(t, rootFS(t, dir))
	observe := func(*http.Request, rekisteri.Event) {}
	w := &counting{ResponseWriter: httptest.NewRecorder()}
	rekisteri.New(backend, &rekisteri.Options{Logger: quiet(t), Observe: observe}).ServeHTTP(w, httptest.NewRequest("GET", files+zip100, nil))
	if !w.fromFile {
		t.Error("the connection did not get the file")
	}
	allocs := func(observe func(*http.Request, rekisteri.Event)) float64 {
		reg := rekisteri.New(backend, &rekisteri.Options{Logger: silent, Observe: observe})
		req, nowhere := route{target: download100}.request(), &nowhere{header: make(http.Header)}
		return testing.AllocsPerRun(100, func() { reg.ServeHTTP(nowhere, req) })
	}
	if with, without := allocs(observe), allocs(nil); with > without {
		t.Errorf("%v allocations with an observer, %v without", with, without)
	}
}

// A name that is not in lower case is redirected, without asking the backend or
// Authorize, to a URL below the same mount.
func TestLowerCaseRedirect(t *testing.T) {
	for _, test := range []struct{ name, target, want string }{ // want is empty for 404
		{name: "namespace", target: "/v1/providers/Acme/hello/versions", want: "/v1/providers/acme/hello/versions"},
		{name: "type", target: "/v1/providers/acme/HELLO/versions", want: "/v1/providers/acme/hello/versions"},
		{name: "download", target: "/v1/providers/Acme/Hello/1.0.0-RC.1+B/download/linux/amd64", want: "/v1/providers/acme/hello/1.0.0-RC.1+B/download/linux/amd64"},
		{name: "query", target: "/v1/providers/Acme/hello/versions?X=%2F&y", want: "/v1/providers/acme/hello/versions?X=%2F&y"},
		{name: "other letters", target: "/v1/providers/%c3%a4C/hello/versions", want: "/v1/providers/%C3%A4c/hello/versions"},
		{name: "other upper case", target: "/v1/providers/%C3%84/hello/versions"},
		{name: "Kelvin sign", target: "/v1/providers/%E2%84%AAube/hello/versions"},
		{name: "no valid name", target: "/v1/providers/Acme/he.llo/versions"},
		{name: "no valid version", target: "/v1/providers/Acme/hello/V1.0.0/download/linux/amd64"},
		{name: "platform in upper case", target: "/v1/providers/Acme/hello/1.0.0/download/Linux/amd64"},
		{name: "file", target: "/files/Acme/hello/1.0.0/" + sums100},
		{name: "other route", target: "/V1/providers/acme/hello/versions"},
	} {
		t.Run(test.name, func(t *testing.T) {
			backend := &fake{}
			reg := rekisteri.New(backend, &rekisteri.Options{Logger: quiet(t), LinkKeys: [][32]byte{linkKey(1)}, Authorize: func(*http.Request, rekisteri.Provider) error {
				t.Error("Authorize was asked")
				return nil
			}})
			for prefix, h := range map[string]http.Handler{"": reg, "/a/b": http.StripPrefix("/a/b", reg)} {
				for _, method := range []string{"GET", "HEAD"} {
					resp := get(h, method, prefix+test.target)
					location, err := url.Parse(resp.Header.Get("Location"))
					if err != nil {
						t.Fatal(err)
					}
					if test.want == "" {
						if resp.StatusCode != 404 || resp.Header["Location"] != nil {
							t.Errorf("%s to %v", resp.Status, location)
						}
						continue
					}
					at, err := url.Parse(prefix + test.target)
					if err != nil {
						t.Fatal(err)
					}
					if got := at.ResolveReference(location).String(); resp.StatusCode != 308 || location.IsAbs() || got != prefix+test.want || resp.Header.Get("Cache-Control") != "no-store" {
						t.Errorf("%s %v to %q", resp.Status, resp.Header, got)
					}
				}
			}
			if len(backend.asked) > 0 {
				t.Errorf("the backend was asked for %q", backend.asked)
			}
		})
	}
}

// A changing backend has a release of one zip, which is another one at each
// call. The file is always that of the release that was returned last.
type changing struct {
	texts  []string
	errs   []error
	calls  int
	opened []string
}

func (c *changing) Versions(context.Context, rekisteri.Provider) (*rekisteri.Listing, error) {
	return nil, fs.ErrNotExist
}

func (c *changing) Release(context.Context, rekisteri.Provider, string) (*rekisteri.Release, error) {
	i := min(c.calls, len(c.texts)-1)
	c.calls++
	if c.errs != nil && c.errs[i] != nil {
		return nil, c.errs[i]
	}
	return &rekisteri.Release{Packages: []rekisteri.Package{{Filename: "hello.zip", SHA256: sha256.Sum256([]byte(c.texts[i]))}}}, nil
}

// Open returns the file as it is when Release is called for the next time.
func (c *changing) Open(context.Context, rekisteri.Provider, string, string) (io.ReadSeekCloser, error) {
	text := c.texts[min(c.calls, len(c.texts)-1)]
	c.opened = append(c.opened, text)
	return struct {
		io.ReadSeeker
		io.Closer
	}{strings.NewReader(text), io.NopCloser(nil)}, nil
}

// A download never has the ETag of one release and the bytes of another.
func TestReleaseChangesDuringOpen(t *testing.T) {
	for _, test := range []struct {
		name   string
		texts  []string // of the zip, at each call of Release
		errs   []error
		status int
		opened string // the texts, joined
	}{
		{name: "same bytes", texts: []string{"one"}, status: 200, opened: "one"},
		{name: "other bytes", texts: []string{"one", "two"}, status: 200, opened: "two two"},
		{name: "other bytes twice", texts: []string{"one", "two", "three"}, status: 500, opened: "two three"},
		{name: "deleted", texts: []string{"one", ""}, errs: []error{nil, fs.ErrNotExist}, status: 404, opened: ""},
		{name: "outage", texts: []string{"one", "one"}, errs: []error{nil, errAway}, status: 500, opened: "one"},
	} {
		t.Run(test.name, func(t *testing.T) {
			backend := &changing{texts: test.texts, errs: test.errs}
			resp := get(newRegistry(t, backend), "GET", files+"hello.zip")
			got := body(t, resp)
			if resp.StatusCode != test.status || strings.Join(backend.opened, " ") != test.opened {
				t.Errorf("%s; opened %q", resp.Status, backend.opened)
			}
			if etag := fmt.Sprintf(`"%x"`, sha256.Sum256([]byte(got))); resp.StatusCode == 200 && resp.Header.Get("ETag") != etag {
				t.Errorf("ETag %s of %q", resp.Header.Get("ETag"), got)
			}
		})
	}
}

// Names, versions and platforms that cannot exist, in any place of a path, are
// answered without the backend.
func TestInvalidPaths(t *testing.T) {
	bad := []string{
		"", ".", "..", "%2e", "%2e%2e", "..%2f..%2fetc", "%2f", "a%2fb", "a%5cb", "a%00b", "%00", "a%0ab", "%ff", "%c3",
		".hidden", "a.b", "a%20b", "a;b", "a:b", "a%7cb", "~", "lost+found", "a%2b", strings.Repeat("a", 10<<10),
		"%ef%bf%bd", "%e2%80%ae",
	}
	good := []string{"acme", "foo", "1.0.0", "linux", "amd64"}
	targets := []string{
		"//v1/providers/acme/foo/versions", "/v1//providers/acme/foo/versions", "/v1/providers/acme/foo/versions/",
		"/v1/providers/acme/foo/./versions", "/v1/providers/x/../acme/foo/versions", "/v1/../v1/providers/acme/foo/versions",
		"/", "/v1", "/V1/providers/acme/foo/versions",
	}
	for _, s := range bad {
		for i := range good {
			parts := slices.Clone(good)
			parts[i] = s
			targets = append(targets, fmt.Sprintf("/v1/providers/%s/%s/%s/download/%s/%s", parts[0], parts[1], parts[2], parts[3], parts[4]))
			if i < 2 {
				targets = append(targets, fmt.Sprintf("/v1/providers/%s/%s/versions", parts[0], parts[1]))
			}
		}
	}
	for _, version := range []string{"v1.0.0", "1.0", "1", "01.0.0", "latest", "1.2.3.4", "99999999999999999999.0.0", "1.0.0-", "1.0.0-01"} {
		targets = append(targets, "/v1/providers/acme/foo/"+version+"/download/linux/amd64")
	}
	b := &fake{listing: &rekisteri.Listing{}, release: &rekisteri.Release{}}
	reg := newRegistry(t, b)
	for _, target := range targets {
		if resp := get(reg, "GET", target); resp.StatusCode != 404 || resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("GET %.80s = %s %v, want 404 as JSON", target, resp.Status, resp.Header)
		}
	}
	if len(b.asked) > 0 {
		t.Errorf("the backend was asked for %.200q", b.asked)
	}
}

func TestBackendGetsDecodedNames(t *testing.T) {
	for target, want := range map[string]string{
		"/v1/providers/a_b/google-beta/versions":                               "a_b/google-beta",
		"/v1/providers/%C3%A4%C3%B6/%E6%97%A5%E6%9C%AC/versions":               "äö/日本",
		"/v1/providers/acme/foo/1.0.0+a.b/download/linux/amd64":                "acme/foo 1.0.0+a.b",
		"/v1/providers/acme/foo/1.0.0%2Ba/download/linux/amd64":                "acme/foo 1.0.0+a",
		"/v1/providers/acme/foo/18446744073709551615.0.0/download/linux/amd64": "acme/foo 18446744073709551615.0.0",
	} {
		b := &fake{err: fs.ErrNotExist}
		get(newRegistry(t, b), "GET", target)
		if len(b.asked) != 1 || b.asked[0] != want {
			t.Errorf("GET %s asked the backend for %q, want %q", target, b.asked, want)
		}
	}
}

// An error of the backend reaches the client as a status, and the log with its
// text.
func TestBackendErrors(t *testing.T) {
	const secret = "secret-bucket/path"
	for _, test := range []struct {
		name   string
		b      *fake
		status int
		level  string
	}{
		{name: "not found", b: &fake{err: &fs.PathError{Op: "open", Path: secret, Err: fs.ErrNotExist}}, status: 404, level: "DEBUG"},
		{name: "outage", b: &fake{err: errors.New(secret)}, status: 500, level: "ERROR"},
		{name: "no permission for a directory", b: &fake{err: &fs.PathError{Op: "open", Path: secret, Err: fs.ErrPermission}}, status: 500, level: "ERROR"},
		{name: "no credentials for storage", b: &fake{err: fmt.Errorf("%s: %w", secret, rekisteri.ErrUnauthenticated)}, status: 500, level: "ERROR"},
		{name: "timeout", b: &fake{err: fmt.Errorf("%s: %w", secret, context.DeadlineExceeded)}, status: 504, level: "ERROR"},
		{name: "an error that uploads have", b: &fake{err: fmt.Errorf("%s: %w", secret, fs.ErrExist)}, status: 500, level: "ERROR"},
		{name: "another error that uploads have", b: &fake{err: fmt.Errorf("%s: %w", secret, &rekisteri.UploadError{Detail: secret})}, status: 500, level: "ERROR"},
		{name: "canceled inside the backend", b: &fake{err: fmt.Errorf("%s: %w", secret, context.Canceled)}, status: 504, level: "ERROR"},
		{name: "nil without an error", b: &fake{}, status: 500, level: "ERROR"},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, target := range []string{"/v1/providers/acme/foo/versions?token=query", "/v1/providers/acme/foo/1.0.0/download/linux/amd64"} {
				log := new(logBuffer)
				resp := get(rekisteri.New(test.b, &rekisteri.Options{Logger: log.logger()}), "GET", target)
				got := body(t, resp)
				if resp.StatusCode != test.status || strings.Contains(got, secret) || resp.Header.Get("Cache-Control") != "no-store" {
					t.Errorf("GET %s = %s %v %s, want %d", target, resp.Status, resp.Header, got, test.status)
				}
				text := log.take()
				if !strings.Contains(text, "level="+test.level) || test.b.err != nil && !strings.Contains(text, secret) || strings.Contains(text, "query") {
					t.Errorf("GET %s: the log says %s", target, text)
				}
			}
		})
	}
}

// Files are served if a package's document refers to them, and no others.
func TestServedFiles(t *testing.T) {
	tr := newTree(t, "1.0.0", "2.0.0")
	tr["acme/hello/1.0.0/metadata.json"] = "{}"
	tr["acme/hello/1.0.0/.hidden.zip"] = "hidden"
	tr["acme/hello/1.0.0/terraform-provider-hello_1.0.0_linux_386.zip"] = "not in SHA256SUMS"
	tr["acme/hello/1.0.0/terraform-provider-hello_linux_amd64_v1/terraform-provider-hello_v1.0.0"] = "bare"
	tr["acme/hello.json"] = documentOf("3.0.0")
	delete(tr, sums200+".sig")
	eachFS(t, tr, func(t *testing.T, fsys fs.FS) {
		reg := newFSRegistry(t, fsys)
		for _, name := range slices.Sorted(maps.Keys(tr)) {
			resp := get(reg, "GET", "/files/"+name)
			want := strings.HasPrefix(name, "acme/hello/1.0.0/terraform-provider-hello_1.0.0_") && !strings.Contains(path.Base(name), "386")
			got := body(t, resp)
			if want != (resp.StatusCode == 200) || want && got != tr[name] {
				t.Errorf("GET /files/%s = %s, served: want %v", name, resp.Status, want)
			}
			if cc := resp.Header.Get("Cache-Control"); want && cc != "no-cache" {
				t.Errorf("GET /files/%s: Cache-Control %q", name, cc)
			}
		}
		for _, target := range []string{
			"/files/acme/hello/1.0.0/", "/files/acme/hello/1.0.0", "/files/acme/hello/1.0.0/..%2fkey.asc", "/files/acme/hello/..%2f/key.asc",
			"/files/acme/hello/1.0.0/%2e%2e", "/files/acme/hello/v1.0.0/" + sums100,
			"/files/acme/hello/2.0.0/" + sums100, "/files/acme/hello/3.0.0/f.zip",
			"/files/acme/hello/3.0.0/terraform-provider-hello_3.0.0_SHA256SUMS",
		} {
			if resp := get(reg, "GET", target); resp.StatusCode != 404 {
				t.Errorf("GET %s = %s, want 404", target, resp.Status)
			}
		}
	})
}

// A watched backend counts the calls that reach it.
type watched struct {
	*rekisteri.FSBackend
	calls int
}

func (w *watched) Versions(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
	w.calls++
	return w.FSBackend.Versions(ctx, p)
}

func (w *watched) Release(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
	w.calls++
	return w.FSBackend.Release(ctx, p, version)
}

// A refused request does not reach the backend, and its answer does not reveal
// what exists.
func TestAuthorize(t *testing.T) {
	for _, test := range []struct {
		namespace string
		err       error
		status    int
	}{
		{namespace: "open", status: 200},
		{namespace: "login", err: fmt.Errorf("who: %w", rekisteri.ErrUnauthenticated), status: 401},
		{namespace: "closed", err: fs.ErrPermission, status: 403},
		{namespace: "hidden", err: fmt.Errorf("hidden: %w", fs.ErrNotExist), status: 404},
		{namespace: "slow", err: context.DeadlineExceeded, status: 504},
		{namespace: "broken", err: errors.New("the session store is away"), status: 500},
	} {
		t.Run(test.namespace, func(t *testing.T) {
			tr := newTree(t)
			tr.addRelease(t, test.namespace+"/hello/1.0.0", "1.0.0", "linux_amd64")
			b := &watched{FSBackend: newBackend(t, tr.mapFS())}
			reg := rekisteri.New(b, &rekisteri.Options{Logger: quiet(t), Authorize: func(req *http.Request, p rekisteri.Provider) error { return test.err }})
			for _, target := range []string{"/v1/providers/" + test.namespace + "/hello/versions", "/v1/providers/" + test.namespace + "/hello/1.0.0/download/linux/amd64"} {
				b.calls = 0
				resp := get(reg, "GET", target)
				if resp.StatusCode != test.status || (b.calls > 0) != (test.status == 200) {
					t.Errorf("GET %s = %s after %d calls of the backend, want %d", target, resp.Status, b.calls, test.status)
				}
				if challenge := resp.Header.Get("WWW-Authenticate"); (challenge == "Bearer") != (test.status == 401) {
					t.Errorf("GET %s: WWW-Authenticate %q", target, challenge)
				}
				cache := "no-store"
				if test.status == 200 {
					cache = "private, no-store"
				}
				if cc := resp.Header.Get("Cache-Control"); cc != cache {
					t.Errorf("GET %s: Cache-Control %q", target, cc)
				}
				other := get(reg, "GET", strings.ReplaceAll(target, "hello", "nothing"))
				if test.status != 200 && (other.StatusCode != resp.StatusCode || body(t, other) != body(t, resp)) {
					t.Errorf("GET %s is not answered like what does not exist", target)
				}
			}
			b.calls = 0
			if got := get(reg, "GET", "/files/"+test.namespace+"/hello/1.0.0/"+sums100).StatusCode; got != 403 || b.calls > 0 {
				t.Errorf("a file without a link: %d after %d calls of the backend", got, b.calls)
			}
			if resp := get(reg, "GET", "/.well-known/terraform.json"); resp.StatusCode != 200 || resp.Header.Get("Cache-Control") != "no-cache" {
				t.Errorf("discovery: %s %v", resp.Status, resp.Header)
			}
		})
	}
}

// No log, at any level, and no error body of a private registry has a secret.
// That includes panics.
func TestNoSecrets(t *testing.T) {
	const token = "the-secret-token"
	name := filepath.Join(t.TempDir(), "tokens")
	writeSecret(t, name, tokenLine(token, "acme panics"))
	output := new(logBuffer)
	tokens, err := rekisteri.NewTokenFile(name, output.logger())
	if err != nil {
		t.Fatal(err)
	}
	key := linkKey('K')
	reg := rekisteri.New(panicky{newBackend(t, newTree(t, "1.0.0").mapFS())}, &rekisteri.Options{
		Logger: output.logger(), Authorize: tokens.Authorize, LinkKeys: [][32]byte{key},
		Observe: func(_ *http.Request, e rekisteri.Event) { fmt.Fprintf(output, "%+v\n", e) },
	})
	fetch := func(target, token string) (text string) {
		defer func() {
			if v := recover(); v != nil {
				fmt.Fprintln(output, v)
			}
		}()
		resp := get(reg, "GET", target, "Authorization", "Bearer "+token)
		text = body(t, resp)
		if resp.StatusCode >= 400 {
			fmt.Fprintln(output, resp.Header, text)
		}
		return text
	}
	var doc struct {
		URL string `json:"download_url"`
	}
	if err := json.Unmarshal([]byte(fetch(download100, token)), &doc); err != nil {
		t.Fatal(err)
	}
	link := doc.URL[strings.Index(doc.URL, "/files/"):]
	query := link[strings.Index(link, "?"):]
	for _, target := range []string{
		link, link + "x", strings.Replace(link, "key=", "key=0", 1), strings.Replace(link, "linux", "darwin", 1), strings.Replace(link, "expires=1", "expires=0", 1),
		link[:len(link)-1], link + "&" + query[1:], "/files/nothing" + query, "/files/panics/hello/1.0.0/x.zip" + query, "/v1/providers/acme/nothing/versions" + query,
		strings.Replace(link, "?", "%3F", 1), // a proxy encoded it
		"/v1/providers/panics/hello/versions" + query, "/v1/providers/Acme/hello/versions" + query, "//x" + query, "/v1/providers/other/hello/versions",
	} {
		for _, token := range []string{token, "wrong-" + token, ""} {
			fetch(target, token)
		}
	}
	all := output.take()
	for _, want := range []string{"level=DEBUG", "panic: ", "is not known", "has been altered", "status=403", "status=308"} {
		if !strings.Contains(all, want) {
			t.Errorf("no request caused %q", want)
		}
	}
	for _, secret := range []string{token, "wrong-", query, strings.Split(query, "signature=")[1], "expires=", string(key[:]), fmt.Sprintf("%x", key), strings.Fields(tokenLine(token, ""))[0]} {
		if i := strings.Index(all, secret); i >= 0 {
			t.Errorf("the output has %q: %s", secret, all[max(0, i-200):i+50])
		}
	}
}

// A panicky backend panics in one namespace.
type panicky struct{ *rekisteri.FSBackend }

func (b panicky) Versions(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
	if p.Namespace == "panics" {
		panic("a backend's bug")
	}
	return b.FSBackend.Versions(ctx, p)
}

// A faulty backend has a fault in each namespace that is named after one.
type faulty struct{ hang func(ctx context.Context) }

func (f faulty) fault(ctx context.Context, p rekisteri.Provider) error {
	switch p.Namespace {
	case "panics":
		panic("a backend's bug")
	case "hangs":
		f.hang(ctx)
		return ctx.Err()
	case "fails":
		return errors.New("a backend's failure")
	case "slow":
		time.Sleep(20 * time.Millisecond)
	}
	return nil
}

func (f faulty) Versions(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
	if err := f.fault(ctx, p); err != nil {
		return nil, err
	}
	good := rekisteri.Version{Version: "1.0.0"}
	switch p.Namespace {
	case "nothing":
		return nil, nil
	case "empty":
		return new(rekisteri.Listing), nil
	case "nonsense":
		return &rekisteri.Listing{Versions: []rekisteri.Version{{Version: "../.."}, good, {Version: "latest"}, {Version: "1.0"}, {}}}, nil
	}
	return &rekisteri.Listing{Versions: []rekisteri.Version{good}}, nil
}

func (f faulty) Release(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
	if err := f.fault(ctx, p); err != nil || p.Namespace == "nothing" {
		return nil, err
	}
	return &rekisteri.Release{Packages: []rekisteri.Package{{Platform: rekisteri.Platform{OS: "linux", Arch: "amd64"}, Filename: "../../etc/passwd"}, {}}}, nil
}

// A fault affects only the request that meets it, and the backend's context ends
// when the client has gone.
func TestFaultyBackend(t *testing.T) {
	t.Parallel()
	ended := make(chan error, 1)
	reg := newRegistry(t, faulty{func(ctx context.Context) {
		<-ctx.Done()
		ended <- ctx.Err()
	}})
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if d, err := time.ParseDuration(req.Header.Get("X-Deadline")); err == nil {
			ctx, cancel := context.WithTimeout(req.Context(), d)
			defer cancel()
			req = req.WithContext(ctx)
		}
		reg.ServeHTTP(w, req)
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Start()
	defer srv.Close()
	ask := func(ctx context.Context, namespace, deadline string) (int, error) {
		req, err := http.NewRequestWithContext(ctx, "GET", srv.URL+"/v1/providers/"+namespace+"/foo/versions", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Deadline", deadline)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, err
		}
		resp.Body.Close()
		return resp.StatusCode, nil
	}
	good := func(after string) {
		t.Helper()
		if code, err := ask(t.Context(), "good", ""); code != 200 {
			t.Errorf("after %s: %d, %v", after, code, err)
		}
	}
	if code, err := ask(t.Context(), "panics", ""); err == nil {
		t.Errorf("a panic is answered with %d", code)
	}
	good("a panic")
	if code, err := ask(t.Context(), "fails", ""); code != 500 {
		t.Errorf("a failure: %d, %v", code, err)
	}
	good("a failure")

	if code, err := ask(t.Context(), "hangs", "50ms"); code != 504 || !errors.Is(<-ended, context.DeadlineExceeded) {
		t.Errorf("a deadline: %d, %v", code, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if code, err := ask(ctx, "hangs", ""); err == nil {
		t.Errorf("a client that hung up is answered with %d", code)
	}
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("the backend's context ended with %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("the backend's context does not end when the client hangs up")
	}
	good("a client that hung up")
}

// A strict backend has everything, and fails the test if it gets a name that was
// not checked.
type strict struct{ t *testing.T }

var (
	goodName    = regexp.MustCompile(`^[\p{L}\p{M}\p{Nd}_-]{1,128}$`)
	goodVersion = regexp.MustCompile(`^(0|[1-9][0-9]{0,19})\.(0|[1-9][0-9]{0,19})\.(0|[1-9][0-9]{0,19})(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)
)

func (s strict) check(p rekisteri.Provider, version string) {
	if !goodName.MatchString(p.Namespace) || !goodName.MatchString(p.Type) || p.String() != strings.ToLower(p.String()) ||
		version != "" && !goodVersion.MatchString(version) || len(version) > 128 {
		s.t.Errorf("the backend was asked for %q %q", p, version)
	}
}

func (s strict) Versions(_ context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
	s.check(p, "")
	return &rekisteri.Listing{Versions: []rekisteri.Version{{Version: "1.0.0"}}}, nil
}

func (s strict) Release(_ context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
	s.check(p, version)
	if version == "" {
		s.t.Error("the backend was asked for no version")
	}
	return onePackage(), nil
}

// FuzzPath requests a path. The answer is never a server error, the backend gets
// checked names only, and a redirect leads to the same path in lower case, which
// is not redirected again.
func FuzzPath(f *testing.F) {
	for _, path := range []string{"/", "", "/v1/providers/acme/foo/versions", "/v1/providers/acme/foo/1.0.0/download/linux/amd64", "//v1/providers/a/b/versions",
		"/v1/providers/..%2f..%2fetc/passwd/versions", "/v1/providers/%00/b/versions", "/files/acme/foo/1.0.0/%2e%2e", "/.well-known/terraform.json", "/v1/providers/É/ſ/versions",
		"/v1/providers/a/b/1.0.0+%2e/download/linux/amd64", "/v1/providers/a/b/99999999999999999999.0.0/download/linux/amd64", "/tf/v1/providers/a/b/versions",
		"/v1/providers/A%42/b/1.0.0+A/download/linux/amd64?A=%41", "/tf/v1/providers/%C3%84/B/versions", "/v1/providers/%E2%84%AA/B/versions"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		reg := rekisteri.New(strict{t}, &rekisteri.Options{Logger: silent})
		for _, h := range []http.Handler{reg, http.StripPrefix("/tf", reg), reg.Discovery("/tf")} {
			ask := func(u *url.URL) *httptest.ResponseRecorder {
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, &http.Request{Method: "GET", URL: u, Header: make(http.Header), Host: "registry.test"})
				return rec
			}
			rec := ask(u)
			if location := rec.Header().Get("Location"); rec.Code == http.StatusPermanentRedirect {
				to, err := u.Parse(location)
				if err != nil || to.Path == u.Path || !strings.EqualFold(to.Path, u.Path) || to.RawQuery != u.RawQuery || to.Host != u.Host {
					t.Errorf("GET %q leads to %q", path, location)
				} else if again := ask(to); again.Code/100 == 3 {
					t.Errorf("GET %q leads to %q, and that to %q", path, location, again.Header().Get("Location"))
				}
			} else if rec.Code >= 500 || rec.Code/100 == 3 {
				t.Errorf("GET %q = %d", path, rec.Code)
			}
			if body := rec.Body.Bytes(); rec.Header().Get("Content-Type") == "application/json" && !json.Valid(body) {
				t.Errorf("GET %q = %s", path, body)
			}
		}
	})
}
