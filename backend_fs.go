package rekisteri

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// FSOptions are the settings of an [FSBackend]. The zero value is ready to use.
type FSOptions struct {
	// Logger gets what is wrong with the tree: a problem when it is met, and
	// again every hour while it stands. Nil is [slog.Default] as it is when
	// [NewFSBackend] is called.
	Logger *slog.Logger
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
// is broken, half written or cannot be read never takes away what was read
// before it, nor does a tree that is gone or empty: that is an outage, such as
// a volume that isn't mounted, and no deletion.
//
// An FSBackend has no goroutine of its own but for the looks that requests
// have begun, of which it bounds the number. It is safe for concurrent use.
type FSBackend struct {
	fsys  fs.FS
	log   *slog.Logger
	looks chan struct{} // holds a token for each look that touches the file system

	mu       sync.Mutex
	held     map[Provider]*holding
	inFlight int       // looks that run or wait for a token
	peopled  bool      // the tree has held a provider: an empty one is an outage
	outage   time.Time // when the outage that stands was last logged; zero: none stands
}

const (
	lookEvery   = time.Second            // a provider is looked at no more often
	lookRest    = 20                     // nor sooner than this many times what its last look took
	freshFor    = 2 * time.Second        // what is older waits for the look in flight,
	moment      = 100 * time.Millisecond // while that look is younger
	patience    = 8 * time.Second        // what is not held waits so long: clients give up after 10
	youngFor    = 2 * time.Second        // a file's times prove nothing while it is younger
	remindEvery = time.Hour              // a problem that stands is logged again
	pendingFor  = 15 * time.Second       // a copy that has not ended by then is a problem

	maxLooking  = 16   // looks that touch the file system at a time
	maxInFlight = 1024 // looks that run or wait

	maxDocument = 64 << 20 // bytes in a metadata document
)

// NewFSBackend returns an FSBackend over fsys. Nil options are the defaults.
// Nothing is read before it is asked for.
//
// Links are fsys's affair: the FS of an [os.Root] follows those that stay in
// the tree, [os.DirFS] follows all.
func NewFSBackend(fsys fs.FS, opts *FSOptions) *FSBackend {
	if fsys == nil {
		panic("rekisteri: NewFSBackend with a nil FS")
	}
	b := &FSBackend{
		fsys:  fsys,
		log:   slog.Default(),
		looks: make(chan struct{}, maxLooking),
		held:  make(map[Provider]*holding),
	}
	if opts != nil && opts.Logger != nil {
		b.log = opts.Logger
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
	c, err := b.content(ctx, p)
	if err != nil {
		return nil, err
	}
	rel, ok := c.releases[version]
	if !ok {
		return nil, fmt.Errorf("%v has no version %q that can be served: %w", p, version, fs.ErrNotExist)
	}
	return rel, nil
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

// openZip opens a zip, unless it is another one than was looked at. One that
// is gone is no absence: it is still listed.
func (b *FSBackend) openZip(p *heldPackage) (io.ReadSeekCloser, error) {
	f, err := b.openRandom(p.path)
	if err != nil {
		return nil, outage(err)
	}
	info, err := f.Stat()
	if err == nil && info.Size() != p.size {
		err = fmt.Errorf("%s has %d bytes, and had %d when it was looked at", p.path, info.Size(), p.size)
	}
	if err != nil {
		f.Close()
		return nil, outage(err)
	}
	return f, nil
}

// Providers yields the providers in the tree, in the order of their names. It
// reads the names of files, not what is in them. An error is of one directory;
// the others go on.
func (b *FSBackend) Providers(ctx context.Context) iter.Seq2[Provider, error] {
	return func(yield func(Provider, error) bool) {
		namespaces, err := fs.ReadDir(b.fsys, ".")
		if err != nil {
			yield(Provider{}, err)
			return
		}
		for _, entry := range namespaces {
			if err := ctx.Err(); err != nil {
				yield(Provider{}, err)
				return
			}
			namespace := entry.Name()
			if !validName(namespace) || !b.isDir(namespace, entry) {
				continue
			}
			types, err := b.types(namespace)
			if err != nil {
				if !yield(Provider{Namespace: namespace}, err) {
					return
				}
				continue
			}
			for _, t := range types {
				if !yield(Provider{namespace, t}, nil) {
					return
				}
			}
		}
	}
}

// types returns the types of the providers of a namespace, sorted.
func (b *FSBackend) types(namespace string) ([]string, error) {
	entries, err := b.readDir(namespace)
	if err != nil {
		return nil, err
	}
	types := make(map[string]bool)
	for _, entry := range entries {
		name := entry.Name()
		if t, ok := strings.CutSuffix(name, ".json"); ok && validName(t) {
			types[t] = true
		} else if validName(name) && b.isDir(namespace+"/"+name, entry) {
			types[name] = true
		}
	}
	return slices.Sorted(maps.Keys(types)), nil
}

// isDir reports whether a directory's entry is itself a directory, or a link
// to one.
func (b *FSBackend) isDir(name string, entry fs.DirEntry) bool {
	if entry.Type()&fs.ModeSymlink == 0 {
		return entry.IsDir()
	}
	info, err := fs.Stat(b.fsys, name)
	return err == nil && info.IsDir()
}

// A holding is what is held of a provider. Its fields are guarded by the
// backend's mutex, but for what only the look in flight touches.
type holding struct {
	content *content      // what the last good look found; nil: nothing yet
	err     error         // why there is no content
	asOf    time.Time     // when that look began
	next    time.Time     // no look begins before
	looking chan struct{} // closed when the look in flight ends; nil: none is
	begun   time.Time     // when the look in flight was begun

	reports map[Problem]time.Time // when each problem that stands is logged next; the look's own
}

// A content is all that was found of a provider. It is immutable.
type content struct {
	document *document
	dirs     map[string]*releaseDir // by the directory's name
	keys     *keyring
	unread   *unreadError // why a directory was not read; nil: all were

	listing  *Listing
	releases map[string]*Release     // by version
	held     map[string]*heldRelease // those whose files are in the tree
	problems []Problem
	err      error     // why there is nothing to serve
	until    time.Time // when this is no longer true, though nothing changes; zero: never
}

// content returns what is held of a provider, and begins a look at it where
// that is due.
func (b *FSBackend) content(ctx context.Context, p Provider) (*content, error) {
	if !p.valid() {
		return nil, fmt.Errorf("the provider's name cannot exist: %w", fs.ErrNotExist)
	}
	now := time.Now()
	b.mu.Lock()
	h := b.held[p]
	if h == nil {
		h = new(holding)
	}
	if h.looking == nil && !now.Before(h.next) && b.inFlight < maxInFlight {
		h.looking, h.begun = make(chan struct{}), now
		b.held[p] = h
		b.inFlight++
		go b.look(p, h)
	}
	c, looking := h.content, h.looking
	wait := patience
	if c != nil {
		wait = 0
		if now.Sub(h.asOf) > freshFor {
			wait = moment - now.Sub(h.begun)
		}
	}
	b.mu.Unlock()

	if looking == nil && c == nil {
		return nil, errors.New("too many providers are being looked at")
	}
	if looking == nil || wait <= 0 {
		return c, c.err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-looking:
		b.mu.Lock()
		defer b.mu.Unlock()
		if h.content == nil {
			return nil, h.err
		}
		return h.content, h.content.err
	case <-timer.C:
		if c == nil {
			return nil, fmt.Errorf("the file system has not answered for %v: %w", wait, context.DeadlineExceeded)
		}
		return c, c.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// look reads what has changed of a provider and puts it in the place of what
// is held. One look of a provider is in flight at a time.
func (b *FSBackend) look(p Provider, h *holding) {
	b.looks <- struct{}{}
	begun := time.Now()
	c, err := b.read(p, h.content)
	took := time.Since(begun)
	<-b.looks

	if err == nil {
		b.report(h, c.problems)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case err == nil:
		h.content, h.err, h.asOf = c, nil, begun
		b.peopled = true
		if !b.outage.IsZero() {
			b.outage = time.Time{}
			b.log.Info("the tree can be read again")
		}
	case errors.Is(err, fs.ErrNotExist):
		if h.content != nil {
			b.log.Info("a provider is gone", "provider", p.String())
		}
		h.content, h.err = nil, err
		delete(b.held, p)
	default:
		if now := time.Now(); now.Sub(b.outage) > remindEvery {
			b.outage = now
			b.log.Error("the tree cannot be read; what was read before is still served", "provider", p.String(), "error", err)
		}
		if h.content == nil {
			h.err = err
			delete(b.held, p)
		}
	}
	h.next = begun.Add(max(lookEvery, lookRest*took))
	close(h.looking)
	h.looking = nil
	b.inFlight--
}

// report logs the problems that are new, and those that were last logged an
// hour ago. One that a copy on its way would mend is given time to be mended.
func (b *FSBackend) report(h *holding, problems []Problem) {
	now := time.Now()
	standing := make(map[Problem]time.Time, len(problems))
	for _, p := range problems {
		due, ok := h.reports[p]
		if !ok {
			due = now
			if p.pending {
				due = now.Add(pendingFor)
			}
		}
		if !now.Before(due) {
			due = now.Add(remindEvery)
			b.log.Warn("problem in the tree", "path", p.Path, "problem", p.What, "effect", p.Effect, "fix", p.Fix)
		}
		standing[p] = due
	}
	h.reports = standing
}

// read returns what the file system holds of a provider, prev where nothing
// has changed since that was read. An error that matches fs.ErrNotExist says
// that the provider isn't there; any other that this cannot be told.
func (b *FSBackend) read(p Provider, prev *content) (*content, error) {
	if prev == nil {
		prev = new(content)
	}
	// A file system that is opened anew when its directory is swapped looks
	// for that here.
	if _, err := fs.Stat(b.fsys, "."); err != nil {
		return nil, outage(err)
	}
	c := &content{document: b.readDocument(p, prev.document)}
	files := b.readDirs(p, prev, c)
	if c.document == nil && len(c.dirs) == 0 && c.unread == nil {
		return nil, b.absent(p)
	}
	if prev.keys != nil && maps.Equal(files, prev.keys.files) {
		c.keys = prev.keys
	} else {
		c.keys = newKeyring(files)
	}
	if c.document == prev.document && maps.Equal(c.dirs, prev.dirs) && c.keys == prev.keys &&
		c.unread == nil && prev.unread == nil && (prev.until.IsZero() || time.Now().Before(prev.until)) {
		return prev, nil
	}
	c.assemble(p, prev)
	return c, nil
}

// readDirs reads the directories of a provider and its namespace into c, and
// returns the files of keys in them. What cannot be read stays as it was in
// prev.
func (b *FSBackend) readDirs(p Provider, prev, c *content) map[string]*keyFile {
	var before map[string]*keyFile
	if prev.keys != nil {
		before = prev.keys.files
	}
	files := make(map[string]*keyFile)
	for _, at := range []string{p.Namespace, p.String()} {
		entries, err := b.readDir(at)
		if err == nil {
			b.readKeys(at, entries, before, files)
			if at != p.Namespace {
				c.dirs = b.readReleases(p, entries, prev.dirs)
			}
			continue
		}
		link, isLink := errors.AsType[*linkError](err)
		switch {
		case isLink:
			c.unread = &unreadError{link.problem("nothing behind it is served"), fs.ErrNotExist}
		case errors.Is(err, fs.ErrNotExist):
		default:
			c.unread = &unreadError{problem: Problem{Path: at, What: reason(err),
				Effect: "what was read of it before is still served", Fix: "make the directory readable"}}
			for name, f := range before {
				if path.Dir(name) == at {
					files[name] = f
				}
			}
			if at != p.Namespace {
				c.dirs = prev.dirs
			}
		}
	}
	return files
}

// assemble makes of what was read what is served. Of prev it takes what is the
// same: the same pointer tells the registry that nothing has changed.
func (c *content) assemble(p Provider, prev *content) {
	c.releases, c.held = make(map[string]*Release), make(map[string]*heldRelease)
	c.listing = new(Listing)
	var whole []*releaseDir
	for _, name := range slices.Sorted(maps.Keys(c.dirs)) {
		dir := c.dirs[name]
		c.problems = append(c.problems, dir.problems...)
		r := dir.release
		if r == nil {
			continue
		}
		if c.held[r.version] != nil {
			c.problems = append(c.problems, Problem{Path: dir.path, What: "version " + r.version + " stands in another directory, too",
				Effect: "only the first directory is served", Fix: "remove one"})
			continue
		}
		whole = append(whole, dir)
		rel := prev.releases[r.version]
		if rel == nil || prev.held[r.version] != r || prev.keys != c.keys {
			rel = r.build(c.keys)
		}
		c.held[r.version], c.releases[r.version] = r, rel
		platforms := make([]Platform, 0, len(r.packages))
		for _, pkg := range r.packages {
			platforms = append(platforms, pkg.Platform)
		}
		c.listing.Versions = append(c.listing.Versions, Version{r.version, r.protocols, platforms})
	}
	for _, at := range slices.Sorted(maps.Keys(c.keys.files)) {
		c.problems = append(c.problems, c.keys.files[at].problems...)
	}
	judged, until := c.keys.judge(whole, time.Now())
	c.problems, c.until = append(c.problems, judged...), until

	if doc := c.document; doc != nil {
		if doc.broken != nil {
			c.problems = append(c.problems, doc.broken.problem)
		}
		if doc.parsed != nil {
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
	}
	if c.unread != nil {
		c.problems = append(c.problems, c.unread.problem)
	}
	switch {
	case len(c.releases) > 0:
	case c.unread != nil:
		c.err = c.unread
	case c.document != nil && c.document.broken != nil:
		c.err = c.document.broken
	default:
		c.err = fmt.Errorf("%v has no version that can be served: %w", p, fs.ErrNotExist)
	}
	if prev.listing != nil && maps.Equal(c.releases, prev.releases) && slices.Equal(c.listing.Warnings, prev.listing.Warnings) {
		c.listing = prev.listing
	}
}

// absent returns why a provider that has no file is absent: because there is
// none in a tree that can be read, or because the tree is away.
func (b *FSBackend) absent(p Provider) error {
	found, err := b.anyProvider()
	if err != nil {
		return outage(err)
	}
	b.mu.Lock()
	peopled := b.peopled
	b.peopled = peopled || found
	b.mu.Unlock()
	if peopled && !found {
		return errors.New("the tree is empty and was not: its volume may not be mounted")
	}
	return fmt.Errorf("there is no provider %v: %w", p, fs.ErrNotExist)
}

// anyProvider reports whether there is any provider in the tree.
func (b *FSBackend) anyProvider() (bool, error) {
	for p, err := range b.Providers(context.Background()) {
		if err == nil {
			return true, nil
		}
		if p.Namespace == "" {
			return false, err
		}
	}
	return false, nil
}

// outage hides what err matches: a tree that isn't there is no provider that
// isn't there.
func outage(err error) error { return fmt.Errorf("the tree cannot be read: %v", err) }

// explain returns err, which the file system gave for name, in a form that
// matches fs.ErrNotExist where there is nothing at that name: file systems
// have errors of their own for a file in the place of a directory, and for a
// link that may not be followed.
func (b *FSBackend) explain(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for i := 0; i <= len(name); i++ {
		if i < len(name) && name[i] != '/' {
			continue
		}
		at := name[:i]
		if why := b.badLink(at); why != "" {
			return &linkError{at, why}
		}
		info, statErr := fs.Stat(b.fsys, at)
		if statErr != nil {
			return err
		}
		if i < len(name) && !info.IsDir() {
			return fmt.Errorf("%s is no directory: %w", at, fs.ErrNotExist)
		}
	}
	return err
}

// readDir returns what is in a directory.
func (b *FSBackend) readDir(name string) ([]fs.DirEntry, error) {
	entries, err := fs.ReadDir(b.fsys, name)
	if err != nil {
		return nil, b.explain(name+"/.", err) // there is nothing in what is no directory
	}
	return entries, nil
}

// A linkError is a link that is not followed. It matches [fs.ErrNotExist].
type linkError struct{ path, why string }

func (e *linkError) Error() string        { return "the link " + e.path + " " + e.why }
func (e *linkError) Is(target error) bool { return target == fs.ErrNotExist }

func (e *linkError) problem(effect string) Problem {
	return Problem{Path: e.path, What: "the link " + e.why, Effect: effect, Fix: e.fix()}
}

func (e *linkError) fix() string { return "let it lead to a relative path in the tree" }

// An unreadError is why something in the tree could not be read. It matches
// its cause.
type unreadError struct {
	problem Problem
	cause   error
}

func (e *unreadError) Error() string { return e.problem.Path + ": " + e.problem.What }
func (e *unreadError) Unwrap() error { return e.cause }

// badLink returns why the link at name, if it is one, is not followed.
func (b *FSBackend) badLink(name string) string {
	const hops = 40 // as many as operating systems follow
	for range hops {
		target, err := fs.ReadLink(b.fsys, name)
		if err != nil {
			return ""
		}
		if path.IsAbs(target) || filepath.IsAbs(target) {
			return "is absolute"
		}
		if name = path.Join(path.Dir(name), filepath.ToSlash(target)); !fs.ValidPath(name) {
			return "leads out of the tree"
		}
	}
	return "leads in a circle"
}

// A stamp tells whether a file is still the one that was read.
type stamp struct {
	info   fs.FileInfo
	proves bool // a file like this one is this one
}

// stampOf returns the stamp of a file that was read at a time. It proves
// nothing for a file that has no time, or was modified so lately that it may
// be modified again within its clock's grain.
func stampOf(info fs.FileInfo, read time.Time) stamp {
	t := info.ModTime()
	return stamp{info, !t.IsZero() && t.Before(read.Add(-youngFor))}
}

func (s stamp) is(info fs.FileInfo) bool { return s.proves && alike(s.info, info) }

// alike reports whether two descriptions of a file have the same size and
// time, and are of the same file where the file system can tell.
func alike(a, b fs.FileInfo) bool {
	return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()) && (os.SameFile(a, b) || !os.SameFile(b, b))
}

// readFile reads a regular file that should be no larger than limit.
func (b *FSBackend) readFile(name string, limit int64) ([]byte, stamp, error) {
	now := time.Now()
	f, err := b.fsys.Open(name)
	if err != nil {
		return nil, stamp{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, stamp{}, err
	}
	if info.Size() > limit {
		return nil, stampOf(info, now), fmt.Errorf("larger than %d MiB", limit>>20)
	}
	data, err := io.ReadAll(io.LimitReader(f, limit))
	if err != nil {
		return nil, stamp{}, err
	}
	after, err := f.Stat()
	if err != nil {
		return nil, stamp{}, err
	}
	if !alike(info, after) || int64(len(data)) != after.Size() {
		return nil, stamp{}, errors.New("changed while it was read")
	}
	return data, stampOf(info, now), nil
}
