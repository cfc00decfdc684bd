package rekisteri

import (
	"archive/zip"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rekisteri/rekisteri/internal/openpgp"
	"github.com/rekisteri/rekisteri/internal/release"
)

const (
	// A release that is staged and still incomplete after this time without
	// another file is logged.
	incompleteAfter = time.Minute

	// What is staged and never completed is removed after this time.
	stageFor   = 24 * time.Hour
	sweepEvery = time.Hour

	// What may be staged in a namespace.
	maxStagedBytes = 64 << 30
	maxStagedFiles = 5000
)

// Publisher returns a [Publisher] that publishes releases to the backend's tree,
// through [FSOptions.Store]. It returns nil without a Store.
//
// The namespace must exist and hold the signing key. A release is complete when
// its SHA256SUMS, a signature of that which verifies, every zip that it names,
// and the manifest if it names one are there. It is then visible at once in this
// backend, and within two seconds in others over the same tree.
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

// An upload is a release that files are uploaded of.
type upload struct {
	Provider
	version string
	dir     string
	keys    *ring
}

// Publish implements [Publisher].
func (u *fsPublisher) Publish(ctx context.Context, p Provider, version, name string, content io.Reader) (*Receipt, error) {
	up := upload{Provider: p, version: version, dir: p.String() + "/" + version}
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

// storeError returns an error of the store as a client should see it.
func storeError(err error) error {
	if errors.Is(err, syscall.EROFS) || errors.Is(err, fs.ErrPermission) {
		// Not a 5xx: clients would try again for half an hour.
		return &UploadError{Detail: "the registry may not write to its directory: ask its operator to make it writable, or to turn publishing off", Err: err}
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
		return nil, &UploadError{Detail: fmt.Sprintf("the registry has no signing key for the namespace %s: its operator must add the public key to the tree first, as %s/<name>.asc", p.Namespace, p.Namespace)}
	}
	return ring, nil
}

// checkFile returns nil if a file can belong to a release, as far as the file
// alone tells. It is called before the file is staged.
func (up *upload) checkFile(name string, f StagedFile) error {
	size, _ := f.Written()
	if release.IsZip(name) {
		return up.checkZip(name, f, size)
	}
	content := make([]byte, size)
	if _, err := f.ReadAt(content, 0); err != nil && err != io.EOF {
		return err
	}
	switch name {
	case release.SumsName(up.Type, up.version):
		_, err := up.parseSums(string(content))
		return err
	case release.SignatureName(up.Type, up.version):
		return up.checkSignature(content)
	}
	_, err := release.ParseManifest(string(content))
	if err != nil {
		return &UploadError{Detail: "the manifest is refused: " + err.Error()}
	}
	return nil
}

func (up *upload) checkZip(name string, f io.ReaderAt, size int64) error {
	z, err := zip.NewReader(f, size)
	if err != nil {
		return &UploadError{Detail: name + " is not a whole zip: " + err.Error()}
	}
	if !slices.ContainsFunc(z.File, func(f *zip.File) bool { return release.IsBinary(f.Name, up.Type) }) {
		return &UploadError{Detail: fmt.Sprintf("%s does not have a file terraform-provider-%s at its root, where clients look for it: set binary: '{{ .ProjectName }}_v{{ .Version }}' in .goreleaser.yaml", name, up.Type)}
	}
	return nil
}

// parseSums reads a SHA256SUMS file, which must name the release's own files.
func (up *upload) parseSums(text string) (*release.Sums, error) {
	name := release.SumsName(up.Type, up.version)
	sums, err := release.ParseSums(text)
	if err != nil {
		return nil, &UploadError{Detail: "clients cannot read " + name + ": " + err.Error()}
	}
	zips := 0
	for _, sum := range sums.Files {
		if release.IsZip(sum.Name) {
			zips++
			if err := checkUploadName(up.Provider, up.version, sum.Name); err != nil {
				return nil, &UploadError{Detail: fmt.Sprintf("%s names %s, which is not a file of %v %s", name, sum.Name, up.Provider, up.version)}
			}
		}
	}
	if zips == 0 {
		return nil, &UploadError{Detail: name + " names no zip"}
	}
	return sums, nil
}

// checkSignature returns nil if a signature is by a key that clients accept.
// Whether it fits SHA256SUMS is for later.
func (up *upload) checkSignature(signature []byte) error {
	signed, err := openpgp.ReadSignatures(signature)
	if errors.Is(err, openpgp.ErrArmored) {
		return &UploadError{Detail: "the signature is armored, and clients read only binary ones: sign with gpg --detach-sign, without --armor"}
	}
	if err != nil {
		return &UploadError{Detail: "clients cannot read the signature: " + err.Error()}
	}
	faults, _ := up.keys.Judge(signed, time.Now())
	for _, f := range faults {
		switch f.Kind {
		case openpgp.UnknownKey:
			return &UploadError{Detail: fmt.Sprintf("the registry does not know the signing key %s: its operator must add the public key to the tree first, as %s/<name>.asc (gpg --armor --export %s)", f.KeyID, up.Namespace, f.KeyID)}
		case openpgp.RevokedKey:
			return &UploadError{Detail: "the signing key " + f.KeyID + " is revoked, and clients refuse what it signs: sign with another key"}
		case openpgp.ExpiredKey, openpgp.ExpiredSubkey:
			return &UploadError{Detail: "the signing key " + f.KeyID + " expired on " + f.When.Format(time.DateOnly) + ": extend it (gpg --quick-set-expire), and have the registry's operator replace it in the tree"}
		case openpgp.ExpiredSignature:
			return &UploadError{Detail: "the signature expired on " + f.When.Format(time.DateOnly) + ": sign without an expiry"}
		}
	}
	return nil
}

// alreadyPublished returns a receipt, or an error, if the version is published.
// It reads content to its end then.
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
	return &UploadError{Detail: fmt.Sprintf("%v %s is published already, with another %s: a published version never changes; release a new version", up.Provider, up.version, name), Err: fs.ErrExist}
}

// same reports whether a published release has a file, or, for the signature,
// another valid one of the same SHA256SUMS: whoever releases again signs again.
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
		u.log.Warn("uploads that were never completed cannot be removed; they take room in the tree", "namespace", namespace, "error", err)
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
		return &UploadError{Detail: fmt.Sprintf("too much is uploaded to the namespace %s and not complete (%d files, %d MiB): complete those releases, or wait a day", namespace, len(all), bytes>>20)}
	}
	return nil
}

// errStageGone says that a staged file is not there any more: another publisher
// has committed the release, or the stage was swept.
var errStageGone = errors.New("the uploaded file was removed before the release was complete")

// complete publishes a release if what is staged of it is complete. own is the
// file that was staged last, or nil.
func (u *fsPublisher) complete(ctx context.Context, up upload, own *Staged) (receipt *Receipt, err error) {
	for range 3 {
		receipt, err = u.tryComplete(ctx, up, own)
		if !errors.Is(err, errStageGone) && !errors.Is(err, fs.ErrNotExist) {
			break
		}
		err = errStageGone
	}
	return receipt, err
}

func (u *fsPublisher) tryComplete(ctx context.Context, up upload, own *Staged) (*Receipt, error) {
	if _, err := fs.Stat(u.store, up.dir); err == nil {
		return u.published(ctx, up, own)
	}
	all, err := u.store.Staged(ctx, up.dir)
	if err != nil {
		return nil, err
	}
	if own != nil && !slices.ContainsFunc(all, func(s Staged) bool { return s.Path == own.Path }) {
		return nil, errStageGone
	}
	files, missing, err := u.judge(up, all)
	if err != nil {
		return nil, err
	}
	if files == nil {
		return &Receipt{State: StateStaged, Missing: missing}, nil
	}
	u.refresh(ctx, up.Provider)
	if c, err := u.contentWith(ctx, up.Provider, up.version); err == nil && c.releases[up.version] != nil {
		return u.published(ctx, up, own) // from another directory, or a document
	}
	commitErr := u.store.Commit(ctx, up.dir, files)
	if commitErr == nil {
		u.log.Info("a release was published", "provider", up.Provider.String(), "version", up.version)
	}
	// A commit that failed may have succeeded, or another publisher's may have:
	// what is published decides the answer.
	receipt, err := u.published(ctx, up, own)
	if _, isUpload := errors.AsType[*UploadError](err); err != nil && !isUpload {
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

// discard removes the stage of a published release.
func (u *fsPublisher) discard(up upload) {
	if err := u.store.Discard(context.Background(), up.dir, time.Now().Add(stageFor)); err != nil {
		u.log.Warn("the uploaded files of a published release cannot be removed; they take room in the tree",
			"provider", up.Provider.String(), "version", up.version, "error", err)
	}
}

// refresh has the backend notice a new release.
func (u *fsPublisher) refresh(ctx context.Context, p Provider) {
	u.tree.recheck(ctx, p)
	if l, ok := u.cache.Get(scope{Provider: p}); ok {
		l.Reload(ctx)
	}
}

// published returns the answer to whoever staged a file of a release that is
// published, or of which something else is in the way.
func (u *fsPublisher) published(ctx context.Context, up upload, own *Staged) (*Receipt, error) {
	u.refresh(ctx, up.Provider)
	c, err := u.contentWith(ctx, up.Provider, up.version)
	if err == nil && c.releases[up.version] == nil {
		err = c.lost
		if err == nil {
			return nil, &UploadError{Detail: fmt.Sprintf("there is something at %s in the registry's tree that is not a whole release: its operator must remove it", up.dir), Err: fs.ErrExist}
		}
	}
	if err != nil {
		return nil, outage{err}
	}
	if own == nil {
		return &Receipt{State: StateUnchanged}, nil
	}
	small := ""
	if !release.IsZip(own.Name) {
		text, err := fs.ReadFile(u.store, own.Path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // it may have gone with the stage
			return nil, err
		}
		small = string(text)
	}
	if u.same(up, c.stored[up.version], own.Name, own.SHA256, small) {
		return &Receipt{State: StateUnchanged}, nil
	}
	return nil, conflict(up, own.Name)
}

// judge returns the files of a complete release among what is staged, or what
// the release that is being uploaded still lacks. An error says that the files
// of that release contradict each other.
func (u *fsPublisher) judge(up upload, all []Staged) (files []Staged, missing []string, err error) {
	sumsName, signatureName := release.SumsName(up.Type, up.version), release.SignatureName(up.Type, up.version)
	staged := make(map[string]Staged)  // by name and digest
	current := make(map[string]Staged) // by name
	for _, s := range all {
		staged[s.Name+" "+hex.EncodeToString(s.SHA256[:])] = s
		if before, ok := current[s.Name]; ok && before.SHA256 != s.SHA256 {
			// Another run of the release tool, of a build with other files: what
			// came before does not belong to it.
			clear(current)
		}
		current[s.Name] = s
	}
	for _, s := range slices.Backward(all) {
		if s.Name != sumsName {
			continue
		}
		files, lacks, err := u.choose(up, s, all, staged)
		if err != nil {
			return nil, nil, err
		}
		if len(lacks) == 0 {
			return files, nil, nil
		}
		if current[sumsName].Path == s.Path {
			missing = lacks
		}
	}
	if missing == nil {
		for _, name := range []string{sumsName, signatureName} {
			if _, ok := current[name]; !ok {
				missing = append(missing, name)
			}
		}
		return nil, missing, nil
	}
	return nil, missing, u.contradiction(up, current)
}

// choose returns the files of the release that a staged SHA256SUMS describes, as
// Commit takes them, and the names of those that are not staged.
func (u *fsPublisher) choose(up upload, s Staged, all []Staged, staged map[string]Staged) (files []Staged, lacks []string, err error) {
	text, err := fs.ReadFile(u.store, s.Path)
	if err != nil {
		return nil, nil, err
	}
	sums, err := up.parseSums(string(text))
	if err != nil {
		return nil, nil, err
	}
	files = []Staged{s}
	for _, sum := range sums.Files {
		if !release.IsZip(sum.Name) && sum.Name != release.ManifestName(up.Type, up.version) {
			continue // clients do not need it
		}
		f, ok := staged[sum.Name+" "+hex.EncodeToString(sum.SHA256[:])]
		if !ok {
			lacks = append(lacks, sum.Name)
			continue
		}
		files = append(files, f)
	}
	for _, f := range slices.Backward(all) {
		if f.Name != release.SignatureName(up.Type, up.version) {
			continue
		}
		signature, err := fs.ReadFile(u.store, f.Path)
		if err != nil {
			return nil, nil, err
		}
		if _, err := up.keys.Verify(text, signature, time.Now()); err == nil {
			return append(files, f), lacks, nil
		}
	}
	return nil, append(lacks, release.SignatureName(up.Type, up.version)), nil
}

// contradiction returns an error if the files of one upload cannot be completed
// any more: every file is there, and one has another sum, or the signature does
// not verify.
func (u *fsPublisher) contradiction(up upload, current map[string]Staged) error {
	text, err := fs.ReadFile(u.store, current[release.SumsName(up.Type, up.version)].Path)
	if err != nil {
		return err
	}
	sums, err := up.parseSums(string(text))
	if err != nil {
		return err
	}
	if f, ok := current[release.SignatureName(up.Type, up.version)]; ok {
		signature, err := fs.ReadFile(u.store, f.Path)
		if err != nil {
			return err
		}
		if _, err := up.keys.Verify(text, signature, time.Now()); err != nil {
			return &UploadError{Detail: err.Error()}
		}
	}
	var wrong []string
	for _, sum := range sums.Files {
		if !release.IsZip(sum.Name) && sum.Name != release.ManifestName(up.Type, up.version) {
			continue
		}
		f, ok := current[sum.Name]
		if !ok {
			return nil
		}
		if f.SHA256 != sum.SHA256 {
			wrong = append(wrong, sum.Name)
		}
	}
	if len(wrong) > 0 {
		return &UploadError{Detail: "the sum in SHA256SUMS is not that of the uploaded file: " + strings.Join(wrong, ", ") + "; upload the files of one build"}
	}
	return nil
}

// watch looks at a staged release again when no other file has come for a while:
// it completes it, or logs what is missing. A release that seems published and
// is not would be noticed by nobody else.
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
		receipt, err := u.complete(context.Background(), up, nil)
		if err == nil && receipt.State != StateStaged {
			return
		}
		missing := ""
		if err == nil {
			missing = strings.Join(receipt.Missing, ", ")
		}
		u.log.Warn("an uploaded release is incomplete and not served: upload the missing files, or all files again",
			"provider", up.Provider.String(), "version", up.version, "missing", missing, "error", err)
	})
}
