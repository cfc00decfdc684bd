package rekisteri

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rekisteri/rekisteri/internal/names"
)

const (
	dirsEvery = lookEvery / 2   // the names in a directory are read no more often
	youngFor  = 2 * time.Second // a file's times prove nothing while it is younger
)

// TreeDirs are the names in the upper two levels of a tree, which all looks
// share: who asks for what isn't there does not touch the file system.
type treeDirs struct {
	root       sharedDir[rootDir]
	mu         sync.Mutex
	namespaces map[string]*sharedDir[namespaceDir]
	peopled    atomic.Bool  // there has been a provider: an empty tree is an outage
	seen       atomic.Int64 // when one was last looked for and found, in nanoseconds of Unix time
}

// A sharedDir is what was last read of a directory. One look at it is in
// flight at a time.
type sharedDir[T any] struct {
	mu      sync.Mutex
	next    time.Time // it is not read again before
	reports reports
	state   atomic.Pointer[dirState[T]]
}

type dirState[T any] struct {
	dir  *T        // nil: there is none, or it was never read
	err  error     // why
	asOf time.Time // when it was read
}

// get returns the directory, and reads it if that is due. What cannot be read
// stays as it was.
func (d *sharedDir[T]) get(read func(prev *T) (*T, error)) (*T, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	s := d.state.Load()
	if s == nil {
		s = new(dirState[T])
	}
	if now.Before(d.next) {
		return s.dir, s.err
	}
	dir, err := read(s.dir)
	d.state.Store(&dirState[T]{dir, err, now})
	switch {
	case err != nil:
		d.next = time.Time{}
	case s.dir == nil: // the next will take less than the first
		d.next = now.Add(dirsEvery)
	default:
		d.next = now.Add(max(dirsEvery, lookRest*time.Since(now)))
	}
	return dir, err
}

// expire has the directory read again when it is asked for next.
func (d *sharedDir[T]) expire() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next = time.Time{}
}

// A rootDir is the names in the tree's root. It is immutable.
type rootDir struct {
	namespaces map[string]bool // those that may be directories
}

// A namespaceDir is what is in a namespace's directory. It is immutable.
type namespaceDir struct {
	documents, dirs map[string]bool     // of the types of providers
	keys            map[string]*keyFile // by path
	problems        []Problem
}

// sortedTypes returns the types of the providers in the namespace.
func (n *namespaceDir) sortedTypes() []string {
	types := maps.Clone(n.documents)
	maps.Copy(types, n.dirs)
	return slices.Sorted(maps.Keys(types))
}

// An absence says that a provider is not in the tree. It matches
// [fs.ErrNotExist].
type absence Provider

func (a absence) Error() string        { return "there is no provider " + Provider(a).String() }
func (a absence) Is(target error) bool { return target == fs.ErrNotExist }

// lacks reports whether a provider is known not to be in the tree.
func (t *treeDirs) lacks(p Provider, now time.Time) bool {
	fresh := func(at time.Time) bool { return now.Sub(at) < dirsEvery }
	if !fresh(time.Unix(0, t.seen.Load())) {
		return false
	}
	root := t.root.state.Load()
	if root == nil || root.err != nil || !fresh(root.asOf) {
		return false
	}
	if !root.dir.namespaces[p.Namespace] {
		return true
	}
	t.mu.Lock()
	d := t.namespaces[p.Namespace]
	t.mu.Unlock()
	if d == nil {
		return false
	}
	ns := d.state.Load()
	return ns != nil && ns.err == nil && fresh(ns.asOf) && !ns.dir.documents[p.Type] && !ns.dir.dirs[p.Type]
}

// expire has the root and a namespace read again, and a provider seen.
func (t *treeDirs) expire(namespace string) {
	t.root.expire()
	t.mu.Lock()
	d := t.namespaces[namespace]
	t.mu.Unlock()
	if d != nil {
		d.expire()
	}
	t.seen.Store(0)
}

// find returns the directory of a provider's namespace, if the provider is
// there. An error that matches fs.ErrNotExist says that it isn't.
func (b *FSBackend) find(p Provider) (*namespaceDir, error) {
	root, err := b.root()
	if err != nil {
		return nil, err
	}
	if !root.namespaces[p.Namespace] {
		return nil, b.absent(p)
	}
	ns, err := b.namespace(p.Namespace)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, b.absent(p)
	}
	if err != nil {
		return nil, err
	}
	if !ns.documents[p.Type] && !ns.dirs[p.Type] {
		return nil, b.absent(p)
	}
	b.tree.peopled.Store(true)
	return ns, nil
}

// absent returns why a provider is absent: because there is none in a tree
// that holds others, or because the tree is away.
func (b *FSBackend) absent(p Provider) error {
	now := time.Now()
	if now.Sub(time.Unix(0, b.tree.seen.Load())) < dirsEvery {
		return absence(p)
	}
	found, err := b.anyProvider()
	switch {
	case err != nil:
		return err
	case found:
		b.tree.peopled.Store(true)
		b.tree.seen.Store(now.UnixNano())
	case b.tree.peopled.Load():
		return &treeError{"the tree is empty and was not: its volume may not be mounted"}
	}
	return absence(p)
}

// anyProvider reports whether there is any provider in the tree.
func (b *FSBackend) anyProvider() (bool, error) {
	root, err := b.root()
	if err != nil {
		return false, err
	}
	for name := range root.namespaces {
		ns, err := b.namespace(name)
		if err == nil && len(ns.documents)+len(ns.dirs) > 0 {
			return true, nil
		}
	}
	return false, nil
}

// A treeError says that the tree is away. It matches nothing: a tree that isn't
// there is no provider that isn't there.
type treeError struct{ text string }

func (e *treeError) Error() string { return e.text }

// root returns the names in the tree's root.
func (b *FSBackend) root() (*rootDir, error) {
	return b.tree.root.get(func(*rootDir) (*rootDir, error) {
		// A file system that is opened anew when its directory is swapped
		// looks for that here.
		entries, err := fs.ReadDir(b.fsys, ".")
		if err != nil {
			return nil, &treeError{"the tree cannot be read: " + err.Error()}
		}
		root := &rootDir{make(map[string]bool)}
		for _, entry := range entries {
			if mayBeDir(entry) && names.Valid(entry.Name()) {
				root.namespaces[entry.Name()] = true
			}
		}
		return root, nil
	})
}

// namespace returns what is in a directory of the root.
func (b *FSBackend) namespace(name string) (*namespaceDir, error) {
	b.tree.mu.Lock()
	d := b.tree.namespaces[name]
	if d == nil {
		if b.tree.namespaces == nil {
			b.tree.namespaces = make(map[string]*sharedDir[namespaceDir])
		}
		d = new(sharedDir[namespaceDir])
		b.tree.namespaces[name] = d
	}
	b.tree.mu.Unlock()
	return d.get(func(prev *namespaceDir) (*namespaceDir, error) {
		ns, problems, err := b.readNamespace(name, prev)
		d.reports.log(b.log, problems)
		return ns, err
	})
}

// readNamespace reads a namespace's directory. What cannot be read stays as it
// was in prev, with a problem.
func (b *FSBackend) readNamespace(name string, prev *namespaceDir) (*namespaceDir, []Problem, error) {
	effect := "what was read of it before is still served"
	if prev == nil {
		effect = "nothing in it is served"
	}
	entries, err := b.readDir(name)
	if link, ok := errors.AsType[*linkError](err); ok {
		problems := []Problem{link.problem(effect)}
		if prev != nil {
			err = nil
		}
		return prev, problems, err
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err
	}
	if err != nil {
		problems := []Problem{{Path: name, What: reason(err), Effect: effect, Fix: "make the directory readable"}}
		if prev == nil {
			return nil, problems, fmt.Errorf("the namespace cannot be read: %w", err)
		}
		return prev, problems, nil
	}
	ns := &namespaceDir{documents: make(map[string]bool), dirs: make(map[string]bool), keys: make(map[string]*keyFile)}
	var before map[string]*keyFile
	if prev != nil {
		before = prev.keys
	}
	b.readKeys(name, entries, before, ns.keys)
	for _, f := range ns.keys {
		ns.problems = append(ns.problems, f.problems...)
	}
	for _, entry := range entries {
		t, isDocument := strings.CutSuffix(entry.Name(), ".json")
		switch {
		case !names.Valid(t):
		case isDocument:
			ns.documents[t] = true
		case b.isDir(name+"/"+t, entry, &ns.problems):
			ns.dirs[t] = true
		}
	}
	return ns, ns.problems, nil
}

// mayBeDir reports whether a directory's entry is a directory, or a link that
// may lead to one. Nothing else is opened as one: to open a pipe would wait
// for its writer.
func mayBeDir(entry fs.DirEntry) bool { return entry.Type()&(fs.ModeDir|fs.ModeSymlink) != 0 }

// isDir reports whether a directory's entry is a directory, or a link to one.
// A link that is not followed is a problem.
func (b *FSBackend) isDir(name string, entry fs.DirEntry, problems *[]Problem) bool {
	if entry.Type()&fs.ModeSymlink == 0 {
		return entry.IsDir()
	}
	info, err := fs.Stat(b.fsys, name)
	if err == nil {
		return info.IsDir()
	}
	err = b.explain(name, err)
	if link, ok := errors.AsType[*linkError](err); ok {
		*problems = append(*problems, link.problem("nothing behind it is served"))
	}
	return !errors.Is(err, fs.ErrNotExist) // else its own look says what is wrong
}

// readDir returns what is in a directory.
func (b *FSBackend) readDir(name string) ([]fs.DirEntry, error) {
	info, err := fs.Stat(b.fsys, name)
	if err == nil && !info.IsDir() {
		return nil, fmt.Errorf("%s is no directory: %w", name, fs.ErrNotExist)
	}
	var entries []fs.DirEntry
	if err == nil {
		entries, err = fs.ReadDir(b.fsys, name)
	}
	return entries, b.explain(name, err)
}

// explain returns err, which the file system gave for name, in a form that
// matches fs.ErrNotExist where there is nothing at that name: file systems
// have errors of their own for a file in the place of a directory, and for a
// link that may not be followed.
func (b *FSBackend) explain(name string, err error) error {
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok && errno != syscall.ENOTDIR && errno != syscall.ELOOP {
		return err // such as an input/output error behind a link that is good
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

// A linkError is a link that is not followed. It matches [fs.ErrNotExist].
type linkError struct{ path, why string }

func (e *linkError) Error() string        { return "the link " + e.path + " " + e.why }
func (e *linkError) Is(target error) bool { return target == fs.ErrNotExist }

func (e *linkError) problem(effect string) Problem {
	return Problem{Path: e.path, What: "the link " + e.why, Effect: effect, Fix: e.fix()}
}

func (e *linkError) fix() string { return "let it lead to a relative path in the tree" }

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

// An unreadError is why something in the tree could not be read. It matches
// its cause.
type unreadError struct {
	problem Problem
	cause   error
}

func (e *unreadError) Error() string { return e.problem.Path + ": " + e.problem.What }
func (e *unreadError) Unwrap() error { return e.cause }

// reason returns what went wrong without the path, which a Problem has.
func reason(err error) string {
	if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
		return pathErr.Err.Error()
	}
	return err.Error()
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
		return nil, stamp{}, fmt.Errorf("larger than %d MiB", limit>>20)
	}
	data := bytes.NewBuffer(make([]byte, 0, info.Size()+bytes.MinRead))
	if _, err := data.ReadFrom(io.LimitReader(f, limit)); err != nil {
		return nil, stamp{}, err
	}
	after, err := f.Stat()
	if err != nil {
		return nil, stamp{}, err
	}
	if !alike(info, after) || int64(data.Len()) != after.Size() {
		return nil, stamp{}, errors.New("changed while it was read")
	}
	return data.Bytes(), stampOf(info, now), nil
}

// A randomFile is a file that can be served in parts.
type randomFile interface {
	fs.File
	io.ReadSeeker
	io.ReaderAt
}

func (b *FSBackend) openRandom(name string) (randomFile, error) {
	f, err := b.fsys.Open(name)
	if err != nil {
		return nil, err
	}
	random, ok := f.(randomFile)
	if !ok {
		f.Close()
		return nil, errors.New("the file system's files cannot be read from the middle")
	}
	return random, nil
}
