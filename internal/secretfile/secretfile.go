// Package secretfile reads files that hold one secret per line.
package secretfile

import (
	"fmt"
	"io"
	"iter"
	"os"
	"runtime"
	"strings"
)

// A File is the content of a file of secrets.
type File struct {
	// Exposed reports that users other than the owner can read the file. That is
	// how Kubernetes mounts secrets.
	Exposed bool

	text string
}

// A Line is a line of a [File] that is not empty.
type Line struct {
	Number  int      // the first is 1
	Fields  []string // separated by white space; at least one
	Comment string   // the text after "#"
}

const limit = 1 << 20 // bytes in a file

// Read reads a file. It refuses one that users other than the owner can write,
// since a secret that they add gives access. It follows links.
func Read(name string) (*File, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for a writer
		return nil, fmt.Errorf("%s is not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil { // another file may have replaced the first
		return nil, err
	}
	file := new(File)
	if runtime.GOOS != "windows" { // where the mode does not show permissions
		if info.Mode().Perm()&0o022 != 0 {
			return nil, fmt.Errorf("%s can be written by users other than its owner: run chmod go-w on it", name)
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

// Lines yields the lines that have fields. "#" starts a comment.
func (f *File) Lines() iter.Seq[Line] {
	return func(yield func(Line) bool) {
		n := 0
		for line := range strings.Lines(f.text) {
			n++
			text, comment, _ := strings.Cut(line, "#")
			if fields := strings.Fields(text); len(fields) > 0 && !yield(Line{n, fields, strings.TrimSpace(comment)}) {
				return
			}
		}
	}
}
