package metadata_test

import (
	"encoding/hex"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/mod/semver"

	"github.com/rekisteri/rekisteri/internal/metadata"
	"github.com/rekisteri/rekisteri/internal/names"
	"github.com/rekisteri/rekisteri/internal/openpgp"
)

// FuzzDecode checks that the result is valid, that a plain json.Unmarshal finds
// the same packages, and that Index.Decode returns the same versions.
func FuzzDecode(f *testing.F) {
	armor := readArmor(f, "ed25519.asc")
	for _, text := range []string{
		document(f, version("1.0.0", platform(""))+" , "+version("v1.0", platform(""))+","+version("latest", platform(""))+",1,null"),
		document(f, version("1.0.0", platform(","+signingKeys("x"+armor, `"key_id":"X",`))+","+platform(`,"os":"b","signing_keys":"x"`))),
		document(f, version("0.5", platform(""))+","+version("0.5.0", platform(`,"shasum":"`+strings.Repeat("0", 64)+`"`))),
		`{"versions":[` + version("1.0.0", platform("")) + `],"shasums_url":"a","shasums_signature_url":"b","warnings":["w"]}`,
		`{"VERSIONS":[],"versions":[{"Version":"2","platforms":[{"OS":"a","arch":"b","filename":"c","download_url":"d","shasums_url":"e","shasums_signature_url":"f","shasum":"` + strings.Repeat("F", 64) + `"}]}]}`,
		`{"versions":[],"versions":[{"version":"1.0.0-a+b"}]}`, `{"versions":[{"platforms":[{}],"platforms":[]}]}`, `[`, ``, `null`, `{}x`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		doc, err := metadata.Decode(text)
		if err != nil {
			return
		}
		if !json.Valid(text) {
			t.Fatal("decoded what is not JSON")
		}
		said := packagesOf(t, text)
		seen := make(map[string]bool)
		var buf metadata.Buffer
		for _, v := range doc.Versions {
			if !names.ValidVersion(v.Version) || seen[v.Version] || len(v.Packages) == 0 {
				t.Errorf("version %+v", v)
			}
			seen[v.Version] = true
			for _, protocol := range v.Protocols {
				if !names.ValidProtocol(protocol) {
					t.Errorf("version %s has protocol %q", v.Version, protocol)
				}
			}
			on := make(map[[2]string]bool)
			for _, pkg := range v.Packages {
				checkPackage(t, pkg)
				if on[[2]string{pkg.OS, pkg.Arch}] {
					t.Errorf("version %s has %s_%s twice", v.Version, pkg.OS, pkg.Arch)
				}
				on[[2]string{pkg.OS, pkg.Arch}] = true
				if !said[[...]string{v.Version, pkg.OS, pkg.Arch, pkg.Filename, hex.EncodeToString(pkg.SHA256[:]), pkg.URL}] {
					t.Errorf("version %s: %+v, which the document does not say", v.Version, pkg)
				}
			}
			at, n, ok := doc.Index.Span(v.Version)
			if !ok {
				t.Fatalf("Span(%s) is missing", v.Version)
			}
			buf.Part = text[at:][:n]
			one, ok := doc.Index.Decode(v.Version, &buf)
			if !ok || !reflect.DeepEqual(*one, v) {
				t.Errorf("read alone: %+v, %v, want %+v", one, ok, v)
			}
		}
	})
}

func checkPackage(t *testing.T, pkg metadata.Package) {
	t.Helper()
	if !names.ValidPlatform(pkg.OS) || !names.ValidPlatform(pkg.Arch) || !names.ValidFilename(pkg.Filename) {
		t.Errorf("package %+v", pkg)
	}
	for _, url := range []string{pkg.URL, pkg.SHASumsURL, pkg.SHASumsSignatureURL} {
		if url == "" || !names.ValidURL(url) {
			t.Errorf("URL %q", url)
		}
	}
	for _, k := range pkg.Keys {
		keys, err := openpgp.ReadKeys([]byte(k.ASCIIArmor))
		if err != nil || len(keys) != 1 || keys[0].Armor != k.ASCIIArmor || k.KeyID == "" {
			t.Errorf("key %+v: %d keys, %v", k, len(keys), err)
		}
	}
}

// packagesOf returns the packages of a document as json.Unmarshal reads them.
func packagesOf(t *testing.T, text []byte) map[[6]string]bool {
	t.Helper()
	var members map[string]json.RawMessage
	if err := json.Unmarshal(text, &members); err != nil {
		t.Fatal(err)
	}
	var versions []struct {
		Version   string
		Platforms []struct {
			OS, Arch, Filename, SHASum string
			URL                        string `json:"download_url"`
		}
	}
	json.Unmarshal(members["versions"], &versions) // the rest of it, if a value is of the wrong kind
	packages := make(map[[6]string]bool)
	for _, v := range versions {
		version := "v" + strings.TrimPrefix(v.Version, "v")
		version = strings.TrimPrefix(semver.Canonical(version)+semver.Build(version), "v")
		for _, p := range v.Platforms {
			packages[[...]string{version, p.OS, p.Arch, p.Filename, strings.ToLower(p.SHASum), p.URL}] = true
		}
	}
	return packages
}
