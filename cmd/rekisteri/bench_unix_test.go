//go:build unix

package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/loadtest"
	"github.com/rekisteri/rekisteri/internal/server"
	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

const (
	// floorVar is the variable that makes the test binary the floor of
	// BenchmarkCommand. It names a file of answers.
	floorVar = "REKISTERI_BENCH_FLOOR"

	// treeVar is the variable that names the tree of BenchmarkTree.
	treeVar = "REKISTERI_BENCH_TREE"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(floorVar); name != "" {
		serveFloor(name)
		return
	}
	os.Exit(m.Run())
}

// An answer is what the command answers to a request.
type answer struct {
	Header http.Header
	Body   []byte
}

// serveFloor serves the answers in a file, by their paths, with a handler that
// does nothing else. It prints its address, and ends with its standard input.
func serveFloor(name string) {
	text, err := os.ReadFile(name)
	if err != nil {
		panic(err)
	}
	answers := make(map[string]*answer)
	if err := json.Unmarshal(text, &answers); err != nil {
		panic(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	srv := server.NewHTTPServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		a := answers[req.URL.Path]
		h := w.Header()
		for name, values := range a.Header {
			h[name] = values
		}
		w.WriteHeader(http.StatusOK)
		w.Write(a.Body)
	}))
	go srv.Serve(ln)
	fmt.Println(ln.Addr())
	io.Copy(io.Discard, os.Stdin)
}

// startFloor starts a process that gives the answers of another server, and
// returns its address.
func startFloor(b *testing.B, addr string, paths []string) string {
	answers := make(map[string]*answer)
	for _, path := range paths {
		req, err := http.NewRequestWithContext(b.Context(), "GET", "http://"+addr+path, nil)
		if err != nil {
			b.Fatal(err)
		}
		req.Header.Set("Accept-Encoding", "gzip") // the body is not decoded then
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			b.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != 200 {
			b.Fatalf("%s: %s, %v", path, resp.Status, err)
		}
		delete(resp.Header, "Date") // the server's own
		resp.Header.Set("Content-Length", fmt.Sprint(len(body)))
		answers[path] = &answer{resp.Header, body}
	}
	text, err := json.Marshal(answers)
	if err != nil {
		b.Fatal(err)
	}
	file := filepath.Join(b.TempDir(), "answers")
	servertest.WriteFile(b, file, string(text))
	floor := exec.Command(os.Args[0])
	floor.Env = append(os.Environ(), floorVar+"="+file)
	floor.Stderr = os.Stderr
	in, err := floor.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := floor.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := floor.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		in.Close()
		floor.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// A command is a process that runs the command.
type command struct {
	addr string
	pid  int

	// stop ends the process, and returns the most memory that it had, in MiB.
	stop func() float64
}

// startCommand starts the command, which is in the directory bin, on a tree, with
// more flags.
func startCommand(b *testing.B, bin, dir string, flags ...string) *command {
	cmd := exec.Command(filepath.Join(bin, "rekisteri"), append([]string{"-addr", "127.0.0.1:0", "-dir", dir}, flags...)...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	c := &command{pid: cmd.Process.Pid}
	stopped := false
	c.stop = func() float64 {
		if !stopped {
			stopped = true
			cmd.Process.Signal(syscall.SIGTERM)
			if err := cmd.Wait(); err != nil {
				b.Errorf("the command ended with %v", err)
			}
		}
		usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
		if runtime.GOOS == "darwin" {
			return float64(usage.Maxrss) / (1 << 20) // it is in bytes there
		}
		return float64(usage.Maxrss) / (1 << 10)
	}
	b.Cleanup(func() { c.stop() })
	log := bufio.NewScanner(stderr)
	listening := regexp.MustCompile(`msg=listening url=http://(\S+)`)
	for log.Scan() {
		if m := listening.FindStringSubmatch(log.Text()); m != nil {
			c.addr = m[1]
			go io.Copy(io.Discard, stderr)
			return c
		}
	}
	b.Fatal("the command does not listen")
	return nil
}

// dial opens connections to the command.
func (c *command) dial(b *testing.B, conns int) *loadtest.Server {
	s := loadtest.Dial(b, c.addr, conns)
	s.CPU = c.cpu
	return s
}

// cpu returns the CPU time in nanoseconds that the process has used, or zero if
// the system is not Linux.
func (c *command) cpu() (nanoseconds float64) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", c.pid))
	for _, thread := range threads {
		var used float64
		if text, err := os.ReadFile(thread); err == nil { // else it has ended
			fmt.Sscan(string(text), &used)
		}
		nanoseconds += used
	}
	return nanoseconds
}

// document returns a metadata document like that of a public provider: each
// release has packages for some platforms, and they share a signing key.
func document(b *testing.B, providerType string, releases, platforms int) string {
	key, err := sample.ReadFile("sample/demo/demo.asc")
	if err != nil {
		b.Fatal(err)
	}
	quoted, err := json.Marshal(string(key))
	if err != nil {
		b.Fatal(err)
	}
	var doc strings.Builder
	fmt.Fprintf(&doc, `{"signing_keys":{"gpg_public_keys":[{"key_id":"3C91E2DDC757EE2B","ascii_armor":%s}]},"versions":[`, quoted)
	for i := range releases {
		if i > 0 {
			doc.WriteByte(',')
		}
		version := fmt.Sprintf("%d.%d.%d", i/100, i/10%10, i%10)
		base := "https://downloads.acme.example/" + version + "/terraform-provider-" + providerType + "_" + version
		fmt.Fprintf(&doc, `{"version":%q,"protocols":["5.0"],"shasums_url":"%s_SHA256SUMS","shasums_signature_url":"%s_SHA256SUMS.sig","platforms":[`, version, base, base)
		for j := range platforms {
			if j > 0 {
				doc.WriteByte(',')
			}
			goos, arch := [...]string{"darwin", "freebsd", "linux", "windows"}[j%4], [...]string{"386", "amd64", "arm", "arm64"}[j/4]
			fmt.Fprintf(&doc, `{"os":%q,"arch":%q,"filename":"terraform-provider-%s_%s_%s_%s.zip","download_url":"%s_%s_%s.zip","shasum":"%064x"}`,
				goos, arch, providerType, version, goos, arch, base, goos, arch, i*100+j)
		}
		doc.WriteString("]}")
	}
	doc.WriteString("]}")
	return doc.String()
}

// BenchmarkCommand compares the command, as it is built and shipped, with a bare
// handler in another process that writes the same bytes with the same headers.
// The handler, which is the floor, is measured twice in each round: its two
// rates differ by noise.
func BenchmarkCommand(b *testing.B) {
	const conns = 32
	dir := b.TempDir()
	servertest.WriteFile(b, filepath.Join(dir, "acme", "large.json"), document(b, "large", 425, 14))
	servertest.WriteFile(b, filepath.Join(dir, "acme", "small.json"), document(b, "small", 20, 14))
	routes := []struct{ name, path string }{
		{name: "discovery", path: "/.well-known/terraform.json"},
		{name: "versions of 20", path: "/v1/providers/acme/small/versions"},
		{name: "versions of 425", path: "/v1/providers/acme/large/versions"},
		{name: "download", path: "/v1/providers/acme/large/4.2.0/download/linux/amd64"},
	}
	var paths []string
	for _, r := range routes {
		paths = append(paths, r.path)
	}
	command := startCommand(b, buildCommand(b), dir)
	floorAddr := startFloor(b, command.addr, paths)
	floor, again, registry := loadtest.Dial(b, floorAddr, conns), loadtest.Dial(b, floorAddr, conns), loadtest.Dial(b, command.addr, conns)
	for _, r := range routes {
		b.Run(r.name, func(b *testing.B) {
			for b.Loop() {
				loadtest.Compare(b, loadtest.Request{Status: "200", Paths: []string{r.path}}, floor, again, registry)
			}
			b.ReportMetric(loadtest.Median(registry.Rates), "requests/s")
			b.ReportMetric(loadtest.Ratio(registry, floor), "of-floor")
			b.ReportMetric(loadtest.Ratio(again, floor), "floor-of-floor")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkMetrics compares the CPU time of commands with and without metrics. Of
// each kind there are several processes, and the figure is of all of them: two
// processes with the same flags differ by more than metrics cost.
func BenchmarkMetrics(b *testing.B) {
	if runtime.GOOS != "linux" {
		b.Skip("the CPU time of a running process is known on Linux only")
	}
	const processes, conns = 6, 16
	dir := b.TempDir()
	servertest.WriteFile(b, filepath.Join(dir, "acme", "small.json"), document(b, "small", 20, 14))
	bin := buildCommand(b)
	kinds := []struct {
		flags   []string
		servers []*loadtest.Server
	}{
		{},
		{}, // the difference between the first two is noise
		{flags: []string{"-metrics-addr", "127.0.0.1:0"}},
	}
	var all []*loadtest.Server
	for range processes {
		for i := range kinds {
			s := startCommand(b, bin, dir, kinds[i].flags...).dial(b, conns)
			kinds[i].servers = append(kinds[i].servers, s)
			all = append(all, s)
		}
	}
	for _, r := range []struct{ name, path string }{
		{name: "discovery", path: "/.well-known/terraform.json"},
		{name: "versions", path: "/v1/providers/acme/small/versions"},
		{name: "download", path: "/v1/providers/acme/small/0.0.0/download/linux/amd64"},
	} {
		b.Run(r.name, func(b *testing.B) {
			for b.Loop() {
				loadtest.Compare(b, loadtest.Request{Status: "200", Paths: []string{r.path}}, all...)
			}
			var cpu [3]float64 // the mean of the processes' medians
			for i, kind := range kinds {
				for _, s := range kind.servers {
					cpu[i] += loadtest.Median(s.CPUs) / processes
				}
			}
			without := (cpu[0] + cpu[1]) / 2
			b.ReportMetric(cpu[2]/without, "CPU-with-metrics")
			b.ReportMetric(cpu[1]/cpu[0], "CPU-noise")
			b.ReportMetric(without/1000, "us-CPU/request")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkTree asks for random packages of a large tree, and reports the rate
// and the most memory that the command's process had. The tree is the one that
// REKISTERI_BENCH_TREE names, or one of 1,000 providers with 150,000 packages.
func BenchmarkTree(b *testing.B) {
	dir := os.Getenv(treeVar)
	if dir == "" {
		dir = b.TempDir()
		for i := range 1000 { // a few are large, and most are small
			name := fmt.Sprint("p", i)
			servertest.WriteFile(b, filepath.Join(dir, "acme", name+".json"), document(b, name, 1+2500/(i+6), 11))
		}
	}
	command := startCommand(b, buildCommand(b), dir)
	request := loadtest.Request{Status: "200", Paths: packagePaths(b, dir)}
	conns := loadtest.Dial(b, command.addr, 32)
	var answers, seconds float64
	for b.Loop() {
		n, took := conns.Load(b, 15*time.Second, request)
		answers, seconds = answers+n, seconds+took.Seconds()
	}
	b.ReportMetric(answers/seconds, "downloads/s")
	b.ReportMetric(command.stop(), "MiB-at-most")
	b.ReportMetric(float64(len(request.Paths)), "packages")
	b.ReportMetric(0, "ns/op")
}

// packagePaths returns the paths of all packages of a tree.
func packagePaths(b *testing.B, dir string) (paths []string) {
	backend := rekisteri.NewFSBackend(os.DirFS(dir), &rekisteri.FSOptions{Logger: slog.New(slog.DiscardHandler)})
	for p, err := range backend.Providers(b.Context()) {
		if err != nil {
			b.Fatal(err)
		}
		listing, err := backend.Versions(b.Context(), p)
		if err != nil {
			continue // no version of it can be served
		}
		for _, v := range listing.Versions {
			for _, on := range v.Platforms {
				paths = append(paths, fmt.Sprintf("/v1/providers/%v/%s/download/%s/%s", p, v.Version, on.OS, on.Arch))
			}
		}
	}
	return paths
}
