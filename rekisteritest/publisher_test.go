package rekisteritest_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

// openDir returns what one process has over a directory.
func openDir(t *testing.T, dir string) (*rekisteri.FSBackend, rekisteri.Publisher) {
	store, err := rekisteri.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := rekisteri.NewFSBackend(store, &rekisteri.FSOptions{Store: store, Logger: slog.New(slog.DiscardHandler)})
	return b, b.Publisher()
}

func newDir(t *testing.T) string {
	dir := t.TempDir()
	if err := os.CopyFS(dir, rekisteritest.Keys()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestPublisherOfDir(t *testing.T) {
	t.Parallel()
	b, publisher := openDir(t, newDir(t))
	if err := rekisteritest.TestPublisher(t.Context(), b, publisher); err != nil {
		t.Error(err)
	}
}

// TestPublishersOfDir tests two processes over one directory. Each sees what the
// other publishes only after a while.
func TestPublishersOfDir(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the backend")
	}
	t.Parallel()
	dir := newDir(t)
	b, first := openDir(t, dir)
	_, second := openDir(t, dir)
	if err := rekisteritest.TestPublisher(t.Context(), b, first, second); err != nil {
		t.Error(err)
	}
}

func TestPublisherInMemory(t *testing.T) {
	for n := 1; n <= 3; n++ {
		synctest.Test(t, func(t *testing.T) {
			b, publishers := newMemoryStore().publishers(n)
			if err := rekisteritest.TestPublisher(t.Context(), b, publishers...); err != nil {
				t.Errorf("%d publishers: %v", n, err)
			}
		})
	}
}

// TestLinkingPublisher tests a backend that stores no files.
func TestLinkingPublisher(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newMemoryStore()
		b, publishers := s.publishers(1)
		b.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
			rel, err := s.Release(ctx, p, version)
			if err == nil {
				rel = link(memory{p: {Releases: map[string]*rekisteri.Release{version: rekisteritest.CloneRelease(rel)}}}, true)[p].Releases[version]
			}
			return rel, err
		}
		if err := rekisteritest.TestPublisher(t.Context(), backendOnly{b}, publishers...); err != nil {
			t.Error(err)
		}
	})
}

func TestNoPublisher(t *testing.T) {
	if err := rekisteritest.TestPublisher(t.Context(), load()); err == nil {
		t.Error("a test of no publisher succeeds")
	}
}

// TestPublisherContext tests that a test whose context is done reports that, and
// no broken rule.
func TestPublisherContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	b, publishers := newMemoryStore().publishers(1)
	err := rekisteritest.TestPublisher(ctx, b, publishers...)
	if !errors.Is(err, context.Canceled) || len(brokenRules(err)) > 0 {
		t.Errorf("got %v, want only context.Canceled", err)
	}
}

// TestKeys tests that Keys has all key files of Releases, and nothing else.
func TestKeys(t *testing.T) {
	asc := func(fsys fs.FS, all bool) (found []string) {
		err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && (all || name[len(name)-4:] == ".asc") {
				content, err := fs.ReadFile(fsys, name)
				found = append(found, name+string(content))
				return err
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	got, want := asc(rekisteritest.Keys(), true), asc(rekisteritest.Releases(), false)
	if !slices.Equal(got, want) || len(got) != 3 {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A fakePublisher has a method that can be replaced.
type fakePublisher struct{ publish publishFunc }

type publishFunc func(ctx context.Context, p rekisteri.Provider, version, name string, content io.Reader) (*rekisteri.Receipt, error)

func (f *fakePublisher) Publish(ctx context.Context, p rekisteri.Provider, version, name string, content io.Reader) (*rekisteri.Receipt, error) {
	return f.publish(ctx, p, version, name, content)
}
