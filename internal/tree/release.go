package tree

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path"
	"time"

	"github.com/rekisteri/rekisteri/internal/release"
)

// MaxSmallFile is the largest size of a SHA256SUMS file, a signature, a manifest
// and a file of keys, in bytes.
const MaxSmallFile = 4 << 20

// A Release is the directory of a release as it was read.
type Release struct {
	Files  map[string]*release.File
	Stamps map[string]Stamp // of the files that could be read

	// Vanished says that the directory named a file that was gone when it was
	// read. A broken link is such a file.
	Vanished bool
}

// ReadRelease reads the directory of a release at dir. It takes files that have
// not changed from prev, which may be nil, and reads the others. isDir and the
// errors are those of [ReadDir].
func ReadRelease(fsys fs.FS, pool *Pool, dir string, isDir bool, prev *Release) (*Release, error) {
	entries, err := ReadDir(fsys, dir, isDir, nil)
	if err != nil {
		return nil, err
	}
	type result struct {
		file     *release.File
		stamp    Stamp
		vanished bool
	}
	results := make([]result, len(entries))
	objects := IsObjectStore(fsys)
	if prev == nil {
		prev = new(Release)
	}
	pool.Each(len(entries), func(i int) {
		r, entry := &results[i], entries[i]
		name, at := entry.Name(), path.Join(dir, entry.Name())
		if !release.Relevant(name) || !entry.Type().IsRegular() && !isLink(entry) {
			return
		}
		old, known := prev.Files[name]
		if objects {
			r.file, r.stamp, r.vanished = readObject(fsys, at, entry, old, prev.Stamps[name])
			return
		}
		if known || isLink(entry) {
			info, err := fs.Stat(fsys, at)
			switch {
			case err != nil:
				r.file, r.vanished = failure(fsys, at, err)
				return
			case !info.Mode().IsRegular():
				return
			case known && prev.Stamps[name].Proves(info):
				r.file, r.stamp = old, prev.Stamps[name]
				return
			}
		}
		now := time.Now()
		file, info, err := readFile(fsys, at)
		if err != nil {
			r.file, r.vanished = failure(fsys, at, err)
			return
		}
		r.file, r.stamp = file, StampOf(info, now)
	})
	rel := &Release{Files: make(map[string]*release.File), Stamps: make(map[string]Stamp)}
	for i, r := range results {
		if r.file != nil {
			rel.Files[entries[i].Name()] = r.file
			if r.file.Err == nil {
				rel.Stamps[entries[i].Name()] = r.stamp
			}
		}
		rel.Vanished = rel.Vanished || r.vanished
	}
	return rel, nil
}

// IsObjectStore reports whether a file system is over an object store, whose
// files appear whole.
func IsObjectStore(fsys fs.FS) bool {
	_, ok := fsys.(interface {
		URL(ctx context.Context, name string) (string, error)
	})
	return ok
}

// readObject reads a file of a release in an object store. The entry is enough
// for a zip. old is what was read before, or nil.
func readObject(fsys fs.FS, name string, entry fs.DirEntry, old *release.File, before Stamp) (file *release.File, stamp Stamp, vanished bool) {
	listed, err := entry.Info()
	if err != nil {
		file, vanished = failure(fsys, name, err)
		return file, Stamp{}, vanished
	}
	if old != nil && before.Proves(listed) {
		return old, before, false
	}
	file, stamp = &release.File{Size: listed.Size()}, StampOf(listed, time.Time{})
	stamp.Young = false // a file that was written since has another time, and is read again
	if release.IsZip(entry.Name()) {
		return file, stamp, false
	}
	data, info, err := ReadFile(fsys, name, MaxSmallFile)
	if err != nil {
		file, vanished = failure(fsys, name, err)
		return file, Stamp{}, vanished
	}
	file.Content = string(data)
	stamp.Young = !stamp.Matches(info) // it was replaced since it was listed
	return file, stamp, false
}

// failure returns the description of a file that cannot be read because of err,
// or nil and true if the file is gone.
func failure(fsys fs.FS, name string, err error) (file *release.File, gone bool) {
	err = Explain(fsys, name, err)
	if link, ok := errors.AsType[*LinkError](err); ok {
		return &release.File{Err: link}, false
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, true
	}
	return &release.File{Err: err}, false
}

// readFile reads a file of a release: a zip's end, or all of a small file.
func readFile(fsys fs.FS, name string) (*release.File, fs.FileInfo, error) {
	if !release.IsZip(path.Base(name)) {
		data, info, err := ReadFile(fsys, name, MaxSmallFile)
		if err != nil {
			return nil, nil, err
		}
		return &release.File{Size: info.Size(), Content: string(data)}, info, nil
	}
	f, info, err := Open(fsys, name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	whole, err := hasEnd(f, info.Size())
	if err != nil {
		return nil, nil, err
	}
	return &release.File{Size: info.Size(), Cut: !whole}, info, nil
}

// hasEnd reports whether a file has the end of a zip. A zip that is still being
// written has none. The error is one of reading the file.
func hasEnd(f io.ReaderAt, size int64) (bool, error) {
	// One short read is enough for most zips. Their end record has no comment, and
	// directly follows the directory that it describes.
	var end [22]byte
	n, err := f.ReadAt(end[:], max(size-int64(len(end)), 0))
	if err != nil && err != io.EOF {
		return false, err
	}
	if n == len(end) && bytes.HasPrefix(end[:], []byte("PK\x05\x06")) {
		length, offset := binary.LittleEndian.Uint32(end[12:]), binary.LittleEndian.Uint32(end[16:])
		if end[20] == 0 && end[21] == 0 && int64(offset)+int64(length)+int64(len(end)) == size {
			return true, nil
		}
	}
	_, err = zip.NewReader(f, size)
	if errors.Is(err, zip.ErrFormat) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return false, nil
	}
	if errors.Is(err, zip.ErrInsecurePath) { // with GODEBUG=zipinsecurepath=0
		err = nil
	}
	return err == nil, err
}

// Proven reports whether a later change of any file can be told by its stamp.
func (r *Release) Proven() bool {
	for _, s := range r.Stamps {
		if s.Young {
			return false
		}
	}
	return true
}

// Same reports whether r and o have the same files, by their stamps and contents.
func (r *Release) Same(o *Release) bool {
	return maps.EqualFunc(r.Stamps, o.Stamps, Stamp.equal) && maps.EqualFunc(r.Files, o.Files, func(a, b *release.File) bool {
		return a.Size == b.Size && a.Content == b.Content && a.Cut == b.Cut && (a.Err == nil) == (b.Err == nil)
	})
}
