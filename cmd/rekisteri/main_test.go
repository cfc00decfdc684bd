package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"
)

// A buffer is what a running command has written.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A running is a command that serves.
type running struct {
	url, port      string
	stdout, stderr buffer
	stop           func() error // ends it, and returns its error
}

// start runs the command on a free port until the test ends.
func start(t *testing.T, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := new(running)
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, append([]string{"-addr", "127.0.0.1:0"}, args...), &s.stdout, &s.stderr) }()
	s.stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := s.stop(); err != nil {
			t.Errorf("the command ended with %v\n%s", err, s.stderr.String())
		}
	})
	listening := regexp.MustCompile(`msg=listening url=(\S+)`)
	for {
		if m := listening.FindStringSubmatch(s.stderr.String()); m != nil {
			s.url, s.port = m[1], portOf(t, m[1])
			break
		}
		select {
		case err := <-ended:
			ended <- nil
			t.Fatalf("the command ended with %v\n%s", err, s.stderr.String())
		case <-time.After(time.Millisecond):
		}
	}
	// What it prints comes after it listens, and before it answers.
	if resp, err := httpClient().Get(s.url + "/healthy"); err == nil {
		resp.Body.Close()
	}
	return s
}

func httpClient() *http.Client { return &http.Client{Timeout: 10 * time.Second} }

// freeAddr returns an address that nothing listens on.
func freeAddr(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

func fetch(t *testing.T, url string) (int, string) {
	t.Helper()
	return ask(t, "GET", url, "")
}

// ask asks with a token, unless that is empty, and takes the answer as it is
// sent.
func ask(t *testing.T, method, url, token string) (int, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	req.Header.Set("Accept-Encoding", "identity")
	resp, err := httpClient().Do(req)
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

// TestFlags gives the command what it cannot serve with.
func TestFlags(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing")
	file := filepath.Join(t.TempDir(), "file")
	writeFile(t, file, "")
	secret := func(name, text string) string {
		name = filepath.Join(filepath.Dir(file), name)
		writeFile(t, name, text)
		if err := os.Chmod(name, 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"-addr", busy.Addr().String()}, "address already in use; -addr takes another address"},
		{[]string{"-dir", missing}, missing},
		{[]string{"-dir", file}, file},
		{[]string{"-prefix", "tf"}, "does not begin with a slash"},
		{[]string{"-external-url", "/tf"}, "not an absolute"},
		{[]string{"-external-url", `http://a"b`}, "not an absolute"},
		{[]string{"-external-url", "https://a/tf?"}, "not an absolute"},
		{[]string{"-tls-cert", missing}, "go together"},
		{[]string{"-tls-cert", missing, "-tls-key", missing}, missing},
		{[]string{"-tls-cert", file, "-tls-key", file}, "find any PEM data"},
		{[]string{"-tokens", missing}, missing},
		{[]string{"-link-key", missing}, missing},
		{[]string{"-link-key", file}, "holds no key"},
		{[]string{"-link-key", secret("short", "0123")}, "line 1: it is not 64 hexadecimal digits"},
		{[]string{"-link-key", secret("zeros", "# a key\n"+strings.Repeat("0", 64))}, "line 2: the key is all zeros"},
		{[]string{"-link-key", secret("two", strings.Repeat("ab", 32)+" "+strings.Repeat("ab", 32))}, "line 1: it is not"},
		{[]string{"-link-key", secret("long", strings.Repeat("ab", 33))}, "line 1: it is not"},
		{[]string{"-link-ttl", "0s"}, "not positive"},
		{[]string{"-link-ttl", "soon"}, "invalid value"},
		{[]string{"-drain", "-1s"}, "negative"},
		{[]string{"-grace", "-1s"}, "negative"},
		{[]string{"serve"}, `unexpected argument "serve"`},
		{[]string{"-nothing"}, "not defined"},
	} {
		err := run(t.Context(), test.args, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%q: %v, want %q", test.args, err, test.want)
		}
	}
	if err := run(t.Context(), []string{"-help"}, io.Discard, io.Discard); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-help: %v", err)
	}
}

// TestPrefix mounts the registry below a prefix: discovery stays at the root.
func TestPrefix(t *testing.T) {
	for _, prefix := range []string{"", "/", "//tf", "/tf//", "/tf/../x"} {
		s := start(t, "-prefix", prefix)
		host := "http://127.0.0.1:" + s.port
		_, discovery := fetch(t, host+"/.well-known/terraform.json")
		at, _, _ := strings.Cut(strings.TrimPrefix(discovery, `{"providers.v1":"`), `"`)
		if code, _ := fetch(t, host+at+"hashicorp/random/versions"); code != 200 {
			t.Errorf("-prefix %q: %s leads to %d", prefix, discovery, code)
		}
	}
	s := start(t, "-prefix", "/tf/")
	root := strings.TrimSuffix(s.url, "/tf")
	for path, want := range map[string]int{
		"/.well-known/terraform.json":                200,
		"/tf/v1/providers/hashicorp/random/versions": 200,
		"/v1/providers/hashicorp/random/versions":    404,
		"/tf": 404, "/tfv1/providers/hashicorp/random/versions": 404, "/": 404,
		"/tf//v1/providers/hashicorp/random/versions": 404,
	} {
		code, body := fetch(t, root+path)
		if code != want || !strings.HasPrefix(body, "{") {
			t.Errorf("GET %s = %d %s, want %d", path, code, body, want)
		}
		if strings.Contains(path, "well-known") && !strings.Contains(body, `"/tf/v1/providers/"`) {
			t.Errorf("discovery: %s", body)
		}
	}
}

// TestSwappedDirectory serves a path that is a link, as git-sync and
// ConfigMaps keep it, from wherever it leads.
func TestSwappedDirectory(t *testing.T) {
	tmp := t.TempDir()
	document := func(version string) string {
		return `{"versions":[{"version":"` + version + `","platforms":[{"os":"linux","arch":"amd64","filename":"f.zip","download_url":"https://h/f.zip",
			"shasums_url":"https://h/s","shasums_signature_url":"https://h/s.sig","shasum":"` + strings.Repeat("0", 64) + `"}]}]}`
	}
	writeFile(t, filepath.Join(tmp, "a", "acme", "foo.json"), document("1.0.0"))
	writeFile(t, filepath.Join(tmp, "b", "acme", "foo.json"), document("2.0.0"))
	link := filepath.Join(tmp, "current")
	if err := os.Symlink("a", link); err != nil {
		t.Skip(err)
	}
	s := start(t, "-dir", link)
	versions := s.url + "/v1/providers/acme/foo/versions"
	if code, body := fetch(t, versions); code != 200 || !strings.Contains(body, "1.0.0") {
		t.Fatalf("%d %s", code, body)
	}
	if err := os.Symlink("b", link+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link+".new", link); err != nil {
		t.Fatal(err)
	}
	within(t, 4*time.Second, func() bool {
		_, body := fetch(t, versions)
		return strings.Contains(body, "2.0.0")
	})

	// A path that leads nowhere is an outage, and no deletion.
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2500 * time.Millisecond)
	if code, body := fetch(t, versions); code != 200 || !strings.Contains(body, "2.0.0") {
		t.Errorf("what was read before: %d %s", code, body)
	}
	if code, _ := fetch(t, s.url+"/v1/providers/acme/bar/versions"); code != 500 {
		t.Errorf("what was never read: %d, want 500", code)
	}
}

// within waits until ok holds.
func within(t *testing.T, limit time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not happen within %v", limit)
		}
	}
}

// TestLinks follows links that stay in the tree, and no others.
func TestLinks(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	doc, err := sample.ReadFile("sample/hashicorp/random.json")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(outside, "out", "secret.json"), string(doc))
	writeFile(t, filepath.Join(dir, "..data", "real.json"), string(doc))
	writeFile(t, filepath.Join(dir, "acme", "real.json"), string(doc))
	writeFile(t, filepath.Join(dir, "file"), "not a directory")
	for name, target := range map[string]string{
		"acme/inside.json":   "real.json",
		"acme/hidden.json":   "../..data/real.json",
		"linked":             "acme",
		"acme/outside.json":  filepath.Join("..", "..", filepath.Base(outside), "out", "secret.json"),
		"acme/absolute.json": filepath.Join(dir, "acme", "real.json"),
		"acme/loop.json":     "loop.json",
		"acme/dangling.json": "nothing.json",
		"escaped":            filepath.Join(outside, "out"),
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
	}
	s := start(t, "-dir", dir)
	for provider, want := range map[string]int{
		"acme/real": 200, "acme/inside": 200, "acme/hidden": 200, "linked/real": 200, "linked/inside": 200,
		"acme/outside": 404, "acme/absolute": 404, "acme/loop": 404, "acme/dangling": 404, "escaped/secret": 404, "file/foo": 404,
	} {
		if code, body := fetch(t, s.url+"/v1/providers/"+provider+"/versions"); code != want {
			t.Errorf("%s = %d %s, want %d", provider, code, body, want)
		}
	}
	for _, want := range []string{"acme/outside.json", "leads out of the tree", "acme/absolute.json", "is absolute", "leads in a circle", "path=escaped"} {
		if !strings.Contains(s.stderr.String(), want) {
			t.Errorf("the log says nothing of %s:\n%s", want, s.stderr.String())
		}
	}
}

// TestTLSReload replaces the certificate under the running server.
func TestTLSReload(t *testing.T) {
	dir := t.TempDir()
	cert, key := newCertificate(t, dir)
	s := start(t, "-tls-cert", cert, "-tls-key", key)
	if strings.Contains(s.stdout.String(), "init") {
		t.Errorf("a trial over plain http is printed: %s", s.stdout.String())
	}
	before := serial(t, s)
	if got := serial(t, s); got != before {
		t.Fatalf("serial %s, then %s", before, got)
	}
	writeFile(t, cert, "half a certificate")
	time.Sleep(1100 * time.Millisecond)
	if got := serial(t, s); got != before {
		t.Errorf("a broken certificate took the place of a good one")
	}
	newCertificate(t, dir)
	within(t, 4*time.Second, func() bool { return serial(t, s) != before })
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// serial returns the serial number of the certificate that the server shows.
func serial(t *testing.T, s *running) string {
	t.Helper()
	conn, err := tls.Dial("tcp", "127.0.0.1:"+s.port, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// TestCheck checks trees.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	files, err := fs.Sub(sample, "sample")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "acme", "bad.json"), "{")
	writeFile(t, filepath.Join(dir, "demo", "hello", "2.0.0", "README"), "")
	zip := filepath.Join(dir, "demo", "hello", "1.0.0", "terraform-provider-hello_1.0.0_linux_amd64.zip")
	b, err := os.ReadFile(zip)
	if err != nil {
		t.Fatal(err)
	}
	b[50] ^= 1
	if err := os.Chmod(zip, 0o666); err != nil {
		t.Fatal(err)
	}
	writeFile(t, zip, string(b))
	const sum, bad, empty = "linux_amd64.zip: its sum is not the one in SHA256SUMS", "acme/bad.json: it is not a metadata document", "demo/hello/2.0.0: there is no SHA256SUMS"
	for _, test := range []struct {
		args []string
		want []string // parts of what it prints, in order
		ok   bool
	}{
		{[]string{"-check"}, []string{"2 providers checked, 0 problems"}, true},
		{[]string{"-check", "-hash"}, []string{"2 providers checked, 0 problems"}, true},
		{[]string{"-check", "-dir", dir}, []string{bad, empty, "3 providers checked, 2 problems"}, false},
		{[]string{"-check", "-hash", "-dir", dir}, []string{bad, empty, sum, "3 providers checked, 3 problems"}, false},
		{[]string{"-check", "-dir", dir, "hashicorp/random"}, []string{"1 providers checked, 0 problems"}, true},
		{[]string{"-check", "-hash", "-dir", dir, "hashicorp/random", "demo/hello"}, []string{empty, sum, "2 providers checked, 2 problems"}, false},
		{[]string{"-check", "-dir", dir, "acme/nothing"}, []string{"acme/nothing: there is no such provider"}, false},
		{[]string{"-check", "-dir", dir, "../demo"}, []string{"../demo: clients cannot ask for such a name"}, false},
		{[]string{"-check", "-dir", t.TempDir()}, []string{"there is no provider in the tree", "0 providers checked, 1 problems"}, false},
	} {
		var out buffer
		err := run(t.Context(), test.args, &out, io.Discard)
		if test.ok != (err == nil) {
			t.Errorf("%q ended with %v", test.args, err)
		}
		rest, ok := out.String(), true
		for _, part := range test.want {
			if _, rest, ok = strings.Cut(rest, part); !ok {
				t.Errorf("%q printed\n%swithout %q", test.args, out.String(), part)
				break
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, []string{"-check", "-hash"}, io.Discard, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("a check that is cut short ended with %v", err)
	}
	for _, args := range [][]string{{"-hash"}, {"demo/hello"}, {"-check", "demo"}} {
		if err := run(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q ended well", args)
		}
	}
}
