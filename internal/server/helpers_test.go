package server

import (
	"context"
	"flag"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/server/servertest"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

// A treeSource is a source of the files in a file system.
type treeSource struct {
	fsys   fs.FS
	sample bool
}

func (s *treeSource) Flags(flags *flag.FlagSet) {
	flags.BoolVar(&s.sample, "sample", s.sample, "serve a sample")
}

func (s *treeSource) Open(_ context.Context, opts *rekisteri.FSOptions) (*Tree, error) {
	return &Tree{Backend: rekisteri.NewFSBackend(s.fsys, opts), Name: "a tree", Sample: s.sample}, nil
}

// run runs a program that serves rekisteritest's releases.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	return runTree(rekisteritest.Releases())(ctx, args, stdout, stderr)
}

// runTree returns a program that serves the files in a file system.
func runTree(fsys fs.FS) func(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	src := &treeSource{fsys: fsys}
	p := &Program{Name: "test", Summary: "A test.", Commands: []Command{Serve(src), Check(src)}}
	return p.Run
}

// copyReleases copies rekisteritest's releases to a directory.
func copyReleases(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.CopyFS(dir, rekisteritest.Releases()); err != nil {
		t.Fatal(err)
	}
	return dir
}

// secret writes a file that only its owner can read.
func secret(t *testing.T, text string) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secret")
	servertest.WriteFile(t, name, text)
	return name
}

func newLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// request asks with a token, unless it is empty, and returns the status and the
// body as it was sent.
func request(t *testing.T, method, url, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Accept-Encoding", "identity")
	client := &http.Client{Timeout: 10 * time.Second}
	resp, err := client.Do(req)
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

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	return request(t, http.MethodGet, url, "")
}
