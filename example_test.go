package rekisteri_test

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"

	"github.com/rekisteri/rekisteri"
)

// A registry at the root of a host.
func Example() {
	root, err := os.OpenRoot("cmd/rekisteri/sample") // your providers
	if err != nil {
		log.Fatal(err)
	}
	reg := rekisteri.New(rekisteri.NewFSBackend(root.FS(), nil), nil)

	srv := httptest.NewServer(reg) // in earnest: http.ListenAndServe(addr, reg)
	defer srv.Close()
	fmt.Print(fetch(srv.URL + "/.well-known/terraform.json"))
	fmt.Print(fetch(srv.URL + "/v1/providers/hashicorp/random/versions"))
	// Output:
	// {"providers.v1":"/v1/providers/"}
	// {"versions":[{"version":"2.0.0","protocols":["4.0","5.1"],"platforms":[{"os":"linux","arch":"amd64"}]}]}
}

// A registry below a subpath of a host that serves other things as well.
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

// A memory is a backend that holds what it knows of its providers.
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

// A backend of one's own.
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
