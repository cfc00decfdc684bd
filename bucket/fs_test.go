package bucket_test

import (
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/bucket"
	"github.com/rekisteri/rekisteri/rekisteritest"
	"gocloud.dev/blob"
	"gocloud.dev/blob/fileblob"
	"gocloud.dev/blob/memblob"
)

// stores opens an empty bucket of each kind.
var stores = map[string]func(*testing.T) *blob.Bucket{
	"memblob": func(t *testing.T) *blob.Bucket { return memblob.OpenBucket(nil) },
	// Its temporary files would be listed if they were in the bucket.
	"fileblob": func(t *testing.T) *blob.Bucket {
		b, err := fileblob.OpenBucket(filepath.Join(t.TempDir(), "bucket"), &fileblob.Options{CreateDir: true})
		if err != nil {
			t.Fatal(err)
		}
		return b
	},
}

// quiet returns a logger to the test's log.
func quiet(t *testing.T) *slog.Logger { return slog.New(slog.NewTextHandler(t.Output(), nil)) }

// copyFS copies files to a bucket.
func copyFS(t testing.TB, b *blob.Bucket, files fs.FS) {
	t.Helper()
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, name)
		if err != nil {
			return err
		}
		return b.WriteAll(t.Context(), name, data, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestPublisher(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			if name == "fileblob" {
				t.Skip("two conditional writes at once can both succeed in fileblob")
			}
			t.Parallel() // it waits for what the backend sees
			b := open(t)
			copyFS(t, b, rekisteritest.Keys())
			backend := rekisteri.NewFSBackend(bucket.New(b, nil), &rekisteri.FSOptions{Logger: quiet(t)})
			var publishers []rekisteri.Publisher
			for range 2 {
				fsys := bucket.New(b, nil)
				publishers = append(publishers, rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{Logger: quiet(t), Store: fsys}).Publisher())
			}
			if err := rekisteritest.TestPublisher(t.Context(), backend, publishers...); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestBackend(t *testing.T) {
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			copyFS(t, b, rekisteritest.Releases())
			backend := rekisteri.NewFSBackend(bucket.New(b, nil), &rekisteri.FSOptions{Logger: quiet(t)})
			if err := rekisteritest.Test(t.Context(), backend); err != nil {
				t.Error(err)
			}
			for p := range backend.Check(t.Context(), &rekisteri.CheckOptions{Hash: true}) {
				if !strings.HasPrefix(p.Path, "acme/foo-bar.json") {
					t.Errorf("problem: %v", p)
				}
			}
		})
	}
}

// TestRedirects tests a backend whose bucket has presigned URLs.
func TestRedirects(t *testing.T) {
	b, f := newMemory()
	f.urls = "https://store.example.com/"
	copyFS(t, b, rekisteritest.Releases())
	fsys := bucket.New(b, &bucket.Options{URLExpiry: time.Minute})
	if err := rekisteritest.Test(t.Context(), rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{Logger: quiet(t)})); err != nil {
		t.Error(err)
	}
	if got, err := fsys.URL(t.Context(), "a/b"); got != "https://store.example.com/a/b?method=GET&expires=1m0s&signature=secret" {
		t.Errorf("%q, %v", got, err)
	}
}
