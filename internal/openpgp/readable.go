package openpgp

import "strings"

const (
	armorHeader  = "-----BEGIN PGP PUBLIC KEY BLOCK-----"
	armorFooter  = "-----END PGP PUBLIC KEY BLOCK-----"
	maxArmorLine = 96 // longer lines are an error to clients
)

// Readable reports whether text is an armored public key block in a form that
// clients can read: it starts with its first line, and no line is indented, ends
// in white space or is too long. Text after the block does not matter. Readable
// does not decode the key.
func Readable(text string) bool {
	first, rest, _ := strings.Cut(text, "\n")
	if strings.TrimSuffix(first, "\r") != armorHeader {
		return false
	}
	headers := true // the lines up to the first blank one
	for line := range strings.SplitSeq(rest, "\n") {
		line = strings.TrimSuffix(line, "\r")
		switch {
		case line == "":
			headers = false
		case headers:
			if !strings.Contains(line, ":") {
				return false
			}
		case line == armorFooter:
			return true
		case len(line) > maxArmorLine || line[0] <= ' ' || line[len(line)-1] <= ' ':
			return false
		}
	}
	return false
}
