package bucket

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"time"

	"gocloud.dev/blob"
)

// A file is an object that is open for reading. Reads that follow each other
// share one request. A read from another offset begins a new one.
type file struct {
	fs     *FS
	name   string
	info   *info // from the first answer; nil: there was no request yet
	offset int64 // of the next Read

	body   *body // nil: no request is open
	bodyAt int64 // the offset that body is at
}

// A body is the answer to a request for an object, or for a part of it. A read
// that takes too long ends the request.
type body struct {
	*blob.Reader
	ctx    context.Context // of the request
	cancel context.CancelCauseFunc
}

// get requests length bytes of an object from an offset, or all that follow if
// length is negative.
func (f *FS) get(name string, offset, length int64) (*body, error) {
	ctx, cancel := context.WithCancelCause(context.Background())
	b := &body{ctx: ctx, cancel: cancel}
	err := f.throttle.do(func() error {
		defer b.limit()()
		var err error
		b.Reader, err = f.bucket.NewRangeReader(ctx, name, offset, length, nil)
		return timeoutCause(ctx, err)
	})
	if err != nil {
		cancel(nil)
		return nil, err
	}
	return b, nil
}

// limit ends the request if stop is not called in time.
func (b *body) limit() (stop func() bool) {
	return time.AfterFunc(requestTimeout, func() { b.cancel(errTimeout) }).Stop
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	defer b.limit()()
	n, err := b.Reader.Read(p)
	return n, timeoutCause(b.ctx, err)
}

func (b *body) close() {
	b.Reader.Close()
	b.cancel(nil)
}

// check returns an error if an answer is from another object than the first
// answer was.
func (f *file) check(b *body) error {
	i := newInfo(f.name, b.Size(), b.ModTime())
	if f.info != nil && (f.info.size != i.size || !f.info.time.Equal(i.time)) {
		return errors.New("the object was replaced while it was read")
	}
	f.info = i
	return nil
}

// open requests the object from the offset.
func (f *file) open() error {
	b, err := f.fs.get(f.name, f.offset, -1)
	if err != nil {
		return err
	}
	if err := f.check(b); err != nil {
		b.close()
		return err
	}
	f.body, f.bodyAt = b, f.offset
	return nil
}

// fail returns the error for a request that failed.
func (f *file) fail(op string, err error) error {
	if isNotFound(err) {
		return f.fs.missing(op, f.name)
	}
	return failure(op, f.name, err)
}

// Stat implements [fs.File]. It returns the info from the first answer, and makes
// a request if there was none.
func (f *file) Stat() (fs.FileInfo, error) {
	if f.info == nil {
		if err := f.open(); err != nil {
			return nil, f.fail("stat", err)
		}
	}
	return f.info, nil
}

// Read implements [io.Reader].
func (f *file) Read(p []byte) (int, error) {
	if f.info != nil && f.offset >= f.info.size {
		return 0, io.EOF
	}
	if f.body != nil && f.bodyAt != f.offset {
		f.body.close()
		f.body = nil
	}
	if f.body == nil {
		if err := f.open(); err != nil {
			return 0, f.fail("read", err)
		}
	}
	n, err := f.body.Read(p)
	f.offset += int64(n)
	f.bodyAt = f.offset
	if err == io.EOF && f.offset < f.info.size {
		err = io.ErrUnexpectedEOF // the connection was lost
	}
	if err != nil && err != io.EOF {
		err = failure("read", f.name, err)
	}
	return n, err
}

// ReadAt implements [io.ReaderAt]. Each call is a request.
func (f *file) ReadAt(p []byte, offset int64) (int, error) {
	switch {
	case offset < 0:
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: fs.ErrInvalid}
	case len(p) == 0:
		return 0, nil
	case f.info != nil && offset >= f.info.size:
		return 0, io.EOF
	}
	b, err := f.fs.get(f.name, offset, int64(len(p)))
	if err != nil {
		return 0, f.fail("read", err)
	}
	defer b.close()
	if err := f.check(b); err != nil {
		return 0, failure("read", f.name, err)
	}
	want := p[:min(int64(len(p)), max(f.info.size-offset, 0))]
	n, err := io.ReadFull(b, want)
	if err != nil {
		return n, failure("read", f.name, err)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Seek implements [io.Seeker].
func (f *file) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += f.offset
	case io.SeekEnd:
		i, err := f.Stat()
		if err != nil {
			return 0, err
		}
		offset += i.Size()
	}
	if offset < 0 {
		return 0, &fs.PathError{Op: "seek", Path: f.name, Err: fs.ErrInvalid}
	}
	f.offset = offset
	return offset, nil
}

// Close implements [fs.File].
func (f *file) Close() error {
	if f.body != nil {
		f.body.close()
		f.body = nil
	}
	return nil
}
