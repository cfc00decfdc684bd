package rekisteritest_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri"
)

var brokenReleases = map[string]broken{
	"missing release": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) { delete(m[acmeFoo].Releases, "9.0.0") },
		rules:   []string{release},
		fault:   "Release(acme/foo, 9.0.0) fails, but the version is listed",
	},
	"missing platform": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			rel := m[acmeFoo].Releases["10.0.0"]
			rel.Packages = rel.Packages[1:]
		},
		rules: []string{release},
	},
	"package that is not listed": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			rel := m[acmeFoo].Releases["9.0.0"]
			pkg := rel.Packages[0]
			pkg.OS = "plan9"
			rel.Packages = append(rel.Packages, pkg)
		},
		rules: []string{release},
		fault: "Release(acme/foo, 9.0.0) has packages for [linux_amd64 windows_amd64 plan9_amd64], but the listing has [linux_amd64 windows_amd64]",
	},
	"package twice": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			rel := m[acmeFoo].Releases["9.0.0"]
			rel.Packages = append(rel.Packages, rel.Packages[0])
		},
		rules: []string{release},
	},
	"protocols that are not listed": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) { m[acmeFoo].Releases["9.0.0"].Protocols = nil },
		rules:   []string{release},
	},
	"wrong digest": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) { m[acmeFooBar].Releases["1.1.0"].Packages[0].SHA256[31]++ },
		rules:   []string{digests},
	},
	"packages of another release": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			m[labsFoo].Releases["1.0.0"] = &rekisteri.Release{
				Protocols: []string{"5.0"},
				Packages:  m[acmeFoo].Releases["1.0.0"].Packages[1:2],
			}
		},
		rules: []string{digests, signature},
	},
	"another file name": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			c := m[acmeFoo]
			c.Releases["1.0.0"].Packages[0].Filename = "package.zip"
			c.Files["1.0.0"]["package.zip"] = c.Files["1.0.0"]["terraform-provider-foo_1.0.0_darwin_arm64.zip"]
		},
		rules: []string{fileNames},
	},
	"URL with another scheme": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			m[acmeFoo].Releases["1.0.0"].Packages[0].URL = "s3://bucket/foo.zip"
		},
		rules: []string{source},
	},
}

var brokenKeys = map[string]broken{
	"no keys": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			for i := range m[acmeFoo].Releases["1.0.0"].Packages {
				m[acmeFoo].Releases["1.0.0"].Packages[i].SigningKeys = nil
			}
		},
		rules: []string{signature},
	},
	"only a key that did not sign": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			pkg := &m[acmeFooBar].Releases["1.1.0"].Packages[0]
			pkg.SigningKeys = pkg.SigningKeys[1:]
		},
		rules: []string{signature},
	},
	"damaged key": {
		breakIt: editKeys(func(armor string) string { return strings.Replace(armor, "\n\nm", "\n\nn", 1) }),
		rules:   []string{keys},
		fault:   "cannot be read",
	},
	"short key ID": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			m.editKeys(func(key *rekisteri.SigningKey) { key.KeyID = key.KeyID[8:] })
		},
		rules: []string{keys},
	},
	"ID of another key": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			keys := m[acmeFooBar].Releases["1.1.0"].Packages[0].SigningKeys
			keys[0].KeyID, keys[1].KeyID = keys[1].KeyID, keys[0].KeyID
		},
		rules: []string{keys},
	},
	"trust signature": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			m.editKeys(func(key *rekisteri.SigningKey) { key.TrustSignature = "trusted" })
		},
		rules: []string{keys},
		fault: "has a trust signature",
	},
	"armor in one line": {
		breakIt: editKeys(func(armor string) string { return strings.ReplaceAll(armor, "\n", " ") }),
		rules:   []string{keys},
		fault:   "cannot be read",
	},
	"indented armor": {
		breakIt: editKeys(func(armor string) string { return strings.ReplaceAll(armor, "\n", "\n  ") }),
		rules:   []string{keys},
		fault:   "has white space around line 2 of its armor",
	},
	"armor with trailing spaces": {
		breakIt: editKeys(func(armor string) string { return strings.ReplaceAll(armor, "\n", " \n") }),
		rules:   []string{keys},
		fault:   "has white space around line 1 of its armor",
	},
	"armor with prose before": {
		breakIt: editKeys(func(armor string) string { return "The key of ACME:\n\n" + armor }),
		rules:   []string{keys},
		fault:   "has text before the armored block",
	},
	"armor with prose after": {
		breakIt: editKeys(func(armor string) string { return armor + "\nThis is the key of ACME.\n" }),
		rules:   []string{keys},
		fault:   "has text after the armored block",
	},
	"armor with a byte order mark": {
		breakIt: editKeys(func(armor string) string { return "\uFEFF" + armor }),
		rules:   []string{keys},
		fault:   "has text before the armored block",
	},
	"armor with long lines": {
		breakIt: editKeys(func(armor string) string {
			return armorOf(dearmor(armor))
		}),
		rules: []string{keys},
		fault: "has more than 76 characters in line 3 of its armor",
	},
	"armor with an unknown header": {
		breakIt: editKeys(func(armor string) string { return strings.Replace(armor, "\n\n", "\nCharset: UTF-8\n\n", 1) }),
		rules:   []string{keys},
		fault:   "is not armored as GnuPG does it",
	},
	"two blocks in one key": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			keys := m[acmeFooBar].Releases["1.1.0"].Packages[0].SigningKeys
			keys[0].ASCIIArmor += keys[1].ASCIIArmor
		},
		rules: []string{keys},
		fault: "holds 2 keys",
	},
	"two keys in one block": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			keys := m[acmeFooBar].Releases["1.1.0"].Packages[0].SigningKeys
			keys[0].ASCIIArmor = armorOf(dearmor(keys[0].ASCIIArmor) + dearmor(keys[1].ASCIIArmor))
		},
		rules: []string{keys},
		fault: "holds 2 keys",
	},
}

// editKeys returns a function that edits the armor of all keys.
func editKeys(edit func(armor string) string) func(*testing.T, memory, *fakeBackend) {
	return func(_ *testing.T, m memory, _ *fakeBackend) {
		m.editKeys(func(key *rekisteri.SigningKey) { key.ASCIIArmor = edit(key.ASCIIArmor) })
	}
}

// dearmor returns the data in an armored block.
func dearmor(armor string) string {
	_, text, _ := strings.Cut(armor, "\n\n")
	text, _, _ = strings.Cut(text, "\n=")
	data, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(text, "\n", ""))
	if err != nil {
		panic(err)
	}
	return string(data)
}

// armorOf returns an armored block with all data in one line.
func armorOf(data string) string {
	const begin, end = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n", "\n-----END PGP PUBLIC KEY BLOCK-----\n"
	return begin + base64.StdEncoding.EncodeToString([]byte(data)) + end
}
