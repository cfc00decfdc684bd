package openpgp_test

import (
	"encoding/base64"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

func unix(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

func hexDigits(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789ABCDEF") == ""
}

const (
	begin = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n"
	end   = "-----END PGP PUBLIC KEY BLOCK-----\n"
)

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// block returns an armored block of packets, without a checksum.
func block(packets ...[]byte) string {
	var b strings.Builder
	b.WriteString(begin)
	for line := range slices.Chunk(slices.Concat(packets...), 48) {
		b.WriteString(base64.StdEncoding.EncodeToString(line) + "\n")
	}
	return b.String() + end
}

// data returns the lines of base64 in a text of one block.
func data(text string) string {
	_, text, _ = strings.Cut(text, "\n\n")
	text, _, _ = strings.Cut(text, "\n-----END")
	text, _, _ = strings.Cut(text, "\n=")
	return text
}

// unarmor returns the data in the first block of a file in testdata.
func unarmor(t testing.TB, name string) []byte {
	t.Helper()
	_, text, _ := strings.Cut(string(read(t, name)), "-----BEGIN")
	b, err := base64.StdEncoding.DecodeString(data(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// header parses the header of p, which must be as short as gpg writes it.
func header(p []byte) (tag byte, head, size int) {
	switch {
	case p[0]&0x40 == 0 && p[0]&3 == 0:
		return p[0] >> 2 & 15, 2, int(p[1])
	case p[0]&0x40 == 0:
		return p[0] >> 2 & 15, 3, int(p[1])<<8 | int(p[2])
	case p[1] < 192:
		return p[0] & 63, 2, int(p[1])
	default:
		return p[0] & 63, 3, int(p[1])<<8 + int(p[2]) - 192<<8 + 192
	}
}

// split returns the packets of a file in testdata.
func split(t *testing.T, name string) (packets [][]byte) {
	t.Helper()
	b := unarmor(t, name)
	for len(b) > 0 {
		_, head, size := header(b)
		packets = append(packets, b[:head+size])
		b = b[head+size:]
	}
	return packets
}

// body returns a copy of the body of p.
func body(p []byte) []byte {
	_, head, _ := header(p)
	return slices.Clone(p[head:])
}

// set returns p with byte i of its body replaced.
func set(p []byte, i int, c byte) []byte {
	_, head, _ := header(p)
	p = slices.Clone(p)
	p[head+i] = c
	return p
}

func packet(tag byte, body ...byte) []byte {
	if len(body) < 192 {
		return append([]byte{0xC0 | tag, byte(len(body))}, body...)
	}
	n := len(body) - 192
	return append([]byte{0xC0 | tag, byte(n>>8 + 192), byte(n)}, body...)
}
