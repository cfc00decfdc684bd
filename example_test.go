package rekisteri_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"

	"github.com/rekisteri/rekisteri"
)

// A registry at the root of a host.
func Example() {
	root, err := os.OpenRoot("cmd/rekisteri/sample") // your providers
	if err != nil {
		log.Fatal(err)
	}
	reg := rekisteri.New(rekisteri.NewFSBackend(root.FS(), nil), nil)

	srv := httptest.NewServer(reg) // in production: http.ListenAndServe(addr, reg)
	defer srv.Close()
	fmt.Print(fetch(srv.URL + "/.well-known/terraform.json"))
	fmt.Print(fetch(srv.URL + "/v1/providers/hashicorp/random/versions"))
	// Output:
	// {"providers.v1":"/v1/providers/"}
	// {"versions":[{"version":"2.0.0","protocols":["4.0","5.1"],"platforms":[{"os":"linux","arch":"amd64"}]}]}
}

// A registry below a prefix of a host that serves other things too.
func ExampleRegistry_Discovery() {
	reg := rekisteri.New(rekisteri.NewFSBackend(os.DirFS("cmd/rekisteri/sample"), nil), nil)

	mux := http.NewServeMux()
	mux.Handle("/tf/", http.StripPrefix("/tf", reg))
	mux.Handle("/.well-known/terraform.json", reg.Discovery("/tf"))

	srv := httptest.NewServer(mux)
	defer srv.Close()
	fmt.Print(fetch(srv.URL + "/.well-known/terraform.json"))
	fmt.Print(fetch(srv.URL + "/tf/v1/providers/hashicorp/random/versions"))
	// Output:
	// {"providers.v1":"/tf/v1/providers/"}
	// {"versions":[{"version":"2.0.0","protocols":["4.0","5.1"],"platforms":[{"os":"linux","arch":"amd64"}]}]}
}

// A private registry with the tokens and rules of the service that embeds it.
func ExampleOptions_authorize() {
	namespaces := map[string]string{"token-1": "demo"} // which each token may read
	reg := rekisteri.New(rekisteri.NewFSBackend(os.DirFS("cmd/rekisteri/sample"), nil), &rekisteri.Options{
		Authorize: func(req *http.Request, p rekisteri.Provider) error {
			token := strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer ")
			namespace, ok := namespaces[token]
			switch {
			case !ok:
				return rekisteri.ErrUnauthenticated
			case namespace != p.Namespace:
				return fs.ErrPermission
			}
			return nil
		},
		LinkKeys: [][32]byte{sha256.Sum256([]byte("32 random bytes, the same for all replicas"))},
	})

	for _, token := range []string{"token-1", "token-2"} {
		for _, provider := range []string{"demo/hello", "hashicorp/random"} {
			req := httptest.NewRequest("GET", "/v1/providers/"+provider+"/versions", nil)
			req.Header.Set("Authorization", "Bearer "+token)
			w := httptest.NewRecorder()
			reg.ServeHTTP(w, req)
			fmt.Println(token, provider, w.Code)
		}
	}
	// Output:
	// token-1 demo/hello 200
	// token-1 hashicorp/random 403
	// token-2 demo/hello 401
	// token-2 hashicorp/random 401
}

// A service that protects /v1/ with its own middleware. Clients send no
// credentials to /files/, so link keys protect the files: a client can read those
// whose links it got from a document.
func ExampleOptions_linkKeys() {
	requireToken := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.Header.Get("Authorization") != "Bearer let-me-in" {
				w.Header().Set("WWW-Authenticate", "Bearer")
				http.Error(w, "Unauthorized", http.StatusUnauthorized)
				return
			}
			next.ServeHTTP(w, req)
		})
	}
	reg := rekisteri.New(rekisteri.NewFSBackend(os.DirFS("cmd/rekisteri/sample"), nil), &rekisteri.Options{
		LinkKeys: [][32]byte{sha256.Sum256([]byte("32 random bytes, the same for all replicas"))},
	})
	mux := http.NewServeMux()
	mux.Handle("/tf/v1/", requireToken(http.StripPrefix("/tf", reg)))
	mux.Handle("/tf/files/", http.StripPrefix("/tf", reg))
	mux.Handle("/.well-known/terraform.json", reg.Discovery("/tf"))

	ask := func(target, token string) *httptest.ResponseRecorder {
		req := httptest.NewRequest("GET", target, nil)
		req.Header.Set("Authorization", token)
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, req)
		return w
	}
	const document = "/tf/v1/providers/demo/hello/1.0.0/download/linux/amd64"
	fmt.Println("without a token:", ask(document, "").Code)
	var pkg struct {
		URL string `json:"download_url"`
	}
	json.NewDecoder(ask(document, "Bearer let-me-in").Body).Decode(&pkg)
	base, _ := url.Parse(document)
	link, _ := base.Parse(pkg.URL)
	fmt.Println("the zip, by its link:", ask(link.String(), "").Code)
	fmt.Println("the zip, without it:", ask(link.Path, "").Code)
	// Output:
	// without a token: 401
	// the zip, by its link: 200
	// the zip, without it: 403
}

// A memory is a backend that holds releases in a map.
type memory map[rekisteri.Provider]map[string]*rekisteri.Release

func (m memory) Versions(_ context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
	if len(m[p]) == 0 {
		return nil, fmt.Errorf("no provider %v: %w", p, fs.ErrNotExist)
	}
	listing := new(rekisteri.Listing)
	for version, rel := range m[p] {
		v := rekisteri.Version{Version: version, Protocols: rel.Protocols}
		for _, pkg := range rel.Packages {
			v.Platforms = append(v.Platforms, pkg.Platform)
		}
		listing.Versions = append(listing.Versions, v)
	}
	return listing, nil
}

func (m memory) Release(_ context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
	if rel := m[p][version]; rel != nil {
		return rel, nil
	}
	return nil, fmt.Errorf("no version %s of %v: %w", version, p, fs.ErrNotExist)
}

// A backend for other storage.
func ExampleBackend() {
	acme := memory{{Namespace: "acme", Type: "foo"}: {"1.2.0": {
		Protocols: []string{"6.0"},
		Packages: []rekisteri.Package{{
			Platform:            rekisteri.Platform{OS: "linux", Arch: "amd64"},
			Filename:            "terraform-provider-foo_1.2.0_linux_amd64.zip",
			URL:                 "https://artifacts.example.com/terraform-provider-foo_1.2.0_linux_amd64.zip",
			SHASumsURL:          "https://artifacts.example.com/terraform-provider-foo_1.2.0_SHA256SUMS",
			SHASumsSignatureURL: "https://artifacts.example.com/terraform-provider-foo_1.2.0_SHA256SUMS.sig",
		}},
	}}}
	srv := httptest.NewServer(rekisteri.New(acme, nil))
	defer srv.Close()
	fmt.Print(fetch(srv.URL + "/v1/providers/acme/foo/versions"))
	fmt.Print(fetch(srv.URL + "/v1/providers/acme/bar/versions"))
	// Output:
	// {"versions":[{"version":"1.2.0","protocols":["6.0"],"platforms":[{"os":"linux","arch":"amd64"}]}]}
	// {"errors":["Not Found"]}
}

// Metrics and an access log by Options.Observe.
func ExampleOptions_observe() {
	reg := rekisteri.New(rekisteri.NewFSBackend(os.DirFS("cmd/rekisteri/sample"), nil), &rekisteri.Options{
		Observe: func(req *http.Request, e rekisteri.Event) {
			fmt.Println(req.Method, e.Route, e.Provider, e.Status, e.Bytes)
		},
	})
	for _, target := range []string{"/v1/providers/hashicorp/random/versions", "/v1/providers/hashicorp/nothing/versions"} {
		reg.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", target, nil))
	}
	// Output:
	// GET versions hashicorp/random 200 105
	// GET versions hashicorp/nothing 404 24
}

func fetch(url string) string {
	resp, err := http.Get(url)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
