package rekisteri_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/rekisteri/rekisteri"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata/exchanges")

// sampleTree is the command's sample.
func sampleTree() fs.FS { return os.DirFS("cmd/rekisteri/sample") }

// quiet is a logger for tests whose log says nothing that they are about.
func quiet(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newRegistry(t *testing.T, b rekisteri.Backend) *rekisteri.Registry {
	return rekisteri.New(b, &rekisteri.Options{Logger: quiet(t)})
}

func newFSRegistry(t *testing.T, fsys fs.FS) *rekisteri.Registry {
	return newRegistry(t, rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{Logger: quiet(t)}))
}

// get answers a request for a target, which may be any that HTTP can carry.
func get(h http.Handler, method, target string) *http.Response {
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + target + " HTTP/1.1\r\nHost: registry.test\r\n\r\n")))
	if err != nil {
		panic(err)
	}
	rec := httptest.NewRecorder()
	h.ServeHTTP(rec, req)
	return rec.Result()
}

func body(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestExchanges replays the exchanges in testdata/exchanges: lines with ">" are
// sent, and those with "<" are the answer.
func TestExchanges(t *testing.T) {
	files, err := filepath.Glob("testdata/exchanges/*.http")
	if err != nil || len(files) == 0 {
		t.Fatalf("no exchanges: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".http"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			synctest.Test(t, func(t *testing.T) { // whose time is always the same
				got = replay(t, exchangeHandler(t, filepath.Base(file)), string(want))
			})
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("the answers have changed; go test -run Exchanges -update rewrites them:\n%s", firstDifference(got, string(want)))
			}
		})
	}
}

// exchangeHandler returns what a file of exchanges is sent to.
func exchangeHandler(t *testing.T, file string) http.Handler {
	backend := rekisteri.NewFSBackend(sampleTree(), &rekisteri.FSOptions{Logger: quiet(t)})
	switch file {
	case "private.http": // alice may read demo
		return rekisteri.New(backend, &rekisteri.Options{Logger: quiet(t), LinkKeys: [][32]byte{linkKey(1), linkKey(2)},
			Authorize: func(req *http.Request, p rekisteri.Provider) error {
				switch {
				case req.Header.Get("Authorization") != "Bearer alice":
					return rekisteri.ErrUnauthenticated
				case p.Namespace != "demo":
					return fs.ErrPermission
				}
				return nil
			}})
	case "subpath.http":
		mux := http.NewServeMux()
		reg := newRegistry(t, backend)
		mux.Handle("/tf/", http.StripPrefix("/tf", reg))
		mux.Handle("/.well-known/terraform.json", reg.Discovery("/tf"))
		return mux
	case "absolute.http":
		return rekisteri.New(backend, &rekisteri.Options{Logger: quiet(t), ExternalURL: "https://registry.test/tf/",
			Services: map[string]any{"modules.v1": "https://modules.test/v1/"}})
	case "failing.http":
		return newRegistry(t, &fake{err: errors.New("the disk is on fire")})
	case "hanging.http":
		return newRegistry(t, &fake{err: context.DeadlineExceeded})
	case "odd.http":
		return newRegistry(t, oddBackend())
	}
	return newRegistry(t, backend)
}

// oddBackend says what clients choke on, beside what they do not.
func oddBackend() *fake {
	var versions []rekisteri.Version
	for _, v := range []string{"1.10.0", "latest", "1.9.0", "1.0", "1.10.0-rc.1", "../..", "99999999999999999999.0.0", "1.9.0", "01.0.0", "1.0.0+b", ""} {
		versions = append(versions, rekisteri.Version{Version: v})
	}
	versions[0].Protocols = []string{"5.0", "v6", "", "5.1-beta", "5.1.0-beta", "5.1.0+b", "99999999999999999999.0"}
	versions[2].Protocols = []string{"v6"}
	versions[0].Platforms = []rekisteri.Platform{{OS: "linux", Arch: "amd64"}, {OS: "Linux", Arch: "amd64"}, {OS: "linux"}}
	pkg := func(os, filename, url string) rekisteri.Package {
		return rekisteri.Package{Platform: rekisteri.Platform{OS: os, Arch: "amd64"}, Filename: filename, URL: url,
			SHASumsURL: "https://files.test/s", SHASumsSignatureURL: "https://files.test/s.sig",
			SigningKeys: []rekisteri.SigningKey{{KeyID: "NONE", ASCIIArmor: "no key"}}}
	}
	return &fake{
		listing: &rekisteri.Listing{Versions: versions, Warnings: []string{"use acme/bar"}},
		release: &rekisteri.Release{Packages: []rekisteri.Package{
			pkg("linux", "foo.zip", "https://files.test/foo.zip"), pkg("windows", "../foo.zip", "https://files.test/foo.zip"), pkg("darwin", "foo.zip", "file:///foo.zip"),
		}},
	}
}

// replay returns the exchanges in text with the answers that h gives.
func replay(t *testing.T, h http.Handler, text string) string {
	var out, request strings.Builder
	flush := func() {
		if request.Len() == 0 {
			return
		}
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request.String() + "\r\n")))
		if err != nil {
			t.Fatalf("%v in the request\n%s", err, request.String())
		}
		request.Reset()
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		resp := rec.Result()
		fmt.Fprintf(&out, "< %s\n", resp.Status)
		for _, key := range slices.Sorted(maps.Keys(resp.Header)) {
			fmt.Fprintf(&out, "< %s: %s\n", key, strings.Join(resp.Header[key], ", "))
		}
		if b := strings.TrimSuffix(body(t, resp), "\n"); b != "" {
			fmt.Fprintf(&out, "<\n< %s\n", strings.ReplaceAll(b, "\n", "\n< "))
		}
	}
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "> "):
			request.WriteString(strings.TrimSpace(line[2:]))
			if !strings.Contains(request.String(), "\r\n") {
				request.WriteString(" HTTP/1.1\r\nHost: registry.test")
			}
			request.WriteString("\r\n")
		case strings.HasPrefix(line, "<"):
			continue
		default:
			flush()
		}
		out.WriteString(line)
	}
	flush()
	return out.String()
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d: got\n%s\nwant\n%s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("got %d lines, want %d", len(g), len(w))
}

// TestSeed asks what the system before this one was asked, under every kind of
// mount, and wants its answers.
func TestSeed(t *testing.T) {
	root := newFSRegistry(t, sampleTree())
	stripped := http.NewServeMux()
	stripped.Handle("/tf/", http.StripPrefix("/tf", root))
	stripped.Handle("/.well-known/terraform.json", root.Discovery("/tf"))

	behind := httptest.NewServer(root)
	defer behind.Close()
	target, err := url.Parse(behind.URL)
	if err != nil {
		t.Fatal(err)
	}
	proxy := http.NewServeMux()
	proxy.Handle("/portal/tf/", http.StripPrefix("/portal/tf", httputil.NewSingleHostReverseProxy(target)))
	proxy.Handle("/.well-known/terraform.json", root.Discovery("/portal/tf/"))

	for _, test := range []struct {
		name, prefix string
		handler      http.Handler
	}{
		{"root", "", root},
		{"StripPrefix", "/tf", stripped},
		{"reverse proxy", "/portal/tf", proxy},
	} {
		for path, want := range map[string]string{
			"/.well-known/terraform.json":                                             `{"providers.v1": "` + test.prefix + `/v1/providers/"}`,
			test.prefix + "/v1/providers/hashicorp/random/versions":                   readFile(t, "testdata/seed/versions.json"),
			test.prefix + "/v1/providers/hashicorp/random/2.0.0/download/linux/amd64": readFile(t, "testdata/seed/download.json"),
		} {
			resp := get(test.handler, "GET", path)
			got := body(t, resp)
			if resp.StatusCode != 200 || !equalJSON(t, got, want) {
				t.Errorf("%s: GET %s = %s\n%s\nwant\n%s", test.name, path, resp.Status, got, want)
			}
		}
	}
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func equalJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y any
	if err := errors.Join(json.Unmarshal([]byte(a), &x), json.Unmarshal([]byte(b), &y)); err != nil {
		t.Errorf("%v in\n%s\nor\n%s", err, a, b)
	}
	return reflect.DeepEqual(x, y)
}

// A fake is a Backend that answers with what it holds, and remembers what it
// was asked.
type fake struct {
	listing *rekisteri.Listing
	release *rekisteri.Release
	err     error
	asked   []string
}

func (f *fake) Versions(_ context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
	f.asked = append(f.asked, p.String())
	return f.listing, f.err
}

func (f *fake) Release(_ context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
	f.asked = append(f.asked, p.String()+" "+version)
	return f.release, f.err
}

// TestBadPaths asks for what cannot exist in every place of a path. None of it
// may reach the backend.
func TestBadPaths(t *testing.T) {
	bad := []string{
		"", ".", "..", "%2e", "%2e%2e", "..%2f..%2fetc", "%2f", "a%2fb", "a%5cb", "a%00b", "%00", "a%0ab", "%ff", "%c3",
		".hidden", "a.b", "a%20b", "a;b", "a:b", "a%7cb", "~", "lost+found", "a%2b", strings.Repeat("a", 10<<10),
		"%ef%bf%bd", "%e2%80%ae",
	}
	good := []string{"acme", "foo", "1.0.0", "linux", "amd64"}
	b := &fake{listing: &rekisteri.Listing{}, release: &rekisteri.Release{}}
	reg := newRegistry(t, b)
	for _, s := range bad {
		for i := range good {
			parts := slices.Clone(good)
			parts[i] = s
			for _, target := range []string{
				fmt.Sprintf("/v1/providers/%s/%s/versions", parts[0], parts[1]),
				fmt.Sprintf("/v1/providers/%s/%s/%s/download/%s/%s", parts[0], parts[1], parts[2], parts[3], parts[4]),
			} {
				if i > 1 && strings.HasSuffix(target, "versions") {
					continue
				}
				resp := get(reg, "GET", target)
				if resp.StatusCode != 404 || resp.Header.Get("Content-Type") != "application/json" {
					t.Errorf("GET %.80s = %s %v, want 404 as JSON", target, resp.Status, resp.Header)
				}
			}
		}
	}
	for _, target := range []string{"//v1/providers/acme/foo/versions", "/v1//providers/acme/foo/versions", "/v1/providers/acme/foo/versions/",
		"/v1/providers/acme/foo/./versions", "/v1/providers/x/../acme/foo/versions", "/v1/../v1/providers/acme/foo/versions", "/", "/v1", "/V1/providers/acme/foo/versions"} {
		if resp := get(reg, "GET", target); resp.StatusCode != 404 {
			t.Errorf("GET %s = %s, want 404", target, resp.Status)
		}
	}
	for _, version := range []string{"v1.0.0", "1.0", "1", "01.0.0", "latest", "1.2.3.4", "99999999999999999999.0.0", "1.0.0-", "1.0.0-01"} {
		if resp := get(reg, "GET", "/v1/providers/acme/foo/"+version+"/download/linux/amd64"); resp.StatusCode != 404 {
			t.Errorf("version %s = %s, want 404", version, resp.Status)
		}
	}
	if len(b.asked) > 0 {
		t.Errorf("the backend was asked for %.200q", b.asked)
	}
}

// TestNames asks for names that clients send, as the backend gets them.
func TestNames(t *testing.T) {
	for target, want := range map[string]string{
		"/v1/providers/a_b/google-beta/versions":                               "a_b/google-beta",
		"/v1/providers/%C3%A4%C3%B6/%E6%97%A5%E6%9C%AC/versions":               "äö/日本",
		"/v1/providers/acme/foo/1.0.0+a.b/download/linux/amd64":                "acme/foo 1.0.0+a.b",
		"/v1/providers/acme/foo/1.0.0%2Ba/download/linux/amd64":                "acme/foo 1.0.0+a",
		"/v1/providers/acme/foo/18446744073709551615.0.0/download/linux/amd64": "acme/foo 18446744073709551615.0.0",
	} {
		b := &fake{err: fs.ErrNotExist}
		get(newRegistry(t, b), "GET", target)
		if len(b.asked) != 1 || b.asked[0] != want {
			t.Errorf("GET %s asked the backend for %q, want %q", target, b.asked, want)
		}
	}
}

// TestFailures gives a backend's failures to clients: as a status, without a
// word of the cause.
func TestFailures(t *testing.T) {
	secret := "secret-bucket/path"
	for _, test := range []struct {
		name string
		b    *fake
		want int
	}{
		{"absent", &fake{err: &fs.PathError{Op: "open", Path: secret, Err: fs.ErrNotExist}}, 404},
		{"outage", &fake{err: errors.New(secret)}, 500},
		{"a directory that may not be read is no refusal", &fake{err: &fs.PathError{Op: "open", Path: secret, Err: fs.ErrPermission}}, 500},
		{"timeout", &fake{err: fmt.Errorf("%s: %w", secret, context.DeadlineExceeded)}, 504},
		{"cancelled inside is no absence", &fake{err: fmt.Errorf("%s: %w", secret, context.Canceled)}, 504},
		{"nil, nil", &fake{}, 500},
	} {
		for _, target := range []string{"/v1/providers/acme/foo/versions", "/v1/providers/acme/foo/1.0.0/download/linux/amd64"} {
			resp := get(newRegistry(t, test.b), "GET", target)
			got := body(t, resp)
			if resp.StatusCode != test.want || strings.Contains(got, secret) {
				t.Errorf("%s: GET %s = %s %s, want %d", test.name, target, resp.Status, got, test.want)
			}
			if cc := resp.Header.Get("Cache-Control"); cc != "no-store" {
				t.Errorf("%s: Cache-Control of an error is %q", test.name, cc)
			}
		}
	}
}

// TestPages gives what a backend returns to clients: sorted, and without what
// they would choke on.
func TestPages(t *testing.T) {
	linux := []rekisteri.Platform{{OS: "linux", Arch: "amd64"}}
	b := &fake{listing: &rekisteri.Listing{
		Warnings: []string{"use <acme/bar> & co"},
		Versions: []rekisteri.Version{
			{Version: "10.0.0", Protocols: []string{"5.0", "v6", "", "6"}, Platforms: linux},
			{Version: "9.0.0", Platforms: append([]rekisteri.Platform{{OS: "../x", Arch: "amd64"}, {OS: "Linux", Arch: "amd64"}}, linux...)},
			{Version: "10.0.0-rc.1"}, {Version: "10.0.0-beta.11"}, {Version: "10.0.0-beta.2"},
			{Version: "1.0.0+b"}, {Version: "1.0.0+a"}, {Version: "9.0.0"},
			{Version: "1.2"}, {Version: "v1.2.0"}, {Version: "latest"}, {Version: "1.2.3.4"}, {Version: "99999999999999999999.0.0"}, {Version: ""},
		},
	}}
	got := body(t, get(newRegistry(t, b), "GET", "/v1/providers/acme/foo/versions"))
	want := `{"versions":[` +
		`{"version":"1.0.0+a","protocols":[],"platforms":[]},{"version":"1.0.0+b","protocols":[],"platforms":[]},` +
		`{"version":"9.0.0","protocols":[],"platforms":[{"os":"linux","arch":"amd64"}]},` +
		`{"version":"10.0.0-beta.2","protocols":[],"platforms":[]},{"version":"10.0.0-beta.11","protocols":[],"platforms":[]},` +
		`{"version":"10.0.0-rc.1","protocols":[],"platforms":[]},` +
		`{"version":"10.0.0","protocols":["5.0","6"],"platforms":[{"os":"linux","arch":"amd64"}]}],` +
		`"warnings":["use <acme/bar> & co"]}` + "\n"
	if got != want {
		t.Errorf("versions:\n%s\nwant\n%s", got, want)
	}

	b.listing = &rekisteri.Listing{Versions: []rekisteri.Version{{Version: "latest"}}}
	if resp := get(newRegistry(t, b), "GET", "/v1/providers/acme/foo/versions"); resp.StatusCode != 404 {
		t.Errorf("a listing that ends empty = %s, want 404", resp.Status)
	}
}

// TestPackages asks for packages, good ones and others.
func TestPackages(t *testing.T) {
	pkg := func(os, arch string, edit func(*rekisteri.Package)) rekisteri.Package {
		p := rekisteri.Package{
			Platform: rekisteri.Platform{OS: os, Arch: arch}, Filename: os + "_" + arch + ".zip",
			URL: "https://h/z", SHASumsURL: "../s", SHASumsSignatureURL: "http://h/sig",
		}
		if edit != nil {
			edit(&p)
		}
		return p
	}
	b := &fake{release: &rekisteri.Release{Packages: []rekisteri.Package{
		pkg("linux", "386", nil), pkg("darwin", "amd64", nil), pkg("linux", "amd64", func(p *rekisteri.Package) {
			p.SigningKeys = []rekisteri.SigningKey{{KeyID: "1", ASCIIArmor: "no armor"}, {KeyID: "2", ASCIIArmor: "-----BEGIN PGP PUBLIC KEY BLOCK-----"}}
		}),
		pkg("a", "noname", func(p *rekisteri.Package) { p.Filename = "" }),
		pkg("a", "space", func(p *rekisteri.Package) { p.Filename = "a b.zip" }),
		pkg("a", "slash", func(p *rekisteri.Package) { p.Filename = "../a.zip" }),
		pkg("a", "nourl", func(p *rekisteri.Package) { p.SHASumsURL = "" }),
		pkg("a", "scheme", func(p *rekisteri.Package) { p.URL = "s3://bucket/zip" }),
		pkg("a", "nohost1", func(p *rekisteri.Package) { p.URL = "https://" }),
		pkg("a", "nohost2", func(p *rekisteri.Package) { p.URL = "https:///zip" }),
		pkg("a", "nohost3", func(p *rekisteri.Package) { p.URL = "http:zip" }),
	}}}
	reg := newRegistry(t, b)
	for platform, want := range map[string]int{
		"linux/amd64": 200, "linux/386": 200, "darwin/amd64": 200,
		"darwin/386": 404, "linux/arm64": 404, "windows/amd64": 404, "Linux/amd64": 404,
		"a/noname": 404, "a/space": 404, "a/slash": 404, "a/nourl": 404, "a/scheme": 404,
		"a/nohost1": 404, "a/nohost2": 404, "a/nohost3": 404,
	} {
		resp := get(reg, "GET", "/v1/providers/acme/foo/1.0.0/download/"+platform)
		if resp.StatusCode != want {
			t.Errorf("%s = %s, want %d", platform, resp.Status, want)
			continue
		}
		if want != 200 {
			continue
		}
		var got struct {
			OS, Arch, Filename string
			SigningKeys        struct {
				Keys []struct {
					ID string `json:"key_id"`
				} `json:"gpg_public_keys"`
			} `json:"signing_keys"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&got); err != nil {
			t.Fatal(err)
		}
		if got.OS+"/"+got.Arch != platform || got.Filename != got.OS+"_"+got.Arch+".zip" {
			t.Errorf("%s got %+v", platform, got)
		}
		if platform == "linux/amd64" && (len(got.SigningKeys.Keys) != 1 || got.SigningKeys.Keys[0].ID != "2") {
			t.Errorf("keys: got %+v, want the one that is armored", got.SigningKeys)
		}
	}
}

// TestLogs looks at who gets to know what of a failure.
func TestLogs(t *testing.T) {
	for _, test := range []struct {
		err   error
		level string
	}{
		{errors.New("the cause"), "ERROR"},
		{fmt.Errorf("the cause: %w", context.DeadlineExceeded), "ERROR"},
		{fmt.Errorf("the cause: %w", fs.ErrNotExist), "DEBUG"},
	} {
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
		reg := rekisteri.New(&fake{err: test.err}, &rekisteri.Options{Logger: logger})
		get(reg, "GET", "/v1/providers/acme/foo/versions?token=secret")
		if s := log.String(); !strings.Contains(s, "level="+test.level) || !strings.Contains(s, "the cause") || strings.Contains(s, "secret") {
			t.Errorf("%v is logged as %s", test.err, s)
		}
	}
}

// TestLeftOutLog says once what of a backend's is not sent.
func TestLeftOutLog(t *testing.T) {
	var log bytes.Buffer
	reg := rekisteri.New(oddBackend(), &rekisteri.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for range 2 {
		get(reg, "GET", "/v1/providers/acme/foo/versions")
		get(reg, "GET", "/v1/providers/acme/foo/1.0.0/download/linux/amd64")
	}
	for _, want := range []string{"version=latest ", "protocol=5.1-beta\n", "platform=Linux_amd64\n", "key=NONE\n"} {
		if n := strings.Count(log.String(), want); n != 1 {
			t.Errorf("%q stands there %d times:\n%s", want, n, log.String())
		}
	}
}

func TestNewPanics(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("New(nil, nil) did not panic")
		}
	}()
	rekisteri.New(nil, nil)
}

// TestDependencies holds the module to the standard library and x/mod.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-test", "-f", "{{if not .Standard}}{{with .Module}}{{.Path}}{{end}}{{end}}", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := slices.Compact(slices.Sorted(slices.Values(strings.Fields(string(out)))))
	if want := []string{"github.com/rekisteri/rekisteri", "golang.org/x/mod"}; !slices.Equal(modules, want) {
		t.Errorf("the packages and their tests are of the modules %q, want %q", modules, want)
	}
}

// A logBuffer is a log of all levels that may be read while it is written.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func newLogBuffer() *logBuffer { return new(logBuffer) }

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
