package main

import (
	"io/fs"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/bucket/internal/storetest"
	"github.com/rekisteri/rekisteri/internal/server"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

// open opens a bucket as the command does.
func open(t *testing.T, s *storetest.Store, name string, stream bool) *server.Tree {
	t.Helper()
	s.Setenv(t)
	src := &source{url: s.URL(name, s.Addr), stream: stream, refreshEvery: time.Second}
	tree, err := src.Open(t.Context(), &rekisteri.FSOptions{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return tree
}

// fill copies files into a bucket.
func fill(t *testing.T, s *storetest.Store, name string, files fs.FS) {
	t.Helper()
	b := openBucket(t, s, name)
	err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := fs.ReadFile(files, path)
		if err == nil {
			put(t, b, path, string(content))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestConformance checks the rules of backends over each kind of store.
func TestConformance(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *storetest.Store) {
		name := s.NewBucket(t)
		fill(t, s, name, rekisteritest.Releases())
		t.Run("streaming", func(t *testing.T) {
			if err := rekisteritest.Test(t.Context(), open(t, s, name, true).Backend); err != nil {
				t.Error(err)
			}
		})
		t.Run("redirects", func(t *testing.T) {
			if s.NoLinks {
				t.Skip("the emulator has no presigned URLs")
			}
			if err := rekisteritest.Test(t.Context(), open(t, s, name, false).Backend); err != nil {
				t.Error(err)
			}
		})
	})
}

// TestPublishConformance checks the rules of publishers over each kind of store,
// with three registries on a bucket.
func TestPublishConformance(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *storetest.Store) {
		name := s.NewBucket(t)
		fill(t, s, name, rekisteritest.Keys())
		a, b, c := open(t, s, name, true).Backend, open(t, s, name, true).Backend, open(t, s, name, true).Backend
		if err := rekisteritest.TestPublisher(t.Context(), a, b.Publisher(), c.Publisher()); err != nil {
			t.Error(err)
		}
	})
}

// TestPrefix serves a part of a bucket.
func TestPrefix(t *testing.T) {
	s := storetest.S3(t)
	name := s.NewBucket(t)
	b := openBucket(t, s, name)
	for path, content := range newRelease(t, "foo", "1.0.0", "first") {
		put(t, b, "team/a/acme/foo/1.0.0/"+path, content)
		put(t, b, "team/acme/other/1.0.0/"+path, content)
	}
	put(t, b, "team/a/acme/acme.asc", testKey().Armor())
	src := &source{url: s.URL(name, s.Addr) + "&prefix=team/a/", refreshEvery: time.Second}
	tree, err := src.Open(t.Context(), &rekisteri.FSOptions{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for p, err := range tree.Backend.Providers(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, p.String())
	}
	if got := strings.Join(found, " "); got != "acme/foo" || tree.Name != "s3://"+name+"/team/a/" {
		t.Errorf("%s has the providers %s", tree.Name, got)
	}
}
