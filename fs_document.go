package rekisteri

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/rekisteri/rekisteri/internal/jsonscan"
	"github.com/rekisteri/rekisteri/internal/names"
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
	documentVersion struct {
		shared
		version   string
		protocols []string
		platforms []documentPlatform
	}
	documentPlatform struct {
		shared
		os, arch, filename, downloadURL, shasum string
	}
	shared struct {
		sumsURL, signatureURL string
		keys                  []SigningKey // nil: there is no list
	}
)

// inherit returns s with what it lacks taken from outer.
func (s shared) inherit(outer shared) shared {
	s.sumsURL = cmp.Or(s.sumsURL, outer.sumsURL)
	s.signatureURL = cmp.Or(s.signatureURL, outer.signatureURL)
	if s.keys == nil {
		s.keys = outer.keys
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
	shared shared // the document's own
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
	index := &documentIndex{name: name, spans: make(map[string]span), seed: maphash.MakeSeed(), blocks: make(map[string]block)}
	d := &parsed{listing: new(Listing), releases: make(map[string]*Release), size: int64(len(data)), index: index}
	p := newDocumentParser(name, data, index.blocks)
	versions := *jsonscan.New([]byte("[]")) // read last: what they share may stand behind them
	lists := 0
	isObject := p.Object(func(member []byte) {
		switch string(member) {
		case "versions":
			lists++
			versions = p.Scanner
			p.Raw()
		case "warnings":
			d.listing.Warnings = nil
			p.Array(func(int) { d.listing.Warnings = append(d.listing.Warnings, string(p.Bytes())) })
		default:
			p.shared(member, &index.shared)
		}
	})
	switch err := cmp.Or(p.End(), p.Mismatch()); {
	case err != nil:
		return nil, err
	case !isObject:
		return nil, errors.New("it is null")
	case lists > 1:
		return nil, errors.New("it has two lists of versions")
	}
	p.Scanner = versions
	if !p.Array(func(i int) {
		start := p.Offset()
		v := p.version()
		if err := p.Mismatch(); err != nil {
			p.leftOut(fmt.Sprintf("version %d of the list: %v", i+1, err), "that value counts as empty", "mend the entry")
		}
		at := span{start: start, end: p.Offset()}
		at.hash = maphash.Bytes(index.seed, data[at.start:at.end])
		d.add(p, v, at)
	}) {
		return nil, errors.New("its versions are no list")
	}
	if err := p.Err(); err != nil {
		return nil, err
	}
	d.report(p)
	d.problems = p.problems
	return d, nil
}

// add adds a version of a document, which stands at a place.
func (d *parsed) add(p *documentParser, v *documentVersion, at span) {
	rel := p.release(v, d.index.shared)
	version, ok := names.ParseVersion(v.version)
	switch {
	case !ok:
		p.leftOut(fmt.Sprintf("the version %q is not a semantic version", v.version),
			"it is not served: it would make clients refuse the whole provider", "write it as in 1.2.3")
		return
	case d.releases[version] != nil:
		p.leftOut(fmt.Sprintf("the version %q stands there twice, as %s", v.version, version), "only the first is served", "remove one")
		return
	case len(rel.Packages) == 0:
		p.leftOut(fmt.Sprintf("version %s has no platform that can be served", version),
			"it is not served: clients would choose it and fail", "add a platform")
		return
	}
	d.releases[version] = rel
	d.index.spans[version] = at
	listed := Version{Version: version, Protocols: rel.Protocols, Platforms: make([]Platform, len(rel.Packages))}
	for i := range rel.Packages {
		listed.Platforms[i] = rel.Packages[i].Platform
	}
	if n := len(d.listing.Versions); n > 0 && slices.Equal(listed.Platforms, d.listing.Versions[n-1].Platforms) {
		listed.Platforms = d.listing.Versions[n-1].Platforms // there are as many lists as versions, and few differ
	}
	d.listing.Versions = append(d.listing.Versions, listed)
}

// report reports what keeps clients from installing what is served.
func (d *parsed) report(p *documentParser) {
	var unsigned, old []string
	for _, v := range d.listing.Versions {
		if slices.ContainsFunc(d.releases[v.Version].Packages, func(pkg Package) bool { return len(pkg.SigningKeys) == 0 }) {
			unsigned = append(unsigned, v.Version)
		}
		if len(v.Protocols) > 0 && !slices.ContainsFunc(v.Protocols, names.Installable) {
			old = append(old, v.Version)
		}
	}
	if len(unsigned) > 0 {
		p.leftOut("there is no signing key for version "+abridged(unsigned), "clients refuse to install it", "add signing_keys")
	}
	if len(old) > 0 {
		p.leftOut("there is neither protocol 5 nor 6 in version "+abridged(old), "clients refuse to install it", "nothing but a newer version does")
	}
}

// A documentParser reads a document.
type documentParser struct {
	jsonscan.Scanner
	name     string
	entry    documentVersion   // the one that is being read
	blocks   map[string]block  // of keys, by the armored text: it stands in many places
	texts    map[string]string // names and URLs that stand in many places
	urls     [2]string         // of SHA256SUMS and its signature, which were good: so do they
	problems []Problem
	told     map[Problem]bool // those in problems
}

func newDocumentParser(name string, data []byte, blocks map[string]block) *documentParser {
	return &documentParser{Scanner: *jsonscan.New(data), name: name, blocks: blocks, texts: make(map[string]string), told: make(map[Problem]bool)}
}

// A block is what an armored key block turned out to be.
type block struct {
	armor, id string
	err       error
}

// version reads an entry of a document's versions. It is valid until the next
// is read. Of members of one name the last one counts.
func (p *documentParser) version() *documentVersion {
	v := &p.entry
	*v = documentVersion{protocols: v.protocols[:0], platforms: v.platforms[:0]}
	p.Object(func(member []byte) {
		switch string(member) {
		case "version":
			v.version = string(p.Bytes())
		case "protocols":
			v.protocols = v.protocols[:0]
			p.Array(func(int) { v.protocols = append(v.protocols, p.intern(p.Bytes())) })
		case "platforms":
			v.platforms = v.platforms[:0]
			p.Array(func(int) { v.platforms = append(v.platforms, p.platform()) })
		default:
			p.shared(member, &v.shared)
		}
	})
	return v
}

func (p *documentParser) platform() (v documentPlatform) {
	p.Object(func(member []byte) {
		switch string(member) {
		case "os":
			v.os = p.intern(p.Bytes())
		case "arch":
			v.arch = p.intern(p.Bytes())
		case "filename":
			v.filename = string(p.Bytes())
		case "download_url":
			v.downloadURL = string(p.Bytes())
		case "shasum":
			v.shasum = string(p.Bytes())
		default:
			p.shared(member, &v.shared)
		}
	})
	if strings.HasSuffix(v.downloadURL, v.filename) { // one text is enough for both
		v.filename = v.downloadURL[len(v.downloadURL)-len(v.filename):]
	}
	return v
}

// shared reads a member that may stand on a platform, a version or the
// document.
func (p *documentParser) shared(member []byte, v *shared) {
	switch string(member) {
	case "shasums_url":
		v.sumsURL = p.intern(p.Bytes())
	case "shasums_signature_url":
		v.signatureURL = p.intern(p.Bytes())
	case "signing_keys":
		v.keys = nil
		if !p.Null() {
			v.keys = p.signingKeys()
		}
	}
}

// signingKeys reads lists of keys, of which there is one kind. The result is
// not nil.
func (p *documentParser) signingKeys() []SigningKey {
	keys := []SigningKey{}
	p.Object(func(member []byte) {
		if string(member) == "gpg_public_keys" {
			keys = keys[:0]
			p.Array(func(int) {
				if key, ok := p.signingKey(); ok {
					keys = append(keys, key)
				}
			})
		}
	})
	return keys
}

// signingKey reads a key. It reports whether clients can: one that they cannot
// read would keep them from the right one behind it.
func (p *documentParser) signingKey() (key SigningKey, ok bool) {
	var armor []byte
	p.Object(func(member []byte) {
		switch string(member) {
		case "key_id":
			key.KeyID = p.intern(p.Bytes())
		case "ascii_armor":
			armor = p.Bytes()
		case "trust_signature":
			key.TrustSignature = p.intern(p.Bytes())
		case "source":
			key.Source = p.intern(p.Bytes())
		case "source_url":
			key.SourceURL = p.intern(p.Bytes())
		}
	})
	b, ok := p.blocks[string(armor)]
	if !ok {
		b = readBlock(string(armor))
		p.blocks[b.armor] = b
		if b.err != nil {
			p.leftOut(fmt.Sprintf("the signing key %q cannot be read: %v", key.KeyID, b.err),
				"it is left out: clients would not look at the keys behind it", "export the key again, armored")
		}
	}
	key.KeyID, key.ASCIIArmor = cmp.Or(key.KeyID, b.id), b.armor
	return key, b.err == nil
}

func readBlock(armor string) block {
	keys, err := openpgp.ReadKeys([]byte(armor))
	if err != nil {
		return block{armor: armor, err: err}
	}
	return block{armor: armor, id: keys[0].ID}
}

// intern returns the one copy of a text that is held.
func (p *documentParser) intern(text []byte) string {
	if one, ok := p.texts[string(text)]; ok {
		return one
	}
	one := string(text)
	p.texts[one] = one
	return one
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
	b.mu.RLock()
	index := b.indexes[p]
	b.mu.RUnlock()
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
	// What is odd about it was reported when the document was read.
	parser := newDocumentParser(index.name, data, index.blocks)
	return parser.release(parser.version(), index.shared)
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
	problem := Problem{Path: p.name, What: what, Effect: effect, Fix: fix}
	if !p.told[problem] {
		p.told[problem] = true
		p.problems = append(p.problems, problem)
	}
}

// release returns the release that an entry describes.
func (p *documentParser) release(v *documentVersion, outer shared) *Release {
	rel := &Release{Packages: make([]Package, 0, len(v.platforms))}
	for _, protocol := range v.protocols {
		if !names.ValidProtocol(protocol) {
			p.leftOut(fmt.Sprintf("version %s: the protocol %q does not parse", v.version, protocol),
				"it is left out: clients would refuse the version", "write it as in 5.0, in quotes")
			continue
		}
		rel.Protocols = append(rel.Protocols, protocol)
	}
	inherited := v.inherit(outer)
	for i := range v.platforms {
		pkg, err := p.pkg(&v.platforms[i], inherited)
		if err == nil && slices.ContainsFunc(rel.Packages, func(o Package) bool { return o.Platform == pkg.Platform }) {
			err = fmt.Errorf("%v stands there twice", pkg.Platform)
		}
		if err != nil {
			p.leftOut(fmt.Sprintf("version %s, platform %d of the list: %v", v.version, i+1, err), "the platform is not served", "mend the entry")
			continue
		}
		rel.Packages = append(rel.Packages, pkg)
	}
	return rel
}

func (p *documentParser) pkg(v *documentPlatform, outer shared) (Package, error) {
	inherited := v.inherit(outer)
	pkg := Package{
		Platform:            Platform{v.os, v.arch},
		Filename:            v.filename,
		URL:                 v.downloadURL,
		SHASumsURL:          inherited.sumsURL,
		SHASumsSignatureURL: inherited.signatureURL,
		SigningKeys:         inherited.keys,
	}
	if n, err := hex.Decode(pkg.SHA256[:], []byte(v.shasum[:min(len(v.shasum), 2*sha256.Size)])); err != nil ||
		n != sha256.Size || len(v.shasum) != 2*sha256.Size {
		return Package{}, fmt.Errorf("the shasum %q is not 64 hexadecimal digits", v.shasum)
	}
	return pkg, p.check(&pkg)
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
