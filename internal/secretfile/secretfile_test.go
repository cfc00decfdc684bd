package secretfile_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri/internal/secretfile"
)

func TestLines(t *testing.T) {
	name := filepath.Join(t.TempDir(), "secrets")
	text := "# all of them\n\none\n  two\tfields # the CI's #1\r\n#\nthree#last"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := secretfile.Read(name)
	if err != nil || file.Exposed {
		t.Fatalf("%+v, %v", file, err)
	}
	var got []string
	for line := range file.Lines() {
		got = append(got, fmt.Sprintf("%d %q %q", line.Number, line.Fields, line.Comment))
	}
	want := []string{`3 ["one"] ""`, `4 ["two" "fields"] "the CI's #1"`, `6 ["three"] "last"`}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for range file.Lines() {
		break
	}
}

func TestRead(t *testing.T) {
	for _, test := range []struct {
		name    string
		text    string
		mode    os.FileMode
		want    string // the lines and their fields
		exposed bool
		err     string
	}{
		{name: "lines", text: "a b\n\n# comment\n  c\t# d\ne", mode: 0o600, want: "1[a b] 4[c] 5[e] "},
		{name: "empty", mode: 0o400},
		{name: "readable by the group", text: "a", mode: 0o640, want: "1[a] ", exposed: true},
		{name: "readable by all", text: "a", mode: 0o604, want: "1[a] ", exposed: true},
		{name: "writable by the group", text: "a", mode: 0o620, err: "can be written by users other than its owner"},
		{name: "writable by all", text: "a", mode: 0o602, err: "can be written by users other than its owner"},
		{name: "at the limit", text: "a\n#" + strings.Repeat(" ", 1<<20-3), mode: 0o600, want: "1[a] "},
		{name: "too large", text: "a\n#" + strings.Repeat(" ", 1<<20-2), mode: 0o600, err: "is larger than 1048576 bytes"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if runtime.GOOS == "windows" && test.mode != 0o600 {
				t.Skip("permissions are not checked on Windows")
			}
			name := filepath.Join(t.TempDir(), "secrets")
			if err := os.WriteFile(name, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(name, test.mode); err != nil {
				t.Fatal(err)
			}
			file, err := secretfile.Read(name)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if file.Exposed != test.exposed {
				t.Errorf("Exposed = %t, want %t", file.Exposed, test.exposed)
			}
			got := ""
			for line := range file.Lines() {
				got += fmt.Sprintf("%d%v ", line.Number, line.Fields)
			}
			if got != test.want {
				t.Errorf("lines %q, want %q", got, test.want)
			}
		})
	}
}

func TestReadNoFile(t *testing.T) {
	dir := t.TempDir()
	if _, err := secretfile.Read(dir); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("a directory: %v", err)
	}
	if _, err := secretfile.Read(filepath.Join(dir, "missing")); !os.IsNotExist(err) {
		t.Errorf("a missing file: %v", err)
	}
}

// TestReadLink tests that the permissions of the file count, not those of a link.
func TestReadLink(t *testing.T) {
	dir := t.TempDir()
	for name, mode := range map[string]os.FileMode{"private": 0o600, "writable": 0o666} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("a"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(name, path+".link"); err != nil {
			t.Skip("no symbolic links: ", err)
		}
	}
	if file, err := secretfile.Read(filepath.Join(dir, "private.link")); err != nil || file.Exposed {
		t.Errorf("a link to a private file: %+v, %v", file, err)
	}
	if _, err := secretfile.Read(filepath.Join(dir, "writable.link")); err == nil && runtime.GOOS != "windows" {
		t.Error("a link to a file that others can write: no error")
	}
}
