package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
)

// A failingFS counts how often it is asked for a file. It fails or hangs if told
// to.
type failingFS struct {
	fs.FS
	asked atomic.Int64
	err   atomic.Pointer[error]
	hang  atomic.Pointer[chan struct{}]
}

func (f *failingFS) Open(name string) (fs.File, error) {
	f.asked.Add(1)
	if hang := f.hang.Load(); hang != nil {
		<-*hang
	}
	if err := f.err.Load(); err != nil {
		return nil, *err
	}
	return f.FS.Open(name)
}

// brokenTree returns a tree with a document that is none.
func brokenTree() *failingFS {
	return &failingFS{FS: fstest.MapFS{"acme/foo.json": &fstest.MapFile{Data: []byte("{")}}}
}

var foo = rekisteri.Provider{Namespace: "acme", Type: "foo"}

func (h *health) ask(method string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, healthPath, nil))
	return w
}

func TestHealthMethods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var events []string
		h := &health{
			stopping: t.Context(),
			backend:  rekisteri.NewFSBackend(brokenTree(), &rekisteri.FSOptions{Logger: discard()}),
			observe: func(req *http.Request, e rekisteri.Event) {
				events = append(events, fmt.Sprint(req.Method, " ", e.Route, " ", e.Status, " ", e.Bytes, " ", e.Err, " ", e.Reason))
			},
		}
		readTree(t.Context(), h.backend)
		const ok, notAllowed = `{"status":"ok","looked":"2000-01-01T00:00:00Z","age_seconds":0,"problems":0}` + "\n", `{"errors":["Method Not Allowed"]}`
		for _, test := range []struct {
			method string
			code   int
			body   string
			event  string
		}{
			{method: "GET", code: 200, body: ok, event: "GET health 200 77 <nil> "},
			{method: "HEAD", code: 200, event: "HEAD health 200 0 <nil> "},
			{method: "POST", code: 405, body: notAllowed, event: "POST health 405 33 the method is neither GET nor HEAD method"},
			{method: "OPTIONS", code: 405, body: notAllowed, event: "OPTIONS health 405 33 the method is neither GET nor HEAD method"},
		} {
			events = nil
			w := h.ask(test.method)
			if w.Code != test.code || w.Body.String() != test.body {
				t.Errorf("%s: %d %q, want %d %q", test.method, w.Code, w.Body, test.code, test.body)
			}
			header := w.Header()
			if header.Get("Content-Type") != "application/json" || header.Get("Cache-Control") != "no-store" || (header.Get("Allow") == "GET, HEAD") != (test.code == 405) {
				t.Errorf("%s: the header is %v", test.method, header)
			}
			if len(events) != 1 || events[0] != test.event {
				t.Errorf("%s: the events are %q, want %q", test.method, events, test.event)
			}
		}
	})
}

func TestHealthReport(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		fsys := brokenTree()
		h := &health{stopping: ctx, backend: rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{Logger: discard()})}
		want := func(when string, code int, status string, age int64, problems int) {
			t.Helper()
			asked := fsys.asked.Load()
			w := h.ask("GET")
			var got healthJSON
			if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
				t.Fatal(err)
			}
			gotAge := int64(-1)
			if got.AgeSeconds != nil {
				gotAge = *got.AgeSeconds
			}
			if w.Code != code || got.Status != status || gotAge != age || got.Problems != problems || got.Looked.IsZero() != (age < 0) {
				t.Errorf("%s: %d %s", when, w.Code, w.Body)
			}
			if strings.Contains(w.Body.String(), "srv") {
				t.Errorf("%s: the answer has the cause: %s", when, w.Body)
			}
			if now := fsys.asked.Load(); now > asked {
				t.Errorf("%s: the file system was asked %d times", when, now-asked)
			}
		}
		want("before the first read", 503, "starting", -1, 0)
		h.backend.Versions(ctx, foo)
		want("after a read", 200, "ok", 0, 1)
		time.Sleep(3 * time.Second)
		want("some time later", 200, "ok", 3, 1)
		err := errors.New("open /srv/providers: stale handle")
		fsys.err.Store(&err)
		h.backend.Versions(ctx, foo)
		want("with an unreadable tree", 503, "tree unreadable", 0, 1)
		stop()
		want("while shutting down", 503, "shutting down", 0, 1)
	})
}

// TestHealthHangs has the disk hang, which the health does not wait for.
func TestHealthHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys := brokenTree()
		h := &health{stopping: t.Context(), backend: rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{Logger: discard()})}
		hang := make(chan struct{})
		fsys.hang.Store(&hang)
		go h.backend.Versions(t.Context(), foo)
		synctest.Wait()
		begun := time.Now()
		if w := h.ask("GET"); w.Code != 503 || !strings.Contains(w.Body.String(), `"starting"`) {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		if took := time.Since(begun); took > 0 {
			t.Errorf("the health waited %v for the disk", took)
		}
		close(hang)
	})
}

// TestRelook has an unreadable tree recover without a request for it.
func TestRelook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		fsys := brokenTree()
		h := &health{stopping: ctx, backend: rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{Logger: discard()})}
		go h.reread()
		err := errors.New("stale handle")
		fsys.err.Store(&err)
		h.backend.Versions(ctx, foo)
		time.Sleep(3 * rereadEvery)
		if h.backend.Health().Err == nil {
			t.Error("an unreadable tree is healthy")
		}
		fsys.err.Store(nil)
		time.Sleep(2 * rereadEvery)
		synctest.Wait()
		if err := h.backend.Health().Err; err != nil {
			t.Errorf("after the tree recovered: %v", err)
		}
		asked := fsys.asked.Load()
		time.Sleep(time.Hour)
		if now := fsys.asked.Load(); now > asked {
			t.Errorf("a healthy tree was read without a request: %d times", now-asked)
		}
		stop()
	})
}
