package rekisteri_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri"
)

// A generous backend returns a new value for each call, unless it has one.
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

// A cached page is used while the backend returns the same value, and the cache
// does not exceed its limit.
func TestPageCache(t *testing.T) {
	for _, test := range []struct {
		name         string
		limit, bound int64
	}{
		{name: "default", limit: 0, bound: 16 << 20},
		{name: "none", limit: -1, bound: 0},
		{name: "small", limit: 10_000, bound: 10_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			g := new(generous)
			reg := rekisteri.New(g, &rekisteri.Options{Logger: quiet(t), PageBytes: test.limit})
			ask := func(i int) string {
				return body(t, get(reg, "GET", fmt.Sprintf("/v1/providers/acme/p%d/versions", i)))
			}
			first := ask(0)
			if again := ask(0); again != first {
				t.Errorf("another pointer to the same value: %s", again)
			}
			g.n = 1
			second := ask(0)
			if second == first || !strings.Contains(second, "1.0.3") {
				t.Errorf("another value: %s", second)
			}
			for i := range 100 {
				ask(i)
			}
			if n, size := rekisteri.Pages(reg); size > test.bound || int64(n)*600 > size || (n == 0) != (test.bound == 0) {
				t.Errorf("the cache has %d pages of %d bytes", n, size)
			}
			g.listing = &rekisteri.Listing{Versions: []rekisteri.Version{{Version: "1.0.0"}, {Version: "2.0.0"}}}
			ask(0)
			edited := *g.listing
			edited.Versions = edited.Versions[:1]
			g.listing = &edited
			if got := ask(0); strings.Contains(got, "2.0.0") {
				t.Errorf("an edited copy: %s", got)
			}
		})
	}
}

// A page that is larger than the cache evicts no others, and takes the place of
// its older version.
func TestPageLargerThanCache(t *testing.T) {
	backend := &generous{release: onePackage()}
	reg := rekisteri.New(backend, &rekisteri.Options{Logger: quiet(t), PageBytes: 60_000})
	for i := range 5 {
		get(reg, "GET", fmt.Sprintf("/v1/providers/acme/foo/1.0.%d/download/linux/amd64", i))
	}
	for _, warning := range []string{"short", strings.Repeat("w", 63_000)} {
		backend.listing = &rekisteri.Listing{Versions: []rekisteri.Version{{Version: "1.0.0"}}, Warnings: []string{warning}}
		if got := body(t, get(reg, "GET", "/v1/providers/acme/foo/versions")); !strings.Contains(got, warning) {
			t.Errorf("got %.200s", got)
		}
	}
	if n, size := rekisteri.Pages(reg); n != 5 {
		t.Errorf("the cache has %d pages of %d bytes", n, size)
	}
}

// A cached page does not keep the request in memory.
func TestCacheKeepsNoRequests(t *testing.T) {
	const n, queryLen = 20, 256 << 10
	tr := newTree(t)
	for i := range n {
		tr[fmt.Sprintf("acme/p%d.json", i)] = documentOf("1.0.0")
	}
	query := strings.Repeat("x", queryLen)
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
		if grown := heapInUse() - before; grown > n*queryLen/2 {
			t.Errorf("PageBytes %d: the heap has grown by %d KiB", pageBytes, grown>>10)
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

// A cached page does not keep the value in memory that it was made from.
func TestCacheKeepsNoValues(t *testing.T) {
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
		t.Error("the page is not in the cache")
	}
}
