// Package release reads what the parts of a provider's release are called and
// what they should hold: the names of its files, and its SHA256SUMS.
package release

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// prefix begins the name of every file of a release, but for the manifest as it
// is called in a provider's repository.
const prefix = "terraform-provider-"

// Manifest is what the manifest is called in a provider's repository.
const Manifest = "terraform-registry-manifest.json"

// A Zip is what the name of a package says of it.
type Zip struct {
	Type, Version, OS, Arch string
}

// ParseZip reads a name such as terraform-provider-foo_1.2.3_linux_amd64.zip.
// It reports whether name has that form; what the parts hold is not looked at,
// but that there is something.
func ParseZip(name string) (Zip, bool) {
	rest, ok := strings.CutPrefix(name, prefix)
	rest, isZip := strings.CutSuffix(rest, ".zip")
	rest, arch := cutLast(rest)
	rest, os := cutLast(rest)
	z := Zip{OS: os, Arch: arch}
	z.Type, z.Version = cutLast(rest)
	return z, ok && isZip && z.Type != "" && z.Version != "" && os != "" && arch != ""
}

// cutLast cuts s at its last underscore. A type may hold one, what follows it
// may not.
func cutLast(s string) (before, after string) {
	i := strings.LastIndexByte(s, '_')
	return s[:max(i, 0)], s[i+1:]
}

// ParseSumsName reads the name of a SHA256SUMS file, such as
// terraform-provider-foo_1.2.3_SHA256SUMS.
func ParseSumsName(name string) (typ, version string, ok bool) {
	rest, hasPrefix := strings.CutPrefix(name, prefix)
	rest, isSums := strings.CutSuffix(rest, "_SHA256SUMS")
	typ, version = cutLast(rest)
	return typ, version, hasPrefix && isSums && typ != "" && version != ""
}

// SumsName returns the name of a release's SHA256SUMS file.
func SumsName(typ, version string) string {
	return prefix + typ + "_" + version + "_SHA256SUMS"
}

// SignatureName returns the name of the signature of a release's SHA256SUMS.
func SignatureName(typ, version string) string {
	return prefix + typ + "_" + version + "_SHA256SUMS.sig"
}

// ManifestName returns the name that a release's manifest is published by, and
// SHA256SUMS knows it by.
func ManifestName(typ, version string) string {
	return prefix + typ + "_" + version + "_manifest.json"
}

// Sums is what a SHA256SUMS file says.
type Sums struct {
	Files []File

	// Comment is a line that is no sum, if there is one. Clients then put no
	// more than their own platform's hash into a lock file.
	Comment string
}

// A File is a line of SHA256SUMS.
type File struct {
	Name   string
	SHA256 [sha256.Size]byte
}

// ParseSums reads a SHA256SUMS file as clients do: a line ends at LF or CRLF,
// and fields are parted by white space. A file that makes a client panic (a
// blank line) or that it would read otherwise than sha256sum (a name behind
// "*") is an error.
func ParseSums(data []byte) (*Sums, error) {
	sums := new(Sums)
	seen := make(map[string][sha256.Size]byte)
	n := 0
	for line := range bytes.Lines(data) {
		n++
		fields := bytes.Fields(line)
		if len(fields) == 0 {
			return nil, fmt.Errorf("line %d is blank", n)
		}
		f, ok := parseLine(fields)
		if !ok {
			sums.Comment = strings.TrimSpace(string(line))
			continue
		}
		if strings.HasPrefix(f.Name, "*") {
			return nil, fmt.Errorf("line %d has a star before the name, as sha256sum -b writes it", n)
		}
		if sum, ok := seen[f.Name]; ok {
			if sum != f.SHA256 {
				return nil, fmt.Errorf("line %d has another sum for %s than a line before it", n, f.Name)
			}
			continue
		}
		seen[f.Name] = f.SHA256
		sums.Files = append(sums.Files, f)
	}
	if len(sums.Files) == 0 {
		return nil, errors.New("there is no sum in it")
	}
	return sums, nil
}

func parseLine(fields [][]byte) (File, bool) {
	var f File
	if len(fields) != 2 || len(fields[0]) != hex.EncodedLen(len(f.SHA256)) {
		return f, false
	}
	if _, err := hex.Decode(f.SHA256[:], fields[0]); err != nil {
		return f, false
	}
	f.Name = string(fields[1])
	return f, true
}
