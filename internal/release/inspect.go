package release

import (
	"cmp"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rekisteri/rekisteri/internal/names"
	"github.com/rekisteri/rekisteri/internal/openpgp"
)

// A File is what was read of a file, for Inspect to judge.
type File struct {
	Size int64

	// Content is what is in the file. Only SHA256SUMS, its signature and the
	// manifests need it.
	Content string

	// SHA256 is the digest of a zip; nil if it was not computed.
	SHA256 *[sha256.Size]byte

	// Cut says that a zip has no end record: it is still being written, or was
	// cut off.
	Cut bool

	// NoBinary says that a zip does not hold the provider's binary. It is false
	// if nobody looked.
	NoBinary bool

	// Err is why the file could not be read. Nothing but its name is known then.
	Err error
}

// A Class says what follows from a [Finding].
type Class int

const (
	Note       Class = iota // the release can still be served
	Incomplete              // a file is missing that a copy or an upload may still add
	Unreadable              // something could not be read; it may be readable later
	Wrong                   // only a change of the files fixes it
)

// A Finding is something about a release that its publisher should know.
type Finding struct {
	Class  Class
	File   string // the file's name; empty: the directory
	What   string // what is wrong
	Effect string // what happens to clients; empty: the release is not served
	Fix    string // what to do
	Err    error  // of an Unreadable finding
}

// A Release is a release that clients can install, as far as its files tell.
// Its signature is not verified.
type Release struct {
	Version    string
	Sums       string // the content of SHA256SUMS
	Signature  string // the content of its signature file
	Signatures []openpgp.Signature
	Protocols  []string
	Zips       []Zip // by name
}

// A Zip is a package of a release. Its strings are parts of the release's Sums.
type Zip struct {
	Name, OS, Arch string
	SHA256         [sha256.Size]byte
	Size           int64
}

// Inspect judges the files of a directory, by name, that should be a release of
// a provider of the given type. dir is the directory's name, or the version for
// an upload. The version is the one in the name of SHA256SUMS; if there are
// several, dir decides. The release is nil if it cannot be served. The findings
// are in the order in which a person would look for them.
func Inspect(typ, dir string, files map[string]*File) (*Release, []Finding) {
	in := &inspection{typ: typ, dir: dir, files: files}
	r := in.inspect()
	for _, f := range in.findings {
		if f.Class != Note {
			return nil, in.findings
		}
	}
	return r, in.findings
}

type inspection struct {
	typ, dir string
	files    map[string]*File
	findings []Finding
}

func (in *inspection) add(class Class, file, what, fix string) {
	in.findings = append(in.findings, Finding{Class: class, File: file, What: what, Fix: fix})
}

// note adds a finding that does not keep the release from being served.
func (in *inspection) note(file, what, effect, fix string) {
	in.findings = append(in.findings, Finding{File: file, What: what, Effect: effect, Fix: fix})
}

// readable reports whether a file could be read, and adds a finding if not.
func (in *inspection) readable(name string) bool {
	err := in.files[name].Err
	if err != nil {
		in.findings = append(in.findings, Finding{Class: Unreadable, File: name, What: "it cannot be read: " + err.Error(), Fix: "make the file readable", Err: err})
	}
	return err == nil
}

func (in *inspection) inspect() *Release {
	sumsName, version := in.choose()
	if sumsName == "" {
		return nil
	}
	r := &Release{Version: version}
	if !in.readable(sumsName) {
		return nil
	}
	r.Sums = in.files[sumsName].Content
	sums, err := ParseSums(r.Sums)
	if err != nil {
		in.add(Wrong, sumsName, "clients cannot read it: "+err.Error(), "write it as sha256sum does, and sign it again")
		return nil
	}
	if sums.Comment != "" {
		in.note(sumsName, fmt.Sprintf("the line %q is not a sum", sums.Comment),
			"the release is served, but a lock file gets the hash of one platform only", "remove the line, and sign the file again")
	}
	in.signature(r, sumsName+".sig")
	in.manifest(r, sums)
	in.zips(r, sums, sumsName)
	if named, _ := names.ParseVersion(in.dir); named != version {
		in.note("", fmt.Sprintf("the directory is called %s, and its files are those of version %s", in.dir, version),
			"version "+version+" is served", "rename the directory to "+version)
	}
	return r
}

// choose returns the name of the SHA256SUMS file that describes the release, and
// the version in it. It returns an empty name if there is none.
func (in *inspection) choose() (sumsName, version string) {
	type candidate struct{ name, version string }
	var found []candidate
	for _, name := range slices.Sorted(maps.Keys(in.files)) {
		if !strings.HasSuffix(name, sumsSuffix) {
			continue
		}
		typ, version, ok := ParseSumsName(name)
		switch {
		case !ok:
			in.add(Wrong, name, fmt.Sprintf("its name does not begin with %s%s_", prefix, in.typ),
				fmt.Sprintf("set project_name: %s%s in .goreleaser.yaml, and release again", prefix, in.typ))
		case typ != in.typ:
			in.add(Wrong, name, "its name says that it belongs to the provider "+typ, "move its release to that provider's directory")
		case !names.ValidVersion(version):
			in.add(Wrong, name, fmt.Sprintf("%q in its name is not a full semantic version", version), "release it with a version such as 1.2.3")
		default:
			found = append(found, candidate{name, version})
		}
	}
	if len(found) > 1 {
		named, _ := names.ParseVersion(in.dir)
		for _, c := range found {
			if c.version != named {
				in.note(c.name, "the directory holds several releases", "it is not served", "move each release to a directory of its own")
			}
		}
		found = slices.DeleteFunc(found, func(c candidate) bool { return c.version != named })
		if len(found) == 0 {
			in.add(Wrong, "", "the directory holds several releases, and is named after none of them", "move each release to a directory of its own")
			return "", ""
		}
	}
	if len(found) == 0 {
		if len(in.findings) == 0 {
			in.add(Incomplete, "", "there is no SHA256SUMS of a release of "+in.typ,
				"copy all files of the release, "+SumsName(in.typ, "<version>")+" and its signature included")
		}
		return "", ""
	}
	// Another provider's or an odd version's SHA256SUMS beside the right one is
	// not served, and does no harm.
	for i := range in.findings {
		if f := &in.findings[i]; f.Class == Wrong {
			f.Class, f.Effect = Note, "it is not served"
		}
	}
	return found[0].name, found[0].version
}

// signature reads the signature of SHA256SUMS.
func (in *inspection) signature(r *Release, name string) {
	if in.files[name] == nil {
		in.add(Incomplete, name, "there is no signature of SHA256SUMS", "add it: gpg --detach-sign "+strings.TrimSuffix(name, ".sig"))
		return
	}
	if !in.readable(name) {
		return
	}
	r.Signature = in.files[name].Content
	var err error
	r.Signatures, err = openpgp.ReadSignatures([]byte(r.Signature))
	if err != nil {
		what := "clients cannot read it: " + err.Error()
		if errors.Is(err, openpgp.ErrArmored) {
			what = "the signature is armored, and clients read only binary ones"
		}
		in.add(Wrong, name, what, "sign SHA256SUMS again, without --armor: gpg --detach-sign "+strings.TrimSuffix(name, ".sig"))
	}
}

// manifest reads the protocol versions of the release. A release without a
// manifest speaks 5.0, as on the public registry.
func (in *inspection) manifest(r *Release, sums *Sums) {
	r.Protocols = []string{"5.0"}
	published := ManifestName(in.typ, r.Version)
	name := published
	if in.files[name] == nil {
		if name = Manifest; in.files[name] == nil {
			return
		}
	}
	if !in.readable(name) {
		return
	}
	const fix = "copy the manifest that was released, or none"
	content := in.files[name].Content
	if want, ok := sums.Of(published); ok && want != sha256.Sum256([]byte(content)) {
		in.add(Incomplete, name, "its sum is not the one in SHA256SUMS", fix)
		return
	}
	protocols, err := ParseManifest(content)
	if err != nil {
		in.add(Wrong, name, err.Error(), fix)
		return
	}
	if len(protocols) > 0 {
		r.Protocols = protocols
	}
}

// ParseManifest returns the versions of the plugin protocol that a manifest
// names. It returns an error if clients accept none of them. A manifest may
// name no versions.
func ParseManifest(content string) ([]string, error) {
	var manifest struct {
		Metadata struct {
			Protocols []string `json:"protocol_versions"`
		}
	}
	if err := json.Unmarshal([]byte(content), &manifest); err != nil {
		if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
			return nil, errors.New(`it is not a manifest: metadata.protocol_versions must be a list of strings, such as ["5.0"]`)
		}
		return nil, fmt.Errorf("it is not a manifest: %w", err)
	}
	protocols := manifest.Metadata.Protocols
	for _, protocol := range protocols {
		if !names.ValidProtocol(protocol) {
			return nil, fmt.Errorf("the protocol version %q does not parse: write it as in \"5.0\", and release again", protocol)
		}
	}
	if len(protocols) > 0 && !slices.ContainsFunc(protocols, names.Installable) {
		return nil, fmt.Errorf("the release speaks only the protocol versions %s, and clients need 5 or 6: release it with a newer plugin SDK", strings.Join(protocols, ", "))
	}
	return protocols, nil
}

// zips checks the zips that SHA256SUMS names.
func (in *inspection) zips(r *Release, sums *Sums, sumsName string) {
	r.Zips = make([]Zip, 0, len(sums.Files))
	for _, sum := range sums.Files {
		z, ok := ParseZip(sum.Name)
		if !ok {
			continue // the manifest, or something else that the release tool has summed
		}
		if z.Type != in.typ || z.Version != r.Version || !names.ValidPlatform(z.OS) || !names.ValidPlatform(z.Arch) || strings.ContainsAny(sum.Name, `/\`) {
			in.note(sumsName, fmt.Sprintf("it names %s, which is not a zip of %s %s", sum.Name, in.typ, r.Version),
				"that file is not served", "list each release's own zips in its SHA256SUMS")
			continue
		}
		f := in.files[sum.Name]
		if f == nil {
			in.add(Incomplete, sum.Name, "SHA256SUMS names this zip, and it is missing", "copy the zip that was released")
			continue
		}
		if !in.readable(sum.Name) {
			continue
		}
		if finding, ok := InspectZip(in.typ, sum, f); !ok {
			in.findings = append(in.findings, finding)
			continue
		}
		r.Zips = append(r.Zips, Zip{Name: sum.Name, OS: z.OS, Arch: z.Arch, SHA256: sum.SHA256, Size: f.Size})
	}
	if len(r.Zips) == 0 && !slices.ContainsFunc(in.findings, func(f Finding) bool { return f.Class != Note }) {
		in.add(Wrong, sumsName, fmt.Sprintf("it names no zip of %s %s", in.typ, r.Version), "list the release's zips in it, and sign it again")
	}
	slices.SortFunc(r.Zips, func(a, b Zip) int { return cmp.Compare(a.Name, b.Name) })
}

// InspectZip judges a zip of a provider of the given type by its sum in
// SHA256SUMS. If it is not good, the finding says why.
func InspectZip(typ string, sum Sum, f *File) (finding Finding, ok bool) {
	finding = Finding{Class: Wrong, File: sum.Name}
	switch {
	case f.Cut:
		finding.Class = Incomplete
		finding.What, finding.Fix = "the zip is incomplete: it has no end record", "copy it again, if no copy is in progress"
	case f.SHA256 != nil && *f.SHA256 != sum.SHA256:
		finding.What, finding.Fix = "its sum is not the one in SHA256SUMS", "copy the zip that was released"
	case f.NoBinary:
		finding.What = "it does not have a file " + prefix + typ + " at its root"
		finding.Fix = "set binary: '{{ .ProjectName }}_v{{ .Version }}' in .goreleaser.yaml, and release a new version"
	default:
		return Finding{}, true
	}
	return finding, false
}

// IsBinary reports whether name, of a file in a zip, is where clients look for
// the binary of a provider of the given type.
func IsBinary(name, typ string) bool {
	rest, ok := strings.CutPrefix(name, prefix+typ)
	return ok && (rest == "" || rest[0] == '_' || rest[0] == '.') && !strings.Contains(rest, "/")
}
