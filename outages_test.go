package rekisteri_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
)

// A volume is a file system that may be swapped for another one. Its entries
// are looked up by their paths when they are asked for, as those of os.DirFS.
type volume struct {
	now    atomic.Pointer[fs.FS]
	listed func(name string) // called after a directory was read
	wait   func()            // called before anything is opened
}

func newVolume(fsys fs.FS) *volume {
	v := new(volume)
	v.swap(fsys)
	return v
}

func (v *volume) swap(fsys fs.FS) { v.now.Store(&fsys) }

func (v *volume) Open(name string) (fs.File, error) {
	if v.wait != nil {
		v.wait()
	}
	return (*v.now.Load()).Open(name)
}

func (v *volume) ReadDir(name string) ([]fs.DirEntry, error) {
	if v.wait != nil {
		v.wait()
	}
	entries, err := fs.ReadDir(*v.now.Load(), name)
	for i := range entries {
		entries[i] = volumeEntry{entries[i], v, name + "/" + entries[i].Name()}
	}
	if v.listed != nil {
		v.listed(name)
	}
	return entries, err
}

type volumeEntry struct {
	fs.DirEntry
	volume *volume
	name   string
}

func (e volumeEntry) Info() (fs.FileInfo, error) { return fs.Stat(*e.volume.now.Load(), e.name) }

// TestOutageInTheMiddle takes the volume away at every point of a look: what
// was held is served all the while, with its keys.
func TestOutageInTheMiddle(t *testing.T) {
	for _, at := range []string{".", "acme", "acme/hello", "acme/hello/1.0.0"} {
		t.Run(at, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTree(t, "1.0.0")
				tr["other/x.json"] = documentOf("1.0.0")
				v := newVolume(tr.mapFS())
				b := rekisteri.NewFSBackend(v, &rekisteri.FSOptions{Logger: silent})
				versionsOf(t, b)
				time.Sleep(1500 * time.Millisecond)
				v.listed = func(name string) {
					if name == at {
						v.swap(fstest.MapFS{})
					}
				}
				for range 6 {
					if got := versionsOf(t, b); got != "1.0.0" {
						t.Errorf("versions %q", got)
					}
					if rel, err := b.Release(t.Context(), acmeHello, "1.0.0"); err != nil || len(rel.Packages[0].SigningKeys) != 1 {
						t.Errorf("release %+v, %v", rel, err)
					}
					time.Sleep(time.Second)
				}
			})
		})
	}
}

// TestOutageAfterAbsence takes the volume away right after someone has asked
// for what isn't there, which shows that it was there.
func TestOutageAfterAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := newVolume(newTree(t, "1.0.0").mapFS())
		b := rekisteri.NewFSBackend(v, &rekisteri.FSOptions{Logger: silent})
		versionsOf(t, b)
		time.Sleep(1500 * time.Millisecond)
		b.Versions(t.Context(), rekisteri.Provider{Namespace: "nobody", Type: "x"})
		v.swap(fstest.MapFS{})
		time.Sleep(100 * time.Millisecond)
		for range 6 {
			if got := versionsOf(t, b); got != "1.0.0" {
				t.Errorf("versions %q", got)
			}
			time.Sleep(500 * time.Millisecond)
		}
	})
}

// TestDroppedDocument asks for a release of a document that was dropped, and
// has since got company, or hangs.
func TestDroppedDocument(t *testing.T) {
	other := rekisteri.Provider{Namespace: "acme", Type: "other"}
	synctest.Test(t, func(t *testing.T) {
		l := newLiveFS(tree{"acme/hello.json": documentOf("1.0.0"), "acme/other.json": documentOf("1.0.0"), "acme/key.asc": sampleFile(t, "demo/demo.asc")})
		b := rekisteri.NewFSBackend(l, &rekisteri.FSOptions{Logger: silent, CacheBytes: 1})
		versionsOf(t, b)
		b.Versions(t.Context(), other) // which drops the first
		l.edit(func(files fstest.MapFS) {
			for name, f := range newTree(t, "1.0.0").mapFS() {
				files[name] = f
			}
		})
		time.Sleep(2 * time.Second)
		if rel, err := b.Release(t.Context(), acmeHello, "1.0.0"); err != nil || rel.Packages[0].Filename == "f.zip" {
			t.Errorf("the document's release, though there is a directory: %+v, %v", rel, err)
		}
	})

	// Another content of the same size and time is noticed where it matters.
	l := newLiveFS(tree{"acme/hello.json": documentOf("1.0.0"), "acme/other.json": documentOf("1.0.0")})
	b := rekisteri.NewFSBackend(l, &rekisteri.FSOptions{Logger: silent, CacheBytes: 1})
	versionsOf(t, b)
	b.Versions(t.Context(), other)
	before := l.files["acme/hello.json"]
	l.files["acme/hello.json"] = &fstest.MapFile{Data: []byte(documentOf("2.0.0")), ModTime: before.ModTime}
	if rel, err := b.Release(t.Context(), acmeHello, "1.0.0"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a release that is another one now: %+v, %v", rel, err)
	}

	l = newLiveFS(tree{"acme/hello.json": documentOf("1.0.0"), "acme/other.json": documentOf("1.0.0")})
	hang := make(chan bool)
	var hung atomic.Bool
	l.wait = func() {
		if hung.Load() {
			<-hang
		}
	}
	b = rekisteri.NewFSBackend(l, &rekisteri.FSOptions{Logger: silent, CacheBytes: 1})
	versionsOf(t, b)
	b.Versions(t.Context(), other)
	hung.Store(true)
	defer close(hang)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := b.Release(ctx, acmeHello, "1.0.0"); err == nil || errors.Is(err, fs.ErrNotExist) || time.Since(begun) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(begun), err)
	}
}

// A plainFS fails to read zips, with an error that is of no known type.
type plainFS struct{ fs.FS }

type plainFile struct {
	fs.File
	io.ReadSeeker
}

func (plainFile) ReadAt([]byte, int64) (int, error) {
	return 0, errors.New("the bucket asks to slow down")
}
func (f plainFile) Read(b []byte) (int, error) { return f.ReadSeeker.Read(b) }

func (p plainFS) Open(name string) (fs.File, error) {
	f, err := p.FS.Open(name)
	if err == nil && strings.HasSuffix(name, ".zip") {
		return plainFile{f, f.(io.ReadSeeker)}, nil
	}
	return f, err
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

// TestSlowNamespace sees a new provider in two seconds, though the first read
// of its namespace took long.
func TestSlowNamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTree(t, "1.0.0")
		for i := range 60 {
			tr[fmt.Sprintf("acme/k%d.asc", i)] = tr["acme/key.asc"]
		}
		l := newLiveFS(tr)
		l.wait = func() { time.Sleep(time.Millisecond) }
		b := newBackend(t, l)
		versionsOf(t, b)
		l.edit(func(files fstest.MapFS) { files["acme/new.json"] = file(documentOf("1.0.0")) })
		begun := time.Now()
		for {
			_, err := b.Versions(t.Context(), rekisteri.Provider{Namespace: "acme", Type: "new"})
			if err == nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("it took %v", took)
		}
	})
}

// A shortFS ends files before their size.
type shortFS struct{ fs.FS }

func (f shortFS) Open(name string) (fs.File, error) {
	file, err := f.FS.Open(name)
	if strings.HasSuffix(name, "_SHA256SUMS") {
		file = shortFile{file, io.LimitReader(file, 130)}
	}
	return file, err
}

type shortFile struct {
	fs.File
	part io.Reader
}

func (f shortFile) Read(b []byte) (int, error) { return f.part.Read(b) }

// TestShortFile takes no part of a file for the file.
func TestShortFile(t *testing.T) {
	b := newBackend(t, shortFS{newTree(t, "1.0.0").mapFS()})
	if l, err := b.Versions(t.Context(), acmeHello); err == nil || !strings.Contains(err.Error(), "changed while it was read") {
		t.Errorf("of a part of SHA256SUMS, %+v is served; error %v", l, err)
	}
}

// TestGoneAfterOutage has a version go while the tree is away. The log says so
// when the tree is back.
func TestGoneAfterOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := newLiveFS(newTree(t, "1.0.0", "2.0.0"))
		b := rekisteri.NewFSBackend(l, &rekisteri.FSOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		look := func(err error, want string) {
			l.mu.Lock()
			l.err = err
			l.mu.Unlock()
			for range 3 {
				time.Sleep(1500 * time.Millisecond)
				versionsOf(t, b)
				synctest.Wait()
			}
			if got := versionsOf(t, b); got != want {
				t.Errorf("versions %q, want %q", got, want)
			}
		}
		look(nil, "1.0.0 2.0.0")
		look(errors.New("no volume"), "1.0.0 2.0.0")
		l.edit(func(files fstest.MapFS) {
			maps.DeleteFunc(files, func(name string, _ *fstest.MapFile) bool { return strings.HasPrefix(name, dir200) })
		})
		look(nil, "1.0.0")
		for _, want := range []string{"the tree can be read again", "versions are gone"} {
			if n := strings.Count(log.String(), want); n != 1 {
				t.Errorf("%q stands there %d times:\n%s", want, n, log.String())
			}
		}
	})
}
