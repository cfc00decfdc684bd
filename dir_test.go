package rekisteri_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
)

// link makes a link lead to another target, as git-sync does: at once.
func link(t testing.TB, target, name string) {
	t.Helper()
	if err := os.Symlink(target, name+".tmp"); err != nil {
		t.Skip(err)
	}
	if err := os.Rename(name+".tmp", name); err != nil {
		t.Fatal(err)
	}
}

func TestOpenDirErrors(t *testing.T) {
	if _, err := rekisteri.OpenDir(filepath.Join(t.TempDir(), "nothing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a directory that does not exist: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := rekisteri.OpenDir(file); err == nil {
		t.Error("a file: no error")
	}
}

// A Dir follows its path to another directory, and nothing that leads out of it.
func TestDirFollowsItsPath(t *testing.T) {
	base := t.TempDir()
	newTree(t, "1.0.0").write(t, filepath.Join(base, "old"))
	newTree(t, "2.0.0").write(t, filepath.Join(base, "new"))
	current := filepath.Join(base, "current")
	link(t, "old", current)
	if err := os.Symlink(base, filepath.Join(base, "new", "out")); err != nil {
		t.Skip(err)
	}
	d, err := rekisteri.OpenDir(current)
	if err != nil {
		t.Fatal(err)
	}
	_, first, err := d.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, again, _ := d.Snapshot(t.Context()); again != first {
		t.Errorf("the ID of an unchanged directory was %q and is %q", first, again)
	}
	link(t, "new", current)
	fsys, second, err := d.Snapshot(t.Context())
	if err != nil || second == first {
		t.Errorf("the ID of another directory is %q, %v", second, err)
	}
	if _, err := fs.Stat(fsys, "acme/hello/2.0.0"); err != nil {
		t.Error(err)
	}
	if _, err := fs.Stat(d, "acme/hello/2.0.0"); err != nil {
		t.Error(err)
	}
	if _, err := fs.Stat(fsys, "out/old"); err == nil {
		t.Error("a link leads out of the directory")
	}
}

// When the directory is swapped while a release is read, all files that are
// served come from one of the two directories.
func TestSwapIsNeverTorn(t *testing.T) { synctest.Test(t, testSwapIsNeverTorn) }

func testSwapIsNeverTorn(t *testing.T) {
	base := t.TempDir()
	old, new := newTree(t, "1.0.0"), newTree(t, "1.0.0")
	const sums = "acme/hello/1.0.0/terraform-provider-hello_1.0.0_SHA256SUMS"
	lines := strings.SplitAfter(new[sums], "\n") // signed anew, in another order
	new[sums] = lines[1] + lines[0]
	new[sums+".sig"] = new[sums+".sig"] + new[sums+".sig"]
	old.write(t, filepath.Join(base, "old"))
	new.write(t, filepath.Join(base, "new"))
	current := filepath.Join(base, "current")
	link(t, "old", current)
	d, err := rekisteri.OpenDir(current)
	if err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	b := newBackend(t, openHook{d, func(name string) {
		if strings.HasSuffix(name, ".sig") {
			once.Do(func() { link(t, "new", current) })
		}
	}})
	read := func(name string) string {
		f, err := b.Open(t.Context(), acmeHello, "1.0.0", path.Base(name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		text, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		text, signature := read(sums), read(sums+".sig")
		if text == old[sums] != (signature == old[sums+".sig"]) && text == read(sums) {
			t.Fatal("SHA256SUMS and its signature come from different directories")
		}
		if text == new[sums] {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the new directory is not served")
		}
	}
}

// An openHook is a SnapshotFS that calls a function before it opens a file.
type openHook struct {
	rekisteri.SnapshotFS
	hook func(name string)
}

func (h openHook) Snapshot(ctx context.Context) (fs.FS, string, error) {
	fsys, id, err := h.SnapshotFS.Snapshot(ctx)
	return hookedFS{fsys, h.hook}, id, err
}

type hookedFS struct {
	fs.FS
	hook func(name string)
}

func (h hookedFS) Open(name string) (fs.File, error) {
	h.hook(name)
	return h.FS.Open(name)
}

// What was read from a directory that was swapped and then removed is still
// served, and a download finds the zip in the new one.
func TestSwapAndRemove(t *testing.T) {
	base := t.TempDir()
	tr := newTree(t, "1.0.0")
	for _, gen := range []string{"old", "new"} {
		tr.write(t, filepath.Join(base, gen))
	}
	current := filepath.Join(base, "current")
	link(t, "old", current)
	d, err := rekisteri.OpenDir(current)
	if err != nil {
		t.Fatal(err)
	}
	b := newBackend(t, d)
	if got := versionsOf(t, b); got != "1.0.0" {
		t.Fatal(got)
	}
	link(t, "new", current)
	if err := os.RemoveAll(filepath.Join(base, "old")); err != nil {
		t.Fatal(err)
	}
	f, err := b.Open(t.Context(), acmeHello, "1.0.0", "terraform-provider-hello_1.0.0_linux_amd64.zip")
	if err != nil {
		t.Fatalf("a download right after the swap: %v", err)
	}
	f.Close()
}

// What was read from one snapshot is read again from the next, even if its files
// have the same sizes and times.
func TestSnapshotOfTheSameTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		at := time.Now().Add(-time.Hour)
		of := func(sum string) fs.FS {
			tr := newTree(t, "1.0.0")
			tr["acme/foo.json"] = strings.Replace(documentOf("1.0.0"), strings.Repeat("0", 64), strings.Repeat(sum, 64), 1)
			lines := strings.SplitAfter(tr[sumsPath], "\n")
			if sum == "2" {
				tr[sumsPath] = lines[1] + lines[0]
				tr.sign(sumsPath)
			}
			fsys := tr.mapFS()
			for _, f := range fsys {
				f.ModTime = at
			}
			return fsys
		}
		s := &snapshots{fsys: of("1"), id: "1"}
		b := newBackend(t, s)
		read := func() (text string) {
			f, err := b.Open(t.Context(), acmeHello, "1.0.0", path.Base(sumsPath))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			sums, _ := io.ReadAll(f)
			rel, err := b.Release(t.Context(), rekisteri.Provider{Namespace: "acme", Type: "foo"}, "1.0.0")
			if err != nil {
				t.Fatal(err)
			}
			return fmt.Sprintf("%s %x", sums, rel.Packages[0].SHA256)
		}
		versionsOf(t, b)
		before := read()
		s.fsys, s.id = of("2"), "2"
		for range 3 {
			time.Sleep(time.Second)
			read()
			synctest.Wait()
		}
		if after := read(); after == before || !strings.HasSuffix(after, "2222") || after[:20] == before[:20] && strings.HasPrefix(after, before[:150]) {
			t.Errorf("the new snapshot has %s", after)
		}
	})
}

// A SnapshotFS that fails is an outage.
func TestSnapshotFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &snapshots{fsys: newTree(t, "1.0.0").mapFS()}
		b := newBackend(t, s)
		if got := versionsOf(t, b); got != "1.0.0" {
			t.Fatal(got)
		}
		s.err = errors.New("no token")
		time.Sleep(5 * time.Second)
		if got := versionsOf(t, b); got != "1.0.0" {
			t.Errorf("during the outage: %s", got)
		}
		if _, err := b.Versions(t.Context(), rekisteri.Provider{Namespace: "acme", Type: "other"}); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("an unknown provider, during the outage: %v", err)
		}
		s.err, s.fsys = nil, newTree(t, "2.0.0").mapFS()
		s.id = "2"
		time.Sleep(2 * time.Second)
		versionsOf(t, b)
		synctest.Wait()
		if got := versionsOf(t, b); got != "2.0.0" {
			t.Errorf("after the outage: %s", got)
		}
	})
}

type snapshots struct {
	fsys fs.FS
	id   string
	err  error
}

func (s *snapshots) Open(name string) (fs.File, error) { return s.fsys.Open(name) }
func (s *snapshots) Snapshot(context.Context) (fs.FS, string, error) {
	return s.fsys, s.id, s.err
}
