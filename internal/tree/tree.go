// Package tree reads the directories and files of a tree of providers. It
// reports what is there. It does not judge it.
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

// Ignored reports whether an entry of that name is skipped without a report.
func Ignored(name string) bool { return strings.HasPrefix(name, ".") || name == "lost+found" }

// MayBeDir reports whether an entry is a directory, or a link that may lead to
// one. Nothing else is opened as a directory: opening a pipe would wait for its
// writer.
func MayBeDir(entry fs.DirEntry) bool { return entry.Type()&(fs.ModeDir|fs.ModeSymlink) != 0 }

// isLink reports whether an entry is a link.
func isLink(entry fs.DirEntry) bool { return entry.Type()&fs.ModeSymlink != 0 }

// ReadDir returns the entries of the directory at name, sorted by name. isDir
// says that name is known to be a directory; otherwise it may be anything. The
// error matches [fs.ErrNotExist] if there is no directory, and is a [*LinkError]
// if a link to it is not followed.
//
// If known reports true for an entry, its type may be missing: it is then
// irregular, and not a directory. A nil known means that no entry is known. This
// makes it cheap to read a large directory again: an [os.Root] makes a system
// call for the type of each entry.
func ReadDir(fsys fs.FS, name string, isDir bool, known func(name string) bool) ([]fs.DirEntry, error) {
	if !isDir {
		info, err := fs.Stat(fsys, name)
		if err != nil {
			return nil, Explain(fsys, name, err)
		}
		if !info.IsDir() {
			return nil, notDirectory(name)
		}
	}
	var entries []fs.DirEntry
	var err error
	if _, ok := fsys.(fs.ReadLinkFS); ok && known != nil {
		entries, err = readNames(fsys, name, known)
	} else {
		entries, err = fs.ReadDir(fsys, name)
	}
	if err != nil {
		if IsObjectStore(fsys) {
			return nil, err
		}
		if info, statErr := fs.Stat(fsys, name); statErr == nil && !info.IsDir() {
			return nil, notDirectory(name) // isDir is out of date
		}
		return nil, Explain(fsys, name, err)
	}
	return entries, nil
}

func notDirectory(name string) error {
	return fmt.Errorf("%s is not a directory: %w", name, fs.ErrNotExist)
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
		info, err := fs.Lstat(fsys, path.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was deleted since
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

// A LinkError says that a link is not followed. It matches [fs.ErrNotExist].
type LinkError struct {
	Path string // the link
	Why  string // continues a sentence that begins with the link
}

func (e *LinkError) Error() string        { return "the link " + e.Path + " " + e.Why }
func (e *LinkError) Is(target error) bool { return target == fs.ErrNotExist }

// Explain returns err, or a better error that matches [fs.ErrNotExist] if nothing
// is at name. File systems have other errors if a file is in the place
// of a directory, or if they do not follow a link.
func Explain(fsys fs.FS, name string, err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) || IsObjectStore(fsys) { // which has no links
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
		info, statErr := fs.Stat(fsys, at)
		if statErr != nil {
			if link := badLink(fsys, at); link != nil {
				return link
			}
			return err
		}
		if i < len(name) && !info.IsDir() {
			return notDirectory(at)
		}
	}
	return err
}

// badLink returns the link on the way to name that is not followed, or nil.
func badLink(fsys fs.FS, name string) *LinkError {
	const maxLinks = 40 // as many as operating systems follow
	links, last := 0, name
	at, rest := ".", name
	for rest != "" {
		var next string
		next, rest, _ = strings.Cut(rest, "/")
		if next == ".." {
			if at == "." {
				return &LinkError{last, "leads out of the tree"}
			}
			at = path.Dir(at)
			continue
		}
		at = path.Join(at, next)
		target, err := fs.ReadLink(fsys, at)
		if err != nil {
			continue // not a link
		}
		target = filepath.ToSlash(target)
		if path.IsAbs(target) || filepath.IsAbs(target) {
			return &LinkError{at, "is absolute"}
		}
		if links++; links > maxLinks {
			return &LinkError{name, "leads in a circle"}
		}
		last = at
		at, rest = path.Dir(at), target+"/"+rest
	}
	return nil
}

// Reason returns what went wrong, without the path that an [*fs.PathError] has.
func Reason(err error) string {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err.Error()
	}
	return err.Error()
}

// youngFor is how long after a change a file's time proves nothing: another
// change may get the same time.
const youngFor = 2 * time.Second

// A Stamp tells by size and time whether a file has changed since it was read. It
// is small because there are many.
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

// A Version is like a [Stamp], but the file itself must be the same, too. It is for
// files that may be replaced by another one with the same size and time, as rsync
// does.
type Version struct {
	stamp Stamp
	info  fs.FileInfo
}

// VersionOf returns the version of a file that was read at a time.
func VersionOf(info fs.FileInfo, read time.Time) Version {
	return Version{StampOf(info, read), info}
}

// Proves reports whether info describes the same version. The zero Version proves
// nothing.
func (v Version) Proves(info fs.FileInfo) bool {
	return v.stamp.Proves(info) && sameFile(v.info, info)
}

// sameFile reports whether a and b describe the same file. It also does so if the
// file system cannot tell.
func sameFile(a, b fs.FileInfo) bool { return os.SameFile(a, b) || !os.SameFile(b, b) }

var (
	// ErrNotRegular is the error for something in the place of a file.
	ErrNotRegular = errors.New("it is not a regular file")

	errChanged = errors.New("the file changed while it was read")

	// errNoSeeking is the error of file systems whose files can only be read
	// from the beginning.
	errNoSeeking = errors.New("the file system does not support seeking: its files need Seek and ReadAt")
)

// ReadFile reads a regular file of at most limit bytes. The FileInfo is that of
// the open file. What is opened must be known not to be a pipe.
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

// Open opens a regular file that can be read from any place. What is opened must
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
