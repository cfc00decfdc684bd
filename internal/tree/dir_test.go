package tree_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rekisteri/rekisteri/internal/tree"
)

// diskTree makes a directory with files and links, by path.
func diskTree(t *testing.T, files, links map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	path := func(name string) string {
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for name, content := range files {
		if err := os.WriteFile(path(name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for name, target := range links {
		if err := os.Symlink(filepath.FromSlash(target), path(name)); err != nil {
			t.Skip("no symbolic links: ", err)
		}
	}
	return dir
}

// openRoot returns an [os.Root] as a file system.
func openRoot(t *testing.T, dir string) fs.FS {
	t.Helper()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root.FS()
}

// names returns the names of entries.
func names(entries []fs.DirEntry) []string {
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func TestReadDir(t *testing.T) {
	fsys := openRoot(t, diskTree(t,
		map[string]string{"dir/b": "", "dir/a": "", "dir/c/d": "", "file": ""},
		map[string]string{
			"link": "dir", "nested/link": "../dir", "twice": "link",
			"to-file": "file", "dangling": "nothing", "outside": "../outside", "absolute": "/etc", "circle": "circle",
		}))
	entries := []string{"a", "b", "c"}
	tests := map[string]struct {
		name     string
		isDir    bool
		want     []string
		absent   bool   // the error matches fs.ErrNotExist
		linkPath string // of a LinkError
	}{
		"directory":                   {name: "dir", want: entries},
		"known directory":             {name: "dir", isDir: true, want: entries},
		"root":                        {name: ".", want: []string{"absolute", "circle", "dangling", "dir", "file", "link", "nested", "outside", "to-file", "twice"}},
		"link":                        {name: "link", want: entries},
		"link to the parent":          {name: "nested/link", want: entries},
		"link to a link":              {name: "twice", want: entries},
		"below a link":                {name: "link/c", want: []string{"d"}},
		"missing":                     {name: "nothing", absent: true},
		"missing, known as directory": {name: "nothing", isDir: true, absent: true},
		"file":                        {name: "file", absent: true},
		"file, known as directory":    {name: "file", isDir: true, absent: true},
		"below a file":                {name: "file/x", absent: true},
		"link to a file":              {name: "to-file", absent: true},
		"link to nothing":             {name: "dangling", absent: true},
		"link out of the tree":        {name: "outside", absent: true, linkPath: "outside"},
		"below a link out of it":      {name: "outside/x", absent: true, linkPath: "outside"},
		"absolute link":               {name: "absolute", absent: true, linkPath: "absolute"},
		"circular link":               {name: "circle", absent: true, linkPath: "circle"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := tree.ReadDir(fsys, test.name, test.isDir, nil)
			if !slices.Equal(names(got), test.want) || (err == nil) != (test.want != nil) {
				t.Fatalf("got %v, %v, want %v", names(got), err, test.want)
			}
			if errors.Is(err, fs.ErrNotExist) != test.absent {
				t.Errorf("error %v matches ErrNotExist: %t, want %t", err, !test.absent, test.absent)
			}
			link, isLink := errors.AsType[*tree.LinkError](err)
			if isLink != (test.linkPath != "") || isLink && link.Path != test.linkPath {
				t.Errorf("error is %#v, want a LinkError of %q", err, test.linkPath)
			}
		})
	}
}

func TestReadDirKnown(t *testing.T) {
	files := map[string]string{"dir/a": "", "dir/b": "", "dir/c": "", "dir/sub/x": ""}
	onlyB := func(name string) bool { return name == "b" }
	tests := map[string]struct {
		dir   string
		known func(string) bool
		edit  func(*fakeFS)
		want  string   // the entries, and their types if they have one
		calls []string // after the directory was opened
		err   bool
	}{
		"no known names": {
			dir:  "dir",
			want: "a b c sub/", calls: []string{"readdir dir"},
		},
		"one known name": {
			dir: "dir", known: onlyB,
			want: "a b? c sub/", calls: []string{"lstat dir/a", "lstat dir/c", "lstat dir/sub", "open dir"},
		},
		"all names known": {
			dir: "dir", known: func(string) bool { return true },
			want: "a? b? c? sub?", calls: []string{"open dir"},
		},
		"in the root": {
			dir: ".", known: onlyB,
			want: "dir/", calls: []string{"lstat dir", "open ."},
		},
		"name that vanishes": {
			dir: "dir", known: onlyB,
			edit: func(f *fakeFS) { f.fail["lstat dir/a"] = fs.ErrNotExist },
			want: "b? c sub/", calls: []string{"lstat dir/a", "lstat dir/c", "lstat dir/sub", "open dir"},
		},
		"name that cannot be looked up": {
			dir: "dir", known: onlyB,
			edit: func(f *fakeFS) { f.fail["lstat dir/a"] = syscall.EIO },
			err:  true, calls: []string{"lstat dir/a", "open dir", "stat dir"},
		},
		"directory that cannot be opened": {
			dir: "dir", known: onlyB,
			edit: func(f *fakeFS) { f.fail["open dir"] = syscall.EIO },
			err:  true, calls: []string{"open dir", "stat dir"},
		},
		"directory that cannot be read": {
			dir: "dir", known: onlyB,
			edit: func(f *fakeFS) {
				f.wrap = func(_ string, file fs.File) fs.File {
					return nameLister{file.(fs.ReadDirFile), syscall.EIO}
				}
			},
			err: true, calls: []string{"open dir", "stat dir"},
		},
		"directory without names": {
			dir: "dir", known: onlyB,
			edit: func(f *fakeFS) { f.wrap = nil },
			want: "a b c sub/", calls: []string{"open dir", "readdir dir"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			fsys := newFakeFS(files)
			fsys.listNames()
			if test.edit != nil {
				test.edit(fsys)
			}
			entries, err := tree.ReadDir(fsys, test.dir, true, test.known)
			var got []string
			for _, entry := range entries {
				name := entry.Name()
				if entry.IsDir() {
					name += "/"
				} else if entry.Type() == fs.ModeIrregular {
					name += "?"
				}
				got = append(got, name)
			}
			if got := strings.Join(got, " "); got != test.want || (err != nil) != test.err {
				t.Errorf("got %q, %v, want %q", got, err, test.want)
			}
			if calls := fsys.takeCalls(); !slices.Equal(calls, test.calls) {
				t.Errorf("calls are %q, want %q", calls, test.calls)
			}
		})
	}
}

// TestReadDirKnownRoot tests that an os.Root lists names.
func TestReadDirKnownRoot(t *testing.T) {
	fsys := openRoot(t, diskTree(t, map[string]string{"dir/a": "", "dir/b": ""}, nil))
	entries, err := tree.ReadDir(fsys, "dir", true, func(name string) bool { return name == "b" })
	if err != nil || len(entries) != 2 || entries[0].Type() != 0 || entries[1].Type() != fs.ModeIrregular {
		t.Errorf("got %v, %v, want a regular file and an irregular one", entries, err)
	}
}

// plainFS hides the optional interfaces of a file system.
type plainFS struct{ fs.FS }

func TestReadDirKnownPlain(t *testing.T) {
	fsys := newFakeFS(map[string]string{"dir/a": ""})
	fsys.listNames()
	entries, err := tree.ReadDir(plainFS{fsys}, "dir", true, func(string) bool { return true })
	if err != nil || len(entries) != 1 || entries[0].Type() != 0 {
		t.Errorf("got %v, %v, want a regular file", entries, err)
	}
}

func TestExplain(t *testing.T) {
	other := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(other, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	dir := diskTree(t,
		map[string]string{"file": "", "a/b/x": "", "target/x": ""},
		map[string]string{
			"outside": "../outside", "absolute": other, "circle": "circle2", "circle2": "circle",
			"to-outside": "outside", "via": "absolute/x", "there-and-out": "a/../../outside",
			"ab": "a/b", "a/b/up": "../../file", "a/b/up-dir": "../../target",
		})
	root, dirFS := openRoot(t, dir), os.DirFS(dir)
	tests := map[string]struct {
		fsys   fs.FS
		name   string
		absent bool
		link   string // the LinkError
		text   string // of the error, if it is not that of the file system
	}{
		"good": {fsys: root, name: "file"},
		"missing": {
			fsys: root, name: "nothing", absent: true,
		},
		"below a file": {
			fsys: root, name: "file/x/y", absent: true,
			text: "file is not a directory: file does not exist",
		},
		"outside": {
			fsys: root, name: "outside", absent: true, link: "outside",
			text: "the link outside leads out of the tree",
		},
		"below outside": {
			fsys: root, name: "outside/x/y", absent: true, link: "outside",
			text: "the link outside leads out of the tree",
		},
		"absolute": {
			fsys: root, name: "absolute", absent: true, link: "absolute",
			text: "the link absolute is absolute",
		},
		"circle": {
			fsys: root, name: "circle", absent: true, link: "circle",
			text: "the link circle leads in a circle",
		},
		"link to a bad link": {
			fsys: root, name: "to-outside", absent: true, link: "outside",
			text: "the link outside leads out of the tree",
		},
		"link through a bad link": {
			fsys: root, name: "via", absent: true, link: "absolute",
			text: "the link absolute is absolute",
		},
		"link that returns and leaves": {
			fsys: root, name: "there-and-out", absent: true, link: "there-and-out",
			text: "the link there-and-out leads out of the tree",
		},
		"below a file behind good links": {
			fsys: root, name: "ab/up/x", absent: true,
			text: "ab/up is not a directory: file does not exist",
		},
		"missing behind good links": {
			fsys: root, name: "ab/up-dir/nothing", absent: true,
		},
		"below a file behind an absolute link that is followed": {
			fsys: dirFS, name: "absolute/x", absent: true,
			text: "absolute is not a directory: file does not exist",
		},
		"circle of a file system that follows all links": {
			fsys: dirFS, name: "circle/x", absent: true, link: "circle",
			text: "the link circle leads in a circle",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := fs.Stat(test.fsys, test.name)
			err = tree.Explain(test.fsys, test.name, err)
			if errors.Is(err, fs.ErrNotExist) != test.absent {
				t.Errorf("error %v matches ErrNotExist: %t, want %t", err, !test.absent, test.absent)
			}
			link, isLink := errors.AsType[*tree.LinkError](err)
			if isLink != (test.link != "") || isLink && link.Path != test.link {
				t.Errorf("error is %#v, want a LinkError of %q", err, test.link)
			}
			if got := fmt.Sprint(err); test.text != "" && got != test.text {
				t.Errorf("error is %q, want %q", got, test.text)
			}
		})
	}
}

// TestExplainOther tests that errors that say nothing about links stay as they
// are.
func TestExplainOther(t *testing.T) {
	links := openRoot(t, diskTree(t, nil, map[string]string{"outside": "../outside"}))
	tests := map[string]struct {
		fsys fs.FS
		name string
		err  error
	}{
		"input/output error behind a link": {fsys: links, name: "outside", err: syscall.EIO},
		"permission behind a link":         {fsys: links, name: "outside", err: syscall.EACCES},
		"not a link":                       {fsys: newFakeFS(map[string]string{"a": ""}), name: "a", err: errors.New("closed")},
		"no links at all":                  {fsys: plainFS{newFakeFS(nil)}, name: "a/b", err: errors.New("closed")},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			err := &fs.PathError{Op: "open", Path: test.name, Err: test.err}
			if got := tree.Explain(test.fsys, test.name, err); got != error(err) {
				t.Errorf("got %v, want %v", got, err)
			}
		})
	}
}

func TestReason(t *testing.T) {
	tests := map[string]struct {
		err  error
		want string
	}{
		"path error": {err: &fs.PathError{Op: "open", Path: "a/b", Err: syscall.EIO}, want: syscall.EIO.Error()},
		"other":      {err: errors.New("it is too large"), want: "it is too large"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if got := tree.Reason(test.err); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestIgnored(t *testing.T) {
	tests := map[string]bool{".git": true, "..data": true, "lost+found": true, "acme": false, "a.b": false}
	for name, want := range tests {
		if got := tree.Ignored(name); got != want {
			t.Errorf("Ignored(%q) is %t, want %t", name, got, want)
		}
	}
}
