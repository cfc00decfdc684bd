package rekisteri

import (
	"archive/zip"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rekisteri/rekisteri/internal/names"
	"github.com/rekisteri/rekisteri/internal/openpgp"
	"github.com/rekisteri/rekisteri/internal/release"
)

const (
	maxSmallFile = 4 << 20 // bytes in a SHA256SUMS file, a signature, a manifest or a file of keys
	readAhead    = 32      // directories of a provider that are read at a time
)

// A releaseDir is a release's directory as it was last looked at. It is
// immutable.
type releaseDir struct {
	path     string
	files    map[string]stamp // those that may belong to a release
	whole    map[string]stamp // the zips among them that are whole
	problems []Problem
	release  *heldRelease // what it was when it was last whole and good; nil: never
	current  bool         // it still is
	lost     error        // why it may hold a release that was never read; nil: it does not
	vanished bool         // a file was gone that the directory had just named
}

// A heldRelease is a release whose files are in the tree.
type heldRelease struct {
	version   string
	sumsName  string // of SHA256SUMS; its signature has ".sig" behind it
	sums      []byte
	signature []byte
	signed    []openpgp.Signature
	protocols []string
	packages  []heldPackage // by platform
}

type heldPackage struct {
	Platform
	path   string
	name   string
	size   int64
	sha256 [sha256.Size]byte
}

func (r *heldRelease) equal(o *heldRelease) bool {
	return r.version == o.version && bytes.Equal(r.sums, o.sums) && bytes.Equal(r.signature, o.signature) &&
		slices.Equal(r.protocols, o.protocols) && slices.Equal(r.packages, o.packages)
}

func (r *heldRelease) size() int64 { return int64(len(r.sums)+len(r.signature)) + 1<<10 }

// listed returns the release's entry in the provider's listing.
func (r *heldRelease) listed() Version {
	v := Version{r.version, r.protocols, make([]Platform, len(r.packages))}
	for i := range r.packages {
		v.Platforms[i] = r.packages[i].Platform
	}
	return v
}

// readReleases reads the release directories among the entries of a provider's
// directory into c. What has not changed is as in prev.
func (b *FSBackend) readReleases(p Provider, entries []fs.DirEntry, prev, c *content) {
	c.dirs = make(map[string]*releaseDir)
	var mu sync.Mutex
	var group sync.WaitGroup
	var failure error
	ahead := make(chan struct{}, readAhead)
	for _, entry := range entries {
		name := entry.Name()
		if ignored(name) || !mayBeDir(entry) && !looksLikeVersion(name) {
			continue
		}
		ahead <- struct{}{}
		group.Go(func() {
			defer func() { <-ahead }()
			var dir *releaseDir
			err := guard(func() error {
				dir = b.readRelease(p, p.String()+"/"+name, entry, prev.dirs[name])
				return nil
			})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err != nil:
				failure = err
			case dir != nil:
				c.dirs[name] = dir
				c.missing = c.missing || dir.vanished
			default:
				c.missing = true
			}
		})
	}
	group.Wait()
	if failure != nil {
		panic(failure)
	}
}

// ignored reports whether a name in the tree is passed over in silence.
func ignored(name string) bool { return strings.HasPrefix(name, ".") || name == "lost+found" }

func looksLikeVersion(name string) bool {
	_, ok := names.ParseVersion(name)
	return ok
}

// readRelease reads a release's directory. It returns nil if there is none.
func (b *FSBackend) readRelease(p Provider, dirPath string, entry fs.DirEntry, prev *releaseDir) *releaseDir {
	if prev == nil {
		prev = new(releaseDir)
	}
	dir := &releaseDir{path: dirPath, release: prev.release}
	var entries []fs.DirEntry
	var err error
	if entry.IsDir() {
		entries, err = fs.ReadDir(b.fsys, dirPath)
		err = b.explain(dirPath, err)
	} else {
		entries, err = b.readDir(dirPath)
	}
	if err != nil {
		link, isLink := errors.AsType[*linkError](err)
		switch {
		case isLink:
			return dir.broken(link.path, "the link "+link.why, link.fix())
		case !errors.Is(err, fs.ErrNotExist):
			return dir.unread(dirPath, err, "make the directory readable")
		case looksLikeVersion(path.Base(dirPath)):
			if _, err := fs.Stat(b.fsys, dirPath); err == nil {
				dir.release = nil
				return dir.broken(dirPath, "it is no directory", "put the release's directory in its place")
			}
		}
		return nil
	}
	infos, vanished, err := b.releaseFiles(dirPath, entries)
	if err != nil {
		return dir.unread(dirPath, err, "make its files readable")
	}
	if prev.unchanged(infos) {
		return prev
	}
	dir.vanished = vanished
	if len(infos) == 0 && !vanished { // it was emptied: what it held is deleted, or somewhere else
		dir.release = nil
	}
	now := time.Now()
	dir.files, dir.whole = make(map[string]stamp, len(infos)), make(map[string]stamp, len(infos))
	for name, info := range infos {
		dir.files[name] = stampOf(info, now)
	}
	if r := b.openRelease(p, dir, prev, infos); r != nil && (dir.release == nil || !dir.release.equal(r)) {
		dir.release = r
	}
	return dir
}

// releaseFiles returns the files among a directory's entries that may belong
// to a release, and whether one of them is gone. What the release tool leaves
// beside them does no harm.
func (b *FSBackend) releaseFiles(dirPath string, entries []fs.DirEntry) (infos map[string]fs.FileInfo, vanished bool, err error) {
	infos = make(map[string]fs.FileInfo)
	for _, entry := range entries {
		name := entry.Name()
		if entry.IsDir() || name != release.Manifest && !strings.HasPrefix(name, "terraform-provider-") {
			continue
		}
		info, err := entry.Info()
		if err == nil && info.Mode()&fs.ModeSymlink != 0 { // as are all entries of a ConfigMap
			info, err = fs.Stat(b.fsys, dirPath+"/"+name)
		}
		if err != nil {
			err = b.explain(dirPath+"/"+name, err)
			if _, isLink := errors.AsType[*linkError](err); errors.Is(err, fs.ErrNotExist) && !isLink {
				vanished = true
				continue
			}
			return nil, false, err
		}
		if info.Mode().IsRegular() {
			infos[name] = info
		}
	}
	return infos, vanished, nil
}

func (d *releaseDir) unchanged(infos map[string]fs.FileInfo) bool {
	if d.files == nil || len(infos) != len(d.files) {
		return false
	}
	for name, info := range infos {
		if !d.files[name].is(info) {
			return false
		}
	}
	return true
}

// broken adds a problem for which the directory cannot be served as it is now.
func (d *releaseDir) broken(at, what, fix string) *releaseDir {
	effect := "the release is not served"
	if d.release != nil {
		effect = "version " + d.release.version + " is still served as it was"
	}
	d.problems = append(d.problems, Problem{Path: at, What: what, Effect: effect, Fix: fix})
	d.current = false
	return d
}

// unread adds the problem that something in the directory could not be read:
// it is tried again at the next look, whatever its times say.
func (d *releaseDir) unread(at string, err error, fix string) *releaseDir {
	d.broken(at, reason(err), fix)
	d.files = nil
	if d.release == nil {
		d.lost = fmt.Errorf("%s: %w", at, outage{err})
	}
	return d
}

// An outage is an error that matches nothing: what cannot be read is no
// absence.
type outage struct{ cause error }

func (o outage) Error() string { return o.cause.Error() }

// incomplete adds a problem that a copy on its way to the directory will mend.
func (d *releaseDir) incomplete(at, what, fix string) {
	d.broken(at, what, fix)
	d.problems[len(d.problems)-1].pending = true
}

// openRelease reads what is in a release's directory, and returns nil where
// that cannot be served. It adds the problems that it meets to dir.
func (b *FSBackend) openRelease(p Provider, dir, prev *releaseDir, infos map[string]fs.FileInfo) *heldRelease {
	r := dir.choose(p, infos)
	if r == nil {
		return nil
	}
	at := func(name string) string { return dir.path + "/" + name }
	dir.current = true // until something is broken

	var err error
	if r.sums, _, err = b.readFile(at(r.sumsName), maxSmallFile); err != nil {
		dir.unread(at(r.sumsName), err, "make the file readable")
		return nil
	}
	sums, err := release.ParseSums(r.sums)
	if err != nil {
		dir.broken(at(r.sumsName), "clients cannot read it: "+err.Error(), "write it as sha256sum does, and sign it again")
		return nil
	}
	if sums.Comment != "" {
		dir.problems = append(dir.problems, Problem{
			Path: at(r.sumsName), What: fmt.Sprintf("%q is no sum", sums.Comment),
			Effect: "it is served, but a client's lock file gets the hash of its own platform only",
			Fix:    "remove the line, and sign the file again",
		})
	}

	sigName := r.sumsName + ".sig"
	if infos[sigName] == nil {
		dir.incomplete(at(sigName), "there is no signature of SHA256SUMS", "add the detached binary signature")
	} else if r.signature, _, err = b.readFile(at(sigName), maxSmallFile); err != nil {
		dir.unread(at(sigName), err, "make the file readable")
	} else if r.signed, err = openpgp.ReadSignatures(r.signature); err != nil {
		dir.broken(at(sigName), err.Error(), "sign SHA256SUMS with gpg --detach-sign, without --armor")
	}

	b.readManifest(p, dir, r, sums, infos)
	for _, file := range sums.Files {
		z, ok := release.ParseZip(file.Name)
		if !ok {
			continue // the manifest, or what else the release tool has summed
		}
		on := Platform{z.OS, z.Arch}
		if z.Type != p.Type || z.Version != r.version || !on.valid() || strings.ContainsAny(file.Name, `/\`) {
			dir.aside(at(r.sumsName), fmt.Sprintf("%s is not a zip of %s %s", file.Name, p.Type, r.version), "name each release's own zips in its SHA256SUMS")
			continue
		}
		info := infos[file.Name]
		if info == nil {
			dir.incomplete(at(file.Name), "SHA256SUMS names it, and it is missing", "add the zip")
			continue
		}
		if !prev.whole[file.Name].is(info) {
			whole, err := b.wholeZip(at(file.Name), info.Size())
			if err != nil {
				dir.unread(at(file.Name), err, "make the file readable")
				continue
			}
			if !whole {
				dir.incomplete(at(file.Name), "the zip is not whole: it has no end", "copy it again")
				continue
			}
		}
		dir.whole[file.Name] = stampOf(info, time.Now())
		r.packages = append(r.packages, heldPackage{on, at(file.Name), file.Name, info.Size(), file.SHA256})
	}
	if dir.current && len(r.packages) == 0 {
		dir.broken(at(r.sumsName), "it names no zip of "+p.Type+" "+r.version, "name the release's zips in it")
	}
	if !dir.current {
		return nil
	}
	slices.SortFunc(r.packages, func(a, b heldPackage) int { return cmp.Compare(a.name, b.name) })
	return r
}

// choose returns the release that the names of the files in a directory say it
// is, still empty. Where they say that there are several, the directory's name
// decides.
func (d *releaseDir) choose(p Provider, infos map[string]fs.FileInfo) *heldRelease {
	var found []*heldRelease
	for _, name := range slices.Sorted(maps.Keys(infos)) {
		typ, version, ok := release.ParseSumsName(name)
		switch {
		case !ok:
		case typ != p.Type:
			d.aside(d.path+"/"+name, "its name says that it is of the provider "+typ, "move it to that provider's directory")
		case !names.ValidVersion(version):
			d.aside(d.path+"/"+name, fmt.Sprintf("%q in its name is not a full semantic version", version), "release it as in 1.2.3")
		default:
			found = append(found, &heldRelease{version: version, sumsName: name})
		}
	}
	if len(found) > 1 {
		named, _ := names.ParseVersion(path.Base(d.path))
		for _, r := range found {
			if r.version != named {
				d.aside(d.path+"/"+r.sumsName, "it is one of several in the directory", "put each release in a directory of its own")
			}
		}
		found = slices.DeleteFunc(found, func(r *heldRelease) bool { return r.version != named })
	}
	if len(found) == 0 {
		if len(d.problems) == 0 {
			d.incomplete(d.path, "there is no SHA256SUMS of a release of "+p.Type, "copy what the release tool wrote, SHA256SUMS and its signature included")
		}
		return nil
	}
	return found[0]
}

// aside adds the problem of a file that is not of the directory's release.
func (d *releaseDir) aside(at, what, fix string) {
	d.problems = append(d.problems, Problem{Path: at, What: what, Effect: "it is not served", Fix: fix})
}

// readManifest reads the protocol versions of a release from its manifest. A
// release without one speaks 5.0, as on the public registry.
func (b *FSBackend) readManifest(p Provider, dir *releaseDir, r *heldRelease, sums *release.Sums, infos map[string]fs.FileInfo) {
	r.protocols = []string{"5.0"}
	published := release.ManifestName(p.Type, r.version)
	name := published
	if infos[name] == nil {
		if name = release.Manifest; infos[name] == nil {
			return
		}
	}
	at := dir.path + "/" + name
	data, _, err := b.readFile(at, maxSmallFile)
	if err != nil {
		dir.unread(at, err, "make the file readable")
		return
	}
	for _, file := range sums.Files {
		if file.Name == published && file.SHA256 != sha256.Sum256(data) {
			dir.incomplete(at, "it has another sum than SHA256SUMS says", "copy the manifest that was released, or none")
			return
		}
	}
	var manifest struct {
		Metadata struct {
			Protocols []string `json:"protocol_versions"`
		}
	}
	if err := json.Unmarshal(data, &manifest); err != nil {
		dir.broken(at, "it is no manifest: "+err.Error(), "copy the manifest that was released, or none")
		return
	}
	protocols := manifest.Metadata.Protocols
	for _, protocol := range protocols {
		if !names.ValidProtocol(protocol) {
			dir.broken(at, fmt.Sprintf("the protocol %q does not parse", protocol), "write it as in 5.0")
			return
		}
	}
	if len(protocols) == 0 {
		return
	}
	if !slices.ContainsFunc(protocols, names.Installable) {
		dir.broken(at, fmt.Sprintf("the release speaks the protocols %q only, and clients 5 and 6", protocols), "release it with a newer plugin SDK")
		return
	}
	r.protocols = protocols
}

// wholeZip reports whether a file has the end of a zip, as one that is still
// growing has not. An error says that it could not be read.
func (b *FSBackend) wholeZip(name string, size int64) (bool, error) {
	f, err := b.openRandom(name)
	if err != nil {
		return false, err
	}
	defer f.Close()
	// The common case takes one short read: an end record without a comment,
	// right behind the directory that it points to.
	var end [22]byte
	if n, _ := f.ReadAt(end[:], max(size-int64(len(end)), 0)); n == len(end) && bytes.HasPrefix(end[:], []byte("PK\x05\x06")) {
		length, offset := binary.LittleEndian.Uint32(end[12:]), binary.LittleEndian.Uint32(end[16:])
		if end[20] == 0 && end[21] == 0 && int64(offset)+int64(length)+int64(len(end)) == size {
			return true, nil
		}
	}
	_, err = zip.NewReader(f, size)
	if errors.Is(err, zip.ErrFormat) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return false, nil
	}
	return err == nil, err
}

// openZip opens a zip, unless it is another one than was looked at. One that
// is gone is no absence: it is still listed.
func (b *FSBackend) openZip(p *heldPackage) (randomFile, error) {
	info, err := fs.Stat(b.fsys, p.path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() != p.size) {
		err = fmt.Errorf("%s is another file than was looked at", p.path)
	}
	if err != nil {
		return nil, outage{err}
	}
	f, err := b.openRandom(p.path)
	if err != nil {
		return nil, outage{err}
	}
	return f, nil
}

// A keyFile is a file of public keys as it was last read. It is immutable.
type keyFile struct {
	path     string
	stamp    stamp
	sum      [sha256.Size]byte
	keys     []openpgp.Key
	problems []Problem
	lost     error // why it may hold keys that were never read; nil: it does not
	size     int64
}

// readKeys reads the files of public keys among the entries of a directory.
// prev holds what was read before, by path.
func (b *FSBackend) readKeys(dirPath string, entries []fs.DirEntry, prev map[string]*keyFile, into map[string]*keyFile) {
	for _, entry := range entries {
		if name := entry.Name(); strings.HasSuffix(name, ".asc") && !ignored(name) {
			if f := b.readKeyFile(dirPath+"/"+name, prev[dirPath+"/"+name]); f != nil {
				into[f.path] = f
			}
		}
	}
}

func (b *FSBackend) readKeyFile(name string, prev *keyFile) *keyFile {
	if prev == nil {
		prev = new(keyFile)
	}
	f := &keyFile{path: name, keys: prev.keys, size: prev.size}
	broken := func(what, fix string) *keyFile {
		effect := "its keys are not served"
		if len(f.keys) > 0 {
			effect = "the keys that it held before are still served"
		}
		f.problems = []Problem{{Path: name, What: what, Effect: effect, Fix: fix}}
		return f
	}
	unread := func(err error) *keyFile {
		if len(f.keys) == 0 {
			f.lost = fmt.Errorf("%s: %w", name, outage{err})
		}
		return broken(reason(err), "make the file readable")
	}
	info, err := fs.Stat(b.fsys, name)
	if err != nil {
		err = b.explain(name, err)
		if link, ok := errors.AsType[*linkError](err); ok {
			return broken(link.Error(), link.fix())
		}
		if errors.Is(err, fs.ErrNotExist) { // though the directory has just named it
			if prev.path == "" {
				return nil
			}
			return prev
		}
		return unread(err)
	}
	if !info.Mode().IsRegular() {
		return broken("it is no regular file", "put the armored key in its place")
	}
	if prev.stamp.is(info) {
		return prev
	}
	data, stamp, err := b.readFile(name, maxSmallFile)
	if err != nil {
		return unread(err)
	}
	f.stamp, f.size = stamp, int64(len(data))
	if f.sum = sha256.Sum256(data); f.sum == prev.sum {
		f.problems = prev.problems
		return f
	}
	keys, err := openpgp.ReadKeys(data)
	if len(keys) == 0 {
		return broken(err.Error(), "export the key again: gpg --armor --export")
	}
	f.keys = keys
	if err != nil {
		f.problems = []Problem{{Path: name, What: err.Error(), Effect: "what cannot be read is left out, its other keys are served", Fix: "export the key again: gpg --armor --export"}}
	}
	return f
}

// A keyring is the keys that a provider's releases may be signed with: its own
// and its namespace's, each once. It is immutable.
type keyring struct {
	files map[string]*keyFile
	keys  []ringKey
	lost  error // why a key may be missing; nil: none is
}

// same reports whether files hold the same keys as those of the ring.
func (k *keyring) same(files map[string]*keyFile) bool {
	return maps.EqualFunc(k.files, files, func(a, b *keyFile) bool {
		return a.sum == b.sum && len(a.keys) == len(b.keys) && (a.lost == nil) == (b.lost == nil) && slices.Equal(a.problems, b.problems)
	})
}

type ringKey struct {
	openpgp.Key
	path string
}

// newKeyring returns the keys in files: those of the provider before those of
// the namespace, and of two copies of a key the one that expires later.
func newKeyring(files map[string]*keyFile) *keyring {
	ring := &keyring{files: files}
	paths := slices.SortedFunc(maps.Keys(files), func(a, b string) int {
		return cmp.Or(strings.Count(b, "/")-strings.Count(a, "/"), strings.Compare(a, b))
	})
	for _, at := range paths {
		if files[at].lost != nil {
			ring.lost = files[at].lost
		}
		for _, key := range files[at].keys {
			i := slices.IndexFunc(ring.keys, func(k ringKey) bool { return k.Fingerprint == key.Fingerprint })
			switch {
			case i < 0:
				ring.keys = append(ring.keys, ringKey{key, at})
			case outlives(key, ring.keys[i].Key):
				ring.keys[i] = ringKey{key, at}
			}
		}
	}
	return ring
}

// outlives reports whether a serves better than b, another copy of it: a
// revocation is news that the other copy lacks.
func outlives(a, b openpgp.Key) bool {
	if a.Revoked != b.Revoked {
		return a.Revoked
	}
	return !b.Expires.IsZero() && (a.Expires.IsZero() || a.Expires.After(b.Expires))
}

// signer returns the key that made one of the signatures, the first that is
// known.
func (k *keyring) signer(signed []openpgp.Signature) (*ringKey, *openpgp.Signature) {
	for i := range signed {
		for j := range k.keys {
			key := &k.keys[j]
			made := func(s openpgp.Signer) bool { return s.ID == signed[i].Issuer && (key.Revoked || !s.Revoked) }
			if slices.ContainsFunc(key.Signers, made) {
				return key, &signed[i]
			}
		}
	}
	return nil, nil
}

// signingKeys returns all keys with first, if there is one, before the others.
func (k *keyring) signingKeys(first *ringKey) []SigningKey {
	keys := make([]SigningKey, 0, len(k.keys))
	for i := range k.keys {
		key := SigningKey{KeyID: k.keys[i].ID, ASCIIArmor: k.keys[i].Armor}
		if &k.keys[i] == first {
			keys = slices.Insert(keys, 0, key)
		} else {
			keys = append(keys, key)
		}
	}
	return keys
}

// judge returns what is wrong with the keys and signatures of releases, and
// when that may change though no file does.
func (k *keyring) judge(releases []*releaseDir, now time.Time) (problems []Problem, until time.Time) {
	touched := make(map[Problem][]string)
	var order []Problem
	add := func(p Problem, version string) {
		if touched[p] == nil {
			order = append(order, p)
		}
		touched[p] = append(touched[p], version)
	}
	expired := func(t time.Time) bool {
		if t.IsZero() {
			return false
		}
		if t.After(now) && (until.IsZero() || t.Before(until)) {
			until = t
		}
		return !t.After(now)
	}
	for _, dir := range releases {
		r := dir.release
		key, signature := k.signer(r.signed)
		if key == nil {
			add(Problem{Path: path.Dir(dir.path), What: "the key " + r.signed[0].Issuer + " is not in the tree",
				Effect: "clients refuse what it signed: unknown issuer", Fix: "add the armored public key as an .asc file"}, r.version)
			continue
		}
		if key.Revoked {
			add(Problem{Path: key.path, What: "the key " + key.ID + " is revoked",
				Effect: "clients refuse what it signed", Fix: "sign the releases with another key"}, r.version)
		}
		if expired(key.Expires) {
			add(Problem{Path: key.path, What: "the key " + key.ID + " has expired on " + key.Expires.Format(time.DateOnly),
				Effect: "Terraform accepts it, OpenTofu warns and will refuse it", Fix: "extend its life, and export it again"}, r.version)
		}
		if expired(signature.Expires) {
			add(Problem{Path: dir.path + "/" + r.sumsName + ".sig", What: "the signature has expired on " + signature.Expires.Format(time.DateOnly),
				Effect: "Terraform refuses the release", Fix: "sign SHA256SUMS again, without an expiry"}, r.version)
		}
	}
	for _, p := range order {
		p.What += ", which touches version " + abridged(touched[p])
		problems = append(problems, p)
	}
	return problems, until
}

// build returns the release as a backend returns it.
func (r *heldRelease) build(ring *keyring) *Release {
	first, _ := ring.signer(r.signed)
	keys := ring.signingKeys(first)
	rel := &Release{Protocols: r.protocols, Packages: make([]Package, 0, len(r.packages))}
	for _, p := range r.packages {
		rel.Packages = append(rel.Packages, Package{Platform: p.Platform, Filename: p.name, SHA256: p.sha256, SigningKeys: keys})
	}
	return rel
}

// abridged returns the first few of a list of versions.
func abridged(versions []string) string {
	const few = 5
	if len(versions) <= few {
		return strings.Join(versions, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(versions[:few], ", "), len(versions)-few)
}
