package rekisteri

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rekisteri/rekisteri/internal/openpgp"
	"github.com/rekisteri/rekisteri/internal/tree"
)

// A keyFile is a file of public keys as it was last read. It is immutable.
type keyFile struct {
	path     string
	snapshot string // that version belongs to
	version  tree.Version
	sum      [sha256.Size]byte
	keys     []openpgp.Key
	problems []Problem
	lost     error // why the file may hold keys that were never read; nil: it does not
}

// readKeys reads the files of public keys among the entries of a directory. prev
// has what was read before, by path.
func readKeys(fsys fs.FS, snapshot, dir string, entries []fs.DirEntry, prev map[string]*keyFile) map[string]*keyFile {
	files := make(map[string]*keyFile)
	for _, entry := range entries {
		if name := entry.Name(); strings.HasSuffix(name, ".asc") && !tree.Ignored(name) {
			at := dir + "/" + name
			if f := readKeyFile(fsys, snapshot, at, prev[at]); f != nil {
				files[at] = f
			}
		}
	}
	return files
}

// readKeyFile reads a file of public keys. If the file cannot be read, the keys
// stay as they were in prev, with a problem. It returns nil if there is no file.
func readKeyFile(fsys fs.FS, snapshot, path string, prev *keyFile) *keyFile {
	known := prev != nil
	if !known {
		prev = new(keyFile)
	}
	f := &keyFile{path: path, snapshot: snapshot, keys: prev.keys}
	effect := "its keys are not served"
	if len(f.keys) > 0 {
		effect = "the keys that it held before are still served"
	}
	unreadable := func(err error) *keyFile {
		if len(f.keys) == 0 && !errors.Is(err, fs.ErrNotExist) {
			f.lost = fmt.Errorf("%s: %w", path, outage{err})
		}
		f.problems = []Problem{unreadableProblem(path, err, effect)}
		return f
	}
	info, err := fs.Stat(fsys, path)
	if err != nil {
		err = tree.Explain(fsys, path, err)
		_, isLink := errors.AsType[*tree.LinkError](err)
		switch {
		case !errors.Is(err, fs.ErrNotExist) || isLink:
			return unreadable(err)
		case known:
			return prev // the directory still names it, so it is being replaced
		}
		return nil
	}
	if !info.Mode().IsRegular() {
		f.problems = []Problem{notFileProblem(path, effect, "put the armored key in its place")}
		return f
	}
	if prev.snapshot == snapshot && prev.version.Proves(info) {
		return prev
	}
	now := time.Now()
	data, info, err := tree.ReadFile(fsys, path, tree.MaxSmallFile)
	if err != nil {
		return unreadable(err)
	}
	f.version, f.sum = tree.VersionOf(info, now), sha256.Sum256(data)
	if known && f.sum == prev.sum {
		f.problems = prev.problems
		return f
	}
	keys, err := openpgp.ReadKeys(data)
	if len(keys) > 0 {
		f.keys = keys
	}
	if err != nil {
		f.problems = []Problem{keyFileProblem(path, err, len(f.keys) > 0, len(keys) > 0)}
	}
	return f
}

// A ring has the keys that a provider's releases may be signed with: the
// provider's own, and then those of its namespace.
type ring struct {
	*openpgp.Keyring
	files map[string]*keyFile // by path
	lost  error               // why a key may be missing; nil: none is

	mu     sync.Mutex
	orders map[string][]SigningKey // by the ID of the first key
}

// newRing returns the keys in files.
func newRing(files map[string]*keyFile) *ring {
	r := &ring{files: files, orders: make(map[string][]SigningKey)}
	paths := slices.SortedFunc(maps.Keys(files), func(a, b string) int {
		return cmp.Or(strings.Count(b, "/")-strings.Count(a, "/"), strings.Compare(a, b))
	})
	var all []openpgp.KeyFile
	for _, at := range paths {
		if files[at].lost != nil {
			r.lost = files[at].lost
		}
		all = append(all, openpgp.KeyFile{Path: at, Keys: files[at].keys})
	}
	r.Keyring = openpgp.NewKeyring(all)
	return r
}

// same reports whether files hold the same keys as those of the ring.
func (r *ring) same(files map[string]*keyFile) bool {
	return maps.EqualFunc(r.files, files, func(a, b *keyFile) bool {
		return a == b || a.sum == b.sum && len(a.keys) == len(b.keys) && (a.lost == nil) == (b.lost == nil) && slices.Equal(a.problems, b.problems)
	})
}

// signingKeys returns the keys for a release with these signatures, in the
// order in which clients should try them. Releases that the same key signed
// share the result.
func (r *ring) signingKeys(signed []openpgp.Signature) []SigningKey {
	first, _ := r.Signer(signed)
	id := ""
	if first != nil {
		id = first.Fingerprint
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	keys, ok := r.orders[id]
	if !ok {
		keys = make([]SigningKey, 0, len(r.Keys()))
		for _, key := range r.Order(first) {
			keys = append(keys, SigningKey{KeyID: key.ID, ASCIIArmor: key.Armor})
		}
		r.orders[id] = keys
	}
	return keys
}

// judge returns the problems with the keys and signatures of releases.
// Something may expire: until is when the problems change without a change of a
// file; zero: never.
func (r *ring) judge(releases []*storedRelease, now time.Time) (problems []Problem, until time.Time) {
	versions := make(map[Problem][]string)
	var order []Problem
	for _, rel := range releases {
		faults, end := r.Judge(rel.signatures, now)
		if !end.IsZero() && (until.IsZero() || end.Before(until)) {
			until = end
		}
		for _, fault := range faults {
			p := signatureProblem(rel, fault)
			if versions[p] == nil {
				order = append(order, p)
			}
			versions[p] = append(versions[p], rel.version)
		}
	}
	for _, p := range order {
		affected := affects(versions[p])
		p.What += affected
		problems = append(problems, p)
	}
	return problems, until
}

// size is about the memory that the ring takes, except for what it shares with
// other providers of its namespace.
func (r *ring) size(p Provider) int64 {
	size := 200 + 80*len(r.files) + 100*len(r.Keys())
	for at, f := range r.files {
		if strings.HasPrefix(at, p.String()+"/") {
			for i := range f.keys {
				size += f.keys[i].Size()
			}
		}
	}
	return int64(size)
}
