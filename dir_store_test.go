package rekisteri_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
)

var errCrash = errors.New("the process has crashed")

// A process that crashes at any step of staging and committing publishes nothing
// that is torn, loses nothing that is published, and the same upload completes
// afterwards.
func TestCrashAtEveryStep(t *testing.T) {
	if testing.Short() {
		t.Skip("it is long")
	}
	t.Parallel()
	files := releaseOf(t, "1.0.0", "first")
	published := 0
	for crashAt := 1; ; crashAt++ {
		p := newPublishing(t, keyTree())
		n := 0
		rekisteri.OnStep(p.store, func(string, string) error {
			if n++; n >= crashAt {
				return errCrash
			}
			return nil
		})
		codes, _ := p.putAll("1.0.0", files)
		crashed := n >= crashAt

		p = p.restart()
		got := p.versions()
		if slices.Contains(codes, 201) && got != "1.0.0" {
			t.Fatalf("crash at step %d: what was answered with 201 is lost", crashAt)
		}
		if got != "" {
			published++
			if text := checkText(t, p.backend, &rekisteri.CheckOptions{Hash: true}); got != "1.0.0" || text != "" {
				t.Fatalf("crash at step %d: versions %q are served; Check says %s", crashAt, got, text)
			}
		}
		if !slices.Contains(codes, 500) || slices.Index(codes, 500) == len(codes)-1 {
			// All files were staged: the last one again is enough.
			if code, answer := p.put("1.0.0", upSums+".sig", files[upSums+".sig"]); code != 201 && code != 200 {
				t.Fatalf("crash at step %d: the last file afterwards: %d %s", crashAt, code, answer)
			}
			got = "1.0.0"
		}
		codes, answer := p.putAll("1.0.0", files)
		if last := codes[len(codes)-1]; last != 201 && !(got == "1.0.0" && last == 200) && !slices.Contains(codes, 201) {
			t.Fatalf("crash at step %d: the upload afterwards: %d %s", crashAt, codes, answer)
		}
		if got := p.versions(); got != "1.0.0" {
			t.Fatalf("crash at step %d: afterwards, versions %q", crashAt, got)
		}
		if text := checkText(t, p.backend, &rekisteri.CheckOptions{Hash: true}); text != "" {
			t.Fatalf("crash at step %d: afterwards, Check says %s", crashAt, text)
		}
		if !crashed {
			t.Logf("%d steps; after %d crashes, the release was published", crashAt-1, published-1)
			break
		}
	}
}

// What Stage and Commit return for is durable: files are synced before they are
// renamed, and directories after.
func TestStoreSyncsInOrder(t *testing.T) {
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "acme"), 0o777); err != nil {
		t.Fatal(err)
	}
	store, err := rekisteri.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var steps []string
	rekisteri.OnStep(store, func(op, name string) error {
		for _, random := range []string{".part-", ".commit-"} {
			if before, _, ok := strings.Cut(name, random); ok {
				rest := name[len(before)+len(random):]
				_, file, _ := strings.Cut(rest, "/")
				name = strings.TrimSuffix(before+random+"*/"+file, "/")
			}
		}
		steps = append(steps, op+" "+name)
		return nil
	})
	accept := func(rekisteri.StagedFile) error { return nil }
	var staged []rekisteri.Staged
	for _, name := range []string{"a", "b"} {
		s, err := store.Stage(t.Context(), "acme/hello/1.0.0", name, strings.NewReader(name), accept)
		if err != nil {
			t.Fatal(err)
		}
		staged = append(staged, s)
	}
	if err := store.Commit(t.Context(), "acme/hello/1.0.0", staged); err != nil {
		t.Fatal(err)
	}
	const part = "acme/.upload/.part-*"
	want := []string{
		"mkdir acme/.upload", "sync acme", "create " + part, "sync " + part,
		"mkdir acme/.upload/hello", "sync acme/.upload", "mkdir acme/.upload/hello/1.0.0", "sync acme/.upload/hello",
		"rename " + staged[0].Path, "sync acme/.upload/hello/1.0.0",
		"create " + part, "sync " + part, "rename " + staged[1].Path, "sync acme/.upload/hello/1.0.0",
		"mkdir acme/.upload/.commit-*", "sync acme/.upload", "link acme/.upload/.commit-*/a", "link acme/.upload/.commit-*/b", "sync acme/.upload/.commit-*",
		"mkdir acme/hello", "sync acme", "rename acme/hello/1.0.0", "sync acme/hello",
	}
	if !slices.Equal(steps, want) {
		t.Errorf("the steps are\n%s\nwant\n%s", strings.Join(steps, "\n"), strings.Join(want, "\n"))
	}
}

// Sixteen publishers race for one version with different files, through two
// backends over one directory. One wins; the others get 409. Readers see the
// release whole or not at all.
func TestRacingPublishers(t *testing.T) {
	if testing.Short() {
		t.Skip("it is long")
	}
	t.Parallel()
	rounds := 20
	if testing.Short() {
		rounds = 3
	}
	const publishers = 16
	var all []map[string]string
	for i := range publishers {
		all = append(all, releaseOf(t, "1.0.0", fmt.Sprint("build ", i)))
	}
	for round := range rounds {
		first := newPublishing(t, keyTree())
		processes := []*publishing{first, first.restart()}
		var winners atomic.Int64
		var group, readers sync.WaitGroup
		var done atomic.Bool
		for _, p := range processes {
			readers.Go(func() {
				for !done.Load() {
					if got := p.versions(); got != "" && got != "1.0.0" {
						t.Errorf("versions %q", got)
					}
					sums := p.served("1.0.0", upSums)
					if sums == "404" {
						continue
					}
					i := slices.IndexFunc(all, func(files map[string]string) bool { return files[upSums] == sums })
					if i < 0 {
						t.Errorf("SHA256SUMS is %.60q", sums)
						return
					}
					for name, text := range all[i] {
						if got := p.served("1.0.0", name); got != text && name != upManifest {
							t.Errorf("%s is served as %.40q, not as in build %d", name, got, i)
						}
					}
				}
			})
		}
		start := make(chan bool)
		for i := range publishers {
			p := processes[i%2]
			group.Go(func() {
				<-start
				codes, answer := p.putAll("1.0.0", all[i])
				switch last := codes[len(codes)-1]; {
				case last == 201 || last == 200:
					winners.Add(1)
				case last != 409 && last != 422 && last != 202:
					t.Errorf("round %d, publisher %d: %d %s", round, i, codes, answer)
				}
			})
		}
		close(start)
		group.Wait()
		done.Store(true)
		readers.Wait()
		if n := winners.Load(); n > 1 {
			t.Errorf("round %d: %d winners", round, n)
		}
		// A publisher that got 422 or 202 in a race publishes when it tries again,
		// or gets 409.
		codes, answer := first.putAll("1.0.0", all[0])
		if last := codes[len(codes)-1]; last != 409 && last != 200 && last != 201 {
			t.Errorf("round %d, afterwards: %d %s", round, codes, answer)
		}
		if text := checkText(t, first.backend, &rekisteri.CheckOptions{Hash: true}); text != "" || first.versions() != "1.0.0" {
			t.Errorf("round %d: versions %q; Check says %s", round, first.versions(), text)
		}
	}
}

// A release that one process publishes is visible in another within two seconds.
func TestPublishedElsewhere(t *testing.T) {
	if testing.Short() {
		t.Skip("it is long")
	}
	t.Parallel()
	p := newPublishing(t, keyTree())
	other := p.restart()
	if got := other.versions(); got != "" {
		t.Fatal(got)
	}
	if codes, _ := p.putAll("1.0.0", releaseOf(t, "1.0.0", "first")); codes[len(codes)-1] != 201 {
		t.Fatal(codes)
	}
	if got := p.versions(); got != "1.0.0" {
		t.Errorf("at once, in the same process: %q", got)
	}
	for deadline := time.Now().Add(2 * time.Second); other.versions() != "1.0.0"; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it is not visible in the other process")
		}
	}
}

// Discard removes what is old, and nothing else.
func TestDiscard(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "acme"), 0o777); err != nil {
		t.Fatal(err)
	}
	store, err := rekisteri.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	accept := func(rekisteri.StagedFile) error { return nil }
	age := func(name string, by time.Duration) {
		at := time.Now().Add(-by)
		if err := os.Chtimes(filepath.Join(dir, filepath.FromSlash(name)), at, at); err != nil {
			t.Fatal(err)
		}
	}
	for _, release := range []string{"acme/hello/1.0.0", "acme/hello/2.0.0", "acme/hello/3.0.0"} {
		for _, name := range []string{"a", "b"} {
			s, err := store.Stage(t.Context(), release, name, strings.NewReader(release+name), accept)
			if err != nil {
				t.Fatal(err)
			}
			if release != "acme/hello/2.0.0" && (release != "acme/hello/3.0.0" || name == "a") {
				age(s.Path, 48*time.Hour)
			}
		}
		age("acme/.upload/"+strings.TrimPrefix(release, "acme/"), 48*time.Hour)
	}
	for _, left := range []string{".commit-crashed", ".trash-crashed"} {
		if err := os.Mkdir(filepath.Join(dir, "acme/.upload", left), 0o777); err != nil {
			t.Fatal(err)
		}
		age("acme/.upload/"+left, 48*time.Hour)
	}
	if err := store.Discard(t.Context(), "acme", time.Now().Add(-24*time.Hour)); err != nil {
		t.Fatal(err)
	}
	all, err := store.Staged(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range all {
		names = append(names, strings.TrimPrefix(filepath.Dir(s.Path), "acme/.upload/")+"/"+s.Name)
	}
	slices.Sort(names)
	if want := []string{"hello/2.0.0/a", "hello/2.0.0/b", "hello/3.0.0/a", "hello/3.0.0/b"}; !slices.Equal(names, want) {
		t.Errorf("staged are %q, want %q", names, want)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "acme/.upload"))
	if err != nil || len(entries) != 1 {
		t.Errorf("%v, %v", entries, err)
	}
	if err := store.Discard(t.Context(), "acme/hello/2.0.0", time.Now().Add(time.Hour)); err != nil {
		t.Error(err)
	}
	if all, err := store.Staged(t.Context(), "acme/hello/2.0.0"); err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
	for _, nothing := range []string{"other", "other/x/1.0.0"} {
		if all, err := store.Staged(t.Context(), nothing); err != nil || len(all) != 0 {
			t.Errorf("%v, %v", all, err)
		}
		if err := store.Discard(t.Context(), nothing, time.Now()); err != nil {
			t.Error(err)
		}
	}
}

// Staged files of other links than the file system allows are copied.
func TestCommitCopiesWhereLinkingFails(t *testing.T) {
	p := newPublishing(t, keyTree())
	files := releaseOf(t, "1.0.0", "first")
	for name, text := range files {
		if name != upSums+".sig" {
			p.put("1.0.0", name, text)
		}
	}
	all, err := p.store.Staged(t.Context(), "acme/hello/1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	rekisteri.OnStep(p.store, func(op, name string) error {
		if op == "link" { // something is at the new name already, so that Link fails
			f, err := os.Create(filepath.Join(p.dir, filepath.FromSlash(name)))
			if err == nil {
				err = f.Close()
			}
			return err
		}
		if op == "create" && strings.Contains(name, ".commit-") {
			return os.Remove(filepath.Join(p.dir, filepath.FromSlash(name)))
		}
		return nil
	})
	if err := p.store.Commit(t.Context(), "acme/hello/1.0.0", all); err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		got, err := fs.ReadFile(p.store, "acme/hello/1.0.0/"+s.Name)
		if err != nil || string(got) != files[s.Name] {
			t.Errorf("%s: %d bytes, %v", s.Name, len(got), err)
		}
	}
}

// Commit changes nothing that is there already, not even an empty directory,
// which somebody may be about to fill.
func TestCommitToSomethingElse(t *testing.T) {
	for name, make := range map[string]func(dir string) error{
		"an empty directory": func(dir string) error { return os.MkdirAll(dir, 0o777) },
		"a directory": func(dir string) error {
			return errors.Join(os.MkdirAll(dir, 0o777), os.WriteFile(filepath.Join(dir, "x"), nil, 0o666))
		},
		"a file": func(dir string) error {
			return errors.Join(os.MkdirAll(filepath.Dir(dir), 0o777), os.WriteFile(dir, nil, 0o666))
		},
		"a file in the place of the provider": func(dir string) error { return os.WriteFile(filepath.Dir(dir), nil, 0o666) },
	} {
		p := newPublishing(t, keyTree())
		s, err := p.store.Stage(t.Context(), "acme/hello/1.0.0", "a", strings.NewReader("a"), func(rekisteri.StagedFile) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		if err := make(filepath.Join(p.dir, "acme", "hello", "1.0.0")); err != nil {
			t.Fatal(err)
		}
		before := filesBelow(t, p.dir)
		if err := p.store.Commit(t.Context(), "acme/hello/1.0.0", []rekisteri.Staged{s}); !errors.Is(err, fs.ErrExist) {
			t.Errorf("%s: %v", name, err)
		}
		if after := filesBelow(t, p.dir); !slices.Equal(after, before) {
			t.Errorf("%s: the files are %q, and were %q", name, after, before)
		}
	}
}

// Stage keeps nothing that its check refuses, and several contents of a name.
func TestStage(t *testing.T) {
	p := newPublishing(t, keyTree())
	refused := errors.New("refused")
	_, err := p.store.Stage(t.Context(), "acme/hello/1.0.0", "a", strings.NewReader("bad"), func(f rekisteri.StagedFile) error {
		content, err := io.ReadAll(io.NewSectionReader(f, 0, 100))
		if size, _ := f.Written(); err != nil || size != 3 || string(content) != "bad" {
			t.Errorf("%q, %d bytes, %v", content, size, err)
		}
		return refused
	})
	if !errors.Is(err, refused) {
		t.Error(err)
	}
	want := make(map[string]bool)
	for _, content := range []string{"one", "two", "one"} {
		s, err := p.store.Stage(t.Context(), "acme/hello/1.0.0", "a", strings.NewReader(content), func(rekisteri.StagedFile) error { return nil })
		if err != nil || s.Name != "a" || s.Size != 3 || s.Time.IsZero() {
			t.Errorf("%+v, %v", s, err)
		}
		if text, err := fs.ReadFile(p.store, s.Path); err != nil || string(text) != content {
			t.Errorf("%q, %v", text, err)
		}
		want[s.Path] = true
	}
	all, err := p.store.Staged(t.Context(), "acme/hello/1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]bool)
	for _, s := range all {
		got[s.Path] = true
	}
	if !maps.Equal(got, want) {
		t.Errorf("staged are %v, want %v", got, want)
	}
}
