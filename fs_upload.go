package rekisteri

import (
	"archive/zip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/rekisteri/rekisteri/internal/openpgp"
	"github.com/rekisteri/rekisteri/internal/release"
)

// An upload is a release whose files are being uploaded.
type upload struct {
	Provider
	version string
	dir     string
	keys    *ring
	from    uploader
}

// attrs returns what the log says about an upload.
func (up *upload) attrs() []any {
	attrs := []any{"provider", up.Provider.String(), "version", up.version}
	if up.from.remote != "" {
		attrs = append(attrs, "remote", up.from.remote)
	}
	if up.from.label != "" {
		attrs = append(attrs, "by", up.from.label)
	}
	return attrs
}

// checkFile returns nil if a file can belong to a release, as far as the file
// alone tells. It is called before the file is staged.
func (up *upload) checkFile(name string, f StagedFile) error {
	size, _ := f.Written()
	if release.IsZip(name) {
		return up.checkZip(name, f, size)
	}
	content := make([]byte, size)
	if _, err := f.ReadAt(content, 0); err != nil && err != io.EOF {
		return err
	}
	switch name {
	case release.SumsName(up.Type, up.version):
		_, err := up.parseSums(string(content))
		return err
	case release.SignatureName(up.Type, up.version):
		return up.checkSignature(content)
	}
	_, err := release.ParseManifest(string(content))
	if err != nil {
		return &UploadError{Detail: "the manifest is refused: " + err.Error()}
	}
	return nil
}

func (up *upload) checkZip(name string, f io.ReaderAt, size int64) error {
	z, err := zip.NewReader(f, size)
	if err != nil {
		return &UploadError{Detail: name + " is not a whole zip: " + err.Error()}
	}
	if !slices.ContainsFunc(z.File, func(f *zip.File) bool { return release.IsBinary(f.Name, up.Type) }) {
		return &UploadError{Detail: fmt.Sprintf("%s does not have a file terraform-provider-%s at its root, where clients look for it: set binary: '{{ .ProjectName }}_v{{ .Version }}' in .goreleaser.yaml", name, up.Type)}
	}
	return nil
}

// parseSums reads a SHA256SUMS file, which must name the release's own files.
func (up *upload) parseSums(text string) (*release.Sums, error) {
	name := release.SumsName(up.Type, up.version)
	sums, err := release.ParseSums(text)
	if err != nil {
		return nil, &UploadError{Detail: "clients cannot read " + name + ": " + err.Error()}
	}
	zips := 0
	for _, sum := range sums.Files {
		if release.IsZip(sum.Name) {
			zips++
			if err := checkUploadName(up.Provider, up.version, sum.Name); err != nil {
				return nil, &UploadError{Detail: fmt.Sprintf("%s names %s, which is not a file of %v %s", name, sum.Name, up.Provider, up.version)}
			}
		}
	}
	if zips == 0 {
		return nil, &UploadError{Detail: name + " names no zip"}
	}
	return sums, nil
}

// checkSignature returns nil if a signature is by a key that clients accept.
// Whether it fits SHA256SUMS is for later.
func (up *upload) checkSignature(signature []byte) error {
	signed, err := openpgp.ReadSignatures(signature)
	if errors.Is(err, openpgp.ErrArmored) {
		return &UploadError{Detail: "the signature is armored, and clients read only binary ones: sign with gpg --detach-sign, without --armor"}
	}
	if err != nil {
		return &UploadError{Detail: "clients cannot read the signature: " + err.Error()}
	}
	faults, _ := up.keys.Judge(signed, time.Now())
	for _, f := range faults {
		switch f.Kind {
		case openpgp.UnknownKey:
			if up.keys.lost != nil {
				return up.keys.lost
			}
			return &UploadError{Detail: fmt.Sprintf("the registry does not know the signing key %s: its operator must add the public key to the tree first, as %s/<name>.asc (gpg --armor --export %s)", f.KeyID, up.Namespace, f.KeyID)}
		case openpgp.RevokedKey:
			return &UploadError{Detail: "the signing key " + f.KeyID + " is revoked, and clients refuse what it signs: sign with another key"}
		case openpgp.ExpiredKey, openpgp.ExpiredSubkey:
			return &UploadError{Detail: "the signing key " + f.KeyID + " expired on " + f.When.Format(time.DateOnly) + ": extend it (gpg --quick-set-expire), and ask the registry's operator to replace it in the tree"}
		case openpgp.ExpiredSignature:
			return &UploadError{Detail: "the signature expired on " + f.When.Format(time.DateOnly) + ": sign without an expiry"}
		}
	}
	return nil
}

// judge returns the files of a complete release, if all of them are staged.
// Otherwise it returns the names of the files that the current upload lacks. An
// error says that the files of that upload contradict each other.
func (up *upload) judge(store Store, all []Staged) (files []Staged, missing []string, err error) {
	sumsName, signatureName := release.SumsName(up.Type, up.version), release.SignatureName(up.Type, up.version)
	staged := byContent(all)
	current := make(map[string]Staged) // by name
	for _, s := range all {
		if before, ok := current[s.Name]; ok && before.SHA256 != s.SHA256 {
			// The release tool was run again, with another build: the earlier
			// files do not belong to it.
			clear(current)
		}
		current[s.Name] = s
	}
	for _, s := range slices.Backward(all) {
		if s.Name != sumsName || staged[contentKey(s.Name, s.SHA256)].Path != s.Path { // a retry sent it again
			continue
		}
		files, lacks, err := up.choose(store, s, all, staged)
		if err != nil {
			return nil, nil, err
		}
		if len(lacks) == 0 {
			return files, nil, nil
		}
		if current[sumsName].Path == s.Path {
			missing = lacks
		}
	}
	if missing == nil {
		for _, name := range []string{sumsName, signatureName} {
			if _, ok := current[name]; !ok {
				missing = append(missing, name)
			}
		}
		return nil, missing, nil
	}
	return nil, missing, up.contradiction(store, current)
}

// byContent returns the last one of the staged files with each name and digest, by
// their contentKey.
func byContent(all []Staged) map[string]Staged {
	staged := make(map[string]Staged)
	for _, s := range all {
		staged[contentKey(s.Name, s.SHA256)] = s
	}
	return staged
}

func contentKey(name string, sum [sha256.Size]byte) string {
	return name + " " + hex.EncodeToString(sum[:])
}

// choose returns the files of the release that a staged SHA256SUMS describes,
// in the order for Commit, and the names of those that are not staged.
func (up *upload) choose(store Store, s Staged, all []Staged, staged map[string]Staged) (files []Staged, lacks []string, err error) {
	text, err := fs.ReadFile(store, s.Path)
	if err != nil {
		return nil, nil, err
	}
	sums, err := up.parseSums(string(text))
	if err != nil {
		return nil, nil, err
	}
	files = []Staged{s}
	for _, sum := range sums.Files {
		if !release.IsZip(sum.Name) && sum.Name != release.ManifestName(up.Type, up.version) {
			continue // clients do not need it
		}
		f, ok := staged[contentKey(sum.Name, sum.SHA256)]
		if !ok {
			lacks = append(lacks, sum.Name)
			continue
		}
		files = append(files, f)
	}
	for _, f := range slices.Backward(all) {
		if f.Name != release.SignatureName(up.Type, up.version) || staged[contentKey(f.Name, f.SHA256)].Path != f.Path {
			continue
		}
		signature, err := fs.ReadFile(store, f.Path)
		if err != nil {
			return nil, nil, err
		}
		if _, err := up.keys.Verify(text, signature, time.Now()); err == nil {
			return append(files, f), lacks, nil
		}
	}
	return nil, append(lacks, release.SignatureName(up.Type, up.version)), nil
}

// contradiction returns an error if the files of one upload can never become a
// release: the signature does not verify, or every file is there and one has
// another sum.
func (up *upload) contradiction(store Store, current map[string]Staged) error {
	text, err := fs.ReadFile(store, current[release.SumsName(up.Type, up.version)].Path)
	if err != nil {
		return err
	}
	sums, err := up.parseSums(string(text))
	if err != nil {
		return err
	}
	if f, ok := current[release.SignatureName(up.Type, up.version)]; ok {
		signature, err := fs.ReadFile(store, f.Path)
		if err != nil {
			return err
		}
		if _, err := up.keys.Verify(text, signature, time.Now()); err != nil {
			if up.keys.lost != nil {
				return up.keys.lost
			}
			return &UploadError{Detail: err.Error()}
		}
	}
	var wrong []string
	for _, sum := range sums.Files {
		if !release.IsZip(sum.Name) && sum.Name != release.ManifestName(up.Type, up.version) {
			continue
		}
		f, ok := current[sum.Name]
		if !ok {
			return nil
		}
		if f.SHA256 != sum.SHA256 {
			wrong = append(wrong, sum.Name)
		}
	}
	if len(wrong) > 0 {
		return &UploadError{Detail: "the sum in SHA256SUMS is not that of the uploaded file: " + strings.Join(wrong, ", ") + "; upload the files of one build"}
	}
	return nil
}
