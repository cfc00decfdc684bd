//go:build unix

package rekisteri_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/loadtest"
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
		serveBenchmark(dir)
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
// It prints the addresses, and then its CPU time for each line that it reads.
func serveBenchmark(dir string) {
	for _, handler := range benchHandlers(dir) {
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
		fmt.Println(usage.Utime.Nano() + usage.Stime.Nano())
	}
}

// benchHandlers returns a handler of the routes, and one of their floors.
func benchHandlers(dir string) []http.Handler {
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

func startBenchServer(b *testing.B, dir string) *benchServer {
	server := exec.Command(os.Args[0])
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

// cpu returns the server's CPU time in nanoseconds.
func (s *benchServer) cpu() (nanoseconds float64) {
	io.WriteString(s.in, "\n")
	s.out.Scan()
	if _, err := fmt.Sscan(s.out.Text(), &nanoseconds); err != nil {
		s.b.Fatal(err)
	}
	return nanoseconds
}

// BenchmarkLoopback compares the routes with their floors over TCP, with 32
// connections. The floor is measured twice in each round: its two rates differ
// by noise. The floor of the zip is http.FileServerFS.
func BenchmarkLoopback(b *testing.B) {
	const conns = 32
	dir := b.TempDir()
	tr := newTree(b, "1.0.0")
	name := strings.TrimPrefix(zipTarget, "/files/")
	tr[name] = strings.Repeat("\x00", 20<<20) + tr[name] // a zip may begin with anything
	tr.write(b, dir)

	server := startBenchServer(b, dir)
	registryAddr, floorAddr := server.addr(), server.addr()
	floor, again, registry := loadtest.Dial(b, floorAddr, conns), loadtest.Dial(b, floorAddr, conns), loadtest.Dial(b, registryAddr, conns)
	for _, s := range []*loadtest.Server{floor, again, registry} {
		s.CPU = server.cpu
	}
	duration := func(all []float64) time.Duration {
		return time.Duration(loadtest.Median(all)).Round(10 * time.Nanosecond)
	}

	for b.Loop() {
		b.Logf("%-22s %10s %10s %10s %12s %12s", "", "rate/s", "of floor", "noise", "CPU/request", "floor's")
		for _, r := range benchRoutes(dir) {
			status := "200"
			if r.name == "not found" {
				status = "404"
			}
			loadtest.Compare(b, loadtest.Request{Status: status, Paths: []string{r.target}}, floor, again, registry)
			b.Logf("%-22s %10.0f %10.3f %10.3f %12v %12v", r.name, loadtest.Median(registry.Rates), loadtest.Ratio(registry, floor), loadtest.Ratio(again, floor),
				duration(registry.CPUs), duration(floor.CPUs))
		}
	}
}
