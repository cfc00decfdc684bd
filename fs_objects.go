package rekisteri

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/rekisteri/rekisteri/internal/tree"
)

// A URLFS is an [fs.FS] over an object store. An [FSBackend] redirects downloads
// of zips to the URLs of a URLFS. The snapshots of a [SnapshotFS] must be URLFS
// themselves.
//
// In a URLFS, each call is a request, so an FSBackend makes few of them. A file
// must appear whole or not at all: zips are not read to see whether they are
// complete. [fs.DirEntry.Info] must need no request. A refresh
// does not read a known release again. It only sees whether that is still listed.
type URLFS interface {
	fs.FS

	// URL returns an absolute URL at which clients can read a file for some
	// minutes. It need not check that the file exists. If there are no such URLs,
	// the error matches [errors.ErrUnsupported], and the registry sends the file.
	URL(ctx context.Context, name string) (string, error)
}

// openObject opens the zip of a package in an object store. It makes no request:
// the listing had the size of the zip, which is enough to answer HEAD.
func (b *FSBackend) openObject(ctx context.Context, fsys URLFS, r *storedRelease, i int) (io.ReadSeekCloser, error) {
	path := r.path(r.release.Packages[i].Filename)
	r.mu.Lock()
	size := r.zips[i].Size
	r.mu.Unlock()
	url, err := fsys.URL(ctx, path)
	switch {
	case err == nil:
		return nil, &Redirect{URL: url, Size: size}
	case errors.Is(err, errors.ErrUnsupported):
		return &objectFile{ctx: ctx, backend: b, fsys: fsys, path: path, release: r, index: i, size: size}, nil
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, outage{err}
}

// An objectFile is a zip in an object store. It is opened when it is first read.
type objectFile struct {
	ctx     context.Context
	backend *FSBackend
	fsys    fs.FS
	path    string
	release *storedRelease
	index   int
	size    int64

	offset int64
	file   tree.File // nil: not open
	err    error     // why it cannot be opened
}

// Seek implements [io.Seeker].
func (f *objectFile) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.offset
	case io.SeekEnd:
		offset += f.size
	}
	if offset < 0 {
		return 0, fs.ErrInvalid
	}
	f.offset = offset
	if f.file == nil {
		return offset, nil
	}
	return f.file.Seek(offset, io.SeekStart)
}

// Read implements [io.Reader]. Its errors are outages: the zip is still listed.
func (f *objectFile) Read(p []byte) (int, error) {
	if f.offset >= f.size {
		return 0, io.EOF
	}
	if f.file == nil && f.err == nil {
		f.err = f.open()
	}
	if f.err != nil {
		return 0, f.err
	}
	n, err := f.file.Read(p)
	f.offset += int64(n)
	if err != nil && err != io.EOF {
		err = f.fail(err)
	}
	return n, err
}

// open opens the file at the offset.
func (f *objectFile) open() error {
	file, info, err := tree.Open(f.fsys, f.path)
	if err != nil {
		return f.fail(err)
	}
	if err = f.backend.verify(f.ctx, file, info, f.release, f.index); err == nil {
		_, err = file.Seek(f.offset, io.SeekStart)
	}
	if err != nil {
		file.Close()
		return f.fail(err)
	}
	f.file = file
	return nil
}

// fail returns the error for a zip that cannot be read: an outage, and not an
// absence. It makes the next refresh read the release again.
func (f *objectFile) fail(err error) error {
	if f.ctx.Err() != nil {
		return f.ctx.Err()
	}
	f.release.suspect.Store(true)
	return outage{err}
}

// Close implements [io.Closer].
func (f *objectFile) Close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}
