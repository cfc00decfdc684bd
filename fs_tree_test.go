package rekisteri_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/fstest"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/pgptest"
)

// TestOutage asks a tree that was away from the start.
func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLiveFS(newTree(t, "1.0.0"))
		l.err = fs.ErrNotExist
		b := newBackend(t, l)
		if _, err := b.Versions(t.Context(), acmeHello); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a root that is gone: %v, want an error that does not match fs.ErrNotExist", err)
		}
		l.err = nil
		if got := versionsOf(t, b); got != "1.0.0" {
			t.Errorf("after the outage: %q", got)
		}
		l.edit(func(files fstest.MapFS) { clear(files) })
		time.Sleep(time.Second)
		if _, err := b.Versions(t.Context(), rekisteri.Provider{Namespace: "acme", Type: "other"}); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("never read, in a root that is empty now: %v, want an error that does not match fs.ErrNotExist", err)
		}
	})
	// A provider that was never readable is not reported as absent.
	l := newLiveFS(tree{"acme/hello.json": "{", "acme/foo.json": documentOf("1.0.0")})
	b := newBackend(t, l)
	if _, err := b.Versions(t.Context(), acmeHello); err == nil || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a broken document that was never good: %v", err)
	}
}

// A file system that hangs costs those who ask for what is in memory almost
// nothing. Others do not get fs.ErrNotExist, and no goroutines pile up.
func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		var hung atomic.Bool
		l := newLiveFS(newTree(t, "1.0.0"))
		b := newBackend(t, hookedFS{l, func(string) {
			if hung.Load() {
				<-hang
			}
		}})
		if got := versionsOf(t, b); got != "1.0.0" {
			t.Fatal(got)
		}
		hung.Store(true)
		time.Sleep(2100 * time.Millisecond) // what is in memory is stale
		begun := time.Now()
		for range 100 {
			if got := versionsOf(t, b); got != "1.0.0" {
				t.Fatalf("what is in memory: %q", got)
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
				if _, err := b.Versions(ctx, provider(i)); err == nil || errors.Is(err, fs.ErrNotExist) {
					t.Errorf("what is not in memory: %v", err)
				}
			})
		}
		group.Wait()
		synctest.Wait()
		if n := runtime.NumGoroutine() - before; n > 10 {
			t.Errorf("%d goroutines wait for the file system", n)
		}
		time.Sleep(time.Minute)
		if _, err := b.Versions(t.Context(), provider(1)); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("what is not in memory, after a minute: %v", err)
		}
		close(hang)
		time.Sleep(10 * time.Second)
		if got := versionsOf(t, b); got != "1.0.0" {
			t.Errorf("when it does not hang any more: %q", got)
		}
	})
}

// TestOneUnread has a namespace that cannot be read beside one that can: the
// tree is not away, and does not come back with each refresh.
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

// While the file system hangs, the list has what is in memory. It does not wait
// for one namespace after the other.
func TestProvidersWhileTheDiskHangs(t *testing.T) {
	const n = 50
	for _, known := range []int{n, 1} { // providers in memory
		t.Run(fmt.Sprint(known), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTree(t, "1.0.0")
				for i := range n - 1 {
					tr[fmt.Sprintf("ns%d/x.json", i)] = documentOf("1.0.0")
				}
				l := newLiveFS(tr)
				var hangs atomic.Bool
				l.wait = func() {
					if hangs.Load() {
						time.Sleep(time.Hour)
					}
				}
				b := newBackend(t, l)
				list := func() (found int, errs error) {
					for _, err := range b.Providers(t.Context()) {
						if err == nil {
							found++
						}
						errs = errors.Join(errs, err)
					}
					return found, errs
				}
				if known == n {
					list()
				} else {
					versionsOf(t, b)
				}
				time.Sleep(time.Minute)
				hangs.Store(true)
				begun := time.Now()
				found, err := list()
				if took := time.Since(begun); took > 12*time.Second {
					t.Errorf("the list takes %v", took)
				}
				if found != known || (err == nil) != (known == n) || err != nil && !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("%d providers, %v", found, err)
				}
				hangs.Store(false)
				time.Sleep(10 * time.Hour)
				if found, err := list(); found != n || err != nil {
					t.Errorf("after that, %d providers, %v", found, err)
				}
			})
		})
	}
}

// Namespaces that hang for good do not hide the others.
func TestProvidersBesideHangingNamespaces(t *testing.T) {
	for _, test := range []struct {
		name  string
		hangs func(dir string) bool
		found int
	}{
		{name: "one", hangs: func(dir string) bool { return dir == "acme" }, found: 9},
		{name: "all", hangs: func(dir string) bool { return dir != "." }},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tr := newTree(t, "1.0.0")
				for i := range 9 {
					tr[fmt.Sprintf("ns%d/x.json", i)] = documentOf("1.0.0")
				}
				b := newBackend(t, hangingFS{tr.mapFS(), test.hangs})
				for i, limit := range []time.Duration{10 * time.Second, 0, 0} {
					begun, found := time.Now(), 0
					var errs error
					for _, err := range b.Providers(t.Context()) {
						if err == nil {
							found++
						}
						errs = errors.Join(errs, err)
					}
					if took := time.Since(begun); took > limit {
						t.Errorf("list %d takes %v", i, took)
					}
					if i > 0 && found != test.found || errs == nil {
						t.Errorf("list %d has %d providers, %v", i, found, errs)
					}
					time.Sleep(10 * time.Second)
				}
				time.Sleep(10 * time.Hour)
			})
		})
	}
}

// A namespace that does not exist is not found within the patience of clients,
// even if all others hang.
func TestAbsenceBesideHangingNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTree(t, "1.0.0")
		for i := range 9 {
			tr[fmt.Sprintf("ns%d/x.json", i)] = documentOf("1.0.0")
		}
		b := newBackend(t, hangingFS{tr.mapFS(), func(dir string) bool { return dir != "." }})
		begun := time.Now()
		if _, err := b.Versions(t.Context(), rekisteri.Provider{Namespace: "x", Type: "x"}); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
		if took := time.Since(begun); took > 10*time.Second {
			t.Errorf("it takes %v", took)
		}
		time.Sleep(10 * time.Hour)
	})
}

// A hangingFS has directories that take an hour to read.
type hangingFS struct {
	fs.FS
	hangs func(dir string) bool
}

func (h hangingFS) Open(name string) (fs.File, error) {
	if h.hangs(name) {
		time.Sleep(time.Hour)
	}
	return h.FS.Open(name)
}

// A tree without providers is an outage, unless a namespace has a key.
func TestProvidersOfAnEmptyTree(t *testing.T) {
	for _, test := range []struct {
		name string
		tree tree
		err  string
	}{
		{name: "nothing", err: "the tree is empty"},
		{name: "an empty namespace", tree: tree{"acme/README.md": ""}, err: "the tree is empty"},
		{name: "a namespace with a key", tree: tree{"acme/key.asc": sampleFile(t, "demo/demo.asc")}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := ""
			for p, err := range newBackend(t, test.tree.mapFS()).Providers(t.Context()) {
				if err == nil {
					t.Errorf("it has %v", p)
				} else {
					got = err.Error()
				}
			}
			if !strings.Contains(got, test.err) || (got == "") != (test.err == "") {
				t.Errorf("the error is %q, want %q", got, test.err)
			}
		})
	}
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
				if n := rekisteri.Cached(b); n != 0 {
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

// TestLinkedOutage has a disk fail behind an absolute link that is followed:
// that is no bad link.
func TestLinkedOutage(t *testing.T) {
	real, dir := t.TempDir(), t.TempDir()
	newTree(t, "1.0.0").write(t, real)
	if err := os.Symlink(filepath.Join(real, "acme"), filepath.Join(dir, "acme")); err != nil {
		t.Skip(err)
	}
	for _, fail := range []error{syscall.EIO, syscall.EACCES} {
		synctest.Test(t, func(t *testing.T) {
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
		})
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
	if n := strings.Count(log.String(), "path=acme/bad.asc"); n != 1 {
		t.Errorf("the log has it %d times", n)
	}
	if n := strings.Count(checkText(t, b, nil), "acme/bad.asc: "); n != 1 {
		t.Errorf("Check has it %d times", n)
	}
}

// TestNamesWithoutFiles changes the tree while the names in its directories
// are known from another provider's refresh: whether that is a deletion or an
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

// TestHealth tells what the last read of the tree has found.
func TestHealth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tr := newTree(t, "1.0.0")
		tr["acme/hello/bad.asc"] = "no key"
		l := newLiveFS(tr)
		b := newBackend(t, l)
		if h := b.Health(); h != (rekisteri.Health{}) {
			t.Errorf("before any read: %+v", h)
		}
		read := func() rekisteri.Health {
			time.Sleep(1100 * time.Millisecond)
			versionsOf(t, b)
			synctest.Wait()
			return b.Health()
		}
		if h := read(); !h.Looked.Equal(time.Now()) || h.LastGood != h.Looked || h.Err != nil || h.Problems != 1 || h.CachedBytes < 1000 {
			t.Errorf("after a read: %+v", h)
		}
		b.Versions(t.Context(), rekisteri.Provider{Namespace: "acme", Type: "nothing"})
		if h := read(); h.Err != nil {
			t.Errorf("a provider that isn't there: %+v", h)
		}
		l.fail["acme"] = errors.New("input/output error")
		if h := read(); h.Err != nil {
			t.Errorf("a namespace that cannot be read: %+v", h)
		}
		l.fail["."] = errors.New("stale handle")
		if h := read(); h.Err == nil || h.Problems != 3 || h.Looked.Sub(h.LastGood) != 1100*time.Millisecond {
			t.Errorf("a root that cannot be read: %+v", h)
		}
		clear(l.fail)
		l.edit(func(files fstest.MapFS) { delete(files, "acme/hello/bad.asc") })
		if h := read(); h.Err != nil || h.Problems != 0 {
			t.Errorf("when all is mended: %+v", h)
		}
	})
}

// TestHealthKeyExpires has keys that expire, in a namespace and of a provider.
func TestHealthKeyExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now() // in the year 2000
		key := func(user string, days int) string {
			k := pgptest.NewKey(user)
			k.Created, k.Expires = now.AddDate(-1, 0, 0), now.AddDate(0, 0, days)
			return k.Armor()
		}
		tr := newTree(t, "1.0.0")
		tr["acme/past.asc"] = key("past", -1)
		tr["acme/later.asc"] = key("later", 30)
		tr["acme/hello/soon.asc"] = key("soon", 20)
		tr["other/sooner.asc"] = key("sooner", 10)
		b := newBackend(t, newLiveFS(tr))
		for _, err := range b.Providers(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
		}
		if got, want := b.Health().KeyExpires, now.AddDate(0, 0, 10); !got.Equal(want) {
			t.Errorf("the keys of the namespaces: %v, want %v", got, want)
		}
		time.Sleep(15 * 24 * time.Hour)
		if got, want := b.Health().KeyExpires, now.AddDate(0, 0, 30); !got.Equal(want) {
			t.Errorf("when one has expired: %v, want %v", got, want)
		}
		versionsOf(t, b)
		if got, want := b.Health().KeyExpires, now.AddDate(0, 0, 20); !got.Equal(want) {
			t.Errorf("with those of a provider: %v, want %v", got, want)
		}
	})
}

// TestOutageInTheMiddle takes the volume away at every point of a refresh: what
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
				// Somebody asks for what does not exist, which shows that the tree is
				// there.
				b.Versions(t.Context(), rekisteri.Provider{Namespace: "nobody", Type: "x"})
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
