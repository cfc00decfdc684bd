// Package metadata reads the documents that describe a provider whose files are
// elsewhere. It does no I/O.
//
// A document is a JSON object whose members are those of the registry protocol.
// Values that several packages share may be given once, on their version or on
// the document: see [Decode].
package metadata

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"slices"
	"strings"

	"github.com/rekisteri/rekisteri/internal/names"
)

// A Document is a decoded metadata document. Equal strings and keys are shared,
// and none of them retains the text.
type Document struct {
	Warnings []string
	Versions []Version // in the document's order, each once
	Findings []Finding // each once
	Index    *Index    // to decode one version without the others
}

// A Version is one version of a provider. It has at least one package.
type Version struct {
	Version   string // a full semantic version
	Protocols []string
	Packages  []Package
}

// A Package is a version for one platform.
type Package struct {
	OS, Arch            string
	Filename            string
	URL                 string
	SHASumsURL          string
	SHASumsSignatureURL string
	SHA256              [sha256.Size]byte
	Keys                []Key // shared by packages
}

// A Key is a public key that signatures may be verified with.
type Key struct {
	KeyID          string
	ASCIIArmor     string // one block that holds this key alone
	TrustSignature string
	Source         string
	SourceURL      string
}

// A Finding says what is wrong in a document, what happens to clients, and what
// fixes it.
type Finding struct {
	What, Effect, Fix string
}

// Size returns the memory that the strings of v take, in bytes. It leaves out
// what v shares with other versions and with the [Index]: keys, platforms,
// protocols and the version itself.
func (v *Version) Size() int64 {
	size := 0
	var prev Package
	for _, pkg := range v.Packages {
		size += len(pkg.URL)
		if !strings.HasSuffix(pkg.URL, pkg.Filename) {
			size += len(pkg.Filename)
		}
		if pkg.SHASumsURL != prev.SHASumsURL {
			size += len(pkg.SHASumsURL)
		}
		if pkg.SHASumsSignatureURL != prev.SHASumsSignatureURL {
			size += len(pkg.SHASumsSignatureURL)
		}
		prev = pkg
	}
	return int64(size)
}

// The JSON of a document's versions. Member names on the document itself are
// compared exactly; encoding/json ignores the case of those below it.
type (
	versionJSON struct {
		Version   string         `json:"version"`
		Protocols []string       `json:"protocols"`
		Platforms []platformJSON `json:"platforms"`
		sharedJSON
	}
	platformJSON struct {
		OS          string `json:"os"`
		Arch        string `json:"arch"`
		Filename    string `json:"filename"`
		DownloadURL string `json:"download_url"`
		SHASum      string `json:"shasum"`
		sharedJSON
	}
	sharedJSON struct {
		SHASumsURL          string       `json:"shasums_url"`
		SHASumsSignatureURL string       `json:"shasums_signature_url"`
		SigningKeys         *keyListJSON `json:"signing_keys"` // nil if missing or null, but not if of another type
	}
	keyListJSON struct {
		Keys []keyJSON `json:"gpg_public_keys"`
	}
	keyJSON struct {
		KeyID          string `json:"key_id"`
		ASCIIArmor     string `json:"ascii_armor"`
		TrustSignature string `json:"trust_signature"`
		Source         string `json:"source"`
		SourceURL      string `json:"source_url"`
	}
)

// or returns s with the missing members taken from outer.
func (s sharedJSON) or(outer sharedJSON) sharedJSON {
	return sharedJSON{
		cmp.Or(s.SHASumsURL, outer.SHASumsURL),
		cmp.Or(s.SHASumsSignatureURL, outer.SHASumsSignatureURL),
		cmp.Or(s.SigningKeys, outer.SigningKeys),
	}
}

// Decode decodes a metadata document. It returns an error if text is not one.
// Other values that clients could not use are left out, with a [Finding].
//
// A package has its own signing_keys, shasums_url and shasums_signature_url. It
// inherits those that it lacks from its version, and then from the document. If
// a member is repeated, the last one counts, but encoding/json merges repeated
// lists within an entry of versions.
//
// Two entries may be the same version, such as "0.5" and "0.5.0". Decode takes
// the first one that spells the version in full, or else the first one.
func Decode(text []byte) (*Document, error) {
	doc, err := newDecoder(make(map[string]armor)).document(text)
	if err != nil {
		return nil, fmt.Errorf("it is not a metadata document: %w", cmp.Or(syntaxError(text), err))
	}
	return doc, nil
}

// syntaxError returns the first syntax error in text, with its position, or nil.
// It decodes text again, since the offsets in the errors of a [json.Decoder] are
// wrong after a token.
func syntaxError(text []byte) error {
	syntax, ok := errors.AsType[*json.SyntaxError](json.Unmarshal(text, new(json.RawMessage)))
	if !ok {
		return nil
	}
	before := text[:max(0, syntax.Offset-1)]
	line := 1 + bytes.Count(before, []byte("\n"))
	column := len(before) - bytes.LastIndexByte(before, '\n')
	return fmt.Errorf("line %d, column %d: %w", line, column, syntax)
}

// A decoder reads a document, or one version of it.
type decoder struct {
	armors   map[string]armor  // by their text
	strings  map[string]string // to share equal ones
	lastList *keyListJSON
	lastKeys []Key // what lastList holds
	findings []Finding
	reported map[Finding]bool
	checked  bool // what is decoded was checked before, and nothing was wrong
}

func newDecoder(armors map[string]armor) *decoder {
	return &decoder{armors: armors, strings: make(map[string]string), reported: make(map[Finding]bool)}
}

// An entry is an element of a document's versions.
type entry struct {
	versionJSON
	span
}

func (d *decoder) document(text []byte) (*Document, error) {
	doc := &Document{Index: &Index{armors: d.armors, seed: maphash.MakeSeed()}}
	inherited := &doc.Index.inherited
	var entries []entry
	lists := 0

	dec := json.NewDecoder(bytes.NewReader(text))
	if err := open(dec, '{', "it is not a JSON object"); err != nil {
		return nil, err
	}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, err
		}
		switch name {
		case "versions":
			lists++
			entries, err = d.entries(dec, text, doc.Index.seed)
		case "warnings":
			err = replace(dec, &doc.Warnings)
		case "shasums_url":
			err = replace(dec, &inherited.SHASumsURL)
		case "shasums_signature_url":
			err = replace(dec, &inherited.SHASumsSignatureURL)
		case "signing_keys":
			err = replace(dec, &inherited.SigningKeys)
		default:
			err = dec.Decode(new(json.RawMessage))
		}
		if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return nil, errors.New(wrongType(name.(string), mismatch))
		}
		if err != nil {
			return nil, err
		}
	}
	if _, err := dec.Token(); err != nil { // the closing brace
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("more text follows the object")
	}
	if lists > 1 {
		return nil, errors.New("it has more than one list of versions")
	}

	d.choose(doc, entries)
	d.checkInstallable(doc.Versions)
	doc.Findings = d.findings
	return doc, nil
}

// open reads a bracket. It returns an error with the text mismatch if the next
// token is another one.
func open(dec *json.Decoder, bracket json.Delim, mismatch string) error {
	token, err := dec.Token()
	if err == nil && token != bracket {
		err = errors.New(mismatch)
	}
	return err
}

// entries reads the list of versions.
func (d *decoder) entries(dec *json.Decoder, text []byte, seed maphash.Seed) (entries []entry, err error) {
	if err := open(dec, '[', "versions is not a list"); err != nil {
		return nil, err
	}
	for dec.More() {
		var e entry
		start := dec.InputOffset()
		err := dec.Decode(&e.versionJSON)
		if mismatch, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			d.report(fmt.Sprintf("entry %d of versions: %s", len(entries)+1, wrongType("it", mismatch)),
				"clients get the entry without that value", "correct the value")
		} else if err != nil {
			return nil, err
		}
		part := bytes.TrimLeft(text[start:dec.InputOffset()], ", \t\r\n")
		e.span = span{offset: dec.InputOffset() - int64(len(part)), length: int32(len(part)), hash: maphash.Bytes(seed, part)}
		entries = append(entries, e)
	}
	_, err = dec.Token() // the closing bracket
	return entries, err
}

// replace decodes the next value into *v. Unlike [json.Decoder.Decode], it does
// not merge the value with the old one.
func replace[T any](dec *json.Decoder, v *T) error {
	var fresh T
	err := dec.Decode(&fresh)
	*v = fresh
	return err
}

// wrongType describes err without names of Go types. It uses what if err does
// not name a member.
func wrongType(what string, err *json.UnmarshalTypeError) string {
	member := err.Field[strings.LastIndexByte(err.Field, '.')+1:]
	return fmt.Sprintf("%s cannot be a JSON %s", cmp.Or(member, what), err.Value)
}

// choose sets the versions and the spans of doc. It takes one of the entries
// that are the same version.
func (d *decoder) choose(doc *Document, entries []entry) {
	versions := make([]Version, len(entries))
	chosen := make(map[string]int, len(entries))
	for i := range entries {
		e := &entries[i]
		version, ok := names.ParseVersion(e.Version)
		if !ok {
			d.report(fmt.Sprintf("entry %d of versions: %q is not a semantic version", i+1, e.Version),
				"it is not served, since clients would refuse the whole provider", "write the version as in 1.2.3")
			continue
		}
		before := len(d.findings)
		e.span.version = version
		versions[i] = d.version(version, &e.versionJSON, doc.Index.inherited)
		e.span.good = len(d.findings) == before
		if len(versions[i].Packages) == 0 {
			d.report(fmt.Sprintf("version %s has no platform that can be served", version),
				"it is not served, since clients would choose it and fail", "add a platform")
			continue
		}
		other, twice := chosen[version]
		if !twice || e.Version == version && entries[other].Version != version {
			chosen[version] = i
		}
	}
	doc.Versions = make([]Version, 0, len(chosen))
	doc.Index.spans = make([]span, 0, len(chosen))
	for i, v := range versions {
		if len(v.Packages) == 0 {
			continue
		}
		if first := chosen[v.Version]; first != i {
			d.report(fmt.Sprintf("entries %d and %d of versions, %q and %q, are both version %s", first+1, i+1, entries[first].Version, entries[i].Version, v.Version),
				fmt.Sprintf("clients get entry %d", first+1), "remove one of the entries")
			continue
		}
		doc.Versions = append(doc.Versions, v)
		doc.Index.spans = append(doc.Index.spans, entries[i].span)
	}
	slices.SortFunc(doc.Index.spans, func(a, b span) int { return strings.Compare(a.version, b.version) })
}

// checkInstallable reports versions that are served although clients refuse
// them.
func (d *decoder) checkInstallable(versions []Version) {
	var unsigned, old []string
	for _, v := range versions {
		if slices.ContainsFunc(v.Packages, func(pkg Package) bool { return len(pkg.Keys) == 0 }) {
			unsigned = append(unsigned, v.Version)
		}
		if len(v.Protocols) > 0 && !slices.ContainsFunc(v.Protocols, names.Installable) {
			old = append(old, v.Version)
		}
	}
	if len(unsigned) > 0 {
		d.report("there is no signing key for version "+abridge(unsigned), "clients refuse to install it", "add signing_keys")
	}
	if len(old) > 0 {
		d.report("there is neither protocol 5 nor 6 in version "+abridge(old), "clients refuse to install it", "publish a newer version")
	}
}

// abridge lists some versions.
func abridge(versions []string) string {
	const limit = 5
	if len(versions) <= limit {
		return strings.Join(versions, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(versions[:limit], ", "), len(versions)-limit)
}

// version returns the version that e describes. It ignores how e spells the
// version.
func (d *decoder) version(version string, e *versionJSON, outer sharedJSON) Version {
	v := Version{Version: version, Packages: make([]Package, 0, len(e.Platforms))}
	for _, protocol := range e.Protocols {
		if !names.ValidProtocol(protocol) {
			d.report(fmt.Sprintf("version %s: the protocol %q is not a version number", v.Version, protocol),
				"it is left out, since clients would refuse the version", "write it as in 5.0, in quotes")
			continue
		}
		v.Protocols = append(v.Protocols, d.intern(protocol))
	}
	var seen map[[2]string]bool
	if !d.checked {
		seen = make(map[[2]string]bool, len(e.Platforms))
	}
	for i := range e.Platforms {
		pkg, err := d.pkg(&e.Platforms[i], e.sharedJSON.or(outer))
		platform := [2]string{pkg.OS, pkg.Arch}
		if err == nil && seen[platform] {
			err = fmt.Errorf("%s_%s is listed twice", pkg.OS, pkg.Arch)
		}
		if err != nil {
			d.report(fmt.Sprintf("version %s, entry %d of platforms: %v", v.Version, i+1, err), "the platform is not served", "correct the entry")
			continue
		}
		if !d.checked {
			seen[platform] = true
		}
		v.Packages = append(v.Packages, pkg)
	}
	return v
}

// pkg returns the package that an entry of platforms describes.
func (d *decoder) pkg(p *platformJSON, outer sharedJSON) (Package, error) {
	inherited := p.sharedJSON.or(outer)
	pkg := Package{
		OS:                  d.intern(p.OS),
		Arch:                d.intern(p.Arch),
		Filename:            p.Filename,
		URL:                 p.DownloadURL,
		SHASumsURL:          d.intern(inherited.SHASumsURL),
		SHASumsSignatureURL: d.intern(inherited.SHASumsSignatureURL),
		Keys:                d.signingKeys(inherited.SigningKeys),
	}
	if strings.HasSuffix(pkg.URL, pkg.Filename) {
		pkg.Filename = pkg.URL[len(pkg.URL)-len(pkg.Filename):] // share the memory
	}
	isSum := len(p.SHASum) == hex.EncodedLen(sha256.Size)
	if isSum {
		_, err := hex.Decode(pkg.SHA256[:], []byte(p.SHASum))
		isSum = err == nil
	}
	if !isSum {
		return pkg, fmt.Errorf("the shasum %q is not 64 hexadecimal digits", p.SHASum)
	}
	if d.checked {
		return pkg, nil
	}
	return pkg, pkg.check()
}

// check returns why clients could not install the package.
func (pkg *Package) check() error {
	if !names.ValidPlatform(pkg.OS) || !names.ValidPlatform(pkg.Arch) {
		return fmt.Errorf("the platform %q %q is not in lower-case letters and digits", pkg.OS, pkg.Arch)
	}
	if !names.ValidFilename(pkg.Filename) {
		return fmt.Errorf("the file name %q is empty, too long, or has a character that is not allowed", pkg.Filename)
	}
	for _, u := range [...]struct{ member, url string }{
		{"download_url", pkg.URL},
		{"shasums_url", pkg.SHASumsURL},
		{"shasums_signature_url", pkg.SHASumsSignatureURL},
	} {
		if u.url == "" {
			return fmt.Errorf("the %s is missing", u.member)
		}
		if !names.ValidURL(u.url) {
			return fmt.Errorf("the %s is not an http or https URL", u.member)
		}
	}
	return nil
}

// intern returns a string that equals s, always the same one.
func (d *decoder) intern(s string) string {
	if one, ok := d.strings[s]; ok {
		return one
	}
	d.strings[s] = s
	return s
}

func (d *decoder) report(what, effect, fix string) {
	f := Finding{what, effect, fix}
	if !d.reported[f] {
		d.reported[f] = true
		d.findings = append(d.findings, f)
	}
}
