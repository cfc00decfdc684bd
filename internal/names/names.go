// Package names decides which names, versions and URLs a registry accepts. The
// rules are those of Terraform and OpenTofu: what they could not send, or would
// fail on, is not valid.
package names

import (
	"net/url"
	"strconv"
	"strings"
	"unicode"

	"golang.org/x/mod/semver"
)

// maxLen is the longest name or version, in bytes. Real ones are far shorter.
const maxLen = 128

// maxFilename is the longest file name that common file systems allow, in bytes.
const maxFilename = 255

// Valid reports whether s can be a namespace or a provider type, in lower case.
// Clients accept letters of any script, digits and dashes; newer ones accept
// underscores.
func Valid(s string) bool {
	for _, r := range s {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9', r == '-', r == '_':
		case !unicode.In(r, unicode.Letter, unicode.Mark, unicode.Digit), unicode.ToLower(r) != r:
			return false // includes U+FFFD, which invalid UTF-8 decodes to
		}
	}
	return s != "" && len(s) <= maxLen
}

// Lower returns s with ASCII letters in lower case. Other letters stay as they
// are, so that no two names that a proxy tells apart become the same one.
func Lower(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for j := i; j < len(b); j++ {
				if 'A' <= b[j] && b[j] <= 'Z' {
					b[j] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// ValidPlatform reports whether s can be the name of an operating system or an
// architecture.
func ValidPlatform(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return s != "" && len(s) <= maxLen
}

// ValidVersion reports whether s is a full semantic version, such as "1.2.0" or
// "2.0.0-rc.1+build5", whose numbers fit into 64 bits. Clients panic on larger
// numbers.
func ValidVersion(s string) bool {
	if isPlainVersion(s) {
		return true
	}
	if len(s) > maxLen {
		return false
	}
	v := "v" + s
	if full := semver.Canonical(v); full != v && (full == "" || full+semver.Build(v) != v) {
		return false
	}
	core, _, _ := strings.Cut(s, "+")
	core, _, _ = strings.Cut(core, "-")
	for n := range strings.SplitSeq(core, ".") {
		if _, err := strconv.ParseUint(n, 10, 64); err != nil {
			return false
		}
	}
	return true
}

// isPlainVersion reports whether s is three short numbers. Nearly every version
// in a request is, and this check is several times faster than semver's.
func isPlainVersion(s string) bool {
	digits, dots := 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '.' && digits > 0:
			digits, dots = 0, dots+1
		case '0' <= c && c <= '9' && (digits != 1 || s[i-1] != '0'):
			digits++
		default:
			return false
		}
	}
	return digits > 0 && dots == 2 && len(s) < len("18446744073709551615")
}

// ParseVersion returns the full semantic version that s stands for. It accepts
// a leading "v" and missing minor and patch numbers, as people write them.
func ParseVersion(s string) (version string, ok bool) {
	v := "v" + strings.TrimPrefix(s, "v")
	version = strings.TrimPrefix(semver.Canonical(v)+semver.Build(v), "v")
	return version, ValidVersion(version)
}

// ValidProtocol reports whether s is a version of the plugin protocol, such as
// "5.0".
func ValidProtocol(s string) bool {
	return len(s) < 20 && !strings.ContainsAny(s, "-+") && semver.IsValid("v"+s)
}

// Installable reports whether clients install a provider that speaks this
// version of the plugin protocol. They accept 5 and 6.
func Installable(protocol string) bool {
	major, _, _ := strings.Cut(protocol, ".")
	return major == "5" || major == "6"
}

// ValidFilename reports whether s can be the name of a package's zip. Clients
// look the name up in SHA256SUMS, where white space ends a name.
func ValidFilename(s string) bool {
	return s != "" && len(s) <= maxFilename && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r == '/' || r == '\\' || r > '~' && !unicode.IsPrint(r)
	})
}

// ValidURL reports whether clients can follow s: an http or https URL, or a
// relative reference.
func ValidURL(s string) bool {
	if rest, ok := strings.CutPrefix(s, "https://"); ok && rest != "" && rest[0] != '/' && !strings.ContainsFunc(rest, isUnusual) {
		return true // nearly all; url.Parse takes a third of the time to read a document
	}
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "" || (u.Scheme == "https" || u.Scheme == "http") && u.Host != "")
}

// isUnusual reports whether r needs url.Parse to judge it.
func isUnusual(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '-' || r > '9') && (r < 'A' || r > 'Z') && r != '_' && r != '~' && r != '+'
}

// SourceHost returns a host and its port as source addresses have them: in lower
// case, and without the port of https. It is empty if s is not a host name. The
// Host header is what anyone may send.
func SourceHost(s string) string {
	s = strings.TrimSuffix(Lower(s), ":443")
	name, port, hasPort := strings.Cut(s, ":")
	if len(name) > 253 || hasPort && (port == "" || len(port) > 5 || strings.Trim(port, "0123456789") != "") {
		return ""
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") ||
			strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return ""
		}
	}
	return s
}

// LocalName returns the local name of a provider in a module. It must begin with a
// letter, and a type need not.
func LocalName(typ string) string {
	if strings.ContainsAny(typ[:1], "0123456789-_") {
		return "p" + typ
	}
	return typ
}
