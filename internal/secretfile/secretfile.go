// Package secretfile reads files that contain a secret in each line.
package secretfile

import (
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"runtime"
	"strings"
)

// A File is a file of secrets.
type File struct {
	Info fs.FileInfo

	// Exposed reports whether other users than the file's owner can read it.
	// Files of a Kubernetes secret with an fsGroup are of this kind.
	Exposed bool

	text string
}

const limit = 1 << 20 // bytes in a file

// Read reads a file. It refuses one that other users than its owner can write,
// since they could let anybody in. Links are followed.
func Read(name string) (*File, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for its writer
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil { // of the file that was opened
		return nil, err
	}
	file := &File{Info: info}
	if runtime.GOOS != "windows" { // these bits do not show the permissions there
		if info.Mode().Perm()&0o022 != 0 {
			return nil, fmt.Errorf("%s can be written by others than its owner: run chmod go-w on it", name)
		}
		file.Exposed = info.Mode().Perm()&0o044 != 0
	}
	text, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if len(text) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes", name, limit)
	}
	file.text = string(text)
	return file, nil
}

// Lines yields the fields of each line that has any, and the line's number. "#"
// begins a comment.
func (f *File) Lines() iter.Seq2[int, []string] {
	return func(yield func(int, []string) bool) {
		n := 0
		for line := range strings.Lines(f.text) {
			n++
			line, _, _ = strings.Cut(line, "#")
			if fields := strings.Fields(line); len(fields) > 0 && !yield(n, fields) {
				return
			}
		}
	}
}
