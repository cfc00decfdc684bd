package bucket

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/release"
	"gocloud.dev/blob"
)

// Files are staged in objects with random names, since the digest is known only
// when all of a file has arrived. An empty object, the marker, says which file
// of which release each one is:
//
//	<namespace>/.upload/data/<id>
//	<namespace>/.upload/stage/<type>/<version>/<id>-<SHA-256>-<size>-<name>
//
// Names that begin with a dot are not served.
const (
	uploadName = ".upload"
	dataDir    = uploadName + "/data/"
	stageDir   = uploadName + "/stage/"
	probeDir   = uploadName + "/probe/" // at the root

	writeTimeout = 2 * time.Minute // the time that the store may take for a part of an upload
	partSize     = 5 << 20         // the minimum of S3: an upload needs memory for two parts
	partsAtOnce  = 1
	tailSize     = 1 << 20 // bytes at the end of an upload that stay in memory
)

var _ rekisteri.Store = (*FS)(nil)

// splitDir splits the path of a release's directory into the namespace and the
// rest, which is empty if dir is a namespace.
func splitDir(dir string) (namespace, rest string) {
	namespace, rest, _ = strings.Cut(dir, "/")
	return namespace, rest
}

// stageOf returns the prefix of the keys of the markers of a release, or of a
// namespace.
func stageOf(dir string) string {
	namespace, rest := splitDir(dir)
	if rest != "" {
		rest += "/"
	}
	return namespace + "/" + stageDir + rest
}

// markerOf returns the key of the marker of a staged file.
func markerOf(dir string, s rekisteri.Staged) string {
	return fmt.Sprintf("%s%s-%x-%d-%s", stageOf(dir), path.Base(s.Path), s.SHA256, s.Size, s.Name)
}

// parseMarker reads the key of a marker. dir is the directory of the release.
func parseMarker(key string) (s rekisteri.Staged, dir string, ok bool) {
	namespace, rest := splitDir(key)
	rest, ok = strings.CutPrefix(rest, stageDir)
	fields := strings.SplitN(path.Base(rest), "-", 4)
	if !ok || len(fields) < 4 {
		return s, "", false
	}
	sum, err := hex.DecodeString(fields[1])
	size, sizeErr := strconv.ParseInt(fields[2], 10, 64)
	if err != nil || sizeErr != nil || len(sum) != sha256.Size {
		return s, "", false
	}
	s = rekisteri.Staged{Name: fields[3], Path: namespace + "/" + dataDir + fields[0], Size: size, SHA256: [sha256.Size]byte(sum)}
	return s, namespace + "/" + path.Dir(rest), true
}

// Stage implements [rekisteri.Store].
func (f *FS) Stage(ctx context.Context, dir, name string, content io.Reader, check func(rekisteri.StagedFile) error) (rekisteri.Staged, error) {
	if err := f.Probe(ctx); err != nil {
		return rekisteri.Staged{}, err
	}
	namespace, _ := splitDir(dir)
	// The store's clock has seconds only. The time in the ID orders files that
	// arrive within the same second.
	id := fmt.Sprintf("%016x", time.Now().UnixNano()) + rand.Text()[:10]
	s := rekisteri.Staged{Name: name, Path: namespace + "/" + dataDir + id}
	written, err := f.write(ctx, s.Path, name, content)
	if err != nil {
		return rekisteri.Staged{}, err
	}
	s.Size, s.SHA256 = written.Written()
	if err := check(written); err != nil {
		f.remove(context.WithoutCancel(ctx), s.Path)
		return rekisteri.Staged{}, err
	}
	// If this fails, the object stays: the marker may have been written, and would
	// need it.
	if err := f.put(ctx, markerOf(dir, s), nil, nil); err != nil {
		return rekisteri.Staged{}, err
	}
	s.Time = time.Now()
	return s, nil
}

// A writtenFile is an object that was just written. Its end is kept in memory:
// that is where a zip has its directory.
type writtenFile struct {
	fs   *FS
	key  string
	size int64
	sum  [sha256.Size]byte
	tail []byte
}

// Written implements [rekisteri.StagedFile].
func (w *writtenFile) Written() (int64, [sha256.Size]byte) { return w.size, w.sum }

// ReadAt implements [io.ReaderAt].
func (w *writtenFile) ReadAt(p []byte, offset int64) (int, error) {
	if start := w.size - int64(len(w.tail)); offset >= start {
		return bytes.NewReader(w.tail).ReadAt(p, offset-start)
	}
	f := &file{fs: w.fs, name: w.key}
	return f.ReadAt(p, offset)
}

// write writes an object of any size. If content fails, nothing is written, and
// the error is that of content.
func (f *FS) write(ctx context.Context, key, name string, content io.Reader) (*writtenFile, error) {
	contentType := "application/octet-stream"
	if release.IsZip(name) {
		contentType = "application/zip" // clients get it from the store
	}
	from := &source{Reader: content, written: &writtenFile{fs: f, key: key}, hash: sha256.New()}
	err := f.throttle.do(func() error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		from.cancel = cancel
		from.limit = time.AfterFunc(writeTimeout, func() { cancel(errTimeout) })
		defer from.limit.Stop()
		err := f.bucket.Upload(ctx, key, from, &blob.WriterOptions{ContentType: contentType, BufferSize: partSize, MaxConcurrency: partsAtOnce})
		return timeoutCause(ctx, err)
	})
	switch {
	case from.err != nil:
		return nil, from.err
	case err != nil:
		return nil, failure("write", key, err)
	}
	from.hash.Sum(from.written.sum[:0])
	return from.written, nil
}

// add adds bytes to the end of the file.
func (w *writtenFile) add(p []byte) {
	w.size += int64(len(p))
	w.tail = append(w.tail, p...)
	if len(w.tail) > 2*tailSize {
		w.tail = append(w.tail[:0], w.tail[len(w.tail)-tailSize:]...)
	}
}

// A source is the content of an upload. An error of its reader cancels the
// upload. Otherwise the part that was read before the error would be written.
type source struct {
	io.Reader
	written *writtenFile
	hash    hash.Hash
	limit   *time.Timer // runs while the upload waits for the store
	cancel  context.CancelCauseFunc
	err     error // never io.EOF
}

// Read implements [io.Reader].
func (s *source) Read(p []byte) (int, error) {
	s.limit.Stop()
	n, err := s.Reader.Read(p)
	s.limit.Reset(writeTimeout)
	s.hash.Write(p[:n])
	s.written.add(p[:n])
	if err != nil && err != io.EOF {
		s.err = err
		s.cancel(err)
	}
	return n, err
}

// put writes a small object. Nil options are the defaults.
func (f *FS) put(ctx context.Context, key string, content []byte, opts *blob.WriterOptions) error {
	if opts == nil {
		opts = new(blob.WriterOptions)
	}
	opts.ContentType = "application/octet-stream"
	// Do not use WriteAll or NewWriter: the writer of azureblob panics when an
	// upload fails.
	err := f.request(ctx, func(ctx context.Context) error { return f.bucket.Upload(ctx, key, bytes.NewReader(content), opts) })
	if err != nil {
		return failure("write", key, err)
	}
	return nil
}

// remove deletes an object. It may be gone.
func (f *FS) remove(ctx context.Context, key string) error {
	err := f.request(ctx, func(ctx context.Context) error { return f.bucket.Delete(ctx, key) })
	if err != nil && !isNotFound(err) {
		return failure("delete", key, err)
	}
	return nil
}

// Staged implements [rekisteri.Store].
func (f *FS) Staged(ctx context.Context, dir string) ([]rekisteri.Staged, error) {
	byDir, err := f.staged(ctx, dir)
	if err != nil {
		return nil, err
	}
	var all []rekisteri.Staged
	for _, files := range byDir {
		all = append(all, files...)
	}
	sortStaged(all)
	namespace, rest := splitDir(dir)
	if _, some := f.dangling.Load(namespace); !some || rest == "" {
		return all, nil
	}
	content, err := f.contents(ctx, namespace)
	if err != nil {
		return nil, err
	}
	there := make(map[string]bool)
	for _, o := range content {
		there[o.Key] = true
	}
	n := len(all)
	all = slices.DeleteFunc(all, func(s rekisteri.Staged) bool { return !there[s.Path] })
	if len(all) == n {
		f.dangling.Delete(namespace)
	}
	return all, nil
}

// contents lists the contents of all files that are staged in a namespace.
func (f *FS) contents(ctx context.Context, namespace string) ([]*blob.ListObject, error) {
	prefix := namespace + "/" + dataDir
	all, err := f.list(ctx, prefix, "")
	if err != nil {
		return nil, failure("list", prefix, err)
	}
	return all, nil
}

// noteMissing notes that an object is not there. A marker without its content is
// left by two processes that remove the same stage at once, or by a rule of the
// bucket that deletes old objects. Staged then leaves out such markers, which costs
// a LIST, until there are none.
func (f *FS) noteMissing(name string) {
	if namespace, rest := splitDir(name); strings.HasPrefix(rest, dataDir) {
		f.dangling.Store(namespace, nil)
	}
}

// staged returns the staged files, by the directory of their release.
func (f *FS) staged(ctx context.Context, dir string) (map[string][]rekisteri.Staged, error) {
	markers, err := f.list(ctx, stageOf(dir), "")
	if err != nil {
		return nil, failure("list", stageOf(dir), err)
	}
	all := make(map[string][]rekisteri.Staged)
	for _, m := range markers {
		if s, at, ok := parseMarker(m.Key); ok {
			s.Time = m.ModTime
			all[at] = append(all[at], s)
		}
	}
	for _, files := range all {
		sortStaged(files)
	}
	return all, nil
}

// sortStaged sorts files by their arrival: by the store's clock, which has
// seconds only, and then by the registry's clock, which is in their paths.
func sortStaged(files []rekisteri.Staged) {
	slices.SortFunc(files, func(a, b rekisteri.Staged) int {
		return cmp.Or(a.Time.Truncate(time.Second).Compare(b.Time.Truncate(time.Second)), strings.Compare(a.Path, b.Path))
	})
}

// Discard implements [rekisteri.Store].
func (f *FS) Discard(ctx context.Context, dir string, before time.Time) error {
	byDir, err := f.staged(ctx, dir)
	if err != nil {
		return err
	}
	for at, files := range byDir {
		err = errors.Join(err, f.discard(ctx, at, files, before))
	}
	if _, rest := splitDir(dir); rest != "" || err != nil {
		return err
	}
	return f.discardOrphans(ctx, dir, before)
}

// discard removes the staged files of a release, unless one of them is not older
// than before, or its commit has begun and is not complete.
func (f *FS) discard(ctx context.Context, dir string, files []rekisteri.Staged, before time.Time) error {
	if keep, err := f.mustKeep(ctx, dir, files, before); keep || err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx) // the markers may have to be put back
	if err := each(len(files), func(i int) error { return f.remove(ctx, markerOf(dir, files[i])) }); err != nil {
		return err
	}
	// Since the files were listed, another one may have arrived, and completed the
	// release. A publisher that lists the stage from now on finds it incomplete.
	since, err := f.staged(ctx, dir)
	if err != nil {
		return err
	}
	keep, err := f.mustKeep(ctx, dir, since[dir], before)
	if err != nil {
		return err
	}
	return each(len(files), func(i int) error {
		if keep {
			return f.put(ctx, markerOf(dir, files[i]), nil, nil)
		}
		return f.remove(ctx, files[i].Path)
	})
}

// mustKeep reports whether a stage must not be discarded.
func (f *FS) mustKeep(ctx context.Context, dir string, files []rekisteri.Staged, before time.Time) (bool, error) {
	for _, s := range files {
		if !s.Time.Before(before) {
			return true, nil
		}
	}
	claim, err := f.Claim(ctx, dir)
	if errors.Is(err, errTaken) {
		err = nil
	}
	return claim != nil, err
}

// discardOrphans removes data objects that have no marker. Interrupted uploads
// leave them, and so does a discard that was interrupted.
func (f *FS) discardOrphans(ctx context.Context, namespace string, before time.Time) error {
	data, err := f.contents(ctx, namespace)
	if err != nil {
		return err
	}
	all, err := f.Staged(ctx, namespace)
	if err != nil {
		return err
	}
	marked := make(map[string]bool)
	for _, s := range all {
		marked[s.Path] = true
	}
	for _, o := range data {
		if !marked[o.Key] && o.ModTime.Before(before) {
			err = errors.Join(err, f.remove(ctx, o.Key))
		}
	}
	return err
}
