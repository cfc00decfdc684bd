package rekisteri_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
)

// oddBackend returns a backend with values that clients fail on, among others.
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

func TestListingDocument(t *testing.T) {
	linux := []rekisteri.Platform{{OS: "linux", Arch: "amd64"}}
	for _, test := range []struct {
		name    string
		listing rekisteri.Listing
		want    string // empty for 404
	}{
		{name: "sorted", listing: rekisteri.Listing{Versions: []rekisteri.Version{
			{Version: "10.0.0"}, {Version: "9.0.0"}, {Version: "10.0.0-rc.1"}, {Version: "10.0.0-beta.11"}, {Version: "10.0.0-beta.2"}, {Version: "1.0.0+b"}, {Version: "1.0.0+a"},
		}}, want: `{"versions":[` +
			`{"version":"1.0.0+a","protocols":[],"platforms":[]},{"version":"1.0.0+b","protocols":[],"platforms":[]},` +
			`{"version":"9.0.0","protocols":[],"platforms":[]},` +
			`{"version":"10.0.0-beta.2","protocols":[],"platforms":[]},{"version":"10.0.0-beta.11","protocols":[],"platforms":[]},` +
			`{"version":"10.0.0-rc.1","protocols":[],"platforms":[]},{"version":"10.0.0","protocols":[],"platforms":[]}]}`},
		{name: "warnings", listing: rekisteri.Listing{Versions: []rekisteri.Version{{Version: "1.0.0"}}, Warnings: []string{"use <acme/bar> & co"}},
			want: `{"versions":[{"version":"1.0.0","protocols":[],"platforms":[]}],"warnings":["use <acme/bar> & co"]}`},
		{name: "invalid protocols", listing: rekisteri.Listing{Versions: []rekisteri.Version{{Version: "1.0.0", Protocols: []string{"5.0", "v6", "", "6"}, Platforms: linux}}},
			want: `{"versions":[{"version":"1.0.0","protocols":["5.0","6"],"platforms":[{"os":"linux","arch":"amd64"}]}]}`},
		{name: "invalid platforms", listing: rekisteri.Listing{Versions: []rekisteri.Version{{Version: "1.0.0",
			Platforms: []rekisteri.Platform{{OS: "../x", Arch: "amd64"}, {OS: "Linux", Arch: "amd64"}, {OS: "linux", Arch: "amd64"}}}}},
			want: `{"versions":[{"version":"1.0.0","protocols":[],"platforms":[{"os":"linux","arch":"amd64"}]}]}`},
		{name: "invalid versions", listing: rekisteri.Listing{Versions: []rekisteri.Version{
			{Version: "1.2"}, {Version: "v1.2.0"}, {Version: "latest"}, {Version: "1.2.3.4"}, {Version: "99999999999999999999.0.0"}, {Version: ""}, {Version: "1.0.0"}}},
			want: `{"versions":[{"version":"1.0.0","protocols":[],"platforms":[]}]}`},
		{name: "listed twice", listing: rekisteri.Listing{Versions: []rekisteri.Version{{Version: "1.0.0", Protocols: []string{"5.0"}}, {Version: "1.0.0"}}},
			want: `{"versions":[{"version":"1.0.0","protocols":["5.0"],"platforms":[]}]}`},
		{name: "no valid version", listing: rekisteri.Listing{Versions: []rekisteri.Version{{Version: "latest"}}}},
		{name: "empty"},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp := get(newRegistry(t, &fake{listing: &test.listing}), "GET", "/v1/providers/acme/foo/versions")
			got := body(t, resp)
			if test.want == "" && resp.StatusCode != 404 || test.want != "" && got != test.want+"\n" {
				t.Errorf("%s\n%s\nwant\n%s", resp.Status, got, test.want)
			}
		})
	}
}

func TestPackageDocument(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func(*rekisteri.Package)
		ok   bool
	}{
		{name: "good", edit: func(*rekisteri.Package) {}, ok: true},
		{name: "relative URL", edit: func(p *rekisteri.Package) { p.SHASumsURL = "../s" }, ok: true},
		{name: "http", edit: func(p *rekisteri.Package) { p.SHASumsURL = "http://h/s" }, ok: true},
		{name: "another platform", edit: func(p *rekisteri.Package) { p.Arch = "arm64" }},
		{name: "no file name", edit: func(p *rekisteri.Package) { p.Filename = "" }},
		{name: "space in the file name", edit: func(p *rekisteri.Package) { p.Filename = "a b.zip" }},
		{name: "path for a file name", edit: func(p *rekisteri.Package) { p.Filename = "../a.zip" }},
		{name: "no URL", edit: func(p *rekisteri.Package) { p.URL = "" }},
		{name: "no URL of SHA256SUMS", edit: func(p *rekisteri.Package) { p.SHASumsURL = "" }},
		{name: "no URL of the signature", edit: func(p *rekisteri.Package) { p.SHASumsSignatureURL = "" }},
		{name: "another scheme", edit: func(p *rekisteri.Package) { p.URL = "s3://bucket/zip" }},
		{name: "URL without host", edit: func(p *rekisteri.Package) { p.URL = "https://" }},
		{name: "URL with an empty host", edit: func(p *rekisteri.Package) { p.URL = "https:///zip" }},
		{name: "opaque URL", edit: func(p *rekisteri.Package) { p.URL = "http:zip" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			rel := onePackage()
			rel.Packages = append([]rekisteri.Package{{Platform: rekisteri.Platform{OS: "linux", Arch: "386"}}}, rel.Packages...)
			test.edit(&rel.Packages[1])
			resp := get(newRegistry(t, &fake{release: rel}), "GET", "/v1/providers/acme/foo/1.0.0/download/linux/amd64")
			if (resp.StatusCode == 200) != test.ok || !test.ok && resp.StatusCode != 404 {
				t.Errorf("%s", resp.Status)
			}
			if got := body(t, resp); test.ok && !strings.Contains(got, `"os":"linux","arch":"amd64","filename":"foo.zip"`) {
				t.Errorf("%s", got)
			}
		})
	}
}

func TestFileURLs(t *testing.T) {
	b := newBackend(t, newTree(t, "1.0.0").mapFS())
	for external, want := range map[string]string{
		"":                     "../../../../../../../files/",
		"https://h.example/tf": "https://h.example/tf/files/",
		"https://h.example/":   "https://h.example/files/",
	} {
		reg := rekisteri.New(b, &rekisteri.Options{Logger: quiet(t), ExternalURL: external})
		var got struct {
			URL  string `json:"download_url"`
			Sums string `json:"shasums_url"`
			Sig  string `json:"shasums_signature_url"`
			Keys struct {
				Keys []struct {
					ID string `json:"key_id"`
				} `json:"gpg_public_keys"`
			} `json:"signing_keys"`
			Packages any
		}
		if err := json.Unmarshal([]byte(body(t, get(reg, "GET", download100))), &got); err != nil {
			t.Fatal(err)
		}
		base := want + "acme/hello/1.0.0/terraform-provider-hello_1.0.0_"
		if got.URL != base+"linux_amd64.zip" || got.Sums != base+"SHA256SUMS" || got.Sig != base+"SHA256SUMS.sig" {
			t.Errorf("ExternalURL %q: %+v", external, got)
		}
		if len(got.Keys.Keys) != 1 || got.Keys.Keys[0].ID != testKey().ID() {
			t.Errorf("keys: %+v", got.Keys)
		}
		if got.Packages != nil { // a field of OpenTofu's, which makes some clients panic
			t.Errorf("packages are sent: %v", got.Packages)
		}
	}
}

// A key that clients cannot read is dropped: they would not try the keys after it.
func TestUnreadableKey(t *testing.T) {
	good := sampleFile(t, "demo/demo.asc")
	log := new(logBuffer)
	rel := onePackage(rekisteri.SigningKey{KeyID: "FIRST", ASCIIArmor: " " + good}, rekisteri.SigningKey{KeyID: "SECOND", ASCIIArmor: good})
	got := body(t, get(rekisteri.New(&fake{release: rel}, &rekisteri.Options{Logger: log.logger()}), "GET", "/v1/providers/acme/foo/1.0.0/download/linux/amd64"))
	if !strings.Contains(got, `"SECOND"`) || strings.Contains(got, `"FIRST"`) {
		t.Errorf("%s", got)
	}
	if text := log.take(); !strings.Contains(text, "level=WARN") || !strings.Contains(text, "key=FIRST") {
		t.Errorf("the log says %s", text)
	}
}

// A manyVersions backend has as many invalid versions, and a release for each
// call.
type manyVersions int

func (n manyVersions) Versions(context.Context, rekisteri.Provider) (*rekisteri.Listing, error) {
	l := &rekisteri.Listing{Versions: []rekisteri.Version{{Version: "1.0.0"}}}
	for i := range int(n) {
		l.Versions = append(l.Versions, rekisteri.Version{Version: fmt.Sprintf("invalid-%d", i)})
	}
	return l, nil
}

func (n manyVersions) Release(context.Context, rekisteri.Provider, string) (*rekisteri.Release, error) {
	return onePackage(rekisteri.SigningKey{KeyID: "NONE"}), nil
}

// A dropped value is logged once an hour, however many there are.
func TestDroppedValuesAreLogged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, test := range []struct {
			name    string
			backend rekisteri.Backend
			first   int // lines of the first request for each document
			has     []string
		}{
			{name: "of each kind", backend: oddBackend(), first: 7 + 6 + 1 + 2 + 1,
				has: []string{"version=latest ", "protocol=5.1-beta\n", "platform=Linux_amd64\n", "key=NONE\n"}},
			{name: "a thousand", backend: manyVersions(1100), first: 1101},
			{name: "more than are logged", backend: manyVersions(12_000), first: 10_000},
		} {
			log := new(logBuffer)
			reg := rekisteri.New(test.backend, &rekisteri.Options{Logger: log.logger()})
			ask := func() string {
				for _, target := range []string{"versions", "1.0.0/download/linux/amd64"} {
					if resp := get(reg, "GET", "/v1/providers/acme/foo/"+target); resp.StatusCode != 200 {
						t.Errorf("%s: %s", test.name, resp.Status)
					}
				}
				return log.take()
			}
			first := ask()
			if n := strings.Count(first, "\n"); n != test.first {
				t.Errorf("%s: %d lines, want %d", test.name, n, test.first)
			}
			for _, want := range test.has {
				if n := strings.Count(first, want); n != 1 {
					t.Errorf("%s: %q is logged %d times", test.name, want, n)
				}
			}
			for range 3 {
				if again := ask(); again != "" {
					t.Errorf("%s: %d lines are logged again", test.name, strings.Count(again, "\n"))
				}
			}
			time.Sleep(time.Hour)
			get(reg, "GET", "/v1/providers/acme/other/versions")
			if n := strings.Count(log.take(), "\n"); n == 0 {
				t.Errorf("%s: nothing is logged after an hour", test.name)
			}
		}
	})
}

// FuzzPackage serves packages with odd texts. The document is what encoding/json
// writes, and has another ETag if it has other bytes.
func FuzzPackage(f *testing.F) {
	f.Add("foo.zip", "https://files.test/foo.zip?a=1&b=<2>", testKey().ID(), "mDMEZ", "Acme")
	f.Add("\u00fc.zip", "../f\\o.zip", "\x7f\x00", "\u2028\xff\t\r\n", "Söhne & <Töchter>")
	f.Add("f\".zip", "\u2028\xff", "\"", "\\", "/")
	f.Add("a b", "ftp://files.test", "", "", "")
	good := rekisteri.SigningKey{ASCIIArmor: sampleFile(f, "demo/demo.asc")}
	f.Fuzz(func(t *testing.T, filename, u, id, armor, source string) {
		backend := new(fake)
		reg := rekisteri.New(backend, &rekisteri.Options{Logger: silent})
		bodies := make(map[string]string) // by ETag
		var keys []rekisteri.SigningKey
		for range 3 { // with one more key each
			rel := onePackage(append([]rekisteri.SigningKey{{ASCIIArmor: "no key"}}, keys...)...)
			rel.Protocols = []string{"5.0", "6.1"}
			pkg := &rel.Packages[0]
			pkg.Filename, pkg.URL, pkg.SHASumsURL = filename, u, u
			backend.release = rel
			resp := get(reg, "GET", "/v1/providers/acme/foo/1.0.0/download/linux/amd64")
			if resp.StatusCode != http.StatusOK {
				return // TestPackageDocument tests which packages are served
			}
			got, want := body(t, resp), packageText(t, rel, keys)
			if got != want {
				t.Fatalf("got\n%s\nwant\n%s", got, want)
			}
			etag := resp.Header.Get("ETag")
			if other, ok := bodies[etag]; ok && other != got {
				t.Fatalf("one ETag for\n%s\nand\n%s", other, got)
			}
			bodies[etag] = got
			key := good
			key.KeyID, key.Source, key.SourceURL, key.TrustSignature = id, source, u, armor
			keys = append(keys, key)
			id, source = source, id
		}
	})
}

// packageText returns the document of a release's package as encoding/json
// writes it.
func packageText(t *testing.T, rel *rekisteri.Release, keys []rekisteri.SigningKey) string {
	pkg := rel.Packages[0]
	list := []map[string]string{}
	for _, k := range keys {
		list = append(list, map[string]string{"key_id": k.KeyID, "ascii_armor": k.ASCIIArmor, "trust_signature": k.TrustSignature, "source": k.Source, "source_url": k.SourceURL})
	}
	fields := []any{
		"protocols", rel.Protocols, "os", pkg.OS, "arch", pkg.Arch, "filename", pkg.Filename,
		"download_url", pkg.URL, "shasums_url", pkg.SHASumsURL, "shasums_signature_url", pkg.SHASumsSignatureURL, "shasum", fmt.Sprintf("%x", pkg.SHA256),
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	encode := func(v any) {
		if err := enc.Encode(v); err != nil {
			t.Fatal(err)
		}
		text.Truncate(text.Len() - 1) // the line end
	}
	text.WriteByte('{')
	for i := 0; i < len(fields); i += 2 {
		encode(fields[i])
		text.WriteByte(':')
		encode(fields[i+1])
		text.WriteByte(',')
	}
	text.WriteString(`"signing_keys":{"gpg_public_keys":[`)
	for i, key := range list {
		if i > 0 {
			text.WriteByte(',')
		}
		text.WriteByte('{')
		for j, name := range []string{"key_id", "ascii_armor", "trust_signature", "source", "source_url"} {
			if j > 0 {
				text.WriteByte(',')
			}
			encode(name)
			text.WriteByte(':')
			encode(key[name])
		}
		text.WriteByte('}')
	}
	text.WriteString("]}}\n")
	return text.String()
}
