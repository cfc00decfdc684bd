package rekisteri_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/pgptest"
)

var acmeHello = rekisteri.Provider{Namespace: "acme", Type: "hello"}

// A tree is a file system's files by their paths.
type tree map[string]string

// testKey is the key that the releases of a tree are signed with.
func testKey() *pgptest.Key { return pgptest.NewKey("releases@acme.example") }

// newTree returns a tree with releases of acme/hello, and the key that they are
// signed with.
func newTree(t testing.TB, versions ...string) tree {
	tr := tree{"acme/key.asc": testKey().Armor()}
	for _, version := range versions {
		tr.addRelease(t, "acme/hello/"+version, version, "darwin_arm64", "linux_amd64")
	}
	return tr
}

// addRelease adds a release of acme/hello. The zips are those of another one:
// nothing looks into them, but for the name of the binary.
func (tr tree) addRelease(t testing.TB, dir, version string, platforms ...string) {
	const prefix = "terraform-provider-hello_"
	zip := sampleFile(t, "demo/hello/1.0.0/"+prefix+"1.0.0_linux_amd64.zip")
	sums := dir + "/" + prefix + version + "_SHA256SUMS"
	for _, platform := range platforms {
		name := prefix + version + "_" + platform + ".zip"
		tr[dir+"/"+name] = zip
		tr[sums] += fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(zip)), name)
	}
	tr.sign(sums)
}

// sign signs a SHA256SUMS file.
func (tr tree) sign(sums string) { tr[sums+".sig"] = testKey().Sign(tr[sums], time.Time{}) }

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
	sumsPath = "acme/hello/1.0.0/terraform-provider-hello_1.0.0_SHA256SUMS"
	zipPath  = "acme/hello/1.0.0/terraform-provider-hello_1.0.0_linux_amd64.zip"

	dir200  = "acme/hello/2.0.0/"
	sums200 = dir200 + "terraform-provider-hello_2.0.0_SHA256SUMS"
	zip200  = dir200 + "terraform-provider-hello_2.0.0_linux_amd64.zip"
)

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

func file(text string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(text)} }

// A lockedBuffer is a log that goroutines write to while a test reads it.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
