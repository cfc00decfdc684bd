package rekisteri_test

import (
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
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
)

var acmeHello = rekisteri.Provider{Namespace: "acme", Type: "hello"}

// A tree is a file system's files by their paths.
type tree map[string]string

// newTree returns a tree with releases of acme/hello, and their key. The
// signature is that of the sample's release in all of them: nothing but a
// client verifies it.
func newTree(t testing.TB, versions ...string) tree {
	tr := tree{"acme/key.asc": sampleFile(t, "demo/demo.asc")}
	for _, version := range versions {
		tr.addRelease(t, "acme/hello/"+version, version, "darwin_arm64", "linux_amd64")
	}
	return tr
}

func (tr tree) addRelease(t testing.TB, dir, version string, platforms ...string) {
	const prefix = "terraform-provider-hello_"
	zip := sampleFile(t, "demo/hello/1.0.0/"+prefix+"1.0.0_linux_amd64.zip")
	sums := dir + "/" + prefix + version + "_SHA256SUMS"
	for _, platform := range platforms {
		name := prefix + version + "_" + platform + ".zip"
		tr[dir+"/"+name] = zip
		tr[sums] += fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(zip)), name)
	}
	tr[sums+".sig"] = sampleFile(t, "demo/hello/1.0.0/"+prefix+"1.0.0_SHA256SUMS.sig")
}

func sampleFile(_ testing.TB, name string) string {
	b, err := fs.ReadFile(sampleTree(), name)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func (tr tree) mapFS() fstest.MapFS {
	fsys := make(fstest.MapFS)
	for name, text := range tr {
		fsys[name] = &fstest.MapFile{Data: []byte(text), Mode: 0o444}
	}
	return fsys
}

// write writes the tree below a directory.
func (tr tree) write(t testing.TB, dir string) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(tr)) {
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(at), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(tr[name]), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

func rootFS(t testing.TB, dir string) fs.FS {
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root.FS()
}

// eachFS runs a test with a tree on a real directory and in memory.
func eachFS(t *testing.T, tr tree, test func(t *testing.T, fsys fs.FS)) {
	t.Run("directory", func(t *testing.T) {
		dir := t.TempDir()
		tr.write(t, dir)
		test(t, rootFS(t, dir))
	})
	t.Run("memory", func(t *testing.T) { test(t, tr.mapFS()) })
}

func newBackend(t testing.TB, fsys fs.FS) *rekisteri.FSBackend {
	return rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{Logger: slog.New(slog.NewTextHandler(t.Output(), nil))})
}

// versionsOf returns the versions of acme/hello, "" where there are none.
func versionsOf(t testing.TB, b rekisteri.Backend) string {
	t.Helper()
	l, err := b.Versions(t.Context(), acmeHello)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	if err != nil {
		return err.Error()
	}
	var all []string
	for _, v := range l.Versions {
		all = append(all, v.Version)
	}
	slices.Sort(all)
	return strings.Join(all, " ")
}

func checkText(t testing.TB, b *rekisteri.FSBackend, opts *rekisteri.CheckOptions) string {
	var text strings.Builder
	for problem := range b.Check(t.Context(), opts) {
		fmt.Fprintln(&text, problem)
	}
	return text.String()
}

const (
	dir200  = "acme/hello/2.0.0/"
	sums200 = dir200 + "terraform-provider-hello_2.0.0_SHA256SUMS"
	zip200  = dir200 + "terraform-provider-hello_2.0.0_linux_amd64.zip"
)

// TestReleaseLayout tries every way for a release to be less than whole. The
// release beside it is served whatever happens.
func TestReleaseLayout(t *testing.T) {
	manifest := func(protocols string) string {
		return `{"version": 1, "metadata": {"protocol_versions": [` + protocols + `]}}`
	}
	// withManifest adds a manifest and the line of SHA256SUMS that names it.
	withManifest := func(tr tree, name, text string) {
		tr[dir200+name] = text
		tr[sums200] += fmt.Sprintf("%x  terraform-provider-hello_2.0.0_manifest.json\n", sha256.Sum256([]byte(text)))
	}
	for _, test := range []struct {
		name    string
		edit    func(tr tree)
		served  bool
		problem string // a part of what Check says; empty: nothing
	}{
		{"whole", func(tree) {}, true, ""},
		{"no SHA256SUMS", func(tr tree) { delete(tr, sums200) }, false, "acme/hello/2.0.0: there is no SHA256SUMS"},
		{"empty SHA256SUMS", func(tr tree) { tr[sums200] = "" }, false, "there is no sum in it"},
		{"no signature", func(tr tree) { delete(tr, sums200+".sig") }, false, sums200 + ".sig: there is no signature"},
		{"half a signature", func(tr tree) { tr[sums200+".sig"] = tr[sums200+".sig"][:50] }, false, sums200 + ".sig: "},
		{"armored signature", func(tr tree) {
			tr[sums200+".sig"] = "-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n"
		}, false, "armored"},
		{"missing zip", func(tr tree) { delete(tr, zip200) }, false, zip200 + ": SHA256SUMS names it, and it is missing"},
		{"growing zip", func(tr tree) { tr[zip200] = tr[zip200][:100] }, false, zip200 + ": the zip is not whole"},
		{"empty zip file", func(tr tree) { tr[zip200] = "" }, false, zip200 + ": the zip is not whole"},
		{"zip with a comment", func(tr tree) {
			b := []byte(tr[zip200])
			b[len(b)-2] = 5
			tr[zip200] = string(b) + "hello"
		}, true, zip200 + ": it has another sum"}, // whole, but
		{"other bytes", func(tr tree) {
			tr[zip200] = sampleFile(t, "demo/hello/1.0.0/terraform-provider-hello_1.0.0_windows_arm64.zip")
		}, true, zip200 + ": it has another sum"},
		{"no binary in a zip", func(tr tree) {
			old := tr[zip200]
			tr[zip200] = strings.ReplaceAll(old, "terraform-provider-hello", "terraform-provider-jello")
			tr[sums200] = strings.ReplaceAll(tr[sums200], fmt.Sprintf("%x  terraform-provider-hello_2.0.0_linux", sha256.Sum256([]byte(old))), fmt.Sprintf("%x  terraform-provider-hello_2.0.0_linux", sha256.Sum256([]byte(tr[zip200]))))
		}, true, zip200 + ": it holds no terraform-provider-hello"},
		{"blank line", func(tr tree) { tr[sums200] += "\n" }, false, "line 3 is blank"},
		{"comment", func(tr tree) { tr[sums200] += "# made today\n" }, true, `"# made today" is no sum`},
		{"star", func(tr tree) { tr[sums200] = strings.ReplaceAll(tr[sums200], "  ", " *") }, false, "star"},
		{"CRLF", func(tr tree) { tr[sums200] = strings.ReplaceAll(tr[sums200], "\n", "\r\n") }, true, ""},
		{"upper-case hex", func(tr tree) {
			sum, rest, _ := strings.Cut(tr[sums200], "  ")
			tr[sums200] = strings.ToUpper(sum) + "  " + rest
		}, true, ""},
		{"v in the directory's name", func(tr tree) { tr.move("acme/hello/2.0.0", "acme/hello/v2.0.0") }, true, ""},
		{"directory of any name", func(tr tree) { tr.move("acme/hello/2.0.0", "acme/hello/newest") }, true, ""},
		{"two directories", func(tr tree) { tr.addRelease(t, "acme/hello/v2.0.0", "2.0.0", "linux_amd64") }, true, "acme/hello/v2.0.0: version 2.0.0 stands in acme/hello/2.0.0, too"},
		{"two releases in a directory", func(tr tree) { tr.addRelease(t, "acme/hello/2.0.0", "3.0.0", "linux_amd64") }, true, "terraform-provider-hello_3.0.0_SHA256SUMS: it is one of several in the directory"},
		{"no full version", func(tr tree) {
			tr.move("acme/hello/2.0.0", "old")
			tr.addRelease(t, "acme/hello/2.0", "2.0", "linux_amd64")
		}, false, `"2.0" in its name is not a full semantic version`},
		{"empty directory", func(tr tree) { tr.move("acme/hello/2.0.0", "old"); tr["acme/hello/2.0.0/README"] = "" }, false, "there is no SHA256SUMS"},
		{"file in the directory's place", func(tr tree) { tr.move("acme/hello/2.0.0", "old"); tr["acme/hello/2.0.0"] = "" }, false, "acme/hello/2.0.0: it is no directory"},
		{"file that is nothing", func(tr tree) { tr["acme/hello/README.md"] = "" }, true, ""},
		{"another type", func(tr tree) {
			tr.move("acme/hello/2.0.0", "old")
			for name, text := range tr {
				if rest, ok := strings.CutPrefix(name, "old/"); ok {
					tr[dir200+strings.ReplaceAll(rest, "hello", "other")] = text
				}
			}
		}, false, "it is of the provider other"},
		{"a zip of another version", func(tr tree) {
			tr[sums200] += strings.Repeat("0", 64) + "  terraform-provider-hello_1.0.0_linux_amd64.zip\n"
		}, true,
			"terraform-provider-hello_1.0.0_linux_amd64.zip is not a zip of hello 2.0.0"},
		{"names no zip", func(tr tree) {
			tr[sums200] = strings.Repeat("0", 64) + "  terraform-provider-hello_2.0.0_manifest.json\n"
		}, false, "it names no zip"},
		{"path for a name", func(tr tree) {
			tr[sums200] = strings.ReplaceAll(tr[sums200], "terraform-provider-hello_2.0.0_linux", "terraform-provider-../../acme/key_2.0.0_linux")
		}, true, "is not a zip of hello 2.0.0"},
		{"what the release tool leaves", func(tr tree) {
			tr[dir200+"artifacts.json"], tr[dir200+"metadata.json"], tr[dir200+"config.yaml"], tr[dir200+"digests.txt"] = "{", "{", "{", ""
			tr[dir200+"terraform-provider-hello_linux_amd64_v1/terraform-provider-hello_v2.0.0"] = "\x7fELF"
			tr[sums200] += strings.Repeat("0", 64) + "  terraform-provider-hello_2.0.0_manifest.json\n"
		}, true, ""},
		{"manifest", func(tr tree) { withManifest(tr, "terraform-registry-manifest.json", manifest(`"6.0"`)) }, true, ""},
		{"published manifest", func(tr tree) { withManifest(tr, "terraform-provider-hello_2.0.0_manifest.json", manifest(`"5.1"`)) }, true, ""},
		{"manifest that SHA256SUMS does not name", func(tr tree) { tr[dir200+"terraform-registry-manifest.json"] = manifest(`"6.0"`) }, true, ""},
		{"manifest of another release", func(tr tree) {
			withManifest(tr, "terraform-registry-manifest.json", manifest(`"6.0"`))
			tr[dir200+"terraform-registry-manifest.json"] = manifest(`"5.0"`)
		}, false, "it has another sum than SHA256SUMS says"},
		{"manifest that is not JSON", func(tr tree) { tr[dir200+"terraform-registry-manifest.json"] = "version: 1" }, false, "it is no manifest"},
		{"manifest with a number", func(tr tree) { tr[dir200+"terraform-registry-manifest.json"] = manifest(`5`) }, false, "it is no manifest"},
		{"manifest with nonsense", func(tr tree) { tr[dir200+"terraform-registry-manifest.json"] = manifest(`"v5"`) }, false, `the protocol "v5" does not parse`},
		{"manifest without protocols", func(tr tree) { tr[dir200+"terraform-registry-manifest.json"] = manifest("") }, true, ""},
		{"protocol 4 only", func(tr tree) { tr[dir200+"terraform-registry-manifest.json"] = manifest(`"4.0"`) }, false, `the protocols ["4.0"] only`},
		{"no key", func(tr tree) { delete(tr, "acme/key.asc") }, true, "acme/hello: the key 3C91E2DDC757EE2B is not in the tree, which touches version 1.0.0, 2.0.0"},
		{"undecodable key", func(tr tree) { tr["acme/hello/bad.asc"] = "no key" }, true, "acme/hello/bad.asc: "},
		{"key that is a directory", func(tr tree) { tr["acme/dir.asc/x"] = "" }, true, "acme/dir.asc: it is no regular file"},
		{"a document with warnings alone", func(tr tree) { tr["acme/hello.json"] = `{"warnings": ["use another"]}` }, true, ""},
		{"a document that describes it as well", func(tr tree) { tr["acme/hello.json"] = documentOf("2.0.0") }, true, "version 2.0.0 has a directory, too"},
		{"a broken document", func(tr tree) { tr["acme/hello.json"] = "{" }, true, "it is no metadata document"},
		{"hidden names", func(tr tree) {
			tr["acme/hello/.git/x"], tr["lost+found/x"], tr[".git/config"], tr["acme/.x.asc"] = "", "", "", ""
		}, true, ""},
		{"upper case", func(tr tree) { tr["Acme/x.json"], tr["acme/Foo/1.0.0/x"] = "{}", "" }, true, "rename it to acme/foo"},
		{"no name", func(tr tree) { tr["acme corp/x.json"] = "{}" }, true, "acme corp: no client can ask for such a name"},
		{"no namespace", func(tr tree) { tr["foo.json"] = "{}" }, true, "foo.json: it is in no namespace"},
	} {
		t.Run(test.name, func(t *testing.T) {
			tr := newTree(t, "1.0.0", "2.0.0")
			test.edit(tr)
			eachFS(t, tr, func(t *testing.T, fsys fs.FS) {
				b := newBackend(t, fsys)
				want := "1.0.0"
				if test.served {
					want = "1.0.0 2.0.0"
				}
				if got := versionsOf(t, b); got != want {
					t.Errorf("versions %q, want %q", got, want)
				}
				got := checkText(t, b, &rekisteri.CheckOptions{Hash: true})
				if test.problem == "" && got != "" || !strings.Contains(got, test.problem) {
					t.Errorf("Check says\n%swant %q", got, test.problem)
				}
			})
		})
	}
}

// move gives the files below a directory to another.
func (tr tree) move(from, to string) {
	for name, text := range maps.Clone(tr) {
		if rest, ok := strings.CutPrefix(name, from+"/"); ok {
			tr[to+"/"+rest] = text
			delete(tr, name)
		}
	}
}

// documentOf returns a metadata document with versions.
func documentOf(versions ...string) string {
	var doc strings.Builder
	for i, version := range versions {
		if i > 0 {
			doc.WriteString(",")
		}
		fmt.Fprintf(&doc, `{"version":%q,"protocols":["5.0"],"platforms":[{"os":"linux","arch":"amd64","filename":"f.zip","download_url":"https://h/f.zip","shasum":"%064x"}]}`, version, i)
	}
	return `{"shasums_url":"https://h/s","shasums_signature_url":"https://h/s.sig",` + sampleKeys("") + `,"versions":[` + doc.String() + `]}`
}

// sampleKeys returns the sample's key, as it stands in a document, behind more
// of its members.
func sampleKeys(more string) string {
	armor, err := fs.ReadFile(sampleTree(), "demo/demo.asc")
	if err != nil {
		panic(err)
	}
	quoted, err := json.Marshal(string(armor))
	if err != nil {
		panic(err)
	}
	return `"signing_keys":{"gpg_public_keys":[{` + more + `"ascii_armor":` + string(quoted) + `}]}`
}

// TestReleaseProtocols reads them from the manifest.
func TestReleaseProtocols(t *testing.T) {
	for manifest, want := range map[string]string{
		"": "5.0",
		`{"metadata":{"protocol_versions":["4.0","6.0"]}}`: "4.0 6.0",
		`{"metadata":{"protocol_versions":[]}}`:            "5.0",
	} {
		tr := newTree(t, "1.0.0")
		if manifest != "" {
			tr["acme/hello/1.0.0/terraform-registry-manifest.json"] = manifest
		}
		rel, err := newBackend(t, tr.mapFS()).Release(t.Context(), acmeHello, "1.0.0")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(rel.Protocols, " "); got != want {
			t.Errorf("manifest %s: protocols %q, want %q", manifest, got, want)
		}
	}
}

// A liveFS is a file system in memory whose files change.
type liveFS struct {
	mu    sync.Mutex
	files fstest.MapFS
	err   error            // what everything fails with
	fail  map[string]error // what single paths fail with
	wait  func()           // called before everything
	calls map[string]int   // of Open, by path
}

func newLiveFS(tr tree) *liveFS {
	l := &liveFS{files: tr.mapFS(), fail: make(map[string]error), calls: make(map[string]int)}
	for _, f := range l.files {
		f.ModTime = time.Now().Add(-time.Hour)
	}
	return l
}

// edit changes files, with the time that it is.
func (l *liveFS) edit(change func(files fstest.MapFS)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := maps.Clone(l.files)
	change(l.files)
	for name, f := range l.files {
		if old[name] != f {
			f.ModTime = time.Now()
		}
	}
}

func (l *liveFS) Open(name string) (fs.File, error) {
	if l.wait != nil {
		l.wait()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls[name]++
	if err := l.fail[name]; l.err != nil || err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.Join(l.err, err)}
	}
	return l.files.Open(name)
}

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

// TestFreshness changes a tree under a running backend, in a time of its own.
func TestFreshness(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func(l *liveFS, files fstest.MapFS)
		want string // after two seconds
		log  string // what the log says, once
	}{
		{"nothing", func(*liveFS, fstest.MapFS) {}, "1.0.0 2.0.0 3.0.0", ""},
		{"a new release", func(_ *liveFS, files fstest.MapFS) {
			for name, f := range newTree(t, "4.0.0").mapFS() {
				files[name] = f
			}
		}, "1.0.0 2.0.0 3.0.0 4.0.0", ""},
		{"a deleted release", func(_ *liveFS, files fstest.MapFS) {
			maps.DeleteFunc(files, func(name string, _ *fstest.MapFile) bool { return strings.HasPrefix(name, dir200) })
		}, "1.0.0 3.0.0", "versions=2.0.0"},
		{"a deleted document", func(_ *liveFS, files fstest.MapFS) { delete(files, "acme/hello.json") }, "1.0.0 2.0.0", "versions=3.0.0"},
		{"a changed document", func(_ *liveFS, files fstest.MapFS) { files["acme/hello.json"] = file(documentOf("3.1.0")) }, "1.0.0 2.0.0 3.1.0", "versions=3.0.0"},
		{"a document of the same size", func(_ *liveFS, files fstest.MapFS) { files["acme/hello.json"] = file(documentOf("3.0.1")) }, "1.0.0 2.0.0 3.0.1", "versions=3.0.0"},
		{"a broken document", func(_ *liveFS, files fstest.MapFS) { files["acme/hello.json"] = file("{") }, "1.0.0 2.0.0 3.0.0", "it is no metadata document"},
		{"half a document", func(_ *liveFS, files fstest.MapFS) { files["acme/hello.json"] = file(documentOf("3.0.0")[:50]) }, "1.0.0 2.0.0 3.0.0", "what it said before is still served"},
		{"an unreadable document", func(l *liveFS, _ fstest.MapFS) { l.fail["acme/hello.json"] = fs.ErrPermission }, "1.0.0 2.0.0 3.0.0", "permission denied"},
		{"a broken SHA256SUMS", func(_ *liveFS, files fstest.MapFS) { files[sums200] = file("nothing\n") }, "1.0.0 2.0.0 3.0.0", "there is no sum in it"},
		{"a broken signature", func(_ *liveFS, files fstest.MapFS) { files[sums200+".sig"] = file("nothing") }, "1.0.0 2.0.0 3.0.0", "version 2.0.0 is still served as it was"},
		{"a zip that is gone", func(_ *liveFS, files fstest.MapFS) { delete(files, zip200) }, "1.0.0 2.0.0 3.0.0", ""}, // said when it has lasted
		{"an unreadable release", func(l *liveFS, _ fstest.MapFS) { l.fail["acme/hello/2.0.0"] = fs.ErrPermission }, "1.0.0 2.0.0 3.0.0", "acme/hello/2.0.0"},
		{"an unreadable provider", func(l *liveFS, _ fstest.MapFS) { l.fail["acme/hello"] = errors.New("input/output error") }, "1.0.0 2.0.0 3.0.0", "input/output error"},
		{"an unreadable namespace", func(l *liveFS, _ fstest.MapFS) { l.fail["acme"] = errors.New("input/output error") }, "1.0.0 2.0.0 3.0.0", "input/output error"},
		{"a key that is gone", func(_ *liveFS, files fstest.MapFS) { delete(files, "acme/key.asc") }, "1.0.0 2.0.0 3.0.0", "is not in the tree"},
		{"the provider", func(_ *liveFS, files fstest.MapFS) {
			maps.DeleteFunc(files, func(name string, _ *fstest.MapFile) bool { return strings.HasPrefix(name, "acme/") })
			files["other/x.json"] = file(documentOf("1.0.0"))
		}, "", "a provider is gone"},
		{"an empty root", func(_ *liveFS, files fstest.MapFS) { clear(files) }, "1.0.0 2.0.0 3.0.0", "is empty and was not"},
		{"a root of empty namespaces", func(_ *liveFS, files fstest.MapFS) {
			clear(files)
			files["acme"] = &fstest.MapFile{Mode: fs.ModeDir}
		}, "1.0.0 2.0.0 3.0.0", "is empty and was not"},
		{"a root that fails", func(l *liveFS, _ fstest.MapFS) { l.err = errors.New("stale handle") }, "1.0.0 2.0.0 3.0.0", "stale handle"},
		{"a root that is gone", func(l *liveFS, _ fstest.MapFS) { l.err = fs.ErrNotExist }, "1.0.0 2.0.0 3.0.0", "file does not exist"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTree(t, "1.0.0", "2.0.0")
				tr["acme/hello.json"] = documentOf("3.0.0")
				l := newLiveFS(tr)
				var log bytes.Buffer
				b := rekisteri.NewFSBackend(l, &rekisteri.FSOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
				if got := versionsOf(t, b); got != "1.0.0 2.0.0 3.0.0" {
					t.Fatalf("versions %q", got)
				}
				before, _ := b.Versions(t.Context(), acmeHello)
				l.edit(func(files fstest.MapFS) { test.edit(l, files) })
				for range 12 { // of which the last comes when whatever look there was is over
					time.Sleep(200 * time.Millisecond)
					versionsOf(t, b)
				}
				if got := versionsOf(t, b); got != test.want {
					t.Errorf("versions %q, want %q", got, test.want)
				}
				if after, _ := b.Versions(t.Context(), acmeHello); test.name == "nothing" && after != before {
					t.Error("nothing has changed, but the listing's pointer")
				}
				synctest.Wait() // for what a look logs at its end
				if n := strings.Count(log.String(), test.log); test.log != "" && n != 1 {
					t.Errorf("the log says %q %d times:\n%s", test.log, n, log.String())
				} else if test.log == "" && strings.Contains(log.String(), "WARN") {
					t.Errorf("the log says\n%s", log.String())
				}
				if test.want == "" || l.err != nil || len(l.files) < 2 || strings.HasPrefix(test.log, "versions=") {
					return
				}
				// What stands for an hour is said again.
				time.Sleep(time.Hour)
				versionsOf(t, b)
				synctest.Wait()
				if n := strings.Count(log.String(), test.log); test.log != "" && n != 2 {
					t.Errorf("after an hour, the log says %q %d times", test.log, n)
				}
			})
		})
	}
}

// TestOutage asks a tree that was away from the start.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLiveFS(newTree(t, "1.0.0"))
		l.err = fs.ErrNotExist
		b := newBackend(t, l)
		if _, err := b.Versions(t.Context(), acmeHello); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a root that is gone: %v, want an error that is no absence", err)
		}
		l.err = nil
		if got := versionsOf(t, b); got != "1.0.0" {
			t.Errorf("after the outage: %q", got)
		}
		l.edit(func(files fstest.MapFS) { clear(files) })
		time.Sleep(time.Second)
		if _, err := b.Versions(t.Context(), rekisteri.Provider{Namespace: "acme", Type: "other"}); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("never read, in a root that is empty now: %v, want an error that is no absence", err)
		}
	})
	// A tree that has always been empty has no provider.
	if got := versionsOf(t, newBackend(t, fstest.MapFS{})); got != "" {
		t.Errorf("an empty tree has %q", got)
	}
	// What was never readable is no absence.
	l := newLiveFS(tree{"acme/hello.json": "{", "acme/foo.json": documentOf("1.0.0")})
	b := newBackend(t, l)
	if _, err := b.Versions(t.Context(), acmeHello); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a broken document that was never good: %v", err)
	}
}

// TestSlow reads a large provider from a file system whose every call takes a
// millisecond, in a time of its own.
func TestSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTree(t)
		var platforms []string
		for i := range 14 {
			platforms = append(platforms, fmt.Sprintf("os%d_amd64", i))
		}
		for i := range 300 {
			tr.addRelease(t, fmt.Sprintf("acme/hello/1.%d.0", i), fmt.Sprintf("1.%d.0", i), platforms...)
		}
		tr["other/foo.json"] = documentOf("1.0.0")
		l := newLiveFS(tr)
		l.wait = func() { time.Sleep(time.Millisecond) }
		b := newBackend(t, slowFS{l})
		begun := time.Now()
		done := make(chan bool)
		go func() {
			if got := strings.Count(versionsOf(t, b), " "); got != 299 {
				t.Errorf("%d versions", got+1)
			}
			close(done)
		}()
		time.Sleep(5 * time.Millisecond)
		if _, err := b.Versions(t.Context(), rekisteri.Provider{Namespace: "other", Type: "foo"}); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 50*time.Millisecond {
			t.Errorf("another provider's answer took %v", took)
		}
		<-done
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("the first answer took %v", took)
		}
	})
}

// A slowFS gives each call of a file to the file system's wait.
type slowFS struct{ *liveFS }

func (s slowFS) Open(name string) (fs.File, error) {
	f, err := s.liveFS.Open(name)
	if err != nil {
		return nil, err
	}
	if dir, ok := f.(fs.ReadDirFile); ok {
		return slowDir{dir, s.wait}, nil
	}
	return slowFile{f.(interface {
		fs.File
		io.ReadSeeker
		io.ReaderAt
	}), s.wait}, nil
}

type slowFile struct {
	file interface {
		fs.File
		io.ReadSeeker
		io.ReaderAt
	}
	wait func()
}

func (f slowFile) Stat() (fs.FileInfo, error)               { f.wait(); return f.file.Stat() }
func (f slowFile) Read(b []byte) (int, error)               { f.wait(); return f.file.Read(b) }
func (f slowFile) ReadAt(b []byte, at int64) (int, error)   { f.wait(); return f.file.ReadAt(b, at) }
func (f slowFile) Seek(at int64, whence int) (int64, error) { f.wait(); return f.file.Seek(at, whence) }
func (f slowFile) Close() error                             { f.wait(); return f.file.Close() }

type slowDir struct {
	fs.ReadDirFile
	wait func()
}

func (d slowDir) ReadDir(n int) ([]fs.DirEntry, error) {
	d.wait()
	entries, err := d.ReadDirFile.ReadDir(n)
	for i := range entries {
		entries[i] = slowEntry{entries[i], d.wait}
	}
	return entries, err
}

type slowEntry struct {
	fs.DirEntry
	wait func()
}

func (e slowEntry) Info() (fs.FileInfo, error) { e.wait(); return e.DirEntry.Info() }

// TestHang hangs the file system under a backend.
func TestHang(t *testing.T) {
	tr := newTree(t, "1.0.0")
	l := newLiveFS(tr)
	hang := make(chan bool)
	var hung sync.Map
	l.wait = func() {
		if _, ok := hung.Load("now"); ok {
			<-hang
		}
	}
	b := newBackend(t, l)
	if got := versionsOf(t, b); got != "1.0.0" {
		t.Fatal(got)
	}
	hung.Store("now", true)
	defer close(hang)
	time.Sleep(2100 * time.Millisecond) // what is held is older than it should be
	begun := time.Now()
	for range 100 {
		if got := versionsOf(t, b); got != "1.0.0" {
			t.Fatalf("what was held: %q", got)
		}
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("100 answers took %v", took)
	}
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	var group sync.WaitGroup
	for i := range 5000 {
		group.Go(func() {
			_, err := b.Versions(ctx, rekisteri.Provider{Namespace: "acme", Type: fmt.Sprint("p", i)})
			if err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Errorf("what is not held: %v", err)
			}
		})
	}
	group.Wait()
	if n := runtime.NumGoroutine() - before; n > 1100 {
		t.Errorf("%d goroutines wait for the file system", n)
	}
	if got := versionsOf(t, b); got != "1.0.0" {
		t.Errorf("what was held: %q", got)
	}
}

// TestCopy copies a release file by file, and each in parts, while a client
// polls: it is seen whole or not at all.
func TestCopy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	newTree(t, "1.0.0").write(t, dir)
	b := newBackend(t, rootFS(t, dir))
	reg := newRegistry(t, b)
	src := newTree(t, "2.0.0")
	done := make(chan bool)
	go func() {
		defer close(done)
		for _, name := range slices.Sorted(maps.Keys(src)) { // as cp: SHA256SUMS and its signature first
			if !strings.HasPrefix(name, dir200) {
				continue
			}
			at := filepath.Join(dir, filepath.FromSlash(name))
			os.MkdirAll(filepath.Dir(at), 0o777)
			f, err := os.Create(at)
			if err != nil {
				t.Error(err)
				return
			}
			for part := range slices.Chunk([]byte(src[name]), len(src[name])/3+1) {
				if strings.HasSuffix(name, ".zip") {
					time.Sleep(400 * time.Millisecond)
				}
				f.Write(part)
			}
			f.Close()
		}
	}()
	copied, whole := time.Time{}, false
	for !whole {
		whole = strings.Contains(versionsOf(t, b), "2.0.0")
		if whole {
			for name, text := range src {
				if strings.HasPrefix(name, dir200) {
					if got := body(t, get(reg, "GET", "/files/"+name)); got != text {
						t.Errorf("%s was served before it was whole", name)
					}
				}
			}
		}
		select {
		case <-done:
			if copied.IsZero() {
				copied = time.Now()
			} else if time.Since(copied) > 3*time.Second {
				t.Fatal("the release is not listed")
			}
		default:
		}
	}
}

// TestReplaced replaces a document by another of the same size and time, as
// rsync -a does.
func TestReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree{"acme/hello.json": documentOf("1.0.0")}.write(t, dir)
	name := filepath.Join(dir, "acme", "hello.json")
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(name, old, old); err != nil {
		t.Fatal(err)
	}
	b := newBackend(t, rootFS(t, dir))
	if got := versionsOf(t, b); got != "1.0.0" {
		t.Fatal(got)
	}
	if err := os.WriteFile(name+".new", []byte(documentOf("2.0.0")), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chtimes(name+".new", old, old), os.Rename(name+".new", name)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(3 * time.Second); versionsOf(t, b) != "2.0.0"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still %s", versionsOf(t, b))
		}
	}
}

// TestUnchanged looks again at a tree that has not changed, and reads no file.
func TestUnchanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTree(t, "1.0.0", "2.0.0")
		tr["acme/hello.json"] = documentOf("3.0.0")
		l := newLiveFS(tr)
		b := newBackend(t, l)
		versionsOf(t, b)
		before := maps.Clone(l.calls)
		time.Sleep(3 * time.Second)
		versionsOf(t, b)
		for name := range tr {
			// A MapFS opens a file to give its status, once.
			if n := l.calls[name] - before[name]; n > 1 {
				t.Errorf("%s was opened %d times", name, n)
			}
		}
		// A new release reads the files of that release.
		l.edit(func(files fstest.MapFS) {
			for name, f := range newTree(t, "4.0.0").mapFS() {
				if strings.Contains(name, "4.0.0") {
					files[name] = f
				}
			}
		})
		before = maps.Clone(l.calls)
		time.Sleep(3 * time.Second)
		if got := versionsOf(t, b); !strings.Contains(got, "4.0.0") {
			t.Error(got)
		}
		for name := range tr {
			if n := l.calls[name] - before[name]; n > 1 {
				t.Errorf("for another release, %s was opened %d times", name, n)
			}
		}
	})
}

// TestOneUnread has a namespace that cannot be read beside one that can: the
// tree is not away, and does not come back with each look.
func TestOneUnread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		tr := newTree(t, "1.0.0")
		tr["other/foo.json"] = documentOf("1.0.0")
		l := newLiveFS(tr)
		l.fail["other"] = syscall.EIO
		b := rekisteri.NewFSBackend(l, &rekisteri.FSOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		for range 30 {
			if got := versionsOf(t, b); got != "1.0.0" {
				t.Error(got)
			}
			if _, err := b.Versions(t.Context(), rekisteri.Provider{Namespace: "other", Type: "foo"}); err == nil || errors.Is(err, fs.ErrNotExist) {
				t.Error(err)
			}
			synctest.Wait()
			time.Sleep(1100 * time.Millisecond)
		}
		if s := log.String(); strings.Count(s, "\n") != 1 || !strings.Contains(s, "path=other") {
			t.Errorf("the log of half a minute:\n%s", s)
		}
	})
}

// TestReportedAnew breaks a document of which nothing is held, mends it, and
// breaks it again: that is another problem.
func TestReportedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := newLiveFS(tree{"acme/hello.json": documentOf("1.0.0"), "acme/other.json": documentOf("1.0.0")})
		b := rekisteri.NewFSBackend(l, &rekisteri.FSOptions{Logger: slog.New(slog.NewTextHandler(&log, nil)), CacheBytes: 1})
		for _, text := range []string{"nonsense", documentOf("1.0.0"), "nonsense"} {
			l.edit(func(files fstest.MapFS) { files["acme/hello.json"] = file(text) })
			time.Sleep(3 * time.Second)
			versionsOf(t, b)
			synctest.Wait()
			b.Versions(t.Context(), rekisteri.Provider{Namespace: "acme", Type: "other"}) // which drops the first
			synctest.Wait()
		}
		if n := strings.Count(log.String(), "path=acme/hello.json"); n != 2 {
			t.Errorf("it is logged %d times:\n%s", n, log.String())
		}
	})
}

// TestOneOfMany edits one document of 4,000, and has no other read again.
func TestOneOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n, edited = 4000, 1234
		document := func(i int) string { return fmt.Sprintf("acme/p%d.json", i) }
		tr, before := make(tree), documentOf("1.0.0")
		for i := range n {
			tr[document(i)] = before
		}
		l := newLiveFS(tr)
		b := newBackend(t, l)
		ask := func(i int) string {
			l, err := b.Versions(t.Context(), rekisteri.Provider{Namespace: "acme", Type: fmt.Sprint("p", i)})
			if err != nil {
				t.Fatal(err)
			}
			return l.Versions[0].Version
		}
		for i := range n {
			ask(i)
		}
		l.edit(func(files fstest.MapFS) { files[document(edited)] = file(documentOf("2.0.0")) })
		clear(l.calls)
		time.Sleep(3 * time.Second)
		for i := range n {
			want, opened := "1.0.0", 1 // a MapFS opens a file to give its status
			if i == edited {
				want, opened = "2.0.0", 2
			}
			if got := ask(i); got != want || l.calls[document(i)] != opened {
				t.Fatalf("%s is %s, and was opened %d times", document(i), got, l.calls[document(i)])
			}
		}
	})
}

// TestDocument reads metadata documents, odd ones too: what one entry spells
// oddly never hurts another.
func TestDocument(t *testing.T) {
	platform := func(edit string) string {
		return strings.Replace(`{"os":"linux","arch":"amd64","filename":"f.zip","download_url":"https://h/f.zip","shasum":"`+strings.Repeat("aB", 32)+`"}`, "}", edit+"}", 1)
	}
	version := func(v, platforms string) string {
		return `{"version":` + v + `,"protocols":["5.0"],"platforms":[` + platforms + `]}`
	}
	good := version(`"9.0.0"`, platform(""))
	for _, test := range []struct {
		name, versions string
		want           string // versions and platforms
		problem        string
	}{
		{"plain", good, "9.0.0 linux_amd64", ""},
		{"1.2", version(`"1.2"`, platform("")), "1.2.0 linux_amd64", ""},
		{"v1.2.0", version(`"v1.2.0"`, platform("")), "1.2.0 linux_amd64", ""},
		{"a duplicate", version(`"1.2"`, platform("")) + "," + version(`"v1.2.0"`, platform(`,"os":"darwin"`)), "1.2.0 linux_amd64", `"v1.2.0" stands there twice, as 1.2.0`},
		{"another platform", version(`"1.0.0"`, platform("")) + "," + version(`"2.0.0"`, platform(`,"os":"darwin"`)), "1.0.0 linux_amd64, 2.0.0 darwin_amd64", ""},
		{"members that stand there twice", `{"protocols":["x"],"platforms":[{}],` + version(`"1.0.0"`, platform(""))[1:], "1.0.0 linux_amd64", ""},
		{"an entry without a version", version(`"1.0.0"`, platform("")) + `,{"platforms":[` + platform("") + `]}`, "1.0.0 linux_amd64", `"" is not a semantic version`},
		{"latest", version(`"latest"`, platform("")), "", `"latest" is not a semantic version`},
		{"1.2.3.4", version(`"1.2.3.4"`, platform("")), "", `"1.2.3.4" is not`},
		{"01.2.3", version(`"01.2.3"`, platform("")), "", `"01.2.3" is not`},
		{"overflow", version(`"99999999999999999999.0.0"`, platform("")), "", `"99999999999999999999.0.0" is not`},
		{"build metadata", version(`"1.0.0+1"`, platform("")) + "," + version(`"1.0.0+2"`, platform("")), "1.0.0+1 linux_amd64, 1.0.0+2 linux_amd64", ""},
		{"a version that is a number", version(`1.2`, platform("")), "", "version 1 of the list"},
		{"null", "null", "", `"" is not a semantic version`},
		{"a list", "[]", "", "version 1 of the list"},
		{"a protocol that is a number", `{"version":"1.0.0","protocols":[5,"5.0","v6"],"platforms":[` + platform("") + `]}`, "1.0.0 linux_amd64", "does not parse"},
		{"a protocol that does not parse, twice", `{"version":"1.0.0","protocols":["x","5.0","x"],"platforms":[` + platform("") + `]}`, "1.0.0 linux_amd64", `"x" does not parse`},
		{"no protocols", `{"version":"1.0.0","platforms":[` + platform("") + `]}`, "1.0.0 linux_amd64", ""},
		{"no platforms", `{"version":"1.0.0"}`, "", "version 1.0.0 has no platform"},
		{"a platform that is null", version(`"1.0.0"`, "null,"+platform("")), "1.0.0 linux_amd64", "platform 1 of the list"},
		{"a platform that is a number", version(`"1.0.0"`, "1,"+platform("")), "1.0.0 linux_amd64", "platform 1 of the list"},
		{"a platform in upper case", version(`"1.0.0"`, platform(`,"os":"Linux"`)+","+platform("")), "1.0.0 linux_amd64", `"Linux" "amd64" is not in lower-case`},
		{"a platform twice", version(`"1.0.0"`, platform("")+","+platform("")), "1.0.0 linux_amd64", "stands there twice"},
		{"a shasum that is short", version(`"1.0.0"`, platform(`,"shasum":"abc"`)+","+platform("")), "1.0.0 linux_amd64", "64 hexadecimal digits"},
		{"a shasum that is long", version(`"1.0.0"`, platform(`,"shasum":"`+strings.Repeat("a", 66)+`"`)), "", "64 hexadecimal digits"},
		{"a shasum that is no hex", version(`"1.0.0"`, platform(`,"shasum":"`+strings.Repeat("x", 64)+`"`)), "", "64 hexadecimal digits"},
		{"no file name", version(`"1.0.0"`, platform(`,"filename":""`)), "", "file name"},
		{"a file name with a space", version(`"1.0.0"`, platform(`,"filename":"a b.zip"`)), "", "file name"},
		{"a file name with a wide space", version(`"1.0.0"`, platform(`,"filename":"a\u2003b.zip"`)), "", "file name"},
		{"a file name with a control character", version(`"1.0.0"`, platform(`,"filename":"a\u007fb.zip"`)), "", "file name"},
		{"a file name with a backslash", version(`"1.0.0"`, platform(`,"filename":"a\\b.zip"`)), "", "file name"},
		{"a file name in another script", version(`"1.0.0"`, platform(`,"filename":"ä.zip"`)), "1.0.0 linux_amd64", ""},
		{"no download URL", version(`"1.0.0"`, platform(`,"download_url":""`)), "", "the URL of the zip is missing"},
		{"a scheme for SHA256SUMS", version(`"1.0.0"`, platform("")+","+platform(`,"os":"b","shasums_url":"s3://x"`)), "1.0.0 linux_amd64", "the URL of SHA256SUMS is not"},
		{"another scheme", version(`"1.0.0"`, platform(`,"download_url":"file:///etc/passwd"`)), "", "not an http or https one"},
		{"a key that is none", version(`"1.0.0"`, platform(`,"signing_keys":{"gpg_public_keys":[{"key_id":"X","ascii_armor":"none"},null]}`)), "1.0.0 linux_amd64", `the signing key "X" cannot be read`},
	} {
		t.Run(test.name, func(t *testing.T) {
			versions := test.versions
			want := test.want
			if versions != good { // the others go on
				versions += "," + good
				want = strings.TrimPrefix(want+", 9.0.0 linux_amd64", ", ")
			}
			b := newBackend(t, fstest.MapFS{"acme/hello.json": file(`{"shasums_url":"https://h/s","shasums_signature_url":"https://h/g",` + sampleKeys("") + `,"versions":[` + versions + `]}`)})
			l, err := b.Versions(t.Context(), acmeHello)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, v := range l.Versions {
				s := v.Version
				rel, err := b.Release(t.Context(), acmeHello, v.Version)
				if err != nil || len(rel.Packages) != len(v.Platforms) {
					t.Fatalf("%s: %v, %v", v.Version, rel, err)
				}
				for i, on := range v.Platforms {
					s += " " + on.String()
					if pkg := rel.Packages[i]; pkg.Platform != on || fmt.Sprintf("%x", pkg.SHA256) != strings.Repeat("ab", 32) {
						t.Errorf("package %+v", pkg)
					}
				}
				got = append(got, s)
			}
			if g := strings.Join(got, ", "); g != want {
				t.Errorf("got %q, want %q", g, want)
			}
			text := checkText(t, b, nil)
			if test.problem == "" && text != "" || !strings.Contains(text, test.problem) {
				t.Errorf("Check says %s, want %q", text, test.problem)
			}
			if n := b.Health().Problems; n != strings.Count(text, "\n") {
				t.Errorf("Health counts %d problems, Check says %s", n, text)
			}
		})
	}
}

// TestNoSums serves no package whose SHA256SUMS is nowhere.
func TestNoSums(t *testing.T) {
	const sums, signature = `"shasums_url":"https://h/s",`, `"shasums_signature_url":"https://h/s.sig",`
	for _, missing := range []string{sums, signature, sums + signature} {
		b := newBackend(t, fstest.MapFS{"acme/hello.json": file(strings.Replace(documentOf("1.0.0", "2.0.0"), missing, "", 1))})
		if got := versionsOf(t, b); got != "" {
			t.Errorf("without %s: %q", missing, got)
		}
		if text := checkText(t, b, nil); !strings.Contains(text, "is missing") {
			t.Errorf("Check says %s", text)
		}
	}
}

// TestInheritance takes what a platform lacks from its version, and that from
// the document.
func TestInheritance(t *testing.T) {
	keys := sampleKeys
	platform := func(os, more string) string {
		return `{"os":"` + os + `","arch":"amd64","filename":"f.zip","download_url":"https://h/f.zip","shasum":"` + strings.Repeat("0", 64) + `"` + more + `}`
	}
	doc := `{"warnings":["w"],"shasums_url":"doc","shasums_signature_url":"docsig",` + keys("") + `,"versions":[
		{"version":"2.0.0","protocols":["6.0"],"shasums_url":"ver",` + keys(`"key_id":"VER",`) + `,"platforms":[` + platform("a", "") + `,` +
		platform("b", `,"shasums_url":"pkg",`+keys(`"key_id":"PKG",`)) + `,` + platform("c", `,"signing_keys":{"gpg_public_keys":[]}`) + `,` + platform("d", `,"signing_keys":"x"`) + `,` + platform("e", `,"signing_keys":null`) + `]},
		{"version":"1.0.0","protocols":["5.0"],"platforms":[` + platform("a", "") + `]}]}`
	b := newBackend(t, fstest.MapFS{"acme/hello.json": file(doc)})
	got := ""
	for _, version := range []string{"1.0.0", "2.0.0"} {
		rel, err := b.Release(t.Context(), acmeHello, version)
		if err != nil {
			t.Fatal(err)
		}
		for _, pkg := range rel.Packages {
			got += fmt.Sprintf("%s %v %s %s %s", version, rel.Protocols, pkg.OS, pkg.SHASumsURL, pkg.SHASumsSignatureURL)
			for _, k := range pkg.SigningKeys {
				got += " " + k.KeyID
			}
			got += "\n"
		}
	}
	want := "1.0.0 [5.0] a doc docsig 3C91E2DDC757EE2B\n2.0.0 [6.0] a ver docsig VER\n2.0.0 [6.0] b pkg docsig PKG\n2.0.0 [6.0] c ver docsig\n2.0.0 [6.0] d ver docsig\n2.0.0 [6.0] e ver docsig VER\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if l, err := b.Versions(t.Context(), acmeHello); err != nil || !slices.Equal(l.Warnings, []string{"w"}) {
		t.Errorf("%+v, %v", l, err)
	}
}

// TestProviders lists the tree.
func TestProviders(t *testing.T) {
	tr := newTree(t, "1.0.0")
	for _, name := range []string{"acme/hello.json", "acme/hello-b.json", "acme/a.json", "zoo/x.json", "README.md", ".git/x.json", "lost+found/x.json", "Upper/x.json", "acme/Upper.json", "acme/x.txt"} {
		tr[name] = documentOf("1.0.0")
	}
	eachFS(t, tr, func(t *testing.T, fsys fs.FS) {
		var got []string
		for p, err := range newBackend(t, fsys).Providers(t.Context()) {
			if err != nil {
				t.Error(err)
			}
			got = append(got, p.String())
		}
		if want := []string{"acme/a", "acme/hello", "acme/hello-b", "zoo/x"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// TestDirectCalls gives the backend names that a registry never would.
func TestDirectCalls(t *testing.T) {
	dir := t.TempDir()
	newTree(t, "1.0.0").write(t, filepath.Join(dir, "in"))
	b := newBackend(t, os.DirFS(filepath.Join(dir, "in")))
	for _, p := range []rekisteri.Provider{{}, {Namespace: "..", Type: "in"}, {Namespace: "acme"}, {Namespace: "acme", Type: "../acme/hello"}, {Namespace: "ACME", Type: "hello"}, {Namespace: "acme/hello", Type: "1.0.0"}} {
		if _, err := b.Versions(t.Context(), p); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Versions(%q): %v", p, err)
		}
		if _, err := b.Open(t.Context(), p, "1.0.0", "key.asc"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(%q): %v", p, err)
		}
	}
	for _, name := range []string{"", ".", "..", "../../key.asc", "x"} {
		if _, err := b.Open(t.Context(), acmeHello, "1.0.0", name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Open(%q): %v", name, err)
		}
	}
}

// TestKeys looks at which keys a release is served with, the one that signed
// it first, and at what Check says of them.
func TestKeys(t *testing.T) {
	gpg := func(name string) string {
		t.Helper()
		b, err := os.ReadFile("internal/openpgp/testdata/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	const (
		rsa, ed25519, nistp256       = "6E37763C9448D3C1", "4E1ABAA349B90D7B", "0A4B172C0FAEE397"
		withSubkey, extended, killed = "AEB065EBA028D784", "062FCEDAAB1068F6", "D2C10B560CCE9E11"
	)
	for _, test := range []struct {
		name, signature string
		keys            map[string]string // by the file's path
		want            string
		armor           string // of the first key; empty: whichever
		problem         string
	}{
		{"one", "rsa.sig", map[string]string{"acme/a.asc": "rsa.asc"}, rsa, "rsa.asc", ""},
		{"the signer first", "rsa.sig", map[string]string{"acme/a.asc": "ed25519.asc", "acme/b.asc": "rsa.asc", "acme/c.asc": "nistp256.asc"}, rsa + " " + ed25519 + " " + nistp256, "rsa.asc", ""},
		{"Ed25519", "ed25519.sig", map[string]string{"acme/a.asc": "pair.asc"}, ed25519 + " " + rsa, "", ""},
		{"ECDSA", "nistp256.sig", map[string]string{"acme/a.asc": "pair.asc", "acme/b.asc": "nistp256.asc"}, nistp256 + " " + rsa + " " + ed25519, "", ""},
		{"two blocks in a file", "ed25519.sig", map[string]string{"acme/a.asc": "prose.asc"}, ed25519 + " " + rsa, "", ""},
		{"two signers", "two.sig", map[string]string{"acme/a.asc": "nistp256.asc", "acme/b.asc": "ed25519.asc"}, ed25519 + " " + nistp256, "", ""},
		{"the provider's before the namespace's", "nistp256.sig", map[string]string{"acme/a.asc": "rsa.asc", "acme/hello/z.asc": "ed25519.asc"}, ed25519 + " " + rsa, "",
			"acme/hello: the key " + nistp256 + " is not in the tree, which touches version 1.0.0"},
		{"a subkey", "subkey.sig", map[string]string{"acme/a.asc": "rsa.asc", "acme/b.asc": "subkey.asc"}, withSubkey + " " + rsa, "", ""},
		{"twice: the later expiry", "extended.sig", map[string]string{"acme/a.asc": "extended-before.asc", "acme/b.asc": "extended.asc"}, extended, "extended.asc", ""},
		{"twice, the other way round", "extended.sig", map[string]string{"acme/a.asc": "extended.asc", "acme/b.asc": "extended-before.asc"}, extended, "extended.asc", ""},
		{"twice: never expires latest", "extended.sig", map[string]string{"acme/a.asc": "extended.asc", "acme/b.asc": "extended-for-ever.asc"}, extended, "extended-for-ever.asc", ""},
		{"an expired key", "extended.sig", map[string]string{"acme/a.asc": "extended-before.asc"}, extended, "", "acme/a.asc: the key " + extended + " has expired on 2024-03-01, which touches version 1.0.0"},
		{"a revoked key", "revoked.sig", map[string]string{"acme/a.asc": "revoked.asc"}, killed, "", "acme/a.asc: the key " + killed + " is revoked"},
		{"twice: revoked", "revoked.sig", map[string]string{"acme/a.asc": "revoked-before.asc", "acme/b.asc": "revoked.asc"}, killed, "revoked.asc", "acme/b.asc: the key " + killed + " is revoked"},
		{"twice: revoked, the other way round", "revoked.sig", map[string]string{"acme/a.asc": "revoked.asc", "acme/b.asc": "revoked-before.asc"}, killed, "revoked.asc", "acme/a.asc: the key " + killed + " is revoked"},
		{"an expired signature", "rsa-expiring.sig", map[string]string{"acme/a.asc": "rsa.asc"}, rsa, "", "SHA256SUMS.sig: the signature has expired on 2024-07-01"},
		{"no keys", "rsa.sig", nil, "", "", "the key " + rsa + " is not in the tree"},
	} {
		t.Run(test.name, func(t *testing.T) {
			tr := newTree(t, "1.0.0")
			delete(tr, "acme/key.asc")
			tr["acme/hello/1.0.0/terraform-provider-hello_1.0.0_SHA256SUMS.sig"] = gpg(test.signature)
			for at, name := range test.keys {
				tr[at] = gpg(name)
			}
			b := newBackend(t, tr.mapFS())
			rel, err := b.Release(t.Context(), acmeHello, "1.0.0")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, key := range rel.Packages[0].SigningKeys {
				got = append(got, key.KeyID)
			}
			if g := strings.Join(got, " "); g != test.want {
				t.Errorf("keys %s, want %s", g, test.want)
			}
			if test.armor != "" && rel.Packages[0].SigningKeys[0].ASCIIArmor != gpg(test.armor) {
				t.Errorf("the first key's armor is not that of %s", test.armor)
			}
			text := checkText(t, b, nil)
			if test.problem == "" && text != "" || !strings.Contains(text, test.problem) {
				t.Errorf("Check says %s, want %q", text, test.problem)
			}
		})
	}
}

// TestKeyExpires lets a key expire while nothing changes in the tree.
func TestKeyExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // whose time begins in 2000
		tr := newTree(t, "1.0.0")
		for to, from := range map[string]string{"acme/key.asc": "extended-before.asc", "acme/hello/1.0.0/terraform-provider-hello_1.0.0_SHA256SUMS.sig": "extended.sig"} {
			b, err := os.ReadFile("internal/openpgp/testdata/" + from)
			if err != nil {
				t.Fatal(err)
			}
			tr[to] = string(b)
		}
		var log bytes.Buffer
		b := rekisteri.NewFSBackend(newLiveFS(tr), &rekisteri.FSOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		versionsOf(t, b)
		if log.Len() > 0 {
			t.Errorf("before it expires, the log says %s", log.String())
		}
		time.Sleep(time.Until(time.Date(2024, 3, 1, 0, 0, 1, 0, time.UTC)))
		versionsOf(t, b)
		synctest.Wait()
		if !strings.Contains(log.String(), "has expired on 2024-03-01") {
			t.Errorf("after it has expired, the log says %s", log.String())
		}
	})
}

// TestTransientErrors has a file, or a directory, fail once and be readable
// afterwards. While nothing of it was read, it is no absence.
func TestTransientErrors(t *testing.T) {
	for _, name := range []string{"acme", "acme/hello", "acme/hello.json", "acme/hello/2.0.0", sums200, sums200 + ".sig", zip200, "acme/key.asc", "acme/hello/own.asc"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTree(t, "1.0.0", "2.0.0")
				tr["acme/hello.json"] = documentOf("3.0.0")
				tr["acme/hello/own.asc"] = tr["acme/key.asc"]
				if name != "acme/hello/own.asc" {
					delete(tr, "acme/hello/own.asc")
				} else {
					delete(tr, "acme/key.asc")
				}
				l := newLiveFS(tr)
				l.fail[name] = errors.New("input/output error")
				b := newBackend(t, l)
				for _, version := range []string{"1.0.0", "2.0.0", "3.0.0"} {
					rel, err := b.Release(t.Context(), acmeHello, version)
					if errors.Is(err, fs.ErrNotExist) {
						t.Errorf("while it fails, %s is absent: %v", version, err)
					}
					if err == nil && len(rel.Packages[0].SigningKeys) == 0 {
						t.Errorf("while it fails, %s has no keys", version)
					}
				}
				delete(l.fail, name)
				time.Sleep(2 * time.Second)
				versionsOf(t, b)
				synctest.Wait()
				if got := versionsOf(t, b); got != "1.0.0 2.0.0 3.0.0" {
					t.Errorf("afterwards: %q", got)
				}
				for _, version := range []string{"1.0.0", "2.0.0", "3.0.0"} {
					if rel, err := b.Release(t.Context(), acmeHello, version); err != nil || len(rel.Packages[0].SigningKeys) != 1 {
						t.Errorf("afterwards, %s: %+v, %v", version, rel, err)
					}
				}
				// It fails again: what was read is still there.
				l.fail[name] = errors.New("input/output error")
				time.Sleep(2 * time.Second)
				versionsOf(t, b)
				synctest.Wait()
				for _, version := range []string{"1.0.0", "2.0.0", "3.0.0"} {
					if rel, err := b.Release(t.Context(), acmeHello, version); err != nil || len(rel.Packages[0].SigningKeys) != 1 {
						t.Errorf("when it fails again, %s: %+v, %v", version, rel, err)
					}
				}
			})
		})
	}
}

// TestMoved moves a release to another directory, and empties one.
func TestMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLiveFS(newTree(t, "1.0.0", "2.0.0", "3.0.0"))
		b := newBackend(t, l)
		reg := newRegistry(t, b)
		versionsOf(t, b)
		l.edit(func(files fstest.MapFS) {
			for name, f := range maps.Clone(files) {
				if rest, ok := strings.CutPrefix(name, dir200); ok {
					delete(files, name)
					files["acme/hello/v2.0.0/"+rest] = &fstest.MapFile{Data: f.Data}
					files["acme/hello/2.0.0"] = &fstest.MapFile{Mode: fs.ModeDir}
				}
				if strings.HasPrefix(name, "acme/hello/3.0.0/") {
					delete(files, name)
					files["acme/hello/3.0.0"] = &fstest.MapFile{Mode: fs.ModeDir}
				}
			}
		})
		time.Sleep(time.Second)
		versionsOf(t, b)
		synctest.Wait()
		if got := versionsOf(t, b); got != "1.0.0 2.0.0" {
			t.Errorf("versions %q", got)
		}
		if resp := get(reg, "GET", "/files/acme/hello/2.0.0/terraform-provider-hello_2.0.0_linux_amd64.zip"); resp.StatusCode != 200 {
			t.Errorf("the zip of what was moved: %s", resp.Status)
		}
	})
}

// TestChangedZip does not serve a zip that is another one than was looked at
// under its digest.
func TestChangedZip(t *testing.T) {
	l := newLiveFS(newTree(t, "1.0.0"))
	b := newBackend(t, l)
	reg := newRegistry(t, b)
	versionsOf(t, b)
	const name = "acme/hello/1.0.0/terraform-provider-hello_1.0.0_linux_amd64.zip"
	l.edit(func(files fstest.MapFS) { files[name] = file("half") })
	if resp := get(reg, "GET", "/files/"+name); resp.StatusCode != 500 {
		t.Errorf("a zip that is being overwritten: %s", resp.Status)
	}
	l.edit(func(files fstest.MapFS) { delete(files, name) })
	if resp := get(reg, "GET", "/files/"+name); resp.StatusCode != 500 {
		t.Errorf("a zip that is gone, and listed: %s", resp.Status)
	}
}

// TestUnknownNames asks for many names that don't exist: none is held, logged,
// or costs a read of the tree.
func TestUnknownNames(t *testing.T) {
	for name, break_ := range map[string]func(l *liveFS){
		"good":       func(*liveFS) {},
		"unreadable": func(l *liveFS) { l.fail["acme"] = errors.New("input/output error") },
		"a file":     func(l *liveFS) { l.files = tree{"acme": "", "other/foo.json": documentOf("1.0.0")}.mapFS() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLiveFS(newTree(t, "1.0.0"))
				break_(l)
				var log bytes.Buffer
				b := rekisteri.NewFSBackend(l, &rekisteri.FSOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
				for i := range 500 {
					for _, p := range []rekisteri.Provider{{Namespace: "acme", Type: fmt.Sprint("p", i)}, {Namespace: fmt.Sprint("n", i), Type: "x"}} {
						_, err := b.Versions(t.Context(), p)
						if err == nil || errors.Is(err, fs.ErrNotExist) == (name == "unreadable" && p.Namespace == "acme") {
							t.Fatalf("%v: %v", p, err)
						}
					}
				}
				synctest.Wait()
				if n := rekisteri.Held(b); n != 0 {
					t.Errorf("%d providers are held", n)
				}
				if n := strings.Count(log.String(), "\n"); n > 2 {
					t.Errorf("the log has %d lines:\n%s", n, log.String())
				}
				if n := l.calls["."]; n > 5 {
					t.Errorf("the root was read %d times", n)
				}
			})
		})
	}
}

// TestPipe puts a pipe, whose opening waits for a writer, wherever it may
// stand.
func TestPipe(t *testing.T) {
	dir := t.TempDir()
	newTree(t, "1.0.0").write(t, dir)
	for _, name := range []string{"pipe", "acme/pipe", "acme/pipe.json", "acme/pipe.asc", "acme/hello/pipe", "acme/hello/9.0.0", "acme/hello/1.0.0/terraform-provider-hello_9.0.0_SHA256SUMS"} {
		if err := makePipe(filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
	}
	if err := os.Symlink("../pipe", filepath.Join(dir, "acme", "linked")); err != nil {
		t.Fatal(err)
	}
	b := newBackend(t, rootFS(t, dir))
	done := make(chan bool)
	go func() {
		defer close(done)
		if got := versionsOf(t, b); got != "1.0.0" {
			t.Errorf("versions %q", got)
		}
		for _, p := range []rekisteri.Provider{{Namespace: "pipe", Type: "x"}, {Namespace: "acme", Type: "pipe"}, {Namespace: "acme", Type: "linked"}} {
			if _, err := b.Versions(t.Context(), p); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%v: %v", p, err)
			}
		}
		checkText(t, b, nil)
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		t.Fatal("it hangs")
	}
}

// TestLinkedOutage has a disk fail behind an absolute link that is followed:
// that is no bad link.
func TestLinkedOutage(t *testing.T) {
	real, dir := t.TempDir(), t.TempDir()
	newTree(t, "1.0.0").write(t, real)
	if err := os.Symlink(filepath.Join(real, "acme"), filepath.Join(dir, "acme")); err != nil {
		t.Skip(err)
	}
	for _, fail := range []error{syscall.EIO, syscall.EACCES} {
		fsys := &failingFS{FS: os.DirFS(dir)}
		b := newBackend(t, fsys)
		if fail == syscall.EIO { // else it fails from the start
			if got := versionsOf(t, b); got != "1.0.0" {
				t.Fatalf("versions %q", got)
			}
		}
		fsys.fail(fail)
		time.Sleep(1100 * time.Millisecond)
		versionsOf(t, b)
		time.Sleep(100 * time.Millisecond)
		_, err := b.Versions(t.Context(), acmeHello)
		if fail == syscall.EIO && err != nil || errors.Is(err, fs.ErrNotExist) || fail != syscall.EIO && err == nil {
			t.Errorf("%v: %v", fail, err)
		}
	}
}

// A failingFS fails below a namespace.
type failingFS struct {
	fs.FS
	mu  sync.Mutex
	err error
}

func (f *failingFS) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *failingFS) Open(name string) (fs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil && name != "." {
		return nil, &fs.PathError{Op: "open", Path: name, Err: f.err}
	}
	return f.FS.Open(name)
}

func (f *failingFS) ReadLink(name string) (string, error)   { return fs.ReadLink(f.FS, name) }
func (f *failingFS) Lstat(name string) (fs.FileInfo, error) { return fs.Lstat(f.FS, name) }

// TestConfigMap serves a tree as Kubernetes mounts it: every file and
// directory is a link to one in a directory that is swapped.
func TestConfigMap(t *testing.T) {
	dir := t.TempDir()
	tr := newTree(t, "1.0.0")
	tr["acme/foo.json"] = documentOf("1.0.0")
	hidden := make(tree)
	for name, text := range tr {
		hidden["..data/"+name] = text
		at := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(at), 0o777); err != nil {
			t.Fatal(err)
		}
		up := strings.Repeat("../", strings.Count(name, "/"))
		if err := os.Symlink(up+"..data/"+name, at); err != nil {
			t.Skip(err)
		}
	}
	hidden.write(t, dir)
	for name, fsys := range map[string]fs.FS{"os.Root": rootFS(t, dir), "os.DirFS": os.DirFS(dir)} {
		b := newBackend(t, fsys)
		if got := versionsOf(t, b); got != "1.0.0" {
			t.Errorf("%s: versions %q", name, got)
		}
		if _, err := b.Versions(t.Context(), rekisteri.Provider{Namespace: "acme", Type: "foo"}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if text := checkText(t, b, &rekisteri.CheckOptions{Hash: true}); text != "" {
			t.Errorf("%s: Check says %s", name, text)
		}
	}
}

// TestBadLinks reports links that are not followed, wherever they stand.
func TestBadLinks(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	tr := newTree(t, "1.0.0", "2.0.0")
	tr.write(t, dir)
	newTree(t, "1.0.0").write(t, outside)
	links := map[string]string{
		"loop": "loop", "out": outside, "acme/out": filepath.Join(outside, "acme", "hello"), "acme/loop.asc": "loop.asc",
		"acme/hello/3.0.0": filepath.Join("..", "..", "..", filepath.Base(outside), "acme", "hello", "1.0.0"), "acme/hello/4.0.0": "4.0.0",
		zip200: filepath.Join(outside, "acme/hello/1.0.0/terraform-provider-hello_1.0.0_linux_amd64.zip"),
	}
	for name, target := range links {
		os.Remove(filepath.Join(dir, name))
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
	}
	b := newBackend(t, rootFS(t, dir))
	if got := versionsOf(t, b); got != "1.0.0" {
		t.Errorf("versions %q", got)
	}
	text := checkText(t, b, nil)
	for name := range links {
		if !strings.Contains(text, name) {
			t.Errorf("Check does not name %s:\n%s", name, text)
		}
	}
	for _, p := range []rekisteri.Provider{{Namespace: "out", Type: "hello"}, {Namespace: "loop", Type: "hello"}, {Namespace: "acme", Type: "out"}} {
		if _, err := b.Versions(t.Context(), p); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v: %v", p, err)
		}
	}
}

// TestOnce says what is wrong with a namespace once, for all its providers.
func TestOnce(t *testing.T) {
	tr := newTree(t, "1.0.0")
	tr["acme/bad.asc"] = "no key"
	for i := range 20 {
		tr[fmt.Sprintf("acme/p%d.json", i)] = documentOf("1.0.0")
	}
	var log bytes.Buffer
	b := rekisteri.NewFSBackend(tr.mapFS(), &rekisteri.FSOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	for i := range 20 {
		if _, err := b.Versions(t.Context(), rekisteri.Provider{Namespace: "acme", Type: fmt.Sprint("p", i)}); err != nil {
			t.Fatal(err)
		}
	}
	// A namespace's problems are logged before its providers are served.
	if n := strings.Count(log.String(), "acme/bad.asc"); n != 1 {
		t.Errorf("the log has it %d times", n)
	}
	if n := strings.Count(checkText(t, b, nil), "acme/bad.asc"); n != 1 {
		t.Errorf("Check has it %d times", n)
	}
}

// TestCheckFinds finds what is served and yet no use to anyone.
func TestCheckFinds(t *testing.T) {
	unsigned := strings.Replace(documentOf("1.0.0"), sampleKeys(""), `"x":1`, 1)
	for want, tr := range map[string]tree{
		"acme/hello: it holds no release, nor has its document a version":     {"acme/hello.json": `{"versions":[]}`},
		"acme/hello.json: there is no signing key for version 1.0.0":          {"acme/hello.json": unsigned},
		"acme/hello.json: there is neither protocol 5 nor 6 in version 1.0.0": {"acme/hello.json": strings.Replace(documentOf("1.0.0"), "5.0", "4.0", 1)},
		".: there is no provider in the tree":                                 {"README.md": ""},
		"it is no metadata document":                                          {"acme/hello.json": `[]`},
		"it holds no release":                                                 {"acme/hello.json": `{"Version":[]}`},
		"it is null":                                                          {"acme/hello.json": `null`},
		"it has two lists of versions":                                        {"acme/hello.json": `{"versions":[1 2],"versions":[]}`},
		"',' is missing at byte 15":                                           {"acme/hello.json": `{"versions":[1 2]}`},
		"its versions are no list":                                            {"acme/hello.json": `{"versions":null}`},
		"there is something after the end":                                    {"acme/hello.json": documentOf("1.0.0") + "{}"},
		"acme/hello/1.0.0: there is no SHA256SUMS":                            {"acme/hello/1.0.0/README": ""},
	} {
		if text := checkText(t, newBackend(t, tr.mapFS()), nil); !strings.Contains(text, want) {
			t.Errorf("Check says %s, want %q", text, want)
		}
	}
}

// TestPanickingFS has a file system panic: the request fails, the process goes
// on.
func TestPanickingFS(t *testing.T) {
	for _, name := range []string{".", "acme", "acme/hello", "acme/hello/1.0.0", sums200} {
		l := newLiveFS(newTree(t, "1.0.0", "2.0.0"))
		b := rekisteri.NewFSBackend(panickingFS{l, name}, &rekisteri.FSOptions{Logger: slog.New(slog.DiscardHandler)})
		if _, err := b.Versions(t.Context(), acmeHello); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a panic at %s: %v", name, err)
		}
	}
}

type panickingFS struct {
	fs.FS
	at string
}

func (p panickingFS) Open(name string) (fs.File, error) {
	if name == p.at {
		panic("a file system's bug")
	}
	return p.FS.Open(name)
}

// TestRest looks at a slow file system less often, after the first look.
func TestRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLiveFS(newTree(t, "1.0.0", "2.0.0"))
		l.wait = func() { time.Sleep(50 * time.Millisecond) }
		b := newBackend(t, l)
		versionsOf(t, b)
		calls := func() int { l.mu.Lock(); defer l.mu.Unlock(); return l.calls["acme/hello/1.0.0"] }
		first := calls()
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			versionsOf(t, b)
		}
		if n := calls() - first; n < 4 || n > 40 { // each look opens it twice
			t.Errorf("%d opens in a minute", n)
		}
	})
}

// TestYoung reads a file again that may have changed within its clock's grain.
func TestYoung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLiveFS(tree{"acme/hello.json": documentOf("1.0.0")})
		now := time.Now()
		l.files["acme/hello.json"].ModTime = now
		b := newBackend(t, l)
		versionsOf(t, b)
		l.files["acme/hello.json"] = &fstest.MapFile{Data: []byte(documentOf("2.0.0")), ModTime: now} // of the same size
		time.Sleep(2500 * time.Millisecond)
		if got := versionsOf(t, b); got != "2.0.0" {
			t.Errorf("versions %q", got)
		}
	})
}

// TestSamePointers keeps the values of what has not changed.
func TestSamePointers(t *testing.T) {
	for name, edit := range map[string]func(files fstest.MapFS){
		"nothing":            func(fstest.MapFS) {},
		"a document's bytes": func(files fstest.MapFS) { files["acme/hello.json"] = file(documentOf("3.0.0") + "\n") },
		"files copied again": func(files fstest.MapFS) {
			for name, f := range files {
				files[name] = &fstest.MapFile{Data: f.Data}
			}
		},
		"another provider's": func(files fstest.MapFS) { files["acme/other.json"] = file(documentOf("1.0.0")) },
	} {
		synctest.Test(t, func(t *testing.T) {
			tr := newTree(t, "1.0.0", "2.0.0")
			tr["acme/hello.json"] = documentOf("3.0.0")
			l := newLiveFS(tr)
			b := newBackend(t, l)
			before, _ := b.Versions(t.Context(), acmeHello)
			release, _ := b.Release(t.Context(), acmeHello, "1.0.0")
			l.edit(edit)
			for range 5 {
				time.Sleep(time.Second)
				after, err := b.Versions(t.Context(), acmeHello)
				if err != nil || after != before {
					t.Errorf("%s: another listing, %v", name, err)
				}
				if now, err := b.Release(t.Context(), acmeHello, "1.0.0"); err != nil || now != release {
					t.Errorf("%s: another release, %v", name, err)
				}
			}
		})
	}
}

// TestBound holds no more than it may, and serves all there is.
func TestBound(t *testing.T) {
	dir := t.TempDir()
	tr := make(tree)
	for i := range 50 {
		tr[fmt.Sprintf("acme/p%d.json", i)] = documentOf("1.0.0", "2.0.0", fmt.Sprintf("3.0.%d", i))
	}
	tr.addRelease(t, "acme/hello/1.0.0", "1.0.0", "linux_amd64")
	tr["acme/key.asc"] = sampleFile(t, "demo/demo.asc")
	tr.write(t, dir)
	old := time.Now().Add(-time.Hour)
	for name := range tr {
		if err := os.Chtimes(filepath.Join(dir, name), old, old); err != nil {
			t.Fatal(err)
		}
	}
	one := int64(len(tr["acme/p0.json"]))
	b := rekisteri.NewFSBackend(rootFS(t, dir), &rekisteri.FSOptions{Logger: quiet(t), CacheBytes: 5 * one})
	check := func() {
		t.Helper()
		for i := range 50 {
			p := rekisteri.Provider{Namespace: "acme", Type: fmt.Sprint("p", i)}
			version := fmt.Sprintf("3.0.%d", i)
			rel, err := b.Release(t.Context(), p, version)
			if err != nil || len(rel.Packages) != 1 || rel.Packages[0].SHA256[31] != 2 || len(rel.Packages[0].SigningKeys) != 1 || rel.Packages[0].SHASumsURL != "https://h/s" {
				t.Fatalf("%v %s: %+v, %v", p, version, rel, err)
			}
			if _, err := b.Release(t.Context(), p, "9.9.9"); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("%v 9.9.9: %v", p, err)
			}
		}
	}
	for range 2 {
		check()
		if n := rekisteri.Held(b); n > 5 {
			t.Errorf("%d providers are held", n)
		}
		if got := versionsOf(t, b); got != "1.0.0" {
			t.Errorf("acme/hello: %q", got)
		}
	}
	// What changes after it was dropped is read anew.
	p := rekisteri.Provider{Namespace: "acme", Type: "p0"}
	if err := os.WriteFile(filepath.Join(dir, "acme/p0.json"), []byte(documentOf("5.0.0")), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Release(t.Context(), p, "5.0.0"); err != nil {
		t.Error(err)
	}
	if _, err := b.Release(t.Context(), p, "3.0.0"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

// TestDroppedAtOnce holds so little that what a look has found is dropped
// before those who wait for it see it.
func TestDroppedAtOnce(t *testing.T) {
	tr := make(tree)
	for i := range 8 {
		tr[fmt.Sprintf("acme/p%d.json", i)] = documentOf("1.0.0")
	}
	b := rekisteri.NewFSBackend(newLiveFS(tr), &rekisteri.FSOptions{Logger: silent, CacheBytes: 1})
	var group sync.WaitGroup
	for i := range 64 {
		group.Go(func() {
			for range 100 {
				p := rekisteri.Provider{Namespace: "acme", Type: fmt.Sprint("p", i%8)}
				if l, err := b.Versions(t.Context(), p); err != nil || len(l.Versions) != 1 {
					t.Errorf("%v: %+v, %v", p, l, err)
				}
				if rel, err := b.Release(t.Context(), p, "1.0.0"); err != nil || len(rel.Packages) != 1 {
					t.Errorf("%v: %+v, %v", p, rel, err)
				}
			}
		})
	}
	group.Wait()
}

// TestNamesWithoutFiles changes the tree while the names in its directories
// are known from another provider's look: whether that is a deletion or an
// outage has to be found out.
func TestNamesWithoutFiles(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func(l *liveFS, files fstest.MapFS)
		want string
	}{
		{"an empty root", func(_ *liveFS, files fstest.MapFS) { clear(files) }, "1.0.0 3.0.0"},
		{"an empty namespace", func(_ *liveFS, files fstest.MapFS) {
			clear(files)
			files["acme"] = &fstest.MapFile{Mode: fs.ModeDir}
		}, "1.0.0 3.0.0"},
		{"no root", func(l *liveFS, files fstest.MapFS) { clear(files); l.fail["."] = fs.ErrNotExist }, "1.0.0 3.0.0"},
		{"a deleted provider", func(_ *liveFS, files fstest.MapFS) {
			maps.DeleteFunc(files, func(name string, _ *fstest.MapFile) bool { return strings.HasPrefix(name, "acme/hello") })
		}, ""},
		{"a deleted document", func(_ *liveFS, files fstest.MapFS) { delete(files, "acme/hello.json") }, "1.0.0"},
		{"a deleted directory", func(_ *liveFS, files fstest.MapFS) {
			maps.DeleteFunc(files, func(name string, _ *fstest.MapFile) bool { return strings.HasPrefix(name, "acme/hello/") })
		}, "3.0.0"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTree(t, "1.0.0")
				tr["acme/hello.json"], tr["acme/other.json"] = documentOf("3.0.0"), documentOf("1.0.0")
				l := newLiveFS(tr)
				b := newBackend(t, l)
				if got := versionsOf(t, b); got != "1.0.0 3.0.0" {
					t.Fatal(got)
				}
				time.Sleep(800 * time.Millisecond)
				b.Versions(t.Context(), rekisteri.Provider{Namespace: "acme", Type: "other"})
				time.Sleep(100 * time.Millisecond)
				l.edit(func(files fstest.MapFS) { test.edit(l, files) })
				for range 3 {
					time.Sleep(110 * time.Millisecond)
					versionsOf(t, b)
					synctest.Wait()
				}
				if got := versionsOf(t, b); got != test.want {
					t.Errorf("versions %q, want %q", got, test.want)
				}
			})
		})
	}
}

// TestHealth tells what the last look has found.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTree(t, "1.0.0")
		tr["acme/hello/bad.asc"] = "no key"
		l := newLiveFS(tr)
		b := newBackend(t, l)
		if h := b.Health(); h != (rekisteri.Health{}) {
			t.Errorf("before any look: %+v", h)
		}
		look := func() rekisteri.Health {
			time.Sleep(1100 * time.Millisecond)
			versionsOf(t, b)
			synctest.Wait()
			return b.Health()
		}
		if h := look(); !h.Looked.Equal(time.Now()) || h.Err != nil || h.Problems != 1 {
			t.Errorf("after a look: %+v", h)
		}
		b.Versions(t.Context(), rekisteri.Provider{Namespace: "acme", Type: "nothing"})
		if h := look(); h.Err != nil {
			t.Errorf("a provider that isn't there: %+v", h)
		}
		l.fail["acme"] = errors.New("input/output error")
		if h := look(); h.Err != nil {
			t.Errorf("a namespace that cannot be read: %+v", h)
		}
		l.fail["."] = errors.New("stale handle")
		if h := look(); h.Err == nil || h.Problems != 1 {
			t.Errorf("a root that cannot be read: %+v", h)
		}
		clear(l.fail)
		l.edit(func(files fstest.MapFS) { delete(files, "acme/hello/bad.asc") })
		if h := look(); h.Err != nil || h.Problems != 0 {
			t.Errorf("when all is mended: %+v", h)
		}
	})
}
