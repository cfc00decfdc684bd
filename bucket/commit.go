package bucket

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/release"
	"github.com/rekisteri/rekisteri/internal/tree"
	"gocloud.dev/blob"
)

const (
	copyTimeout    = 10 * time.Minute // of one zip, which the store copies itself
	claimFor       = 10 * time.Minute // a commit reads its claim again after that
	requestsAtOnce = 4
)

// errTaken is the error for a directory in which there is something other than the
// release that is being committed.
var errTaken = fmt.Errorf("something is there already: %w", fs.ErrExist)

// Claim implements [rekisteri.Store]. A claim is a SHA256SUMS without its
// signature.
func (f *FS) Claim(ctx context.Context, dir string) (*rekisteri.Staged, error) {
	objects, err := f.list(ctx, dir+"/", "/")
	if err != nil {
		return nil, failure("list", dir, err)
	}
	if len(objects) == 0 {
		return nil, nil
	}
	version, typ := path.Base(dir), path.Base(path.Dir(dir))
	var sums *rekisteri.Staged
	for _, o := range objects {
		switch path.Base(o.Key) {
		case release.SumsName(typ, version):
			sums = &rekisteri.Staged{Name: path.Base(o.Key), Path: o.Key, Size: o.Size, Time: o.ModTime}
		case release.SignatureName(typ, version):
			return nil, errTaken
		}
	}
	if sums == nil || sums.Size > tree.MaxSmallFile {
		return nil, errTaken
	}
	content, err := fs.ReadFile(f, sums.Path)
	if err != nil {
		return nil, err
	}
	sums.SHA256 = sha256.Sum256(content)
	return sums, nil
}

// Commit implements [rekisteri.Store]. An object store has no rename, so a commit
// has three steps:
//
//  1. Put SHA256SUMS, if there is none. It claims the version for its release,
//     for ever: a process that finds it without its signature can publish only
//     that release.
//  2. Copy the other files. They have the digests in SHA256SUMS, so it does no
//     harm if several processes copy them.
//  3. Put the signature, if there is none. Readers wait for it.
func (f *FS) Commit(ctx context.Context, dir string, files []rekisteri.Staged) error {
	// Once the version is claimed, no other release can be published under it. A
	// commit therefore goes on when the client hangs up.
	ctx = context.WithoutCancel(ctx)
	sums, rest, signature := files[0], files[1:len(files)-1], files[len(files)-1]
	c := &claim{fs: f, path: dir + "/" + sums.Name, sum: sums.SHA256}
	if err := f.putClaim(ctx, dir, sums, c); err != nil {
		return err
	}
	err := each(len(rest), func(i int) error {
		if err := c.renew(); err != nil {
			return err
		}
		return f.copy(ctx, dir+"/"+rest[i].Name, rest[i].Path)
	})
	if err != nil {
		return err
	}
	content, err := fs.ReadFile(f, signature.Path)
	if err == nil {
		err = c.renew()
	}
	if err != nil {
		return err
	}
	return f.putNew(ctx, dir+"/"+signature.Name, content)
}

// putClaim claims a version for a release, unless that was done before.
func (f *FS) putClaim(ctx context.Context, dir string, sums rekisteri.Staged, c *claim) error {
	there, err := f.Claim(ctx, dir)
	if err != nil {
		return err
	}
	if there == nil {
		content, err := fs.ReadFile(f, sums.Path)
		if err != nil {
			return err
		}
		now := time.Now()
		switch err := f.putNew(ctx, c.path, content); {
		case err == nil:
			c.read = now
		case !errors.Is(err, fs.ErrExist):
			return err
		}
	}
	return c.renew() // the claim may be that of another release
}

// A claim is a SHA256SUMS that was put to claim a version for its release.
type claim struct {
	fs   *FS
	path string
	sum  [sha256.Size]byte

	mu   sync.Mutex
	read time.Time // when it was last written or read; zero: never
}

// renew returns nil if the version is still claimed for the release. It reads
// the claim if that was not done within claimFor: if the process was stopped for
// hours, the version may have been deleted and published again.
func (c *claim) renew() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.read) < claimFor {
		return nil
	}
	now := time.Now()
	content, err := fs.ReadFile(c.fs, c.path)
	if err != nil {
		return err
	}
	if sha256.Sum256(content) != c.sum {
		return errTaken
	}
	c.read = now
	return nil
}

// each calls do with every number from 0 to n-1, several at a time.
func each(n int, do func(i int) error) error {
	errs := make([]error, n)
	tree.NewPool(requestsAtOnce).Each(n, func(i int) { errs[i] = do(i) })
	return errors.Join(errs...)
}

// copy copies an object within the store.
func (f *FS) copy(ctx context.Context, to, from string) error {
	err := f.throttle.do(func() error {
		ctx, cancel := context.WithTimeoutCause(ctx, copyTimeout, errTimeout)
		defer cancel()
		return timeoutCause(ctx, f.bucket.Copy(ctx, to, from, nil))
	})
	if isNotFound(err) {
		return f.missing("copy", from)
	}
	if err != nil {
		return failure("copy", from, err)
	}
	return nil
}

// commitKey is the key of the metadata that says which call wrote an object.
const commitKey = "rekisteri-commit"

// putNew writes a small object if there is none with its key. Otherwise its error
// matches [fs.ErrExist].
//
// An error of the store proves nothing: the object may have been written and the
// reply lost, and the second attempt of a client library then fails because of
// the first. So putNew reads the metadata of the object.
func (f *FS) putNew(ctx context.Context, key string, content []byte) error {
	id := rand.Text()
	err := f.put(ctx, key, content, &blob.WriterOptions{IfNotExist: true, Metadata: map[string]string{commitKey: id}})
	if err == nil {
		return nil
	}
	var there *blob.Attributes
	readErr := f.request(ctx, func(ctx context.Context) (err error) {
		there, err = f.bucket.Attributes(ctx, key)
		return err
	})
	switch {
	case readErr != nil:
		return err
	case there.Metadata[commitKey] != id:
		return errTaken
	}
	return nil
}

// Probe returns nil if releases can be published to the bucket. It writes an
// object twice, and then deletes it. The store must refuse the second write. Once
// Probe has returned nil, further calls do nothing.
//
// [FS.Stage] calls Probe. A server should call it when it starts.
func (f *FS) Probe(ctx context.Context) error {
	if f.probed.Load() {
		return nil
	}
	key := probeDir + strings.ToLower(rand.Text())
	if err := f.put(ctx, key, []byte("first"), &blob.WriterOptions{IfNotExist: true}); err != nil {
		return err
	}
	defer f.remove(context.WithoutCancel(ctx), key)
	err := f.putNew(ctx, key, []byte("second"))
	switch {
	case err == nil:
		return &rekisteri.UploadError{
			Detail: "the registry cannot publish: its object store ignores the conditions of writes (If-None-Match), so two uploads could overwrite each other; its operator must use another store",
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	f.probed.Store(true)
	return nil
}
