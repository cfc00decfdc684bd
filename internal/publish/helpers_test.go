package publish

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/pgptest"
	"github.com/rekisteri/rekisteri/internal/release"
	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

const (
	secret   = "tok-secret-0123" // must never be in an output
	prefix   = "terraform-provider-hello_1.0.0_"
	sumsFile = prefix + "SHA256SUMS"
	zipFile  = prefix + "linux_amd64.zip"
	macFile  = prefix + "darwin_arm64.zip"
	manifest = `{"version":1,"metadata":{"protocol_versions":["6.0"]}}`
)

func testKey() *pgptest.Key { return pgptest.NewKey("publisher") }

func otherKey() *pgptest.Key { return pgptest.NewKey("somebody else") }

// zipOf returns a zip with one file.
func zipOf(t testing.TB, name, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create(name)
	if err == nil {
		_, err = io.WriteString(f, text)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// releaseOf returns the files of a release of acme/hello 1.0.0, whose zips hold
// text.
func releaseOf(t testing.TB, text string) map[string]string {
	files := make(map[string]string)
	files[prefix+"manifest.json"] = manifest
	for _, name := range []string{zipFile, macFile} {
		files[name] = zipOf(t, "terraform-provider-hello_v1.0.0", text+" in "+name)
	}
	signFiles(files)
	return files
}

// signFiles makes SHA256SUMS and its signature for files.
func signFiles(files map[string]string) {
	delete(files, sumsFile)
	delete(files, sumsFile+".sig")
	sums := ""
	for _, name := range slices.Sorted(maps.Keys(files)) {
		sums += fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(files[name])), name)
	}
	files[sumsFile], files[sumsFile+".sig"] = sums, testKey().Sign(sums, time.Time{})
}

// writeDist writes a release as GoReleaser does: the manifest stays in the
// parent directory, and there are other files.
func writeDist(t testing.TB, files map[string]string) (dir string) {
	t.Helper()
	repository := t.TempDir()
	dir = filepath.Join(repository, "dist")
	servertest.WriteFile(t, filepath.Join(dir, "artifacts.json"), "[]")
	servertest.WriteFile(t, filepath.Join(dir, "terraform-provider-hello_linux_amd64_v1", "terraform-provider-hello_v1.0.0"), "\x7fELF")
	for name, text := range files {
		if strings.HasSuffix(name, "_manifest.json") {
			servertest.WriteFile(t, filepath.Join(repository, release.Manifest), text)
			continue
		}
		servertest.WriteFile(t, filepath.Join(dir, name), text)
	}
	return dir
}

// A registry is a real registry, that tests count and disturb the requests of.
type testRegistry struct {
	t   testing.TB
	dir string // the tree
	reg http.Handler
	url string

	mu       sync.Mutex
	requests []string                                            // PUT with the name of the file, others with the path
	before   func(w http.ResponseWriter, req *http.Request) bool // returns whether it has answered
}

// newRegistry returns a registry that waits for releases of acme.
func newRegistry(t testing.TB) *testRegistry {
	r := &testRegistry{t: t, dir: t.TempDir()}
	servertest.WriteFile(t, filepath.Join(r.dir, "acme", "key.asc"), testKey().Armor())
	store, err := rekisteri.OpenDir(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	silent := slog.New(slog.DiscardHandler)
	backend := rekisteri.NewFSBackend(store, &rekisteri.FSOptions{Logger: silent, Store: store})
	authorize := func(req *http.Request, p rekisteri.Provider) error {
		switch {
		case req.Header.Get("Authorization") != "Bearer "+secret:
			return rekisteri.ErrUnauthenticated
		case p.Namespace != "acme":
			return fs.ErrPermission
		}
		return nil
	}
	r.reg = rekisteri.New(backend, &rekisteri.Options{
		Logger:    silent,
		Authorize: authorize,
		Publish:   &rekisteri.PublishOptions{To: backend.Publisher(), Authorize: authorize},
	})
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.url = server.URL
	return r
}

// ServeHTTP implements [http.Handler].
func (r *testRegistry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	name := req.URL.Path
	if req.Method == http.MethodPut {
		name = "PUT " + name[strings.LastIndex(name, "/")+1:]
	}
	r.requests = append(r.requests, name)
	before := r.before
	r.mu.Unlock()
	if before == nil || !before(w, req) {
		r.reg.ServeHTTP(w, req)
	}
}

// uploads returns the names of the files that were sent, sorted.
func (r *testRegistry) uploads() (names []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, request := range r.requests {
		if name, ok := strings.CutPrefix(request, "PUT "); ok {
			names = append(names, strings.TrimPrefix(name, prefix))
		}
	}
	slices.Sort(names)
	return names
}

// put uploads a file without the command.
func (r *testRegistry) put(name, content string) int {
	r.t.Helper()
	req := httptest.NewRequest("PUT", "/files/acme/hello/1.0.0/"+name, strings.NewReader(content))
	req.Header.Set("Authorization", "Bearer "+secret)
	w := httptest.NewRecorder()
	r.reg.ServeHTTP(w, req)
	return w.Code
}

// published returns the published files.
func (r *testRegistry) published() map[string]string {
	files := make(map[string]string)
	dir := filepath.Join(r.dir, "acme", "hello", "1.0.0")
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		r.t.Fatal(err)
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(dir, entry.Name()))
		if err != nil {
			r.t.Fatal(err)
		}
		files[entry.Name()] = string(text)
	}
	return files
}

// A result is what the command did.
type result struct {
	stdout, stderr string
	err            error
}

// publish runs the command for a directory. The token is in the environment.
func (r *testRegistry) publish(dir string, edit ...func(*publisher)) result {
	r.t.Helper()
	return publishTo(r.t, r.url, dir, edit...)
}

func publishTo(t testing.TB, url, dir string, edit ...func(*publisher)) result {
	t.Helper()
	if _, ok := os.LookupEnv(tokenVariable); !ok {
		t.(*testing.T).Setenv(tokenVariable, secret)
	}
	p := &publisher{to: url, provider: "acme/hello"}
	for _, e := range edit {
		e(p)
	}
	var stdout, stderr servertest.Buffer
	err := p.run(context.WithoutCancel(t.Context()), []string{dir}, &stdout, &stderr)
	got := result{stdout.String(), stderr.String(), err}
	if strings.Contains(got.stdout+got.stderr+fmt.Sprint(err), secret) {
		t.Errorf("the token is in the output: %+v", got)
	}
	return got
}
