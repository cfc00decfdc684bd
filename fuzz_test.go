package rekisteri_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/mod/semver"

	"github.com/rekisteri/rekisteri"
)

var silent = slog.New(slog.DiscardHandler)

// A strict backend holds everything, and is never asked for a name that was
// not checked.
type strict struct{ t *testing.T }

var (
	goodName    = regexp.MustCompile(`^[\p{L}\p{M}\p{Nd}_-]{1,128}$`)
	goodVersion = regexp.MustCompile(`^(0|[1-9][0-9]{0,19})\.(0|[1-9][0-9]{0,19})\.(0|[1-9][0-9]{0,19})(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?$`)
)

func (s strict) check(p rekisteri.Provider, version string) {
	if !goodName.MatchString(p.Namespace) || !goodName.MatchString(p.Type) || p.String() != strings.ToLower(p.String()) ||
		version != "" && !goodVersion.MatchString(version) || len(version) > 128 {
		s.t.Errorf("the backend was asked for %q %q", p, version)
	}
}

func (s strict) Versions(_ context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
	s.check(p, "")
	return &rekisteri.Listing{Versions: []rekisteri.Version{{Version: "1.0.0"}}}, nil
}

func (s strict) Release(_ context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
	s.check(p, version)
	if version == "" {
		s.t.Error("the backend was asked for no version")
	}
	return &rekisteri.Release{Packages: []rekisteri.Package{{Platform: rekisteri.Platform{OS: "linux", Arch: "amd64"}, Filename: "f", URL: "u", SHASumsURL: "u", SHASumsSignatureURL: "u"}}}, nil
}

// FuzzPath asks for a path: the answer is never a failure of the server, no
// unchecked name reaches the backend, and a redirect leads to the same path in
// lower case, which is no redirect.
func FuzzPath(f *testing.F) {
	for _, path := range []string{"/", "", "/v1/providers/acme/foo/versions", "/v1/providers/acme/foo/1.0.0/download/linux/amd64", "//v1/providers/a/b/versions",
		"/v1/providers/..%2f..%2fetc/passwd/versions", "/v1/providers/%00/b/versions", "/files/acme/foo/1.0.0/%2e%2e", "/.well-known/terraform.json", "/v1/providers/É/ſ/versions",
		"/v1/providers/a/b/1.0.0+%2e/download/linux/amd64", "/v1/providers/a/b/99999999999999999999.0.0/download/linux/amd64", "/tf/v1/providers/a/b/versions",
		"/v1/providers/A%42/b/1.0.0+A/download/linux/amd64?A=%41", "/tf/v1/providers/%C3%84/B/versions", "/v1/providers/%E2%84%AA/B/versions"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil {
			return
		}
		reg := rekisteri.New(strict{t}, &rekisteri.Options{Logger: silent})
		for _, h := range []http.Handler{reg, http.StripPrefix("/tf", reg), reg.Discovery("/tf")} {
			ask := func(u *url.URL) *httptest.ResponseRecorder {
				rec := httptest.NewRecorder()
				h.ServeHTTP(rec, &http.Request{Method: "GET", URL: u, Header: make(http.Header), Host: "registry.test"})
				return rec
			}
			rec := ask(u)
			if location := rec.Header().Get("Location"); rec.Code == http.StatusPermanentRedirect {
				to, err := u.Parse(location)
				if err != nil || to.Path == u.Path || !strings.EqualFold(to.Path, u.Path) || to.RawQuery != u.RawQuery || to.Host != u.Host {
					t.Errorf("GET %q leads to %q", path, location)
				} else if again := ask(to); again.Code/100 == 3 {
					t.Errorf("GET %q leads to %q, and that to %q", path, location, again.Header().Get("Location"))
				}
			} else if rec.Code >= 500 || rec.Code/100 == 3 {
				t.Errorf("GET %q = %d", path, rec.Code)
			}
			if body := rec.Body.Bytes(); rec.Header().Get("Content-Type") == "application/json" && !json.Valid(body) {
				t.Errorf("GET %q = %s", path, body)
			}
		}
	})
}

// FuzzDocument serves a metadata document: what is listed can be had, in a
// form that clients accept, and just so after the document was dropped.
func FuzzDocument(f *testing.F) {
	for _, doc := range []string{documentOf("1.0.0", "v1.0", "latest"), largeDocument(3, 3), `{"versions":[null,1,{"version":1},{"version":"1.0.0","platforms":[null]}],"warnings":["w"]}`,
		`{"VERSIONS":[{"Version":"2","platforms":[{"OS":"a","arch":"b","filename":"c","download_url":"d","shasums_url":"e","shasums_signature_url":"f","shasum":"` + strings.Repeat("F", 64) + `"}]}]}`,
		`{"versions":[],"versions":[{"version":"1.0.0-a+b"}]}`, `[`, ``, "null"} {
		f.Add(doc)
	}
	f.Fuzz(func(t *testing.T, doc string) {
		fsys := fstest.MapFS{"acme/hello.json": file(doc), "acme/other.json": file(documentOf("1.0.0"))}
		for _, file := range fsys {
			file.ModTime = time.Now().Add(-time.Hour)
		}
		whole := rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{Logger: silent})
		dropping := rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{Logger: silent, CacheBytes: 1})
		reg := rekisteri.New(whole, &rekisteri.Options{Logger: silent})
		resp := get(reg, "GET", "/v1/providers/acme/hello/versions")
		if resp.StatusCode == 404 || resp.StatusCode == 500 {
			return
		}
		var listing struct {
			Warnings []string
			Versions []struct {
				Version   string
				Protocols []string
				Platforms []struct{ OS, Arch string }
			}
		}
		if err := json.NewDecoder(resp.Body).Decode(&listing); err != nil || resp.StatusCode != 200 || len(listing.Versions) == 0 {
			t.Fatalf("%s: %v, %+v", resp.Status, err, listing)
		}
		said := packagesOf(doc)
		if _, err := dropping.Versions(t.Context(), acmeHello); err != nil {
			t.Fatal(err)
		}
		dropping.Versions(t.Context(), rekisteri.Provider{Namespace: "acme", Type: "other"}) // which drops the first
		seen := make(map[string]bool)
		for _, v := range listing.Versions {
			if !goodVersion.MatchString(v.Version) || seen[v.Version] || len(v.Platforms) == 0 {
				t.Fatalf("listed: %+v", v)
			}
			seen[v.Version] = true
			for _, on := range v.Platforms {
				resp := get(reg, "GET", "/v1/providers/acme/hello/"+v.Version+"/download/"+on.OS+"/"+on.Arch)
				var pkg struct {
					OS, Arch, Filename, SHASum string
					URL                        string `json:"download_url"`
				}
				if err := json.NewDecoder(resp.Body).Decode(&pkg); err != nil || resp.StatusCode != 200 {
					t.Fatalf("%s %v: %s, %v", v.Version, on, resp.Status, err)
				}
				if said != nil && !said[[...]string{v.Version, pkg.OS, pkg.Arch, pkg.Filename, pkg.SHASum, pkg.URL}] {
					t.Fatalf("%s %v: %+v, of which the document says nothing", v.Version, on, pkg)
				}
				if pkg.OS != on.OS || pkg.Arch != on.Arch || len(pkg.SHASum) != 64 || strings.ToLower(pkg.SHASum) != pkg.SHASum || pkg.Filename == "" || len(strings.Fields(pkg.Filename)) != 1 || pkg.URL == "" {
					t.Fatalf("%s %v: %+v", v.Version, on, pkg)
				}
			}
			one, err1 := whole.Release(t.Context(), acmeHello, v.Version)
			two, err2 := dropping.Release(t.Context(), acmeHello, v.Version)
			if err1 != nil || err2 != nil || !reflect.DeepEqual(one, two) {
				t.Fatalf("%s is %+v, %v, and after it was dropped %+v, %v", v.Version, one, err1, two, err2)
			}
		}
	})
}

// packagesOf returns the packages of a document, as encoding/json reads it, by
// what is served of them. It returns nil where a name of a member stands there
// in two spellings, of which encoding/json takes some.
func packagesOf(doc string) map[[6]string]bool {
	ambiguous := false
	member := func(object any, name string) (found any) {
		n := 0
		members, _ := object.(map[string]any)
		for spelled, value := range members {
			if strings.ToLower(spelled) == name {
				found = value
				n++
			}
		}
		ambiguous = ambiguous || n > 1
		return found
	}
	text := func(object any, name string) string {
		s, _ := member(object, name).(string)
		return s
	}
	list := func(object any, name string) []any {
		l, _ := member(object, name).([]any)
		return l
	}
	var all any
	json.Unmarshal([]byte(doc), &all)
	packages := make(map[[6]string]bool)
	for _, v := range list(all, "versions") {
		version := "v" + strings.TrimPrefix(text(v, "version"), "v")
		version = strings.TrimPrefix(semver.Canonical(version)+semver.Build(version), "v")
		for _, p := range list(v, "platforms") {
			packages[[...]string{version, text(p, "os"), text(p, "arch"), text(p, "filename"), strings.ToLower(text(p, "shasum")), text(p, "download_url")}] = true
		}
	}
	if ambiguous {
		return nil
	}
	return packages
}

// FuzzPackage serves packages of odd texts: their document is what
// encoding/json makes of them, and has another ETag where it has other bytes.
func FuzzPackage(f *testing.F) {
	f.Add("foo.zip", "https://files.test/foo.zip?a=1&b=<2>", "3C91E2DDC757EE2B", "\nmDMEZ\n", "Acme")
	f.Add("\u00fc.zip", "../f\\o.zip", "\x7f\x00", "\u2028\xff\t\r\n", "Söhne & <Töchter>")
	f.Add("f\".zip", "\u2028\xff", "\"", "\\", "/")
	f.Add("a b", "ftp://files.test", "", "", "")
	f.Fuzz(func(t *testing.T, filename, u, id, armor, source string) {
		backend := new(fake)
		reg := rekisteri.New(backend, &rekisteri.Options{Logger: silent})
		bodies := make(map[string]string) // by ETag
		keys := []rekisteri.SigningKey{{ASCIIArmor: "no key"}}
		for range 3 { // with one key more each
			backend.release = &rekisteri.Release{Protocols: []string{"5.0", "6.1"}, Packages: []rekisteri.Package{{
				Platform: rekisteri.Platform{OS: "linux", Arch: "amd64"}, Filename: filename, URL: u, SHASumsURL: u, SHASumsSignatureURL: "s", SigningKeys: slices.Clone(keys)}}}
			resp := get(reg, "GET", "/v1/providers/acme/foo/1.0.0/download/linux/amd64")
			if resp.StatusCode != http.StatusOK {
				return // what clients choke on is others' to test
			}
			got, want := body(t, resp), packageText(t, backend.release, len(keys)-1)
			if got != want {
				t.Fatalf("got\n%s\nwant\n%s", got, want)
			}
			etag := resp.Header.Get("ETag")
			if other, ok := bodies[etag]; ok && other != got {
				t.Fatalf("one ETag for\n%s\nand\n%s", other, got)
			}
			bodies[etag] = got
			keys = append(keys, rekisteri.SigningKey{KeyID: id, ASCIIArmor: "-----BEGIN PGP PUBLIC KEY BLOCK-----" + armor, Source: source, SourceURL: u})
			id, source = source, id
		}
	})
}

// packageText returns the document of a release's package as encoding/json
// writes it, with the last n of its keys.
func packageText(t *testing.T, rel *rekisteri.Release, n int) string {
	type key struct {
		KeyID          string `json:"key_id"`
		ASCIIArmor     string `json:"ascii_armor"`
		TrustSignature string `json:"trust_signature"`
		Source         string `json:"source"`
		SourceURL      string `json:"source_url"`
	}
	pkg := rel.Packages[0]
	doc := struct {
		Protocols []string `json:"protocols"`
		OS        string   `json:"os"`
		Arch      string   `json:"arch"`
		Filename  string   `json:"filename"`
		URL       string   `json:"download_url"`
		Sums      string   `json:"shasums_url"`
		Signature string   `json:"shasums_signature_url"`
		SHASum    string   `json:"shasum"`
		Keys      struct {
			GPG []key `json:"gpg_public_keys"`
		} `json:"signing_keys"`
	}{rel.Protocols, pkg.OS, pkg.Arch, pkg.Filename, pkg.URL, pkg.SHASumsURL, pkg.SHASumsSignatureURL, fmt.Sprintf("%x", pkg.SHA256), struct {
		GPG []key `json:"gpg_public_keys"`
	}{[]key{}}}
	for _, k := range pkg.SigningKeys[len(pkg.SigningKeys)-n:] {
		doc.Keys.GPG = append(doc.Keys.GPG, key(k))
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(doc); err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// FuzzLinkQuery asks for a file with a query: none but one with the values
// that were signed lets in.
func FuzzLinkQuery(f *testing.F) {
	reg := rekisteri.New(rekisteri.NewFSBackend(newTree(f, "1.0.0").mapFS(), &rekisteri.FSOptions{Logger: silent}),
		&rekisteri.Options{Logger: silent, LinkKeys: [][32]byte{linkKey(1)}, LinkTTL: 24 * time.Hour})
	path, query, _ := strings.Cut(linksOf(f, reg, download100)[0], "?")
	want, err := url.ParseQuery(query)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{query, "", query + "&", query + "&x=1", "&" + query, strings.ReplaceAll(query, "=", "%3d"), strings.ToUpper(query), query + "&" + query, query[1:], "expires=1&key=&signature="} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, query string) {
		rec := httptest.NewRecorder()
		reg.ServeHTTP(rec, &http.Request{Method: "GET", URL: &url.URL{Path: path, RawQuery: query}, Header: make(http.Header)})
		got, err := url.ParseQuery(query)
		delete(got, "x")
		good := err == nil && reflect.DeepEqual(got["expires"], want["expires"]) && reflect.DeepEqual(got["key"], want["key"]) && reflect.DeepEqual(got["signature"], want["signature"])
		if good != (rec.Code == 200) || !good && rec.Code != 403 {
			t.Errorf("?%s = %d", query, rec.Code)
		}
	})
}

// FuzzTokenFile reads a token file: a token lets in if a line has its digest
// and the namespace, and no other does.
func FuzzTokenFile(f *testing.F) {
	const token = "fuzz"
	for _, text := range []string{tokenLine(token, "acme"), tokenLine(token, "*"), tokenLine(token, "other # acme"), "# " + tokenLine(token, "acme") + tokenLine("x", "*"), strings.ToUpper(tokenLine(token, "acme")), "", "\x00"} {
		f.Add(text)
	}
	name := filepath.Join(f.TempDir(), "tokens")
	digest := strings.Fields(tokenLine(token, ""))[0]
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		tokens, err := rekisteri.NewTokenFile(name, silent)
		if err != nil {
			return
		}
		var want error = rekisteri.ErrUnauthenticated
		for line := range strings.Lines(text) {
			line, _, _ = strings.Cut(line, "#")
			if fields := strings.Fields(line); len(fields) > 1 && strings.EqualFold(fields[0], digest) {
				want = fs.ErrPermission
				for _, namespace := range fields[1:] {
					if namespace == "*" || strings.ToLower(namespace) == "acme" {
						want = nil
					}
				}
			}
		}
		if err := ask(tokens, "Bearer "+token, "acme"); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
		if err := ask(tokens, fmt.Sprintf("Bearer %s", digest), "acme"); err == nil {
			t.Errorf("%q lets its digest in", text)
		}
	})
}
