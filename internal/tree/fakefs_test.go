package tree_test

import (
	"io/fs"
	"slices"
	"sync"
	"testing"
	"testing/fstest"
	"time"
)

// A fakeFS is a file system in memory. It counts its calls and can fail.
type fakeFS struct {
	files fstest.MapFS

	mu    sync.Mutex
	calls []string         // such as "open a/b"
	fail  map[string]error // by call

	wrap func(name string, f fs.File) fs.File // replaces opened files; nil: it does not
}

// newFakeFS returns a file system with files that are an hour old, by path.
func newFakeFS(files map[string]string) *fakeFS {
	f := &fakeFS{files: make(fstest.MapFS), fail: make(map[string]error)}
	for name, content := range files {
		f.write(name, content, time.Now().Add(-time.Hour))
	}
	return f
}

func (f *fakeFS) write(name, content string, modTime time.Time) {
	f.files[name] = &fstest.MapFile{Data: []byte(content), Mode: 0o644, ModTime: modTime}
}

func (f *fakeFS) link(name, target string) {
	f.files[name] = &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
}

// record records a call, and returns the error that it fails with.
func (f *fakeFS) record(op, name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	call := op + " " + name
	f.calls = append(f.calls, call)
	if err := f.fail[call]; err != nil {
		return &fs.PathError{Op: op, Path: name, Err: err}
	}
	return nil
}

// takeCalls returns the calls since the last takeCalls, sorted.
func (f *fakeFS) takeCalls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	slices.Sort(calls)
	return calls
}

func (f *fakeFS) Open(name string) (fs.File, error) {
	if err := f.record("open", name); err != nil {
		return nil, err
	}
	file, err := f.files.Open(name)
	if err == nil && f.wrap != nil {
		file = f.wrap(name, file)
	}
	return file, err
}

func (f *fakeFS) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := f.record("readdir", name); err != nil {
		return nil, err
	}
	return f.files.ReadDir(name)
}

func (f *fakeFS) Stat(name string) (fs.FileInfo, error) {
	if err := f.record("stat", name); err != nil {
		return nil, err
	}
	return f.files.Stat(name)
}

func (f *fakeFS) Lstat(name string) (fs.FileInfo, error) {
	if err := f.record("lstat", name); err != nil {
		return nil, err
	}
	return f.files.Lstat(name)
}

func (f *fakeFS) ReadLink(name string) (string, error) { return f.files.ReadLink(name) }

// A nameLister is a directory with the method Readdirnames, as that of an
// [os.Root].
type nameLister struct {
	fs.ReadDirFile
	err error
}

func (d nameLister) Readdirnames(n int) ([]string, error) {
	if d.err != nil {
		return nil, d.err
	}
	entries, err := d.ReadDir(n)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	slices.Reverse(names) // a directory has no order
	return names, err
}

// listNames makes the directories of f list their names.
func (f *fakeFS) listNames() {
	f.wrap = func(_ string, file fs.File) fs.File {
		if dir, ok := file.(fs.ReadDirFile); ok {
			return nameLister{ReadDirFile: dir}
		}
		return file
	}
}

// info returns the FileInfo of a file.
func info(t *testing.T, fsys fs.FS, name string) fs.FileInfo {
	t.Helper()
	info, err := fs.Stat(fsys, name)
	if err != nil {
		t.Fatal(err)
	}
	return info
}
