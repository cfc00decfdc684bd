package rekisteri

import (
	"bytes"
	"container/list"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rekisteri/rekisteri/internal/loglimit"
)

// FSOptions are the settings of an [FSBackend]. The zero value is ready to use.
type FSOptions struct {
	// Logger gets what is wrong with the tree: a problem when it is met, and
	// again every hour while it stands. Nil is [slog.Default] as it is when
	// [NewFSBackend] is called.
	Logger *slog.Logger

	// CacheBytes bounds what is held of the tree, in bytes. A provider counts
	// as much as the files that were read of it; zips are not read. What was
	// asked for longest ago is dropped first, and read again when it is asked
	// for; of a document, an index of its versions stays, and its keys. Zero is
	// 32 MiB.
	CacheBytes int64
}

// An FSBackend is a [Backend] over a tree of files, and an [Opener]. A version
// of a provider is a directory with the files of its release,
// <namespace>/<type>/<version>/, or stands in the metadata document
// <namespace>/<type>.json, which links to files elsewhere. docs/layout.md
// describes both.
//
// The tree may change at any time. A change is visible within two seconds,
// without a request waiting for the disk for what is held already: a provider
// is looked at again when it is asked for, at most once a second. A file that
// is broken, half written or cannot be read never takes away what is held of
// it, nor does a tree that is gone or empty: that is an outage, such as a
// volume that isn't mounted, and no deletion.
//
// An FSBackend has no goroutines of its own but for the looks that requests
// have begun, of which it bounds the number. It is safe for concurrent use.
type FSBackend struct {
	fsys  fs.FS
	log   *slog.Logger
	seed  maphash.Seed
	limit int64         // bytes that may be held
	looks chan struct{} // holds a token for each look that touches the file system
	tree  treeDirs

	mu      sync.RWMutex
	held    map[Provider]*holding
	recent  list.List                   // of *holding with a content, the last that was asked for first
	size    int64                       // bytes that are held
	unheld  int                         // looks at what is not held, that run or wait for a token
	indexes map[Provider]*documentIndex // of documents that were held and dropped
	reports map[Provider]reports        // of providers that were dropped, and had problems
	outage  time.Time                   // when the outage that stands was last logged; zero: none stands
	health  Health

	mentioned loglimit.Limit // the providers that could not be read, though the tree can
}

const (
	lookEvery   = time.Second            // a provider is looked at no more often
	lookRest    = 20                     // nor sooner than this many times what its last look took
	freshFor    = 2 * time.Second        // what is older waits for the look in flight,
	moment      = 100 * time.Millisecond // while that look is younger
	patience    = 8 * time.Second        // what is not held waits so long: clients give up after 10
	remindEvery = time.Hour              // a problem that stands is logged again
	pendingFor  = 15 * time.Second       // a copy that has not ended by then is a problem

	maxLooking = 16   // looks that touch the file system at a time
	maxUnheld  = 1024 // looks at what is not held, that run or wait

	defaultCacheBytes = 32 << 20
)

// NewFSBackend returns an FSBackend over fsys. Nil options are the defaults.
// Nothing is read before it is asked for. NewFSBackend panics if fsys is nil.
//
// Links are fsys's affair: the FS of an [os.Root] follows those that stay in
// the tree, [os.DirFS] follows all.
func NewFSBackend(fsys fs.FS, opts *FSOptions) *FSBackend {
	if fsys == nil {
		panic("rekisteri: NewFSBackend with a nil FS")
	}
	if opts == nil {
		opts = new(FSOptions)
	}
	b := &FSBackend{
		fsys:    fsys,
		log:     opts.Logger,
		seed:    maphash.MakeSeed(),
		limit:   opts.CacheBytes,
		looks:   make(chan struct{}, maxLooking),
		held:    make(map[Provider]*holding),
		indexes: make(map[Provider]*documentIndex),
		reports: make(map[Provider]reports),
	}
	if b.log == nil {
		b.log = slog.Default()
	}
	if b.limit == 0 {
		b.limit = defaultCacheBytes
	}
	return b
}

// Versions implements [Backend].
func (b *FSBackend) Versions(ctx context.Context, p Provider) (*Listing, error) {
	c, err := b.content(ctx, p)
	if err != nil {
		return nil, err
	}
	return c.listing, nil
}

// Release implements [Backend].
func (b *FSBackend) Release(ctx context.Context, p Provider, version string) (*Release, error) {
	c := b.resting(p, time.Now())
	if c == nil {
		if rel := b.dropped(ctx, p, version); rel != nil {
			return rel, nil
		}
		var err error
		if c, err = b.content(ctx, p); err != nil {
			return nil, err
		}
	}
	if rel, ok := c.releases[version]; ok {
		return rel, nil
	}
	if c.lost != nil {
		return nil, c.lost
	}
	return nil, fmt.Errorf("%v has no version %q that can be served: %w", p, version, fs.ErrNotExist)
}

// Open implements [Opener]. SHA256SUMS and the signature are what was last
// read and checked; a zip is opened where it is.
func (b *FSBackend) Open(ctx context.Context, p Provider, version, name string) (io.ReadSeekCloser, error) {
	c, err := b.content(ctx, p)
	if err != nil {
		return nil, err
	}
	if r := c.held[version]; r != nil {
		switch name {
		case r.sumsName:
			return memoryFile{bytes.NewReader(r.sums)}, nil
		case r.sumsName + ".sig":
			return memoryFile{bytes.NewReader(r.signature)}, nil
		}
		for i := range r.packages {
			if r.packages[i].name == name {
				return b.openZip(&r.packages[i])
			}
		}
	}
	return nil, fmt.Errorf("%v has no file %q of a version %q: %w", p, name, version, fs.ErrNotExist)
}

type memoryFile struct{ *bytes.Reader }

func (memoryFile) Close() error { return nil }

// Providers yields the providers in the tree, in the order of their names. It
// reads the names of files, not what is in them. An error is of one directory;
// the others go on.
func (b *FSBackend) Providers(ctx context.Context) iter.Seq2[Provider, error] {
	return func(yield func(Provider, error) bool) {
		root, err := b.root()
		if err != nil {
			yield(Provider{}, err)
			return
		}
		for _, name := range slices.Sorted(maps.Keys(root.namespaces)) {
			if err := ctx.Err(); err != nil {
				yield(Provider{}, err)
				return
			}
			ns, err := b.namespace(name)
			if errors.Is(err, fs.ErrNotExist) {
				continue // a link that leads nowhere
			}
			if err != nil {
				if !yield(Provider{Namespace: name}, err) {
					return
				}
				continue
			}
			for _, t := range ns.sortedTypes() {
				if !yield(Provider{name, t}, nil) {
					return
				}
			}
		}
	}
}

// Health is what an [FSBackend] knows of its tree.
type Health struct {
	Looked   time.Time // when a look at the tree last ended; zero: there was none
	Err      error     // why that look could not read the tree's root; nil: it could
	Problems int       // in what is held
}

// Health returns what the last looks have found. It looks at nothing itself.
func (b *FSBackend) Health() Health {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.health
}

// A holding is what is held of a provider. Its fields are guarded by the
// backend's mutex, but for what only the look in flight touches.
type holding struct {
	provider Provider
	content  *content      // what the last good look found; nil: nothing yet
	element  *list.Element // of the list of those with a content
	asOf     time.Time     // when that look began
	next     time.Time     // no look begins before
	looking  *flight       // the look in flight; nil: none is

	reports reports // the look's own
}

// A flight is a look in flight. What it has found may be dropped again before
// those who wait for it have seen it, but not for them.
type flight struct {
	begun   time.Time
	done    chan struct{} // closed when the look has ended, and the rest is set
	content *content
	err     error // why there is no content
}

// A content is all that was found of a provider. It is immutable.
type content struct {
	document *document
	dirs     map[string]*releaseDir // by the directory's name
	keys     *keyring
	unread   *unreadError // why the provider's directory was not read; nil: it was
	missing  bool         // something was gone that a directory had just named

	listing  *Listing
	releases map[string]*Release     // by version
	held     map[string]*heldRelease // those whose files are in the tree
	problems []Problem
	err      error     // why there is nothing to serve
	lost     error     // why a version that isn't known may exist all the same; nil: it does not
	until    time.Time // when this is no longer true, though nothing changes; zero: never
	size     int64     // of the files that were read
}

// content returns what is held of a provider, and begins a look at it where
// that is due.
func (b *FSBackend) content(ctx context.Context, p Provider) (*content, error) {
	now := time.Now()
	if c := b.resting(p, now); c != nil {
		return c, c.err
	}
	b.mu.Lock()
	h := b.held[p]
	if h == nil {
		if !p.valid() || b.tree.lacks(p, now) {
			b.mu.Unlock()
			return nil, absence(p)
		}
		if b.unheld == maxUnheld {
			b.mu.Unlock()
			return nil, errors.New("too many providers are being looked at")
		}
		p = Provider{strings.Clone(p.Namespace), strings.Clone(p.Type)} // which may be cut from a request
		h = &holding{provider: p, reports: b.reports[p]}
		delete(b.reports, p) // the holding's now
		b.held[p] = h
		b.unheld++
	}
	if h.looking == nil && !now.Before(h.next) {
		h.looking = &flight{begun: now, done: make(chan struct{})}
		go b.look(h)
	}
	c, looking := h.content, h.looking
	wait := patience
	if c != nil {
		b.recent.MoveToFront(h.element)
		wait = 0
		if looking != nil && now.Sub(h.asOf) > freshFor {
			wait = moment - now.Sub(looking.begun)
		}
	}
	b.mu.Unlock()

	if looking == nil || wait <= 0 {
		return c, c.err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-looking.done:
		if looking.content == nil {
			return nil, looking.err
		}
		return looking.content, looking.content.err
	case <-timer.C:
	case <-ctx.Done():
	}
	switch {
	case c != nil:
		return c, c.err
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("the file system has not answered for %v: %w", wait, context.DeadlineExceeded)
}

// resting returns what is held of a provider at which no look is due or in
// flight. So it is for nearly every request, and those don't wait for each
// other.
func (b *FSBackend) resting(p Provider, now time.Time) *content {
	b.mu.RLock()
	h := b.held[p]
	if h == nil || h.content == nil || h.looking != nil || !now.Before(h.next) {
		b.mu.RUnlock()
		return nil
	}
	c, e, last := h.content, h.element, h.element == b.recent.Front()
	b.mu.RUnlock()
	if !last && b.mu.TryLock() { // if not, the order is still about right
		b.recent.MoveToFront(e)
		b.mu.Unlock()
	}
	return c
}

// look reads what has changed of a provider and puts it in the place of what
// is held. One look at a provider is in flight at a time.
func (b *FSBackend) look(h *holding) {
	begun, took := time.Now(), time.Duration(0)
	first := h.content == nil
	var c *content
	err := guard(func() (err error) {
		ns, err := b.find(h.provider)
		if !first && errors.Is(err, fs.ErrNotExist) {
			// It was there: others' looks at the tree don't prove that it isn't.
			b.tree.expire(h.provider.Namespace)
			ns, err = b.find(h.provider)
		}
		if err != nil {
			return err
		}
		b.looks <- struct{}{}
		defer func() { <-b.looks }()
		read := time.Now()
		if c = b.read(h.provider, ns, h.content); c.missing && c != h.content {
			// Names without files are a deletion, or the beginning of an outage.
			b.tree.expire(h.provider.Namespace)
			if ns, err = b.find(h.provider); err == nil {
				c = b.read(h.provider, ns, h.content)
			}
		}
		if !first { // which takes longer than those after it
			took = time.Since(read)
		}
		return err
	})
	if err == nil {
		h.reports.log(b.log, c.problems)
	}

	for _, say := range b.land(h, c, err, begun, took) { // not under the mutex, which all requests need
		say()
	}
}

// land ends a look, and returns what is to be logged of it.
func (b *FSBackend) land(h *holding, c *content, err error, begun time.Time, took time.Duration) (say []func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before, now := h.content, time.Now()
	if before == nil {
		b.unheld--
	}
	b.health.Looked, b.health.Err = now, nil
	if outage, ok := errors.AsType[*treeError](err); ok {
		b.health.Err = outage
	}
	switch {
	case err == nil:
		if before != nil && before.listing != c.listing {
			say = append(say, func() { b.mourn(h.provider, before.listing, c.listing) })
		}
		b.hold(h, c)
		h.asOf = begun
		if !b.outage.IsZero() {
			b.outage = time.Time{}
			say = append(say, func() { b.log.Info("the tree can be read again") })
		}
	case errors.Is(err, fs.ErrNotExist):
		if before != nil {
			say = append(say, func() { b.log.Warn("a provider is gone", "provider", h.provider.String()) })
		}
		b.drop(h)
	default:
		what, due := "the tree", now.Sub(b.outage) > remindEvery
		if b.health.Err == nil { // the tree can; and where nothing is held, who asks gets the error
			what, due = "a provider", before != nil && b.mentioned.Allow(h.provider.String())
		} else if due {
			b.outage = now
		}
		if due {
			say = append(say, func() {
				b.log.Error(what+" cannot be read; what was read before is still served", "provider", h.provider.String(), "error", err)
			})
		}
		if before == nil {
			b.drop(h)
		}
	}
	h.next = begun.Add(max(lookEvery, lookRest*took))
	h.looking.content, h.looking.err = h.content, err
	close(h.looking.done)
	h.looking = nil
	return say
}

// mourn logs the versions that are listed no more.
func (b *FSBackend) mourn(p Provider, before, now *Listing) {
	listed := make(map[string]bool, len(now.Versions))
	for _, v := range now.Versions {
		listed[v.Version] = true
	}
	var gone []string
	for _, v := range before.Versions {
		if !listed[v.Version] {
			gone = append(gone, v.Version)
		}
	}
	if len(gone) > 0 {
		b.log.Warn("versions are gone: init fails for those who have them locked", "provider", p.String(), "versions", abridged(gone))
	}
}

// hold holds the content that a look has found, and drops what was asked for
// longest ago where there is no room for it.
func (b *FSBackend) hold(h *holding, c *content) {
	if h.content == nil {
		h.element = b.recent.PushFront(h)
		delete(b.indexes, h.provider)
	} else {
		b.size -= h.content.size
		b.health.Problems -= len(h.content.problems)
	}
	h.content = c
	b.size += c.size
	b.health.Problems += len(c.problems)
	for e := b.recent.Back(); e != nil && b.size > b.limit; {
		oldest := e.Value.(*holding)
		e = e.Prev()
		if oldest.looking != nil {
			continue // as is h: its look still needs what it began with
		}
		if index := oldest.content.index(); index != nil {
			b.indexes[oldest.provider] = index
		}
		b.drop(oldest)
	}
}

// drop ends the holding of a provider. Whoever has its content may go on.
func (b *FSBackend) drop(h *holding) {
	if h.content != nil {
		b.size -= h.content.size
		b.health.Problems -= len(h.content.problems)
		b.recent.Remove(h.element)
	}
	if len(h.reports) > 0 {
		b.reports[h.provider] = h.reports // it may come back
	}
	h.content, h.element = nil, nil
	delete(b.held, h.provider)
}

// guard returns what f panics with, as an error. A look is on a goroutine of
// its own, where a panic would end the process.
func guard(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return f()
}

// Reports are when the problems that stand are logged next.
type reports map[report]time.Time

// A report is what makes a problem the same one.
type report struct{ path, what string }

// log logs the problems that are new, and those that were last logged an hour
// ago. One that a copy on its way would mend is given time to be mended.
func (r *reports) log(log *slog.Logger, problems []Problem) {
	now := time.Now()
	standing := make(reports, len(problems))
	for _, p := range problems {
		key := report{p.Path, p.What}
		due, ok := (*r)[key]
		if !ok {
			due = now
			if p.pending {
				due = now.Add(pendingFor)
			}
		}
		if !now.Before(due) {
			due = now.Add(remindEvery)
			log.Warn("problem in the tree", "path", p.Path, "problem", p.What, "effect", p.Effect, "fix", p.Fix)
		}
		standing[key] = due
	}
	*r = standing
}

// read returns what the file system holds of a provider in a namespace, prev
// where nothing has changed since that was read.
func (b *FSBackend) read(p Provider, ns *namespaceDir, prev *content) *content {
	if prev == nil {
		prev = new(content)
	}
	c := new(content)
	if ns.documents[p.Type] {
		c.document = b.readDocument(p, prev.document)
		c.missing = c.document == nil
	}
	files := maps.Clone(ns.keys)
	if ns.dirs[p.Type] {
		b.readProviderDir(p, prev, c, files)
	}
	if prev.keys != nil && prev.keys.same(files) {
		c.keys = prev.keys
	} else {
		c.keys = newKeyring(files)
	}
	if prev.keys != nil && c.document == prev.document && maps.Equal(c.dirs, prev.dirs) && c.keys == prev.keys &&
		c.unread == nil && prev.unread == nil && (prev.until.IsZero() || time.Now().Before(prev.until)) {
		return prev
	}
	c.assemble(p, prev)
	return c
}

// readProviderDir reads the directory of a provider into c, and its keys into
// files. What cannot be read stays as it was in prev.
func (b *FSBackend) readProviderDir(p Provider, prev, c *content, files map[string]*keyFile) {
	var before map[string]*keyFile
	if prev.keys != nil {
		before = prev.keys.files
	}
	at := p.String()
	entries, err := b.readDir(at)
	if err == nil {
		b.readKeys(at, entries, before, files)
		b.readReleases(p, entries, prev, c)
		return
	}
	link, isLink := errors.AsType[*linkError](err)
	if errors.Is(err, fs.ErrNotExist) && !isLink {
		c.missing = true
		return
	}
	if isLink {
		c.unread = &unreadError{link.problem("what was read of it before is still served"), fs.ErrNotExist}
	} else {
		c.unread = &unreadError{problem: Problem{Path: at, What: reason(err),
			Effect: "what was read of it before is still served", Fix: "make the directory readable"}}
	}
	c.dirs = prev.dirs
	for name, f := range before {
		if strings.HasPrefix(name, at+"/") {
			files[name] = f
		}
	}
}

// assemble makes of what was read what is served. Of prev it takes what is the
// same: the same pointer tells the registry that nothing has changed.
func (c *content) assemble(p Provider, prev *content) {
	c.releases, c.held = make(map[string]*Release), make(map[string]*heldRelease)
	c.listing = new(Listing)
	if c.unread != nil {
		c.problems = append(c.problems, c.unread.problem)
		if c.unread.cause == nil && len(c.dirs) == 0 {
			c.lost = c.unread
		}
	}
	dirs := c.chooseDirs()
	for _, dir := range dirs {
		r := dir.release
		rel := prev.releases[r.version]
		if rel == nil || prev.held[r.version] != r || prev.keys != c.keys {
			rel = r.build(c.keys)
		}
		c.held[r.version] = r
		c.size += r.size()
		if signer, _ := c.keys.signer(r.signed); signer == nil && c.keys.lost != nil {
			c.lost = c.keys.lost // it is listed, and cannot be served for now
		} else {
			c.releases[r.version] = rel
		}
		c.listing.Versions = append(c.listing.Versions, r.listed())
	}
	for _, at := range slices.Sorted(maps.Keys(c.keys.files)) {
		f := c.keys.files[at]
		if strings.HasPrefix(at, p.String()+"/") { // the namespace's are its own
			c.problems = append(c.problems, f.problems...)
		}
		c.size += f.size
	}
	judged, until := c.keys.judge(dirs, time.Now())
	c.problems, c.until = append(c.problems, judged...), until
	if c.document != nil {
		c.addDocument(p)
	}
	switch {
	case len(c.listing.Versions) > 0:
	case c.lost != nil:
		c.err = c.lost
	default:
		c.err = fmt.Errorf("%v has no version that can be served: %w", p, fs.ErrNotExist)
		if len(c.problems) == 0 && (c.document == nil || len(c.listing.Warnings) == 0) {
			c.problems = append(c.problems, Problem{Path: p.String(), What: "it holds no release, nor has its document a version",
				Effect: "clients are told that there is no such provider", Fix: "add a release, or remove it", pending: true})
		}
	}
	if prev.listing != nil && prev.listing.equal(c.listing) {
		c.listing = prev.listing
	}
}

// chooseDirs returns the release directories to serve, one for each version,
// and notes the problems of all.
func (c *content) chooseDirs() []*releaseDir {
	chosen := make(map[string]*releaseDir)
	for _, name := range slices.Sorted(maps.Keys(c.dirs)) {
		dir := c.dirs[name]
		c.problems = append(c.problems, dir.problems...)
		if dir.lost != nil {
			c.lost = dir.lost
		}
		if dir.release == nil {
			continue
		}
		version := dir.release.version
		switch other := chosen[version]; {
		case other == nil, dir.current && !other.current: // what was moved is served from where it is now
			chosen[version] = dir
		case dir.current:
			c.problems = append(c.problems, Problem{Path: dir.path, What: "version " + version + " stands in " + other.path + ", too",
				Effect: "that directory is served", Fix: "remove one"})
		}
	}
	dirs := slices.Collect(maps.Values(chosen))
	slices.SortFunc(dirs, func(a, b *releaseDir) int { return strings.Compare(a.path, b.path) })
	return dirs
}

// addDocument adds what the document says.
func (c *content) addDocument(p Provider) {
	doc := c.document
	if doc.broken != nil {
		c.problems = append(c.problems, doc.broken.problem)
		if doc.parsed == nil && doc.broken.cause == nil {
			c.lost = doc.broken
		}
	}
	if doc.parsed == nil {
		return
	}
	c.size += doc.parsed.size
	c.problems = append(c.problems, doc.parsed.problems...)
	c.listing.Warnings = doc.parsed.listing.Warnings
	for _, v := range doc.parsed.listing.Versions {
		if c.held[v.Version] != nil {
			c.problems = append(c.problems, Problem{Path: p.String() + ".json", What: "version " + v.Version + " has a directory, too",
				Effect: "the directory is served", Fix: "remove it from the document"})
			continue
		}
		c.listing.Versions = append(c.listing.Versions, v)
		c.releases[v.Version] = doc.parsed.releases[v.Version]
	}
}

func (l *Listing) equal(o *Listing) bool {
	return slices.Equal(l.Warnings, o.Warnings) && slices.EqualFunc(l.Versions, o.Versions, func(a, b Version) bool {
		return a.Version == b.Version && slices.Equal(a.Protocols, b.Protocols) && slices.Equal(a.Platforms, b.Platforms)
	})
}
