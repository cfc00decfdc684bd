package browse

import (
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
	"weak"

	"golang.org/x/mod/semver"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/names"
	"github.com/rekisteri/rekisteri/internal/openpgp"
)

// How much is shown at first. The rest is shown after a click.
const (
	newestVersions = 20
	firstProblems  = 5
	firstPaths     = 5 // of a problem
)

// expiresSoon is how long before its expiry a key is marked.
const expiresSoon = 30 * 24 * time.Hour

// A details is what the page of a provider shows.
type details struct {
	Namespace string       `json:"namespace"`
	Type      string       `json:"type"`
	Source    string       `json:"source"`           // the address, with the host
	Latest    string       `json:"latest,omitempty"` // the version to use
	Warnings  []string     `json:"warnings,omitempty"`
	Versions  []*version   `json:"versions"` // the newest first
	Keys      []signingKey `json:"signing_keys"`
	Problems  []problem    `json:"problems,omitempty"`

	root          string
	namespaceURL  string // of the list of the namespace
	problemGroups []problemGroup
	usage         usage
}

// A version is a version of a provider.
type version struct {
	Version   string     `json:"version"`
	Protocols []string   `json:"protocols"`
	Platforms []platform `json:"platforms"`

	systems    []system
	isLatest   bool
	prerelease bool
	tooOld     bool // clients do not install it
}

type platform struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
}

// A system is an operating system and its architectures.
type system struct {
	os    string
	archs []string
}

// A signingKey is a key that the latest version is signed with, or may be.
type signingKey struct {
	ID          string     `json:"key_id"`
	Fingerprint string     `json:"fingerprint,omitempty"`
	Expires     *time.Time `json:"expires,omitempty"` // nil: never, if the state is known
	State       keyState   `json:"state,omitempty"`
	Owner       string     `json:"owner,omitempty"`
	OwnerURL    string     `json:"owner_url,omitempty"`
}

// spaced returns the fingerprint in groups of four, as gpg prints it.
func (k signingKey) spaced() string {
	var b strings.Builder
	for i := 0; i < len(k.Fingerprint); i += 4 {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(k.Fingerprint[i:min(i+4, len(k.Fingerprint))])
	}
	return b.String()
}

// A keyState says whether clients accept a key. It is empty if the key cannot be
// read.
type keyState string

const (
	keyValid       keyState = "valid"
	keyExpiresSoon keyState = "expires soon"
	keyExpired     keyState = "expired"
	keyRevoked     keyState = "revoked"
)

// A problem is a [rekisteri.Problem].
type problem struct {
	Path   string `json:"path"`
	What   string `json:"what"`
	Effect string `json:"effect"`
	Fix    string `json:"fix"`
}

// A problemGroup is a problem that one or several files have.
type problemGroup struct {
	problem
	paths []string // the first of them
	more  int      // how many others there are
}

// provider answers with the page of a provider.
func (v *visit) provider(namespace, typ string) error {
	p, err := v.allow(namespace, typ)
	if err != nil {
		return err
	}
	backend := v.registry.Backend()
	listing, failure := backend.Versions(v.req.Context(), p)
	if failure == nil && listing == nil {
		failure = errors.New("the backend returned neither a listing nor an error")
	}
	code := http.StatusOK
	if failure != nil {
		if code = errorStatus(failure); code != http.StatusNotFound && code != http.StatusInternalServerError {
			return failure
		}
		listing = nil
	}
	problems, known := v.problemsOf(p)
	if failure != nil && (!known || !v.isListed(p)) { // a backend that hides a provider may not hide its problems
		return failure
	}
	host, services := v.address()
	k := key{provider: p, host: host, services: services, json: wantsJSON(v.req), problems: len(problems) > 0, code: code}
	c, ok := v.cache.Get(k)
	var d *details
	if ok && c.listing.Value() == listing {
		d = &details{Latest: c.latest}
	} else {
		d = newDetails(p, listing)
	}
	var rel *rekisteri.Release
	if d.Latest != "" {
		rel, err = backend.Release(v.req.Context(), p, d.Latest)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	} else if failure == nil { // as clients see it
		failure = notFound("the provider has no valid version")
	}
	if ok && c.isOf(listing, rel, problems) {
		return v.show(k, c, failure)
	}
	if d.Versions == nil {
		d = newDetails(p, listing)
	}
	if failure != nil && len(problems) == 0 {
		return failure
	}
	if failure != nil {
		code = errorStatus(failure)
	}
	made := &cached{code: code, title: p.String(), latest: d.Latest, hasRelease: rel != nil,
		listing: weak.Make(listing), release: weak.Make(rel), problems: problems}
	d.addProblems(problems)
	d.Keys, made.until = keysOf(rel, time.Now())
	d.usage = v.usage(p, d.Latest, host, services)
	d.Source, d.root = d.usage.source, v.root
	d.namespaceURL = v.root + "?" + url.Values{"q": {p.Namespace + "/"}}.Encode()
	if err := v.make(k, c, made, d); err != nil {
		return err
	}
	return v.show(k, made, failure)
}

// newDetails returns the details of a provider that its listing has.
func newDetails(p rekisteri.Provider, l *rekisteri.Listing) *details {
	d := &details{Namespace: p.Namespace, Type: p.Type, Versions: versionsOf(l)}
	if l != nil {
		d.Warnings = l.Warnings
	}
	if latest := latestOf(d.Versions); latest != nil {
		latest.isLatest, d.Latest = true, latest.Version
	}
	return d
}

// problemsOf returns what is wrong with a provider. known reports whether
// Options.Problems knows the provider.
func (v *visit) problemsOf(p rekisteri.Provider) (problems []rekisteri.Problem, known bool) {
	if v.problems == nil {
		return nil, false
	}
	problems, err := v.problems(v.req, p)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && v.reports.Allow(err.Error()) {
		v.log.Error("a page cannot show the problems of a provider", "provider", p.String(), "error", err)
	}
	return problems, err == nil && len(problems) > 0
}

// isListed reports whether the backend lists a provider.
func (v *visit) isListed(p rekisteri.Provider) bool {
	if _, ok := v.registry.Backend().(*rekisteri.FSBackend); ok {
		return true // it hides nothing, and a list may cost much
	}
	if v.lister == nil {
		return false
	}
	for listed, err := range v.lister.Providers(v.req.Context()) {
		if err == nil && listed == p {
			return true
		}
	}
	return false
}

// addProblems adds problems, and groups those that differ in the path only, such
// as one for each zip that is missing.
func (d *details) addProblems(all []rekisteri.Problem) {
	at := make(map[problem]int)
	for _, from := range all {
		p := problem{from.Path, from.What, from.Effect, from.Fix}
		d.Problems = append(d.Problems, p)
		same := p
		same.Path = ""
		i, ok := at[same]
		if !ok {
			i, at[same] = len(d.problemGroups), len(d.problemGroups)
			d.problemGroups = append(d.problemGroups, problemGroup{problem: p})
		}
		if g := &d.problemGroups[i]; len(g.paths) < firstPaths {
			g.paths = append(g.paths, p.Path)
		} else {
			g.more++
		}
	}
}

// versionsOf returns the versions that the registry serves, the newest first. The
// registry leaves the same values out.
func versionsOf(l *rekisteri.Listing) []*version {
	versions := []*version{}
	if l == nil {
		return versions
	}
	seen := make(map[string]bool, len(l.Versions))
	for _, from := range l.Versions {
		if !names.ValidVersion(from.Version) || seen[from.Version] {
			continue
		}
		seen[from.Version] = true
		v := &version{Version: from.Version, Protocols: []string{}, Platforms: []platform{}, prerelease: semver.Prerelease("v"+from.Version) != ""}
		for _, protocol := range from.Protocols {
			if names.ValidProtocol(protocol) {
				v.Protocols = append(v.Protocols, protocol)
			}
		}
		for _, on := range from.Platforms {
			if names.ValidPlatform(on.OS) && names.ValidPlatform(on.Arch) {
				v.Platforms = append(v.Platforms, platform(on))
			}
		}
		v.tooOld = len(v.Protocols) > 0 && !slices.ContainsFunc(v.Protocols, names.Installable)
		v.systems = systemsOf(v.Platforms)
		versions = append(versions, v)
	}
	slices.SortFunc(versions, func(a, b *version) int {
		if order := semver.Compare("v"+b.Version, "v"+a.Version); order != 0 {
			return order
		}
		return strings.Compare(b.Version, a.Version)
	})
	return versions
}

// systemsOf groups platforms by operating system, in the order of their names.
func systemsOf(platforms []platform) (systems []system) {
	sorted := slices.SortedFunc(slices.Values(platforms), func(a, b platform) int {
		return strings.Compare(a.OS+"_"+a.Arch, b.OS+"_"+b.Arch)
	})
	for _, on := range slices.Compact(sorted) {
		if n := len(systems); n == 0 || systems[n-1].os != on.OS {
			systems = append(systems, system{os: on.OS})
		}
		last := &systems[len(systems)-1]
		last.archs = append(last.archs, on.Arch)
	}
	return systems
}

// latestOf returns the version that clients choose without a constraint, or the
// newest pre-release if there are no others.
func latestOf(versions []*version) (latest *version) {
	rank := func(v *version) int {
		switch {
		case v.tooOld || len(v.Platforms) == 0:
			return 0
		case v.prerelease:
			return 1
		}
		return 2
	}
	for _, v := range versions {
		if latest == nil || rank(v) > rank(latest) {
			latest = v
		}
	}
	return latest
}

// keysOf returns the keys that clients verify a release with. until is when the
// state of one of them changes next; zero: never.
func keysOf(rel *rekisteri.Release, now time.Time) (keys []signingKey, until time.Time) {
	keys = []signingKey{}
	if rel == nil {
		return keys, until
	}
	seen := make(map[string]bool)
	for i := range rel.Packages {
		for _, from := range rel.Packages[i].SigningKeys {
			if seen[from.ASCIIArmor] {
				continue
			}
			seen[from.ASCIIArmor] = true
			k, changes := keyOf(from, now)
			keys = append(keys, k)
			if !changes.IsZero() && (until.IsZero() || changes.Before(until)) {
				until = changes
			}
		}
	}
	return keys, until
}

// keyOf returns the description of a key. changes is when its state changes next;
// zero: never.
func keyOf(from rekisteri.SigningKey, now time.Time) (k signingKey, changes time.Time) {
	k = signingKey{ID: from.KeyID, Owner: from.Source}
	if u, err := url.Parse(from.SourceURL); err == nil && (u.Scheme == "https" || u.Scheme == "http") && u.Host != "" {
		k.OwnerURL = from.SourceURL
	}
	parsed, err := openpgp.ReadKeys([]byte(from.ASCIIArmor))
	if err != nil || len(parsed) != 1 {
		return k, changes
	}
	pgp := &parsed[0]
	k.ID, k.Fingerprint, k.State = pgp.ID, pgp.Fingerprint, keyValid
	expires := pgp.Expires
	if last := lastSigner(pgp); !last.IsZero() && (expires.IsZero() || last.Before(expires)) {
		expires = last
	}
	if !expires.IsZero() {
		k.Expires = &expires
	}
	switch soon := expires.Add(-expiresSoon); {
	case pgp.Revoked:
		k.State = keyRevoked
	case expires.IsZero():
	case !now.Before(expires):
		k.State = keyExpired
	case !now.Before(soon):
		k.State, changes = keyExpiresSoon, expires
	default:
		changes = soon
	}
	return k, changes
}

// lastSigner returns when the last part of a key that can sign expires; zero:
// never.
func lastSigner(pgp *openpgp.Key) (last time.Time) {
	for i, s := range pgp.Signers {
		switch {
		case s.Revoked:
		case s.Expires.IsZero():
			return time.Time{}
		case i == 0 || s.Expires.After(last):
			last = s.Expires
		}
	}
	return last
}
