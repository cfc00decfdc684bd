package rekisteri_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rekisteri/rekisteri"
)

// sampleTree is the command's sample.
func sampleTree() fs.FS { return os.DirFS("cmd/rekisteri/sample") }

// quiet returns a logger that writes to the output of a test that fails.
func quiet(t *testing.T) *slog.Logger {
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func newRegistry(t *testing.T, b rekisteri.Backend) *rekisteri.Registry {
	return rekisteri.New(b, &rekisteri.Options{Logger: quiet(t)})
}

func newFSRegistry(t *testing.T, fsys fs.FS) *rekisteri.Registry {
	return newRegistry(t, rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{Logger: quiet(t)}))
}

// get requests a target, which may be any that HTTP can carry.
func get(h http.Handler, method, target string, header ...string) *http.Response {
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + target + " HTTP/1.1\r\nHost: registry.test\r\n\r\n")))
	if err != nil {
		panic(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
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

// A logBuffer is a log of all levels that can be read while it is written.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelDebug - 10}))
}

func (l *logBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// take returns the log and empties it.
func (l *logBuffer) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

// A fake is a Backend that returns its fields and records its calls.
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

// onePackage returns a release with a package for linux_amd64, whose files are
// elsewhere.
func onePackage(keys ...rekisteri.SigningKey) *rekisteri.Release {
	return &rekisteri.Release{Protocols: []string{"5.0"}, Packages: []rekisteri.Package{{
		Platform: rekisteri.Platform{OS: "linux", Arch: "amd64"}, Filename: "foo.zip",
		URL: "https://files.test/foo.zip", SHASumsURL: "https://files.test/s", SHASumsSignatureURL: "https://files.test/s.sig", SigningKeys: keys,
	}}}
}

func TestNewPanics(t *testing.T) {
	for _, test := range []struct {
		name string
		none bool // there is no backend
		opts *rekisteri.Options
	}{
		{name: "no backend", none: true},
		{name: "empty link key", opts: &rekisteri.Options{LinkKeys: [][32]byte{linkKey(1), {}}}},
		{name: "negative LinkTTL", opts: &rekisteri.Options{LinkKeys: [][32]byte{linkKey(1)}, LinkTTL: -1}},
		{name: "own entry in Services", opts: &rekisteri.Options{Services: map[string]any{"providers.v1": "/x/"}}},
		{name: "no JSON in Services", opts: &rekisteri.Options{Services: map[string]any{"x": func() {}}}},
		{name: "ExternalURL without scheme", opts: &rekisteri.Options{ExternalURL: "h.example"}},
		{name: "ExternalURL without host", opts: &rekisteri.Options{ExternalURL: "/tf"}},
		{name: "ExternalURL with another scheme", opts: &rekisteri.Options{ExternalURL: "ftp://h.example"}},
		{name: "ExternalURL with an empty host", opts: &rekisteri.Options{ExternalURL: "https://"}},
		{name: "ExternalURL with a port only", opts: &rekisteri.Options{ExternalURL: "https://:80"}},
		{name: "ExternalURL with a query", opts: &rekisteri.Options{ExternalURL: "https://h/?tenant=1"}},
		{name: "ExternalURL with an empty query", opts: &rekisteri.Options{ExternalURL: "https://h/?"}},
		{name: "ExternalURL with a fragment", opts: &rekisteri.Options{ExternalURL: "https://h/#x"}},
		{name: "ExternalURL with an empty fragment", opts: &rekisteri.Options{ExternalURL: "https://h#"}},
		{name: "ExternalURL that does not parse", opts: &rekisteri.Options{ExternalURL: "::"}},
		{name: "ExternalURL with a quote", opts: &rekisteri.Options{ExternalURL: `https://h"/`}},
	} {
		t.Run(test.name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("New did not panic")
				}
			}()
			if test.none {
				rekisteri.New(nil, test.opts)
			} else {
				rekisteri.New(&fake{}, test.opts)
			}
		})
	}
}

func TestServices(t *testing.T) {
	reg := rekisteri.New(&fake{}, &rekisteri.Options{Logger: quiet(t), Services: map[string]any{
		"modules.v1": "https://modules.example/v1/",
		"login.v1":   map[string]any{"client": "terraform-cli", "grant_types": []string{"authz_code"}, "authz": "/oauth/authorize", "token": "/oauth/token", "ports": []int{10000, 10010}},
	}})
	want := `{"providers.v1":"/tf/v1/providers/","modules.v1":"https://modules.example/v1/","login.v1":{"client":"terraform-cli","grant_types":["authz_code"],"authz":"/oauth/authorize","token":"/oauth/token","ports":[10000,10010]}}`
	if got := body(t, get(reg.Discovery("/tf"), "GET", "/.well-known/terraform.json")); !equalJSON(t, got, want) {
		t.Errorf("got %s", got)
	}
}

// The answers of the system that this one replaces are the same under each kind
// of mount.
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
		{name: "root", prefix: "", handler: root},
		{name: "StripPrefix", prefix: "/tf", handler: stripped},
		{name: "reverse proxy", prefix: "/portal/tf", handler: proxy},
	} {
		t.Run(test.name, func(t *testing.T) {
			for path, want := range map[string]string{
				"/.well-known/terraform.json":                                             `{"providers.v1": "` + test.prefix + `/v1/providers/"}`,
				test.prefix + "/v1/providers/hashicorp/random/versions":                   readFile(t, "testdata/seed/versions.json"),
				test.prefix + "/v1/providers/hashicorp/random/2.0.0/download/linux/amd64": readFile(t, "testdata/seed/download.json"),
			} {
				resp := get(test.handler, "GET", path)
				if got := body(t, resp); resp.StatusCode != 200 || !equalJSON(t, got, want) {
					t.Errorf("GET %s = %s\n%s\nwant\n%s", path, resp.Status, got, want)
				}
			}
		})
	}
}

// Other handlers can show what a registry serves under the same rules.
func TestRegistryForOtherHandlers(t *testing.T) {
	backend := newBackend(t, newTree(t, "1.0.0+b").mapFS())
	refusal := errors.New("refused")
	reg := rekisteri.New(backend, &rekisteri.Options{Logger: quiet(t), Authorize: func(req *http.Request, p rekisteri.Provider) error {
		if p.Namespace == "acme" {
			return nil
		}
		return refusal
	}})
	public := newRegistry(t, backend)
	if reg.Backend() != rekisteri.Backend(backend) {
		t.Error("Backend returns another backend")
	}

	req := httptest.NewRequest("GET", "/", nil)
	for _, test := range []struct {
		name string
		reg  *rekisteri.Registry
		p    rekisteri.Provider
		want error
	}{
		{name: "allowed", reg: reg, p: acmeHello},
		{name: "refused", reg: reg, p: rekisteri.Provider{Namespace: "other", Type: "hello"}, want: refusal},
		{name: "public", reg: public, p: rekisteri.Provider{Namespace: "other", Type: "hello"}},
		{name: "upper case", reg: reg, p: rekisteri.Provider{Namespace: "Acme", Type: "hello"}, want: fs.ErrNotExist},
		{name: "no name", reg: public, p: rekisteri.Provider{Namespace: "..", Type: "hello"}, want: fs.ErrNotExist},
	} {
		if err := test.reg.Authorize(req, test.p); !errors.Is(err, test.want) {
			t.Errorf("Authorize, %s: %v, want %v", test.name, err, test.want)
		}
	}

	const name = "terraform-provider-hello_1.0.0+b_SHA256SUMS"
	const relative = "files/acme/hello/1.0.0+b/" + name
	if got := public.FileURL(acmeHello, "1.0.0+b", name); got != relative {
		t.Errorf("FileURL = %s", got)
	}
	external := rekisteri.New(backend, &rekisteri.Options{Logger: quiet(t), ExternalURL: "https://h.example/tf/"})
	if got := external.FileURL(acmeHello, "1.0.0+b", name); got != "https://h.example/tf/"+relative {
		t.Errorf("FileURL with an ExternalURL = %s", got)
	}
	signed := reg.FileURL(acmeHello, "1.0.0+b", name)
	if resp := get(reg, "GET", "/"+signed); !strings.HasPrefix(signed, relative+"?") || resp.StatusCode != 200 {
		t.Errorf("FileURL of a private registry = %s, which is %s", signed, resp.Status)
	}
}

// The module depends on the standard library and x/mod only, tests included.
func TestDependencies(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-deps", "-test", "-f", "{{if not .Standard}}{{with .Module}}{{.Path}}{{end}}{{end}}", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	modules := slices.Compact(slices.Sorted(slices.Values(strings.Fields(string(out)))))
	if want := []string{"github.com/rekisteri/rekisteri", "golang.org/x/mod"}; !slices.Equal(modules, want) {
		t.Errorf("packages and tests are from the modules %q, want %q", modules, want)
	}
}
