package rekisteri_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
)

const versionsHello = "/v1/providers/acme/hello/versions"

// largeZip puts n bytes before the zip of release 1.0.0. A zip may start with
// anything.
func (tr tree) largeZip(n int) tree {
	name := "acme/hello/1.0.0/" + zip100
	tr[name] = strings.Repeat("\x00", n) + tr[name]
	return tr
}

func TestGzip(t *testing.T) {
	reg := newRegistry(t, newBackend(t, newTree(t, "1.0.0", "2.0.0", "3.0.0").mapFS()))
	plain := get(reg, "GET", versionsHello)
	want := body(t, plain)
	etags := map[bool]string{false: plain.Header.Get("ETag")} // by whether it is compressed
	for accept, compressed := range map[string]bool{
		"gzip": true, "gzip, deflate, br": true, "br;q=1.0, gzip;q=0.8": true, "GZIP": true, "deflate,gzip ; q=0.001": true, "gzip;Q=1": true,
		"": false, "identity": false, "gzip;q=0": false, "gzip; q=0.0": false, "gzip;Q=0": false, "gzip ; Q=0.000": false, "x-gzip": false, "br": false,
	} {
		resp := get(reg, "GET", versionsHello, "Accept-Encoding", accept)
		if got := resp.Header.Get("Content-Encoding") == "gzip"; got != compressed || resp.Header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%q: header %v", accept, resp.Header)
			continue
		}
		if resp.Header.Get("Content-Length") != fmt.Sprint(resp.ContentLength) || resp.ContentLength <= 0 {
			t.Errorf("%q: length %v", accept, resp.Header)
		}
		if etag := etags[compressed]; etag != "" && etag != resp.Header.Get("ETag") {
			t.Errorf("%q: another ETag", accept)
		}
		etags[compressed] = resp.Header.Get("ETag")
		content := resp.Body
		if compressed {
			var err error
			if content, err = gzip.NewReader(resp.Body); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := io.ReadAll(content); err != nil || string(got) != want {
			t.Errorf("%q: %v %s", accept, err, got)
		}
	}
	if etags[true] == etags[false] {
		t.Error("two representations have the same strong ETag")
	}
	if resp := get(reg, "GET", versionsHello, "Accept-Encoding", "gzip", "If-None-Match", etags[true]); resp.StatusCode != 304 {
		t.Errorf("with its own ETag: %s", resp.Status)
	}
	if resp := get(reg, "GET", versionsHello, "Accept-Encoding", "gzip", "Range", "bytes=0-9"); resp.StatusCode != 206 || body(t, resp) != want[:10] || resp.Header.Get("Content-Encoding") != "" {
		t.Errorf("range: %s %v", resp.Status, resp.Header)
	}
	for _, target := range []string{download100, "/.well-known/terraform.json", files + sums100, "/v1/providers/acme/no/versions"} {
		if resp := get(reg, "GET", target, "Accept-Encoding", "gzip"); resp.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s is compressed", target)
		}
	}
}

// Headers that a middleware has set stay, and those of an answer that is not sent
// go.
func TestHeadersOfMiddleware(t *testing.T) {
	reg := newRegistry(t, newBackend(t, newTree(t, "1.0.0", "2.0.0", "3.0.0").mapFS()))
	req := httptest.NewRequest("GET", versionsHello, nil)
	req.Header.Set("Accept-Encoding", "gzip")
	rec := httptest.NewRecorder()
	shared := append(make([]string, 0, 2), "Origin") // by all requests
	rec.Header()["Vary"] = shared
	reg.ServeHTTP(rec, req)
	if vary := strings.Join(rec.Header().Values("Vary"), ", "); vary != "Origin, Accept-Encoding" || shared[:2][1] != "" {
		t.Errorf("Vary: %s; shared: %q", vary, shared[:2])
	}
	req.Header.Set("If-Match", `"other"`)
	rec = httptest.NewRecorder()
	reg.ServeHTTP(rec, req)
	if rec.Code != 412 || rec.Header().Get("Content-Encoding") != "" || rec.Body.String() != `{"errors":["Precondition Failed"]}` {
		t.Errorf("%d %v %s", rec.Code, rec.Header(), rec.Body)
	}
}

// A zip is served as http.ServeContent serves it, with errors as JSON.
func TestZipRequests(t *testing.T) {
	tr := newTree(t, "1.0.0")
	zip := tr["acme/hello/1.0.0/"+zip100]
	etag := fmt.Sprintf(`"%x"`, sha256.Sum256([]byte(zip)))
	eachFS(t, tr, func(t *testing.T, fsys fs.FS) {
		reg := newFSRegistry(t, fsys)
		for _, test := range []struct {
			name, method string
			header       []string
			status       int
			body         string
		}{
			{name: "whole", method: "GET", status: 200, body: zip},
			{name: "HEAD", method: "HEAD", status: 200},
			{name: "range", method: "GET", header: []string{"Range", "bytes=10-19"}, status: 206, body: zip[10:20]},
			{name: "end", method: "GET", header: []string{"Range", "bytes=-5"}, status: 206, body: zip[len(zip)-5:]},
			{name: "range of the same zip", method: "GET", header: []string{"Range", "bytes=10-19", "If-Range", etag}, status: 206, body: zip[10:20]},
			{name: "range of another zip", method: "GET", header: []string{"Range", "bytes=10-19", "If-Range", `"other"`}, status: 200, body: zip},
			{name: "range after its end", method: "GET", header: []string{"Range", "bytes=100000-"}, status: 416, body: `{"errors":["Requested Range Not Satisfiable"]}`},
			{name: "other ETag", method: "GET", header: []string{"If-Match", `"other"`}, status: 412, body: `{"errors":["Precondition Failed"]}`},
			{name: "unchanged", method: "GET", header: []string{"If-None-Match", etag}, status: 304},
			{name: "gzip", method: "GET", header: []string{"Accept-Encoding", "gzip"}, status: 200, body: zip},
			{name: "PUT", method: "PUT", status: 405, body: `{"errors":["Method Not Allowed"]}`},
		} {
			t.Run(test.name, func(t *testing.T) {
				resp := get(reg, test.method, files+zip100, test.header...)
				if got := body(t, resp); resp.StatusCode != test.status || got != test.body {
					t.Errorf("%s %q", resp.Status, got)
				}
				if resp.StatusCode >= 400 && (resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Cache-Control") != "no-store") {
					t.Errorf("header %v", resp.Header)
				}
				if resp.StatusCode < 300 && (resp.Header.Get("ETag") != etag || resp.Header.Get("Content-Type") != "application/zip" || resp.Header.Get("Content-Encoding") != "") {
					t.Errorf("header %v", resp.Header)
				}
			})
		}
	})
}

// A counting ResponseWriter counts bytes, and records whether they came from a
// file.
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

// A zip is not read into memory, and the connection gets the file itself.
func TestLargeZip(t *testing.T) {
	const size = 32 << 20
	dir := t.TempDir()
	tr := newTree(t, "1.0.0").largeZip(size)
	tr.write(t, dir)
	backend := newBackend(t, rootFS(t, dir))
	for name, observe := range map[string]func(*http.Request, rekisteri.Event){"unobserved": nil, "observed": func(*http.Request, rekisteri.Event) {}} {
		t.Run(name, func(t *testing.T) {
			reg := rekisteri.New(backend, &rekisteri.Options{Logger: quiet(t), Observe: observe})
			get(reg, "HEAD", files+zip100) // loads the release
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			w := &counting{ResponseWriter: httptest.NewRecorder()}
			reg.ServeHTTP(w, httptest.NewRequest("GET", files+zip100, nil))
			runtime.ReadMemStats(&after)
			if want := int64(len(tr["acme/hello/1.0.0/"+zip100])); w.n != want {
				t.Errorf("%d bytes were sent, want %d", w.n, want)
			}
			if !w.fromFile {
				t.Error("the connection did not get the file")
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > size/16 {
				t.Errorf("%d bytes were allocated", n)
			}
		})
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

// The server's WriteTimeout disconnects a client that stops reading, and not one
// that reads slowly.
func TestWriteTimeout(t *testing.T) {
	const size = 8 << 20 // more than what HTTP/2 sends ahead
	fsys := newTree(t, "1.0.0").largeZip(size).mapFS()
	for _, test := range []struct {
		name  string
		http2 bool
		pause time.Duration // after each part
		whole bool
	}{
		{name: "slow", pause: 4 * time.Minute, whole: true},
		{name: "stalled", pause: 20 * time.Minute},
		{name: "slow with HTTP2", http2: true, pause: 4 * time.Minute, whole: true},
		{name: "stalled with HTTP2", http2: true, pause: 20 * time.Minute},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var protocols http.Protocols
				protocols.SetHTTP1(!test.http2)
				protocols.SetUnencryptedHTTP2(test.http2)
				srv := &http.Server{Handler: newFSRegistry(t, fsys), WriteTimeout: time.Minute, Protocols: &protocols}
				client, conn := net.Pipe()
				go srv.Serve(&pipeListener{conn: conn})
				defer srv.Close()
				transport := &http.Transport{Protocols: &protocols, DialContext: func(context.Context, string, string) (net.Conn, error) { return client, nil }}
				defer transport.CloseIdleConnections()
				started := time.Now()
				resp, err := (&http.Client{Transport: transport}).Get("http://registry.test" + files + zip100)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				n := 0
				for part := make([]byte, 256<<10); err == nil; {
					var m int
					m, err = io.ReadFull(resp.Body, part)
					n += m
					time.Sleep(test.pause)
				}
				took := time.Since(started)
				if resp.ProtoMajor == 2 != test.http2 {
					t.Errorf("%s", resp.Proto)
				}
				if whole := int64(n) == resp.ContentLength; whole != test.whole || whole && took < 30*time.Minute {
					t.Errorf("%d of %d bytes in %v: %v", n, resp.ContentLength, took, err)
				}
			})
		})
	}
}

// Clients that hang up leave no open file and no goroutine.
func TestHangUps(t *testing.T) {
	const size = 4 << 20
	dir := t.TempDir()
	newTree(t, "1.0.0").largeZip(size).write(t, dir)
	srv := httptest.NewServer(newFSRegistry(t, rootFS(t, dir)))
	defer srv.Close()
	before, open := runtime.NumGoroutine(), openFiles()
	var group sync.WaitGroup
	for i := range 100 {
		group.Go(func() {
			conn, err := net.Dial("tcp", strings.TrimPrefix(srv.URL, "http://"))
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", files+zip100)
			in := bufio.NewReader(conn)
			if _, err := in.Peek(10); err != nil {
				t.Error(err)
			}
			if i%10 == 0 {
				if n, err := io.Copy(io.Discard, in); err != nil || n < size {
					t.Errorf("%d bytes, %v", n, err)
				}
			}
		})
	}
	group.Wait()
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > before+5 || openFiles() > open+5; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d goroutines and %d files, %d and %d before", runtime.NumGoroutine(), openFiles(), before, open)
		}
	}
}

// openFiles returns the number of files that this process has open, if the system
// tells.
func openFiles() int {
	entries, _ := os.ReadDir("/proc/self/fd")
	return len(entries)
}

var errAway = errors.New("the bucket is away")

// An unseekable backend has files whose size cannot be found out.
type unseekable struct{ *rekisteri.FSBackend }

type unseekableFile struct{ io.ReadSeekCloser }

func (unseekableFile) Seek(int64, int) (int64, error) { return 0, errAway }

func (b unseekable) Open(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
	f, err := b.FSBackend.Open(ctx, p, version, name)
	return unseekableFile{f}, err
}

func TestSeekErrorIsLogged(t *testing.T) {
	log := new(logBuffer)
	reg := rekisteri.New(unseekable{newBackend(t, newTree(t, "1.0.0").mapFS())}, &rekisteri.Options{Logger: log.logger()})
	resp := get(reg, "GET", files+zip100)
	if text := log.take(); resp.StatusCode != 500 || resp.Header.Get("ETag") != "" || !strings.Contains(text, errAway.Error()) {
		t.Errorf("%s %v; the log says\n%s", resp.Status, resp.Header, text)
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
func TestIncompleteZip(t *testing.T) {
	t.Parallel()
	const size = 32 << 20 // more than what connections buffer
	dir := t.TempDir()
	newTree(t, "1.0.0").largeZip(size).write(t, dir)
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
			during: func() { os.Truncate(filepath.Join(dir, "acme/hello/1.0.0", zip100), size/2) }},
	} {
		t.Run(test.name, func(t *testing.T) {
			log := new(logBuffer)
			events := make(chan rekisteri.Event, 1)
			srv := httptest.NewUnstartedServer(rekisteri.New(test.backend, &rekisteri.Options{
				Logger: log.logger(), Observe: func(_ *http.Request, e rekisteri.Event) { events <- e },
			}))
			srv.Config.WriteTimeout = test.timeout
			srv.Start()
			defer srv.Close()
			resp, err := http.Get(srv.URL + files + zip100)
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
			if s := log.take(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "level="+test.level) || !strings.Contains(s, zip100+" of acme/hello 1.0.0: ") || !strings.Contains(s, test.err) {
				t.Errorf("the log says\n%s", s)
			}
		})
	}
}
