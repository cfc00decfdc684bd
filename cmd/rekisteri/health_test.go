package main

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rekisteri/rekisteri"
)

// TestHealth asks a running command for its health.
func TestHealth(t *testing.T) {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "acme", "bad.json"), "{")
	tokens := filepath.Join(dir, "tokens")
	writeFile(t, tokens, strings.Repeat("ab", 32)+" *\n")
	for _, args := range [][]string{{}, {"-prefix", "/tf"}, {"-tokens", tokens}, {"-access-log"}} {
		s := start(t, append(args, "-dir", dir)...)
		at := strings.TrimSuffix(s.url, "/tf") + healthPath
		if code, body := fetch(t, at); code != 200 || body != `{"status":"ok","problems":0}`+"\n" {
			t.Errorf("%q: before the first look: %d %s", args, code, body)
		}
		for method, want := range map[string]int{"GET": 200, "HEAD": 200, "POST": 405, "OPTIONS": 405} {
			req, err := http.NewRequest(method, at, nil)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := httpClient().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			h := resp.Header
			if resp.StatusCode != want || h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" || (h.Get("Allow") == "GET, HEAD") != (want == 405) {
				t.Errorf("%q: %s: %s %v", args, method, resp.Status, h)
			}
		}
		for _, path := range []string{healthPath + "/", healthPath + "x", "/" + healthPath} {
			if code, _ := fetch(t, strings.TrimSuffix(at, healthPath)+path); code != 404 {
				t.Errorf("%q: GET %s = %d", args, path, code)
			}
		}
	}

	s := start(t, "-dir", dir)
	fetch(t, s.url+"/v1/providers/acme/bad/versions")
	code, body := fetch(t, s.url+healthPath)
	var got healthJSON
	if err := json.Unmarshal([]byte(body), &got); err != nil {
		t.Fatal(err)
	}
	if code != 200 || got.Status != "ok" || got.Problems != 1 || got.AgeSeconds == nil || *got.AgeSeconds > 5 || time.Since(got.Looked) > 5*time.Second {
		t.Errorf("after a look: %d %s", code, body)
	}
}

// A failingFS is a file system that counts how often it is asked, and fails or
// hangs.
type failingFS struct {
	fs.FS
	asked atomic.Int64
	fails atomic.Pointer[error]
	hangs atomic.Pointer[chan bool]
}

func (f *failingFS) Open(name string) (fs.File, error) {
	f.asked.Add(1)
	if hang := f.hangs.Load(); hang != nil {
		<-*hang
	}
	if err := f.fails.Load(); err != nil {
		return nil, *err
	}
	return f.FS.Open(name)
}

// TestUnreadableTree has the tree fail, and come back without a request.
func TestUnreadableTree(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	fsys := &failingFS{FS: fstest.MapFS{"acme/foo.json": &fstest.MapFile{Data: []byte("{")}}}
	h := &health{stopping: ctx, backend: rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{Logger: discard()})}
	ask := func() (int, string) {
		t.Helper()
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", healthPath, nil))
		return w.Code, w.Body.String()
	}
	err := errors.New("open /srv/secret: stale handle")
	fsys.fails.Store(&err)
	h.backend.Versions(ctx, rekisteri.Provider{Namespace: "acme", Type: "foo"})
	asked := fsys.asked.Load()
	code, body := ask()
	if now := fsys.asked.Load(); now > asked {
		t.Errorf("the file system was asked for the health: %d times", now-asked)
	}
	if code != 503 || !strings.HasPrefix(body, `{"status":"tree unreadable","looked":"20`) || strings.Contains(body, "s/") || strings.Contains(body, "stale") {
		t.Errorf("with a tree that cannot be read: %d %s", code, body)
	}

	ended := make(chan bool)
	go func() {
		h.relook(time.Millisecond)
		close(ended)
	}()
	asked = fsys.asked.Load()
	within(t, 10*time.Second, func() bool { return fsys.asked.Load() > asked+2 })
	if h.backend.Health().Err == nil {
		t.Error("looking again has mended what still fails")
	}
	fsys.fails.Store(nil)
	within(t, 10*time.Second, func() bool { return h.backend.Health().Err == nil })
	if code, body = ask(); code != 200 {
		t.Errorf("with a tree that can be read again: %d %s", code, body)
	}
	asked = fsys.asked.Load()
	time.Sleep(700 * time.Millisecond) // by then the backend would look
	if now := fsys.asked.Load(); now > asked {
		t.Errorf("a healthy tree is looked at: %d times", now-asked)
	}

	hang, asked := make(chan bool), fsys.asked.Load()
	fsys.hangs.Store(&hang)
	looked := make(chan bool)
	go func() {
		h.backend.Versions(ctx, rekisteri.Provider{Namespace: "acme", Type: "bar"})
		close(looked)
	}()
	within(t, 10*time.Second, func() bool { return fsys.asked.Load() > asked })
	resume := sync.OnceFunc(func() { close(hang) })
	timer := time.AfterFunc(5*time.Second, resume)
	for range 100 { // none of which waits
		if code, body := ask(); code != 200 {
			t.Errorf("while the disk hangs: %d %s", code, body)
		}
		time.Sleep(time.Millisecond)
	}
	if !timer.Stop() {
		t.Error("the health waits for the disk")
	}
	stop()
	resume()
	<-looked
	<-ended
	if code, body := ask(); code != 503 || !strings.Contains(body, `"shutting down"`) {
		t.Errorf("while shutting down: %d %s", code, body)
	}
}
