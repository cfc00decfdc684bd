// Package secretfile reads files that hold secrets, a line each.
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

// A File is a file of secrets as it was read.
type File struct {
	Info fs.FileInfo

	// Exposed says that others than the file's owner can read it. That is how
	// Kubernetes mounts a secret.
	Exposed bool

	text string
}

const limit = 1 << 20 // bytes in a file

// Read reads a file. One that others than its owner can write is refused: who
// can write it decides who gets in. Links are followed.
func Read(name string) (*File, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // and to open a pipe would wait for its writer
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil { // of the one whose rights count
		return nil, err
	}
	file := &File{Info: info}
	if runtime.GOOS != "windows" { // whose rights these bits don't show
		if info.Mode().Perm()&0o022 != 0 {
			return nil, fmt.Errorf("%s can be written by others than its owner: chmod go-w it", name)
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

// Lines yields the fields of the lines that hold any, by the line's number. "#"
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
