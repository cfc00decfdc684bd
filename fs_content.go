package rekisteri

import (
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/rekisteri/rekisteri/internal/names"
)

// A content is what is served of a provider, or of one version of it. It is
// immutable.
type content struct {
	fsys     fs.FS // the snapshot that it was read from
	listing  *Listing
	releases map[string]*Release       // by version
	stored   map[string]*storedRelease // those whose files are in the tree
	problems []Problem
	err      error     // why there is nothing to serve
	lost     error     // why other versions may exist; nil: they do not
	until    time.Time // when a key or signature expires and this must be built again; zero: never
	size     int64
}

// build returns the content of a provider whose state is s. It reuses unchanged
// values of prev, which may be empty: the same pointer tells the registry that
// nothing has changed.
func (s *state) build(p Provider, prev *content) *content {
	c := &content{fsys: s.fsys, listing: new(Listing), releases: make(map[string]*Release), stored: make(map[string]*storedRelease), size: 1000}
	if s.unread != nil {
		c.problems = append(c.problems, *s.unread)
		c.lost = s.lost
	}
	c.problems = append(c.problems, s.stray...)
	c.addReleases(s)
	for _, at := range slices.Sorted(maps.Keys(s.keys.files)) {
		if strings.HasPrefix(at, p.String()+"/") { // treeNames reports those of the namespace
			c.problems = append(c.problems, s.keys.files[at].problems...)
		}
	}
	c.size += s.keys.size(p)
	if s.document != nil {
		c.addDocument(p, s.document)
	}
	for i := range c.problems {
		c.size += int64(problemSize + len(c.problems[i].What) + len(c.problems[i].Path) + len(c.problems[i].Fix))
	}
	switch {
	case len(c.listing.Versions) > 0:
	case c.lost != nil:
		c.err = c.lost
	default:
		c.err = fmt.Errorf("%v has no version that can be served: %w", p, fs.ErrNotExist)
		if len(c.problems) == 0 && len(c.listing.Warnings) == 0 {
			c.problems = append(c.problems, emptyProblem(p))
		}
	}
	if prev.listing != nil && prev.listing.equal(c.listing) {
		c.listing = prev.listing
	}
	return c
}

// addReleases adds the releases in the provider's directory.
func (c *content) addReleases(s *state) {
	chosen := c.chooseDirs(s)
	var releases []*storedRelease
	for _, dir := range chosen {
		r := dir.stored.with(s.keys)
		if r != dir.stored { // do not keep both in memory
			keyed := *dir
			keyed.stored = r
			s.dirs[path.Base(dir.path)] = &keyed
		}
		releases = append(releases, r)
		c.stored[r.version] = r
		c.size += r.size()
		if signer, _ := s.keys.Signer(r.signatures); signer == nil && s.keys.lost != nil {
			c.lost = s.keys.lost // its key may be in the file that cannot be read
		} else {
			c.releases[r.version] = r.release
		}
		listed := r.listed()
		if n := len(c.listing.Versions); n > 0 && slices.Equal(listed.Platforms, c.listing.Versions[n-1].Platforms) {
			listed.Platforms = c.listing.Versions[n-1].Platforms // most versions have the same
		}
		c.listing.Versions = append(c.listing.Versions, listed)
	}
	judged, until := s.keys.judge(releases, time.Now())
	c.problems, c.until = append(c.problems, judged...), until
}

// chooseDirs returns the release directories to serve, one for each version, in
// the order of their paths. It adds the problems of all directories to c.
func (c *content) chooseDirs(s *state) []*releaseDir {
	chosen := make(map[string]*releaseDir)
	for _, name := range slices.Sorted(maps.Keys(s.dirs)) {
		dir := s.dirs[name]
		c.size += dirSize
		c.problems = append(c.problems, dir.problems...)
		if dir.lost != nil {
			c.lost = dir.lost
		}
		if dir.stored == nil {
			continue
		}
		version := dir.stored.version
		other := chosen[version]
		if other == nil {
			chosen[version] = dir
			continue
		}
		winner, loser := other, dir
		if dir.precedes(other) {
			winner, loser = dir, other
		}
		chosen[version] = winner
		if loser.current {
			c.problems = append(c.problems, duplicateProblem(loser.path, version, winner.path))
		}
	}
	return slices.SortedFunc(maps.Values(chosen), func(a, b *releaseDir) int { return strings.Compare(a.path, b.path) })
}

// precedes reports whether d is served rather than other, which holds the same
// version. A release that was moved is served from where it is now. Otherwise
// the directory that is named after the version wins, so that it can be found
// without reading the others.
func (d *releaseDir) precedes(other *releaseDir) bool {
	if d.current != other.current {
		return d.current
	}
	rank := func(d *releaseDir) int {
		return slices.Index([]string{"v" + d.stored.version, d.stored.version}, path.Base(d.path))
	}
	return rank(d) > rank(other)
}

// addDocument adds what the metadata document says.
func (c *content) addDocument(p Provider, doc *document) {
	if doc.problem != nil {
		c.problems = append(c.problems, *doc.problem)
	}
	if doc.lost != nil {
		c.lost = doc.lost
	}
	if doc.parsed == nil {
		return
	}
	c.size += doc.parsed.size
	c.problems = append(c.problems, doc.parsed.problems...)
	c.listing.Warnings = doc.parsed.listing.Warnings
	for _, v := range doc.parsed.listing.Versions {
		if r := c.stored[v.Version]; r != nil {
			c.problems = append(c.problems, duplicateProblem(p.String()+".json", v.Version, r.dir))
			continue
		}
		c.listing.Versions = append(c.listing.Versions, v)
		c.releases[v.Version] = doc.parsed.releases[v.Version]
	}
}

// equal reports whether two listings say the same.
func (l *Listing) equal(o *Listing) bool {
	return slices.Equal(l.Warnings, o.Warnings) && slices.EqualFunc(l.Versions, o.Versions, func(a, b Version) bool {
		return a.Version == b.Version && slices.Equal(a.Protocols, b.Protocols) && slices.Equal(a.Platforms, b.Platforms)
	})
}

// hasDirFor reports whether a directory is named after a version, such as
// "v1.2.3" or "1.2.3".
func hasDirFor(name, version string) bool {
	parsed, ok := names.ParseVersion(name)
	return ok && parsed == version
}
