// Package secretfile reads files with one secret on each line.
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

	// Exposed says that users other than the owner can read the file. Kubernetes
	// mounts secrets that way.
	Exposed bool

	text string
}

// limit is the largest size of a file, in bytes.
const limit = 1 << 20

// Read reads a file. It follows links. It returns an error for a file that users
// other than the owner can write, because they could add secrets of their own.
func Read(name string) (*File, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for its writer
		return nil, fmt.Errorf("%s is no regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err = f.Stat(); err != nil { // the name may have another file by now
		return nil, err
	}
	file := &File{Info: info}
	if runtime.GOOS != "windows" { // there, these bits do not show who has access
		if info.Mode().Perm()&0o022 != 0 {
			return nil, fmt.Errorf("%s can be written by users other than its owner: run chmod go-w %s", name, name)
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

// Lines yields the number and the fields of each line that has any. "#" starts a
// comment.
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
