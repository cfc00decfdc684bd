package rekisteri

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rekisteri/rekisteri/internal/metadata"
	"github.com/rekisteri/rekisteri/internal/names"
	"github.com/rekisteri/rekisteri/internal/openpgp"
	"github.com/rekisteri/rekisteri/internal/release"
	"github.com/rekisteri/rekisteri/internal/tree"
)

// A Problem is something in the tree of an [FSBackend] that keeps a part of it
// from being served, or that clients will fail on.
type Problem struct {
	Path   string // the file or directory, relative to the tree's root
	What   string // what is wrong
	Effect string // what happens to clients
	Fix    string // what to do

	pending bool // a copy or an upload in progress may fix it
}

// String returns the problem as a line of text.
func (p Problem) String() string {
	return fmt.Sprintf("%s: %s; %s; to fix it: %s", p.Path, p.What, p.Effect, p.Fix)
}

const effectNotServed = "it is not served"

// findingProblem returns the problem for a finding about a release's directory.
// served is the version that is still served from there, if any.
func findingProblem(dir, served string, f release.Finding) Problem {
	p := Problem{Path: dir, What: f.What, Effect: f.Effect, Fix: f.Fix, pending: f.Class == release.Incomplete}
	if f.File != "" {
		p.Path += "/" + f.File
	}
	if p.Effect == "" {
		p.Effect = releaseEffect(served)
	}
	if f.Class == release.Unreadable {
		return unreadableProblem(p.Path, f.Err, p.Effect)
	}
	return p
}

// releaseEffect returns the effect of a problem on a release. served is the
// version that is still served as it was read before, if any.
func releaseEffect(served string) string {
	if served != "" {
		return "version " + served + " is still served as it was before"
	}
	return "the release is not served"
}

// documentProblem returns the problem for a finding about a metadata document.
func documentProblem(path string, f metadata.Finding) Problem {
	return Problem{Path: path, What: f.What, Effect: f.Effect, Fix: f.Fix}
}

// linkProblem is the problem of a link that is not followed.
func linkProblem(link *tree.LinkError, effect string) Problem {
	return Problem{Path: link.Path, What: "the link " + link.Why, Effect: effect, Fix: "make it a relative link that stays in the tree"}
}

// unreadableProblem is the problem of a file or directory that could not be
// read.
func unreadableProblem(path string, err error, effect string) Problem {
	if link, ok := errors.AsType[*tree.LinkError](err); ok {
		return linkProblem(link, effect)
	}
	p := Problem{Path: path, What: "it cannot be read: " + tree.Reason(err), Effect: effect, Fix: "check the disk or the mount; the registry tries again automatically"}
	if errors.Is(err, fs.ErrPermission) {
		p.Fix = "let the registry's user read it: chmod -R a+rX " + path
	}
	return p
}

// notFileProblem is the problem of something else in the place of a file.
func notFileProblem(path, effect, fix string) Problem {
	return Problem{Path: path, What: "it is not a regular file", Effect: effect, Fix: fix}
}

// duplicateProblem is the problem of a version that is in the tree twice.
func duplicateProblem(path, version, served string) Problem {
	return Problem{Path: path, What: "version " + version + " is also in " + served, Effect: served + " is served", Fix: "remove one of them"}
}

// emptyProblem is the problem of a provider without any version.
func emptyProblem(p Provider) Problem {
	return Problem{Path: p.String(), What: "it has no release", Effect: "clients get 404 for it", Fix: "add a release, " + p.String() + "/<version>/, or remove it", pending: true}
}

// nameProblem is the problem of a name that clients cannot ask for.
func nameProblem(path, name string) Problem {
	p := Problem{Path: path, What: "clients cannot ask for such a name", Effect: effectNotServed, Fix: "use lower-case letters, digits, - and _"}
	if lower := strings.ToLower(name); lower != name && names.Valid(lower) {
		p.What = "clients ask for names in lower case only"
		at := strings.LastIndex(path, name)
		p.Fix = "mv " + path + " " + path[:at] + lower + path[at+len(name):]
	}
	return p
}

// levelProblem is the problem of release directories in the place of providers
// or namespaces: the tree lacks a level, or was opened too deep.
func levelProblem(path string, dirs []string) Problem {
	return Problem{Path: path, What: "versions are not expected here (" + abridge(dirs) + "): the levels are <namespace>/<type>/<version>", Effect: "they are not served",
		Fix: "serve the directory that holds the namespaces, which may be a parent of this one, or add the missing level"}
}

// strayReleaseProblem is the problem of a release whose files are not in a
// directory of their own.
func strayReleaseProblem(p Provider, sumsName, version string) Problem {
	dir := p.String() + "/" + version
	files := p.String() + "/" + strings.TrimSuffix(sumsName, "SHA256SUMS") + "*"
	return Problem{Path: p.String() + "/" + sumsName, What: "the files of a release are not in a directory of their own", Effect: "the release is not served",
		Fix: "mkdir " + dir + " && mv " + files + " " + dir + "/", pending: true}
}

// strayDocumentProblem is the problem of a document outside any namespace.
func strayDocumentProblem(path string) Problem {
	return Problem{Path: path, What: "a metadata document is not expected here", Effect: effectNotServed, Fix: "move it to the directory of its namespace"}
}

// keyFileProblem is the problem of a file of keys of which some cannot be read.
func keyFileProblem(path string, err error, keysKept, othersServed bool) Problem {
	p := Problem{Path: path, What: "a key cannot be read: " + err.Error(), Effect: "its keys are not served", Fix: "export its keys again: gpg --armor --export KEY_ID ... > " + path}
	switch {
	case othersServed:
		p.Effect = "the keys that can be read are served"
	case keysKept:
		p.Effect = "the keys that it held before are still served"
	}
	return p
}

// signatureProblem returns the problem for a fault of a release's signature.
func signatureProblem(r *storedRelease, f openpgp.Fault) Problem {
	provider, expired := path.Dir(r.dir), " expired on "+f.When.Format(time.DateOnly)
	switch f.Kind {
	case openpgp.UnknownKey:
		return Problem{Path: provider, What: "the signing key " + f.KeyID + " is not in the tree",
			Effect: `clients refuse the release: "authentication signature from unknown issuer"`,
			Fix:    "gpg --armor --export " + f.KeyID + " > " + path.Dir(provider) + "/" + f.KeyID + ".asc"}
	case openpgp.RevokedKey:
		return Problem{Path: f.Key.Path, What: "the signing key " + f.KeyID + " is revoked",
			Effect: "clients refuse the release", Fix: "sign SHA256SUMS with another key, and add that key"}
	case openpgp.ExpiredKey:
		return Problem{Path: f.Key.Path, What: "the signing key " + f.KeyID + expired, Effect: effectExpired,
			Fix: "gpg --quick-set-expire " + f.Key.Fingerprint + " 2y && gpg --armor --export " + f.Key.Fingerprint + " > " + f.Key.Path}
	case openpgp.ExpiredSubkey:
		return Problem{Path: f.Key.Path, What: "the signing subkey " + f.KeyID + expired, Effect: effectExpired,
			Fix: "gpg --quick-set-expire " + f.Key.Fingerprint + " 2y '*' && gpg --armor --export " + f.Key.Fingerprint + " > " + f.Key.Path}
	}
	return Problem{Path: r.path(r.sumsName + ".sig"), What: "the signature" + expired,
		Effect: "Terraform refuses the release", Fix: "sign SHA256SUMS again, without an expiry"}
}

// badSignatureProblem is the problem of a signature that does not verify.
func badSignatureProblem(r *storedRelease, err error) Problem {
	what, fix, _ := strings.Cut(err.Error(), "; ")
	if errors.Is(err, openpgp.ErrBadSignature) {
		fix += ": gpg --detach-sign " + r.sumsName
	}
	return Problem{Path: r.path(r.sumsName + ".sig"), What: what,
		Effect: `clients refuse the release: "openpgp: invalid signature"`, Fix: fix}
}

const effectExpired = "Terraform accepts the release; OpenTofu warns, and will refuse it"

// A problemLog logs problems when they appear, and again every hour while they
// last.
type problemLog struct {
	log *slog.Logger

	mu  sync.Mutex
	due map[string]map[problemKey]time.Time // by owner: when each is logged next
}

// A problemKey identifies a problem.
type problemKey struct{ path, what string }

// report logs those problems of an owner (a provider or a directory) that are
// due. A problem that a copy in progress may fix is due after pendingFor.
// report returns when the first of these is due, or a zero time.
func (l *problemLog) report(owner string, problems []Problem) (refreshAt time.Time) {
	now := time.Now()
	var logged []Problem
	l.mu.Lock()
	due := make(map[problemKey]time.Time, len(problems))
	for _, p := range problems {
		key := problemKey{p.Path, p.What}
		next, known := l.due[owner][key]
		if !known && p.pending {
			next = now.Add(pendingFor)
		}
		if !now.Before(next) {
			logged = append(logged, p)
			next = now.Add(remindEvery)
		} else if p.pending && (refreshAt.IsZero() || next.Before(refreshAt)) {
			refreshAt = next
		}
		due[key] = next
	}
	if l.due == nil {
		l.due = make(map[string]map[problemKey]time.Time)
	}
	if len(due) > 0 {
		l.due[owner] = due
	} else {
		delete(l.due, owner)
	}
	l.mu.Unlock()
	for _, p := range logged { // without the lock, since a log may be slow
		l.log.Warn("problem in the tree", "path", p.Path, "problem", p.What, "effect", p.Effect, "fix", p.Fix)
	}
	return refreshAt
}

// outage hides its cause from errors.Is: a file that cannot be read is not
// absent, whatever the file system's error matches.
type outage struct{ cause error }

func (o outage) Error() string { return o.cause.Error() }

// absence says that a provider is not in the tree. It matches fs.ErrNotExist.
type absence Provider

func (a absence) Error() string        { return "there is no provider " + Provider(a).String() }
func (a absence) Is(target error) bool { return target == fs.ErrNotExist }

// abridge returns the first few of a list of versions.
func abridge(versions []string) string {
	const few = 5
	if len(versions) <= few {
		return strings.Join(versions, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(versions[:few], ", "), len(versions)-few)
}

// affects says which versions a problem is about.
func affects(versions []string) string {
	if len(versions) == 1 {
		return " (affects version " + versions[0] + ")"
	}
	return " (affects versions " + abridge(versions) + ")"
}

// Problems returns what is wrong with a provider and with the signing keys of its
// namespace, as of the last refresh. Paths are relative to the tree's root. It
// costs what [FSBackend.Versions] costs.
//
// An error that matches [fs.ErrNotExist] says that the provider is not in the
// tree. If a provider is there and nothing of it can be served, Problems says why,
// while Versions returns an error.
func (b *FSBackend) Problems(ctx context.Context, p Provider) ([]Problem, error) {
	s, err := b.get(ctx, scope{Provider: p})
	if err != nil {
		return nil, err
	}
	var problems []Problem
	if dir, ok := b.tree.namespace(p.Namespace).dir.Peek(); ok {
		for _, at := range slices.Sorted(maps.Keys(dir.keys)) {
			problems = append(problems, dir.keys[at].problems...)
		}
	}
	return append(problems, s.content.problems...), nil
}

// Health is what an [FSBackend] knows of its tree.
type Health struct {
	Looked   time.Time // when the tree was last read; zero: never
	Err      error     // why the tree could not be read then; nil: it was read
	LastGood time.Time // when the tree was last read without an error; zero: never

	Problems    int       // the number of problems of what is in memory
	KeyExpires  time.Time // when the next signing key in memory expires; zero: none does
	CachedBytes int64     // about the memory that the cache takes
}

// Health returns what the last read of the tree found. It reads nothing itself.
func (b *FSBackend) Health() Health {
	var h Health
	if t := b.tree.health.Load(); t != nil {
		h.Looked, h.Err, h.LastGood = t.looked, t.err, t.good
	}
	now := time.Now()
	add := func(problems []Problem, keys *openpgp.Keyring) {
		h.Problems += len(problems)
		if next := keys.NextExpiry(now); h.KeyExpires.IsZero() || !next.IsZero() && next.Before(h.KeyExpires) {
			h.KeyExpires = next
		}
	}
	b.tree.eachKnown(add)
	b.cache.Each(func(s scope, l *loaded) {
		if state, ok := l.Peek(); ok && s.version == "" && !state.gone {
			add(state.content.problems, state.keys.Keyring)
		}
	})
	_, providers := b.cache.Usage()
	_, indexes := b.indexes.Usage()
	h.CachedBytes = providers + indexes
	return h
}
