package main

import (
	"io/fs"
	"os"
	"sync"
)

// A dir is the file system below a directory, through an [os.Root]: no name
// and no link leads out of it. When the directory's path leads elsewhere, as
// it does after git-sync or a ConfigMap has swapped a link, the root there is
// opened instead; whoever asks for "." begins to look there.
type dir struct {
	path string

	mu   sync.Mutex
	root fs.FS       // the FS of an os.Root, which is closed when nothing holds it any more
	info fs.FileInfo // the root's own
}

// openDir opens the directory at path.
func openDir(path string) (*dir, error) {
	d := &dir{path: path}
	_, err := d.fs(".")
	return d, err
}

// fs returns the file system to look a name up in.
func (d *dir) fs(name string) (fs.FS, error) {
	if name == "." {
		if err := d.reopen(); err != nil {
			return nil, err
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.root, nil
}

// reopen opens the root that the path leads to now, if it is another one.
func (d *dir) reopen() error {
	info, err := os.Stat(d.path) // not under the lock: it may hang
	if err != nil {
		return err
	}
	d.mu.Lock()
	same := d.info != nil && os.SameFile(d.info, info)
	d.mu.Unlock()
	if same {
		return nil
	}
	root, err := os.OpenRoot(d.path)
	if err != nil {
		return err
	}
	if info, err = root.Stat("."); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.root, d.info = root.FS(), info
	return nil
}

// Open implements [fs.FS].
func (d *dir) Open(name string) (fs.File, error) {
	fsys, err := d.fs(name)
	if err != nil {
		return nil, err
	}
	return fsys.Open(name)
}

// Stat implements [fs.StatFS].
func (d *dir) Stat(name string) (fs.FileInfo, error) {
	fsys, err := d.fs(name)
	if err != nil {
		return nil, err
	}
	return fs.Stat(fsys, name)
}

// ReadDir implements [fs.ReadDirFS].
func (d *dir) ReadDir(name string) ([]fs.DirEntry, error) {
	fsys, err := d.fs(name)
	if err != nil {
		return nil, err
	}
	return fs.ReadDir(fsys, name)
}

// ReadLink implements [fs.ReadLinkFS].
func (d *dir) ReadLink(name string) (string, error) {
	fsys, err := d.fs(name)
	if err != nil {
		return "", err
	}
	return fs.ReadLink(fsys, name)
}

// Lstat implements [fs.ReadLinkFS].
func (d *dir) Lstat(name string) (fs.FileInfo, error) {
	fsys, err := d.fs(name)
	if err != nil {
		return nil, err
	}
	return fs.Lstat(fsys, name)
}
