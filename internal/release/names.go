// Package release judges the files of a provider's release: what they are
// called, what SHA256SUMS says, and whether clients can install what is there.
//
// It does no I/O. Its callers read the files, from a directory, an object store
// or an upload, and describe each as a [File]. [Inspect] judges them.
package release

import "strings"

// prefix begins the name of every file of a release, except for a manifest that
// still has its name from the provider's repository.
const prefix = "terraform-provider-"

const sumsSuffix = "_SHA256SUMS"

// Manifest is the name of the manifest in a provider's repository.
const Manifest = "terraform-registry-manifest.json"

// SumsName returns the name of a release's SHA256SUMS file.
func SumsName(typ, version string) string { return prefix + typ + "_" + version + sumsSuffix }

// SignatureName returns the name of the signature of a release's SHA256SUMS.
func SignatureName(typ, version string) string { return SumsName(typ, version) + ".sig" }

// ManifestName returns the name under which a release's manifest is published.
func ManifestName(typ, version string) string { return prefix + typ + "_" + version + "_manifest.json" }

// Relevant reports whether a file of that name matters to [Inspect]. Release
// tools leave other files in the same directory; they do no harm.
func Relevant(name string) bool {
	return name == Manifest || strings.HasPrefix(name, prefix) || strings.HasSuffix(name, sumsSuffix)
}

// IsZip reports whether name is that of a release's zip.
func IsZip(name string) bool {
	_, ok := ParseZip(name)
	return ok
}

// ZipName is what the name of a zip says.
type ZipName struct {
	Type, Version, OS, Arch string
}

// ParseZip reads a name such as terraform-provider-foo_1.2.3_linux_amd64.zip.
// It reports whether name has that form. The parts are not empty, but not
// checked otherwise.
func ParseZip(name string) (ZipName, bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	rest, isZip := strings.CutSuffix(rest, ".zip")
	rest, arch := cutLast(rest)
	rest, os := cutLast(rest)
	z := ZipName{OS: os, Arch: arch}
	z.Type, z.Version = cutLast(rest)
	return z, ok && isZip && z.Type != "" && z.Version != "" && os != "" && arch != ""
}

// ParseSumsName reads the name of a SHA256SUMS file, such as
// terraform-provider-foo_1.2.3_SHA256SUMS.
func ParseSumsName(name string) (typ, version string, ok bool) {
	rest, hasPrefix := strings.CutPrefix(name, prefix)
	rest, isSums := strings.CutSuffix(rest, sumsSuffix)
	typ, version = cutLast(rest)
	return typ, version, hasPrefix && isSums && typ != "" && version != ""
}

// cutLast cuts s at its last underscore. A type may contain underscores. The
// parts after it may not.
func cutLast(s string) (before, after string) {
	i := strings.LastIndexByte(s, '_')
	return s[:max(i, 0)], s[i+1:]
}
