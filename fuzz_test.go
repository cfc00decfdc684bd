package rekisteri_test

import (
	"encoding/json"
	"log/slog"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/mod/semver"

	"github.com/rekisteri/rekisteri"
)

var silent = slog.New(slog.DiscardHandler)

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
