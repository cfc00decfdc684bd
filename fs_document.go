package rekisteri

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/semver"

	"github.com/rekisteri/rekisteri/internal/jsonsplit"
	"github.com/rekisteri/rekisteri/internal/openpgp"
)

const maxDocument = 64 << 20 // bytes in a metadata document

// A document is the metadata file of a provider as it was last read. It is
// immutable.
type document struct {
	stamp  stamp
	sum    uint64
	broken *unreadError // why the file is not served as it is now
	parsed *parsed      // what it said when it was last good; nil: it never was
}

// readDocument reads the metadata file of a provider. It returns nil if there
// is none, and prev, what was read before, if the file has not changed.
func (b *FSBackend) readDocument(p Provider, prev *document) *document {
	name := p.String() + ".json"
	if prev == nil {
		prev = new(document)
	}
	doc := &document{parsed: prev.parsed}
	effect := "nothing of it is served"
	if doc.parsed != nil {
		effect = "what it said before is still served"
	}
	broken := func(what, fix string) *document {
		doc.broken = &unreadError{problem: Problem{Path: name, What: what, Effect: effect, Fix: fix}}
		return doc
	}

	info, err := fs.Stat(b.fsys, name)
	if err != nil {
		err = b.explain(name, err)
		if link, ok := errors.AsType[*linkError](err); ok {
			doc.broken = &unreadError{link.problem(effect), fs.ErrNotExist}
			return doc
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return broken(reason(err), "make the file readable")
	}
	if !info.Mode().IsRegular() {
		broken("it is no regular file", "put the metadata document in its place")
		doc.broken.cause = fs.ErrNotExist
		return doc
	}
	if prev.stamp.is(info) {
		return prev
	}
	data, stamp, err := b.readFile(name, maxDocument)
	if err != nil {
		return broken(reason(err), "make the file readable, and replace it by renaming")
	}
	doc.stamp, doc.sum = stamp, maphash.Bytes(b.seed, data)
	if doc.sum == prev.sum && prev.stamp.info != nil { // as where a file system has no times
		doc.broken = prev.broken
		return doc
	}
	now, err := parseDocument(name, data)
	if err != nil {
		return broken("it is no metadata document: "+err.Error(), "mend the file")
	}
	doc.parsed = now
	return doc
}

// The metadata layout's document says what the protocol's documents of all
// packages say. What they share may stand on the version or on the document.
type (
	documentVersionJSON struct {
		sharedJSON
		Version   string                 `json:"version"`
		Protocols []string               `json:"protocols"`
		Platforms []documentPlatformJSON `json:"platforms"`
	}
	documentPlatformJSON struct {
		sharedJSON
		OS          string `json:"os"`
		Arch        string `json:"arch"`
		Filename    string `json:"filename"`
		DownloadURL string `json:"download_url"`
		SHASum      string `json:"shasum"`
	}
	sharedJSON struct {
		SHASumsURL          string           `json:"shasums_url"`
		SHASumsSignatureURL string           `json:"shasums_signature_url"`
		SigningKeys         *signingKeysJSON `json:"signing_keys"`
	}
)

// inherit returns s with what it lacks taken from outer.
func (s sharedJSON) inherit(outer sharedJSON) sharedJSON {
	if s.SHASumsURL == "" {
		s.SHASumsURL = outer.SHASumsURL
	}
	if s.SHASumsSignatureURL == "" {
		s.SHASumsSignatureURL = outer.SHASumsSignatureURL
	}
	if s.SigningKeys == nil {
		s.SigningKeys = outer.SigningKeys
	}
	return s
}

// A parsed is what a metadata document says.
type parsed struct {
	listing  *Listing
	releases map[string]*Release // by version
	problems []Problem
	size     int64
	index    *documentIndex
}

// A documentIndex is what is left of a document that was dropped: where its
// versions stand.
type documentIndex struct {
	name   string
	stamp  stamp
	shared sharedJSON // the document's own
	spans  map[string]span
	seed   maphash.Seed
	blocks map[string]block
}

// A span is a part of a file.
type span struct {
	start, end int
	hash       uint64 // tells what was read there from what has taken its place
}

// parseDocument reads a metadata document. What a client would choke on is
// left out of the result, with a problem.
func parseDocument(name string, data []byte) (*parsed, error) {
	members, err := jsonsplit.Object(data)
	if err != nil {
		return nil, err
	}
	index := &documentIndex{name: name, seed: maphash.MakeSeed(), blocks: make(map[string]block)}
	result := &parsed{listing: new(Listing), size: int64(len(data)), index: index}
	var versions []jsonsplit.Part
	for _, m := range members {
		value := data[m.Start:m.End]
		var err error
		switch strings.ToLower(m.Name) {
		case "versions":
			if versions = m.Elements; value[0] != '[' {
				err = errors.New("it is no list")
			}
		case "warnings":
			err = json.Unmarshal(value, &result.listing.Warnings)
		case "shasums_url":
			err = json.Unmarshal(value, &index.shared.SHASumsURL)
		case "shasums_signature_url":
			err = json.Unmarshal(value, &index.shared.SHASumsSignatureURL)
		case "signing_keys":
			err = json.Unmarshal(value, &index.shared.SigningKeys)
		default:
			err = json.Unmarshal(value, new(json.RawMessage)) // it has to be JSON
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	entries, err := parseEntries(index, data, versions)
	if err != nil {
		return nil, err
	}
	result.add(name, data, entries)
	return result, nil
}

// An entry is an element of a document's versions.
type entry struct {
	part     jsonsplit.Part
	spelled  string   // the version as it stands there
	release  *Release // what it describes
	problems []Problem
	err      error // that it is no JSON
}

// parseEntries reads the versions of a document, side by side: the largest
// have a megabyte.
func parseEntries(index *documentIndex, data []byte, versions []jsonsplit.Part) ([]entry, error) {
	entries := make([]entry, len(versions))
	workers := min(runtime.GOMAXPROCS(0), len(versions)/16+1)
	parsers := make([]*documentParser, workers)
	failures := make([]error, workers)
	var group sync.WaitGroup
	for w := range workers {
		parsers[w] = newDocumentParser(index.name, make(map[string]block))
		group.Go(func() {
			failures[w] = guard(func() error {
				for i := w; i < len(entries); i += workers {
					entries[i] = parsers[w].entry(i, versions[i], data, index.shared)
				}
				return nil
			})
		})
	}
	group.Wait()
	for w := range workers {
		if failures[w] != nil {
			panic(failures[w])
		}
		maps.Copy(index.blocks, parsers[w].blocks)
	}
	for i := range entries {
		if err := entries[i].err; err != nil {
			return nil, fmt.Errorf("version %d of the list: %w", i+1, err)
		}
	}
	return entries, nil
}

// add adds the entries of a document's versions.
func (d *parsed) add(name string, data []byte, entries []entry) {
	leftOut := func(what, effect, fix string) {
		d.problems = append(d.problems, Problem{Path: name, What: what, Effect: effect, Fix: fix})
	}
	d.releases = make(map[string]*Release, len(entries))
	d.index.spans = make(map[string]span, len(entries))
	seen := make(map[Problem]bool) // a bad key has a problem in every entry
	var unsigned, old []string
	for i := range entries {
		e := &entries[i]
		for _, p := range e.problems {
			if !seen[p] {
				seen[p] = true
				d.problems = append(d.problems, p)
			}
		}
		version, ok := readVersion(e.spelled)
		switch {
		case !ok:
			leftOut(fmt.Sprintf("the version %q is not a semantic version", e.spelled),
				"it is not served: it would make clients refuse the whole provider", "write it as in 1.2.3")
			continue
		case d.releases[version] != nil:
			leftOut(fmt.Sprintf("the version %q stands there twice, as %s", e.spelled, version), "only the first is served", "remove one")
			continue
		case len(e.release.Packages) == 0:
			leftOut(fmt.Sprintf("version %s has no platform that can be served", version),
				"it is not served: clients would choose it and fail", "add a platform")
			continue
		}
		d.releases[version] = e.release
		at := span{start: e.part.Start, end: e.part.End}
		at.hash = maphash.Bytes(d.index.seed, data[at.start:at.end])
		d.index.spans[version] = at
		listed := Version{Version: version, Protocols: e.release.Protocols, Platforms: make([]Platform, len(e.release.Packages))}
		for i := range e.release.Packages {
			listed.Platforms[i] = e.release.Packages[i].Platform
		}
		d.listing.Versions = append(d.listing.Versions, listed)
		if slices.ContainsFunc(e.release.Packages, func(pkg Package) bool { return len(pkg.SigningKeys) == 0 }) {
			unsigned = append(unsigned, version)
		}
		if len(e.release.Protocols) > 0 && !slices.ContainsFunc(e.release.Protocols, installable) {
			old = append(old, version)
		}
	}
	if len(unsigned) > 0 {
		leftOut("there is no signing key for version "+abridged(unsigned), "clients refuse to install it", "add signing_keys")
	}
	if len(old) > 0 {
		leftOut("there is neither protocol 5 nor 6 in version "+abridged(old), "clients refuse to install it", "nothing but a newer version does")
	}
}

// A documentParser reads entries of a document, one after the other.
type documentParser struct {
	name     string
	keys     map[*signingKeysJSON][]SigningKey // of each list of keys that was read
	blocks   map[string]block                  // by the armored text: it stands in many places
	names    map[string]string                 // of platforms and protocols: so do they
	urls     [2]string                         // of SHA256SUMS and its signature, which were good: so do they
	problems []Problem
}

// A block is what an armored key block turned out to be.
type block struct {
	id  string
	err error
}

func newDocumentParser(name string, blocks map[string]block) *documentParser {
	return &documentParser{name: name, keys: make(map[*signingKeysJSON][]SigningKey), blocks: blocks, names: make(map[string]string)}
}

// entry reads the entry that is the i-th of the list.
func (p *documentParser) entry(i int, part jsonsplit.Part, data []byte, outer sharedJSON) entry {
	p.problems = nil
	var v documentVersionJSON
	if err := json.Unmarshal(data[part.Start:part.End], &v); err != nil {
		if _, ok := errors.AsType[*json.UnmarshalTypeError](err); !ok {
			return entry{err: err}
		}
		p.leftOut(fmt.Sprintf("version %d of the list: %v", i+1, err), "that value counts as empty", "mend the entry")
	}
	rel := p.release(&v, outer)
	return entry{part: part, spelled: v.Version, release: rel, problems: p.problems}
}

// index returns what is left of a content when it is dropped, if that is of
// use: if all of it stands in a document.
func (c *content) index() *documentIndex {
	doc := c.document
	if doc == nil || doc.parsed == nil || doc.broken != nil || !doc.stamp.proves || len(c.dirs) > 0 || c.unread != nil {
		return nil
	}
	index := *doc.parsed.index
	index.stamp = doc.stamp
	return &index
}

// dropped returns a release of a document that was held and dropped. It reads
// no more than the part of the document that describes it. It returns nil
// where that is not to be had at once: the document is then read as a whole.
func (b *FSBackend) dropped(ctx context.Context, p Provider, version string) *Release {
	b.mu.Lock()
	index := b.indexes[p]
	b.mu.Unlock()
	if index == nil {
		return nil
	}
	at, ok := index.spans[version]
	if !ok {
		return nil
	}
	select {
	case b.looks <- struct{}{}:
	default:
		return nil
	}
	found := make(chan *Release, 1)
	go func() {
		defer func() { <-b.looks }()
		var rel *Release
		if guard(func() error { rel = b.readDropped(p, index, at); return nil }) != nil || rel == nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			if b.indexes[p] == index {
				delete(b.indexes, p)
			}
		}
		found <- rel
	}()
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	select {
	case rel := <-found:
		return rel
	case <-timer.C:
	case <-ctx.Done():
	}
	return nil
}

// readDropped reads a release of a document that is what it was, and still all
// that there is of the provider.
func (b *FSBackend) readDropped(p Provider, index *documentIndex, at span) *Release {
	ns, err := b.namespace(p.Namespace)
	if err != nil || ns.dirs[p.Type] || !ns.documents[p.Type] {
		return nil
	}
	data, ok := b.readSpan(index, at)
	if !ok {
		return nil
	}
	var v documentVersionJSON
	json.Unmarshal(data, &v) // what it fails with was reported when the document was read
	return newDocumentParser(index.name, index.blocks).release(&v, index.shared)
}

// readSpan reads a part of a document, if the document is what it was.
func (b *FSBackend) readSpan(index *documentIndex, at span) ([]byte, bool) {
	f, err := b.openRandom(index.name)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !index.stamp.is(info) {
		return nil, false
	}
	data := make([]byte, at.end-at.start)
	if _, err := f.ReadAt(data, int64(at.start)); err != nil && err != io.EOF || maphash.Bytes(index.seed, data) != at.hash {
		return nil, false
	}
	return data, true
}

func (p *documentParser) leftOut(what, effect, fix string) {
	p.problems = append(p.problems, Problem{Path: p.name, What: what, Effect: effect, Fix: fix})
}

// release returns the release that an entry describes.
func (p *documentParser) release(v *documentVersionJSON, outer sharedJSON) *Release {
	rel := &Release{Packages: make([]Package, 0, len(v.Platforms))}
	for _, protocol := range v.Protocols {
		if !validProtocol(protocol) {
			p.leftOut(fmt.Sprintf("version %s: the protocol %q does not parse", v.Version, protocol),
				"it is left out: clients would refuse the version", "write it as in 5.0, in quotes")
			continue
		}
		rel.Protocols = append(rel.Protocols, p.intern(protocol))
	}
	shared := v.inherit(outer)
	for i := range v.Platforms {
		pkg, err := p.pkg(&v.Platforms[i], shared)
		if err == nil && slices.ContainsFunc(rel.Packages, func(o Package) bool { return o.Platform == pkg.Platform }) {
			err = fmt.Errorf("%v stands there twice", pkg.Platform)
		}
		if err != nil {
			p.leftOut(fmt.Sprintf("version %s, platform %d of the list: %v", v.Version, i+1, err), "the platform is not served", "mend the entry")
			continue
		}
		rel.Packages = append(rel.Packages, pkg)
	}
	return rel
}

// intern returns the one copy of a name that is held.
func (p *documentParser) intern(s string) string {
	if one, ok := p.names[s]; ok {
		return one
	}
	p.names[s] = s
	return s
}

func (p *documentParser) pkg(v *documentPlatformJSON, outer sharedJSON) (Package, error) {
	shared := v.inherit(outer)
	pkg := Package{
		Platform:            Platform{p.intern(v.OS), p.intern(v.Arch)},
		Filename:            v.Filename,
		URL:                 v.DownloadURL,
		SHASumsURL:          shared.SHASumsURL,
		SHASumsSignatureURL: shared.SHASumsSignatureURL,
	}
	if n, err := hex.Decode(pkg.SHA256[:], []byte(v.SHASum[:min(len(v.SHASum), 2*sha256.Size)])); err != nil ||
		n != sha256.Size || len(v.SHASum) != 2*sha256.Size {
		return Package{}, fmt.Errorf("the shasum %q is not 64 hexadecimal digits", v.SHASum)
	}
	if err := p.check(&pkg); err != nil {
		return Package{}, err
	}
	pkg.SigningKeys = p.signingKeys(shared.SigningKeys)
	return pkg, nil
}

// check is the package's own, but does not look again at URLs that the package
// before it had as well.
func (p *documentParser) check(pkg *Package) error {
	urls := [...]string{pkg.SHASumsURL, pkg.SHASumsSignatureURL}
	if urls == p.urls && urls[0] != "" && urls[1] != "" && pkg.URL != "" {
		rest := *pkg
		rest.SHASumsURL, rest.SHASumsSignatureURL = "", ""
		return rest.check(true)
	}
	if err := pkg.check(false); err != nil {
		return err
	}
	p.urls = urls
	return nil
}

// signingKeys returns the keys of a list that clients can read. One that they
// cannot read would keep them from the right one behind it.
func (p *documentParser) signingKeys(list *signingKeysJSON) []SigningKey {
	if list == nil {
		return nil
	}
	keys, ok := p.keys[list]
	if ok {
		return keys
	}
	for _, k := range list.GPGPublicKeys {
		key, seen := p.blocks[k.ASCIIArmor]
		if !seen {
			key = readBlock(k.ASCIIArmor)
			p.blocks[k.ASCIIArmor] = key
			if key.err != nil {
				p.leftOut(fmt.Sprintf("the signing key %q cannot be read: %v", k.KeyID, key.err),
					"it is left out: clients would not look at the keys behind it", "export the key again, armored")
			}
		}
		if key.err != nil {
			continue
		}
		if k.KeyID == "" {
			k.KeyID = key.id
		}
		keys = append(keys, SigningKey(k))
	}
	p.keys[list] = keys
	return keys
}

func readBlock(armor string) block {
	keys, err := openpgp.ReadKeys([]byte(armor))
	if err != nil {
		return block{err: err}
	}
	return block{id: keys[0].ID}
}

// readVersion returns the semantic version that s spells out, possibly with a
// leading "v" or without its last numbers.
func readVersion(s string) (string, bool) {
	v := "v" + strings.TrimPrefix(s, "v")
	version := strings.TrimPrefix(semver.Canonical(v)+semver.Build(v), "v")
	return version, validVersion(version)
}
