package rekisteri

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rekisteri/rekisteri/internal/names"
	"github.com/rekisteri/rekisteri/internal/openpgp"
	"github.com/rekisteri/rekisteri/internal/release"
	"github.com/rekisteri/rekisteri/internal/tree"
)

// A storedRelease is a release whose files are in the tree.
type storedRelease struct {
	dir             string // its path
	version         string
	sumsName        string
	sums, signature string
	signatures      []openpgp.Signature
	release         *Release // as it is served, with the keys of ring
	ring            *ring

	mu       sync.Mutex
	own      [2]tree.Stamp      // of SHA256SUMS and its signature
	zips     []tree.Stamp       // in the order of the packages; a download that hashes a zip updates it
	replaced map[int]tree.Stamp // by package: of a zip that is not the released one

	suspect atomic.Bool // a download found another file: read the directory again
}

func (r *storedRelease) path(name string) string { return r.dir + "/" + name }

// listed returns the release's entry in the provider's listing.
func (r *storedRelease) listed() Version {
	v := Version{Version: r.version, Protocols: r.release.Protocols, Platforms: make([]Platform, len(r.release.Packages))}
	for i := range r.release.Packages {
		v.Platforms[i] = r.release.Packages[i].Platform
	}
	return v
}

// equal reports whether clients see no difference between two releases.
func (r *storedRelease) equal(o *storedRelease) bool {
	if r.version != o.version || r.sums != o.sums || r.signature != o.signature || len(r.release.Packages) != len(o.release.Packages) {
		return false
	}
	return slices.Equal(r.release.Protocols, o.release.Protocols)
}

// with returns the release with the keys of a ring.
func (r *storedRelease) with(keys *ring) *storedRelease {
	if r.ring == keys {
		return r
	}
	rel := &Release{Protocols: r.release.Protocols, Packages: make([]Package, len(r.release.Packages))}
	signing := keys.signingKeys(r.signatures)
	for i, pkg := range r.release.Packages {
		pkg.SigningKeys = signing
		rel.Packages[i] = pkg
	}
	next := &storedRelease{dir: r.dir, version: r.version, sumsName: r.sumsName, sums: r.sums, signature: r.signature, signatures: r.signatures, release: rel, ring: keys}
	r.mu.Lock()
	defer r.mu.Unlock()
	next.own, next.zips, next.replaced = r.own, slices.Clone(r.zips), maps.Clone(r.replaced)
	next.suspect.Store(r.suspect.Load())
	return next
}

// newStoredRelease returns the release that was found in the directory at dir,
// without keys.
func newStoredRelease(dir string, found *release.Release, read *tree.Release, typ string) *storedRelease {
	r := &storedRelease{
		dir: dir, version: found.Version, sumsName: release.SumsName(typ, found.Version),
		sums: found.Sums, signature: found.Signature, signatures: found.Signatures,
		release: &Release{Protocols: found.Protocols, Packages: make([]Package, len(found.Zips))},
		own:     [2]tree.Stamp{read.Stamps[release.SumsName(typ, found.Version)], read.Stamps[release.SignatureName(typ, found.Version)]},
		zips:    make([]tree.Stamp, len(found.Zips)),
	}
	for i, zip := range found.Zips {
		r.release.Packages[i] = Package{Platform: Platform{zip.OS, zip.Arch}, Filename: zip.Name, SHA256: zip.SHA256}
		r.zips[i] = read.Stamps[zip.Name]
	}
	return r
}

// About how many bytes of memory the values take, without the strings in them.
const (
	packageSize  = 160
	platformSize = 32
	listedSize   = 100
	releaseSize  = 250
	keySize      = 80
	problemSize  = 200
	dirSize      = 500
)

// size is about the memory that the release takes.
func (r *storedRelease) size() int64 {
	return int64(releaseSize + listedSize + len(r.sums) + len(r.signature) + len(r.sumsName) + len(r.dir) +
		(packageSize+24+platformSize)*len(r.release.Packages) + 100*len(r.signatures))
}

// A releaseDir is a release's directory as it was last read. It is immutable.
type releaseDir struct {
	path     string
	snapshot string
	read     *tree.Release // nil once the release is settled, or if the directory could not be read
	since    time.Time     // since when its files are unchanged, by the clock of this machine
	problems []Problem
	stored   *storedRelease // the last good release that was read here; nil: none
	current  bool           // stored is what the directory has now
	lost     error          // why it may hold a release that was never read; nil: it does not
	vanished bool           // the directory named a file that was then gone
}

// A release that is good, and whose files are older than this or have been the
// same for as long, is settled: it is examined in rotation only.
const settleAfter = time.Minute

func (d *releaseDir) settled() bool { return d.current && d.read == nil }

// suspect reports whether a download found that the release has changed.
func (d *releaseDir) suspect() bool { return d.stored != nil && d.stored.suspect.Load() }

// resting reports whether the rotation alone examines the directory: its release
// is settled, or its files have not changed for a while.
func (d *releaseDir) resting(now time.Time) bool {
	return d.settled() || now.Sub(d.since) >= settleAfter
}

// cost is about the number of file-system calls that it takes to examine the
// directory.
func (d *releaseDir) cost() int {
	if d.settled() {
		return 2
	}
	if d.read == nil {
		return 1
	}
	return 1 + len(d.read.Stamps)
}

// readRelease reads the directory of a release at dir. prev is what was read
// before, or nil. It returns nil if there is no directory, and prev if nothing
// has changed.
func (b *FSBackend) readRelease(p Provider, ns *namespaceDir, pool *tree.Pool, dir string, isDir bool, prev *releaseDir) *releaseDir {
	now := time.Now()
	d := &releaseDir{path: dir, snapshot: ns.id, since: now}
	var before *tree.Release
	if prev != nil {
		d.stored = prev.stored
		if prev.snapshot == ns.id {
			before = prev.read
		}
	}
	read, err := tree.ReadRelease(ns.fsys, pool, dir, isDir, before)
	if err != nil {
		if prev != nil && prev.read == nil && !prev.settled() {
			d.since = prev.since
		}
		return d.unread(ns.fsys, err)
	}
	d.read, d.vanished = read, read.Vanished
	if len(read.Files) == 0 && !read.Vanished {
		d.stored = nil // it is empty: its release was deleted or moved
	}
	if before != nil && before.Same(read) {
		d.since = prev.since
	}
	found, findings := release.Inspect(p.Type, path.Base(dir), read.Files)
	if found != nil {
		d.current = true
		next := newStoredRelease(dir, found, read, p.Type)
		if d.stored != nil && prev.snapshot == ns.id && d.stored.equal(next) {
			// The zips keep their stamps: a download finds out whether they have
			// changed.
			d.stored.mu.Lock()
			d.stored.own = next.own
			d.stored.mu.Unlock()
			d.stored.suspect.Store(false)
		} else {
			d.stored = next
		}
	}
	served := ""
	if d.stored != nil {
		served = d.stored.version
	}
	for _, f := range findings {
		if f.Class == release.Incomplete && f.File == release.SignatureName(p.Type, path.Base(dir)) && tree.IsObjectStore(ns.fsys) {
			f.What = "there is no signature of SHA256SUMS: the release is being published, or that was interrupted"
			f.Fix = "if it stays, publish the same files again"
		}
		d.problems = append(d.problems, findingProblem(dir, served, f))
		if f.Class == release.Unreadable && d.stored == nil && !errors.Is(f.Err, fs.ErrNotExist) {
			d.lost = fmt.Errorf("%s/%s: %w", dir, f.File, outage{f.Err})
		}
	}
	if d.current && (d.isOld(now) || tree.IsObjectStore(ns.fsys) && read.Proven()) {
		d.read = nil
	}
	return d
}

// isOld reports whether the files are old enough for the release to be settled.
func (d *releaseDir) isOld(now time.Time) bool {
	if now.Sub(d.since) >= settleAfter {
		return true
	}
	for _, s := range d.read.Stamps {
		if s.ModTime == 0 || now.Sub(time.Unix(0, s.ModTime)) < settleAfter {
			return false
		}
	}
	return true
}

// unread returns d, completed for a directory that could not be read because of
// err, or nil if there is no directory.
func (d *releaseDir) unread(fsys fs.FS, err error) *releaseDir {
	_, isLink := errors.AsType[*tree.LinkError](err)
	served := ""
	if d.stored != nil {
		served = d.stored.version
	}
	switch {
	case !errors.Is(err, fs.ErrNotExist):
		if d.stored == nil {
			d.lost = fmt.Errorf("%s: %w", d.path, outage{err})
		}
		d.problems = []Problem{unreadableProblem(d.path, err, releaseEffect(served))}
	case isLink:
		d.problems = []Problem{unreadableProblem(d.path, err, releaseEffect(served))}
	case looksLikeVersion(path.Base(d.path)):
		if _, err := fs.Stat(fsys, d.path); err != nil {
			return nil
		}
		d.stored = nil
		d.problems = []Problem{{Path: d.path, What: "it is not a directory", Effect: releaseEffect(""), Fix: "put the release's directory in its place"}}
	default:
		return nil
	}
	return d
}

func looksLikeVersion(name string) bool {
	_, ok := names.ParseVersion(name)
	return ok
}

// await makes refreshes read the directory of a release, even if it has been
// broken for long, until done is called.
func (b *FSBackend) await(dir string) (done func()) {
	b.publishing.Lock()
	defer b.publishing.Unlock()
	b.awaited[dir]++
	return func() {
		b.publishing.Lock()
		defer b.publishing.Unlock()
		if b.awaited[dir]--; b.awaited[dir] == 0 {
			delete(b.awaited, dir)
		}
	}
}

// isAwaited reports whether a publisher waits for the release in a directory.
func (b *FSBackend) isAwaited(dir string) bool {
	b.publishing.Lock()
	defer b.publishing.Unlock()
	return b.awaited[dir] > 0
}
