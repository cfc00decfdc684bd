package rekisteri

import (
	"context"
	"io/fs"
	"os"
	"strconv"
	"sync"
)

// A Dir is the file system below a directory. It opens files through an
// [os.Root], so no name and no link leads out of the directory.
//
// The path of the directory may be a link that is swapped for another one, as
// git-sync and Kubernetes' ConfigMaps do. A Dir is a [SnapshotFS]: each refresh
// of an [FSBackend] reads one of the directories, never parts of two. A Dir is
// safe for concurrent use.
type Dir struct {
	path string

	mu    sync.Mutex
	root  *os.Root    // closed by the garbage collector, since snapshots may still use it
	info  fs.FileInfo // the directory's own
	swaps int

	step func(op, name string) error // for tests: see dirWriter
}

// OpenDir opens the directory at path. It returns an error if there is none.
func OpenDir(path string) (*Dir, error) {
	d := &Dir{path: path}
	_, _, err := d.Snapshot(context.Background())
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Snapshot returns the directory that the path leads to now, and a number that
// differs from that of every other directory it has led to. It implements
// [SnapshotFS].
func (d *Dir) Snapshot(context.Context) (fsys fs.FS, id string, err error) {
	info, err := os.Stat(d.path) // not under the lock, since it may hang
	if err != nil {
		return nil, "", err
	}
	d.mu.Lock()
	if d.info != nil && os.SameFile(d.info, info) {
		defer d.mu.Unlock()
		return d.root.FS(), strconv.Itoa(d.swaps), nil
	}
	d.mu.Unlock()
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return nil, "", err
	}
	if info, err = root.Stat("."); err != nil {
		root.Close()
		return nil, "", err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.root, d.info = root, info
	d.swaps++
	return d.root.FS(), strconv.Itoa(d.swaps), nil
}

// Open opens a file of the directory that the last [Dir.Snapshot] returned. It
// implements [fs.FS].
func (d *Dir) Open(name string) (fs.File, error) {
	d.mu.Lock()
	root := d.root
	d.mu.Unlock()
	return root.FS().Open(name)
}
