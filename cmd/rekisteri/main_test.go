package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

// start runs the command on a free port until the test ends.
func start(t *testing.T, args ...string) *servertest.Server {
	t.Helper()
	return servertest.Start(t, newProgram().Run, args...)
}

// get returns the status and the body of an answer.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := &http.Client{Timeout: 10 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// TestSample checks the embedded sample, its zips included.
func TestSample(t *testing.T) {
	var out strings.Builder
	if err := newProgram().Run(t.Context(), []string{"check", "-hash"}, &out, io.Discard); err != nil || out.String() != "2 providers checked, 0 problems\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

func TestDirectory(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	servertest.WriteFile(t, file, "")
	for name, path := range map[string]string{"a missing directory": filepath.Join(dir, "missing"), "a file": file} {
		if err := newProgram().Run(t.Context(), []string{"-dir", path}, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: %v, want an error that names it", name, err)
		}
	}
	t.Setenv("REKISTERI_DIR", dir)
	s := start(t)
	s.Stop()
	if !strings.Contains(s.Stderr.String(), "serving="+dir+"\n") {
		t.Errorf("the log has\n%s", s.Stderr.String())
	}
}

// TestSignals sends the command a signal, and another one.
func TestSignals(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent a signal on Windows")
	}
	const child = "REKISTERI_TEST_SIGNALS"
	if os.Getenv(child) != "" {
		os.Args = []string{os.Args[0], "-addr", "127.0.0.1:0", "-drain", "1m"}
		signal.Reset()
		main()
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSignals$")
	cmd.Env = append(os.Environ(), child+"=1")
	var stderr servertest.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for _, logged := range []string{"msg=listening", "shutting down"} {
		servertest.Within(t, 10*time.Second, func() bool { return strings.Contains(stderr.String(), logged) })
		if logged == "shutting down" {
			time.Sleep(200 * time.Millisecond) // so that the second signal is not merged with the first
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(fmt.Sprint(err), "terminated") {
			t.Errorf("the command ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		cmd.Process.Kill()
		t.Error("a second signal does not end the command")
	}
}

// TestExitStatus runs the command with wrong flags, and with a tree that has
// problems.
func TestExitStatus(t *testing.T) {
	t.Parallel()
	const child = "REKISTERI_TEST_ARGS"
	if args := os.Getenv(child); args != "" {
		os.Args = append([]string{os.Args[0]}, strings.Fields(args)...)
		main()
		os.Exit(0) // without what a test prints
	}
	for _, test := range []struct {
		args   string
		status int
		stderr string
	}{
		{args: "check demo/hello", status: 0},
		{args: "-version", status: 0},
		{args: "help", status: 0},
		{args: "check acme/nothing", status: 1, stderr: "rekisteri: the tree has problems\n"},
		{args: "-drain 5", status: 2, stderr: "rekisteri: invalid value \"5\" for flag -drain: it needs a unit, such as 5s\nRun 'rekisteri help' to see the commands and flags.\n"},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestExitStatus$")
		cmd.Env = append(os.Environ(), child+"="+test.args)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != test.status || stderr.String() != test.stderr {
			t.Errorf("rekisteri %s: status %d, %q, want %d, %q", test.args, got, stderr.String(), test.status, test.stderr)
		}
	}
}
