package rekisteri_test

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
)

func provider(i int) rekisteri.Provider {
	return rekisteri.Provider{Namespace: "acme", Type: fmt.Sprint("p", i)}
}

// A refresh of releases that have settled costs one call for the provider, and no
// more than 1,000 a second for the rotation of all of them.
func TestLooksAreBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("it is long")
	}
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const providers, seconds = 60, 8
		v := newVirtualFS(t, providers, 50, 14, 0)
		b := rekisteri.NewFSBackend(v, &rekisteri.FSOptions{Logger: quiet(t), CacheBytes: 1 << 30})
		ask := func() {
			for p := range providers {
				if _, err := b.Versions(t.Context(), provider(p)); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
		}
		ask()
		time.Sleep(1100 * time.Millisecond)
		ask()
		v.calls.Store(0)
		for range seconds {
			time.Sleep(time.Second)
			ask()
		}
		// A second costs a listing of each provider, those of the root and the
		// namespace, the key, and the rotation.
		if n := v.calls.Load() / seconds; n > providers+10+1000 || n < providers+900 {
			t.Errorf("%d calls a second", n)
		}
	})
}

// A small tree is examined whole at every refresh.
func TestSettledReleaseIsExaminedInRotation(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func(l *liveFS, files fstest.MapFS)
		want string // of the first release, after two seconds
	}{
		{name: "SHA256SUMS overwritten", want: "the new one", edit: func(_ *liveFS, files fstest.MapFS) {
			text := strings.SplitAfter(string(files[sumsPath].Data), "\n")
			files[sumsPath] = file(text[1] + text[0])
			files[sumsPath+".sig"] = file(string(files[sumsPath+".sig"].Data) + string(files[sumsPath+".sig"].Data))
		}},
		{name: "SHA256SUMS broken", want: "the old one", edit: func(_ *liveFS, files fstest.MapFS) { files[sumsPath] = file("nothing\n") }},
		{name: "signature gone", want: "the old one", edit: func(_ *liveFS, files fstest.MapFS) { delete(files, sumsPath+".sig") }},
		{name: "directory gone", want: "none", edit: func(_ *liveFS, files fstest.MapFS) {
			for name := range files {
				if strings.HasPrefix(name, "acme/hello/1.0.0/") {
					delete(files, name)
				}
			}
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLiveFS(newTree(t, "1.0.0", "2.0.0"))
				b := newBackend(t, l)
				read := func() string {
					f, err := b.Open(t.Context(), acmeHello, "1.0.0", sumsPath[strings.LastIndex(sumsPath, "/")+1:])
					if err != nil {
						return err.Error()
					}
					text, _ := io.ReadAll(f)
					return string(text)
				}
				old := read()
				l.edit(func(files fstest.MapFS) { test.edit(l, files) })
				for range 4 {
					time.Sleep(500 * time.Millisecond)
					versionsOf(t, b)
					synctest.Wait()
				}
				got := read()
				if (got == old) != (test.want == "the old one") || strings.Contains(got, "file does not exist") != (test.want == "none") {
					t.Errorf("SHA256SUMS is %q, was %q", got, old)
				}
				if got := versionsOf(t, b); !strings.Contains(got, "2.0.0") {
					t.Errorf("the other release: %s", got)
				}
			})
		})
	}
}

// An incomplete release that is older than a minute is examined in rotation: it
// is served soon after the missing file has come.
func TestOldIncompleteReleaseIsCompleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTree(t, "1.0.0", "2.0.0")
		missing := tr[zip200]
		delete(tr, zip200)
		l := newLiveFS(tr)
		b := newBackend(t, l)
		for range 100 {
			versionsOf(t, b)
			time.Sleep(time.Second)
		}
		l.edit(func(files fstest.MapFS) { files[zip200] = file(missing) })
		for range 4 {
			time.Sleep(500 * time.Millisecond)
			versionsOf(t, b)
			synctest.Wait()
		}
		if got := versionsOf(t, b); got != "1.0.0 2.0.0" {
			t.Errorf("versions %q", got)
		}
	})
}

// Files of a file system without times are settled when they have been the same
// for a minute of our own clock.
func TestReleaseWithoutTimesSettles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLiveFS(newTree(t, "1.0.0"))
		for _, f := range l.files {
			f.ModTime = time.Time{}
		}
		b := newBackend(t, l)
		opened := func(seconds int) int {
			l.mu.Lock()
			before := l.calls[zipPath]
			l.mu.Unlock()
			for range seconds {
				time.Sleep(time.Second)
				versionsOf(t, b)
				synctest.Wait()
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.calls[zipPath] - before
		}
		versionsOf(t, b)
		if n := opened(10); n < 5 {
			t.Errorf("a young zip was opened %d times in 10 seconds", n)
		}
		opened(60)
		if n := opened(10); n > 0 {
			t.Errorf("a settled zip was opened %d times in 10 seconds", n)
		}
	})
}

// A version of a provider that is not in memory is read without the others: a
// directory, or a part of a document.
func TestOneVersionIsReadAlone(t *testing.T) {
	if testing.Short() {
		t.Skip("it is long")
	}
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVirtualFS(t, 3, 300, 14, time.Millisecond)
		b := newBackend(t, v)
		b.Providers(t.Context())(func(rekisteri.Provider, error) bool { return true }) // which reads the names
		v.calls.Store(0)
		begun := time.Now()
		rel, err := b.Release(t.Context(), provider(0), "1.7.0")
		if err != nil || len(rel.Packages) != 14 || len(rel.Packages[0].SigningKeys) != 1 {
			t.Fatalf("%+v, %v", rel, err)
		}
		if n, took := v.calls.Load(), time.Since(begun); n > 50 || took > 100*time.Millisecond {
			t.Errorf("it took %d calls and %v", n, took)
		}
		v.calls.Store(0)
		f, err := b.Open(t.Context(), provider(0), "1.7.0", "terraform-provider-p0_1.7.0_os3_amd64.zip")
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		if again, err := b.Release(t.Context(), provider(0), "1.7.0"); err != nil || again != rel {
			t.Errorf("the release is read again: %v", err)
		}
		if n := v.calls.Load(); n > 3 {
			t.Errorf("a zip of a version in memory took %d calls", n)
		}
		if _, err := b.Release(t.Context(), provider(0), "9.9.9"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a version that does not exist: %v", err)
		}
		if n := rekisteri.Cached(b); n != 2 {
			t.Errorf("%d scopes in memory, want the version and then the provider", n)
		}
	})
}

// What a version is served from does not depend on what is in memory.
func TestOneVersionIsTheSameAsInTheWhole(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func(tr tree)
	}{
		{name: "named after the version", edit: func(tree) {}},
		{name: "with a v", edit: func(tr tree) { tr.move("acme/hello/1.0.0", "acme/hello/v1.0.0") }},
		{name: "of another name", edit: func(tr tree) { tr.move("acme/hello/1.0.0", "acme/hello/latest") }},
		{name: "in a directory and in an earlier one of another name", edit: func(tr tree) { tr.addRelease(t, "acme/hello/0-old", "1.0.0", "linux_amd64") }},
		{name: "in a directory with and without a v", edit: func(tr tree) { tr.addRelease(t, "acme/hello/v1.0.0", "1.0.0", "linux_amd64") }},
		{name: "in a directory and in a document", edit: func(tr tree) { tr["acme/hello.json"] = documentOf("1.0.0") }},
		{name: "in a document", edit: func(tr tree) { tr.move("acme/hello/1.0.0", ".old"); tr["acme/hello.json"] = documentOf("1.0.0") }},
		{name: "in a broken directory and in a document", edit: func(tr tree) {
			tr[sumsPath] = "nothing"
			tr["acme/hello.json"] = documentOf("1.0.0")
		}},
		{name: "in a document in two spellings", edit: func(tr tree) {
			tr.move("acme/hello/1.0.0", ".old")
			tr["acme/hello.json"] = documentOf("1.0", "1.0.0")
		}},
		{name: "of a broken directory", edit: func(tr tree) { tr[sumsPath] = "nothing" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			tr := newTree(t, "1.0.0", "2.0.0")
			test.edit(tr)
			ask := func(first string) string {
				l := newLiveFS(tr)
				// Room for indexes of documents, but for no provider.
				b := rekisteri.NewFSBackend(l, &rekisteri.FSOptions{Logger: quiet(t), CacheBytes: 8 << 10})
				switch first {
				case "whole":
					versionsOf(t, b)
				case "evicted":
					versionsOf(t, b)
					b.Versions(t.Context(), rekisteri.Provider{Namespace: "other", Type: "large"})
				}
				rel, err := b.Release(t.Context(), acmeHello, "1.0.0")
				if err != nil {
					return err.Error()
				}
				return fmt.Sprintf("%+v", *rel)
			}
			tr["other/large.json"] = documentOf(strings.Fields(strings.Repeat("1.0.0 ", 1) + "2.0.0 3.0.0 4.0.0 5.0.0 6.0.0 7.0.0 8.0.0")...)
			whole := ask("whole")
			for _, first := range []string{"", "evicted"} {
				if got := ask(first); got != whole {
					t.Errorf("%q: %s, and from the whole provider: %s", first, got, whole)
				}
			}
		})
	}
}

// A hung namespace does not keep others from being read.
func TestHungNamespaceIsAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := make(tree)
		for i := range 300 {
			tr[fmt.Sprintf("bad/p%d.json", i)] = documentOf("1.0.0")
		}
		for i := range 100 {
			tr[fmt.Sprintf("good/p%d.json", i)] = documentOf("1.0.0")
		}
		l := newLiveFS(tr)
		hang := make(chan struct{})
		hung := hookedFS{l, func(name string) {
			if strings.HasPrefix(name, "bad/") {
				<-hang
			}
		}}
		b := newBackend(t, hung)
		var group sync.WaitGroup
		for i := range 300 {
			group.Go(func() {
				_, err := b.Versions(t.Context(), rekisteri.Provider{Namespace: "bad", Type: fmt.Sprint("p", i)})
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("bad/p%d: %v", i, err)
				}
			})
		}
		time.Sleep(time.Second)
		for i := range 100 {
			begun := time.Now()
			if _, err := b.Versions(t.Context(), rekisteri.Provider{Namespace: "good", Type: fmt.Sprint("p", i)}); err != nil || time.Since(begun) > time.Second {
				t.Errorf("good/p%d after %v: %v", i, time.Since(begun), err)
			}
		}
		group.Wait()
		close(hang)
		time.Sleep(10 * time.Second) // loads that waited have given up
		if _, err := b.Versions(t.Context(), rekisteri.Provider{Namespace: "bad", Type: "p1"}); err != nil {
			t.Errorf("when it does not hang any more: %v", err)
		}
	})
}

// A burst of first requests is answered, if the file system is healthy.
func TestColdBurst(t *testing.T) {
	if testing.Short() {
		t.Skip("it is long")
	}
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		v := newVirtualFS(t, 2000, 1, 4, time.Millisecond)
		b := rekisteri.NewFSBackend(v, &rekisteri.FSOptions{Logger: quiet(t)})
		var group sync.WaitGroup
		for i := range v.providers {
			group.Go(func() {
				if _, err := b.Versions(t.Context(), provider(i)); err != nil {
					t.Errorf("%v: %v", provider(i), err)
				}
			})
		}
		group.Wait()
	})
}

// Names that do not exist start no load and leave nothing behind, while their
// namespace is slow to read.
func TestUnknownNamesOfASlowNamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLiveFS(newTree(t, "1.0.0"))
		var log bytes.Buffer
		b := rekisteri.NewFSBackend(hookedFS{l, func(name string) {
			if name == "acme" {
				time.Sleep(200 * time.Millisecond)
			}
		}}, &rekisteri.FSOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		var group sync.WaitGroup
		for i := range 3000 {
			group.Go(func() {
				if _, err := b.Versions(t.Context(), rekisteri.Provider{Namespace: "acme", Type: fmt.Sprint("x", i)}); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("x%d: %v", i, err)
				}
			})
		}
		group.Wait()
		if got := versionsOf(t, b); got != "1.0.0" {
			t.Errorf("a provider that exists: %s", got)
		}
		if n := rekisteri.Cached(b); n != 1 || log.Len() > 0 {
			t.Errorf("%d scopes in memory; the log: %s", n, log.String())
		}
	})
}

// Requests for namespaces that do not exist take no memory.
func TestUnknownNamespaces(t *testing.T) {
	b := newBackend(t, newTree(t, "1.0.0").mapFS())
	for i := range 100 {
		p := rekisteri.Provider{Namespace: fmt.Sprint("x", i), Type: "hello"}
		if _, err := b.Versions(t.Context(), p); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v: %v", p, err)
		}
		if _, err := b.Release(t.Context(), p, "1.0.0"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v: %v", p, err)
		}
	}
	if n := rekisteri.Namespaces(b); n != 1 {
		t.Errorf("%d namespaces in memory, want 1", n)
	}
}

// Providers that are links are not examined one after the other.
func TestLinkedProviders(t *testing.T) {
	if testing.Short() {
		t.Skip("it is long")
	}
	synctest.Test(t, func(t *testing.T) {
		const n = 3000
		v := linkedFS{newVirtualFS(t, n, 1, 2, time.Millisecond)}
		b := newBackend(t, v)
		begun := time.Now()
		if _, err := b.Versions(t.Context(), provider(1)); err != nil || time.Since(begun) > 100*time.Millisecond {
			t.Errorf("the first answer after %v: %v", time.Since(begun), err)
		}
		time.Sleep(2 * time.Second)
		b.Versions(t.Context(), provider(2))
		v.providers++
		begun = time.Now()
		for {
			if _, err := b.Versions(t.Context(), provider(n)); err == nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("a new provider is visible after %v", took)
		}
		found := 0
		for _, err := range b.Providers(t.Context()) {
			if err == nil {
				found++
			}
		}
		if found != n+1 {
			t.Errorf("Providers yields %d", found)
		}
		before := v.calls.Load()
		for range b.Providers(t.Context()) {
		}
		if calls := v.calls.Load() - before; calls > 0 {
			t.Errorf("listing the providers again costs %d calls", calls)
		}
		time.Sleep(time.Minute)
		v.latency = time.Hour
		begun, found = time.Now(), 0
		for _, err := range b.Providers(t.Context()) {
			if err == nil {
				found++
			}
		}
		if took := time.Since(begun); took > 10*time.Second || found != n+1 {
			t.Errorf("while the disk hangs, Providers yields %d in %v", found, took)
		}
		time.Sleep(1000 * time.Hour)
	})
}

// A linkedFS has links in the place of the providers' directories.
type linkedFS struct{ *virtualFS }

type linkEntry struct{ fs.DirEntry }

func (linkEntry) Type() fs.FileMode { return fs.ModeSymlink }
func (linkEntry) IsDir() bool       { return false }

func (l linkedFS) ReadDir(name string) ([]fs.DirEntry, error) {
	entries, err := l.virtualFS.ReadDir(name)
	if name == "acme" {
		for i, entry := range entries {
			if entry.IsDir() {
				entries[i] = linkEntry{entry}
			}
		}
	}
	return entries, err
}

// A provider's own key is not read again at every refresh, even if it was young
// when it was first read.
func TestYoungKeyIsNotReadForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTree(t, "1.0.0")
		tr["acme/hello/own.asc"] = tr["acme/key.asc"]
		l := newLiveFS(tr)
		l.files["acme/hello/own.asc"].ModTime = time.Now()
		b := newBackend(t, l)
		opened := func(seconds int) int {
			before := l.calls["acme/hello/own.asc"]
			for range seconds {
				versionsOf(t, b)
				time.Sleep(time.Second)
				synctest.Wait()
			}
			return l.calls["acme/hello/own.asc"] - before
		}
		opened(5)
		if n := opened(10); n > 11 { // a MapFS opens a file to give its status
			t.Errorf("it was opened %d times in 10 seconds", n)
		}
	})
}

// An incomplete copy is logged after 15 seconds, whether or not anybody asks.
func TestIncompleteCopyIsLoggedInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log lockedBuffer
		tr := newTree(t, "1.0.0", "2.0.0")
		delete(tr, zip200)
		b := rekisteri.NewFSBackend(newLiveFS(tr), &rekisteri.FSOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		versionsOf(t, b)
		time.Sleep(14 * time.Second)
		synctest.Wait()
		if log.String() != "" {
			t.Errorf("the log after 14 seconds: %s", log.String())
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if !strings.Contains(log.String(), "SHA256SUMS names this zip, and it is missing") {
			t.Errorf("the log after 16 seconds: %q", log.String())
		}
	})
}

// A file system whose files cannot seek cannot be served, and says why.
func TestFileSystemWithoutSeeking(t *testing.T) {
	var archive bytes.Buffer
	w := zip.NewWriter(&archive)
	for name, text := range newTree(t, "1.0.0") {
		f, err := w.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(f, text)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := zip.NewReader(bytes.NewReader(archive.Bytes()), int64(archive.Len()))
	if err != nil {
		t.Fatal(err)
	}
	if text := checkText(t, newBackend(t, r), nil); !strings.Contains(text, "the file system does not support seeking") {
		t.Errorf("Check says %s", text)
	}
}

// What was read of one version is not lost when the whole provider is read and
// has become unreadable.
func TestOneVersionOutlivesABrokenProvider(t *testing.T) {
	for name, tr := range map[string]tree{
		"directory": newTree(t, "1.0.0"),
		"document":  {"acme/hello.json": documentOf("1.0.0")},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLiveFS(tr)
			b := newBackend(t, l)
			ask := func() {
				t.Helper()
				if _, err := b.Release(t.Context(), acmeHello, "1.0.0"); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
			ask()
			l.edit(func(files fstest.MapFS) {
				for _, broken := range []string{sumsPath, "acme/hello.json"} {
					if files[broken] != nil {
						files[broken] = file("{")
					}
				}
			})
			time.Sleep(3 * time.Second)
			b.Versions(t.Context(), acmeHello)
			synctest.Wait()
			ask()
			time.Sleep(3 * time.Second)
			ask()
		})
	}
}
