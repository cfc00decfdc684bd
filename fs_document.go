package rekisteri

import (
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"slices"
	"sync/atomic"
	"time"

	"github.com/rekisteri/rekisteri/internal/metadata"
	"github.com/rekisteri/rekisteri/internal/tree"
)

const maxDocument = 64 << 20 // bytes in a metadata document

// A document is the metadata document of a provider as it was last read. It is
// immutable.
type document struct {
	snapshot string // that version belongs to
	version  tree.Version
	sum      uint64
	parsed   *parsedDocument // what it said when it was last good; nil: never
	index    *documentIndex  // that one version was read by; nil: the whole document was read
	problem  *Problem        // why its present text is not served; nil: it is served
	lost     error           // why it may have versions that were never read; nil: it does not
}

// A parsedDocument is what a metadata document says.
type parsedDocument struct {
	listing  Listing
	releases map[string]*Release
	problems []Problem
	size     int64
	keysSize int64 // the part of size that the keys take
}

// A documentIndex is what stays in memory of a document that was evicted, so
// that one version can be read without the rest.
type documentIndex struct {
	snapshot string
	version  tree.Version
	*metadata.Index

	// refreshed is when the document was last found unchanged, and the provider
	// without a directory, in nanoseconds of Unix time. Versions that were read
	// by the index are then fresh for as long as a whole provider would be.
	// claimed is when a request last began a refresh.
	refreshed, claimed atomic.Int64
}

// fresh reports whether a version that was read by the index can be served
// without another refresh: the last one is recent, or another request has just
// begun one.
func (x *documentIndex) fresh(now time.Time, every time.Duration) bool {
	if x == nil {
		return false
	}
	age := time.Duration(now.UnixNano() - x.refreshed.Load())
	if age < every || age >= every+staleAfter {
		return age < every
	}
	claimed := x.claimed.Load()
	return time.Duration(now.UnixNano()-claimed) < every || !x.claimed.CompareAndSwap(claimed, now.UnixNano())
}

// readDocument reads the metadata document of a provider. What cannot be read
// stays as it was in prev, with a problem. It returns nil if there is no
// document, and prev if it has not changed.
func (b *FSBackend) readDocument(s scope, ns *namespaceDir, names typeNames, prev *document) *document {
	path := s.Provider.String() + ".json"
	if prev == nil {
		prev = new(document)
	}
	doc := &document{snapshot: ns.id, parsed: prev.parsed}
	effect := "nothing in it is served"
	if doc.parsed != nil {
		effect = "what it said before is still served"
	}
	broken := func(p Problem, cause error) *document {
		doc.problem = &p
		if doc.parsed == nil && !errors.Is(cause, fs.ErrNotExist) {
			doc.lost = fmt.Errorf("%s: %w", path, outage{cause})
		}
		return doc
	}
	info, err := fs.Stat(ns.fsys, path)
	if err != nil {
		err = tree.Explain(ns.fsys, path, err)
		if _, isLink := errors.AsType[*tree.LinkError](err); errors.Is(err, fs.ErrNotExist) && !isLink {
			return nil
		}
		return broken(unreadableProblem(path, err, effect), err)
	}
	if !info.Mode().IsRegular() {
		return broken(notFileProblem(path, effect, "put the metadata document in its place"), fs.ErrNotExist)
	}
	now := time.Now()
	if prev.snapshot == ns.id && prev.version.Proves(info) {
		if prev.index != nil && !names.dir {
			prev.index.refreshed.Store(now.UnixNano())
		}
		return prev
	}
	if s.version != "" {
		if index, parsed := b.readVersion(s, ns, path, info); parsed != nil {
			if !names.dir {
				index.refreshed.Store(now.UnixNano())
			}
			return &document{snapshot: ns.id, version: index.version, index: index, parsed: parsed}
		}
	}
	data, info, err := tree.ReadFile(ns.fsys, path, maxDocument)
	if err != nil {
		return broken(unreadableProblem(path, err, effect), err)
	}
	doc.version, doc.sum = tree.VersionOf(info, now), maphash.Bytes(b.seed, data)
	if doc.sum == prev.sum && prev.version != (tree.Version{}) {
		doc.problem, doc.lost = prev.problem, prev.lost
		return doc
	}
	decoded, err := metadata.Decode(data)
	if err != nil {
		return broken(Problem{Path: path, What: err.Error(), Effect: effect, Fix: "correct the file"}, err)
	}
	doc.parsed = parseDocument(path, decoded, s.version)
	b.indexes.Put(s.Provider, &documentIndex{snapshot: ns.id, version: doc.version, Index: decoded.Index}, decoded.Index.Size())
	return doc
}

// readVersion reads one version of a document whose index is in memory. It
// returns nil if that is not possible: the document is then read as a whole.
func (b *FSBackend) readVersion(s scope, ns *namespaceDir, path string, info fs.FileInfo) (*documentIndex, *parsedDocument) {
	index, ok := b.indexes.Get(s.Provider)
	if !ok || index.snapshot != ns.id || !index.version.Proves(info) {
		return nil, nil
	}
	offset, length, ok := index.Span(s.version)
	if !ok {
		return index, &parsedDocument{} // the document has no such version
	}
	f, info, err := tree.Open(ns.fsys, path)
	if err != nil {
		return nil, nil
	}
	defer f.Close()
	buf, _ := b.buffers.Get().(*metadata.Buffer)
	if buf == nil {
		buf = new(metadata.Buffer)
	}
	defer b.buffers.Put(buf)
	buf.Part = slices.Grow(buf.Part[:0], length)[:length]
	if n, _ := f.ReadAt(buf.Part, offset); n < length || !index.version.Proves(info) {
		return nil, nil
	}
	v, ok := index.Decode(s.version, buf)
	if !ok {
		return nil, nil
	}
	parsed := parseDocument(path, &metadata.Document{Versions: []metadata.Version{*v}}, s.version)
	parsed.size -= parsed.keysSize // the index has them
	return index, parsed
}

// parseDocument returns what a document says. If only is not empty, it returns
// that version alone.
func parseDocument(path string, decoded *metadata.Document, only string) *parsedDocument {
	d := &parsedDocument{releases: make(map[string]*Release), size: 500}
	d.listing.Warnings = decoded.Warnings
	for _, f := range decoded.Findings {
		d.problems = append(d.problems, documentProblem(path, f))
	}
	keys := make(map[*metadata.Key][]SigningKey)
	for i := range decoded.Versions {
		v := &decoded.Versions[i]
		if only != "" && v.Version != only {
			continue
		}
		rel := &Release{Protocols: v.Protocols, Packages: make([]Package, len(v.Packages))}
		listed := Version{Version: v.Version, Protocols: v.Protocols, Platforms: make([]Platform, len(v.Packages))}
		for j := range v.Packages {
			pkg := &v.Packages[j]
			listed.Platforms[j] = Platform{pkg.OS, pkg.Arch}
			rel.Packages[j] = Package{
				Platform: listed.Platforms[j], Filename: pkg.Filename,
				URL: pkg.URL, SHASumsURL: pkg.SHASumsURL, SHASumsSignatureURL: pkg.SHASumsSignatureURL,
				SHA256: pkg.SHA256, SigningKeys: convertKeys(keys, pkg.Keys),
			}
		}
		if n := len(d.listing.Versions); n > 0 && slices.Equal(listed.Platforms, d.listing.Versions[n-1].Platforms) {
			listed.Platforms = d.listing.Versions[n-1].Platforms // most versions have the same
		} else {
			d.size += int64(platformSize * len(listed.Platforms))
		}
		d.listing.Versions = append(d.listing.Versions, listed)
		d.releases[v.Version] = rel
		d.size += v.Size() + int64(listedSize+len(v.Version)+16*len(v.Protocols)+releaseSize+packageSize*len(rel.Packages))
	}
	for _, all := range keys {
		for _, key := range all {
			d.keysSize += int64(len(key.ASCIIArmor))
		}
		d.size += int64(keySize * len(all))
	}
	d.size += d.keysSize
	for _, p := range d.problems {
		d.size += int64(problemSize + len(p.What))
	}
	return d
}

// convertKeys returns keys as a backend returns them. Equal slices are converted
// once.
func convertKeys(done map[*metadata.Key][]SigningKey, keys []metadata.Key) []SigningKey {
	if len(keys) == 0 {
		return nil
	}
	all, ok := done[&keys[0]]
	if !ok || len(all) != len(keys) {
		all = make([]SigningKey, len(keys))
		for i, key := range keys {
			all[i] = SigningKey(key)
		}
		done[&keys[0]] = all
	}
	return all
}
