package tree_test

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri/internal/tree"
)

// A fakeFile is a file whose methods can fail. It does not seek.
type fakeFile struct {
	fs.File
	stats   []any // what Stat returns, call by call: a FileInfo, an error, or nil for that of File
	readErr error
	closed  *bool
}

func (f *fakeFile) Stat() (fs.FileInfo, error) {
	var next any
	if len(f.stats) > 0 {
		next, f.stats = f.stats[0], f.stats[1:]
	}
	switch next := next.(type) {
	case error:
		return nil, next
	case fs.FileInfo:
		return next, nil
	}
	return f.File.Stat()
}

func (f *fakeFile) Read(p []byte) (int, error) {
	if f.readErr != nil {
		return 0, f.readErr
	}
	return f.File.Read(p)
}

func (f *fakeFile) Close() error {
	if f.closed != nil {
		*f.closed = true
	}
	return f.File.Close()
}

// A fakeInfo is a FileInfo with another size and time.
type fakeInfo struct {
	fs.FileInfo
	size    int64
	modTime time.Time
}

func (i fakeInfo) Size() int64        { return i.size }
func (i fakeInfo) ModTime() time.Time { return i.modTime }

func TestReadFile(t *testing.T) {
	const content, limit = "0123456789", 10
	base := newFakeFS(map[string]string{"file": content})
	was := info(t, base, "file")
	tests := map[string]struct {
		content string // instead of the one above
		name    string // instead of file
		stats   []any
		readErr error
		failure error  // of Open
		want    string // the content
		err     string
	}{
		"good":                   {want: content},
		"empty":                  {content: " ", stats: []any{fakeInfo{was, 0, was.ModTime()}, fakeInfo{was, 0, was.ModTime()}}, want: ""},
		"too large":              {content: content + "a", err: "it is larger than 0 MiB"},
		"shorter than it says":   {stats: []any{fakeInfo{was, 5, was.ModTime()}, nil}, err: "the file changed while it was read"},
		"becomes shorter":        {content: "01234", stats: []any{fakeInfo{was, 10, was.ModTime()}}, err: "the file changed while it was read"},
		"becomes empty":          {content: " ", stats: []any{fakeInfo{was, 2, was.ModTime()}}, err: "the file changed while it was read"},
		"becomes longer":         {stats: []any{nil, fakeInfo{was, 11, was.ModTime()}}, err: "the file changed while it was read"},
		"gets another time":      {stats: []any{nil, fakeInfo{was, 10, was.ModTime().Add(1)}}, err: "the file changed while it was read"},
		"directory":              {name: "dir", err: "it is not a regular file"},
		"missing":                {name: "nothing", err: "file does not exist"},
		"cannot be opened":       {failure: syscall.EIO, err: syscall.EIO.Error()},
		"cannot be described":    {stats: []any{syscall.EIO}, err: syscall.EIO.Error()},
		"cannot be read":         {readErr: syscall.EIO, err: syscall.EIO.Error()},
		"cannot be read, at all": {stats: []any{nil, syscall.EIO}, err: syscall.EIO.Error()},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			fsys := newFakeFS(map[string]string{"file": content, "dir/x": ""})
			if test.content != "" {
				fsys.write("file", test.content, was.ModTime())
			}
			fsys.fail["open file"] = test.failure
			closed := false
			fsys.wrap = func(_ string, f fs.File) fs.File {
				return &fakeFile{File: f, stats: test.stats, readErr: test.readErr, closed: &closed}
			}
			at := "file"
			if test.name != "" {
				at = test.name
			}
			got, info, err := tree.ReadFile(fsys, at, limit)
			switch {
			case test.err != "":
				if err == nil || !strings.HasSuffix(err.Error(), test.err) {
					t.Errorf("got error %v, want %q", err, test.err)
				}
			case err != nil || string(got) != test.want:
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			case info.Size() != int64(len(test.want)):
				t.Errorf("size is %d, want %d", info.Size(), len(test.want))
			}
			if opened := test.failure == nil && test.name != "nothing"; closed != opened {
				t.Errorf("file was closed: %t, want %t", closed, opened)
			}
		})
	}
}

func TestReadFileLimit(t *testing.T) {
	fsys := newFakeFS(map[string]string{"large": strings.Repeat("a", 3<<20+1)})
	if _, _, err := tree.ReadFile(fsys, "large", 3<<20); err == nil || err.Error() != "it is larger than 3 MiB" {
		t.Errorf("got %v, want an error that states the limit", err)
	}
}

func TestOpen(t *testing.T) {
	tests := map[string]struct {
		name string
		wrap func(closed *bool, f fs.File) fs.File
		err  error // the error matches it
		text string
	}{
		"good":    {name: "file"},
		"missing": {name: "nothing", err: fs.ErrNotExist},
		"directory": {
			name: "dir",
			wrap: func(closed *bool, f fs.File) fs.File { return seekingFile{&fakeFile{File: f, closed: closed}} },
			err:  tree.ErrNotRegular,
		},
		"no seeking": {
			name: "file",
			wrap: func(closed *bool, f fs.File) fs.File { return &fakeFile{File: f, closed: closed} },
			text: "the file system does not support seeking: its files need Seek and ReadAt",
		},
		"cannot be described": {
			name: "file",
			wrap: func(closed *bool, f fs.File) fs.File {
				return seekingFile{&fakeFile{File: f, closed: closed, stats: []any{syscall.EIO}}}
			},
			err: syscall.EIO,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			fsys := newFakeFS(map[string]string{"file": "0123456789", "dir/x": ""})
			closed := false
			if test.wrap != nil {
				fsys.wrap = func(_ string, f fs.File) fs.File { return test.wrap(&closed, f) }
			}
			f, info, err := tree.Open(fsys, test.name)
			if test.err != nil || test.text != "" {
				if !errors.Is(err, test.err) && (err == nil || err.Error() != test.text) {
					t.Errorf("got error %v, want %v%s", err, test.err, test.text)
				}
				if want := test.wrap != nil; closed != want {
					t.Errorf("file was closed: %t, want %t", closed, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			b := make([]byte, 3)
			if n, err := f.ReadAt(b, 4); n != 3 || err != nil || string(b) != "456" {
				t.Errorf("read %q, %v, want %q", b, err, "456")
			}
			if info.Size() != 10 {
				t.Errorf("size is %d, want 10", info.Size())
			}
		})
	}
}

// A seekingFile has the methods of a [tree.File], which are not called.
type seekingFile struct{ fs.File }

func (seekingFile) Seek(int64, int) (int64, error)    { return 0, errors.ErrUnsupported }
func (seekingFile) ReadAt([]byte, int64) (int, error) { return 0, errors.ErrUnsupported }
