package rekisteri

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rekisteri/rekisteri/internal/names"
	"github.com/rekisteri/rekisteri/internal/openpgp"
	"github.com/rekisteri/rekisteri/internal/refresh"
	"github.com/rekisteri/rekisteri/internal/tree"
)

// treeNames has the upper two levels of a tree: the namespaces, and the providers
// and keys in each. All loads share it, so that a request for a name that does
// not exist does not touch the file system.
type treeNames struct {
	fsys     fs.FS
	log      *slog.Logger
	problems *problemLog
	every    time.Duration   // between two refreshes of a provider
	policy   *refresh.Policy // of the directories
	root     *refresh.Value[*rootDir]

	mu         sync.Mutex
	namespaces map[string]*namespace

	inhabited atomic.Bool  // the tree had a provider, so an empty tree is an outage
	present   atomic.Int64 // when a provider was last seen, in nanoseconds of Unix time
	outage    atomic.Int64 // when the outage was last logged, in nanoseconds of Unix time; 0: there is none
	health    atomic.Pointer[treeHealth]
}

// treeHealth is what the last read of the tree found.
type treeHealth struct {
	looked time.Time
	err    error
	good   time.Time // when the tree could last be read
}

// A namespace is a directory of the root, and the slots of its loads.
type namespace struct {
	dir    *refresh.Value[*namespaceDir]
	linked *refresh.Value[[]Provider] // the providers, if some are links
	slots  chan struct{}              // has an element for each running load in the namespace
}

// A rootDir is what was read of the root. It is immutable.
type rootDir struct {
	fsys       fs.FS
	id         string          // of the snapshot
	namespaces map[string]bool // false: the name is a link, which may lead to a directory
	problems   []Problem
	err        error // why the root cannot be read; the other fields are what was read before
}

// A namespaceDir is what was read of a namespace's directory. It is immutable.
type namespaceDir struct {
	fsys  fs.FS // the snapshot that it was read from
	id    string
	types map[string]typeNames
	keys  map[string]*keyFile // by path
	gone  bool                // there is no such directory
	err   error               // why it cannot be read; the other fields are what was read before

	problems []Problem
}

// typeNames says what a namespace has of a provider.
type typeNames struct {
	document bool // <type>.json
	dir      bool // a directory, or a link that may lead to one
	link     bool
}

func newTreeNames(fsys fs.FS, log *slog.Logger, problems *problemLog, every time.Duration) *treeNames {
	t := &treeNames{fsys: fsys, log: log, problems: problems, every: every, namespaces: make(map[string]*namespace)}
	// Without Fresh, a caller waits for a directory that is due, so a refresh
	// does not use older names. All providers share these directories, so they
	// are read about once between two refreshes of a provider.
	t.policy = &refresh.Policy{Every: max(every/2, every-refreshEvery/2), Rest: restFactor, FirstWait: firstWait, StaleWait: 2 * time.Second}
	t.root = refresh.New(t.policy, t.readRoot)
	return t
}

// A treeError says that the tree cannot be read. It does not match
// fs.ErrNotExist: if the tree is missing, its providers may still exist.
type treeError struct {
	text  string
	cause error // of the file system; nil: the tree is empty
}

func (e *treeError) Error() string { return e.text }

// errHangs is the error for names that are not known while the file system does
// not answer.
var errHangs = fmt.Errorf("the file system does not answer: %w", context.DeadlineExceeded)

// readRoot reads the names in the root.
func (t *treeNames) readRoot(prev *rootDir, loaded bool) (*rootDir, error) {
	failed := func(err error) (*rootDir, error) {
		next := &rootDir{err: &treeError{"the tree cannot be read: " + err.Error(), err}}
		if loaded {
			next.fsys, next.id, next.namespaces = prev.fsys, prev.id, prev.namespaces
		}
		return next, nil
	}
	fsys, id := t.fsys, ""
	if s, ok := t.fsys.(SnapshotFS); ok {
		var err error
		if fsys, id, err = s.Snapshot(context.Background()); err != nil {
			return failed(err)
		}
	}
	entries, err := fs.ReadDir(fsys, ".")
	if err != nil {
		return failed(err)
	}
	root := &rootDir{fsys: fsys, id: id, namespaces: make(map[string]bool)}
	var versions []string
	for _, entry := range entries {
		name := entry.Name()
		switch {
		case tree.Ignored(name):
		case !tree.MayBeDir(entry):
			if strings.HasSuffix(name, ".json") {
				root.problems = append(root.problems, strayDocumentProblem(name))
			}
		case isVersion(name):
			versions = append(versions, name)
		case !names.Valid(name):
			root.problems = append(root.problems, nameProblem(name, name))
		default:
			root.namespaces[name] = entry.IsDir()
		}
	}
	if len(versions) > 0 {
		root.problems = append(root.problems, levelProblem(".", versions))
	}
	t.problems.report(".", root.problems)
	return root, nil
}

// isVersion reports whether a name looks like that of a release directory.
func isVersion(name string) bool {
	_, ok := names.ParseVersion(name)
	return ok && strings.Contains(name, ".")
}

// namespace returns the namespace of a name that the root has.
func (t *treeNames) namespace(name string) *namespace {
	t.mu.Lock()
	defer t.mu.Unlock()
	ns := t.namespaces[name]
	if ns == nil {
		name = strings.Clone(name) // it may be a part of a request
		ns = &namespace{slots: make(chan struct{}, maxLoadsPerNamespace)}
		ns.dir = refresh.New(t.policy, func(prev *namespaceDir, loaded bool) (*namespaceDir, error) {
			return t.readNamespace(name, prev, loaded)
		})
		ns.linked = refresh.New(t.policy, func([]Provider, bool) ([]Provider, error) {
			dir, err := ns.dir.Get(context.Background())
			if err != nil {
				return nil, err
			}
			ns.linked.Begin()
			all, _ := dir.providers(name)
			return all, nil
		})
		t.namespaces[name] = ns
	}
	return ns
}

// overdue reports whether a read of the directory or its links hangs.
func (n *namespace) overdue() bool { return n.dir.Overdue() || n.linked.Overdue() }

// readNamespace reads a namespace's directory. What cannot be read stays as it
// was in prev, with a problem.
func (t *treeNames) readNamespace(name string, prev *namespaceDir, loaded bool) (*namespaceDir, error) {
	root, ok := t.root.Peek()
	if !ok || root.fsys == nil {
		return nil, errors.New("the root was not read yet")
	}
	next := &namespaceDir{fsys: root.fsys, id: root.id}
	var known func(string) bool
	if loaded && prev.id == root.id {
		known = prev.knows
	}
	entries, err := tree.ReadDir(root.fsys, name, root.namespaces[name], known)
	_, isLink := errors.AsType[*tree.LinkError](err)
	if errors.Is(err, fs.ErrNotExist) && !isLink {
		next.gone = true
		return next, nil
	}
	if err != nil {
		effect := "nothing in it is served"
		if loaded {
			effect = "what was read of it before is still served"
		}
		next.problems = []Problem{unreadableProblem(name, err, effect)}
		t.problems.report(name, next.problems)
		next.err = fmt.Errorf("the namespace %s cannot be read: %w", name, err)
		if !loaded {
			return nil, next.err
		}
		next.types, next.keys, next.gone = prev.types, prev.keys, prev.gone
		return next, nil
	}
	var before map[string]*keyFile
	if loaded {
		before = prev.keys
	}
	next.keys = readKeys(root.fsys, root.id, name, entries, before)
	for _, at := range slices.Sorted(maps.Keys(next.keys)) {
		next.problems = append(next.problems, next.keys[at].problems...)
	}
	next.types = make(map[string]typeNames)
	var versions []string
	for _, entry := range entries {
		typ, isDocument := strings.CutSuffix(entry.Name(), ".json")
		isKnown := known != nil && known(entry.Name())
		found := next.types[typ]
		switch {
		case tree.Ignored(typ) || strings.HasSuffix(typ, ".asc") || !isDocument && !isKnown && !tree.MayBeDir(entry):
			continue
		case isDocument:
			found.document = true
		default:
			found.dir, found.link = true, !isKnown && !entry.IsDir()
		}
		switch {
		case names.Valid(typ):
			next.types[typ] = found
		case isDocument:
			next.problems = append(next.problems, nameProblem(name+"/"+entry.Name(), typ))
		case isVersion(typ):
			versions = append(versions, typ)
		case !found.link:
			next.problems = append(next.problems, nameProblem(name+"/"+typ, typ))
		}
	}
	if len(versions) > 0 {
		next.problems = append(next.problems, levelProblem(name, versions))
	}
	t.problems.report(name, next.problems)
	return next, nil
}

// knows reports whether an entry of the namespace is known to be a document, or a
// directory and not a link.
func (d *namespaceDir) knows(name string) bool {
	typ, isDocument := strings.CutSuffix(name, ".json")
	names := d.types[typ]
	return isDocument && names.document || !isDocument && names.dir && !names.link
}

// find returns the namespace of a provider, and what the namespace has of that
// provider. An error that matches [fs.ErrNotExist] says that the provider is
// not in the tree.
func (t *treeNames) find(ctx context.Context, p Provider) (*namespaceDir, typeNames, error) {
	ns, names, err := t.lookUp(ctx, p)
	if outage, ok := errors.AsType[*treeError](err); ok {
		var good time.Time
		if h := t.health.Load(); h != nil {
			good = h.good
		}
		t.health.Store(&treeHealth{time.Now(), outage, good})
		t.logOutage(outage)
	} else if h := t.health.Load(); (err == nil || errors.Is(err, fs.ErrNotExist)) && (h == nil || h.err != nil || time.Since(h.looked) >= time.Second) {
		now := time.Now()
		t.health.Store(&treeHealth{now, nil, now})
		t.logRecovery()
	}
	return ns, names, err
}

func (t *treeNames) lookUp(ctx context.Context, p Provider) (*namespaceDir, typeNames, error) {
	// This is read before the root: another request may see the first provider
	// meanwhile.
	inhabited := t.inhabited.Load()
	root, err := t.root.Get(ctx)
	if err != nil {
		return nil, typeNames{}, err
	}
	if root.err != nil { // perhaps it can be read by now
		if root, err = t.root.Reload(ctx); err == nil {
			err = root.err
		}
		if err != nil {
			return nil, typeNames{}, err
		}
	}
	if _, ok := root.namespaces[p.Namespace]; !ok {
		return nil, typeNames{}, t.absent(ctx, root, p, inhabited)
	}
	dir, err := t.namespace(p.Namespace).dir.Get(ctx)
	if err != nil {
		return nil, typeNames{}, err
	}
	names, ok := dir.types[p.Type]
	if !ok && dir.err != nil {
		return nil, typeNames{}, dir.err
	}
	if !ok {
		return nil, typeNames{}, t.absent(ctx, root, p, inhabited)
	}
	t.inhabited.Store(true)
	return dir, names, nil
}

// absent returns why a provider is not found: it does not exist, or the tree is
// missing, or the file system does not answer. inhabited says that the tree had a
// provider before root was read.
func (t *treeNames) absent(ctx context.Context, root *rootDir, p Provider, inhabited bool) error {
	now := time.Now()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	_, known := root.namespaces[p.Namespace] // others must not get an entry
	if t.root.Overdue() || known && t.namespace(p.Namespace).dir.Overdue() {
		return errHangs
	}
	if now.Sub(time.Unix(0, t.present.Load())) < t.every/2 {
		return absence(p)
	}
	ctx, cancel := context.WithTimeout(ctx, firstWait) // for all of them
	defer cancel()
	hasKey, unknown := false, false
	for name := range root.namespaces {
		dir, err := t.namespace(name).dir.Get(ctx)
		switch {
		case err != nil:
			unknown = true
		case len(dir.types) > 0:
			t.inhabited.Store(true)
			t.present.Store(now.UnixNano())
			return absence(p)
		case len(dir.keys) > 0:
			hasKey = true
		}
	}
	switch {
	case hasKey: // the tree is there, and waits for an upload
		return absence(p)
	case inhabited:
		return &treeError{"the tree has no providers any more: if it is a volume, check that it is mounted", nil}
	case !unknown:
		return &treeError{"the tree is empty: if it is a volume, check that it is mounted; for a new registry, add a namespace with its signing key (<namespace>/<name>.asc)", nil}
	}
	return absence(p)
}

// reread is like find, but reads the root and the namespaces again first. Cached
// names do not prove that a provider is gone.
func (t *treeNames) reread(ctx context.Context, p Provider) (*namespaceDir, typeNames, error) {
	t.present.Store(0)
	root, err := t.root.Reload(ctx)
	if err == nil && root.err == nil {
		for name := range root.namespaces {
			t.namespace(name).dir.Expire()
		}
		if _, ok := root.namespaces[p.Namespace]; ok {
			t.namespace(p.Namespace).dir.Reload(ctx) // a load that runs may have begun too early
		}
	}
	return t.find(ctx, p)
}

// eachKnown calls f with the problems and the keys of the root and of each
// namespace, as far as they are in memory.
func (t *treeNames) eachKnown(f func([]Problem, *openpgp.Keyring)) {
	root, ok := t.root.Peek()
	if !ok {
		return
	}
	f(root.problems, openpgp.NewKeyring(nil))
	var known []*namespace
	t.mu.Lock() // requests wait for it
	for name := range root.namespaces {
		if ns := t.namespaces[name]; ns != nil {
			known = append(known, ns)
		}
	}
	t.mu.Unlock()
	for _, ns := range known {
		if dir, ok := ns.dir.Peek(); ok {
			f(dir.problems, newRing(dir.keys).Keyring)
		}
	}
}

// logOutage logs once, and then every hour, that the tree cannot be read.
func (t *treeNames) logOutage(err error) {
	last, now := t.outage.Load(), time.Now()
	if now.Sub(time.Unix(0, last)) > remindEvery && t.outage.CompareAndSwap(last, now.UnixNano()) {
		t.log.Error("the tree cannot be read", "error", err, "effect", "what is in memory is still served, everything else is answered with 500")
	}
}

// logRecovery logs that the tree can be read again.
func (t *treeNames) logRecovery() {
	if last := t.outage.Load(); last != 0 && t.outage.CompareAndSwap(last, 0) {
		t.log.Info("the tree can be read again")
	}
}
