package rekisteri_test

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
)

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

// TestCopy copies a release file by file, and each in parts, while a client
// polls: it is seen whole or not at all.
func TestCopy(t *testing.T) { synctest.Test(t, testCopy) }

func testCopy(t *testing.T) {
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
		time.Sleep(time.Millisecond)
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

// TestPlainErrors takes any error for an outage.
func TestPlainErrors(t *testing.T) {
	b := rekisteri.NewFSBackend(plainFS{newTree(t, "1.0.0").mapFS()}, &rekisteri.FSOptions{Logger: silent})
	if _, err := b.Versions(t.Context(), acmeHello); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("versions: %v", err)
	}
	if _, err := b.Release(t.Context(), acmeHello, "1.0.0"); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("release: %v", err)
	}
}

// TestShortFile takes no part of a file for the file.
func TestShortFile(t *testing.T) {
	b := newBackend(t, shortFS{newTree(t, "1.0.0").mapFS()})
	if l, err := b.Versions(t.Context(), acmeHello); err == nil || !strings.Contains(err.Error(), "changed while it was read") {
		t.Errorf("of a part of SHA256SUMS, %+v is served; error %v", l, err)
	}
}
