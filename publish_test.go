package rekisteri_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/pgptest"
)

// A publishing is a registry over a directory that releases are published to.
type publishing struct {
	t       testing.TB
	dir     string
	store   *rekisteri.Dir
	backend *rekisteri.FSBackend
	reg     http.Handler
}

// newPublishing returns a registry over a directory with the files of tr. The
// token "publish" may publish in acme.
func newPublishing(t testing.TB, tr tree) *publishing {
	p := &publishing{t: t, dir: t.TempDir()}
	tr.write(t, p.dir)
	return p.restart()
}

// restart returns another process over the same directory.
func (p *publishing) restart() *publishing {
	p.t.Helper()
	next := &publishing{t: p.t, dir: p.dir}
	var err error
	if next.store, err = rekisteri.OpenDir(p.dir); err != nil {
		p.t.Fatal(err)
	}
	next.backend = rekisteri.NewFSBackend(next.store, &rekisteri.FSOptions{Logger: silent, Store: next.store})
	next.reg = rekisteri.New(next.backend, &rekisteri.Options{Logger: silent, Publish: &rekisteri.PublishOptions{
		To: next.backend.Publisher(),
		Authorize: func(req *http.Request, p rekisteri.Provider) error {
			_, password, basic := req.BasicAuth()
			switch {
			case req.Header.Get("Authorization") != "Bearer publish" && !(basic && password == "publish"):
				return rekisteri.ErrUnauthenticated
			case p.Namespace != "acme":
				return fs.ErrPermission
			}
			return nil
		},
	}})
	return next
}

func allowAll(*http.Request, rekisteri.Provider) error { return nil }

// put uploads a file of acme/hello and returns the status and the answer.
func (p *publishing) put(version, name, content string, edit ...func(*http.Request)) (int, string) {
	req := httptest.NewRequest("PUT", "/files/acme/hello/"+version+"/"+name, strings.NewReader(content))
	req.Header.Set("Authorization", "Bearer publish")
	for _, e := range edit {
		e(req)
	}
	w := httptest.NewRecorder()
	p.reg.ServeHTTP(w, req)
	return w.Code, strings.TrimSpace(w.Body.String())
}

// putAll uploads files, in the order of GoReleaser: zips first.
func (p *publishing) putAll(version string, files map[string]string) (codes []int, last string) {
	names := slices.SortedFunc(maps.Keys(files), func(a, b string) int {
		return strings.Compare(strings.Replace(a, "_SHA256SUMS", "~", 1), strings.Replace(b, "_SHA256SUMS", "~", 1))
	})
	for _, name := range names {
		var code int
		code, last = p.put(version, name, files[name])
		codes = append(codes, code)
	}
	return codes, last
}

// versions returns the versions that are served.
func (p *publishing) versions() string { return versionsOf(p.t, p.backend) }

// served returns what a file of acme/hello is served as, or the status.
func (p *publishing) served(version, name string) string {
	w := httptest.NewRecorder()
	p.reg.ServeHTTP(w, httptest.NewRequest("GET", "/files/acme/hello/"+version+"/"+name, nil))
	if w.Code != 200 {
		return fmt.Sprint(w.Code)
	}
	return w.Body.String()
}

// zipOf returns a zip with a provider's binary, whose content is text.
func zipOf(t testing.TB, binary, text string) string {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create(binary)
	if err == nil {
		_, err = io.WriteString(f, text)
	}
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// releaseOf returns the files of a release of acme/hello, whose zips hold text.
func releaseOf(t testing.TB, version, text string) map[string]string {
	prefix := "terraform-provider-hello_" + version + "_"
	files := make(map[string]string)
	files[prefix+"manifest.json"] = manifestOf(`"6.0"`)
	for _, platform := range []string{"darwin_arm64", "linux_amd64"} {
		files[prefix+platform+".zip"] = zipOf(t, "terraform-provider-hello_v"+version, text+" for "+platform)
	}
	signFiles(version, files)
	return files
}

// signFiles makes SHA256SUMS and its signature for files.
func signFiles(version string, files map[string]string) {
	sums := "terraform-provider-hello_" + version + "_SHA256SUMS"
	delete(files, sums)
	delete(files, sums+".sig")
	text := ""
	for _, name := range slices.Sorted(maps.Keys(files)) {
		text += fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(files[name])), name)
	}
	files[sums] = text
	files[sums+".sig"] = testKey().Sign(text, time.Time{})
}

const (
	upSums     = "terraform-provider-hello_1.0.0_SHA256SUMS"
	upZip      = "terraform-provider-hello_1.0.0_linux_amd64.zip"
	upOtherZip = "terraform-provider-hello_1.0.0_darwin_arm64.zip"
	upManifest = "terraform-provider-hello_1.0.0_manifest.json"
)

// keyTree is a tree that waits for its first release.
func keyTree() tree { return tree{"acme/key.asc": testKey().Armor()} }

// A release is published by the file that completes it, whatever the order.
func TestPublishInAnyOrder(t *testing.T) {
	files := releaseOf(t, "1.0.0", "first")
	orders := [][]string{
		{upZip, upOtherZip, upManifest, upSums, upSums + ".sig"},
		{upSums + ".sig", upSums, upManifest, upOtherZip, upZip},
		{upSums, upZip, upSums + ".sig", upOtherZip, upManifest},
	}
	for _, order := range orders {
		p := newPublishing(t, keyTree())
		for i, name := range order {
			code, answer := p.put("1.0.0", name, files[name])
			var receipt rekisteri.Receipt
			if err := json.Unmarshal([]byte(answer), &receipt); err != nil {
				t.Fatalf("%s: %d %s", name, code, answer)
			}
			if last := i == len(order)-1; last {
				if code != 201 || receipt.State != rekisteri.StatePublished {
					t.Errorf("the last file, %s: %d %s", name, code, answer)
				}
			} else if code != 202 || receipt.State != rekisteri.StateStaged || len(receipt.Missing) == 0 {
				t.Errorf("%s: %d %s", name, code, answer)
			} else if got := p.versions(); got != "" {
				t.Errorf("after %s, versions %q are served", name, got)
			} else if got := p.served("1.0.0", name); got != "404" {
				t.Errorf("%s is served before the release is complete", name)
			}
		}
		if got := p.versions(); got != "1.0.0" {
			t.Errorf("versions %q", got)
		}
		for _, name := range []string{upZip, upOtherZip, upSums, upSums + ".sig"} {
			if got := p.served("1.0.0", name); got != files[name] {
				t.Errorf("%s is served as %.40q", name, got)
			}
		}
		rel, err := p.backend.Release(t.Context(), acmeHello, "1.0.0")
		if err != nil || strings.Join(rel.Protocols, " ") != "6.0" || len(rel.Packages) != 2 {
			t.Errorf("release %+v, %v", rel, err)
		}
		if text := checkText(t, p.backend, &rekisteri.CheckOptions{Hash: true}); text != "" {
			t.Errorf("Check says %s", text)
		}
		if left := filesBelow(t, filepath.Join(p.dir, "acme", ".upload")); len(left) > 0 {
			t.Errorf("the stage still has %q", left)
		}
	}
}

// filesBelow returns the files below a directory, hidden ones included.
func filesBelow(t testing.TB, dir string) (names []string) {
	err := filepath.WalkDir(dir, func(name string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, name)
		}
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	return names
}

// What is missing is named.
func TestPublishMissing(t *testing.T) {
	files := releaseOf(t, "1.0.0", "first")
	p := newPublishing(t, keyTree())
	for _, step := range []struct{ name, missing string }{
		{name: upZip, missing: upSums + ", " + upSums + ".sig"},
		{name: upSums, missing: upOtherZip + ", " + upManifest + ", " + upSums + ".sig"},
		{name: upSums + ".sig", missing: upOtherZip + ", " + upManifest},
		{name: upOtherZip, missing: upManifest},
	} {
		_, answer := p.put("1.0.0", step.name, files[step.name])
		var receipt rekisteri.Receipt
		json.Unmarshal([]byte(answer), &receipt)
		if got := strings.Join(receipt.Missing, ", "); got != step.missing {
			t.Errorf("after %s: missing %s, want %s", step.name, got, step.missing)
		}
	}
}

// Every refusal has its status, and tells the user what to do. Nothing is
// published, and nothing that was published changes.
func TestPublishRefusals(t *testing.T) {
	t.Parallel()
	good := releaseOf(t, "1.0.0", "first")
	edited := func(edit func(files map[string]string)) map[string]string {
		files := maps.Clone(good)
		edit(files)
		return files
	}
	signedBy := func(k *pgptest.Key) map[string]string {
		return edited(func(files map[string]string) { files[upSums+".sig"] = k.Sign(files[upSums], time.Time{}) })
	}
	unknown, expired, revoked := pgptest.NewKey("unknown"), pgptest.NewKey("expired"), pgptest.NewKey("revoked")
	expired.Expires = time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)
	revoked.Revoked = true
	tr := keyTree()
	tr["acme/expired.asc"], tr["acme/revoked.asc"] = expired.Armor(), revoked.Armor()
	header := func(key, value string) func(*http.Request) {
		return func(req *http.Request) { req.Header.Set(key, value) }
	}
	target := func(path string) func(*http.Request) {
		return func(req *http.Request) {
			u := httptest.NewRequest("PUT", path, nil).URL
			req.URL = u
		}
	}
	for _, test := range []struct {
		name   string
		first  []string          // files that are uploaded before, and accepted
		files  map[string]string // default: good
		file   string            // the one that is refused
		edit   func(*http.Request)
		status int
		detail string // a part of it
	}{
		{name: "no token", file: upZip, edit: func(req *http.Request) { req.Header.Del("Authorization") }, status: 401},
		{name: "empty token", file: upZip, edit: header("Authorization", "Bearer "), status: 401},
		{name: "another token", file: upZip, edit: header("Authorization", "Bearer read"), status: 401},
		{name: "another namespace", file: upZip, edit: target("/files/other/hello/1.0.0/" + upZip), status: 403},
		{name: "a browser on another site", file: upZip, edit: header("Sec-Fetch-Site", "cross-site"), status: 403},
		{name: "a browser with an origin", file: upZip, edit: header("Origin", "https://evil.example"), status: 403},
		{name: "no such namespace in the tree", file: upZip, edit: target("/files/acme2/hello/1.0.0/" + upZip), status: 403},

		{name: "upper case", file: upZip, edit: target("/files/Acme/hello/1.0.0/" + upZip), status: 422, detail: "lower-case"},
		{name: "v in the version", file: upZip, edit: target("/files/acme/hello/v1.0.0/" + upZip), status: 422, detail: "full semantic version"},
		{name: "wrong version in the name", file: upZip, edit: target("/files/acme/hello/2.0.0/" + upZip), status: 422, detail: "is not a file of acme/hello 2.0.0"},
		{name: "wrong type in the name", file: upZip, edit: target("/files/acme/other/1.0.0/" + upZip), status: 422, detail: "is not a file of acme/other 1.0.0"},
		{name: "dots", file: upZip, edit: target("/files/acme/hello/1.0.0/..%2f..%2fkey.asc"), status: 422, detail: "is not a file of"},
		{name: "NUL", file: upZip, edit: target("/files/acme/hello/1.0.0/%00"), status: 422, detail: "is not a file of"},
		{name: "NUL in a zip's name", file: upZip, edit: target("/files/acme/hello/1.0.0/terraform-provider-hello_1.0.0_linux%00_amd64.zip"), status: 422, detail: "is not a file of"},
		{name: "long name", file: upZip, edit: target("/files/acme/hello/1.0.0/terraform-provider-hello_1.0.0_" + strings.Repeat("x", 300) + "_amd64.zip"), status: 422, detail: "longer than"},
		{name: "other file", file: upZip, edit: target("/files/acme/hello/1.0.0/README.md"), status: 422, detail: "is not a file of"},
		{name: "key", file: upZip, edit: target("/files/acme/hello/1.0.0/key.asc"), status: 422, detail: "is not a file of"},

		{name: "too large", file: upSums, files: edited(func(files map[string]string) { files[upSums] = strings.Repeat("x", 4<<20+1) }), status: 413, detail: "larger than 4 MiB"},
		{name: "too large, without a length", file: upSums, files: edited(func(files map[string]string) { files[upSums] = strings.Repeat("x", 4<<20+1) }),
			edit: func(req *http.Request) { req.ContentLength = -1 }, status: 413, detail: "larger than 4 MiB"},
		{name: "larger than a handler around the registry allows", file: upZip,
			edit: func(req *http.Request) { req.Body = http.MaxBytesReader(nil, req.Body, 100) }, status: 413, detail: "larger than the server allows"},
		{name: "wrong checksum header", file: upZip, edit: header("X-Checksum-Sha256", strings.Repeat("0", 64)), status: 422, detail: "X-Checksum-Sha256"},
		{name: "compressed", file: upZip, edit: header("Content-Encoding", "gzip"), status: 422, detail: "Content-Encoding"},

		{name: "zip that is cut off", file: upZip, files: edited(func(files map[string]string) { files[upZip] = files[upZip][:50] }), status: 422, detail: "is not a whole zip"},
		{name: "zip without the binary", file: upZip, files: edited(func(files map[string]string) { files[upZip] = zipOf(t, "bin/terraform-provider-hello", "") }), status: 422, detail: "at its root"},
		{name: "SHA256SUMS with a blank line", file: upSums, files: edited(func(files map[string]string) { files[upSums] += "\n" }), status: 422, detail: "line 4 is blank"},
		{name: "SHA256SUMS of another version", file: upSums, files: edited(func(files map[string]string) { files[upSums] = strings.ReplaceAll(files[upSums], "1.0.0", "2.0.0") }), status: 422, detail: "which is not a file of acme/hello 1.0.0"},
		{name: "SHA256SUMS without zips", file: upSums, files: edited(func(files map[string]string) { files[upSums] = strings.Repeat("0", 64) + "  x\n" }), status: 422, detail: "names no zip"},
		{name: "manifest with protocol 4 only", file: upManifest, files: edited(func(files map[string]string) { files[upManifest] = manifestOf(`"4.0"`) }), status: 422, detail: "clients need 5 or 6"},
		{name: "armored signature", file: upSums + ".sig", files: edited(func(files map[string]string) {
			files[upSums+".sig"] = "-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n"
		}), status: 422, detail: "without --armor"},
		{name: "half a signature", file: upSums + ".sig", files: edited(func(files map[string]string) { files[upSums+".sig"] = files[upSums+".sig"][:40] }), status: 422, detail: "clients cannot read the signature"},
		{name: "unknown key", file: upSums + ".sig", files: signedBy(unknown), status: 422, detail: "does not know the signing key " + unknown.ID()},
		{name: "expired key", file: upSums + ".sig", files: signedBy(expired), status: 422, detail: "expired on 2024-03-01"},
		{name: "revoked key", file: upSums + ".sig", files: signedBy(revoked), status: 422, detail: "is revoked"},

		{name: "signature of other bytes", first: []string{upSums}, file: upSums + ".sig", files: edited(func(files map[string]string) {
			files[upSums] = strings.Replace(files[upSums], "  ", " \t", 1)
		}), status: 422, detail: "the signature does not match the file"},
		{name: "one bit of SHA256SUMS", first: []string{upSums + ".sig"}, file: upSums, files: edited(func(files map[string]string) {
			b := []byte(files[upSums])
			b[0] ^= 1
			files[upSums] = string(b)
		}), status: 422, detail: "the signature does not match the file"},
		{name: "zip with another sum, last", first: []string{upOtherZip, upManifest, upSums, upSums + ".sig"}, file: upZip, files: edited(func(files map[string]string) {
			files[upZip] = zipOf(t, "terraform-provider-hello", "another")
		}), status: 422, detail: "the sum in SHA256SUMS is not that of the uploaded file: " + upZip},
		{name: "zip with another sum, before SHA256SUMS", first: []string{upZip, upOtherZip, upManifest, upSums + ".sig"}, file: upSums, files: edited(func(files map[string]string) {
			files[upZip] = zipOf(t, "terraform-provider-hello", "another")
		}), status: 422, detail: "the sum in SHA256SUMS is not that of the uploaded file: " + upZip},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPublishing(t, tr)
			files := test.files
			if files == nil {
				files = good
			}
			for _, name := range test.first {
				if code, answer := p.put("1.0.0", name, files[name]); code != 202 {
					t.Fatalf("%s: %d %s", name, code, answer)
				}
			}
			edit := test.edit
			if edit == nil {
				edit = func(*http.Request) {}
			}
			code, answer := p.put("1.0.0", test.file, files[test.file], edit)
			var body struct {
				Errors []string
				Detail string
			}
			if err := json.Unmarshal([]byte(answer), &body); err != nil || len(body.Errors) != 1 || body.Errors[0] != http.StatusText(code) {
				t.Errorf("%d %s, %v", code, answer, err)
			}
			if code != test.status || !strings.Contains(body.Detail, test.detail) || test.detail == "" && body.Detail != "" {
				t.Errorf("%d %q, want %d and %q", code, body.Detail, test.status, test.detail)
			}
			if strings.Contains(answer, p.dir) || strings.Contains(answer, ".upload") {
				t.Errorf("the answer names a path of the server: %s", answer)
			}
			if got := p.versions(); got != "" {
				t.Errorf("versions %q are served", got)
			}
			for _, name := range filesBelow(t, p.dir) {
				if strings.Contains(name, ".part-") || strings.Contains(name, ".commit-") || strings.Contains(name, ".trash-") {
					t.Errorf("%s is left behind", name)
				}
			}
			// The right files publish it after all.
			if codes, answer := p.putAll("1.0.0", good); codes[len(codes)-1] != 201 && codes[len(codes)-1] != 200 {
				t.Errorf("the good release afterwards: %d %s", codes, answer)
			} else if got := p.versions(); got != "1.0.0" {
				t.Errorf("afterwards, versions %q", got)
			}
		})
	}
}

// A published release never changes, wherever it is served from.
func TestPublishedReleaseNeverChanges(t *testing.T) {
	first, second := releaseOf(t, "1.0.0", "first"), releaseOf(t, "1.0.0", "second")
	published := func(dir string) tree {
		tr := keyTree()
		for name, text := range first {
			tr["acme/hello/"+dir+"/"+name] = text
		}
		return tr
	}
	document := keyTree()
	document["acme/hello.json"] = documentOf("1.0.0")
	failed := keyTree()
	failed["acme/hello/1.0.0/README"] = "a copy that failed"
	empty := keyTree()
	for _, test := range []struct {
		name           string
		tr             tree
		same           bool // the files of the first release are those that are served
		resign         bool // so is another signature
		emptyDirectory bool
	}{
		{name: "its own directory", tr: published("1.0.0"), same: true, resign: true},
		{name: "a directory with a v", tr: published("v1.0.0"), same: true, resign: true},
		{name: "a directory of another name", tr: published("latest"), same: true, resign: true},
		{name: "a document", tr: document},
		{name: "a copy that failed", tr: failed},
		{name: "an empty directory", tr: empty, emptyDirectory: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPublishing(t, test.tr)
			if test.emptyDirectory {
				if err := os.MkdirAll(filepath.Join(p.dir, "acme", "hello", "1.0.0"), 0o777); err != nil {
					t.Fatal(err)
				}
			}
			before := p.versions()
			last := func(codes []int, _ string) int { return codes[len(codes)-1] }
			if code := last(p.putAll("1.0.0", second)); code != 409 {
				t.Errorf("other files: %d", code)
			}
			if code := last(p.putAll("1.0.0", first)); (code == 200) != test.same || code != 200 && code != 409 {
				t.Errorf("the files of the first release: %d", code)
			}
			again := maps.Clone(first)
			again[upSums+".sig"] = testKey().Sign(first[upSums], time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC))
			if code, answer := p.put("1.0.0", upSums+".sig", again[upSums+".sig"]); test.resign && code != 200 {
				t.Errorf("signed again: %d %s", code, answer)
			}
			if code, _ := p.put("1.0.0", upSums+".sig", testKey().Sign("other", time.Time{})); code == 200 || code == 201 {
				t.Errorf("a signature of something else: %d", code)
			}
			if got := p.versions(); got != before {
				t.Errorf("versions %q, before %q", got, before)
			}
			if test.same {
				for name, text := range first {
					if got := p.served("1.0.0", name); got != text && name != upManifest {
						t.Errorf("%s is served as %.40q", name, got)
					}
				}
			}
			for name, text := range test.tr {
				if got, err := os.ReadFile(filepath.Join(p.dir, filepath.FromSlash(name))); err != nil || string(got) != text {
					t.Errorf("%s has changed: %v", name, err)
				}
			}
		})
	}
}

// A release can be published after a run that went wrong.
func TestPublishAfterABrokenRun(t *testing.T) {
	t.Parallel()
	good := releaseOf(t, "1.0.0", "second build")
	for _, test := range []struct {
		name   string
		before func(p *publishing)
	}{
		{name: "a build with other files", before: func(p *publishing) {
			broken := releaseOf(t, "1.0.0", "first build")
			delete(broken, upZip)
			p.putAll("1.0.0", broken)
		}},
		{name: "a build whose zip was wrong", before: func(p *publishing) {
			broken := releaseOf(t, "1.0.0", "first build")
			broken[upZip] = zipOf(t, "terraform-provider-hello", "wrong")
			p.putAll("1.0.0", broken)
		}},
		{name: "an unknown key", before: func(p *publishing) {
			broken := maps.Clone(good)
			broken[upSums+".sig"] = pgptest.NewKey("unknown").Sign(broken[upSums], time.Time{})
			p.putAll("1.0.0", broken)
		}},
		{name: "the same files without a signature", before: func(p *publishing) {
			broken := maps.Clone(good)
			delete(broken, upSums+".sig")
			p.putAll("1.0.0", broken)
		}},
		{name: "the same zips with another SHA256SUMS", before: func(p *publishing) {
			broken := maps.Clone(good)
			broken[upSums] += strings.Repeat("0", 64) + "  terraform-provider-hello_1.0.0_freebsd_386.zip\n"
			broken[upSums+".sig"] = testKey().Sign(broken[upSums], time.Time{})
			p.putAll("1.0.0", broken)
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newPublishing(t, keyTree())
			test.before(p)
			if got := p.versions(); got != "" {
				t.Fatalf("versions %q", got)
			}
			codes, answer := p.putAll("1.0.0", good)
			if codes[len(codes)-1] != 201 || slices.Max(codes) >= 300 {
				t.Errorf("%d %s", codes, answer)
			}
			if got := p.versions(); got != "1.0.0" {
				t.Errorf("versions %q", got)
			}
		})
	}
}

// An upload that another one has interrupted is completed by its last file.
func TestPublishCompletesAnEarlierUpload(t *testing.T) {
	first, second := releaseOf(t, "1.0.0", "first"), releaseOf(t, "1.0.0", "second")
	p := newPublishing(t, keyTree())
	for _, name := range []string{upOtherZip, upManifest, upSums, upSums + ".sig"} {
		p.put("1.0.0", name, first[name])
	}
	for _, name := range []string{upOtherZip, upSums} {
		p.put("1.0.0", name, second[name])
	}
	if code, answer := p.put("1.0.0", upZip, first[upZip]); code != 201 {
		t.Errorf("%d %s", code, answer)
	}
	if got := p.served("1.0.0", upSums); got != first[upSums] {
		t.Errorf("SHA256SUMS is %q", got)
	}
}

// The loser of a race is told that the version is published, even if the stage
// has gone with its file.
func TestPublishLosesARace(t *testing.T) {
	winner, loser := releaseOf(t, "1.0.0", "winner"), releaseOf(t, "1.0.0", "loser")
	p := newPublishing(t, keyTree())
	other := p.restart()
	raced := false
	rekisteri.OnStep(p.store, func(op, name string) error {
		if op == "sync" && strings.HasSuffix(name, "/1.0.0") && !raced { // the file has just been staged
			raced = true
			if codes, answer := other.putAll("1.0.0", winner); codes[len(codes)-1] != 201 {
				t.Errorf("the winner: %d %s", codes, answer)
			}
		}
		return nil
	})
	if code, answer := p.put("1.0.0", upZip, loser[upZip]); code != 409 {
		t.Errorf("the loser: %d %s", code, answer)
	}
	if code, answer := p.put("1.0.0", upZip, winner[upZip]); code != 200 {
		t.Errorf("the winner's file: %d %s", code, answer)
	}
}

// A namespace without a key takes no uploads: the volume may not be mounted.
func TestPublishNeedsTheNamespace(t *testing.T) {
	for name, tr := range map[string]tree{
		"no namespace":            {"other/key.asc": testKey().Armor()},
		"a namespace without key": {"acme/README": "", "other/key.asc": testKey().Armor()},
	} {
		p := newPublishing(t, tr)
		if code, answer := p.put("1.0.0", upZip, releaseOf(t, "1.0.0", "")[upZip]); code != 422 || !strings.Contains(answer, "no signing key for the namespace acme") {
			t.Errorf("%s: %d %s", name, code, answer)
		}
		if left := filesBelow(t, filepath.Join(p.dir, "acme")); len(left) > 1 {
			t.Errorf("%s: %q was written", name, left)
		}
	}
	p := newPublishing(t, tree{})
	if code, _ := p.put("1.0.0", upZip, ""); code != 500 {
		t.Errorf("an empty tree: %d", code)
	}
}

// A namespace with a key takes uploads, also after its last provider was deleted.
func TestPublishAfterTheLastProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPublishing(t, newTree(t, "1.0.0"))
		p.versions()
		if err := os.RemoveAll(filepath.Join(p.dir, "acme", "hello")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		for _, typ := range []string{"hello", "other"} {
			provider, name := rekisteri.Provider{Namespace: "acme", Type: typ}, "terraform-provider-"+typ+"_2.0.0_linux_amd64.zip"
			receipt, err := p.backend.Publisher().Publish(t.Context(), provider, "2.0.0", name, strings.NewReader(zipOf(t, "terraform-provider-"+typ+"_v2.0.0", "")))
			if err != nil || receipt.State != rekisteri.StateStaged {
				t.Errorf("%v: %+v, %v", provider, receipt, err)
			}
		}
		if _, err := p.backend.Versions(t.Context(), acmeHello); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the deleted provider: %v, want fs.ErrNotExist", err)
		}
		if err := p.backend.Health().Err; err != nil {
			t.Errorf("the health is %v", err)
		}
	})
}

// The log says who has published a release.
func TestPublishLogsWho(t *testing.T) {
	var log lockedBuffer
	p := newPublishing(t, keyTree())
	b := rekisteri.NewFSBackend(p.store, &rekisteri.FSOptions{Logger: slog.New(slog.NewTextHandler(&log, nil)), Store: p.store})
	p.reg = rekisteri.New(b, &rekisteri.Options{Logger: silent, Publish: &rekisteri.PublishOptions{
		To: b.Publisher(), Authorize: allowAll, Label: func(*http.Request) string { return "the CI" },
	}})
	p.putAll("1.0.0", releaseOf(t, "1.0.0", "first"))
	if want := `msg="a release was published" provider=acme/hello version=1.0.0 remote=192.0.2.1:1234 by="the CI"` + "\n"; !strings.Contains(log.String(), want) {
		t.Errorf("the log has no %q:\n%s", want, log.String())
	}
}

// Without Options.Publish, PUT is not allowed and nothing is written.
func TestPublishIsOff(t *testing.T) {
	p := newPublishing(t, keyTree())
	reg := rekisteri.New(p.backend, &rekisteri.Options{Logger: silent})
	w := httptest.NewRecorder()
	reg.ServeHTTP(w, httptest.NewRequest("PUT", "/files/acme/hello/1.0.0/"+upZip, strings.NewReader("x")))
	if w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	w = httptest.NewRecorder()
	p.reg.ServeHTTP(w, httptest.NewRequest("POST", "/files/acme/hello/1.0.0/"+upZip, strings.NewReader("x")))
	if w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD, PUT" {
		t.Errorf("POST: %d %v", w.Code, w.Header())
	}
	if rekisteri.NewFSBackend(p.store, nil).Publisher() != nil {
		t.Error("a backend without a Store has a Publisher")
	}
	if left := filesBelow(t, p.dir); len(left) != 1 {
		t.Errorf("%q", left)
	}
}

// What the store fails with has a status that a client understands.
func TestPublishStoreErrors(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		err    error
		status int
		detail string
	}{
		{err: syscall.ENOSPC, status: 507, detail: "no space left"},
		{err: syscall.EDQUOT, status: 507, detail: "no space left"},
		{err: syscall.EROFS, status: 422, detail: "cannot write"},
		{err: syscall.EACCES, status: 422, detail: "cannot write"},
		{err: syscall.EIO, status: 500},
		{err: context.Canceled, status: 504},
	} {
		p := newPublishing(t, keyTree())
		rekisteri.OnStep(p.store, func(op, _ string) error {
			if op == "create" {
				return &fs.PathError{Op: "open", Path: "/secret/path", Err: test.err}
			}
			return nil
		})
		files := releaseOf(t, "1.0.0", "first")
		code, answer := p.put("1.0.0", upZip, files[upZip])
		if code != test.status || !strings.Contains(answer, test.detail) || strings.Contains(answer, "secret") {
			t.Errorf("%v: %d %s", test.err, code, answer)
		}
		rekisteri.OnStep(p.store, nil)
		if codes, _ := p.putAll("1.0.0", files); codes[len(codes)-1] != 201 {
			t.Errorf("%v: afterwards %d", test.err, codes)
		}
	}
}

// A body that is cut off stores nothing.
func TestPublishInterrupted(t *testing.T) {
	p := newPublishing(t, keyTree())
	files := releaseOf(t, "1.0.0", "first")
	code, _ := p.put("1.0.0", upZip, files[upZip], func(req *http.Request) {
		req.Body = io.NopCloser(io.MultiReader(strings.NewReader(files[upZip][:50]), errorReader{io.ErrUnexpectedEOF}))
	})
	if code != 400 {
		t.Errorf("%d", code)
	}
	if left := filesBelow(t, filepath.Join(p.dir, "acme", ".upload")); len(left) > 0 {
		t.Errorf("%q is left", left)
	}
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }

// A release that stays incomplete is logged, with what is missing; one that is
// complete by then is published.
func TestIncompleteUploadIsLogged(t *testing.T) {
	files := releaseOf(t, "1.0.0", "first")
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		dir := t.TempDir()
		keyTree().write(t, dir)
		store, err := rekisteri.OpenDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		b := rekisteri.NewFSBackend(store, &rekisteri.FSOptions{Logger: slog.New(slog.NewTextHandler(&log, nil)), Store: store})
		publisher := b.Publisher()
		for name, text := range files {
			if name == upSums+".sig" {
				continue
			}
			if receipt, err := publisher.Publish(t.Context(), acmeHello, "1.0.0", name, strings.NewReader(text)); err != nil || receipt.State != rekisteri.StateStaged {
				t.Fatalf("%s: %+v, %v", name, receipt, err)
			}
			time.Sleep(time.Second)
		}
		time.Sleep(58 * time.Second)
		if strings.Contains(log.String(), "incomplete") {
			t.Errorf("too early: %s", log.String())
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if text := log.String(); strings.Count(text, "an uploaded release is incomplete") != 1 || !strings.Contains(text, "missing="+upSums+".sig") {
			t.Errorf("the log: %s", text)
		}
	})
}

// Each file is sent four times at once, as by clients that try again too soon.
func TestPublishTheSameFilesAtOnce(t *testing.T) {
	t.Parallel()
	p := newPublishing(t, keyTree())
	rounds := 50
	if testing.Short() {
		rounds = 5
	}
	for round := range rounds {
		version := fmt.Sprintf("1.0.%d", round)
		var published atomic.Int64
		var group sync.WaitGroup
		for name, content := range releaseOf(t, version, "text") {
			for range 4 {
				group.Go(func() {
					switch code, answer := p.put(version, name, content); code {
					case 200, 202:
					case 201:
						published.Add(1)
					default:
						t.Errorf("%s: %d %s", name, code, answer)
					}
				})
			}
		}
		group.Wait()
		if n := published.Load(); n != 1 {
			t.Errorf("version %s: 201 was answered %d times", version, n)
		}
	}
}
