package secretfile_test

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri/internal/secretfile"
)

// write writes a file with permissions that the umask does not change.
func write(t *testing.T, text string, perm fs.FileMode) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "secrets")
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, perm); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestReadRights(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("permission bits do not show who has access")
	}
	tests := map[string]struct {
		perm     fs.FileMode
		writable bool // by others: an error
		exposed  bool
	}{
		"owner":                  {perm: 0o600},
		"owner reads":            {perm: 0o400},
		"owner executes":         {perm: 0o700},
		"group reads":            {perm: 0o640, exposed: true},
		"others read":            {perm: 0o604, exposed: true},
		"all read":               {perm: 0o444, exposed: true},
		"group executes":         {perm: 0o610},
		"group writes":           {perm: 0o620, writable: true},
		"others write":           {perm: 0o602, writable: true},
		"group reads and writes": {perm: 0o660, writable: true},
		"all read and write":     {perm: 0o666, writable: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			path := write(t, "secret\n", test.perm)
			f, err := secretfile.Read(path)
			if test.writable {
				want := path + " can be written by users other than its owner: run chmod go-w " + path
				if f != nil || err == nil || err.Error() != want {
					t.Errorf("got %v, want error %q", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if f.Exposed != test.exposed {
				t.Errorf("Exposed is %t, want %t", f.Exposed, test.exposed)
			}
			if f.Info.Mode().Perm() != test.perm || f.Info.Size() != int64(len("secret\n")) {
				t.Errorf("Info is %v", fs.FormatFileInfo(f.Info))
			}
		})
	}
}

func TestReadLink(t *testing.T) {
	target := write(t, "secret\n", 0o600)
	dir := t.TempDir()
	link := func(name, target string) string {
		path := filepath.Join(dir, name)
		if err := os.Symlink(target, path); err != nil {
			t.Skip("no symbolic links: ", err)
		}
		return path
	}
	// Kubernetes mounts a secret as a link to a file behind a link that it swaps.
	link("..data", filepath.Dir(target))
	tests := map[string]struct {
		name   string
		absent bool
	}{
		"link":            {name: link("link", target)},
		"link to a link":  {name: link("secrets", filepath.Join("..data", "secrets"))},
		"link to nothing": {name: link("dangling", "nothing"), absent: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f, err := secretfile.Read(test.name)
			if test.absent {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("got %v, want an error that matches ErrNotExist", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !f.Info.Mode().IsRegular() || f.Exposed {
				t.Errorf("got %v, exposed %t, want the file that the link leads to", fs.FormatFileInfo(f.Info), f.Exposed)
			}
		})
	}
}

// TestReadLinkRights tests that the permissions of the file count, not those of
// the link.
func TestReadLinkRights(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("permission bits do not show who has access")
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(write(t, "secret\n", 0o666), link); err != nil {
		t.Fatal(err)
	}
	if _, err := secretfile.Read(link); err == nil {
		t.Error("a file that others can write was read through a link")
	}
}

func TestReadErrors(t *testing.T) {
	dir := t.TempDir()
	tests := map[string]struct {
		name   string
		absent bool
		want   string // a part of the error
	}{
		"missing":   {name: filepath.Join(dir, "nothing"), absent: true},
		"directory": {name: dir, want: dir + " is no regular file"},
		"too large": {name: write(t, strings.Repeat("a", 1<<20+1), 0o600), want: " is larger than 1048576 bytes"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f, err := secretfile.Read(test.name)
			if f != nil || err == nil || !strings.Contains(err.Error(), test.want) || errors.Is(err, fs.ErrNotExist) != test.absent {
				t.Errorf("got %v, want an error with %q that matches ErrNotExist: %t", err, test.want, test.absent)
			}
		})
	}
}

func TestLines(t *testing.T) {
	tests := map[string]struct {
		text string
		want map[int][]string
	}{
		"empty":                 {text: "", want: map[int][]string{}},
		"one line":              {text: "secret\n", want: map[int][]string{1: {"secret"}}},
		"no last line end":      {text: "secret", want: map[int][]string{1: {"secret"}}},
		"fields":                {text: "a b\tc  d\n", want: map[int][]string{1: {"a", "b", "c", "d"}}},
		"empty lines":           {text: "\na\n\n \t\nb\n", want: map[int][]string{2: {"a"}, 5: {"b"}}},
		"comments":              {text: "# all tokens\na # of CI\n  # none\nb#c\n", want: map[int][]string{2: {"a"}, 4: {"b"}}},
		"line ends of Windows":  {text: "a b\r\n\r\nc\r\n", want: map[int][]string{1: {"a", "b"}, 3: {"c"}}},
		"white space around":    {text: "  a  \n", want: map[int][]string{1: {"a"}}},
		"as large as it may be": {text: strings.Repeat("a", 1<<20), want: map[int][]string{1: {strings.Repeat("a", 1<<20)}}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f, err := secretfile.Read(write(t, test.text, 0o600))
			if err != nil {
				t.Fatal(err)
			}
			if got := maps.Collect(f.Lines()); !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestLinesBreak(t *testing.T) {
	f, err := secretfile.Read(write(t, "a\nb\nc\n", 0o600))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the lines can be read again
		last := 0
		for n := range f.Lines() {
			if last = n; n == 2 {
				break
			}
		}
		if last != 2 {
			t.Errorf("the loop stops at line %d, want 2", last)
		}
	}
}
