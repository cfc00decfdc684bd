package openpgp

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// FuzzVerify checks that only the bytes that gpg signed verify: of a signature, the hashed
// fields and the numbers, whatever their encoding and what is around them.
func FuzzVerify(f *testing.F) {
	read := func(name string) []byte {
		b, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	var files []KeyFile
	names, _ := filepath.Glob("testdata/*.asc")
	for _, name := range names {
		keys, err := ReadKeys(read(name))
		if err != nil {
			f.Fatal(err)
		}
		files = append(files, KeyFile{Path: name, Keys: keys})
	}
	r := NewKeyring(files)
	documents := [][]byte{read("testdata/document"), read("testdata/text"), read("testdata/rfc9580")}
	now := time.Date(2024, 6, 2, 0, 0, 0, 0, time.UTC)

	genuine := make([]map[string]bool, len(documents)) // by document, the covered bytes of signatures
	names, _ = filepath.Glob("testdata/*.sig")
	for _, name := range names {
		sig := read(name)
		for i, document := range documents {
			f.Add(sig, byte(i))
			if _, err := r.Verify(document, sig, now); err != nil {
				continue
			}
			if genuine[i] == nil {
				genuine[i] = make(map[string]bool)
			}
			for _, covered := range coveredBy(f, sig) {
				genuine[i][covered] = true
			}
		}
	}
	f.Fuzz(func(t *testing.T, sig []byte, document byte) {
		i := int(document) % len(documents)
		if _, err := r.Verify(documents[i], sig, now); err != nil {
			return
		}
		for _, covered := range coveredBy(t, sig) {
			if genuine[i][covered] {
				return
			}
		}
		t.Errorf("document %d has another signature that verifies: %x", i, sig)
	})
}

// coveredBy returns the bytes of each signature in a file that its verification depends on.
func coveredBy(t testing.TB, sig []byte) (covered []string) {
	t.Helper()
	sigs, err := readSignatures(sig)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range sigs {
		parts := []string{string(s.hashed), string(s.salt)}
		for _, number := range [][]byte{s.r, s.s} {
			parts = append(parts, string(bytes.TrimLeft(number, "\x00")))
		}
		covered = append(covered, strings.Join(parts, "|"))
	}
	return covered
}
