package rekisteri_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
)

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
		{"a broken document", func(_ *liveFS, files fstest.MapFS) { files["acme/hello.json"] = file("{") }, "1.0.0 2.0.0 3.0.0", "it is not a metadata document"},
		{"half a document", func(_ *liveFS, files fstest.MapFS) { files["acme/hello.json"] = file(documentOf("3.0.0")[:50]) }, "1.0.0 2.0.0 3.0.0", "what it said before is still served"},
		{"an unreadable document", func(l *liveFS, _ fstest.MapFS) { l.fail["acme/hello.json"] = fs.ErrPermission }, "1.0.0 2.0.0 3.0.0", "permission denied"},
		{"a broken SHA256SUMS", func(_ *liveFS, files fstest.MapFS) { files[sums200] = file("nothing\n") }, "1.0.0 2.0.0 3.0.0", "the file has no sums"},
		{"a broken signature", func(_ *liveFS, files fstest.MapFS) { files[sums200+".sig"] = file("nothing") }, "1.0.0 2.0.0 3.0.0", "version 2.0.0 is still served as it was before"},
		{"a zip that is gone", func(_ *liveFS, files fstest.MapFS) { delete(files, zip200) }, "1.0.0 2.0.0 3.0.0", ""}, // said when it has lasted
		{"an unreadable release", func(l *liveFS, _ fstest.MapFS) { l.fail["acme/hello/2.0.0"] = fs.ErrPermission }, "1.0.0 2.0.0 3.0.0", "path=acme/hello/2.0.0 "},
		{"an unreadable provider", func(l *liveFS, _ fstest.MapFS) { l.fail["acme/hello"] = errors.New("input/output error") }, "1.0.0 2.0.0 3.0.0", "input/output error"},
		{"an unreadable namespace", func(l *liveFS, _ fstest.MapFS) { l.fail["acme"] = errors.New("input/output error") }, "1.0.0 2.0.0 3.0.0", "path=acme "},
		{"a key that is gone", func(_ *liveFS, files fstest.MapFS) { delete(files, "acme/key.asc") }, "1.0.0 2.0.0 3.0.0", "is not in the tree"},
		{"the provider", func(_ *liveFS, files fstest.MapFS) {
			maps.DeleteFunc(files, func(name string, _ *fstest.MapFile) bool { return strings.HasPrefix(name, "acme/") })
			files["other/x.json"] = file(documentOf("1.0.0"))
		}, "", "a provider is gone"},
		{"an empty root", func(_ *liveFS, files fstest.MapFS) { clear(files) }, "1.0.0 2.0.0 3.0.0", "has no providers any more"},
		{"a root of empty namespaces", func(_ *liveFS, files fstest.MapFS) {
			clear(files)
			files["acme"] = &fstest.MapFile{Mode: fs.ModeDir}
		}, "1.0.0 2.0.0 3.0.0", "has no providers any more"},
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
				for range 12 { // of which the last comes when whatever refresh there was is over
					time.Sleep(200 * time.Millisecond)
					versionsOf(t, b)
				}
				if got := versionsOf(t, b); got != test.want {
					t.Errorf("versions %q, want %q", got, test.want)
				}
				if after, _ := b.Versions(t.Context(), acmeHello); test.name == "nothing" && after != before {
					t.Error("nothing has changed, but the listing's pointer")
				}
				synctest.Wait() // for what a refresh logs at its end
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

// TestSlow reads a large provider from a file system whose every call takes a
// millisecond, in a time of its own.
func TestSlow(t *testing.T) {
	t.Parallel()
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

// TestUnchanged refreshes a tree that has not changed, and reads no file.
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

// TestReportedAnew breaks a document of which nothing is held, repairs it, and
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

// TestTransientErrors has a file, or a directory, fail once and be readable
// afterwards. A provider of which nothing was read yet is not reported as absent.
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

// TestRest refreshes from a slow file system less often, after the first refresh.
func TestRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLiveFS(newTree(t, "1.0.0", "2.0.0"))
		l.wait = func() { time.Sleep(50 * time.Millisecond) }
		b := newBackend(t, l)
		versionsOf(t, b)
		calls := func() int { l.mu.Lock(); defer l.mu.Unlock(); return l.calls["acme/hello"] }
		first := calls()
		for range 600 {
			time.Sleep(100 * time.Millisecond)
			versionsOf(t, b)
		}
		if n := calls() - first; n < 10 || n > 40 {
			t.Errorf("%d opens in a minute", n)
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
		if n := rekisteri.Cached(b); n > 5 {
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

// TestDroppedAtOnce holds so little that what a refresh has found is dropped
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

// TestGoneAfterOutage has a version go while the tree is away. The log says so
// when the tree is back.
func TestGoneAfterOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := newLiveFS(newTree(t, "1.0.0", "2.0.0"))
		b := rekisteri.NewFSBackend(l, &rekisteri.FSOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		refresh := func(err error, want string) {
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
		refresh(nil, "1.0.0 2.0.0")
		refresh(errors.New("no volume"), "1.0.0 2.0.0")
		l.edit(func(files fstest.MapFS) {
			maps.DeleteFunc(files, func(name string, _ *fstest.MapFile) bool { return strings.HasPrefix(name, dir200) })
		})
		refresh(nil, "1.0.0")
		for _, want := range []string{"the tree can be read again", "versions are gone"} {
			if n := strings.Count(log.String(), want); n != 1 {
				t.Errorf("%q stands there %d times:\n%s", want, n, log.String())
			}
		}
	})
}
