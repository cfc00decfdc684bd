package rekisteri_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
)

// A zip that is not the one that was read is served only if it has the sum of
// its package.
func TestChangedZip(t *testing.T) {
	other := sampleFile(t, "demo/hello/1.0.0/terraform-provider-hello_1.0.0_windows_arm64.zip")
	for _, test := range []struct {
		name   string
		edit   func(files fstest.MapFS)
		reread bool // of the tree, before the download
		served bool
		logged string // a problem that the log has soon afterwards
	}{
		{name: "unchanged", edit: func(fstest.MapFS) {}, served: true},
		{name: "touched", edit: func(files fstest.MapFS) { files[zipPath] = &fstest.MapFile{Data: files[zipPath].Data} }, served: true},
		{name: "half", edit: func(files fstest.MapFS) { files[zipPath] = file("half") }, logged: "the zip is incomplete"},
		{name: "gone", edit: func(files fstest.MapFS) { delete(files, zipPath) }, logged: "and it is missing"},
		{name: "another zip", edit: func(files fstest.MapFS) { files[zipPath] = file(other) }},
		{name: "another zip of the same size", edit: func(files fstest.MapFS) {
			data := []byte(string(files[zipPath].Data))
			data[10] ^= 1
			files[zipPath] = &fstest.MapFile{Data: data}
		}},
		{name: "another zip, and the release is read again", reread: true, edit: func(files fstest.MapFS) {
			files[zipPath] = file(other)
			files[sumsPath] = &fstest.MapFile{Data: files[sumsPath].Data}
		}},
		{name: "a directory", edit: func(files fstest.MapFS) { delete(files, zipPath); files[zipPath+"/x"] = file("") }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTree(t, "1.0.0")
				l := newLiveFS(tr)
				var log lockedBuffer
				b := rekisteri.NewFSBackend(l, &rekisteri.FSOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
				versionsOf(t, b)
				l.edit(test.edit)
				for range 3 {
					if test.reread {
						time.Sleep(time.Second)
						versionsOf(t, b)
						synctest.Wait()
					}
				}
				for _, wait := range []time.Duration{0, 0, 10 * time.Second, time.Hour} {
					time.Sleep(wait)
					f, err := b.Open(t.Context(), acmeHello, "1.0.0", path.Base(zipPath))
					if errors.Is(err, fs.ErrNotExist) {
						t.Fatalf("after %v, it is absent though it is listed", wait)
					}
					if (err == nil) != test.served {
						t.Fatalf("after %v: %v", wait, err)
					}
					if err != nil {
						continue
					}
					text, err := io.ReadAll(f)
					f.Close()
					if err != nil || string(text) != tr[zipPath] {
						t.Errorf("after %v: %d bytes, %v", wait, len(text), err)
					}
				}
				if !strings.Contains(log.String(), test.logged) {
					t.Errorf("the log has no %q: %s", test.logged, log.String())
				}
			})
		})
	}
}

// A zip that was touched is hashed once, and not for every download.
func TestTouchedZipIsHashedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLiveFS(newTree(t, "1.0.0"))
		b := newBackend(t, l)
		versionsOf(t, b)
		for _, damage := range []bool{false, true} {
			l.edit(func(files fstest.MapFS) {
				data := []byte(string(files[zipPath].Data))
				if damage {
					data[10] ^= 1
				}
				files[zipPath] = &fstest.MapFile{Data: data}
			})
			time.Sleep(time.Second)
			var reads sync.Map
			counting := func() (n int) {
				reads.Range(func(any, any) bool { n++; return true })
				return n
			}
			l.mu.Lock() // a refresh may run in the background
			l.onRead = func(name string, n int) {
				if name == zipPath && n > 100 {
					reads.Store(new(int), true)
				}
			}
			l.mu.Unlock()
			var group sync.WaitGroup
			for range 20 {
				group.Go(func() {
					f, err := b.Open(t.Context(), acmeHello, "1.0.0", path.Base(zipPath))
					if (err != nil) != damage {
						t.Errorf("damaged: %v; %v", damage, err)
					}
					if err == nil {
						f.Close()
					}
				})
			}
			group.Wait()
			if n := counting(); n == 0 || n > 2 {
				t.Errorf("damaged: %v; it was read %d times", damage, n)
			}
		}
	})
}

// A client that hangs up while a zip is hashed does not make the release
// suspicious.
func TestHangUpDuringHashing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLiveFS(newTree(t, "1.0.0"))
		b := newBackend(t, l)
		versionsOf(t, b)
		l.edit(func(files fstest.MapFS) { files[zipPath] = &fstest.MapFile{Data: files[zipPath].Data} })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := b.Open(ctx, acmeHello, "1.0.0", path.Base(zipPath)); !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		f, err := b.Open(t.Context(), acmeHello, "1.0.0", path.Base(zipPath))
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	})
}

// Open opens what a release names and nothing else.
func TestOpenNames(t *testing.T) {
	tr := newTree(t, "1.0.0")
	tr["acme/hello/1.0.0/metadata.json"] = "{}"
	b := newBackend(t, tr.mapFS())
	for _, name := range []string{path.Base(sumsPath), path.Base(sumsPath) + ".sig", path.Base(zipPath)} {
		f, err := b.Open(t.Context(), acmeHello, "1.0.0", name)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(f); err != nil || string(text) != tr["acme/hello/1.0.0/"+name] {
			t.Errorf("%s: %q, %v", name, text, err)
		}
		f.Close()
	}
	for _, name := range []string{"", ".", "..", "metadata.json", "../../key.asc", strings.Repeat("x", 5000), zipPath} {
		if _, err := b.Open(t.Context(), acmeHello, "1.0.0", name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// A pipe in the place of a zip is not opened: that would wait for its writer.
func TestPipeInThePlaceOfAZip(t *testing.T) {
	dir := t.TempDir()
	newTree(t, "1.0.0").write(t, dir)
	b := newBackend(t, rootFS(t, dir))
	versionsOf(t, b)
	at := filepath.Join(dir, filepath.FromSlash(zipPath))
	if err := os.Remove(at); err != nil {
		t.Fatal(err)
	}
	if err := makePipe(at); err != nil {
		t.Skip(err)
	}
	done := make(chan error)
	go func() {
		_, err := b.Open(t.Context(), acmeHello, "1.0.0", path.Base(zipPath))
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v", err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("it hangs")
	}
}
