package rekisteri

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/rekisteri/rekisteri/internal/openpgp"
)

// A document is the metadata file of a provider as it was last read. It is
// immutable.
type document struct {
	stamp  stamp
	sum    [sha256.Size]byte
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
	doc.stamp = stamp
	if err != nil {
		return broken(reason(err), "make the file readable, and replace it by renaming")
	}
	doc.sum = sha256.Sum256(data)
	if doc.sum == prev.sum {
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
	documentJSON struct {
		sharedJSON
		Warnings []string                    `json:"warnings"`
		Versions []item[documentVersionJSON] `json:"versions"`
	}
	documentVersionJSON struct {
		sharedJSON
		Version   string                       `json:"version"`
		Protocols []item[string]               `json:"protocols"`
		Platforms []item[documentPlatformJSON] `json:"platforms"`
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

// An item is an element of a list whose own faults don't fail the list.
type item[T any] struct {
	value T
	err   error
}

func (i *item[T]) UnmarshalJSON(data []byte) error {
	i.err = json.Unmarshal(data, &i.value)
	return nil
}

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

// parseDocument reads a metadata document. What a client would choke on is
// left out of the result, with a problem.
func parseDocument(name string, data []byte) (*parsed, error) {
	var doc documentJSON
	if err := json.Unmarshal(data, &doc); err != nil {
		return nil, err
	}
	p := &documentParser{
		name:   name,
		keys:   make(map[*signingKeysJSON][]SigningKey),
		blocks: make(map[string]block),
		parsed: parsed{
			listing:  &Listing{Versions: make([]Version, 0, len(doc.Versions)), Warnings: doc.Warnings},
			releases: make(map[string]*Release, len(doc.Versions)),
		},
	}
	for i, v := range doc.Versions {
		if v.err != nil {
			p.leftOut(fmt.Sprintf("version %d of the list: %v", i+1, v.err), "the version is not served", "mend the entry")
			continue
		}
		p.version(&v.value, doc.sharedJSON)
	}
	return &p.parsed, nil
}

// A parsed is what a metadata document says.
type parsed struct {
	listing  *Listing
	releases map[string]*Release // by version
	problems []Problem
}

type documentParser struct {
	parsed
	name   string
	keys   map[*signingKeysJSON][]SigningKey // of each list of keys that was read
	blocks map[string]block                  // by the armored text: it stands in many places
}

// A block is what an armored key block turned out to be.
type block struct {
	id  string
	err error
}

func (p *documentParser) leftOut(what, effect, fix string) {
	p.problems = append(p.problems, Problem{Path: p.name, What: what, Effect: effect, Fix: fix})
}

func (p *documentParser) version(v *documentVersionJSON, outer sharedJSON) {
	version, ok := readVersion(v.Version)
	if !ok {
		p.leftOut(fmt.Sprintf("the version %q is not a semantic version", v.Version),
			"it is not served: it would make clients refuse the whole provider", "write it as in 1.2.3")
		return
	}
	if p.releases[version] != nil {
		p.leftOut(fmt.Sprintf("the version %q stands there twice, as %s", v.Version, version), "only the first is served", "remove one")
		return
	}
	rel := &Release{Packages: make([]Package, 0, len(v.Platforms))}
	for _, protocol := range v.Protocols {
		if protocol.err != nil || !validProtocol(protocol.value) {
			p.leftOut(fmt.Sprintf("version %s: the protocol %q does not parse", version, protocol.value),
				"it is left out: clients would refuse the version", "write it as in 5.0, in quotes")
			continue
		}
		rel.Protocols = append(rel.Protocols, protocol.value)
	}
	shared := v.inherit(outer)
	platforms := make([]Platform, 0, len(v.Platforms))
	for i, platform := range v.Platforms {
		pkg, err := p.pkg(&platform.value, shared)
		if platform.err != nil {
			err = platform.err
		} else if err == nil && slices.Contains(platforms, pkg.Platform) {
			err = fmt.Errorf("%v stands there twice", pkg.Platform)
		}
		if err != nil {
			p.leftOut(fmt.Sprintf("version %s, platform %d of the list: %v", version, i+1, err), "the platform is not served", "mend the entry")
			continue
		}
		rel.Packages = append(rel.Packages, pkg)
		platforms = append(platforms, pkg.Platform)
	}
	if len(platforms) == 0 {
		p.leftOut(fmt.Sprintf("version %s has no platform that can be served", version),
			"it is not served: clients would choose it and fail", "add a platform")
		return
	}
	p.releases[version] = rel
	p.listing.Versions = append(p.listing.Versions, Version{version, rel.Protocols, platforms})
}

func (p *documentParser) pkg(v *documentPlatformJSON, outer sharedJSON) (Package, error) {
	shared := v.inherit(outer)
	pkg := Package{
		Platform:            Platform{v.OS, v.Arch},
		Filename:            v.Filename,
		URL:                 v.DownloadURL,
		SHASumsURL:          shared.SHASumsURL,
		SHASumsSignatureURL: shared.SHASumsSignatureURL,
	}
	if n, err := hex.Decode(pkg.SHA256[:], []byte(v.SHASum[:min(len(v.SHASum), 2*sha256.Size)])); err != nil ||
		n != sha256.Size || len(v.SHASum) != 2*sha256.Size {
		return Package{}, fmt.Errorf("the shasum %q is not 64 hexadecimal digits", v.SHASum)
	}
	if err := pkg.check(false); err != nil {
		return Package{}, err
	}
	pkg.SigningKeys = p.signingKeys(shared.SigningKeys)
	return pkg, nil
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
