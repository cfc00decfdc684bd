package rekisteri_test

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
)

// A faulty backend does in each namespace what the namespace is called.
type faulty struct{ ended chan error }

func (f faulty) fault(ctx context.Context, p rekisteri.Provider) error {
	switch p.Namespace {
	case "panics":
		panic("a backend's bug")
	case "hangs":
		<-ctx.Done()
		f.ended <- ctx.Err()
		return ctx.Err()
	case "fails":
		return errors.New("a backend's failure")
	}
	return nil
}

func (f faulty) Versions(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
	if err := f.fault(ctx, p); err != nil {
		return nil, err
	}
	return &rekisteri.Listing{Versions: []rekisteri.Version{{Version: "1.0.0"}}}, nil
}

func (f faulty) Release(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
	return nil, f.fault(ctx, p)
}

// TestFaultyBackend costs only the requests that meet the fault, and tells the
// backend when nobody waits any more.
func TestFaultyBackend(t *testing.T) {
	b := faulty{make(chan error, 1)}
	reg := newRegistry(t, b)
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

	if code, err := ask(t.Context(), "hangs", "50ms"); code != 504 || !errors.Is(<-b.ended, context.DeadlineExceeded) {
		t.Errorf("a deadline: %d, %v", code, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if code, err := ask(ctx, "hangs", ""); err == nil {
		t.Errorf("a hang-up is answered with %d", code)
	}
	select {
	case err := <-b.ended:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("after a hang-up: %v", err)
		}
	case <-time.After(5 * time.Second):
		t.Error("a hang-up does not reach the backend")
	}
	good("a hang-up")
}

// TestSlowClients reads a zip on many connections, and gives up on most of
// them: no file and no goroutine stays behind.
func TestSlowClients(t *testing.T) {
	dir := t.TempDir()
	tr := newTree(t, "1.0.0")
	const name = "acme/hello/1.0.0/terraform-provider-hello_1.0.0_linux_amd64.zip"
	tr[name] = strings.Repeat("\x00", 4<<20) + tr[name]
	tr.write(t, dir)
	srv := httptest.NewServer(newFSRegistry(t, rootFS(t, dir)))
	defer srv.Close()
	before, files := runtime.NumGoroutine(), openFiles()
	var group sync.WaitGroup
	for i := range 200 {
		group.Go(func() {
			conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprintf(conn, "GET /files/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", name)
			in := bufio.NewReader(conn)
			if _, err := in.Peek(10); err != nil {
				t.Error(err)
			}
			if i%10 == 0 {
				if n, err := io.Copy(io.Discard, in); err != nil || n < 4<<20 {
					t.Errorf("%d bytes, %v", n, err)
				}
			}
		})
	}
	group.Wait()
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+5 || openFiles() > files+5; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines and %d files, and before %d and %d", runtime.NumGoroutine(), openFiles(), before, files)
		}
	}
}

// openFiles returns the number of this process's open files, where it is told.
func openFiles() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

var soak = flag.Duration("soak", 3*time.Second, "how long TestSoak loads a changing tree")

// TestSoak loads a registry with all kinds of requests while its tree changes,
// breaks and is mended. What stands in the tree all the time is always served,
// and what is served is whole.
func TestSoak(t *testing.T) {

	dir := t.TempDir()
	tr := newTree(t, "1.0.0", "2.0.0")
	for i := range 20 {
		tr[fmt.Sprintf("acme/doc%d.json", i)] = documentOf("1.0.0", "2.0.0")
	}
	tr.write(t, dir)
	backend := rekisteri.NewFSBackend(rootFS(t, dir), &rekisteri.FSOptions{Logger: silent, CacheBytes: 40 << 10}) // half of it
	reg := rekisteri.New(backend, &rekisteri.Options{Logger: silent, LinkKeys: [][32]byte{linkKey(1)}, LinkTTL: 4 * time.Second, PageBytes: 20 << 10})
	srv := httptest.NewServer(reg)
	defer srv.Close()
	before := runtime.NumGoroutine()
	end := time.Now().Add(*soak)
	var requests, wrong atomic.Int64
	complain := func(format string, args ...any) {
		if wrong.Add(1) < 10 {
			t.Errorf(format, args...)
		}
	}
	var group sync.WaitGroup
	worker := func(do func(r *rand.Rand)) {
		group.Go(func() {
			r := rand.New(rand.NewPCG(rand.Uint64(), 1))
			for time.Now().Before(end) {
				do(r)
			}
		})
	}
	ask := func(method, target string) (int, string) {
		requests.Add(1)
		req, err := http.NewRequest(method, srv.URL+target, nil)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			complain("%s %s: %v", method, target, err)
			return 0, ""
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			complain("%s %s: %v", method, target, err)
		}
		return resp.StatusCode, string(b)
	}

	// What changes: a release comes and goes, documents are rewritten, broken
	// and mended, and a root is never seen empty.
	worker(func(r *rand.Rand) {
		coming := newTree(t, "3.0.0")
		delete(coming, "acme/key.asc")
		coming.write(t, dir)
		time.Sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
		os.RemoveAll(filepath.Join(dir, "acme/hello/3.0.0"))
		time.Sleep(time.Duration(r.IntN(500)) * time.Millisecond)
	})
	worker(func(r *rand.Rand) {
		name := filepath.Join(dir, fmt.Sprintf("acme/doc%d.json", r.IntN(20)))
		text := []string{"{", documentOf("1.0.0", "2.0.0"), documentOf("1.0.0", "2.0.0", "3.0.0"), documentOf("1.0.0", "2.0.0")[:200]}[r.IntN(4)]
		os.WriteFile(name+".new", []byte(documentOf("1.0.0", "2.0.0")), 0o666)
		os.Rename(name+".new", name) // a broken one that was dropped is not to be had: mend it first
		time.Sleep(50 * time.Millisecond)
		if r.IntN(2) == 0 {
			os.WriteFile(filepath.Join(dir, "acme/broken.json"), []byte(text), 0o666)
		}
	})
	// What is asked for.
	for range 4 {
		worker(func(r *rand.Rand) {
			code, body := ask("GET", "/v1/providers/acme/hello/versions")
			if code != 200 || !strings.Contains(body, `"1.0.0"`) || !strings.Contains(body, `"2.0.0"`) || !json.Valid([]byte(body)) {
				complain("versions: %d %s", code, body)
			}
			code, body = ask("GET", fmt.Sprintf("/v1/providers/acme/doc%d/2.0.0/download/linux/amd64", r.IntN(20)))
			if code != 200 || !strings.Contains(body, "https://h/f.zip") {
				complain("a document's release: %d %s", code, body)
			}
			for version, must := range map[string]bool{"1.0.0": true, "2.0.0": true, "3.0.0": false} {
				code, body = ask("GET", "/v1/providers/acme/hello/"+version+"/download/linux/amd64")
				if code != 200 && (must || code != 404) {
					complain("download of %s: %d", version, code)
				}
				if code != 200 {
					continue
				}
				var doc struct {
					URL    string `json:"download_url"`
					SHASum string
				}
				json.Unmarshal([]byte(body), &doc)
				base, _ := url.Parse("/v1/providers/acme/hello/" + version + "/download/linux/amd64")
				link, err := base.Parse(doc.URL)
				if err != nil {
					complain("%v", err)
					continue
				}
				code, body = ask("GET", link.String())
				if code == 200 && fmt.Sprintf("%x", sha256.Sum256([]byte(body))) != doc.SHASum || must && code != 200 {
					complain("zip of %s: %d, %d bytes", version, code, len(body))
				}
				if code, _ := ask("GET", link.Path); code != 403 {
					complain("zip without its link: %d", code)
				}
			}
		})
	}
	worker(func(r *rand.Rand) {
		for target, want := range map[string]int{
			fmt.Sprintf("/v1/providers/acme/no%d/versions", r.IntN(1e6)): 404, fmt.Sprintf("/v1/providers/no%d/x/versions", r.IntN(1e6)): 404,
			"/v1/providers/..%2f/x/versions": 404, "/x": 404, "/.well-known/terraform.json": 200,
		} {
			if code, _ := ask("GET", target); code != want {
				complain("GET %s = %d, want %d", target, code, want)
			}
		}
		if code, _ := ask("POST", "/v1/providers/acme/hello/versions"); code != 405 {
			complain("POST = %d", code)
		}
		ask("GET", "/v1/providers/acme/broken/versions")
	})
	worker(func(r *rand.Rand) { // hang-ups, and what is no HTTP
		conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
		if err != nil {
			return
		}
		defer conn.Close()
		io.WriteString(conn, []string{"GET /v1/providers/acme/hello/versions HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 2<<20), "\x00\x01", "GET /v1"}[r.IntN(4)])
	})
	group.Wait()
	http.DefaultClient.CloseIdleConnections()
	t.Logf("%d requests, %d wrong answers", requests.Load(), wrong.Load())
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before+20; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, and before %d", runtime.NumGoroutine(), before)
		}
	}
	if n := rekisteri.Held(backend); n > 25 {
		t.Errorf("%d providers are held", n)
	}
}
