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
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
)

// benchServer is the variable that makes the test binary the server of
// BenchmarkLoopback, with a directory for its files: its CPU time is then its
// own.
const benchServer = "REKISTERI_BENCH_SERVER"

func TestMain(m *testing.M) {
	if dir := os.Getenv(benchServer); dir != "" {
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

// serveBenchmark serves the routes on one port, and their floors on another.
// It prints both ports, and then its CPU time for each line that it is sent.
func serveBenchmark(dir string) {
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
	for _, handlers := range []map[string]http.Handler{registry, floor} {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			handlers[req.URL.Path].ServeHTTP(w, req)
		}))
		fmt.Println(ln.Addr())
	}
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var usage syscall.Rusage
		syscall.Getrusage(syscall.RUSAGE_SELF, &usage)
		fmt.Println(time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Nanoseconds())
	}
}

// A target is a server that is measured, with connections that stay open.
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

	server := exec.Command(os.Args[0])
	server.Env = append(os.Environ(), benchServer+"="+dir)
	server.Stderr = os.Stderr
	in, err := server.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := server.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := server.Start(); err != nil {
		b.Fatal(err)
	}
	defer server.Wait()
	defer in.Close()
	out := bufio.NewScanner(stdout)
	line := func() string { out.Scan(); return out.Text() }
	registryAddr, floorAddr := line(), line()
	cpu := func() float64 {
		io.WriteString(in, "\n")
		n, err := strconv.ParseFloat(line(), 64)
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	var targets [3]*target // the floor twice, and the registry
	for i, addr := range [...]string{floorAddr, floorAddr, registryAddr} {
		targets[i] = new(target)
		for range conns {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			rw := bufio.NewReadWriter(bufio.NewReaderSize(conn, 64<<10), bufio.NewWriter(conn))
			targets[i].conns = append(targets[i].conns, rw)
		}
	}

	for b.Loop() {
		b.Logf("%-22s %10s %10s %10s %12s %12s", "", "rate/s", "of floor", "noise", "CPU/request", "floor's")
		for _, r := range benchRoutes(dir) {
			for _, t := range targets {
				load(b, t.conns, r.target, length) // nothing is new to it then
				t.rates, t.cpu = nil, nil
			}
			for begun, rounds := time.Now(), 0; rounds < atLeast || time.Since(begun) < enough; rounds++ {
				for _, i := range rand.Perm(len(targets)) {
					t, before := targets[i], cpu()
					n, took := load(b, t.conns, r.target, length)
					t.rates = append(t.rates, float64(n)/took.Seconds())
					t.cpu = append(t.cpu, (cpu()-before)/float64(n))
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

// load sends requests on some connections for a time, and returns how many
// were answered, and in what time.
func load(b *testing.B, conns []*bufio.ReadWriter, path string, length time.Duration) (int, time.Duration) {
	request := []byte("GET " + path + " HTTP/1.1\r\nHost: registry.test\r\nAccept-Encoding: gzip\r\n\r\n")
	counts := make([]int, len(conns))
	begun := time.Now()
	end := begun.Add(length)
	var group sync.WaitGroup
	for i, conn := range conns {
		group.Go(func() {
			for time.Now().Before(end) {
				conn.Write(request)
				if err := conn.Flush(); err != nil {
					b.Error(err)
					return
				}
				if err := skipResponse(conn.Reader); err != nil {
					b.Error(err)
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
	return max(n, 1), time.Since(begun)
}

// skipResponse reads a response with as little work as can be, so that it is
// the servers that are compared.
func skipResponse(in *bufio.Reader) error {
	length := 0
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
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
