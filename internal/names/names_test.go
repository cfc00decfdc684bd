package names_test

import (
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"golang.org/x/mod/semver"

	"github.com/rekisteri/rekisteri/internal/names"
)

func TestValid(t *testing.T) {
	for name, want := range map[string]bool{
		"acme": true, "a": true, "acme-labs": true, "acme_labs": true, "0": true, "ääkkönen": true, "日本": true,
		strings.Repeat("a", 128): true,
		"":                       false, "Acme": false, "\u212Aube": false, "Ä": false, ".": false, "..": false, "a/b": false, `a\b`: false,
		"a b": false, "a\x00": false, "\xff": false, "a.b": false, strings.Repeat("a", 129): false,
	} {
		if got := names.Valid(name); got != want {
			t.Errorf("Valid(%q) = %v, want %v", name, got, want)
		}
	}
}

func TestLower(t *testing.T) {
	for name, want := range map[string]string{"": "", "acme": "acme", "AcMe-1": "acme-1", "\u212Aube": "\u212Aube", "Ä": "Ä"} {
		if got := names.Lower(name); got != want {
			t.Errorf("Lower(%q) = %q, want %q", name, got, want)
		}
	}
}

func TestValidPlatform(t *testing.T) {
	for name, want := range map[string]bool{"linux": true, "386": true, "": false, "Linux": false, "linux_amd64": false, "..": false, strings.Repeat("a", 129): false} {
		if got := names.ValidPlatform(name); got != want {
			t.Errorf("ValidPlatform(%q) = %v, want %v", name, got, want)
		}
	}
}

func TestParseVersion(t *testing.T) {
	for s, want := range map[string]string{
		"1.2.3": "1.2.3", "v1.2.3": "1.2.3", "1.2": "1.2.0", "1": "1.0.0", "1.2.3-rc.1+b": "1.2.3-rc.1+b", "18446744073709551615.0.0": "18446744073709551615.0.0",
		"": "", "latest": "", "1.2.3.4": "", "01.2.3": "", "vv1.2.3": "", "18446744073709551616.0.0": "", "1.2.3-": "",
	} {
		got, ok := names.ParseVersion(s)
		if ok != (want != "") || ok && got != want {
			t.Errorf("ParseVersion(%q) = %q, %v, want %q", s, got, ok, want)
		}
		if valid := names.ValidVersion(s); valid != (ok && got == s) {
			t.Errorf("ValidVersion(%q) = %v", s, valid)
		}
	}
}

func TestValidProtocol(t *testing.T) {
	for s, want := range map[string]bool{"5.0": true, "6": true, "5.1.0": true, "v5": false, "": false, "5.1-beta": false, "5.0+b": false, "6.x": false, "99999999999999999999.0": false} {
		if got := names.ValidProtocol(s); got != want {
			t.Errorf("ValidProtocol(%q) = %v, want %v", s, got, want)
		}
	}
	for s, want := range map[string]bool{"5.0": true, "6": true, "4.0": false, "50.0": false, "": false} {
		if got := names.Installable(s); got != want {
			t.Errorf("Installable(%q) = %v, want %v", s, got, want)
		}
	}
}

func TestValidURL(t *testing.T) {
	for s, want := range map[string]bool{
		"https://h/f.zip": true, "http://h:80/f?x=1": true, "../f.zip": true, "f": true, "": true, "https://h/a%20b": true,
		"https:///f": false, "https://": false, "s3://b/f": false, "file:///etc/passwd": false, "https://h/\x7f": false, "javascript:alert(1)": false,
	} {
		if got := names.ValidURL(s); got != want {
			t.Errorf("ValidURL(%q) = %v, want %v", s, got, want)
		}
	}
}

func TestValidFilename(t *testing.T) {
	for s, want := range map[string]bool{
		"f.zip": true, "ä.zip": true, strings.Repeat("a", 255): true,
		"": false, "a b": false, "a\u2003b": false, "a\x7fb": false, `a\b`: false, "a/b": false, strings.Repeat("a", 256): false,
	} {
		if got := names.ValidFilename(s); got != want {
			t.Errorf("ValidFilename(%q) = %v, want %v", s, got, want)
		}
	}
}

// FuzzVersion compares ValidVersion with semver.
func FuzzVersion(f *testing.F) {
	for _, s := range []string{"1.2.3", "1.2.3-rc.1+b", "01.2.3", "1.2", "18446744073709551616.0.0", "1..2", "1.2.3-01"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want := len(s) <= 128 && utf8.ValidString(s) && semver.IsValid("v"+s) && semver.Canonical("v"+s)+semver.Build("v"+s) == "v"+s
		if want {
			core, _, _ := strings.Cut(strings.TrimSuffix(s, semver.Build("v"+s)), "-")
			for n := range strings.SplitSeq(core, ".") {
				if _, err := strconv.ParseUint(n, 10, 64); err != nil {
					want = false
				}
			}
		}
		if got := names.ValidVersion(s); got != want {
			t.Errorf("ValidVersion(%q) = %v, want %v", s, got, want)
		}
	})
}

func TestLocalName(t *testing.T) {
	for typ, want := range map[string]string{"foo": "foo", "foo-2": "foo-2", "2foo": "p2foo", "-foo": "p-foo", "_foo": "p_foo"} {
		if got := names.LocalName(typ); got != want {
			t.Errorf("LocalName(%q) = %q, want %q", typ, got, want)
		}
	}
}
