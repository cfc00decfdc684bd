package browse_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/browse"
)

// A detailsJSON is a provider as JSON.
type detailsJSON struct {
	Source   string   `json:"source"`
	Latest   string   `json:"latest"`
	Warnings []string `json:"warnings"`
	Versions []struct {
		Version   string   `json:"version"`
		Protocols []string `json:"protocols"`
		Platforms []struct{ OS, Arch string }
	} `json:"versions"`
	Keys []struct {
		ID          string     `json:"key_id"`
		Fingerprint string     `json:"fingerprint"`
		Expires     *time.Time `json:"expires"`
		State       string     `json:"state"`
	} `json:"signing_keys"`
	Problems []struct{ Path, What, Effect, Fix string } `json:"problems"`
}

func getDetails(t *testing.T, h http.Handler, url string) (d detailsJSON) {
	t.Helper()
	w := get(h, url, "Accept: application/json")
	if err := json.Unmarshal(w.Body.Bytes(), &d); err != nil {
		t.Fatalf("GET %s: %d %v\n%s", url, w.Code, err, w.Body)
	}
	return d
}

func TestProvider(t *testing.T) {
	m := newMemory()
	m.put(foo, &rekisteri.Listing{
		Versions: []rekisteri.Version{versionOf("1.0.0", "5.0"), versionOf("1.10.0", "5.0", "6.0", "six"), versionOf("1.9.0"),
			versionOf("2.0.0-rc.1", "6.0"), versionOf("3.0.0", "4.0"), versionOf("v4"), versionOf("1.9.0"),
			{Version: "5.0.0", Protocols: []string{"5.0"}}},
		Warnings: []string{"use acme/bar"},
	})
	m.listings[foo].Versions[1].Platforms = []rekisteri.Platform{{OS: "windows", Arch: "amd64"}, {OS: "linux", Arch: "arm64"}, {OS: "linux", Arch: "amd64"}, {OS: "Linux", Arch: "x"}}
	h := newPages(t, m, nil)
	d := getDetails(t, h, "http://registry.example.com/providers/acme/foo")
	var versions []string
	for _, v := range d.Versions {
		versions = append(versions, v.Version)
	}
	if want := []string{"5.0.0", "3.0.0", "2.0.0-rc.1", "1.10.0", "1.9.0", "1.0.0"}; !slices.Equal(versions, want) {
		t.Errorf("versions %q, want %q", versions, want)
	}
	if d.Source != "registry.example.com/acme/foo" || d.Latest != "1.10.0" || !slices.Equal(d.Warnings, []string{"use acme/bar"}) || !slices.Equal(d.Versions[3].Protocols, []string{"5.0", "6.0"}) || len(d.Versions[3].Platforms) != 3 {
		t.Errorf("%+v", d)
	}
	w := get(h, "http://registry.example.com/providers/acme/foo")
	wantPage(t, w, 200, `<title>acme/foo`, `source  = &#34;registry.example.com/acme/foo&#34;`, `version = &#34;1.10.0&#34;`,
		"use acme/bar", "6 versions", "<b>linux</b> amd64 arm64</span><span class=\"rk-system\"><b>windows</b> amd64", "Does not expire")
	rows := regexp.MustCompile(`(?s)<th scope="row">.*?</th>`).FindAllString(w.Body.String(), -1)
	for i, tag := range []string{"", "cannot be installed", "pre-release", "latest", "", ""} {
		if i >= len(rows) || strings.Contains(rows[i], "rk-tag") != (tag != "") || !strings.Contains(rows[i], tag) {
			t.Errorf("row %d of %q has no tag %q", i, rows, tag)
		}
	}
	if strings.Contains(w.Body.String(), "credentials") || strings.Contains(w.Body.String(), "no TLS") {
		t.Errorf("the page has a part that it does not need:\n%s", w.Body)
	}
}

// TestLatest says which version the block has.
func TestLatest(t *testing.T) {
	for _, test := range []struct {
		name     string
		versions []rekisteri.Version
		want     string
	}{
		{name: "the highest", versions: []rekisteri.Version{versionOf("1.2.0"), versionOf("1.10.0")}, want: "1.10.0"},
		{name: "no pre-release", versions: []rekisteri.Version{versionOf("1.2.0"), versionOf("2.0.0-rc.1")}, want: "1.2.0"},
		{name: "pre-releases only", versions: []rekisteri.Version{versionOf("2.0.0-beta"), versionOf("2.0.0-rc.1")}, want: "2.0.0-rc.1"},
		{name: "a protocol that clients refuse", versions: []rekisteri.Version{versionOf("1.0.0", "5.0"), versionOf("2.0.0", "4.0")}, want: "1.0.0"},
		{name: "without platforms", versions: []rekisteri.Version{versionOf("1.0.0"), {Version: "2.0.0"}}, want: "1.0.0"},
		{name: "nothing better", versions: []rekisteri.Version{{Version: "2.0.0"}}, want: "2.0.0"},
	} {
		m := newMemory()
		m.put(foo, &rekisteri.Listing{Versions: test.versions})
		if d := getDetails(t, newPages(t, m, nil), "/providers/acme/foo"); d.Latest != test.want {
			t.Errorf("%s: %s, want %s", test.name, d.Latest, test.want)
		}
	}
}

// TestKeys shows keys in all states, as time goes by.
func TestKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMemory("acme/foo")
		expires := time.Now().Add(31 * 24 * time.Hour).Truncate(time.Second)
		m.releases[foo] = signedBy(expires)
		h := newPages(t, m, nil)
		for _, step := range []struct {
			wait  time.Duration
			state string
			page  string
		}{
			{state: "valid", page: ">valid</span> <span>Expires on"},
			{wait: 25 * time.Hour, state: "expires soon", page: ">expires soon</span> <span>Expires on"},
			{wait: 30 * 24 * time.Hour, state: "expired", page: ">expired</span> <span>Expired on"},
		} {
			time.Sleep(step.wait)
			d := getDetails(t, h, "/providers/acme/foo")
			if len(d.Keys) != 1 || d.Keys[0].State != step.state || !d.Keys[0].Expires.Equal(expires) || len(d.Keys[0].Fingerprint) != 40 {
				t.Errorf("%s: %+v", step.state, d.Keys)
			}
			wantPage(t, get(h, "/providers/acme/foo"), 200, step.page)
		}
		m.releases[foo] = &rekisteri.Release{Packages: []rekisteri.Package{{SigningKeys: []rekisteri.SigningKey{{KeyID: "0123", ASCIIArmor: "none"}}}}}
		wantPage(t, get(h, "/providers/acme/foo"), 200, "0123", ">cannot be read</span>")
		m.releases[foo] = new(rekisteri.Release)
		wantPage(t, get(h, "/providers/acme/foo"), 200, "There is no signing key")
	})
}

// TestProblems shows what is wrong to those who may see it.
func TestProblems(t *testing.T) {
	problems := problemsOf(
		rekisteri.Problem{Path: "acme/foo/1.1.0/SHA256SUMS", What: "there is no signature", Effect: "the release is not served", Fix: "gpg --detach-sign SHA256SUMS"},
		rekisteri.Problem{Path: "acme/foo/1.2.0", What: "a zip is missing", Effect: "the release is not served", Fix: "copy it"})
	m := newMemory("acme/foo", "acme/empty")
	m.listings[rekisteri.Provider{Namespace: "acme", Type: "empty"}] = nil
	gone := goneLister{goneBackend{m}, m}
	for _, test := range []struct {
		name    string
		backend rekisteri.Backend
		opts    browse.Options
		url     string
		status  int
		want    []string
		not     string
	}{
		{name: "problems", backend: m, opts: browse.Options{Problems: problems}, url: "/providers/acme/foo", status: 200,
			want: []string{"2 problems with this provider", "there is no signature", "gpg --detach-sign", "acme/foo/1.2.0", "Use this provider"}},
		{name: "nobody may see them", backend: m, url: "/providers/acme/foo", status: 200, want: []string{"Use this provider"}, not: "wrong"},
		{name: "none", backend: m, opts: browse.Options{Problems: problemsOf()}, url: "/providers/acme/foo", status: 200, not: "wrong"},
		{name: "no version", backend: gone, opts: browse.Options{Problems: problems}, url: "/providers/acme/foo", status: 404,
			want: []string{"No version of this provider can be installed", "there is no signature"}, not: "Use this provider"},
		{name: "no version, and no problem", backend: gone, opts: browse.Options{Problems: problemsOf()}, url: "/providers/acme/foo", status: 404, want: []string{"Not found"}},
		{name: "a provider that is hidden", backend: gone, opts: browse.Options{Problems: problems}, url: "/providers/acme/hidden", status: 404, want: []string{"Not found"}, not: "signature"},
		{name: "a provider that is hidden, without a list", backend: goneBackend{m}, opts: browse.Options{Problems: problems}, url: "/providers/acme/foo", status: 404, want: []string{"Not found"}, not: "signature"},
		{name: "problems that cannot be read", backend: m, opts: browse.Options{Problems: func(*http.Request, rekisteri.Provider) ([]rekisteri.Problem, error) {
			return nil, errors.New("/srv/secret")
		}}, url: "/providers/acme/foo", status: 200, want: []string{"Use this provider"}, not: "secret"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newPages(t, test.backend, &test.opts)
			for range 2 { // once from the cache
				w := get(h, test.url)
				wantPage(t, w, test.status, test.want...)
				if test.not != "" && strings.Contains(w.Body.String(), test.not) {
					t.Errorf("the page has %q:\n%s", test.not, w.Body)
				}
			}
		})
	}
	d := getDetails(t, newPages(t, m, &browse.Options{Problems: problems}), "/providers/acme/foo")
	if len(d.Problems) != 2 || d.Problems[1].Fix != "copy it" {
		t.Errorf("%+v", d.Problems)
	}
}

// A goneBackend has nothing to serve of any provider.
type goneBackend struct{ rekisteri.Backend }

func (goneBackend) Versions(context.Context, rekisteri.Provider) (*rekisteri.Listing, error) {
	return nil, fs.ErrNotExist
}

func (goneBackend) Release(context.Context, rekisteri.Provider, string) (*rekisteri.Release, error) {
	return nil, fs.ErrNotExist
}

// A goneLister is one that lists its providers.
type goneLister struct {
	goneBackend
	rekisteri.Lister
}

// TestBroken shows what is wrong with a provider of which nothing is served. The
// answer has the status of the document, and its reason.
func TestBroken(t *testing.T) {
	for _, test := range []struct {
		name, file, text string
		status           int
		reason           string
		want             string // on the page
	}{
		{name: "no release", file: "acme/foo/1.0.0/README", status: 404, reason: "not_found", want: "there is no SHA256SUMS"},
		{name: "a document that cannot be read", file: "acme/foo.json", text: "{", status: 500, reason: "error", want: "it is not a metadata document"},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := rekisteri.NewFSBackend(fstest.MapFS{"acme/bar.json": {Data: []byte("{}")}, test.file: {Data: []byte(test.text)}}, nil)
			var e rekisteri.Event
			h := newPages(t, b, &browse.Options{
				Observe: func(_ *http.Request, event rekisteri.Event) { e = event },
				Problems: func(req *http.Request, p rekisteri.Provider) ([]rekisteri.Problem, error) {
					return b.Problems(req.Context(), p)
				},
			})
			for range 2 { // once from the cache
				w := get(h, "/providers/acme/foo")
				wantPage(t, w, test.status, test.want, "What is wrong")
				if e.Status != test.status || e.Err == nil || e.Reason != test.reason || e.Bytes != int64(w.Body.Len()) {
					t.Errorf("the event is %+v", e)
				}
			}
		})
	}
}

// TestManyVersions has the page of a provider with 400 versions stay small.
func TestManyVersions(t *testing.T) {
	l := new(rekisteri.Listing)
	for i := range 400 {
		v := versionOf(fmt.Sprintf("%d.%d.0", i/20, i%20), "5.0", "6.0")
		for _, os := range []string{"darwin", "freebsd", "linux", "windows"} {
			for _, arch := range []string{"386", "amd64", "arm", "arm64"} {
				v.Platforms = append(v.Platforms, rekisteri.Platform{OS: os, Arch: arch})
			}
		}
		l.Versions = append(l.Versions, v)
	}
	m := newMemory()
	m.put(foo, l)
	h := newPages(t, m, nil)
	wantPage(t, get(h, "/providers/acme/foo"), 200, "400 versions", "380 older versions", "<bdi>0.0.0</bdi>")
	if size := get(h, "/providers/acme/foo", "Accept-Encoding: gzip").Body.Len(); size > 20_000 {
		t.Errorf("the page takes %d bytes on the wire", size)
	}
}

// TestHost says which host the block has.
func TestHost(t *testing.T) {
	m := newMemory("acme/foo")
	for _, test := range []struct {
		name, option, header string
		want                 string // empty: the page says that it is not known
		services             string // the URL of the host block
	}{
		{name: "the request's", header: "registry.example.com", want: "registry.example.com"},
		{name: "a port", header: "registry.example.com:8443", want: "registry.example.com:8443"},
		{name: "the port of https", header: "registry.example.com:443", want: "registry.example.com"},
		{name: "upper case", header: "Registry.Example.com", want: "registry.example.com"},
		{name: "an option", option: "registry.example.com", header: "internal:5000", want: "registry.example.com"},
		{name: "this machine", header: "localhost:5000", want: "localhost:5000", services: "http://localhost:5000/v1/providers/"},
		{name: "this machine's address", header: "127.0.0.1:5000", want: "127.0.0.1:5000", services: "http://127.0.0.1:5000/v1/providers/"},
		{name: "this machine as an option", option: "localhost:5000", header: "x", want: "localhost:5000"},
		{name: "IPv6", header: "[::1]:5000"},
		{name: "HTML", header: `<script>`},
		{name: "a quote", header: `a"b`},
		{name: "interpolation", header: `a${b}`},
		{name: "a path", header: `a/b`},
		{name: "no port", header: `a:`},
		{name: "nothing", header: ""},
		{name: "a dash", header: "-a"},
		{name: "dots", header: "a..b"},
		{name: "a long label", header: strings.Repeat("a", 64)},
		{name: "a long name", header: strings.Repeat("a.", 200) + "a"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newPages(t, m, &browse.Options{Host: test.option})
			w := get(h, "/providers/acme/foo", "Host: "+test.header)
			if test.want == "" {
				wantPage(t, w, 200, "source  = &#34;registry.example.com/acme/foo&#34;", "Replace <code>registry.example.com</code>")
			} else {
				wantPage(t, w, 200, "source  = &#34;"+test.want+"/acme/foo&#34;")
			}
			if test.services != "" {
				wantPage(t, w, 200, `{ &#34;providers.v1&#34; = &#34;`+test.services+`&#34; }`)
			} else if strings.Contains(w.Body.String(), "providers.v1") {
				t.Errorf("the page has a host block:\n%s", w.Body)
			}
		})
	}
	h := http.StripPrefix("/tf", newPages(t, m, nil))
	wantPage(t, get(h, "/tf/providers/acme/foo", "Host: localhost"), 200, "http://localhost/tf/v1/providers/")
}

// TestRedirects and other paths of a provider.
func TestProviderPaths(t *testing.T) {
	m := newMemory("acme/foo", "acme/9lives", "acme/ünï")
	h := newPages(t, m, nil)
	for _, test := range []struct {
		url      string
		status   int
		location string
	}{
		{url: "/providers/acme/foo", status: 200},
		{url: "/providers/acme/%C3%BCn%C3%AF", status: 200},
		{url: "/providers/Acme/Foo?x=y", status: 308, location: "../acme/foo?x=y"},
		{url: "/providers/acme/foo/", status: 308, location: "../foo"},
		{url: "/providers/acme/nothing", status: 404},
		{url: "/providers/acme", status: 404},
		{url: "/providers/", status: 404},
		{url: "/providers/acme/foo/x", status: 404},
		{url: "/providers/acme%2Ffoo", status: 404},
		{url: "/providers/acme%2ffoo", status: 404},
		{url: "/providers/../acme/foo", status: 404},
		{url: "/providers/acme/f%20oo", status: 404},
		{url: "/providers/%FF/foo", status: 404},
		{url: "//providers/acme/foo", status: 404},
		{url: "/assets/other.css", status: 404},
	} {
		w := get(h, test.url)
		if location := w.Header().Get("Location"); w.Code != test.status || location != test.location {
			t.Errorf("GET %s: %d %s, want %d %s", test.url, w.Code, location, test.status, test.location)
		}
	}
	wantPage(t, get(h, "/providers/acme/9lives"), 200, "    p9lives = {\n")
}
