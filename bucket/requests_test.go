package bucket_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/bucket"
	"google.golang.org/api/googleapi"
)

// TestRequests tests how many requests each thing costs.
func TestRequests(t *testing.T) {
	for _, stream := range []bool{false, true} {
		t.Run(fmt.Sprintf("stream=%t", stream), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testRequests(t, stream) })
		})
	}
}

func testRequests(t *testing.T, stream bool) {
	b, f := newMemory()
	f.urls = "https://store.example.com/"
	addObject(t, b, "acme/acme.asc", testKey().Armor())
	for i := range 3 {
		addRelease(t, b, fmt.Sprintf("1.%d.0", i))
	}
	time.Sleep(time.Hour)
	r := newReplica(t, b, &bucket.Options{Stream: stream})
	reg := rekisteri.New(r, &rekisteri.Options{Logger: quiet(t)})
	// mustCost makes a request, and checks what it costs.
	mustCost := func(what, method, path string, header [2]string, status int, want ...string) {
		t.Helper()
		f.takeCalls()
		req := httptest.NewRequest(method, path, nil)
		if header[0] != "" {
			req.Header.Set(header[0], header[1])
		}
		rec := httptest.NewRecorder()
		reg.ServeHTTP(rec, req)
		synctest.Wait()
		if rec.Code != status {
			t.Errorf("%s: status %d, want %d: %s", what, rec.Code, status, rec.Body)
		}
		if got := f.takeCalls(); !slices.Equal(got, want) {
			t.Errorf("%s costs %q, want %q", what, got, want)
		}
	}
	const versions, download = "/v1/providers/acme/foo/versions", "/v1/providers/acme/foo/1.1.0/download/linux/amd64"
	zip := "/files/acme/foo/1.1.0/" + zipOf("1.1.0")
	none := [2]string{}
	release := func(version string) (calls []string) {
		dir := "acme/foo/" + version + "/"
		return []string{"GET " + dir + sumsOf(version), "GET " + dir + sigOf(version), "GET " + dir + "terraform-provider-foo_" + version + "_manifest.json", "LIST " + dir}
	}
	refresh := []string{"LIST ", "LIST acme/", "LIST acme/foo/"}
	cold := slices.Concat([]string{"GET acme/acme.asc"}, release("1.0.0"), release("1.1.0"), release("1.2.0"), refresh)
	slices.Sort(cold)

	mustCost("the first answer", "GET", versions, none, 200, cold...)
	mustCost("versions", "GET", versions, none, 200)
	mustCost("download", "GET", download, none, 200)
	mustCost("an unknown version", "GET", "/v1/providers/acme/foo/9.0.0/download/linux/amd64", none, 404)
	mustCost("an unknown provider", "GET", "/v1/providers/acme/bar/versions", none, 404)
	mustCost("an unknown namespace", "GET", "/v1/providers/evil/foo/versions", none, 404)
	mustCost("SHA256SUMS", "GET", "/files/acme/foo/1.1.0/"+sumsOf("1.1.0"), none, 200)
	mustCost("the signature", "GET", "/files/acme/foo/1.1.0/"+sigOf("1.1.0"), none, 200)
	mustCost("HEAD of a zip", "HEAD", zip, none, 200)
	if stream {
		mustCost("a zip", "GET", zip, none, 200, "GET acme/foo/1.1.0/"+zipOf("1.1.0"))
		mustCost("a part of a zip", "GET", zip, [2]string{"Range", "bytes=0-9"}, 206, "GET acme/foo/1.1.0/"+zipOf("1.1.0"))
		mustCost("the rest of a zip", "GET", zip, [2]string{"Range", "bytes=5-"}, 206, "GET acme/foo/1.1.0/"+zipOf("1.1.0"), "GET acme/foo/1.1.0/"+zipOf("1.1.0"))
	} else {
		mustCost("a zip", "GET", zip, none, 302)
	}
	time.Sleep(24 * time.Hour)
	if calls := f.takeCalls(); len(calls) > 0 {
		t.Errorf("a day without requests costs %q", calls)
	}
	mustCost("a refresh", "GET", versions, none, 200, refresh...)
	time.Sleep(9 * time.Second)
	mustCost("no refresh before it is due", "GET", versions, none, 200)
	time.Sleep(3 * time.Second)
	addRelease(t, b, "2.0.0")
	mustCost("a new version", "GET", versions, none, 200, slices.Sorted(slices.Values(slices.Concat(release("2.0.0"), refresh)))...)
	mustCost("the new version", "GET", "/v1/providers/acme/foo/2.0.0/download/linux/amd64", none, 200)
	time.Sleep(12 * time.Second)
	mustCost("a refresh after a new version", "GET", versions, none, 200, refresh...)
	addObject(t, b, "acme/acme.asc", testKey().Armor()+"\n")
	time.Sleep(12 * time.Second)
	mustCost("a changed key", "GET", versions, none, 200, append([]string{"GET acme/acme.asc"}, refresh...)...)
}

// TestRequestsOfMany tests what providers share, and what many versions cost.
func TestRequestsOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, f := newMemory()
		addObject(t, b, "acme/acme.asc", testKey().Armor())
		const providers, versions = 10, 1100
		files := build("1.0.0", "")
		for i := range providers {
			typ := fmt.Sprint("p", i)
			for name, content := range files {
				addObject(t, b, "acme/"+typ+"/1.0.0/"+strings.ReplaceAll(name, "-foo_", "-"+typ+"_"), strings.ReplaceAll(content, "-foo_", "-"+typ+"_"))
			}
		}
		for i := range versions { // of which only the names are read again
			addObject(t, b, fmt.Sprintf("acme/p0/0.%d.0/README", i), "")
		}
		r := newReplica(t, b, nil)
		ask := func() {
			for i := range providers {
				if _, err := r.Versions(t.Context(), rekisteri.Provider{Namespace: "acme", Type: fmt.Sprint("p", i)}); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
		}
		for range 20 { // until all that is broken rests
			ask()
			time.Sleep(12 * time.Second)
		}
		f.takeCalls()
		ask()
		counts := make(map[string]int)
		for _, call := range f.takeCalls() {
			counts[call]++
		}
		for call, n := range counts {
			want := 1
			if call == "LIST MORE acme/p0/" {
				want = versions / 1000
			}
			if n != want {
				t.Errorf("%d of %q, want %d", n, call, want)
			}
		}
		// Each provider, the rest of the large one, the namespace, the root, and ten
		// of the directories that are no releases.
		if want := providers + 1 + 1 + 1 + 10; len(counts) != want {
			t.Errorf("%d kinds of requests, want %d: %v", len(counts), want, counts)
		}
	})
}

// TestStreamIsNotBuffered tests that a zip that the registry sends takes no memory
// of its size.
func TestStreamIsNotBuffered(t *testing.T) {
	const size = 64 << 20
	b, _ := newMemory()
	addObject(t, b, "acme/acme.asc", testKey().Armor())
	files := build("1.0.0", "")
	zip := files[zipOf("1.0.0")]
	large := strings.Repeat("x", size)
	files[sumsOf("1.0.0")] = strings.ReplaceAll(files[sumsOf("1.0.0")], fmt.Sprintf("%x", sha256.Sum256([]byte(zip))), fmt.Sprintf("%x", sha256.Sum256([]byte(large))))
	files[zipOf("1.0.0")] = large
	for name, content := range files {
		addObject(t, b, "acme/foo/1.0.0/"+name, content)
	}
	reg := rekisteri.New(newReplica(t, b, &bucket.Options{Stream: true}), &rekisteri.Options{Logger: quiet(t)})
	srv := httptest.NewServer(reg)
	defer srv.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	resp, err := http.Get(srv.URL + "/files/acme/foo/1.0.0/" + zipOf("1.0.0"))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	n, err := io.Copy(io.Discard, resp.Body)
	runtime.ReadMemStats(&after)
	if n != size || err != nil {
		t.Errorf("%d bytes, %v", n, err)
	}
	if allocated := after.TotalAlloc - before.TotalAlloc; allocated > size/8 {
		t.Errorf("%d bytes were allocated", allocated)
	}
}

// TestSlowDown tests that requests stop for a while when the store asks for that.
func TestSlowDown(t *testing.T) {
	for name, err := range map[string]error{
		"Amazon": slowDown,
		"Azure":  &azcore.ResponseError{StatusCode: 503, ErrorCode: "ServerBusy"},
		"Google": &googleapi.Error{Code: 503},
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { testSlowDown(t, err) }) })
	}
}

func testSlowDown(t *testing.T, busy error) {
	b, f := newMemory()
	addObject(t, b, "acme/acme.asc", testKey().Armor())
	addRelease(t, b, "1.0.0")
	f.set(func(f *faulty) { f.before = func(string, string) error { return busy } })
	r := newReplica(t, b, nil)
	reg := rekisteri.New(r, &rekisteri.Options{Logger: quiet(t)})
	for range 600 {
		rec := httptest.NewRecorder()
		reg.ServeHTTP(rec, httptest.NewRequest("GET", "/v1/providers/acme/foo/versions", nil))
		if rec.Code != http.StatusInternalServerError {
			t.Fatalf("status %d", rec.Code)
		}
		time.Sleep(time.Second)
	}
	if n := len(f.takeCalls()); n > 30 || n < 10 {
		t.Errorf("%d requests in ten minutes", n)
	}
	f.heal()
	time.Sleep(2 * time.Minute)
	if _, err := r.Versions(t.Context(), acmeFoo); err != nil {
		t.Error(err)
	}
}
