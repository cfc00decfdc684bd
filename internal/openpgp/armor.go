package openpgp

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// errPrivate has its own text: a private key does not belong in any file that is served.
var errPrivate = errors.New("a private key, not a public one")

// ReadKeys returns the keys in text, in their order. The text may hold several armored blocks
// with prose around them, and a block may hold several keys.
//
// A block or key that cannot be read is left out, and the others are returned. The error
// joins one error for each that was left out. It is never nil if there are no keys.
//
// A key's signatures on itself must verify. A key whose algorithm the standard library lacks is
// read without that: [Keyring.Verify] does not accept what it signed.
func ReadKeys(text []byte) ([]Key, error) {
	var keys []Key
	var errs []error
	leaveOut := func(line int, err error) {
		errs = append(errs, fmt.Errorf("line %d: %w", line+1, err))
	}
	lines := strings.SplitAfter(strings.TrimPrefix(string(text), "\uFEFF"), "\n")
	begin := -1 // the line that begins the current block
	for i, line := range lines {
		switch word, _ := boundary(line); {
		case word == "BEGIN":
			if begin >= 0 {
				leaveOut(begin, errors.New("armor has no end line"))
			}
			begin = i
		case word == "END" && begin < 0:
			leaveOut(i, errors.New("armor has no begin line"))
		case word == "END":
			ks, es := readBlock(lines[begin : i+1])
			keys = append(keys, ks...)
			for _, err := range es {
				leaveOut(begin, err)
			}
			begin = -1
		}
	}
	if begin >= 0 {
		leaveOut(begin, errors.New("armor has no end line"))
	}
	if len(keys) == 0 && len(errs) == 0 {
		errs = append(errs, errors.New("no armored public key block"))
	}
	return keys, errors.Join(errs...)
}

// boundary returns the word and the kind of block of a line such as
// "-----BEGIN PGP PUBLIC KEY BLOCK-----", and empty strings for any other line.
func boundary(line string) (word, kind string) {
	line, begins := strings.CutPrefix(strings.TrimSpace(line), "-----")
	line, ends := strings.CutSuffix(line, "-----")
	word, kind, pgp := strings.Cut(line, " PGP ")
	if !begins || !ends || !pgp || word != "BEGIN" && word != "END" {
		return "", ""
	}
	return word, kind
}

// readBlock reads the keys of one armored block. The first and the last of lines are its
// begin and its end line.
func readBlock(lines []string) (keys []Key, errs []error) {
	_, kind := boundary(lines[0])
	_, end := boundary(lines[len(lines)-1])
	switch {
	case kind == "PRIVATE KEY BLOCK":
		return nil, []error{errPrivate}
	case kind != "PUBLIC KEY BLOCK":
		return nil, []error{fmt.Errorf("armor of type %q, not a public key block", "PGP "+kind)}
	case end != kind:
		return nil, []error{fmt.Errorf("armor of type %q ends as %q", "PGP "+kind, "PGP "+end)}
	}
	data, err := dearmor(lines[1 : len(lines)-1])
	if err != nil {
		return nil, []error{err}
	}

	type group struct {
		raw     []byte
		packets []packet
	}
	var groups []group // one for each key
	for len(data) > 0 {
		p, rest, err := nextPacket(data)
		if err != nil {
			// The group before may be half a key.
			groups = groups[:max(0, len(groups)-1)]
			errs = append(errs, err)
			break
		}
		if len(groups) == 0 || p.tag == tagPublicKey || p.tag == tagSecretKey {
			groups = append(groups, group{})
		}
		g := &groups[len(groups)-1]
		g.raw = append(g.raw, data[:len(data)-len(rest)]...)
		g.packets = append(g.packets, p)
		data = rest
	}
	if len(groups) == 0 && len(errs) == 0 {
		errs = append(errs, errors.New("armor is empty"))
	}
	keep := len(groups) == 1 && len(errs) == 0 && inGoodForm(lines)
	for _, g := range groups {
		k, err := readKey(g.packets)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if keep {
			k.Armor = strings.Join(lines, "")
		} else {
			k.Armor = armor(g.raw)
		}
		keys = append(keys, k)
	}
	return keys, errs
}

// inGoodForm reports whether every client reads the block of lines, which [dearmor] has read,
// as it is. Mail and web pages add spaces around lines and join lines, and clients then fail
// or skip the block.
func inGoodForm(lines []string) bool {
	data := false // the headers are over
	for i, line := range lines {
		line = strings.TrimSuffix(line, "\n")
		last := i == len(lines)-1
		switch {
		case len(line) > 76 || line != strings.TrimSpace(line):
			return false
		case i == 0 || last:
		case !data && line == "":
			data = true
		case !data && !strings.HasPrefix(line, "Version: ") && !strings.HasPrefix(line, "Comment: "):
			return false
		case line == "" || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' || r > '~' }):
			return false
		}
	}
	return true
}

// dearmor returns the data between the begin and the end line of a block. The checksum may be
// missing, as in RFC 9580, but must match if it is there.
func dearmor(lines []string) ([]byte, error) {
	trimmed := make([]string, len(lines))
	for i, line := range lines {
		trimmed[i] = strings.TrimSpace(line)
	}
	blank := slices.Index(trimmed, "")
	if blank < 0 || slices.ContainsFunc(trimmed[:blank], func(s string) bool { return !strings.Contains(s, ":") }) {
		return nil, errors.New("armor has no blank line before its data")
	}
	var body strings.Builder
	sum := ""
	for _, line := range trimmed[blank+1:] {
		switch {
		case sum != "" && line != "":
			return nil, errors.New("armor has data after its checksum")
		case len(line) == 5 && line[0] == '=':
			sum = line[1:]
		default:
			body.WriteString(line)
		}
	}
	data, err := base64.StdEncoding.DecodeString(body.String())
	if err != nil {
		return nil, errors.New("armor is not base64")
	}
	if sum != "" && sum != checksum(data) {
		return nil, errors.New("armor checksum does not match")
	}
	return data, nil
}

// armor returns a block that holds data, in the form that GnuPG writes.
func armor(data []byte) string {
	var b strings.Builder
	b.WriteString("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n")
	for line := range slices.Chunk(data, 48) {
		b.WriteString(base64.StdEncoding.EncodeToString(line) + "\n")
	}
	b.WriteString("=" + checksum(data) + "\n-----END PGP PUBLIC KEY BLOCK-----\n")
	return b.String()
}

// checksum returns the CRC-24 of data in the encoding of armor (RFC 4880, section 6.1).
func checksum(data []byte) string {
	crc := uint32(0xB704CE)
	for _, c := range data {
		crc ^= uint32(c) << 16
		for range 8 {
			crc <<= 1
			if crc&0x1000000 != 0 {
				crc ^= 0x1864CFB
			}
		}
	}
	return base64.StdEncoding.EncodeToString([]byte{byte(crc >> 16), byte(crc >> 8), byte(crc)})
}
