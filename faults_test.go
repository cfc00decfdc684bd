package rekisteri_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
)

// A faulty backend does in each namespace what the namespace is called.
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

// TestFaultyBackend costs only the requests that meet the fault, and tells the
// backend when nobody waits any more.
func TestFaultyBackend(t *testing.T) {
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
		t.Errorf("a hang-up is answered with %d", code)
	}
	select {
	case err := <-ended:
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

// TestStalledClient cuts off a client that reads no more of a zip, where the
// server has a WriteTimeout, and not one that reads slowly.
func TestStalledClient(t *testing.T) {
	const size = 1 << 20
	tr := newTree(t, "1.0.0")
	const name = "acme/hello/1.0.0/terraform-provider-hello_1.0.0_linux_amd64.zip"
	tr[name] = strings.Repeat("\x00", size) + tr[name]
	download := func(t *testing.T, wait time.Duration) (n int, took time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			srv := &http.Server{Handler: newFSRegistry(t, tr.mapFS()), WriteTimeout: time.Minute}
			client, conn := net.Pipe()
			go srv.Serve(&pipeListener{conn: conn})
			defer srv.Close()
			begun := time.Now()
			fmt.Fprintf(client, "GET /files/%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", name)
			for part := make([]byte, 32<<10); ; {
				m, err := client.Read(part)
				n += m
				if err != nil {
					break
				}
				if n > size/2 {
					time.Sleep(wait)
				}
			}
			took = time.Since(begun)
		})
		return n, took
	}
	if n, took := download(t, 4*time.Minute); n < size || took < time.Hour {
		t.Errorf("a slow client got %d bytes in %v", n, took)
	}
	if n, took := download(t, 20*time.Minute); n > size/2+128<<10 {
		t.Errorf("a stalled client got %d bytes in %v", n, took)
	}
}

// A pipeListener accepts one connection.
type pipeListener struct{ conn net.Conn }

func (l *pipeListener) Accept() (net.Conn, error) {
	conn := l.conn
	l.conn = nil
	if conn == nil {
		return nil, net.ErrClosed
	}
	return conn, nil
}

func (l *pipeListener) Close() error   { return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// openFiles returns the number of this process's open files, where it is told.
func openFiles() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

// An unseekable backend has files of which nobody can tell the size.
type unseekable struct{ *rekisteri.FSBackend }

type unseekableFile struct{ io.ReadSeekCloser }

var errAway = errors.New("the bucket is away")

func (unseekableFile) Seek(int64, int) (int64, error) { return 0, errAway }

func (b unseekable) Open(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
	f, err := b.FSBackend.Open(ctx, p, version, name)
	return unseekableFile{f}, err
}

// TestFailingSeek logs why a file cannot be sent.
func TestFailingSeek(t *testing.T) {
	var log bytes.Buffer
	backend := unseekable{newBackend(t, newTree(t, "1.0.0").mapFS())}
	reg := rekisteri.New(backend, &rekisteri.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	resp := get(reg, "GET", "/files/acme/hello/1.0.0/terraform-provider-hello_1.0.0_linux_amd64.zip")
	if resp.StatusCode != http.StatusInternalServerError || resp.Header.Get("ETag") != "" || !strings.Contains(log.String(), errAway.Error()) {
		t.Errorf("%s %v; the log:\n%s", resp.Status, resp.Header, log.String())
	}
}
