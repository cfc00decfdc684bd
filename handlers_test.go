package rekisteri_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
)

const (
	zipName  = "terraform-provider-hello_1.0.0_linux_amd64.zip"
	sumsName = "terraform-provider-hello_1.0.0_SHA256SUMS"
	files    = "/files/acme/hello/1.0.0/"
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
	size := int64(len(tr["acme/hello/1.0.0/"+zipName]))
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
		pattern  string
		panics   bool
	}{
		{name: "discovery", target: "/.well-known/terraform.json", route: rekisteri.RouteDiscovery, status: 200, bytes: -1, pattern: discoveryPattern},
		{name: "discovery at the root", mount: discovery, target: "/.well-known/terraform.json", route: rekisteri.RouteDiscovery, status: 200, bytes: -1, pattern: discoveryPattern},
		{name: "another path of it", mount: discovery, target: "/", route: rekisteri.RouteOther, status: 404, bytes: -1, err: "no such route"},
		{name: "versions", target: "/v1/providers/acme/hello/versions", route: rekisteri.RouteVersions, provider: acmeHello, status: 200, bytes: -1, pattern: versionsPattern},
		{name: "HEAD", method: "HEAD", target: "/v1/providers/acme/hello/versions", route: rekisteri.RouteVersions, provider: acmeHello, status: 200, pattern: versionsPattern},
		{name: "below a prefix", mount: below, target: "/tf/v1/providers/acme/hello/versions", route: rekisteri.RouteVersions, provider: acmeHello, status: 200, bytes: -1},
		{name: "no such provider", target: "/v1/providers/acme/no/versions", route: rekisteri.RouteVersions, provider: rekisteri.Provider{Namespace: "acme", Type: "no"},
			status: 404, bytes: -1, err: "no", pattern: versionsPattern},
		{name: "HEAD of no such provider", method: "HEAD", target: "/v1/providers/acme/no/versions", route: rekisteri.RouteVersions, provider: rekisteri.Provider{Namespace: "acme", Type: "no"},
			status: 404, err: "no", pattern: versionsPattern},
		{name: "no valid name", target: "/v1/providers/acme/a.b/versions", route: rekisteri.RouteVersions, status: 404, bytes: -1, err: "name", pattern: versionsPattern},
		{name: "not allowed", authorize: fmt.Errorf("rule 7: %w", fs.ErrPermission), target: "/v1/providers/acme/hello/versions", route: rekisteri.RouteVersions,
			provider: acmeHello, status: 403, bytes: -1, err: "rule 7", pattern: versionsPattern},
		{name: "method", method: "POST", target: "/v1/providers/acme/hello/versions", route: rekisteri.RouteVersions, status: 405, bytes: -1, err: "method"},
		{name: "download", target: download100, route: rekisteri.RouteDownload, provider: acmeHello, version: "1.0.0", status: 200, bytes: -1, pattern: downloadPattern},
		{name: "no valid version", target: "/v1/providers/acme/hello/1.0/download/linux/amd64", route: rekisteri.RouteDownload, provider: acmeHello, status: 404, bytes: -1, err: "version", pattern: downloadPattern},
		{name: "zip", target: files + zipName, route: rekisteri.RouteFile, provider: acmeHello, version: "1.0.0", status: 200, bytes: size, pattern: filePattern},
		{name: "HEAD of a zip", method: "HEAD", target: files + zipName, route: rekisteri.RouteFile, provider: acmeHello, version: "1.0.0", status: 200, pattern: filePattern},
		{name: "range", header: [2]string{"Range", "bytes=10-19"}, target: files + zipName, route: rekisteri.RouteFile, provider: acmeHello, version: "1.0.0", status: 206, bytes: 10, pattern: filePattern},
		{name: "two ranges", header: [2]string{"Range", "bytes=0-9,20-29"}, target: files + zipName, route: rekisteri.RouteFile, provider: acmeHello, version: "1.0.0", status: 206, bytes: -1, pattern: filePattern},
		{name: "no such range", header: [2]string{"Range", "bytes=9999999-"}, target: files + zipName, route: rekisteri.RouteFile, provider: acmeHello, version: "1.0.0", status: 416, bytes: -1, err: "range", pattern: filePattern},
		{name: "unchanged", header: [2]string{"If-None-Match", "*"}, target: "/v1/providers/acme/hello/versions", route: rekisteri.RouteVersions, provider: acmeHello, status: 304, pattern: versionsPattern},
		{name: "no such file", target: files + "x.zip", route: rekisteri.RouteFile, provider: acmeHello, version: "1.0.0", status: 404, bytes: -1, err: "no such file", pattern: filePattern},
		{name: "no such route", target: "/v2/", route: rekisteri.RouteOther, status: 404, bytes: -1, err: "no such route"},
		{name: "failure", backend: &fake{err: errors.New("a failure")}, target: "/v1/providers/acme/hello/versions", route: rekisteri.RouteVersions, provider: acmeHello,
			status: 500, bytes: -1, err: "a failure", pattern: versionsPattern},
		{name: "panic", backend: panicky{backend}, target: "/v1/providers/panics/hello/versions", route: rekisteri.RouteVersions, provider: rekisteri.Provider{Namespace: "panics", Type: "hello"},
			status: 500, err: "panic: a backend's bug", pattern: versionsPattern, panics: true},
		{name: "unreadable zip", backend: &broken{FSBackend: backend, after: 100, err: errAway}, target: files + zipName, route: rekisteri.RouteFile, provider: acmeHello, version: "1.0.0",
			status: 200, bytes: 100, err: zipName + " of acme/hello 1.0.0: it broke off after 100 bytes: the bucket is away", pattern: filePattern},
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
			if want := (rekisteri.Event{Route: test.route, Provider: test.provider, Version: test.version, Status: test.status, Bytes: test.bytes}); e != want {
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
	rekisteri.New(backend, &rekisteri.Options{Logger: quiet(t), Observe: observe}).ServeHTTP(w, httptest.NewRequest("GET", files+zipName, nil))
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

// A broken backend has zips that cannot be read to their end.
type broken struct {
	*rekisteri.FSBackend
	after int
	err   error
}

type brokenFile struct {
	io.ReadSeekCloser
	b    *broken
	left int
}

func (b *broken) Open(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
	f, err := b.FSBackend.Open(ctx, p, version, name)
	return &brokenFile{f, b, b.after}, err
}

func (f *brokenFile) Read(b []byte) (int, error) {
	if f.left == 0 {
		return 0, f.b.err
	}
	n, err := f.ReadSeekCloser.Read(b[:min(len(b), f.left)])
	f.left -= n
	return n, err
}

// A keeping backend keeps the file that it opened last.
type keeping struct {
	*rekisteri.FSBackend
	file io.ReadSeekCloser
}

func (k *keeping) Open(ctx context.Context, p rekisteri.Provider, version, name string) (_ io.ReadSeekCloser, err error) {
	k.file, err = k.FSBackend.Open(ctx, p, version, name)
	return k.file, err
}

// A zip that breaks off is logged with its name, at error level if the client is
// not the reason.
func TestBrokenOff(t *testing.T) {
	const size = 4 << 20
	tr := newTree(t, "1.0.0")
	tr["acme/hello/1.0.0/"+zipName] = strings.Repeat("\x00", size) + tr["acme/hello/1.0.0/"+zipName]
	dir := t.TempDir()
	tr.write(t, dir)
	disk := newBackend(t, rootFS(t, dir))
	kept := &keeping{FSBackend: disk}
	for _, test := range []struct {
		name    string
		backend rekisteri.Backend
		timeout time.Duration // the server's WriteTimeout
		during  func()        // after the first bytes have come
		level   string
		err     string
	}{
		{name: "read error", backend: &broken{FSBackend: disk, after: size / 2, err: errAway}, level: "ERROR", err: errAway.Error()},
		{name: "shorter than its size", backend: &broken{FSBackend: disk, after: size / 2, err: io.EOF}, level: "ERROR", err: "unexpected EOF"},
		{name: "client hangs up", backend: &broken{FSBackend: disk, after: 2 * size}, during: func() {}, level: "DEBUG", err: "the client hung up"},
		{name: "client of a file hangs up", backend: disk, during: func() {}, level: "DEBUG", err: "the client hung up"},
		{name: "file fails", backend: kept, timeout: time.Minute, level: "ERROR", err: "file already closed", during: func() { kept.file.Close() }},
		{name: "truncated file", backend: disk, level: "ERROR", err: "unexpected EOF",
			during: func() { os.Truncate(dir+"/acme/hello/1.0.0/"+zipName, size/2) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := newLogBuffer()
			events := make(chan rekisteri.Event, 1)
			srv := httptest.NewUnstartedServer(rekisteri.New(test.backend, &rekisteri.Options{
				Logger: log.logger(), Observe: func(_ *http.Request, e rekisteri.Event) { events <- e },
			}))
			srv.Config.WriteTimeout = test.timeout
			srv.Start()
			defer srv.Close()
			resp, err := http.Get(srv.URL + files + zipName)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			io.CopyN(io.Discard, resp.Body, 1000)
			hangsUp := test.level == "DEBUG"
			switch {
			case hangsUp:
				resp.Body.Close()
			case test.during != nil:
				test.during()
			}
			if _, err := io.Copy(io.Discard, resp.Body); err == nil {
				t.Error("the client takes it for the whole file")
			}
			var e rekisteri.Event
			select {
			case e = <-events:
			case <-time.After(10 * time.Second):
				t.Fatal("no event")
			}
			if e.Status != 200 || e.Bytes == 0 || e.Bytes >= size || e.Err == nil || !strings.Contains(e.Err.Error(), test.err) {
				t.Errorf("event %+v", e)
			}
			if s := log.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "level="+test.level) || !strings.Contains(s, zipName+" of acme/hello 1.0.0: ") || !strings.Contains(s, test.err) {
				t.Errorf("the log says\n%s", s)
			}
		})
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
		{name: "file", target: "/files/Acme/hello/1.0.0/" + sumsName},
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
