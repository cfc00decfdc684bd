package rekisteri

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rekisteri/rekisteri/internal/refresh"
	"github.com/rekisteri/rekisteri/internal/release"
	"github.com/rekisteri/rekisteri/internal/tree"
)

// A scope says what is read of a provider: one version, or all of it if version
// is empty.
type scope struct {
	Provider
	version string
}

func (s scope) clone() scope {
	return scope{Provider{strings.Clone(s.Namespace), strings.Clone(s.Type)}, strings.Clone(s.version)}
}

// A loaded is an entry of the cache: a scope, and the value that was read of it.
type loaded struct {
	scope scope
	*refresh.Value[*state]

	mu           sync.Mutex
	refreshTimer *time.Timer // reads again, since a copy in progress may fix a problem
}

// A state is what was read of a scope. It is immutable.
type state struct {
	asOf     time.Time // when the refresh began
	fsys     fs.FS
	snapshot string
	document *document
	dirs     map[string]*releaseDir // by name
	files    map[string]*keyFile    // of keys, the namespace's included, by path
	keys     *ring                  // made from files with the same keys
	unread   *Problem               // why the provider's directory was not read; nil: it was
	lost     error                  // the same error, if the directory was never read
	stray    []Problem
	credit   float64 // file-system calls that the rotation may make
	next     string  // the name of the directory at which the rotation continues
	content  *content
	gone     bool // the provider is not in the tree any more
}

// load reads what has changed of a scope since prev. again says whether
// something was read before.
func (b *FSBackend) load(l *loaded, prev *state, again bool) (*state, error) {
	ctx := context.Background()
	s := l.scope
	next, err := b.refreshScope(ctx, l, prev)
	if again && errors.Is(err, fs.ErrNotExist) {
		// The names of the tree are cached: they do not prove that it is gone.
		if _, _, err = b.tree.reread(ctx, s.Provider); err == nil {
			next, err = b.refreshScope(ctx, l, prev)
		}
	}
	switch {
	case err == nil:
		b.keep(l, prev, next)
		return next, nil
	case !again:
		b.cache.Delete(s)
		return nil, err
	case errors.Is(err, fs.ErrNotExist):
		b.cache.Delete(s)
		if s.version == "" {
			b.problems.report(s.owner(), nil)
			b.log.Warn("a provider is gone: clients get 404 for it; put it back if this was a mistake", "provider", s.Provider.String())
		}
		return &state{gone: true, content: &content{err: absence(s.Provider)}}, nil
	}
	if _, ok := errors.AsType[*treeError](err); !ok && b.unreadable.Allow(s.owner()) {
		b.log.Error("a provider cannot be read; what was read before is still served; check the disk or the mount", "provider", s.Provider.String(), "error", err)
	}
	return nil, err
}

// owner is the name under which the problems of a scope are logged.
func (s scope) owner() string { return s.Provider.String() }

// keep stores the result of a refresh in the cache, and logs problems and removed
// versions.
func (b *FSBackend) keep(l *loaded, prev, next *state) {
	s, c := l.scope, next.content
	if s.version != "" {
		if c.releases[s.version] == nil {
			b.cache.Delete(s) // the whole provider has to be read to know more
			return
		}
		b.cache.Put(s, l, c.size)
		return
	}
	b.cache.Put(s, l, c.size)
	if prev != nil && prev.content.listing != c.listing {
		b.logRemoved(s.Provider, prev.content.listing, c.listing)
	}
	l.scheduleRefresh(b.problems.report(s.owner(), c.problems))
}

// scheduleRefresh loads the scope again at a time, if that is not zero. An
// incomplete copy is then reported without another request.
func (l *loaded) scheduleRefresh(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.refreshTimer != nil {
		l.refreshTimer.Stop()
		l.refreshTimer = nil
	}
	if !at.IsZero() {
		l.refreshTimer = time.AfterFunc(time.Until(at), func() {
			l.Expire()
			l.Get(context.Background())
		})
	}
}

// logRemoved logs the versions that are not listed any more.
func (b *FSBackend) logRemoved(p Provider, before, now *Listing) {
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
		b.log.Warn("versions are gone: init fails for everyone who has them in a lock file; put the same files back to fix it",
			"provider", p.String(), "versions", abridge(gone))
	}
}

// refreshScope reads what has changed of a scope since prev.
func (b *FSBackend) refreshScope(ctx context.Context, l *loaded, prev *state) (*state, error) {
	s := l.scope
	ns, names, err := b.tree.find(ctx, s.Provider)
	if err != nil {
		return nil, err
	}
	leave, err := b.enter(s.Namespace)
	if err != nil {
		return nil, err
	}
	defer leave()
	l.Begin()
	next, missing := b.readOnce(s, ns, names, prev)
	if !missing {
		return next, nil
	}
	// A directory had just named a file that was then gone. That is a deletion,
	// or the beginning of an outage.
	if ns, names, err = b.tree.reread(ctx, s.Provider); err != nil {
		return nil, err
	}
	next, _ = b.readOnce(s, ns, names, prev)
	return next, nil
}

// enter waits for a slot of a namespace and for one of the whole backend. A
// namespace whose file system hangs cannot take all slots.
func (b *FSBackend) enter(namespace string) (leave func(), err error) {
	slots := b.tree.namespace(namespace).slots
	if err := take(slots); err != nil {
		return nil, err
	}
	if err := take(b.slots); err != nil {
		<-slots
		return nil, err
	}
	return func() { <-b.slots; <-slots }, nil
}

// take puts a token into a channel when there is room. It gives up when nobody
// waits for the load any more.
func take(slots chan struct{}) error {
	select {
	case slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(firstWait)
	defer timer.Stop()
	select {
	case slots <- struct{}{}:
		return nil
	case <-timer.C:
		return errBusy
	}
}

// readOnce reads what has changed of a scope. missing reports whether a directory
// named something that was then gone.
func (b *FSBackend) readOnce(s scope, ns *namespaceDir, names typeNames, prev *state) (next *state, missing bool) {
	if prev == nil {
		prev = &state{asOf: time.Now(), content: new(content), dirs: b.versionDirs(s)}
	}
	next = &state{asOf: time.Now(), fsys: ns.fsys, snapshot: ns.id}
	if names.document {
		next.document = b.readDocument(s, ns, names, prev.document)
		missing = next.document == nil
	}
	next.files = maps.Clone(ns.keys)
	if names.dir && b.readDir(s, ns, names, prev, next) {
		missing = true
	}
	next.keys = prev.keys
	if prev.keys == nil || !prev.keys.same(next.files) {
		next.keys = newRing(next.files)
	}
	if prev.keys != nil && next.sameAs(prev) {
		next.content = prev.content
	} else {
		next.content = next.build(s.Provider, prev.content)
	}
	return next, missing
}

// versionDirs returns the release directories of a provider that were read for
// single versions. If the whole provider is read and one of them is broken by
// now, its old release is still served.
func (b *FSBackend) versionDirs(s scope) map[string]*releaseDir {
	dirs := make(map[string]*releaseDir)
	if s.version == "" {
		b.cache.Each(func(other scope, l *loaded) {
			if other.Provider == s.Provider {
				if one, ok := l.Peek(); ok {
					maps.Copy(dirs, one.dirs)
				}
			}
		})
	}
	return dirs
}

// sameAs reports whether s surely has the same content as prev. If it returns
// false, the content may still be equal.
func (s *state) sameAs(prev *state) bool {
	sameDocument := s.document == prev.document || s.document != nil && prev.document != nil &&
		s.document.parsed == prev.document.parsed && s.document.problem == prev.document.problem
	return sameDocument && maps.Equal(s.dirs, prev.dirs) && s.keys == prev.keys && s.snapshot == prev.snapshot &&
		s.unread == nil && prev.unread == nil && slices.Equal(s.stray, prev.stray) && (prev.content.until.IsZero() || time.Now().Before(prev.content.until))
}

// readDir reads the directory of a provider into next. If it cannot be read, next
// gets what prev has. missing is as for readOnce.
func (b *FSBackend) readDir(s scope, ns *namespaceDir, names typeNames, prev, next *state) (missing bool) {
	at := s.Provider.String()
	var known func(string) bool // names whose types do not matter
	if s.version != "" || prev.snapshot == ns.id && len(prev.dirs) > 0 {
		known = func(name string) bool {
			return prev.dirs[name] != nil || s.version != "" && !hasDirFor(name, s.version)
		}
	}
	entries, err := tree.ReadDir(ns.fsys, at, !names.link, known)
	if err == nil {
		maps.Copy(next.files, readKeys(ns.fsys, ns.id, at, entries, prev.files))
		return b.readReleases(s, ns, entries, prev, next)
	}
	_, isLink := errors.AsType[*tree.LinkError](err)
	if errors.Is(err, fs.ErrNotExist) && !isLink {
		return true
	}
	effect := "nothing in it is served"
	if len(prev.dirs) > 0 {
		effect = "what was read of it before is still served"
	}
	problem := unreadableProblem(at, err, effect)
	next.unread = &problem
	if !isLink && len(prev.dirs) == 0 {
		next.lost = outage{err}
	}
	next.dirs, next.credit, next.next = prev.dirs, prev.credit, prev.next
	for path, f := range prev.files {
		if strings.HasPrefix(path, at+"/") {
			next.files[path] = f
		}
	}
	return false
}

// readReleases reads the release directories among the entries of a provider's
// directory into next: those that are new or have changed lately, and those that
// the rotation chooses. missing is as for readOnce.
func (b *FSBackend) readReleases(s scope, ns *namespaceDir, entries []fs.DirEntry, prev, next *state) (missing bool) {
	entries = slices.DeleteFunc(entries, func(entry fs.DirEntry) bool {
		name := entry.Name()
		if typ, version, ok := release.ParseSumsName(name); ok && typ == s.Type {
			next.stray = append(next.stray, strayReleaseProblem(s.Provider, name, version))
		}
		if tree.Ignored(name) || !tree.MayBeDir(entry) && !looksLikeVersion(name) && prev.dirs[name] == nil {
			return true
		}
		return s.version != "" && !hasDirFor(name, s.version)
	})
	turn := b.rotation(entries, prev, next, tree.IsObjectStore(ns.fsys))
	dirs := make([]*releaseDir, len(entries))
	var due []int
	for i, entry := range entries {
		old := prev.dirs[entry.Name()]
		if old == nil || !old.resting(next.asOf) || turn[entry.Name()] || old.snapshot != ns.id || old.suspect() || !old.settled() && b.isAwaited(old.path) {
			due = append(due, i)
		}
		dirs[i] = old
	}
	pool := tree.NewPool(maxReadsPerLoad)
	pool.Each(len(due), func(n int) {
		i := due[n]
		old := dirs[i]
		if old == nil || !old.settled() || old.snapshot != ns.id || old.suspect() || !old.stored.unchanged(ns.fsys) {
			dirs[i] = b.readRelease(s.Provider, ns, pool, s.Provider.String()+"/"+entries[i].Name(), entries[i].IsDir(), old)
		}
	})
	next.dirs = make(map[string]*releaseDir, len(entries))
	for i, dir := range dirs {
		if dir == nil {
			missing = true
			continue
		}
		missing = missing || dir.vanished
		next.dirs[entries[i].Name()] = dir
	}
	return missing
}

// unchanged reports whether SHA256SUMS and the signature of a settled release
// still have the same size and time.
func (r *storedRelease) unchanged(fsys fs.FS) bool {
	for i, name := range []string{r.sumsName, r.sumsName + ".sig"} {
		info, err := fs.Stat(fsys, r.path(name))
		r.mu.Lock()
		same := err == nil && r.own[i].Matches(info)
		r.mu.Unlock()
		if !same {
			return false
		}
	}
	return true
}

// rotation returns the names of the resting directories that this refresh
// examines. The refreshes of all providers examine the same share of their
// directories, and make at most rotationCalls calls a second together. rotation
// sets next.credit and next.next, with which the next refresh continues.
//
// In an object store, where each costs a request, settled releases are not
// examined, and a refresh examines brokenObjects of the others.
func (b *FSBackend) rotation(entries []fs.DirEntry, prev, next *state, objects bool) map[string]bool {
	own := 0
	var resting []string
	for _, entry := range entries { // in the order of their names
		if d := prev.dirs[entry.Name()]; d != nil && d.resting(next.asOf) && !(objects && d.settled()) {
			resting = append(resting, entry.Name())
			own += d.cost()
		}
	}
	next.credit, next.next = prev.credit, prev.next
	if own == 0 {
		return nil
	}
	turn := make(map[string]bool)
	start, _ := slices.BinarySearch(resting, prev.next)
	if objects {
		n := min(len(resting), brokenObjects)
		for i := range n {
			turn[resting[(start+i)%len(resting)]] = true
		}
		next.next = resting[(start+n)%len(resting)]
		return turn
	}
	all := b.rotationCost(next.asOf)
	elapsed := min(next.asOf.Sub(prev.asOf), time.Minute).Seconds()
	next.credit = min(next.credit+elapsed*rotationCalls*float64(own)/float64(max(all, own)), float64(own))
	for i := range resting {
		name := resting[(start+i)%len(resting)]
		if next.credit <= 0 {
			next.next = name
			break
		}
		next.credit -= float64(prev.dirs[name].cost())
		turn[name] = true
	}
	return turn
}

// rotationCost returns how many file-system calls it takes to examine all
// directories in memory once. It counts them again at most once a second.
func (b *FSBackend) rotationCost(now time.Time) int {
	b.rotated.Lock()
	defer b.rotated.Unlock()
	if now.Sub(b.counted) >= time.Second {
		b.counted, b.cost = now, 0
		b.cache.Each(func(_ scope, l *loaded) {
			if s, ok := l.Peek(); ok {
				for _, d := range s.dirs {
					b.cost += d.cost()
				}
			}
		})
	}
	return b.cost
}
