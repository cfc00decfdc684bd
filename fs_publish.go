package rekisteri

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rekisteri/rekisteri/internal/release"
)

const (
	// A release that is staged and still incomplete after this time without
	// another file is logged.
	incompleteAfter = time.Minute

	// Incomplete uploads may be removed after this time.
	stageFor   = 24 * time.Hour
	sweepEvery = time.Hour

	// Limits of what may be staged in a namespace.
	maxStagedBytes = 64 << 30
	maxStagedFiles = 5000
)

// Publisher returns a [Publisher] that publishes releases to the backend's tree,
// through [FSOptions.Store]. It returns nil without a Store.
//
// The namespace must exist and hold the signing key. A release is complete when
// it has SHA256SUMS, a valid signature of that, every zip that SHA256SUMS
// names, and the manifest if SHA256SUMS names one. The release is then visible
// at once in this backend, and in others over the same tree within a second more
// than their [FSOptions.RefreshEvery].
func (b *FSBackend) Publisher() Publisher {
	if b.store == nil {
		return nil
	}
	return &fsPublisher{FSBackend: b, pending: make(map[string]*time.Timer), swept: make(map[string]time.Time)}
}

// An fsPublisher publishes to the tree of a backend.
type fsPublisher struct {
	*FSBackend

	mu      sync.Mutex
	pending map[string]*time.Timer // of staged releases, by their directories
	swept   map[string]time.Time   // when a namespace was last swept
}

// Publish implements [Publisher].
func (u *fsPublisher) Publish(ctx context.Context, p Provider, version, name string, content io.Reader) (*Receipt, error) {
	up := upload{Provider: p, version: version, dir: p.String() + "/" + version}
	up.from, _ = ctx.Value(uploaderKey{}).(uploader)
	var err error
	if up.keys, err = u.signingRing(ctx, p); err != nil {
		return nil, err
	}
	if receipt, err := u.alreadyPublished(ctx, up, name, content); receipt != nil || err != nil {
		return receipt, err
	}
	u.sweep(ctx, p.Namespace)
	if err := u.checkRoom(ctx, p.Namespace); err != nil {
		return nil, err
	}
	staged, err := u.store.Stage(ctx, up.dir, name, content, func(f StagedFile) error { return up.checkFile(name, f) })
	if err != nil {
		return nil, storeError(err)
	}
	receipt, err := u.complete(ctx, up, &staged)
	if err == nil && receipt.State == StateStaged {
		u.watch(up)
	}
	return receipt, storeError(err)
}

// storeError returns an error of the store. A store that is not writable
// becomes an UploadError.
func storeError(err error) error {
	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
		// Not a 5xx: clients would try again for half an hour.
		return &UploadError{Detail: "the registry cannot write to where it stores releases: ask its operator to allow it, or to turn publishing off", Err: err}
	}
	return err
}

// signingRing returns the keys that releases of a provider may be signed with.
func (u *fsPublisher) signingRing(ctx context.Context, p Provider) (*ring, error) {
	state, err := u.get(ctx, scope{Provider: p})
	if err == nil || state != nil && state.keys != nil {
		return state.keys, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	root, err := u.tree.root.Get(ctx)
	if err == nil {
		err = root.err
	}
	if err != nil {
		return nil, err
	}
	var keys map[string]*keyFile
	if _, ok := root.namespaces[p.Namespace]; ok {
		dir, err := u.tree.namespace(p.Namespace).dir.Get(ctx)
		if err != nil {
			return nil, err
		}
		keys = dir.keys
	}
	ring := newRing(keys)
	if len(ring.Keys()) == 0 {
		if ring.lost != nil {
			return nil, ring.lost
		}
		return nil, &UploadError{Detail: fmt.Sprintf("the registry has no signing key for the namespace %s: its operator must add the public key to the tree first, as %s/<name>.asc", p.Namespace, p.Namespace)}
	}
	return ring, nil
}

// alreadyPublished returns a receipt, or an error, if the version is published.
// In that case, it reads content to its end.
func (u *fsPublisher) alreadyPublished(ctx context.Context, up upload, name string, content io.Reader) (*Receipt, error) {
	c, err := u.contentWith(ctx, up.Provider, up.version)
	if errors.Is(err, fs.ErrNotExist) || err == nil && c.releases[up.version] == nil && c.lost == nil {
		return nil, nil
	}
	if err == nil && c.releases[up.version] == nil {
		err = c.lost
	}
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	var small strings.Builder
	to := io.Writer(h)
	if !release.IsZip(name) {
		to = io.MultiWriter(h, &small)
	}
	if _, err := io.Copy(to, content); err != nil {
		return nil, err
	}
	if u.same(up, c.stored[up.version], name, [sha256.Size]byte(h.Sum(nil)), small.String()) {
		return &Receipt{State: StateUnchanged}, nil
	}
	return nil, conflict(up, name)
}

// conflict is the error for a file that would change a published release.
func conflict(up upload, name string) error {
	return &UploadError{Detail: fmt.Sprintf("%v %s is published already, and this %s is not the one in it: a published version never changes; release a new version", up.Provider, up.version, name), Err: fs.ErrExist}
}

// same reports whether a published release has a file with these bytes. It also
// accepts another valid signature of the same SHA256SUMS, since a pipeline that
// runs again signs again.
func (u *fsPublisher) same(up upload, r *storedRelease, name string, sum [sha256.Size]byte, small string) bool {
	if r == nil { // served from a document
		return false
	}
	switch name {
	case r.sumsName:
		return sum == sha256.Sum256([]byte(r.sums))
	case r.sumsName + ".sig":
		if sum == sha256.Sum256([]byte(r.signature)) {
			return true
		}
		_, err := up.keys.Verify([]byte(r.sums), []byte(small), time.Now())
		return err == nil
	}
	sums, err := release.ParseSums(r.sums)
	if err != nil {
		return false
	}
	want, named := sums.Of(name)
	if !named { // a manifest that is not a part of the release
		return !release.IsZip(name)
	}
	return want == sum
}

// sweep removes what was staged in a namespace and never completed.
func (u *fsPublisher) sweep(ctx context.Context, namespace string) {
	now := time.Now()
	u.mu.Lock()
	due := now.Sub(u.swept[namespace]) >= sweepEvery
	if due {
		u.swept[strings.Clone(namespace)] = now
	}
	u.mu.Unlock()
	if !due {
		return
	}
	if err := u.store.Discard(ctx, namespace, now.Add(-stageFor)); err != nil {
		u.log.Warn("uploads that were never completed cannot be removed; they use space in the tree", "namespace", namespace, "error", err)
	}
}

// checkRoom returns nil if more may be staged in a namespace.
func (u *fsPublisher) checkRoom(ctx context.Context, namespace string) error {
	all, err := u.store.Staged(ctx, namespace)
	if err != nil {
		return err
	}
	var bytes int64
	for _, s := range all {
		bytes += s.Size
	}
	if bytes > maxStagedBytes || len(all) > maxStagedFiles {
		return &UploadError{Detail: fmt.Sprintf("there are too many incomplete uploads in the namespace %s (%d files, %d MiB): complete those releases, or wait a day", namespace, len(all), bytes>>20)}
	}
	return nil
}

// errStageGone says that a staged file is not there any more: another publisher
// has committed the release, or the stage was swept.
var errStageGone = errors.New("the uploaded file was removed before the release was complete")

// errClaimed says that another publisher has begun to commit another release of
// the same version.
var errClaimed = errors.New("another upload of the same version is being published")

// complete publishes a release if what is staged of it is complete. own is the
// file that was staged last, or nil.
func (u *fsPublisher) complete(ctx context.Context, up upload, own *Staged) (receipt *Receipt, err error) {
	for range 3 {
		receipt, err = u.tryComplete(ctx, up, own)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = errStageGone
		case err != errStageGone && err != errClaimed:
			return receipt, err
		}
	}
	return receipt, err
}

func (u *fsPublisher) tryComplete(ctx context.Context, up upload, own *Staged) (*Receipt, error) {
	claim, err := u.store.Claim(ctx, up.dir)
	if errors.Is(err, fs.ErrExist) {
		return u.published(ctx, up, own)
	}
	if err != nil {
		return nil, err
	}
	all, err := u.store.Staged(ctx, up.dir)
	if err != nil {
		return nil, err
	}
	if own != nil && !slices.ContainsFunc(all, func(s Staged) bool { return s.Path == own.Path }) {
		return nil, errStageGone
	}
	var files []Staged
	var missing []string
	if claim != nil {
		files, missing, err = u.judgeClaim(up, *claim, all, own)
	} else {
		files, missing, err = up.judge(u.store, all)
	}
	if err != nil {
		return nil, err
	}
	if files == nil {
		return &Receipt{State: StateStaged, Missing: missing}, nil
	}
	if err := u.refresh(ctx, up); err != nil {
		return nil, err
	}
	if c, err := u.contentWith(ctx, up.Provider, up.version); err == nil && c.releases[up.version] != nil {
		return u.published(ctx, up, own) // from another directory, or a document
	}
	commitErr := u.store.Commit(ctx, up.dir, files)
	if commitErr == nil {
		u.log.Info("a release was published", up.attrs()...)
	}
	if errors.Is(commitErr, fs.ErrExist) {
		if claim, err := u.store.Claim(ctx, up.dir); claim != nil && err == nil {
			return nil, errClaimed // by another publisher, meanwhile: complete that
		}
	}
	// A commit that returned an error may have taken effect, or another publisher
	// may have committed: the answer depends on what is published now. If a staged
	// file was replaced during the commit, complete tries again.
	receipt, err := u.published(ctx, up, own)
	_, isUpload := errors.AsType[*UploadError](err)
	if err != nil && (!isUpload || commitErr != nil && !errors.Is(commitErr, fs.ErrExist)) {
		return nil, cmp.Or(commitErr, err)
	}
	if commitErr == nil {
		u.discard(up)
		if err == nil {
			receipt.State = StatePublished
		}
	}
	return receipt, err
}

// judgeClaim returns the files of a release whose commit is not complete, or what
// is no longer staged of it. An error says that own does not belong to it.
func (u *fsPublisher) judgeClaim(up upload, claim Staged, all []Staged, own *Staged) (files []Staged, missing []string, err error) {
	conflict := &UploadError{Err: fs.ErrExist, Detail: fmt.Sprintf("another build of %v %s was uploaded, and its publication was interrupted: only its own files can complete it. "+
		"Upload the files of that build again (the SHA-256 of its SHA256SUMS begins with %x), or release a new version. "+
		"If that build is lost, the registry's operator can delete what is at %s in the registry's tree", up.Provider, up.version, claim.SHA256[:6], up.dir)}
	files, missing, err = up.choose(u.store, claim, all, byContent(all))
	if _, ok := errors.AsType[*UploadError](err); ok { // clients could not read it
		return nil, nil, conflict
	}
	if err != nil || len(missing) == 0 {
		return files, nil, err
	}
	if own != nil {
		sums, err := fs.ReadFile(u.store, claim.Path)
		if err != nil {
			return nil, nil, err
		}
		small, err := u.smallContent(own)
		if err != nil {
			return nil, nil, err
		}
		if r := (&storedRelease{sumsName: claim.Name, sums: string(sums)}); !u.same(up, r, own.Name, own.SHA256, small) {
			return nil, nil, conflict
		}
	}
	return nil, missing, nil
}

// smallContent returns the content of a staged file that is not a zip. It is
// empty if the file is gone with its stage.
func (u *fsPublisher) smallContent(f *Staged) (string, error) {
	if release.IsZip(f.Name) {
		return "", nil
	}
	text, err := fs.ReadFile(u.store, f.Path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	return string(text), nil
}

// discard removes the stage of a published release.
func (u *fsPublisher) discard(up upload) {
	if err := u.store.Discard(context.Background(), up.dir, time.Now().Add(stageFor)); err != nil {
		u.log.Warn("the uploaded files of a published release cannot be removed; they use space in the tree",
			"provider", up.Provider.String(), "version", up.version, "error", err)
	}
}

// refresh makes the backend read a release again. What is in memory, or is being
// loaded, may be older. If refresh returns an error, a release that is not in
// memory may be published all the same.
func (u *fsPublisher) refresh(ctx context.Context, up upload) error {
	defer u.await(up.dir)()
	called := time.Now()
	_, _, err := u.tree.reread(ctx, up.Provider)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // this is its first release
	}
	for _, s := range []scope{{Provider: up.Provider}, {up.Provider, up.version}} {
		l, ok := u.cache.Get(s)
		if !ok {
			continue
		}
		read, loadErr := l.Reload(ctx)
		if loadErr == nil && !read.gone && (read.asOf.Before(called) || read.unread != nil) {
			loadErr = errors.New("the provider cannot be read again")
		}
		err = cmp.Or(err, loadErr)
	}
	return err
}

// published returns the answer for an uploaded file if the release is published
// already, or something else is in its place.
func (u *fsPublisher) published(ctx context.Context, up upload, own *Staged) (*Receipt, error) {
	refreshErr := u.refresh(ctx, up)
	c, err := u.contentWith(ctx, up.Provider, up.version)
	if err == nil && c.releases[up.version] == nil {
		err = cmp.Or(refreshErr, c.lost)
		if err == nil {
			return nil, &UploadError{Detail: fmt.Sprintf("there is something at %s in the registry's tree that is not a complete release: its operator must remove it", up.dir), Err: fs.ErrExist}
		}
	}
	if err != nil {
		return nil, outage{err}
	}
	if own == nil {
		return &Receipt{State: StateUnchanged}, nil
	}
	small, err := u.smallContent(own)
	if err != nil {
		return nil, err
	}
	if u.same(up, c.stored[up.version], own.Name, own.SHA256, small) {
		return &Receipt{State: StateUnchanged}, nil
	}
	return nil, conflict(up, own.Name)
}

// watch waits until no file of a staged release has arrived for
// incompleteAfter. Then it tries again to complete the release, and logs what
// is missing. Otherwise nobody would notice that the release is not published.
func (u *fsPublisher) watch(up upload) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if timer := u.pending[up.dir]; timer != nil {
		timer.Reset(incompleteAfter)
		return
	}
	up.Provider = scope{Provider: up.Provider}.clone().Provider
	up.dir, up.version = strings.Clone(up.dir), strings.Clone(up.version)
	u.pending[up.dir] = time.AfterFunc(incompleteAfter, func() {
		u.mu.Lock()
		delete(u.pending, up.dir)
		u.mu.Unlock()
		log := u.log.With(up.attrs()...)
		receipt, err := u.complete(context.Background(), up, nil)
		switch {
		case err != nil:
			log.Warn("an uploaded release cannot be published, so clients do not get it: fix the cause, and upload all files again", "error", err)
		case receipt.State == StateStaged:
			log.Warn("an uploaded release is incomplete, so clients do not get it: upload the missing files", "missing", strings.Join(receipt.Missing, ", "))
		}
	})
}
