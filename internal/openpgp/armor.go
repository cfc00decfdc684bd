package openpgp

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// errPrivate is worth its own words: such a file should be anywhere but here.
var errPrivate = errors.New("a private key, not a public one")

// ReadKeys returns the keys in text, in their order. The text may hold several armored
// blocks with prose around them, and a block may hold several keys.
//
// What cannot be read does not hide the rest: the error joins one error for each block
// and each key that was left out, and the keys are those that were not. Without
// any key there is always an error.
func ReadKeys(text []byte) ([]Key, error) {
	var keys []Key
	var errs []error
	leaveOut := func(line int, err error) {
		errs = append(errs, fmt.Errorf("line %d: %w", line+1, err))
	}
	lines := strings.SplitAfter(strings.TrimPrefix(string(text), "\uFEFF"), "\n")
	begin := -1 // the line that begins the block at hand
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

// readBlock reads the keys of one armored block, whose begin and end lines are the
// first and the last of lines.
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

	// Space around a line and lines longer than RFC 4880 has them are what mail and web
	// pages do to a key. Clients stumble over them, so such a block is written anew.
	trimmed := make([]string, len(lines))
	plain := true
	for i, line := range lines {
		line = strings.TrimSuffix(line, "\n")
		trimmed[i] = strings.TrimSpace(line)
		plain = plain && line == trimmed[i] && len(line) <= 76
	}
	data, err := dearmor(trimmed[1 : len(trimmed)-1])
	if err != nil {
		return nil, []error{err}
	}

	type group struct {
		raw     []byte
		packets []packet
	}
	var groups []group // a key each
	for len(data) > 0 {
		p, rest, err := nextPacket(data)
		if err != nil {
			// What stood before may be half a key.
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
	for _, g := range groups {
		k, err := readKey(g.packets)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		k.Armor = armor(g.raw)
		if plain && len(groups) == 1 && len(errs) == 0 {
			k.Armor = strings.Join(lines, "")
		}
		keys = append(keys, k)
	}
	return keys, errs
}

// dearmor returns the data between the begin and the end line of a block.
// A checksum need not be there (RFC 9580 does without), but what is there must match.
func dearmor(lines []string) ([]byte, error) {
	blank := slices.Index(lines, "")
	if blank < 0 || slices.ContainsFunc(lines[:blank], func(s string) bool { return !strings.Contains(s, ":") }) {
		return nil, errors.New("armor has no blank line before its data")
	}
	var body strings.Builder
	sum := ""
	for _, line := range lines[blank+1:] {
		switch {
		case sum != "" && line != "":
			return nil, errors.New("armor goes on after its checksum")
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

// checksum returns the CRC-24 of data as armor writes it (RFC 4880, section 6.1).
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
