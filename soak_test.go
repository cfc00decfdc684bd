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
	"io/fs"
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
	"syscall"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
)

var soak = flag.Duration("soak", 0, "how long TestSoak goes on; 0: 3s")

// TestSoak loads several registries with all kinds of requests, from clients of
// all kinds. The tree of one changes and is larger than its memory. The directory
// of another is swapped all the time, beside a namespace that hangs. One has a
// file system that fails, one a backend that fails, and one gets a burst of first
// requests. What is in a tree all the time is always served, what is served is
// whole, and afterwards nothing is left behind.
func TestSoak(t *testing.T) {
	if *soak == 0 {
		if testing.Short() {
			t.Skip("takes 6 seconds; to run it with -short, set -soak")
		}
		*soak = 3 * time.Second
	}
	s := newSoaking(t)
	goroutines, files, heap := runtime.NumGoroutine(), openFiles(), heapBytes()

	s.worker(s.release)
	s.worker(s.rewrite)
	for range 3 {
		s.worker(s.askChanging)
	}
	s.worker(s.askUnknown)
	s.worker(s.askUnreliable)
	s.worker(s.askFaulty)
	s.worker(s.hangUp)
	s.worker(s.readSlowly)
	s.worker(s.crowd)
	s.worker(s.swap)
	s.worker(s.askSwapped)
	s.worker(s.askHung)
	s.worker(s.burst)
	s.group.Wait()
	close(s.hang)

	s.unreliable.Store(false)           // and everything is as if nothing had been
	time.Sleep(1200 * time.Millisecond) // errors are kept for a second
	s.askUnreliable(rand.New(rand.NewPCG(1, 1)))
	s.client.CloseIdleConnections()
	for deadline := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines+20 || openFiles() > files+20; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines and %d files, and before %d and %d", runtime.NumGoroutine(), openFiles(), goroutines, files)
		}
	}
	if n := rekisteri.CacheSize(s.backend); n > 100<<10 {
		t.Errorf("%d bytes are charged for what is in memory", n)
	}
	if n := s.hanging.Load(); n != 0 {
		t.Errorf("%d calls of a backend still hang", n)
	}
	after := heapBytes()
	t.Logf("%d requests, %d wrong answers; %d goroutines, before %d; %d files, before %d; %d KiB of heap, before %d",
		s.requests.Load(), s.wrong.Load(), runtime.NumGoroutine(), goroutines, openFiles(), files, after>>10, heap>>10)
	if after > heap+8<<20 {
		t.Error("memory has leaked")
	}
}

func heapBytes() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.GC() // pools let go of what they hold at the second
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// A soaking is what the workers of TestSoak share.
type soaking struct {
	t       *testing.T
	dir     string // of the tree that changes
	backend *rekisteri.FSBackend
	addr    string
	client  *http.Client

	current         string        // a link to the directory that is swapped
	hang            chan struct{} // closed when the namespace does not hang any more
	unreliable      atomic.Bool   // whether the second registry's file system is
	hanging         atomic.Int64  // calls of the faulty backend
	requests, wrong atomic.Int64
	end             time.Time
	group           sync.WaitGroup
}

// enlarge puts as many bytes before the zips of a release.
func (tr tree) enlarge(dir, version string, n int) {
	for name, zip := range tr {
		if strings.HasPrefix(name, dir+"/") && strings.HasSuffix(name, ".zip") {
			tr[name] = strings.Repeat("\x00", n) + zip
			sums := dir + "/terraform-provider-hello_" + version + "_SHA256SUMS"
			tr[sums] = strings.ReplaceAll(tr[sums], fmt.Sprintf("%x", sha256.Sum256([]byte(zip))), fmt.Sprintf("%x", sha256.Sum256([]byte(tr[name]))))
		}
	}
}

func newSoaking(t *testing.T) *soaking {
	s := &soaking{t: t, dir: t.TempDir(), client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}, end: time.Now().Add(*soak)}
	still := t.TempDir()
	for dir, size := range map[string]int{s.dir: 1 << 20, still: 50 << 10} {
		tr := newTree(t, "1.0.0", "2.0.0")
		for i := range 20 {
			tr[fmt.Sprintf("acme/doc%d.json", i)] = documentOf("1.0.0", "2.0.0")
		}
		tr.enlarge("acme/hello/1.0.0", "1.0.0", size)
		tr.write(t, dir)
	}
	s.backend = rekisteri.NewFSBackend(rootFS(t, s.dir), &rekisteri.FSOptions{Logger: silent, CacheBytes: 40 << 10}) // half of it
	s.current, s.hang = filepath.Join(t.TempDir(), "current"), make(chan struct{})
	for gen, version := range []string{"2.0.0", "3.0.0"} {
		tr := newTree(t, "1.0.0", version)
		tr["hung/foo.json"] = documentOf("1.0.0")
		tr.write(t, s.current+fmt.Sprint(gen))
	}
	link(t, s.current+"0", s.current)
	dir, err := rekisteri.OpenDir(s.current)
	if err != nil {
		t.Fatal(err)
	}
	swapped := rekisteri.NewFSBackend(openHook{dir, func(name string) {
		if strings.HasPrefix(name, "hung/") {
			<-s.hang
		}
	}}, &rekisteri.FSOptions{Logger: silent})
	failing := rekisteri.NewFSBackend(unreliableFS{rootFS(t, still), &s.unreliable}, &rekisteri.FSOptions{Logger: silent})
	hanging := faulty{func(ctx context.Context) {
		s.hanging.Add(1)
		<-ctx.Done()
		s.hanging.Add(-1)
	}}
	mux := http.NewServeMux()
	for prefix, b := range map[string]rekisteri.Backend{"": s.backend, "/failing": failing, "/faulty": hanging, "/swapped": swapped} {
		// Links that expire soon, and room for few pages.
		opts := &rekisteri.Options{Logger: silent, LinkKeys: [][32]byte{linkKey(1)}, LinkTTL: 20 * time.Second, PageBytes: 20 << 10}
		mux.Handle(prefix+"/", http.StripPrefix(prefix, rekisteri.New(b, opts)))
	}
	srv := httptest.NewUnstartedServer(mux)
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.Config.MaxHeaderBytes = 64 << 10
	srv.Config.WriteTimeout = time.Minute
	srv.Start()
	t.Cleanup(srv.Close)
	s.addr = srv.Listener.Addr().String()
	s.askUnreliable(rand.New(rand.NewPCG(1, 1))) // which then has seen all of it
	s.unreliable.Store(true)
	return s
}

// worker does something over and over.
func (s *soaking) worker(do func(r *rand.Rand)) {
	s.group.Go(func() {
		r := rand.New(rand.NewPCG(rand.Uint64(), 1))
		for time.Now().Before(s.end) {
			do(r)
		}
	})
}

func (s *soaking) complain(format string, args ...any) {
	if s.wrong.Add(1) < 10 {
		s.t.Errorf(format, args...)
	}
}

// get returns an answer, or why there is none, or none that is whole.
func (s *soaking) get(ctx context.Context, target string) (int, string, error) {
	s.requests.Add(1)
	req, err := http.NewRequestWithContext(ctx, "GET", "http://"+s.addr+target, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func (s *soaking) ask(target string) (int, string) {
	code, body, err := s.get(s.t.Context(), target)
	if err != nil {
		s.complain("GET %s: %v", target, err)
	}
	return code, body
}

// release has a release come and go.
func (s *soaking) release(r *rand.Rand) {
	coming := newTree(s.t, "3.0.0")
	delete(coming, "acme/key.asc")
	coming.write(s.t, s.dir)
	s.sleep(time.Duration(r.IntN(1500)) * time.Millisecond)
	os.RemoveAll(filepath.Join(s.dir, "acme/hello/3.0.0"))
	s.sleep(time.Duration(r.IntN(500)) * time.Millisecond)
}

// sleep sleeps, but not much longer than the workers work.
func (s *soaking) sleep(d time.Duration) { time.Sleep(min(d, time.Until(s.end))) }

// rewrite replaces documents, and breaks one.
func (s *soaking) rewrite(r *rand.Rand) {
	name := filepath.Join(s.dir, fmt.Sprintf("acme/doc%d.json", r.IntN(20)))
	err := os.WriteFile(name+".new", []byte(documentOf("1.0.0", "2.0.0")), 0o666)
	err = errors.Join(err, os.Rename(name+".new", name))
	if r.IntN(2) == 0 {
		text := []string{"{", documentOf("1.0.0", "2.0.0"), documentOf("1.0.0", "2.0.0", "3.0.0"), documentOf("1.0.0", "2.0.0")[:200]}[r.IntN(4)]
		err = errors.Join(err, os.WriteFile(filepath.Join(s.dir, "acme/broken.json"), []byte(text), 0o666))
	}
	if err != nil {
		s.t.Error(err)
	}
	time.Sleep(50 * time.Millisecond)
}

// askChanging asks for what stands in the changing tree all the time, and for
// what does not.
func (s *soaking) askChanging(r *rand.Rand) {
	code, body := s.ask("/v1/providers/acme/hello/versions")
	if code != 200 || !strings.Contains(body, `"1.0.0"`) || !strings.Contains(body, `"2.0.0"`) || !json.Valid([]byte(body)) {
		s.complain("versions: %d %s", code, body)
	}
	code, body = s.ask(fmt.Sprintf("/v1/providers/acme/doc%d/2.0.0/download/linux/amd64", r.IntN(20)))
	if code != 200 || !strings.Contains(body, "https://h/f.zip") {
		s.complain("a document's release: %d %s", code, body)
	}
	for version, must := range map[string]bool{"1.0.0": true, "2.0.0": true, "3.0.0": false} {
		target := "/v1/providers/acme/hello/" + version + "/download/linux/amd64"
		code, body = s.ask(target)
		if code != 200 && (must || code != 404) {
			s.complain("download of %s: %d", version, code)
		}
		if code != 200 {
			continue
		}
		link, sum := s.zipOf(target, body)
		code, body = s.ask(link.String())
		if code == 200 && fmt.Sprintf("%x", sha256.Sum256([]byte(body))) != sum || must && code != 200 {
			s.complain("zip of %s: %d, %d bytes", version, code, len(body))
		}
		if code, _ := s.ask(link.Path); code != 403 {
			s.complain("zip without its link: %d", code)
		}
	}
	s.ask("/v1/providers/acme/broken/versions")
}

// zipOf returns the link to a zip and its digest, by the document of a package.
func (s *soaking) zipOf(target, body string) (*url.URL, string) {
	var doc struct {
		URL    string `json:"download_url"`
		SHASum string
	}
	err := json.Unmarshal([]byte(body), &doc)
	base, _ := url.Parse(target)
	link, linkErr := base.Parse(doc.URL)
	if err := errors.Join(err, linkErr); err != nil {
		s.complain("%s: %v", target, err)
		return new(url.URL), ""
	}
	return link, doc.SHASum
}

// askUnknown asks for what there never is.
func (s *soaking) askUnknown(r *rand.Rand) {
	for target, want := range map[string]int{
		fmt.Sprintf("/v1/providers/acme/no%d/versions", r.IntN(1e6)): 404, fmt.Sprintf("/v1/providers/no%d/x/versions", r.IntN(1e6)): 404,
		"/v1/providers/..%2f/x/versions": 404, "/x": 404, "/.well-known/terraform.json": 200,
	} {
		if code, _ := s.ask(target); code != want {
			s.complain("GET %s = %d, want %d", target, code, want)
		}
	}
}

// An unreliableFS is slow, fails and panics, here and there, while it is on.
type unreliableFS struct {
	fs.FS
	on *atomic.Bool
}

func (f unreliableFS) fault() error {
	if f.on.Load() {
		switch n := rand.IntN(1000); {
		case n < 100:
			return syscall.EIO
		case n < 102:
			panic("a file system's bug")
		case n < 104:
			time.Sleep(1500 * time.Millisecond)
		case n < 150:
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}

func (f unreliableFS) Open(name string) (fs.File, error) {
	if err := f.fault(); err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	opened, err := f.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return unreliableFile{opened.(*os.File), f}, nil
}

// An unreliableFile does not embed its file: the connection would send that
// without a word.
type unreliableFile struct {
	file *os.File
	fs   unreliableFS
}

func (f unreliableFile) Read(b []byte) (int, error) {
	if err := f.fs.fault(); err != nil {
		return 0, err
	}
	return f.file.Read(b[:min(len(b), 10_000)])
}

func (f unreliableFile) ReadAt(b []byte, off int64) (int, error) {
	if err := f.fs.fault(); err != nil {
		return 0, err
	}
	return f.file.ReadAt(b, off)
}

func (f unreliableFile) ReadDir(n int) ([]fs.DirEntry, error) {
	if err := f.fs.fault(); err != nil {
		return nil, err
	}
	return f.file.ReadDir(n)
}

func (f unreliableFile) Stat() (fs.FileInfo, error) {
	if err := f.fs.fault(); err != nil {
		return nil, err
	}
	return f.file.Stat()
}

func (f unreliableFile) Seek(offset int64, whence int) (int64, error) {
	return f.file.Seek(offset, whence)
}

func (f unreliableFile) Close() error { return f.file.Close() }

// askUnreliable asks for what was good before the file system began to fail.
// Only the zips have to come from there.
func (s *soaking) askUnreliable(r *rand.Rand) {
	code, body := s.ask("/failing/v1/providers/acme/hello/versions")
	if code != 200 || strings.Count(body, `"version"`) != 2 {
		s.complain("versions, of a failing file system: %d %s", code, body)
	}
	for i := range 20 {
		code, body := s.ask(fmt.Sprintf("/failing/v1/providers/acme/doc%d/2.0.0/download/linux/amd64", i))
		if code != 200 || !strings.Contains(body, "https://h/f.zip") {
			s.complain("a document's release, of a failing file system: %d %s", code, body)
		}
	}
	const target = "/failing/v1/providers/acme/hello/1.0.0/download/linux/amd64"
	code, body = s.ask(target)
	if code != 200 {
		s.complain("download, of a failing file system: %d", code)
		return
	}
	link, sum := s.zipOf(target, body)
	code, body, err := s.get(s.t.Context(), link.String())
	whole := err == nil && code == 200
	if whole && fmt.Sprintf("%x", sha256.Sum256([]byte(body))) != sum || !whole && !s.unreliable.Load() || err == nil && code != 200 && code != 500 {
		s.complain("zip, of a failing file system: %d, %d bytes, %v", code, len(body), err)
	}
	for target, want := range map[string]int{"acme/nothing": 404, "nobody/hello": 404} {
		if code, _ := s.ask("/failing/v1/providers/" + target + "/versions"); code != want && code != 500 && code != 504 {
			s.complain("%s, of a failing file system: %d", target, code)
		}
	}
}

// askFaulty meets the faults of a backend.
func (s *soaking) askFaulty(r *rand.Rand) {
	for namespace, want := range map[string]int{"good": 200, "slow": 200, "fails": 500, "nothing": 500, "empty": 404, "nonsense": 200} {
		code, body := s.ask("/faulty/v1/providers/" + namespace + "/foo/versions")
		if code != want || code == 200 && strings.Count(body, `"version"`) != 1 {
			s.complain("a backend that is %s: %d %s", namespace, code, body)
		}
		code, _ = s.ask("/faulty/v1/providers/" + namespace + "/foo/1.0.0/download/linux/amd64")
		if code != 404 && code != 500 {
			s.complain("a release of a backend that is %s: %d", namespace, code)
		}
	}
	if code, _, err := s.get(s.t.Context(), "/faulty/v1/providers/panics/foo/versions"); err == nil {
		s.complain("a backend that panics: %d", code)
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), 50*time.Millisecond)
	defer cancel()
	if code, _, err := s.get(ctx, "/faulty/v1/providers/hangs/foo/versions"); err == nil {
		s.complain("a backend that hangs: %d", code)
	}
}

func (s *soaking) dial() net.Conn {
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		s.t.Error(err)
		return nil
	}
	return conn
}

// hangUp sends what is no request, too much of one, or waits for no answer.
func (s *soaking) hangUp(r *rand.Rand) {
	conn := s.dial()
	if conn == nil {
		return
	}
	defer conn.Close()
	n := r.IntN(4)
	io.WriteString(conn, []string{
		"GET /v1/providers/acme/hello/versions HTTP/1.1\r\nHost: x\r\n\r\n",
		"\x00\x01\r\n\r\n",
		"GET /v1",
		"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 1<<20),
	}[n])
	if n == 3 {
		conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		line, err := bufio.NewReader(conn).ReadString('\n')
		if err == nil && !strings.Contains(line, "431") { // it may be reset before it is read
			s.complain("1 MB of headers: %q, %v", line, err)
		}
	}
}

// readSlowly takes the beginning of a zip bit by bit, and hangs up or takes the
// rest at once.
func (s *soaking) readSlowly(r *rand.Rand) {
	const target = "/v1/providers/acme/hello/1.0.0/download/linux/amd64"
	_, body := s.ask(target)
	link, sum := s.zipOf(target, body)
	conn := s.dial()
	if conn == nil {
		return
	}
	defer conn.Close()
	conn.(*net.TCPConn).SetReadBuffer(64 << 10)
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", link)
	s.requests.Add(1)
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 1<<10), nil)
	if err != nil {
		s.complain("a slow client: %v", err)
		return
	}
	defer resp.Body.Close()
	digest := sha256.New()
	for range 200 {
		io.CopyN(digest, resp.Body, 1<<10)
		time.Sleep(time.Millisecond)
	}
	if r.IntN(2) == 0 {
		return
	}
	if _, err := io.Copy(digest, resp.Body); err != nil || fmt.Sprintf("%x", digest.Sum(nil)) != sum {
		s.complain("a slow client's zip: %s, %v", resp.Status, err)
	}
}

// crowd opens a thousand connections, or half as many as there may be, and asks
// on all of them.
func (s *soaking) crowd(r *rand.Rand) {
	var conns []net.Conn
	defer func() {
		for _, conn := range conns {
			conn.Close()
		}
		s.sleep(time.Second)
	}()
	for range min(1000, maxFiles()/4) {
		conn := s.dial()
		if conn == nil {
			return
		}
		conns = append(conns, conn)
		io.WriteString(conn, "GET /v1/providers/acme/hello/versions HTTP/1.1\r\nHost: x\r\n\r\n")
	}
	for _, conn := range conns {
		s.requests.Add(1)
		conn.SetReadDeadline(time.Now().Add(time.Minute))
		if line, err := bufio.NewReader(conn).ReadString('\n'); line != "HTTP/1.1 200 OK\r\n" {
			s.complain("one of a thousand connections: %q, %v", line, err)
		}
	}
}

// swap swaps a directory.
func (s *soaking) swap(r *rand.Rand) {
	link(s.t, s.current+fmt.Sprint(r.IntN(2)), s.current)
	time.Sleep(100 * time.Millisecond)
}

// askSwapped asks for what is in both directories that are swapped, and for what
// is in one of them.
func (s *soaking) askSwapped(r *rand.Rand) {
	code, body := s.ask("/swapped/v1/providers/acme/hello/versions")
	if code != 200 || strings.Count(body, `"version"`) != 2 || !strings.Contains(body, `"1.0.0"`) {
		s.complain("versions, of a directory that is swapped: %d %s", code, body)
	}
	version := []string{"1.0.0", "2.0.0", "3.0.0"}[r.IntN(3)]
	target := "/swapped/v1/providers/acme/hello/" + version + "/download/linux/amd64"
	code, body = s.ask(target)
	if code != 200 && (version == "1.0.0" || code != 404) {
		s.complain("download of %s, of a directory that is swapped: %d", version, code)
	}
	if code != 200 {
		return
	}
	link, sum := s.zipOf(target, body)
	code, body = s.ask(link.String())
	if code == 200 && fmt.Sprintf("%x", sha256.Sum256([]byte(body))) != sum || code != 200 && (version == "1.0.0" || code != 404) {
		s.complain("zip of %s, of a directory that is swapped: %d, %d bytes", version, code, len(body))
	}
}

// askHung asks for a provider whose namespace hangs.
func (s *soaking) askHung(*rand.Rand) {
	ctx, cancel := context.WithTimeout(s.t.Context(), 100*time.Millisecond)
	defer cancel()
	if code, _, err := s.get(ctx, "/swapped/v1/providers/hung/foo/versions"); err == nil && code != 504 {
		s.complain("a namespace that hangs: %d", code)
	}
}

// burst asks at once for 2,000 providers that were never asked for before.
func (s *soaking) burst(*rand.Rand) {
	v := newVirtualFS(s.t, 2000, 1, 2, time.Millisecond)
	reg := rekisteri.New(rekisteri.NewFSBackend(v, &rekisteri.FSOptions{Logger: silent}), &rekisteri.Options{Logger: silent})
	var group sync.WaitGroup
	for i := range v.providers {
		group.Go(func() {
			s.requests.Add(1)
			if resp := get(reg, "GET", fmt.Sprintf("/v1/providers/acme/p%d/versions", i)); resp.StatusCode != 200 {
				s.complain("one of a burst of first requests: %s", resp.Status)
			}
		})
	}
	group.Wait()
	s.sleep(500 * time.Millisecond)
}
