package rekisteri_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
)

// TestFiles asks for everything in a tree below /files/, and gets nothing but
// what the releases name.
func TestFiles(t *testing.T) {
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
			base := path.Base(name)
			want := strings.HasPrefix(name, "acme/hello/1.0.0/terraform-provider-hello_1.0.0_") && !strings.Contains(base, "386")
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
			"/files/acme/hello/1.0.0/%2e%2e", "/files/acme/hello/v1.0.0/terraform-provider-hello_1.0.0_SHA256SUMS",
			"/files/acme/hello/2.0.0/terraform-provider-hello_1.0.0_SHA256SUMS", "/files/acme/hello/3.0.0/f.zip",
			"/files/acme/hello/3.0.0/terraform-provider-hello_3.0.0_SHA256SUMS",
		} {
			if resp := get(reg, "GET", target); resp.StatusCode != 404 {
				t.Errorf("GET %s = %s, want 404", target, resp.Status)
			}
		}
	})
}

// TestZip serves a zip as http.ServeContent does.
func TestZip(t *testing.T) {
	tr := newTree(t, "1.0.0")
	name := "acme/hello/1.0.0/terraform-provider-hello_1.0.0_linux_amd64.zip"
	zip := tr[name]
	etag := fmt.Sprintf(`"%x"`, sha256.Sum256([]byte(zip)))
	eachFS(t, tr, func(t *testing.T, fsys fs.FS) {
		reg := newFSRegistry(t, fsys)
		for _, test := range []struct {
			method string
			header map[string]string
			code   int
			body   string
		}{
			{"GET", nil, 200, zip},
			{"HEAD", nil, 200, ""},
			{"GET", map[string]string{"Range": "bytes=10-19"}, 206, zip[10:20]},
			{"GET", map[string]string{"Range": "bytes=-5"}, 206, zip[len(zip)-5:]},
			{"GET", map[string]string{"Range": "bytes=10-19", "If-Range": etag}, 206, zip[10:20]},
			{"GET", map[string]string{"Range": "bytes=10-19", "If-Range": `"other"`}, 200, zip},
			{"GET", map[string]string{"Range": "bytes=100000-"}, 416, `{"errors":["Requested Range Not Satisfiable"]}`},
			{"GET", map[string]string{"If-Match": `"other"`}, 412, `{"errors":["Precondition Failed"]}`},
			{"GET", map[string]string{"If-None-Match": etag}, 304, ""},
			{"GET", map[string]string{"Accept-Encoding": "gzip"}, 200, zip},
			{"PUT", nil, 405, `{"errors":["Method Not Allowed"]}`},
		} {
			req := httptest.NewRequest(test.method, "/files/"+name, nil)
			for k, v := range test.header {
				req.Header.Set(k, v)
			}
			rec := httptest.NewRecorder()
			reg.ServeHTTP(rec, req)
			resp := rec.Result()
			got := body(t, resp)
			if resp.StatusCode != test.code || got != test.body {
				t.Errorf("%s %v = %s %q", test.method, test.header, resp.Status, got)
			}
			if resp.StatusCode >= 400 && (resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Cache-Control") != "no-store") {
				t.Errorf("%s %v: header %v", test.method, test.header, resp.Header)
			}
			if resp.StatusCode < 300 && (resp.Header.Get("ETag") != etag || resp.Header.Get("Content-Type") != "application/zip" || resp.Header.Get("Content-Encoding") != "") {
				t.Errorf("%s %v: header %v", test.method, test.header, resp.Header)
			}
		}
	})
}

// TestPackageURLs looks at where a package's document leads.
func TestPackageURLs(t *testing.T) {
	b := newBackend(t, newTree(t, "1.0.0").mapFS())
	for external, want := range map[string]string{
		"":                     "../../../../../../../files/",
		"https://h.example/tf": "https://h.example/tf/files/",
		"https://h.example/":   "https://h.example/files/",
	} {
		reg := rekisteri.New(b, &rekisteri.Options{Logger: quiet(t), ExternalURL: external})
		var got struct {
			URL  string `json:"download_url"`
			Sums string `json:"shasums_url"`
			Sig  string `json:"shasums_signature_url"`
			Keys struct {
				Keys []struct {
					ID string `json:"key_id"`
				} `json:"gpg_public_keys"`
			} `json:"signing_keys"`
			Packages any
		}
		if err := json.Unmarshal([]byte(body(t, get(reg, "GET", "/v1/providers/acme/hello/1.0.0/download/linux/amd64"))), &got); err != nil {
			t.Fatal(err)
		}
		base := want + "acme/hello/1.0.0/terraform-provider-hello_1.0.0_"
		if got.URL != base+"linux_amd64.zip" || got.Sums != base+"SHA256SUMS" || got.Sig != base+"SHA256SUMS.sig" {
			t.Errorf("ExternalURL %q: %+v", external, got)
		}
		if len(got.Keys.Keys) != 1 || got.Keys.Keys[0].ID != "3C91E2DDC757EE2B" {
			t.Errorf("keys: %+v", got.Keys)
		}
		if got.Packages != nil { // OpenTofu's own field, which gains nothing here and makes some clients panic
			t.Errorf("packages are sent: %v", got.Packages)
		}
	}
	for _, bad := range []string{"h.example", "/tf", "ftp://h.example", "https://", "https://h/?tenant=1", "https://h/#x", "https://h/?", "https://h#", "https://:80", "::", `https://h"/`} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("New with ExternalURL %q did not panic", bad)
				}
			}()
			rekisteri.New(b, &rekisteri.Options{ExternalURL: bad})
		}()
	}
}

// TestWriteTimeout downloads a zip for five times as long as the server allows
// a response to take.
func TestWriteTimeout(t *testing.T) {
	const size = 8 << 20
	dir := t.TempDir()
	tr := newTree(t, "1.0.0")
	name := "acme/hello/1.0.0/terraform-provider-hello_1.0.0_linux_amd64.zip"
	tr[name] = strings.Repeat("\x00", size) + tr[name] // a zip may begin with anything
	tr.write(t, dir)
	reg := newFSRegistry(t, rootFS(t, dir))
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewUnstartedServer(reg)
			srv.Config.WriteTimeout = 200 * time.Millisecond
			srv.EnableHTTP2 = proto == "HTTP/2.0"
			srv.StartTLS()
			defer srv.Close()
			resp, err := srv.Client().Get(srv.URL + "/files/" + name)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			n, part := 0, make([]byte, size/10)
			for err == nil {
				time.Sleep(100 * time.Millisecond)
				var m int
				m, err = io.ReadFull(resp.Body, part)
				n += m
			}
			if n != len(tr[name]) || resp.Proto != proto {
				t.Errorf("%s: got %d of %d bytes: %v", resp.Proto, n, len(tr[name]), err)
			}
		})
	}
}

// A counting is a ResponseWriter that counts what it gets, and how.
type counting struct {
	http.ResponseWriter
	n        int64
	fromFile bool
}

func (c *counting) Write(b []byte) (int, error) {
	c.n += int64(len(b))
	return len(b), nil
}

func (c *counting) ReadFrom(r io.Reader) (int64, error) {
	limited, ok := r.(*io.LimitedReader) // what a TCP connection sends from the kernel
	if ok {
		_, c.fromFile = limited.R.(*os.File)
	}
	n, err := io.Copy(io.Discard, r)
	c.n += n
	return n, err
}

// TestLargeZip serves a zip that would be noticed in memory, and hands the
// connection the file itself.
func TestLargeZip(t *testing.T) {
	const size = 256 << 20
	dir := t.TempDir()
	tr := newTree(t, "1.0.0")
	tr.write(t, dir)
	name := "acme/hello/1.0.0/terraform-provider-hello_1.0.0_linux_amd64.zip"
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte(tr[name]), size); err != nil { // a zip may begin with anything
		t.Fatal(err)
	}
	f.Close()
	reg := newFSRegistry(t, rootFS(t, dir))
	req := httptest.NewRequest("GET", "/files/"+name, nil)
	reg.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("HEAD", "/files/"+name, nil))

	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	w := &counting{ResponseWriter: httptest.NewRecorder()}
	reg.ServeHTTP(w, req)
	runtime.ReadMemStats(&after)
	if w.n != size+int64(len(tr[name])) {
		t.Errorf("%d bytes were sent", w.n)
	}
	if !w.fromFile {
		t.Error("the connection did not get the file")
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > size/16 {
		t.Errorf("%d bytes were allocated for it", n)
	}
}
