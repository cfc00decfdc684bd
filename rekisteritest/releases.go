package rekisteritest

import (
	"crypto/sha256"
	"embed"
	"fmt"
	"io/fs"
	"slices"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/release"
)

//go:embed testdata/releases
var embedded embed.FS

// Releases returns the releases that [Test] expects, as files in the layout of a
// [rekisteri.FSBackend]. [os.CopyFS] copies them to a directory. [Contents]
// returns the same releases as values.
func Releases() fs.FS {
	tree, err := fs.Sub(embedded, "testdata/releases")
	if err != nil {
		panic(err) // only if the path is malformed
	}
	return tree
}

//go:embed testdata/releases/*/*.asc testdata/releases/*/*/*.asc
var embeddedKeys embed.FS

// Keys returns the files of [Releases] that hold signing keys, and no others, at
// the same paths. This is the tree of a registry without releases.
func Keys() fs.FS {
	tree, err := fs.Sub(embeddedKeys, "testdata/releases")
	if err != nil {
		panic(err) // only if the path is malformed
	}
	return tree
}

// A Content is what [Test] expects of one provider.
type Content struct {
	// Listing is what Versions must return. The order of versions, protocols and
	// platforms does not matter.
	Listing *rekisteri.Listing

	// Releases is what Release must return, by version. The packages have no
	// URLs. A backend that links to files elsewhere sets its own. The first of
	// the SigningKeys made the signature.
	Releases map[string]*rekisteri.Release

	// Files is what Open must open: the content of the zips, SHA256SUMS and its
	// signature, by version and name.
	Files map[string]map[string][]byte
}

// Contents returns what [Test] expects, by provider, for a backend that does not
// read the layout of [Releases]. Each call returns new values, which the caller
// may modify.
func Contents() map[rekisteri.Provider]Content {
	contents := make(map[rekisteri.Provider]Content)
	for _, p := range catalog {
		keys := make([]rekisteri.SigningKey, 0, len(p.keys))
		for _, key := range p.keys {
			keys = append(keys, rekisteri.SigningKey{KeyID: key.id, ASCIIArmor: string(file(key.file))})
		}
		c := Content{
			Listing:  cloneListing(&rekisteri.Listing{Versions: p.versions, Warnings: p.warnings}),
			Releases: make(map[string]*rekisteri.Release),
			Files:    make(map[string]map[string][]byte),
		}
		for _, v := range c.Listing.Versions {
			dir := p.provider.String() + "/" + v.Version + "/"
			sums := release.SumsName(p.provider.Type, v.Version)
			files := map[string][]byte{sums: file(dir + sums), sums + ".sig": file(dir + sums + ".sig")}
			rel := &rekisteri.Release{Protocols: slices.Clone(v.Protocols)}
			for _, on := range v.Platforms {
				name := fmt.Sprintf("terraform-provider-%s_%s_%v.zip", p.provider.Type, v.Version, on)
				files[name] = file(dir + name)
				rel.Packages = append(rel.Packages, rekisteri.Package{
					Platform: on, Filename: name, SHA256: sha256.Sum256(files[name]), SigningKeys: slices.Clone(keys),
				})
			}
			c.Releases[v.Version], c.Files[v.Version] = rel, files
		}
		contents[p.provider] = c
	}
	return contents
}

// file returns the content of a file of the tree.
func file(name string) []byte {
	data, err := fs.ReadFile(Releases(), name)
	if err != nil {
		panic(err) // only if the catalog and the tree differ
	}
	return data
}

// A catalogKey is a file in testdata with one key, in the armor of GnuPG.
type catalogKey struct{ file, id string }

var acmeKey = catalogKey{file: "acme/acme.asc", id: "1D721C30CCCF5DAD"}

// catalog describes the releases in testdata. It is written by hand, so that a
// backend that reads the tree is not compared with itself.
//
// It has the names and versions that backends mix up:
//
//   - a type, and a namespace, that begin with another one
//   - the same type in two namespaces, with the same version and other files
//   - 9 and 10, which sort in the wrong order as text
//   - "+", which is an escape in URLs; the build metadata after it makes another
//     version
var catalog = []struct {
	provider rekisteri.Provider
	keys     []catalogKey // the first made the signatures
	warnings []string
	versions []rekisteri.Version
}{
	{
		provider: rekisteri.Provider{Namespace: "acme", Type: "foo"},
		keys:     []catalogKey{acmeKey},
		versions: []rekisteri.Version{
			{Version: "1.0.0", Protocols: []string{"5.0"}, Platforms: []rekisteri.Platform{darwinARM, linuxAMD, linuxARM}},
			{Version: "2.0.0-rc.1", Protocols: []string{"6.0"}, Platforms: []rekisteri.Platform{linuxAMD}},
			{Version: "9.0.0", Protocols: []string{"5.0", "6.0"}, Platforms: []rekisteri.Platform{linuxAMD, windowsAMD}},
			{Version: "10.0.0", Protocols: []string{"6.0"}, Platforms: []rekisteri.Platform{darwinARM, linuxAMD, linuxARM, windowsAMD}},
		},
	},
	{
		provider: rekisteri.Provider{Namespace: "acme", Type: "foo-bar"},
		keys:     []catalogKey{{file: "acme/foo-bar/foo-bar.asc", id: "0893B793198CBDD3"}, acmeKey},
		warnings: []string{"acme/foo-bar is deprecated: use acme/foo"},
		versions: []rekisteri.Version{
			{Version: "1.0.0+build", Protocols: []string{"5.0"}, Platforms: []rekisteri.Platform{freeBSD386, linuxAMD}},
			{Version: "1.1.0", Protocols: []string{"5.1"}, Platforms: []rekisteri.Platform{linuxAMD}},
		},
	},
	{
		provider: rekisteri.Provider{Namespace: "acme-labs", Type: "foo"},
		keys:     []catalogKey{{file: "acme-labs/labs.asc", id: "7D3A0FA247058D92"}},
		versions: []rekisteri.Version{
			{Version: "1.0.0", Protocols: []string{"5.0"}, Platforms: []rekisteri.Platform{linuxAMD}},
			{Version: "1.2.0", Protocols: []string{"6.0"}, Platforms: []rekisteri.Platform{darwinARM, linuxAMD}},
		},
	},
}

var (
	darwinARM  = rekisteri.Platform{OS: "darwin", Arch: "arm64"}
	freeBSD386 = rekisteri.Platform{OS: "freebsd", Arch: "386"}
	linuxAMD   = rekisteri.Platform{OS: "linux", Arch: "amd64"}
	linuxARM   = rekisteri.Platform{OS: "linux", Arch: "arm64"}
	windowsAMD = rekisteri.Platform{OS: "windows", Arch: "amd64"}
)
