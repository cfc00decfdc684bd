package publish

import (
	"archive/zip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rekisteri/rekisteri/internal/names"
	"github.com/rekisteri/rekisteri/internal/openpgp"
	"github.com/rekisteri/rekisteri/internal/release"
	"github.com/rekisteri/rekisteri/internal/tree"
)

// A dist is a release in the directory that a release tool wrote.
type dist struct {
	version   string
	sums      file
	signature file
	others    []file // that SHA256SUMS names: the zips, and the manifest if there is one
}

// A file is a file of a release.
type file struct {
	name   string // under which it is published
	path   string // where it is
	size   int64
	sha256 [sha256.Size]byte
}

// A reader reads the release of a provider type from a directory.
type reader struct {
	dir, parent string
	typ         string
	names       []string // of the regular files in dir

	files    map[string]*release.File
	paths    map[string]string // of the files
	findings []release.Finding
}

// readDist reads the release of a provider type in a directory. The findings
// say what is wrong with it, and what its publisher should know. The dist is
// nil if one of them is not a note. An error says that no release was found.
func readDist(ctx context.Context, dir, typ, keyFile string) (*dist, []release.Finding, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, nil, err
	}
	r := &reader{dir: dir, parent: filepath.Dir(dir), typ: typ, files: make(map[string]*release.File), paths: make(map[string]string)}
	if r.names, err = regularFiles(dir); err != nil {
		return nil, nil, err
	}
	keys, err := r.readKeys(keyFile)
	if err != nil {
		return nil, nil, err
	}
	version, err := r.chooseVersion()
	if err != nil {
		return nil, nil, err
	}
	sumsName := release.SumsName(typ, version)
	for _, name := range []string{sumsName, sumsName + ".sig"} {
		if slices.Contains(r.names, name) {
			r.add(name, filepath.Join(dir, name))
		}
	}
	sums, err := release.ParseSums(r.files[sumsName].Content)
	if err == nil { // else Inspect says why
		if err := r.addNamed(ctx, version, sums); err != nil {
			return nil, nil, err
		}
	}
	rel, findings := release.Inspect(typ, version, r.files)
	r.findings = append(findings, r.findings...)
	if rel != nil {
		_, err := keys.Verify([]byte(rel.Sums), []byte(rel.Signature), time.Now())
		if err != nil && (keyFile != "" || !errors.Is(err, openpgp.ErrUnknownKey)) {
			what, fix, _ := strings.Cut(err.Error(), "; ")
			r.findings = append(r.findings, release.Finding{Class: release.Wrong, File: sumsName + ".sig", What: what, Fix: fix})
		}
	}
	if slices.ContainsFunc(r.findings, func(f release.Finding) bool { return f.Class != release.Note }) {
		return nil, r.findings, nil
	}
	d := &dist{version: version, sums: r.file(sumsName), signature: r.file(sumsName + ".sig")}
	for _, sum := range sums.Files {
		if r.files[sum.Name] != nil {
			d.others = append(d.others, r.file(sum.Name))
		}
	}
	return d, r.findings, nil
}

// addNamed reads the files that SHA256SUMS names.
func (r *reader) addNamed(ctx context.Context, version string, sums *release.Sums) error {
	for _, sum := range sums.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if release.IsZip(sum.Name) && slices.Contains(r.names, sum.Name) {
			r.add(sum.Name, filepath.Join(r.dir, sum.Name))
		}
	}
	r.addManifest(version, sums)
	return nil
}

// regularFiles returns the names of the regular files in a directory, and of the
// links to some.
func regularFiles(dir string) (all []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if info, err := os.Stat(filepath.Join(dir, entry.Name())); err == nil && info.Mode().IsRegular() {
			all = append(all, entry.Name())
		}
	}
	return all, nil
}

// chooseVersion returns the version of the one release of the provider type in
// the directory.
func (r *reader) chooseVersion() (string, error) {
	var versions, others []string
	for _, name := range r.names {
		typ, version, ok := release.ParseSumsName(name)
		switch {
		case ok && typ == r.typ && names.ValidVersion(version):
			versions = append(versions, version)
		case ok || strings.HasSuffix(name, "_SHA256SUMS"):
			others = append(others, name)
		}
	}
	want := release.SumsName(r.typ, "<version>")
	switch {
	case len(versions) == 1:
		return versions[0], nil
	case len(versions) > 1:
		return "", fmt.Errorf("%s has several releases (%s): give a directory with one", r.dir, strings.Join(versions, ", "))
	case len(others) > 0:
		return "", fmt.Errorf("%s has %s, and no %s: give the -provider that it belongs to, or set project_name: terraform-provider-%s in .goreleaser.yaml and release again",
			r.dir, strings.Join(others, ", "), want, r.typ)
	}
	return "", fmt.Errorf("%s has no %s: give the directory that the release tool wrote, such as dist", r.dir, want)
}

// add reads a file that is published under a name.
func (r *reader) add(name, path string) {
	f, err := readFile(path, r.typ)
	if err != nil {
		f = &release.File{Err: errors.New(tree.Reason(err))}
	}
	r.files[name], r.paths[name] = f, path
}

// readFile reads all of a file of a provider's release.
func readFile(path, typ string) (*release.File, error) {
	fsys, name := os.DirFS(filepath.Dir(path)), filepath.Base(path)
	if !release.IsZip(name) {
		data, _, err := tree.ReadFile(fsys, name, tree.MaxSmallFile)
		if err != nil {
			return nil, err
		}
		sum := sha256.Sum256(data)
		return &release.File{Size: int64(len(data)), Content: string(data), SHA256: &sum}, nil
	}
	f, info, err := tree.Open(fsys, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	h := sha256.New()
	size, err := io.Copy(h, f)
	if err != nil {
		return nil, err
	}
	sum := [sha256.Size]byte(h.Sum(nil))
	z, err := zip.NewReader(f, info.Size())
	found := err == nil && slices.ContainsFunc(z.File, func(f *zip.File) bool { return release.IsBinary(f.Name, typ) })
	return &release.File{Size: size, SHA256: &sum, Cut: err != nil, NoBinary: !found}, nil
}

// file returns a file that was read.
func (r *reader) file(name string) file {
	f := r.files[name]
	return file{name: name, path: r.paths[name], size: f.Size, sha256: *f.SHA256}
}

// addManifest reads the manifest. GoReleaser does not copy it: it is in the
// provider's repository, under another name.
func (r *reader) addManifest(version string, sums *release.Sums) {
	name := release.ManifestName(r.typ, version)
	want, named := sums.Of(name)
	found := ""
	for _, path := range []string{filepath.Join(r.dir, name), filepath.Join(r.dir, release.Manifest), filepath.Join(r.parent, release.Manifest)} {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if found == "" {
			found = path
		}
		switch {
		case !named && err == nil:
			protocols, err := release.ParseManifest(string(data))
			if err == nil && len(protocols) > 0 && !slices.Contains(protocols, "5.0") {
				r.findings = append(r.findings, release.Finding{File: path, What: "SHA256SUMS does not name the manifest",
					Effect: "it is not published, and clients are told that the provider speaks protocol 5.0",
					Fix:    "add it to checksum.extra_files in .goreleaser.yaml for the next release"})
			}
			return
		case named && err == nil && sha256.Sum256(data) == want:
			r.add(name, path)
			return
		}
	}
	if !named {
		return
	}
	f := release.Finding{Class: release.Wrong, File: name, What: "SHA256SUMS names the manifest, and it is neither here nor in the parent directory",
		Fix: "put " + release.Manifest + " of the released commit here"}
	if found != "" {
		f.File, f.What = found, "its sum is not the one in SHA256SUMS: it is another release's, or has changed since"
		f.Fix = "check out the released commit, or release again"
	}
	r.findings = append(r.findings, f)
}

// readKeys returns the keys in a file, or, without one, those in *.asc files
// beside the release. Those need not be the keys of this release.
func (r *reader) readKeys(keyFile string) (*openpgp.Keyring, error) {
	paths := []string{keyFile}
	if keyFile == "" {
		paths = nil
		for _, dir := range []string{r.dir, r.parent} {
			names, _ := regularFiles(dir) // the parent may be closed to this user
			for _, name := range names {
				if filepath.Ext(name) == ".asc" {
					paths = append(paths, filepath.Join(dir, name))
				}
			}
		}
	}
	var files []openpgp.KeyFile
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err == nil {
			var keys []openpgp.Key
			keys, err = openpgp.ReadKeys(text)
			files = append(files, openpgp.KeyFile{Path: path, Keys: keys})
		}
		if err != nil && keyFile != "" {
			return nil, fmt.Errorf("the key in %s cannot be read: %w", path, err)
		}
	}
	return openpgp.NewKeyring(files), nil
}
