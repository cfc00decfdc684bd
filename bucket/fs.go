package bucket

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/refresh"
	"gocloud.dev/blob"
	"gocloud.dev/gcerrors"
)

// Options are the settings of an [FS]. The zero value is ready to use.
type Options struct {
	// Stream makes the registry send zips itself. It is for stores that clients
	// cannot reach. If it is false, clients are redirected to presigned URLs. A
	// store that cannot presign URLs is always streamed from.
	Stream bool

	// URLExpiry is how long a presigned URL is valid. It is checked when a
	// download starts. Zero is five minutes.
	URLExpiry time.Duration
}

// An FS is the file system of the objects in a bucket. It is a
// [rekisteri.URLFS], and a [rekisteri.Store]. It is safe for concurrent use.
type FS struct {
	bucket   *blob.Bucket
	stream   bool
	expiry   time.Duration
	throttle throttle
	listed   *refresh.Map[string, *listing] // by directory
	probed   atomic.Bool                    // conditional writes work
	dangling sync.Map                       // namespaces in which a marker had no content
}

var _ rekisteri.URLFS = (*FS)(nil)

const (
	pageSize       = 1000 // objects in a page of a list: the most that stores allow
	listTries      = 5
	requestTimeout = 15 * time.Second // for an answer, or the next bytes of it
	defaultExpiry  = 5 * time.Minute

	// Listings are kept for a while, so that a refresh needs no requests for
	// objects that it has just listed.
	listingsFor   = time.Minute
	listingsBytes = 4 << 20
	infoBytes     = 200
)

// New returns the file system of a bucket. Nil options are the defaults. New
// makes no request.
func New(b *blob.Bucket, opts *Options) *FS {
	if opts == nil {
		opts = new(Options)
	}
	return &FS{
		bucket: b, stream: opts.Stream, expiry: cmp.Or(opts.URLExpiry, defaultExpiry),
		listed: refresh.NewMap[string, *listing](listingsBytes, nil),
	}
}

// A listing has the infos of the objects in a directory, from a LIST. It is
// immutable.
type listing struct {
	at    time.Time
	infos map[string]*info
}

// An info describes an object, or a directory. It implements [fs.FileInfo] and
// [fs.DirEntry].
type info struct {
	name  string
	size  int64
	time  time.Time
	isDir bool
}

// newInfo returns the info of an object. Its time is truncated to seconds: the
// answer to a GET has no fractions.
func newInfo(key string, size int64, modTime time.Time) *info {
	return &info{name: path.Base(key), size: size, time: modTime.Truncate(time.Second)}
}

func (i *info) Name() string               { return i.name }
func (i *info) Size() int64                { return i.size }
func (i *info) ModTime() time.Time         { return i.time }
func (i *info) IsDir() bool                { return i.isDir }
func (i *info) Sys() any                   { return nil }
func (i *info) Type() fs.FileMode          { return i.Mode().Type() }
func (i *info) Info() (fs.FileInfo, error) { return i, nil }
func (i *info) String() string             { return fs.FormatFileInfo(i) }

// Mode implements [fs.FileInfo].
func (i *info) Mode() fs.FileMode {
	if i.isDir {
		return fs.ModeDir | 0o555
	}
	return 0o444
}

// prefixOf returns the prefix of the keys of a directory's objects.
func prefixOf(dir string) string {
	if dir == "." {
		return ""
	}
	return dir + "/"
}

// list returns the objects whose keys begin with a prefix. With the delimiter
// "/", it returns one object for a directory instead of those below it. If a
// page of the list cannot be read, list returns an error and no objects.
func (f *FS) list(ctx context.Context, prefix, delimiter string) ([]*blob.ListObject, error) {
	for try := 1; ; try++ {
		all, err := f.listOnce(ctx, prefix, delimiter)
		// With a fileblob, a list fails if a file is deleted meanwhile.
		if !isNotFound(err) || try == listTries {
			return all, err
		}
	}
}

func (f *FS) listOnce(ctx context.Context, prefix, delimiter string) ([]*blob.ListObject, error) {
	var all []*blob.ListObject
	for token := blob.FirstPageToken; len(token) > 0; {
		var page []*blob.ListObject
		err := f.request(ctx, func(ctx context.Context) (err error) {
			page, token, err = f.bucket.ListPage(ctx, token, pageSize, &blob.ListOptions{Prefix: prefix, Delimiter: delimiter})
			return err
		})
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
	}
	return all, nil
}

// ReadDir implements [fs.ReadDirFS]. A directory exists if there is an object in
// it.
func (f *FS) ReadDir(name string) ([]fs.DirEntry, error) {
	const op = "readdir"
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	now := time.Now()
	objects, err := f.list(context.Background(), prefixOf(name), "/")
	if err != nil {
		return nil, failure(op, name, err)
	}
	found := &listing{at: now, infos: make(map[string]*info)}
	dirs := make(map[string]bool)
	var entries []fs.DirEntry
	for _, o := range objects {
		i := newInfo(o.Key, o.Size, o.ModTime)
		i.isDir = o.IsDir
		if key := strings.TrimSuffix(o.Key, "/"); !fs.ValidPath(key) || key+"/" == prefixOf(name) {
			continue // such as the object "acme/" that some tools create for a directory
		}
		entries = append(entries, i)
		if o.IsDir {
			dirs[i.name] = true
		} else {
			found.infos[i.name] = i
		}
	}
	// In a bucket, an object can have the name of a directory.
	entries = slices.DeleteFunc(entries, func(e fs.DirEntry) bool { return !e.IsDir() && dirs[e.Name()] })
	if len(objects) == 0 && name != "." {
		return nil, f.missing(op, name)
	}
	f.listed.Put(name, found, int64(len(found.infos)+1)*infoBytes)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// known returns the info of an object that was listed less than a minute ago, or
// nil.
func (f *FS) known(name string) *info {
	if l, ok := f.listed.Get(path.Dir(name)); ok && time.Since(l.at) < listingsFor {
		return l.infos[path.Base(name)]
	}
	return nil
}

// Stat implements [fs.StatFS].
func (f *FS) Stat(name string) (fs.FileInfo, error) {
	const op = "stat"
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	if name == "." {
		return &info{name: ".", isDir: true}, nil
	}
	if i := f.known(name); i != nil {
		return i, nil
	}
	var attrs *blob.Attributes
	err := f.request(context.Background(), func(ctx context.Context) (err error) {
		attrs, err = f.bucket.Attributes(ctx, name)
		return err
	})
	switch {
	case err == nil:
		return newInfo(name, attrs.Size, attrs.ModTime), nil
	case !isNotFound(err):
		return nil, failure(op, name, err)
	}
	if _, err := f.ReadDir(name); err != nil {
		return nil, err
	}
	return &info{name: path.Base(name), isDir: true}, nil
}

// Open implements [fs.FS]. Its files implement [io.Seeker] and [io.ReaderAt]. It
// makes no request for an object that was listed less than a minute ago.
func (f *FS) Open(name string) (fs.File, error) {
	const op = "open"
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	file := &file{fs: f, name: name}
	if f.known(name) != nil {
		return file, nil
	}
	if name != "." {
		err := file.open()
		if err == nil {
			return file, nil
		}
		if !isNotFound(err) {
			return nil, failure(op, name, err)
		}
	}
	entries, err := f.ReadDir(name)
	if err != nil {
		return nil, err
	}
	return &dir{info{name: path.Base(name), isDir: true}, entries}, nil
}

// missing returns the error for an object or directory that the store does not
// find. It matches [fs.ErrNotExist] only if the store does not list it either.
func (f *FS) missing(op, name string) error {
	siblings, err := f.list(context.Background(), name, "/")
	if err != nil {
		return failure(op, name, err)
	}
	for _, o := range siblings {
		if o.Key == name || o.Key == name+"/" {
			return failure(op, name, errContradiction)
		}
	}
	f.noteMissing(name)
	return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

// errContradiction is the error for an object that is listed and not found.
var errContradiction = errors.New("the store lists it, but does not find it")

// URL implements [rekisteri.URLFS]. The URL is presigned for GET. Anyone who has
// it can read the file until it expires.
func (f *FS) URL(ctx context.Context, name string) (string, error) {
	if f.stream {
		return "", errors.ErrUnsupported
	}
	url, err := f.bucket.SignedURL(ctx, name, &blob.SignedURLOptions{Expiry: f.expiry})
	if gcerrors.Code(err) == gcerrors.Unimplemented {
		return "", errors.ErrUnsupported
	}
	if err != nil {
		return "", failure("presign", name, err)
	}
	return url, nil
}

// A dir is an open directory.
type dir struct {
	info
	rest []fs.DirEntry
}

func (d *dir) Stat() (fs.FileInfo, error) { return &d.info, nil }
func (d *dir) Read([]byte) (int, error) {
	return 0, &fs.PathError{Op: "read", Path: d.name, Err: fs.ErrInvalid}
}
func (d *dir) Close() error { return nil }

// ReadDir implements [fs.ReadDirFile].
func (d *dir) ReadDir(n int) ([]fs.DirEntry, error) {
	if n <= 0 || n > len(d.rest) {
		if n > 0 && len(d.rest) == 0 {
			return nil, io.EOF
		}
		n = len(d.rest)
	}
	entries := d.rest[:n:n]
	d.rest = d.rest[n:]
	return entries, nil
}
