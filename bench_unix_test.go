//go:build unix

package rekisteri_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
)

// benchDir is the variable that makes the test binary the server of
// BenchmarkLoopback, with a directory for its files: its CPU time is then its
// own.
const benchDir = "REKISTERI_BENCH_SERVER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(publishDir); dir != "" {
		publishForever(dir)
	}
	if dir := os.Getenv(benchDir); dir != "" {
		serveBenchmark(dir, os.Args[1])
		return
	}
	os.Exit(m.Run())
}

const zipTarget = "/files/acme/hello/1.0.0/terraform-provider-hello_1.0.0_linux_amd64.zip"

// benchRoutes are those of the other benchmarks, and a zip of 20 MB.
func benchRoutes(dir string) []route {
	all := slices.DeleteFunc(routes(nil), func(r route) bool { return strings.Contains(r.name, "prefix") })
	root, err := os.OpenRoot(dir)
	if err != nil {
		panic(err)
	}
	silent := slog.New(slog.DiscardHandler)
	backend := rekisteri.NewFSBackend(root.FS(), &rekisteri.FSOptions{Logger: silent})
	return append(all, route{"zip of 20 MB", zipTarget, rekisteri.New(backend, &rekisteri.Options{Logger: silent})})
}

// serveBenchmark serves what benchHandlers returns, each on a port of its own.
// It prints the addresses, and then, for each line that it is sent, its CPU
// time and the most memory that it had.
func serveBenchmark(dir, what string) {
	for _, handler := range benchHandlers(dir, what) {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		srv := &http.Server{Handler: handler, WriteTimeout: 2 * time.Minute} // as the command has
		go srv.Serve(ln)
		fmt.Println(ln.Addr())
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var usage syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
		if runtime.GOOS == "darwin" {
			usage.Maxrss >>= 10 // it is in bytes there
		}
		fmt.Println(usage.Utime.Nano()+usage.Stime.Nano(), usage.Maxrss)
	}
}

// benchHandlers returns a handler of a tree, as the command would serve it; or
// one of the routes and one of their floors.
func benchHandlers(dir, what string) []http.Handler {
	if what == "tree" {
		debug.SetGCPercent(50)
		silent := slog.New(slog.DiscardHandler)
		backend := rekisteri.NewFSBackend(os.DirFS(dir), &rekisteri.FSOptions{Logger: silent})
		return []http.Handler{rekisteri.New(backend, &rekisteri.Options{Logger: silent})}
	}
	registry, floor := make(map[string]http.Handler), make(map[string]http.Handler)
	for _, r := range benchRoutes(dir) {
		registry[r.target] = r.handler
		floor[r.target] = floorOf(r.handler, r.request())
	}
	files := http.FileServerFS(os.DirFS(dir))
	floor[zipTarget] = http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		req.URL.Path = strings.TrimPrefix(zipTarget, "/files")
		files.ServeHTTP(w, req)
	})
	byPath := func(handlers map[string]http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			handlers[req.URL.Path].ServeHTTP(w, req)
		})
	}
	return []http.Handler{byPath(registry), byPath(floor)}
}

// A benchServer is a process that runs serveBenchmark.
type benchServer struct {
	b   *testing.B
	in  io.Writer
	out *bufio.Scanner
}

func startBenchServer(b *testing.B, dir, what string) *benchServer {
	server := exec.Command(os.Args[0], what)
	server.Env = append(os.Environ(), benchDir+"="+dir)
	server.Stderr = os.Stderr
	in, err := server.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := server.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		server.Wait()
	})
	return &benchServer{b, in, bufio.NewScanner(out)}
}

// addr returns the address of the next handler.
func (s *benchServer) addr() string {
	s.out.Scan()
	return s.out.Text()
}

// usage returns the server's CPU time in nanoseconds, and the most memory that
// it had, in KiB.
func (s *benchServer) usage() (cpu, memory float64) {
	io.WriteString(s.in, "\n")
	s.out.Scan()
	if _, err := fmt.Sscan(s.out.Text(), &cpu, &memory); err != nil {
		s.b.Fatal(err)
	}
	return cpu, memory
}

// dial opens connections.
func dial(b *testing.B, addr string, n int) (conns []*bufio.ReadWriter) {
	for range n {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { conn.Close() })
		conns = append(conns, bufio.NewReadWriter(bufio.NewReaderSize(conn, 64<<10), bufio.NewWriter(conn)))
	}
	return conns
}

// A target is a server that is measured.
type target struct {
	conns      []*bufio.ReadWriter
	rates, cpu []float64
}

// BenchmarkLoopback compares the routes with their floors over TCP, with 32
// connections, in rounds whose order is shuffled: many short ones, so that what
// else goes on in the machine meets all alike. The floor is measured twice in
// each round: what its two rates differ by is noise. The zip's floor is
// http.FileServerFS.
func BenchmarkLoopback(b *testing.B) {
	const conns, length, atLeast, enough = 32, 20 * time.Millisecond, 9, 10 * time.Second
	dir := b.TempDir()
	tr := newTree(b, "1.0.0")
	name := strings.TrimPrefix(zipTarget, "/files/")
	tr[name] = strings.Repeat("\x00", 20<<20) + tr[name] // a zip may begin with anything
	tr.write(b, dir)

	server := startBenchServer(b, dir, "routes")
	registryAddr, floorAddr := server.addr(), server.addr()
	var targets [3]*target // the floor twice, and the registry
	for i, addr := range [...]string{floorAddr, floorAddr, registryAddr} {
		targets[i] = &target{conns: dial(b, addr, conns)}
	}

	for b.Loop() {
		b.Logf("%-22s %10s %10s %10s %12s %12s", "", "rate/s", "of floor", "noise", "CPU/request", "floor's")
		for _, r := range benchRoutes(dir) {
			status := "200"
			if r.name == "not found" {
				status = "404"
			}
			for _, t := range targets {
				load(b, t.conns, length, status, r.target) // nothing is new to it then
				t.rates, t.cpu = nil, nil
			}
			for begun, rounds := time.Now(), 0; rounds < atLeast || time.Since(begun) < enough; rounds++ {
				for _, i := range rand.Perm(len(targets)) {
					t := targets[i]
					before, _ := server.usage()
					n, took := load(b, t.conns, length, status, r.target)
					after, _ := server.usage()
					t.rates = append(t.rates, n/took.Seconds())
					t.cpu = append(t.cpu, (after-before)/n)
				}
			}
			floor, again, registry := targets[0], targets[1], targets[2]
			b.Logf("%-22s %10.0f %10.3f %10.3f %12v %12v", r.name, median(registry.rates), median(ratios(registry.rates, floor.rates)), median(ratios(again.rates, floor.rates)),
				time.Duration(median(registry.cpu)).Round(10*time.Nanosecond), time.Duration(median(floor.cpu)).Round(10*time.Nanosecond))
		}
	}
}

func ratios(a, b []float64) []float64 {
	all := make([]float64, len(a))
	for i := range a {
		all[i] = a[i] / b[i]
	}
	return all
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// load asks for any of some paths, on some connections, for a time, and wants a
// status. It returns how often it was answered, and in what time.
func load(b *testing.B, conns []*bufio.ReadWriter, length time.Duration, status string, paths ...string) (float64, time.Duration) {
	counts := make([]int, len(conns))
	begun := time.Now()
	end := begun.Add(length)
	var group sync.WaitGroup
	for i, conn := range conns {
		group.Go(func() {
			for time.Now().Before(end) {
				path := paths[rand.IntN(len(paths))]
				conn.WriteString("GET ")
				conn.WriteString(path)
				conn.WriteString(" HTTP/1.1\r\nHost: registry.test\r\nAccept-Encoding: gzip\r\n\r\n")
				err := conn.Flush()
				if err == nil {
					err = skipResponse(conn.Reader, status)
				}
				if err != nil {
					b.Errorf("%s: %v", path, err)
					return
				}
				counts[i]++
			}
		})
	}
	group.Wait()
	n := 0
	for _, count := range counts {
		n += count
	}
	return float64(max(n, 1)), time.Since(begun)
}

// BenchmarkMemory asks for random packages of a tree as large as the whole
// public registry: some thousand providers, 150,000 packages.
func BenchmarkMemory(b *testing.B) {
	dir := b.TempDir()
	tr := make(tree)
	var paths []string
	for i := range 1000 {
		releases := 1 + 2500/(i+6) // a few are large, and most are small
		tr[fmt.Sprintf("acme/p%d.json", i)] = strings.ReplaceAll(largeDocument(releases, 11), "large", fmt.Sprint("p", i))
		for j := range releases * 11 {
			on := benchPlatform(j % 11)
			paths = append(paths, fmt.Sprintf("/v1/providers/acme/p%d/%s/download/%s/%s", i, benchVersion(j/11), on.OS, on.Arch))
		}
	}
	tr.write(b, dir)
	server := startBenchServer(b, dir, "tree")
	conns := dial(b, server.addr(), 32)
	for b.Loop() {
		n, took := load(b, conns, 15*time.Second, "200", paths...)
		_, memory := server.usage()
		b.ReportMetric(n/took.Seconds(), "downloads/s")
		b.ReportMetric(memory/1024, "MiB-at-most")
		b.ReportMetric(float64(len(paths)), "packages")
		b.ReportMetric(0, "ns/op")
	}
}

// skipResponse reads a response with as little work as can be, so that it is
// the servers that are compared.
func skipResponse(in *bufio.Reader, status string) error {
	length := 0
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 "+status)) {
			return fmt.Errorf("%s", line)
		}
		if len(line) == 2 {
			_, err := in.Discard(length)
			return err
		}
		if rest, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(rest))); err != nil {
				return err
			}
		}
	}
}
