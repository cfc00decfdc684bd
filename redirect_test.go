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
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
)

// A redirecting backend redirects to its zips.
type redirecting struct {
	*rekisteri.FSBackend
	url string
}

func (b redirecting) Open(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
	if !strings.HasSuffix(name, ".zip") {
		return b.FSBackend.Open(ctx, p, version, name)
	}
	return nil, fmt.Errorf("in the store: %w", &rekisteri.Redirect{URL: b.url, Size: 1234})
}

func TestRedirect(t *testing.T) {
	const signed = "https://store.example.com/acme/hello.zip?X-Signature=secret"
	root := func(r *rekisteri.Registry) http.Handler { return r }
	tests := map[string]struct {
		method, url, name string
		header            [2]string
		status            int
		want              http.Header // empty values: the header is absent
		err               string
	}{
		"GET": {
			method: "GET", url: signed, name: zip100, status: 302,
			want: http.Header{"Location": {signed}, "Cache-Control": {"no-store"}, "Etag": nil},
		},
		"GET of a range": {
			method: "GET", url: signed, name: zip100, header: [2]string{"Range", "bytes=5-"}, status: 302,
			want: http.Header{"Location": {signed}},
		},
		"HEAD": {
			method: "HEAD", url: signed, name: zip100, status: 200,
			want: http.Header{
				"Location": nil, "Content-Length": {"1234"}, "Content-Type": {"application/zip"}, "Accept-Ranges": {"bytes"}, "Cache-Control": {"no-cache"},
				"Etag": {fmt.Sprintf(`"%x"`, sha256.Sum256([]byte(sampleFile(t, "demo/hello/1.0.0/terraform-provider-hello_1.0.0_linux_amd64.zip"))))},
			},
		},
		"file that is served here": {
			method: "GET", url: signed, name: sums100, status: 200, want: http.Header{"Location": nil},
		},
		"relative URL": {
			method: "GET", url: "/secret", name: zip100, status: 500, err: "not an absolute http or https URL",
			want: http.Header{"Location": nil},
		},
		"relative URL that begins as a scheme does": {
			method: "GET", url: "https/secret", name: zip100, status: 500, err: "not an absolute http or https URL",
			want: http.Header{"Location": nil},
		},
		"URL with a line break": {
			method: "GET", url: "https://store.example.com/\r\nsecret", name: zip100, status: 500, err: "not an absolute http or https URL",
			want: http.Header{"Location": nil},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			backend := redirecting{newBackend(t, newTree(t, "1.0.0").mapFS()), test.url}
			req := httptest.NewRequest(test.method, files+test.name, nil)
			if test.header[0] != "" {
				req.Header.Set(test.header[0], test.header[1])
			}
			rec, e, _ := observed(t, backend, rekisteri.Options{}, root, req)
			if rec.Code != test.status || e.Status != test.status {
				t.Errorf("status %d, in the event %d, want %d", rec.Code, e.Status, test.status)
			}
			for key, want := range test.want {
				if got := rec.Header()[key]; strings.Join(got, ",") != strings.Join(want, ",") {
					t.Errorf("%s is %q, want %q", key, got, want)
				}
			}
			if got := fmt.Sprint(e.Err); (e.Err != nil) != (test.err != "") || !strings.Contains(got, test.err) || strings.Contains(got, "secret") {
				t.Errorf("the event's error is %v, want %q", e.Err, test.err)
			}
		})
	}
}

// An objectFS is a URLFS. It counts its calls, and fails if it is told.
type objectFS struct {
	*virtualFS
	url  string // of files, before their names; empty: there are no URLs
	fail error
}

func (o *objectFS) URL(_ context.Context, name string) (string, error) {
	switch {
	case o.fail != nil:
		return "", o.fail
	case o.url == "":
		return "", errors.ErrUnsupported
	}
	return o.url + name, nil
}

func (o *objectFS) Open(name string) (fs.File, error) {
	if o.fail != nil {
		return nil, o.fail
	}
	return o.virtualFS.Open(name)
}

func TestObjectDownload(t *testing.T) {
	const name = "terraform-provider-p0_1.0.0_os0_amd64.zip"
	v := newVirtualFS(t, 1, 1, 1, 0)
	tests := map[string]struct {
		method string
		url    string
		rng    string
		fail   error
		status int
		body   string
		calls  int64
	}{
		"redirect":            {method: "GET", url: "https://store.example.com/", status: 302},
		"HEAD, with redirect": {method: "HEAD", url: "https://store.example.com/", status: 200},
		"streamed":            {method: "GET", status: 200, body: v.zip, calls: 3},
		"streamed range":      {method: "GET", rng: "bytes=5-9", status: 206, body: v.zip[5:10], calls: 2},
		"HEAD":                {method: "HEAD", status: 200},
		"outage":              {method: "GET", fail: errors.New("503 SlowDown"), url: "https://store.example.com/", status: 500},
		"gone from the store": {method: "GET", fail: fs.ErrNotExist, status: 500},
	}
	for name2, test := range tests {
		t.Run(name2, func(t *testing.T) {
			v := newVirtualFS(t, 1, 1, 1, 0)
			o := &objectFS{virtualFS: v, url: test.url}
			backend := rekisteri.NewFSBackend(o, &rekisteri.FSOptions{Logger: quiet(t)})
			reg := rekisteri.New(backend, &rekisteri.Options{Logger: quiet(t)})
			if _, err := backend.Versions(t.Context(), rekisteri.Provider{Namespace: "acme", Type: "p0"}); err != nil {
				t.Fatal(err)
			}
			v.calls.Store(0)
			o.fail = test.fail
			req := httptest.NewRequest(test.method, "/files/acme/p0/1.0.0/"+name, nil)
			if test.rng != "" {
				req.Header.Set("Range", test.rng)
			}
			rec := httptest.NewRecorder()
			reg.ServeHTTP(rec, req)
			if rec.Code != test.status || rec.Code < 300 && rec.Body.String() != test.body {
				t.Errorf("answer %d of %d bytes, want %d of %d", rec.Code, rec.Body.Len(), test.status, len(test.body))
			}
			if test.fail == nil && v.calls.Load() > test.calls {
				t.Errorf("%d calls, want %d", v.calls.Load(), test.calls)
			}
			if got := rec.Header().Get("Location"); test.status == 302 && got != test.url+"acme/p0/1.0.0/"+name {
				t.Errorf("location %q", got)
			}
		})
	}
}

func TestRefreshEvery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVirtualFS(t, 3, 1, 1, 0)
		o := &objectFS{virtualFS: v}
		b := rekisteri.NewFSBackend(o, &rekisteri.FSOptions{Logger: quiet(t), RefreshEvery: 10 * time.Second})
		ask := func() (versions int) {
			for i := range 3 {
				l, err := b.Versions(t.Context(), rekisteri.Provider{Namespace: "acme", Type: fmt.Sprint("p", i)})
				if err != nil {
					t.Fatal(err)
				}
				versions += len(l.Versions)
			}
			synctest.Wait()
			return versions
		}
		ask()
		v.calls.Store(0)
		time.Sleep(9 * time.Second)
		if ask(); v.calls.Load() != 0 {
			t.Errorf("%d calls after 9 s", v.calls.Load())
		}
		v.releases = 2
		time.Sleep(3 * time.Second) // now a request waits
		if n := ask(); n != 6 {
			t.Errorf("%d versions after 12 s", n)
		}
		time.Sleep(time.Minute)
		v.calls.Store(0)
		for range 60 {
			time.Sleep(time.Second)
			ask()
		}
		// Three listings of providers, those of the root and the namespace, and
		// the attributes of the key, which an object store has in the listing.
		if n := v.calls.Load() / 6; n > 3+1+1+1 {
			t.Errorf("%d calls in 10 s", n)
		}
	})
}
