package rekisteri_test

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing/fstest"
	"time"
)

// A liveFS is a file system in memory whose files change.
type liveFS struct {
	mu    sync.Mutex
	files fstest.MapFS
	err   error            // what everything fails with
	fail  map[string]error // what paths, and all below them, fail with
	wait  func()           // called before everything
	calls map[string]int   // of Open, by path

	onRead func(name string, n int) // called for each read of a file
}

func newLiveFS(tr tree) *liveFS {
	l := &liveFS{files: tr.mapFS(), fail: make(map[string]error), calls: make(map[string]int)}
	for _, f := range l.files {
		f.ModTime = time.Now().Add(-time.Hour)
	}
	return l
}

// edit changes files, with the time that it is.
func (l *liveFS) edit(change func(files fstest.MapFS)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := maps.Clone(l.files)
	change(l.files)
	for name, f := range l.files {
		if old[name] != f {
			f.ModTime = time.Now()
		}
	}
}

func (l *liveFS) Open(name string) (fs.File, error) {
	if l.wait != nil {
		l.wait()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls[name]++
	err := l.err
	for at, failure := range l.fail {
		if at == "." || name == at || strings.HasPrefix(name, at+"/") {
			err = failure
		}
	}
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: err}
	}
	f, err := l.files.Open(name)
	if file, ok := f.(seekableFile); ok && l.onRead != nil {
		return readHook{file, name, l.onRead}, err
	}
	return f, err
}

type seekableFile interface {
	fs.File
	io.ReadSeeker
	io.ReaderAt
}

type readHook struct {
	seekableFile
	name   string
	onRead func(name string, n int)
}

func (f readHook) Read(b []byte) (int, error) {
	n, err := f.seekableFile.Read(b)
	f.onRead(f.name, n)
	return n, err
}

// A slowFS gives each call of a file to the file system's wait.
type slowFS struct{ *liveFS }

func (s slowFS) Open(name string) (fs.File, error) {
	f, err := s.liveFS.Open(name)
	if err != nil {
		return nil, err
	}
	if dir, ok := f.(fs.ReadDirFile); ok {
		return slowDir{dir, s.wait}, nil
	}
	return slowFile{f.(interface {
		fs.File
		io.ReadSeeker
		io.ReaderAt
	}), s.wait}, nil
}

type slowFile struct {
	file interface {
		fs.File
		io.ReadSeeker
		io.ReaderAt
	}
	wait func()
}

func (f slowFile) Stat() (fs.FileInfo, error) { f.wait(); return f.file.Stat() }

func (f slowFile) Read(b []byte) (int, error) { f.wait(); return f.file.Read(b) }

func (f slowFile) ReadAt(b []byte, at int64) (int, error) { f.wait(); return f.file.ReadAt(b, at) }

func (f slowFile) Seek(at int64, whence int) (int64, error) { f.wait(); return f.file.Seek(at, whence) }

func (f slowFile) Close() error { f.wait(); return f.file.Close() }

type slowDir struct {
	fs.ReadDirFile
	wait func()
}

func (d slowDir) ReadDir(n int) ([]fs.DirEntry, error) {
	d.wait()
	entries, err := d.ReadDirFile.ReadDir(n)
	for i := range entries {
		entries[i] = slowEntry{entries[i], d.wait}
	}
	return entries, err
}

type slowEntry struct {
	fs.DirEntry
	wait func()
}

func (e slowEntry) Info() (fs.FileInfo, error) { e.wait(); return e.DirEntry.Info() }

// A failingFS fails below a namespace.
type failingFS struct {
	fs.FS
	mu  sync.Mutex
	err error
}

func (f *failingFS) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

func (f *failingFS) Open(name string) (fs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil && name != "." {
		return nil, &fs.PathError{Op: "open", Path: name, Err: f.err}
	}
	return f.FS.Open(name)
}

func (f *failingFS) ReadLink(name string) (string, error) { return fs.ReadLink(f.FS, name) }

func (f *failingFS) Lstat(name string) (fs.FileInfo, error) { return fs.Lstat(f.FS, name) }

type panickingFS struct {
	fs.FS
	at string
}

func (p panickingFS) Open(name string) (fs.File, error) {
	if name == p.at {
		panic("a file system's bug")
	}
	return p.FS.Open(name)
}

// A volume is a file system that may be swapped for another one. Its entries
// are looked up by their paths when they are asked for, as those of os.DirFS.
type volume struct {
	now    atomic.Pointer[fs.FS]
	listed func(name string) // called after a directory was read
	wait   func()            // called before anything is opened
}

func newVolume(fsys fs.FS) *volume {
	v := new(volume)
	v.swap(fsys)
	return v
}

func (v *volume) swap(fsys fs.FS) { v.now.Store(&fsys) }

func (v *volume) Open(name string) (fs.File, error) {
	if v.wait != nil {
		v.wait()
	}
	return (*v.now.Load()).Open(name)
}

func (v *volume) ReadDir(name string) ([]fs.DirEntry, error) {
	if v.wait != nil {
		v.wait()
	}
	entries, err := fs.ReadDir(*v.now.Load(), name)
	for i := range entries {
		entries[i] = volumeEntry{entries[i], v, name + "/" + entries[i].Name()}
	}
	if v.listed != nil {
		v.listed(name)
	}
	return entries, err
}

type volumeEntry struct {
	fs.DirEntry
	volume *volume
	name   string
}

func (e volumeEntry) Info() (fs.FileInfo, error) { return fs.Stat(*e.volume.now.Load(), e.name) }

// A plainFS fails to read zips, with an error that is of no known type.
type plainFS struct{ fs.FS }

type plainFile struct {
	fs.File
	io.ReadSeeker
}

func (plainFile) ReadAt([]byte, int64) (int, error) {
	return 0, errors.New("the bucket asks to slow down")
}

func (f plainFile) Read(b []byte) (int, error) { return f.ReadSeeker.Read(b) }

func (p plainFS) Open(name string) (fs.File, error) {
	f, err := p.FS.Open(name)
	if err == nil && strings.HasSuffix(name, ".zip") {
		return plainFile{f, f.(io.ReadSeeker)}, nil
	}
	return f, err
}

// A shortFS ends files before their size.
type shortFS struct{ fs.FS }

func (f shortFS) Open(name string) (fs.File, error) {
	file, err := f.FS.Open(name)
	if strings.HasSuffix(name, "_SHA256SUMS") {
		file = shortFile{file, io.LimitReader(file, 130)}
	}
	return file, err
}

type shortFile struct {
	fs.File
	part io.Reader
}

func (f shortFile) Read(b []byte) (int, error) { return f.part.Read(b) }
