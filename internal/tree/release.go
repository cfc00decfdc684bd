package tree

import (
	"archive/zip"
	"bytes"
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

// A Release is what was read of a release's directory.
type Release struct {
	Files  map[string]*release.File
	Stamps map[string]Stamp // of the files that could be read

	// Vanished says that a file was gone that the directory had just named.
	Vanished bool
}

// ReadRelease reads the directory of a release at dir. Files that have not
// changed are not read again but taken from prev, which may be nil. isDir and
// the errors are those of [ReadDir].
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
	if prev == nil {
		prev = new(Release)
	}
	pool.Each(len(entries), func(i int) {
		r, entry := &results[i], entries[i]
		name := entry.Name()
		if !release.Relevant(name) || !entry.Type().IsRegular() && !isLink(entry) {
			return
		}
		old, known := prev.Files[name]
		if known || isLink(entry) {
			info, err := fs.Stat(fsys, dir+"/"+name)
			switch {
			case err != nil:
				r.file, r.vanished = failure(fsys, dir+"/"+name, err)
				return
			case !info.Mode().IsRegular():
				return
			case known && old.Err == nil && prev.Stamps[name].Proves(info):
				r.file, r.stamp = old, prev.Stamps[name]
				return
			}
		}
		now := time.Now()
		file, info, err := readFile(fsys, dir+"/"+name)
		if err != nil {
			r.file, r.vanished = failure(fsys, dir+"/"+name, err)
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

// failure returns the file that err keeps from being read. A file that is gone
// is nil; gone reports that.
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
// written has none. An error says that the file could not be read.
func hasEnd(f io.ReaderAt, size int64) (bool, error) {
	// The common case takes one short read: an end record without a comment,
	// right behind the directory that it points to.
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
	return err == nil, err
}

// Same reports whether two readings found the same files, as far as their stamps
// and contents tell.
func (r *Release) Same(o *Release) bool {
	return maps.EqualFunc(r.Stamps, o.Stamps, Stamp.equal) && maps.EqualFunc(r.Files, o.Files, func(a, b *release.File) bool {
		return a.Size == b.Size && a.Content == b.Content && a.Cut == b.Cut && (a.Err == nil) == (b.Err == nil)
	})
}
