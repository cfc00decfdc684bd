package bucket_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"

	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"
)

// A faulty is the driver of a bucket in front of another bucket. It counts the
// requests, and fails as it is told.
type faulty struct {
	inner *blob.Bucket
	urls  string // what presigned URLs begin with; empty: there are none

	mu     sync.Mutex
	calls  []string                                                           // such as "GET a/b"
	before func(op, key string) error                                         // instead of a request; nil: there are no faults
	after  func(op, key string) error                                         // after a request; its reply is lost
	list   func(prefix string, objects []*driver.ListObject) *driver.ListPage // changes a LIST without a token
	read   func(key string, body io.Reader) io.Reader                         // changes the body of a GET
	write  func(key string, opts *driver.WriterOptions)                       // changes a PUT
}

// newFaulty returns a bucket, and the driver that it has.
func newFaulty(inner *blob.Bucket) (*blob.Bucket, *faulty) {
	f := &faulty{inner: inner}
	return blob.NewBucket(f), f
}

// newMemory returns an empty bucket in memory, and the driver that it has.
func newMemory() (*blob.Bucket, *faulty) { return newFaulty(memblob.OpenBucket(nil)) }

// A fault is an error as the drivers have.
type fault struct {
	code   gcerrors.ErrorCode
	status int
	text   string
}

func (e *fault) Error() string       { return e.text }
func (e *fault) HTTPStatusCode() int { return e.status }

// A notFound is an error that a driver calls not found.
type notFound struct{ error }

func (e *notFound) Unwrap() error { return e.error }

var (
	slowDown  = &fault{gcerrors.Unknown, 503, "SlowDown: Please reduce your request rate"}
	forbidden = &fault{gcerrors.PermissionDenied, 403, "AccessDenied: the token has expired"}
	reset     = &fault{gcerrors.Unknown, 0, "read tcp: connection reset by peer"}
	noBucket  = &fault{gcerrors.NotFound, 404, "NoSuchBucket"}
	noKey     = &fault{gcerrors.NotFound, 404, "NoSuchKey"}
	timeout   = context.DeadlineExceeded

	errNoCredentials = fmt.Errorf("no credentials: %w", &fs.PathError{Op: "open", Path: "/root/.aws/credentials", Err: fs.ErrNotExist})
)

// set changes what fails.
func (f *faulty) set(change func(*faulty)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

// heal makes the bucket work.
func (f *faulty) heal() {
	f.set(func(f *faulty) { f.before, f.after, f.list, f.read, f.write = nil, nil, nil, nil, nil })
}

// takeCalls returns the requests since the last takeCalls, sorted.
func (f *faulty) takeCalls() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	slices.Sort(calls)
	return calls
}

// do makes a request.
func (f *faulty) do(op, key string, request func() error) error {
	f.mu.Lock()
	f.calls = append(f.calls, op+" "+key)
	before, after := f.before, f.after
	f.mu.Unlock()
	if before != nil {
		if err := before(op, key); err != nil {
			return err
		}
	}
	err := request()
	if err == nil && after != nil {
		err = after(op, key)
	}
	return err
}

func (f *faulty) ErrorCode(err error) gcerrors.ErrorCode {
	if e, ok := errors.AsType[*fault](err); ok {
		return e.code
	}
	if _, ok := errors.AsType[*notFound](err); ok {
		return gcerrors.NotFound
	}
	return gcerrors.Code(err)
}

func (f *faulty) As(any) bool             { return false }
func (f *faulty) ErrorAs(error, any) bool { return false }
func (f *faulty) Close() error            { return f.inner.Close() }

func (f *faulty) Attributes(ctx context.Context, key string) (attrs *driver.Attributes, err error) {
	err = f.do("HEAD", key, func() error {
		a, err := f.inner.Attributes(ctx, key)
		if err == nil {
			attrs = &driver.Attributes{Size: a.Size, ModTime: a.ModTime, Metadata: a.Metadata, ETag: a.ETag, ContentType: a.ContentType}
		}
		return err
	})
	return attrs, err
}

func (f *faulty) ListPaged(ctx context.Context, opts *driver.ListOptions) (page *driver.ListPage, err error) {
	op, token := "LIST", opts.PageToken
	if token == nil {
		token = blob.FirstPageToken
	} else {
		op = "LIST MORE"
	}
	err = f.do(op, opts.Prefix, func() error {
		objects, next, err := f.inner.ListPage(ctx, token, cmp.Or(opts.PageSize, 1000), &blob.ListOptions{Prefix: opts.Prefix, Delimiter: opts.Delimiter})
		page = &driver.ListPage{NextPageToken: next}
		for _, o := range objects {
			page.Objects = append(page.Objects, &driver.ListObject{Key: o.Key, Size: o.Size, ModTime: o.ModTime, IsDir: o.IsDir})
		}
		return err
	})
	f.mu.Lock()
	list := f.list
	f.mu.Unlock()
	if list != nil && err == nil && opts.PageToken == nil {
		page = list(opts.Prefix, page.Objects)
	}
	return page, err
}

// A faultyReader is a body.
type faultyReader struct {
	*blob.Reader
	body io.Reader
}

func (r *faultyReader) Read(p []byte) (int, error) { return r.body.Read(p) }
func (r *faultyReader) Attributes() *driver.ReaderAttributes {
	return &driver.ReaderAttributes{ContentType: r.ContentType(), ModTime: r.ModTime(), Size: r.Size()}
}

func (f *faulty) NewRangeReader(ctx context.Context, key string, offset, length int64, _ *driver.ReaderOptions) (reader driver.Reader, err error) {
	err = f.do("GET", key, func() error {
		r, err := f.inner.NewRangeReader(ctx, key, offset, length, nil)
		if err != nil {
			return err
		}
		body := io.Reader(r)
		f.mu.Lock()
		read := f.read
		f.mu.Unlock()
		if read != nil {
			body = read(key, body)
		}
		reader = &faultyReader{r, body}
		return nil
	})
	if err != nil {
		if reader != nil {
			reader.Close() // whose answer is lost
		}
		return nil, err
	}
	return reader, nil
}

// A faultyWriter sends what was written when it is closed.
type faultyWriter struct {
	bytes.Buffer
	close func(content []byte) error
}

func (w *faultyWriter) Close() error { return w.close(w.Bytes()) }

func (f *faulty) NewTypedWriter(ctx context.Context, key, contentType string, opts *driver.WriterOptions) (driver.Writer, error) {
	changed := *opts
	f.mu.Lock()
	if f.write != nil {
		f.write(key, &changed)
	}
	f.mu.Unlock()
	op := "PUT"
	if changed.IfNotExist {
		op = "PUT NEW"
	}
	return &faultyWriter{close: func(content []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return f.do(op, key, func() error {
			return f.inner.WriteAll(ctx, key, content, &blob.WriterOptions{ContentType: contentType, IfNotExist: changed.IfNotExist, Metadata: changed.Metadata})
		})
	}}, nil
}

func (f *faulty) Copy(ctx context.Context, to, from string, _ *driver.CopyOptions) error {
	return f.do("COPY", to, func() error { return f.inner.Copy(ctx, to, from, nil) })
}

func (f *faulty) Delete(ctx context.Context, key string, _ *driver.DeleteOptions) error {
	return f.do("DELETE", key, func() error { return f.inner.Delete(ctx, key) })
}

func (f *faulty) SignedURL(_ context.Context, key string, opts *driver.SignedURLOptions) (string, error) {
	if f.urls == "" {
		return "", &fault{code: gcerrors.Unimplemented, text: "no URLs"}
	}
	return fmt.Sprintf("%s%s?method=%s&expires=%v&signature=secret", f.urls, key, opts.Method, opts.Expiry), nil
}

// keys returns the keys in a bucket that begin with a prefix.
func keys(t *testing.T, b *blob.Bucket, prefix string) []string {
	t.Helper()
	var all []string
	list := b.List(&blob.ListOptions{Prefix: prefix})
	for {
		o, err := list.Next(t.Context())
		if err == io.EOF {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, strings.TrimPrefix(o.Key, prefix))
	}
}
