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
	copyTimeout  = 10 * time.Minute // of one zip, which the store copies itself
	copiesAtOnce = 4

	// A commit that takes longer reads its claim again before it goes on: a
	// process may have been stopped for hours.
	claimFor = 10 * time.Minute
)

// errTaken is the error for a directory that has something other than the release
// that is to be committed.
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
	var claim *rekisteri.Staged
	for _, o := range objects {
		switch path.Base(o.Key) {
		case release.SumsName(typ, version):
			claim = &rekisteri.Staged{Name: path.Base(o.Key), Path: o.Key, Size: o.Size, Time: o.ModTime}
		case release.SignatureName(typ, version):
			return nil, errTaken
		}
	}
	if claim == nil || claim.Size > tree.MaxSmallFile {
		return nil, errTaken
	}
	content, err := fs.ReadFile(f, claim.Path)
	if err != nil {
		return nil, err
	}
	claim.SHA256 = sha256.Sum256(content)
	return claim, nil
}

// Commit implements [rekisteri.Store]. An object store has no rename, so a commit
// has three steps:
//
//  1. Put SHA256SUMS, if there is none. It claims the version for its release,
//     for ever: whoever finds it without its signature completes that release.
//  2. Copy the other files. They have the digests in SHA256SUMS, so it does no
//     harm if several processes copy them.
//  3. Put the signature, if there is none. Readers wait for it.
func (f *FS) Commit(ctx context.Context, dir string, files []rekisteri.Staged) error {
	sums, signature := files[0], files[len(files)-1]
	claim, err := f.Claim(ctx, dir)
	if err != nil {
		return err
	}
	if claim != nil && claim.SHA256 != sums.SHA256 {
		return errTaken
	}
	if claim == nil {
		content, err := fs.ReadFile(f, sums.Path)
		if err == nil {
			err = f.putNew(ctx, dir+"/"+sums.Name, content)
		}
		if errors.Is(err, fs.ErrExist) {
			err = f.checkClaim(dir, sums) // another process may commit the same release
		}
		if err != nil {
			return err
		}
	}
	// From here on, only this release can become this version. It is completed
	// even if the client has gone.
	ctx = context.WithoutCancel(ctx)
	if err := f.copyFiles(ctx, dir, sums, files[1:len(files)-1]); err != nil {
		return err
	}
	content, err := fs.ReadFile(f, signature.Path)
	if err != nil {
		return err
	}
	return f.putNew(ctx, dir+"/"+signature.Name, content)
}

// checkClaim returns nil if a version is claimed for the release with a
// SHA256SUMS.
func (f *FS) checkClaim(dir string, sums rekisteri.Staged) error {
	content, err := fs.ReadFile(f, dir+"/"+sums.Name)
	if err != nil {
		return err
	}
	if sha256.Sum256(content) != sums.SHA256 {
		return errTaken
	}
	return nil
}

// copyFiles copies staged files to the directory of their release.
func (f *FS) copyFiles(ctx context.Context, dir string, sums rekisteri.Staged, files []rekisteri.Staged) error {
	claimed := time.Now()
	errs := make([]error, len(files))
	tokens := make(chan struct{}, copiesAtOnce)
	var group sync.WaitGroup
	for i, s := range files {
		tokens <- struct{}{}
		if time.Since(claimed) > claimFor {
			if err := f.checkClaim(dir, sums); err != nil {
				errs[i] = err
				break
			}
			claimed = time.Now()
		}
		group.Go(func() {
			defer func() { <-tokens }()
			errs[i] = f.copy(ctx, dir+"/"+s.Name, s.Path)
		})
	}
	group.Wait()
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

// commitKey is the metadata that tells by which call an object was written.
const commitKey = "rekisteri-commit"

// putNew writes a small object if there is none with its key. Otherwise its error
// matches [fs.ErrExist].
//
// An error of the store proves nothing: the object may have been written and the
// reply lost, and the second attempt of a client library then fails because of
// the first. So putNew looks at what is there.
func (f *FS) putNew(ctx context.Context, key string, content []byte) error {
	id := rand.Text()
	err := f.put(ctx, key, content, &blob.WriterOptions{IfNotExist: true, Metadata: map[string]string{commitKey: id}})
	if err == nil {
		return nil
	}
	var there *blob.Attributes
	lookErr := f.request(ctx, func(ctx context.Context) (err error) {
		there, err = f.bucket.Attributes(ctx, key)
		return err
	})
	switch {
	case lookErr != nil:
		return err
	case there.Metadata[commitKey] != id:
		return errTaken
	}
	return nil
}

// Probe returns nil if releases can be published to the bucket. It writes an
// object twice, of which the store must refuse the second one, and deletes it.
// Once Probe has returned nil, further calls do nothing.
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
