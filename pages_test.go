package rekisteri_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri"
)

// TestGzip compresses what there is of a provider for the clients that take
// it, and nothing else.
func TestGzip(t *testing.T) {
	tr := newTree(t, "1.0.0", "2.0.0", "3.0.0")
	reg := newRegistry(t, newBackend(t, tr.mapFS()))
	const versions = "/v1/providers/acme/hello/versions"
	ask := func(target string, header ...string) *http.Response {
		req := httptest.NewRequest("GET", target, nil)
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		rec := httptest.NewRecorder()
		reg.ServeHTTP(rec, req)
		return rec.Result()
	}
	plain := ask(versions)
	want := body(t, plain)
	var tag string
	for accept, compressed := range map[string]bool{
		"gzip": true, "gzip, deflate, br": true, "br;q=1.0, gzip;q=0.8": true, "GZIP": true, "deflate,gzip ; q=0.001": true,
		"": false, "identity": false, "gzip;q=0": false, "gzip; q=0.0": false, "x-gzip": false, "br": false,
	} {
		resp := ask(versions, "Accept-Encoding", accept)
		if got := resp.Header.Get("Content-Encoding") == "gzip"; got != compressed || resp.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%q: header %v", accept, resp.Header)
		}
		if resp.Header.Get("Content-Length") != fmt.Sprint(resp.ContentLength) || resp.ContentLength <= 0 {
			t.Errorf("%q: length %v", accept, resp.Header)
		}
		if !compressed {
			continue
		}
		tag = resp.Header.Get("ETag")
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(z); err != nil || string(got) != want {
			t.Errorf("%q: %v %s", accept, err, got)
		}
	}
	if tag == plain.Header.Get("ETag") {
		t.Error("two representations have one strong ETag")
	}
	if resp := ask(versions, "Accept-Encoding", "gzip", "If-None-Match", tag); resp.StatusCode != 304 {
		t.Errorf("its own ETag: %s", resp.Status)
	}
	if resp := ask(versions, "Accept-Encoding", "gzip", "Range", "bytes=0-9"); resp.StatusCode != 206 || body(t, resp) != want[:10] || resp.Header.Get("Content-Encoding") != "" {
		t.Errorf("a range: %s %v", resp.Status, resp.Header)
	}
	for _, target := range []string{download100, "/.well-known/terraform.json", "/files/acme/hello/1.0.0/terraform-provider-hello_1.0.0_SHA256SUMS", "/v1/providers/acme/no/versions"} {
		if resp := ask(target, "Accept-Encoding", "gzip"); resp.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s is compressed", target)
		}
	}
}

// A generous backend makes a value anew for each call, unless it has one.
type generous struct {
	listing *rekisteri.Listing
	release *rekisteri.Release
	n       int
}

func (g *generous) Versions(context.Context, rekisteri.Provider) (*rekisteri.Listing, error) {
	if g.listing != nil {
		return g.listing, nil
	}
	l := &rekisteri.Listing{Warnings: []string{strings.Repeat("w", 1000)}}
	for i := range 3 + g.n {
		l.Versions = append(l.Versions, rekisteri.Version{Version: fmt.Sprintf("1.0.%d", i)})
	}
	return l, nil
}

func (g *generous) Release(context.Context, rekisteri.Provider, string) (*rekisteri.Release, error) {
	return g.release, nil
}

// TestPageCache holds the page of a value as long as that is the same, and no
// more than it may.
func TestPageCache(t *testing.T) {
	for _, bytes := range []int64{0, -1, 10_000} {
		g := new(generous)
		reg := rekisteri.New(g, &rekisteri.Options{Logger: quiet(t), PageBytes: bytes})
		ask := func(i int) string {
			return body(t, get(reg, "GET", fmt.Sprintf("/v1/providers/acme/p%d/versions", i)))
		}
		first := ask(0)
		if again := ask(0); again != first {
			t.Errorf("another pointer to the same content: %s", again)
		}
		g.n = 1
		second := ask(0)
		if second == first || !strings.Contains(second, "1.0.3") {
			t.Errorf("another content: %s", second)
		}
		for i := range 100 {
			ask(i)
		}
		limit := bytes
		if limit == 0 {
			limit = 16 << 20
		}
		if n, size := rekisteri.Pages(reg); size > max(limit, 0) || int64(n)*600 > size || n == 0 && bytes >= 0 {
			t.Errorf("PageBytes %d: %d pages of %d bytes are held", bytes, n, size)
		}
		// A copy that was edited is not the original.
		g.listing = &rekisteri.Listing{Versions: []rekisteri.Version{{Version: "1.0.0"}, {Version: "2.0.0"}}}
		ask(0)
		edited := *g.listing
		edited.Versions = edited.Versions[:1]
		g.listing = &edited
		if got := ask(0); strings.Contains(got, "2.0.0") {
			t.Errorf("a copy without a version: %s", got)
		}
	}
}

// TestEncodedKeys serves packages with more keys, and larger ones, than there
// is room for.
func TestEncodedKeys(t *testing.T) {
	for _, limit := range []int64{-1, 1, 64 << 10} {
		backend := new(fake)
		reg := rekisteri.New(backend, &rekisteri.Options{Logger: quiet(t), PageBytes: limit})
		for i := range 300 {
			armor := "-----BEGIN PGP PUBLIC KEY BLOCK-----" + strings.Repeat("\nA", 10*(i%250))
			backend.release = &rekisteri.Release{Protocols: []string{"5.0"}, Packages: []rekisteri.Package{{Platform: rekisteri.Platform{OS: "linux", Arch: "amd64"},
				Filename: "f", URL: "u", SHASumsURL: "s", SHASumsSignatureURL: "s",
				SigningKeys: []rekisteri.SigningKey{{KeyID: fmt.Sprint(i), ASCIIArmor: armor}, {ASCIIArmor: armor}}}}}
			got := body(t, get(reg, "GET", fmt.Sprintf("/v1/providers/acme/foo/1.0.%d/download/linux/amd64", i)))
			if want := packageText(t, backend.release, 2); got != want {
				t.Fatalf("got\n%s\nwant\n%s", got, want)
			}
			if _, size := rekisteri.Pages(reg); size > max(limit, 0) {
				t.Fatalf("PageBytes %d: %d bytes are held", limit, size)
			}
		}
	}
}

// TestNoHeldRequests asks with queries of a megabyte: what is held of them
// afterwards are a few names.
func TestNoHeldRequests(t *testing.T) {
	tr := newTree(t)
	const n = 60
	for i := range n {
		tr[fmt.Sprintf("acme/p%d.json", i)] = documentOf("1.0.0")
	}
	query := strings.Repeat("x", 1<<20)
	for _, pageBytes := range []int64{0, -1} {
		reg := rekisteri.New(newBackend(t, tr.mapFS()), &rekisteri.Options{Logger: quiet(t), PageBytes: pageBytes})
		before := heapInUse()
		for i := range n {
			for _, path := range []string{"versions", "1.0.0/download/linux/amd64"} {
				req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(fmt.Sprintf("GET /v1/providers/acme/p%d/%s?%s HTTP/1.1\r\nHost: registry.test\r\n\r\n", i, path, query))))
				if err != nil {
					t.Fatal(err)
				}
				rec := httptest.NewRecorder()
				if reg.ServeHTTP(rec, req); rec.Code != http.StatusOK {
					t.Fatalf("%s of p%d: %d", path, i, rec.Code)
				}
			}
		}
		if grown := heapInUse() - before; grown > 20<<20 {
			t.Errorf("PageBytes %d: %d MiB are held", pageBytes, grown>>20)
		}
		runtime.KeepAlive(reg)
	}
}

func heapInUse() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

// TestCutKeys holds keys, and not what a backend has cut them from.
func TestCutKeys(t *testing.T) {
	backend := new(fake)
	reg := newRegistry(t, backend)
	before := heapInUse()
	for i := range 60 {
		file := fmt.Sprintf("%d-----BEGIN PGP PUBLIC KEY BLOCK-----%s", i, strings.Repeat("x", 1<<20))
		backend.release = &rekisteri.Release{Packages: []rekisteri.Package{{Platform: rekisteri.Platform{OS: "linux", Arch: "amd64"},
			Filename: "f", URL: "u", SHASumsURL: "s", SHASumsSignatureURL: "s",
			SigningKeys: []rekisteri.SigningKey{{KeyID: file[:2], ASCIIArmor: file[strings.Index(file, "-"):][:50]}}}}}
		get(reg, "GET", "/v1/providers/acme/foo/1.0.0/download/linux/amd64")
	}
	if grown := heapInUse() - before; grown > 20<<20 {
		t.Errorf("%d MiB are held", grown>>20)
	}
	runtime.KeepAlive(reg)
}

// TestLargePage serves a page that there is no room for beside the keys. It
// takes no other's place.
func TestLargePage(t *testing.T) {
	const limit = 68_000
	backend := &fake{release: &rekisteri.Release{Packages: []rekisteri.Package{{Platform: rekisteri.Platform{OS: "linux", Arch: "amd64"},
		Filename: "f", URL: "u", SHASumsURL: "s", SHASumsSignatureURL: "s", SigningKeys: []rekisteri.SigningKey{{ASCIIArmor: "-----BEGIN PGP PUBLIC KEY BLOCK-----" + strings.Repeat("A", 1500)}}}}}}
	reg := rekisteri.New(backend, &rekisteri.Options{Logger: quiet(t), PageBytes: limit})
	for i := range 5 {
		get(reg, "GET", fmt.Sprintf("/v1/providers/acme/foo/1.0.%d/download/linux/amd64", i))
	}
	backend.listing = &rekisteri.Listing{Versions: []rekisteri.Version{{Version: "1.0.0"}}, Warnings: []string{strings.Repeat("w", 63_000)}}
	get(reg, "GET", "/v1/providers/acme/foo/versions")
	if n, size := rekisteri.Pages(reg); n < 5 {
		t.Errorf("%d pages of %d bytes are held", n, size)
	}
}

// TestPageCacheHoldsNoValues keeps pages, and lets go of what they were made
// of.
func TestPageCacheHoldsNoValues(t *testing.T) {
	g := &generous{listing: &rekisteri.Listing{Versions: []rekisteri.Version{{Version: "1.0.0"}}}}
	reg := newRegistry(t, g)
	gone := make(chan bool)
	runtime.AddCleanup(g.listing, func(int) { close(gone) }, 0)
	get(reg, "GET", "/v1/providers/acme/foo/versions")
	g.listing = nil
	runtime.GC()
	select {
	case <-gone:
	case <-t.Context().Done():
	}
	if n, _ := rekisteri.Pages(reg); n != 1 {
		t.Error("the page is not held")
	}
}
