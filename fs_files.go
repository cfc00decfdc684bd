package rekisteri

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/rekisteri/rekisteri/internal/tree"
)

// A memoryFile is a small file that is in memory.
type memoryFile struct{ *strings.Reader }

func (memoryFile) Close() error { return nil }

// openZip opens the zip of a package. A missing zip is an outage and not an
// absence, since it is still listed.
func (b *FSBackend) openZip(ctx context.Context, fsys fs.FS, r *storedRelease, i int) (io.ReadSeekCloser, error) {
	if objects, ok := fsys.(URLFS); ok {
		return b.openObject(ctx, objects, r, i)
	}
	path := r.path(r.release.Packages[i].Filename)
	fail := func(err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		r.suspect.Store(true)
		return outage{err}
	}
	info, err := fs.Stat(fsys, path)
	if err != nil {
		return nil, fail(err)
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for its writer
		return nil, fail(fmt.Errorf("%s: %w", path, tree.ErrNotRegular))
	}
	// What counts is the open file: network file systems cache what Stat says.
	f, info, err := tree.Open(fsys, path)
	if err != nil {
		return nil, fail(err)
	}
	if err := b.verify(ctx, f, info, r, i); err != nil {
		f.Close()
		return nil, fail(fmt.Errorf("%s: %w", path, err))
	}
	return f, nil
}

// errReplaced is the error for a zip that is not the one of its release.
var errReplaced = errors.New("it was replaced by another file: its sum is not the one in SHA256SUMS")

// verify checks that an open zip is the one that was read: by its size and
// time, or else by its sum. It hashes one zip at a time, and each only once.
func (b *FSBackend) verify(ctx context.Context, f tree.File, info fs.FileInfo, r *storedRelease, i int) error {
	known := func() (bool, error) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.replaced[i].Matches(info) {
			return true, errReplaced
		}
		return r.zips[i].Matches(info), nil
	}
	if ok, err := known(); ok {
		return err
	}
	select {
	case b.hashing <- struct{}{}:
		defer func() { <-b.hashing }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if ok, err := known(); ok {
		return err // another request has just hashed it
	}
	h := sha256.New()
	if _, err := io.Copy(h, contextReader{ctx, f}); err != nil {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	stamp := tree.StampOf(info, time.Now())
	if [sha256.Size]byte(h.Sum(nil)) != r.release.Packages[i].SHA256 {
		if r.replaced == nil {
			r.replaced = make(map[int]tree.Stamp)
		}
		r.replaced[i] = stamp
		return errReplaced
	}
	r.zips[i] = stamp
	return nil
}

// A contextReader fails when its context is done.
type contextReader struct {
	ctx context.Context
	io.Reader
}

func (r contextReader) Read(b []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(b)
}
