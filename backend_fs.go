package rekisteri

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/rekisteri/rekisteri/internal/loglimit"
	"github.com/rekisteri/rekisteri/internal/refresh"
)

// FSOptions are the settings of an [FSBackend]. The zero value is ready to use.
type FSOptions struct {
	// Logger gets what is wrong with the tree: each problem when it appears, and
	// again every hour while it lasts. Nil means [slog.Default] at the time
	// of [NewFSBackend].
	Logger *slog.Logger

	// CacheBytes limits the memory for what the backend has read of the tree, in
	// bytes. The limit is approximate. Zips are not read into memory. The
	// providers that were asked for least recently are evicted first, and read
	// again when they are asked for. Zero is 32 MiB.
	CacheBytes int64

	// RefreshEvery is the shortest time between two refreshes of a provider. A
	// refresh reads what has changed in the tree. There are no refreshes without
	// requests. Releases are visible within RefreshEvery plus one second, and new
	// keys and new providers within twice RefreshEvery. Set a longer time for a
	// file system that charges for each call. Zero is one second.
	RefreshEvery time.Duration

	// Store is where [FSBackend.Publisher] publishes releases: usually the same
	// [Dir] that the backend reads. Nil means that there is no publisher, and the
	// backend writes nothing.
	Store Store
}

// An FSBackend is a [Backend], an [Opener] and a [Lister] over a tree of files. A
// version of a provider is a directory with the files of its release,
// <namespace>/<type>/<version>/, or an entry of the metadata document
// <namespace>/<type>.json, which links to files elsewhere. docs/layout.md
// describes both.
//
// The tree may change at any time. New and deleted releases, and changed
// documents and keys, are visible within two seconds; docs/layout.md says when it
// takes longer. Providers in memory are refreshed in the background when they are
// asked for, at most once a second, or once in [FSOptions.RefreshEvery].
//
// A file that is broken, half written or unreadable does not remove what was
// served before, as long as that is in memory. A tree that is missing, unreadable
// or empty is an outage and not a deletion, since a volume may not be mounted:
// what is in memory is still served, and everything else is an error that does
// not match [fs.ErrNotExist].
//
// An FSBackend is safe for concurrent use. It reads in goroutines of its own,
// whose number is limited.
type FSBackend struct {
	log      *slog.Logger
	store    Store           // nil: there is no publisher
	every    time.Duration   // between two refreshes of a provider
	policy   *refresh.Policy // of providers
	seed     maphash.Seed
	slots    chan struct{} // has an element for each running load
	problems *problemLog
	tree     *treeNames
	cache    *refresh.Map[scope, *loaded]
	indexes  *refresh.Map[Provider, *documentIndex] // of documents, even after these are evicted
	buffers  sync.Pool                              // of *metadata.Buffer

	unreadable loglimit.Limit // the providers that could not be read
	hashing    chan struct{}

	publishing sync.Mutex     // guards awaited
	awaited    map[string]int // directories of releases that publishers wait for

	rotated sync.Mutex // guards counted and cost, of the rotation
	counted time.Time
	cost    int
}

// A SnapshotFS is an [fs.FS] whose content may be replaced as a whole, such as a
// directory behind a link that is swapped. An [FSBackend] takes one snapshot for
// each refresh, and reads everything from it.
type SnapshotFS interface {
	fs.FS

	// Snapshot returns the content as it is now, and an ID that changes when the
	// content is replaced. What was read under another ID is read again. While
	// a snapshot is in use, it must keep its content, or fail. It must not
	// change to the next content.
	Snapshot(ctx context.Context) (fsys fs.FS, id string, err error)
}

const (
	refreshEvery = time.Second      // the least time between two refreshes of a provider, by default
	restFactor   = 20               // the time between two refreshes is at least this many times the length of the last one
	staleAfter   = time.Second      // a request waits for a refresh that is overdue by this
	firstWait    = 8 * time.Second  // the longest that a request waits for the first read: clients give up after 10 s
	remindEvery  = time.Hour        // a problem that lasts is logged again
	pendingFor   = 15 * time.Second // an incomplete copy is a problem after that

	maxLoads             = 128 // of providers, at a time
	maxLoadsPerNamespace = 16
	maxReadsPerLoad      = 32   // goroutines of a load
	rotationCalls        = 1000 // file-system calls a second for settled releases
	brokenObjects        = 10   // broken releases that a refresh examines in an object store

	defaultCacheBytes = 32 << 20
)

// errBusy is the error of a load that got no slot in time.
var errBusy = fmt.Errorf("the file system is too slow for the number of requests: %w", context.DeadlineExceeded)

// NewFSBackend returns an FSBackend over fsys. Nil options are the defaults.
// Nothing is read before it is asked for. NewFSBackend panics if fsys is nil.
//
// Files must implement [io.Seeker] and [io.ReaderAt]. Those of [os.Root.FS],
// [os.DirFS] and [embed.FS] do. Those of [archive/zip.Reader] do not. fsys
// decides which links it follows: [OpenDir] and [os.Root.FS] follow those that
// stay in the tree, [os.DirFS] follows all. If fsys is a [SnapshotFS], each
// refresh reads one snapshot.
func NewFSBackend(fsys fs.FS, opts *FSOptions) *FSBackend {
	if fsys == nil {
		panic("rekisteri: NewFSBackend with a nil FS")
	}
	if opts == nil {
		opts = new(FSOptions)
	}
	b := &FSBackend{log: opts.Logger, store: opts.Store, seed: maphash.MakeSeed(), slots: make(chan struct{}, maxLoads), hashing: make(chan struct{}, 1), awaited: make(map[string]int)}
	if b.log == nil {
		b.log = slog.Default()
	}
	b.every = cmp.Or(opts.RefreshEvery, refreshEvery)
	limit := opts.CacheBytes
	if limit == 0 {
		limit = defaultCacheBytes
	}
	b.policy = &refresh.Policy{
		Every: b.every, Rest: restFactor, FirstWait: firstWait,
		Fresh: b.every + staleAfter, StaleWait: b.every / 10,
	}
	b.problems = &problemLog{log: b.log}
	b.tree = newTreeNames(fsys, b.log, b.problems, b.every)
	b.cache = refresh.NewMap[scope, *loaded](limit-limit/8, nil)
	b.indexes = refresh.NewMap[Provider, *documentIndex](limit/8, nil)
	return b
}

// Versions implements [Backend].
func (b *FSBackend) Versions(ctx context.Context, p Provider) (*Listing, error) {
	s, err := b.get(ctx, scope{Provider: p})
	if err != nil {
		return nil, err
	}
	return s.content.listing, s.content.err
}

// Release implements [Backend].
func (b *FSBackend) Release(ctx context.Context, p Provider, version string) (*Release, error) {
	c, err := b.contentWith(ctx, p, version)
	if err != nil {
		return nil, err
	}
	if rel, ok := c.releases[version]; ok {
		return rel, nil
	}
	if c.lost != nil {
		return nil, c.lost
	}
	return nil, fmt.Errorf("%v has no version %q that can be served: %w", p, version, fs.ErrNotExist)
}

// Open implements [Opener]. SHA256SUMS and its signature come from memory;
// zips are opened in the tree. A zip that has changed since it was read
// is hashed, and must have the sum of its package.
func (b *FSBackend) Open(ctx context.Context, p Provider, version, name string) (io.ReadSeekCloser, error) {
	f, err := b.open(ctx, p, version, name)
	if _, ok := errors.AsType[outage](err); !ok {
		return f, err
	}
	// The zip is missing, or is another one. The release may have been replaced:
	// read it again, and give up if that does not help.
	for _, s := range []scope{{p, ""}, {p, version}} {
		if l, ok := b.cache.Get(s); ok {
			l.Reload(ctx)
		}
	}
	return b.open(ctx, p, version, name)
}

func (b *FSBackend) open(ctx context.Context, p Provider, version, name string) (io.ReadSeekCloser, error) {
	c, err := b.contentWith(ctx, p, version)
	if err != nil {
		return nil, err
	}
	if r := c.stored[version]; r != nil {
		switch name {
		case r.sumsName:
			return memoryFile{strings.NewReader(r.sums)}, nil
		case r.sumsName + ".sig":
			return memoryFile{strings.NewReader(r.signature)}, nil
		}
		for i := range r.release.Packages {
			if r.release.Packages[i].Filename == name {
				return b.openZip(ctx, c.fsys, r, i)
			}
		}
	}
	return nil, fmt.Errorf("%v has no file %q of a version %q: %w", p, name, version, fs.ErrNotExist)
}

// get returns what was read of a scope, and reads it if it is not in memory.
func (b *FSBackend) get(ctx context.Context, s scope) (*state, error) {
	l, ok := b.cache.Get(s)
	if !ok {
		if !s.Provider.valid() {
			return nil, absence(s.Provider)
		}
		// Names that do not exist must not fill the cache.
		if _, _, err := b.tree.find(ctx, s.Provider); err != nil {
			return nil, err
		}
		l = b.cache.GetOrPut(s, func() (scope, *loaded) {
			l := &loaded{scope: s.clone()}
			l.Value = refresh.New(b.policy, func(prev *state, again bool) (*state, error) { return b.load(l, prev, again) })
			return l.scope, l
		})
	}
	state, err := l.Get(ctx)
	if err == nil && state.gone {
		err = state.content.err
	}
	return state, err
}

// contentWith returns the content that a version of a provider is served from. If
// the provider is not in memory, it tries to read only that version.
func (b *FSBackend) contentWith(ctx context.Context, p Provider, version string) (*content, error) {
	whole, one := scope{Provider: p}, scope{p, version}
	if l, ok := b.cache.Get(whole); !ok || !l.isLoaded() {
		if l, ok := b.cache.Get(one); ok {
			if s, ok := l.Peek(); ok && s.document != nil && s.document.index.fresh(time.Now(), b.every) && s.content.releases[version] != nil {
				return s.content, nil
			}
		}
		s, err := b.get(ctx, one)
		if err != nil {
			return nil, err
		}
		if s.content.releases[version] != nil {
			return s.content, nil
		}
	}
	s, err := b.get(ctx, whole)
	if err != nil {
		return nil, err
	}
	if s.content.lost != nil && s.content.releases[version] == nil {
		if l, ok := b.cache.Get(one); ok { // what was read of it before is still good
			if s, err := l.Get(ctx); err == nil && s.content.releases[version] != nil {
				return s.content, nil
			}
		}
	}
	return s.content, nil
}

func (l *loaded) isLoaded() bool {
	_, ok := l.Peek()
	return ok
}
