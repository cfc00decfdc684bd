package rekisteritest_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"log"
	"log/slog"
	"os"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

// This backend reads a directory in the layout of docs/layout.md.
func ExampleTest() {
	dir, err := os.MkdirTemp("", "releases") // in a test: t.TempDir()
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir, rekisteritest.Releases()); err != nil {
		log.Fatal(err)
	}
	backend := rekisteri.NewFSBackend(os.DirFS(dir), nil) // your backend

	fmt.Println(rekisteritest.Test(context.Background(), backend))
	// Output: <nil>
}

// A memory is a backend that stores everything in memory, including the files.
type memory map[rekisteri.Provider]rekisteritest.Content

func (m memory) Versions(_ context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
	if c, ok := m[p]; ok {
		return c.Listing, nil
	}
	return nil, fmt.Errorf("no provider %v: %w", p, fs.ErrNotExist)
}

func (m memory) Release(_ context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
	if rel := m[p].Releases[version]; rel != nil {
		return rel, nil
	}
	return nil, fmt.Errorf("no version %s of %v: %w", version, p, fs.ErrNotExist)
}

func (m memory) Open(_ context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
	if content, ok := m[p].Files[version][name]; ok {
		return memoryFile{bytes.NewReader(content)}, nil
	}
	return nil, fmt.Errorf("no file %q of %v %s: %w", name, p, version, fs.ErrNotExist)
}

type memoryFile struct{ *bytes.Reader }

func (memoryFile) Close() error { return nil }

// This backend does not read the layout. It is loaded from values.
func ExampleContents() {
	backend := make(memory) // your backend
	for provider, content := range rekisteritest.Contents() {
		backend[provider] = content
	}

	fmt.Println(rekisteritest.Test(context.Background(), backend))
	// Output: <nil>
}

// This publisher publishes to a directory in the layout of docs/layout.md.
func ExampleTestPublisher() {
	dir, err := os.MkdirTemp("", "releases") // in a test: t.TempDir()
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	if err := os.CopyFS(dir, rekisteritest.Keys()); err != nil {
		log.Fatal(err)
	}
	store, err := rekisteri.OpenDir(dir)
	if err != nil {
		log.Fatal(err)
	}
	backend := rekisteri.NewFSBackend(store, &rekisteri.FSOptions{Store: store, Logger: slog.New(slog.DiscardHandler)})
	publisher := backend.Publisher() // your publisher

	fmt.Println(rekisteritest.TestPublisher(context.Background(), backend, publisher))
	// Output: <nil>
}
