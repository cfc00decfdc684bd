// Package tree reads the directories and files of a tree of providers. It tells
// what is there; what to make of that is decided elsewhere.
package tree

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// Ignored reports whether an entry of that name is passed over in silence.
func Ignored(name string) bool { return strings.HasPrefix(name, ".") || name == "lost+found" }

// MayBeDir reports whether an entry is a directory, or a link that may lead to
// one. Nothing else is opened as a directory: opening a pipe would wait for its
// writer.
func MayBeDir(entry fs.DirEntry) bool { return entry.Type()&(fs.ModeDir|fs.ModeSymlink) != 0 }

// isLink reports whether an entry is a link.
func isLink(entry fs.DirEntry) bool { return entry.Type()&fs.ModeSymlink != 0 }

// ReadDir returns the entries of the directory at name. Unless isDir says that
// it is known to be a directory, it may be anything. The error matches
// [fs.ErrNotExist] if there is no directory, and is a [*LinkError] if a link to
// it is not followed.
//
// Entries of which known reports true may lack their type, and are no
// directories then. A nil known knows none. This is for looking again at a large
// directory: an [os.Root] makes a system call for the type of each entry.
func ReadDir(fsys fs.FS, name string, isDir bool, known func(name string) bool) ([]fs.DirEntry, error) {
	if !isDir {
		info, err := fs.Stat(fsys, name)
		if err != nil {
			return nil, Explain(fsys, name, err)
		}
		if !info.IsDir() {
			return nil, fmt.Errorf("%s is not a directory: %w", name, fs.ErrNotExist)
		}
	}
	var entries []fs.DirEntry
	var err error
	if _, ok := fsys.(fs.ReadLinkFS); ok && known != nil {
		entries, err = readNames(fsys, name, known)
	} else {
		entries, err = fs.ReadDir(fsys, name)
	}
	return entries, Explain(fsys, name, err)
}

// readNames reads a directory, and the types of those entries that are not known.
func readNames(fsys fs.FS, dir string, known func(name string) bool) ([]fs.DirEntry, error) {
	f, err := fsys.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	lister, ok := f.(interface{ Readdirnames(n int) ([]string, error) })
	if !ok {
		return fs.ReadDir(fsys, dir)
	}
	names, err := lister.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	entries := make([]fs.DirEntry, 0, len(names))
	for _, name := range names {
		if known(name) {
			entries = append(entries, nameOnly(name))
			continue
		}
		info, err := fs.Lstat(fsys, dir+"/"+name)
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was there a moment ago
		}
		if err != nil {
			return nil, err
		}
		entries = append(entries, fs.FileInfoToDirEntry(info))
	}
	return entries, nil
}

// A nameOnly is an entry whose type was not looked up.
type nameOnly string

func (n nameOnly) Name() string               { return string(n) }
func (n nameOnly) IsDir() bool                { return false }
func (n nameOnly) Type() fs.FileMode          { return fs.ModeIrregular }
func (n nameOnly) Info() (fs.FileInfo, error) { return nil, fs.ErrInvalid }

// A LinkError says that a link is not followed. It matches [fs.ErrNotExist]:
// there is nothing that could be read.
type LinkError struct {
	Path string // the link
	Why  string // continues a sentence that begins with the link
}

func (e *LinkError) Error() string        { return "the link " + e.Path + " " + e.Why }
func (e *LinkError) Is(target error) bool { return target == fs.ErrNotExist }

// Explain returns an error of the file system for name in a form that matches
// [fs.ErrNotExist] if nothing is there. File systems have errors of their own
// for a file in the place of a directory, and for a link that they do not
// follow.
func Explain(fsys fs.FS, name string, err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok && errno != syscall.ENOTDIR && errno != syscall.ELOOP {
		return err // such as an input/output error behind a good link
	}
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		at := name[:i]
		if why := badLink(fsys, at); why != "" {
			return &LinkError{at, why}
		}
		info, statErr := fs.Stat(fsys, at)
		if statErr != nil {
			return err
		}
		if i < len(name) && !info.IsDir() {
			return fmt.Errorf("%s is not a directory: %w", at, fs.ErrNotExist)
		}
	}
	return err
}

// badLink returns why the link at name is not followed, and an empty string if
// it is no link, or a good one.
func badLink(fsys fs.FS, name string) string {
	const hops = 40 // as many as operating systems follow
	for range hops {
		target, err := fs.ReadLink(fsys, name)
		if err != nil {
			return ""
		}
		if path.IsAbs(target) || filepath.IsAbs(target) {
			return "is absolute"
		}
		if name = path.Join(path.Dir(name), filepath.ToSlash(target)); !fs.ValidPath(name) {
			return "leads out of the tree"
		}
	}
	return "leads in a circle"
}

// Reason returns what went wrong, without the path that an [*fs.PathError] has.
func Reason(err error) string {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err.Error()
	}
	return err.Error()
}

// youngFor is how long a file's times prove nothing: another change may still
// get the same time.
const youngFor = 2 * time.Second

// A Stamp tells whether a file has changed since it was read, by its size and
// its time. It is small, since there are many.
type Stamp struct {
	Size    int64
	ModTime int64 // in nanoseconds of Unix time; 0: the file system has no times
	Young   bool  // the file was so new when it was read that the stamp proves nothing
}

// StampOf returns the stamp of a file that was read at a time.
func StampOf(info fs.FileInfo, read time.Time) Stamp {
	s := Stamp{Size: info.Size()}
	if t := info.ModTime(); !t.IsZero() {
		s.ModTime = t.UnixNano()
		s.Young = !t.Before(read.Add(-youngFor))
	}
	return s
}

// Matches reports whether info has the stamp's size and time.
func (s Stamp) Matches(info fs.FileInfo) bool { return s.equal(StampOf(info, time.Time{})) }

func (s Stamp) equal(o Stamp) bool { return s.Size == o.Size && s.ModTime == o.ModTime }

// Proves reports whether a file with this size and time has not changed.
func (s Stamp) Proves(info fs.FileInfo) bool { return !s.Young && s.ModTime != 0 && s.Matches(info) }

// A Version is a version of a file that others may replace by another one with
// the same size and time, as rsync does: the file itself must be the same, too.
type Version struct {
	stamp Stamp
	info  fs.FileInfo
}

// VersionOf returns the version of a file that was read at a time.
func VersionOf(info fs.FileInfo, read time.Time) Version {
	return Version{StampOf(info, read), info}
}

// Proves reports whether info describes the same version.
func (v Version) Proves(info fs.FileInfo) bool {
	return v.info != nil && v.stamp.Proves(info) && sameFile(v.info, info)
}

// sameFile reports whether two descriptions are of one file, or come from a file
// system that cannot tell.
func sameFile(a, b fs.FileInfo) bool { return os.SameFile(a, b) || !os.SameFile(b, b) }

var (
	// ErrNotRegular is the error for something in the place of a file.
	ErrNotRegular = errors.New("it is not a regular file")

	errChanged = errors.New("the file changed while it was read")

	// errNoSeeking is the error of file systems whose files can only be read
	// from the beginning.
	errNoSeeking = errors.New("the file system does not support seeking: its files need Seek and ReadAt")
)

// ReadFile reads a regular file that should not be larger than limit bytes. The
// FileInfo is that of the open file.
func ReadFile(fsys fs.FS, name string, limit int64) ([]byte, fs.FileInfo, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, nil, ErrNotRegular
	}
	if info.Size() > limit {
		return nil, nil, fmt.Errorf("it is larger than %d MiB", limit>>20)
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil, nil, errChanged
	} else if err != nil {
		return nil, nil, err
	}
	after, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !StampOf(info, time.Time{}).Matches(after) {
		return nil, nil, errChanged
	}
	return data, info, nil
}

// A File is an open file that can be read from any place.
type File interface {
	fs.File
	io.ReadSeeker
	io.ReaderAt
}

// Open opens a regular file that can be read from any place. What it opens must
// be known not to be a pipe.
func Open(fsys fs.FS, name string) (File, fs.FileInfo, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	file, ok := f.(File)
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = ErrNotRegular
	case !ok:
		err = errNoSeeking
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return file, info, nil
}
