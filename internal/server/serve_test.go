package server

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/server/servertest"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

// TestServeErrors gives the command what it cannot serve with.
func TestServeErrors(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	missing := filepath.Join(t.TempDir(), "missing")
	for _, test := range []struct {
		name  string
		args  []string
		err   string
		usage bool
	}{
		{name: "a busy address", args: []string{"-addr", busy.Addr().String()}, err: "address already in use; set -addr to another address"},
		{name: "a relative prefix", args: []string{"-prefix", "tf"}, err: "-prefix tf does not begin with a slash", usage: true},
		{name: "a relative external URL", args: []string{"-external-url", "/tf"}, err: "set an absolute http or https URL", usage: true},
		{name: "a malformed external URL", args: []string{"-external-url", `http://a"b`}, err: "set an absolute http or https URL", usage: true},
		{name: "an external URL with a query", args: []string{"-external-url", "https://a/tf?"}, err: "set an absolute http or https URL", usage: true},
		{name: "a certificate without a key", args: []string{"-tls-cert", missing}, err: "go together", usage: true},
		{name: "a key without a certificate", args: []string{"-tls-key", missing}, err: "go together", usage: true},
		{name: "a missing certificate", args: []string{"-tls-cert", missing, "-tls-key", missing}, err: missing},
		{name: "missing tokens", args: []string{"-tokens", missing}, err: missing},
		{name: "tokens for a sample", args: []string{"-tokens", secret(t, strings.Repeat("ab", 32)+" *"), "-sample"}, err: "set -dir to serve your own providers", usage: true},
		{name: "missing link keys", args: []string{"-link-key", missing}, err: missing},
		{name: "a malformed link key", args: []string{"-link-key", secret(t, "0123")}, err: "line 1: a link key is 64 hexadecimal digits"},
		{name: "links that expire at once", args: []string{"-link-ttl", "0s"}, err: "-link-ttl is zero", usage: true},
		{name: "no cache", args: []string{"-cache-mib", "0"}, err: "-cache-mib is 0", usage: true},
		{name: "a drain without a unit", args: []string{"-drain", "5"}, err: "it needs a unit, such as 5s", usage: true},
		{name: "a negative grace", args: []string{"-grace", "-1s"}, err: "it is negative", usage: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // should it serve
			defer cancel()
			err := run(ctx, test.args, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			if _, ok := errors.AsType[usageError](err); ok != test.usage {
				t.Errorf("%v is a usage error: %t, want %t", err, ok, test.usage)
			}
		})
	}
}

// TestServeLog reads the first lines of the log, and what is printed.
func TestServeLog(t *testing.T) {
	linkKey, tokens := secret(t, strings.Repeat("ab", 32)), secret(t, strings.Repeat("ab", 32)+" *")
	cert, key := servertest.Certificate(t, t.TempDir(), time.Now().Add(time.Hour))
	const listening = `level=INFO msg=listening url=http://127.0.0.1:`
	for _, test := range []struct {
		name     string
		tree     fs.FS
		args     []string
		log      []string
		warnings int
		trial    string // the provider that the printed commands install
	}{
		{name: "a tree", log: []string{listening, `serving="a tree" providers=3`}},
		{name: "a sample", args: []string{"-sample"}, log: []string{`providers=3`}, trial: "acme/foo"},
		{name: "a sample and TLS", args: []string{"-sample", "-tls-cert", cert, "-tls-key", key}, log: []string{`url=https://127.0.0.1:`}},
		{name: "an empty tree", tree: fstest.MapFS{}, args: []string{"-sample"}, log: []string{"level=ERROR", "the tree is empty", listening}, warnings: 1},
		{name: "a tree with a key only", tree: keysOnly(t), args: []string{"-sample"}, log: []string{`providers=0`, "level=WARN", "there is no provider"}, warnings: 1},
		{name: "an unreadable tree", tree: unreadableFS{}, args: []string{"-sample"}, log: []string{"level=ERROR", "the tree cannot be read", "stale handle", listening, `serving="a tree"` + "\n"}, warnings: 1},
		{name: "tokens", args: []string{"-tokens", tokens, "-link-key", linkKey}, log: []string{listening}},
		{name: "tokens without a link key", args: []string{"-tokens", tokens}, log: []string{"level=WARN", "signed with a random key", listening}, warnings: 1},
		{name: "a link key without tokens", args: []string{"-link-key", linkKey}, log: []string{"level=WARN", "-link-key is set without -tokens, so /v1/ is public", listening}, warnings: 1},
		{name: "a prefix", args: []string{"-prefix", "/tf/"}, log: []string{listening, "/tf serving"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			tree := test.tree
			if tree == nil {
				tree = rekisteritest.Releases()
			}
			s := servertest.Start(t, runTree(tree), test.args...)
			s.Stop()
			rest, ok := s.Stderr.String(), true
			for _, part := range test.log {
				if _, rest, ok = strings.Cut(rest, part); !ok {
					t.Errorf("the log has\n%swithout %q", s.Stderr.String(), part)
					break
				}
			}
			if n := strings.Count(s.Stderr.String(), "level=WARN") + strings.Count(s.Stderr.String(), "level=ERROR"); n != test.warnings {
				t.Errorf("the log has %d warnings and errors, want %d:\n%s", n, test.warnings, s.Stderr.String())
			}
			trial := s.Stdout.String()
			if test.trial == "" && trial != "" || test.trial != "" && (!strings.Contains(trial, `source = "rekisteri.test/`+test.trial+`"`) || !strings.Contains(trial, `"providers.v1" = "`+s.URL+`/v1/providers/"`)) {
				t.Errorf("it printed %q", trial)
			}
		})
	}
}

// keysOnly returns a tree that waits for its first release.
func keysOnly(t *testing.T) fs.FS {
	key, err := fs.ReadFile(rekisteritest.Releases(), "acme/acme.asc")
	if err != nil {
		t.Fatal(err)
	}
	return fstest.MapFS{"acme/acme.asc": &fstest.MapFile{Data: key}}
}

// TestHealthAtStart asks for the health of trees before any other request.
func TestHealthAtStart(t *testing.T) {
	for _, test := range []struct {
		name   string
		tree   fs.FS
		code   int
		status string
	}{
		{name: "a tree", tree: rekisteritest.Releases(), code: 200, status: "ok"},
		{name: "a tree with a key only", tree: keysOnly(t), code: 200, status: "ok"},
		{name: "an empty tree", tree: fstest.MapFS{}, code: 503, status: "tree unreadable"},
		{name: "an unreadable tree", tree: unreadableFS{}, code: 503, status: "tree unreadable"},
	} {
		s := servertest.Start(t, runTree(test.tree))
		if code, body := get(t, s.URL+healthPath); code != test.code || !strings.Contains(body, `"status":"`+test.status+`"`) {
			t.Errorf("%s: %d %s, want %d %s", test.name, code, body, test.code, test.status)
		}
	}
}

// An unreadableFS is a file system that fails.
type unreadableFS struct{}

func (unreadableFS) Open(string) (fs.File, error) { return nil, errors.New("stale handle") }

// TestListProvidersHangs has the disk hang, which the start does not wait for.
func TestListProvidersHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fsys, hang := brokenTree(), make(chan struct{})
		fsys.hang.Store(&hang)
		begun := time.Now()
		_, n, err := listProviders(t.Context(), rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{Logger: discard()}))
		if took := time.Since(begun); n != 0 || err == nil || took != listTimeout {
			t.Errorf("%d providers, %v, after %v", n, err, took)
		}
		close(hang)
	})
}

// TestPrefix mounts the registry below a prefix: discovery and health stay at
// the root.
func TestPrefix(t *testing.T) {
	const versions = "v1/providers/acme/foo/versions"
	for _, test := range []struct {
		prefix, mount string
		not           []string // paths that are 404
	}{
		{prefix: "", mount: "/", not: []string{"/tf/" + versions, "//" + versions, "/healthz/", "/healthzx", "/"}},
		{prefix: "/", mount: "/"},
		{prefix: "//tf", mount: "/tf/"},
		{prefix: "/tf//", mount: "/tf/"},
		{prefix: "/tf/../x", mount: "/x/"},
		{prefix: "/tf/", mount: "/tf/", not: []string{"/" + versions, "/tf", "/tfv1/providers/acme/foo/versions", "/", "/tf//" + versions, "/tf/healthz", "/tf/.well-known/terraform.json/"}},
	} {
		t.Run(test.prefix, func(t *testing.T) {
			command := &serving{prefix: test.prefix, linkTTL: duration{time.Hour}, cacheMiB: 1}
			if err := command.validate(); err != nil {
				t.Fatal(err)
			}
			backend := rekisteri.NewFSBackend(rekisteritest.Releases(), &rekisteri.FSOptions{Logger: discard()})
			readTree(t.Context(), backend)
			handler := mount(rekisteri.New(backend, &rekisteri.Options{Logger: discard()}), nil, command.prefix, &health{stopping: t.Context(), backend: backend})
			get := func(path string) (int, string) {
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, httptest.NewRequest("GET", "http://localhost"+path, nil))
				return w.Code, w.Body.String()
			}
			if _, body := get("/.well-known/terraform.json"); !strings.Contains(body, `"providers.v1":"`+test.mount+`v1/providers/"`) {
				t.Errorf("discovery: %s", body)
			}
			for _, path := range []string{test.mount + versions, healthPath, healthPath + "?x"} {
				if code, body := get(path); code != 200 {
					t.Errorf("GET %s = %d %s", path, code, body)
				}
			}
			for _, path := range test.not {
				if code, body := get(path); code != 404 || !strings.HasPrefix(body, "{") {
					t.Errorf("GET %s = %d %s, want 404", path, code, body)
				}
			}
		})
	}
}

// TestTLS replaces the certificate of a running command.
func TestTLS(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for the files to be read again")
	}
	t.Parallel()
	dir := t.TempDir()
	cert, key := servertest.Certificate(t, dir, time.Now().Add(time.Hour))
	s := servertest.Start(t, run, "-tls-cert", cert, "-tls-key", key)
	shown := func() string {
		conn, err := tls.Dial("tcp", "127.0.0.1:"+s.Port, &tls.Config{InsecureSkipVerify: true})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
	}
	before := shown()
	servertest.Certificate(t, dir, time.Now().Add(time.Hour))
	servertest.Within(t, 4*time.Second, func() bool { return shown() != before })
}

// TestServeVariables sets flags by variables.
func TestServeVariables(t *testing.T) {
	t.Setenv("REKISTERI_PREFIX", "/env")
	t.Setenv("REKISTERI_ACCESS_LOG", "true")
	t.Setenv("REKISTERI_PORT", "tcp://10.0.0.1:5000")
	s := servertest.Start(t, run)
	if code, _ := get(t, s.URL+"/v1/providers/acme/foo/versions"); !strings.HasSuffix(s.URL, "/env") || code != 200 {
		t.Errorf("%s: %d", s.URL, code)
	}
	s.Stop()
	if len(accessLines(s.Stderr.String())) != 1 {
		t.Errorf("there is no access log:\n%s", s.Stderr.String())
	}
}
