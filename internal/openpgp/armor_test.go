package openpgp_test

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri/internal/openpgp"
)

// A block of one key in good form is kept. A block that ReadKeys writes is as gpg writes it.
func TestArmor(t *testing.T) {
	rsa, ed25519 := string(read(t, "rsa.asc")), string(read(t, "ed25519.asc"))
	versioned := strings.Replace(rsa, "\n\n", "\nVersion: GnuPG v1\nComment: ours\n\n", 1)
	unsummed := rsa[:strings.LastIndex(rsa, "\n=")+1] + rsa[strings.LastIndex(rsa, "-----END"):]
	oneLine := begin + strings.ReplaceAll(data(rsa), "\n", "") + rsa[strings.LastIndex(rsa, "\n="):]
	var indented strings.Builder
	for line := range strings.Lines(rsa) {
		indented.WriteString("\t" + line)
	}
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{name: "one key", text: rsa, want: []string{rsa}},
		{name: "headers", text: versioned, want: []string{versioned}},
		{name: "no checksum", text: unsummed, want: []string{unsummed}},
		{name: "no line feed at the end", text: strings.TrimSpace(rsa), want: []string{strings.TrimSpace(rsa)}},
		{name: "two keys", text: string(read(t, "pair.asc")), want: []string{rsa, ed25519}},
		{name: "two blocks in prose", text: string(read(t, "prose.asc")), want: []string{rsa, ed25519}},
		{name: "two blocks and no prose", text: rsa + ed25519, want: []string{rsa, ed25519}},
		{name: "CRLF", text: strings.ReplaceAll(rsa, "\n", "\r\n"), want: []string{rsa}},
		{name: "CRLF and headers", text: strings.ReplaceAll(versioned, "\n", "\r\n"), want: []string{rsa}},
		{name: "byte order mark", text: "\uFEFF" + rsa, want: []string{rsa}},
		{name: "trailing space", text: strings.ReplaceAll(rsa, "\n", " \n"), want: []string{rsa}},
		{name: "indented", text: indented.String(), want: []string{rsa}},
		{name: "all in one line", text: oneLine, want: []string{rsa}},
		{name: "another header", text: strings.Replace(rsa, "\n\n", "\nCharset: utf-8\n\n", 1), want: []string{rsa}},
		{name: "a header outside ASCII", text: strings.Replace(rsa, "\n\n", "\nComment: clé\n\n", 1), want: []string{rsa}},
		{name: "a header without a value", text: strings.Replace(rsa, "\n\n", "\nVersion:\n\n", 1), want: []string{rsa}},
		{name: "a blank line in the data", text: strings.Replace(rsa, "\n\nm", "\n\n\nm", 1), want: []string{rsa}},
		{name: "prose in front", text: "Our key:\n" + rsa, want: []string{rsa}},
		{name: "a carriage return in a line", text: strings.Replace(rsa, "\n\nm", "\n\nm\r", 1), want: []string{rsa}},
		{name: "a long header", text: strings.Replace(rsa, "\n\n", "\nComment: "+strings.Repeat("x", 99)+"\n\n", 1), want: []string{rsa}},
	} {
		keys, err := openpgp.ReadKeys([]byte(tt.text))
		if err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
		var got []string
		for _, k := range keys {
			got = append(got, k.Armor)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

// A broken key is left out, and does not hide the others.
func TestReadKeysLeavesOut(t *testing.T) {
	rsa, ed25519, pair := string(read(t, "rsa.asc")), string(read(t, "ed25519.asc")), unarmor(t, "pair.asc")
	const rsaID, edID = "6E37763C9448D3C1", "4E1ABAA349B90D7B"
	ps := split(t, "pair.asc")
	lines := strings.Count(rsa, "\n")
	second := slices.IndexFunc(ps[1:], func(p []byte) bool { return p[0] == 0x98 }) + 1
	for _, tt := range []struct {
		name, text string
		ids        []string
		errs       []string // in order, a line each
	}{
		{name: "a broken block first", text: strings.Replace(rsa, "\n=", "\n=A", 1) + ed25519, ids: []string{edID}, errs: []string{"line 1: armor is not base64"}},
		{name: "a broken block last", text: "\n\n" + rsa + strings.Replace(ed25519, "END PGP PUBLIC", "END OF", 1), ids: []string{rsaID}, errs: []string{fmt.Sprintf("line %d: armor has no end line", lines+3)}},
		{name: "an endless block first", text: strings.Replace(rsa, "-----END", "--END", 1) + ed25519, ids: []string{edID}, errs: []string{"line 1: armor has no end line"}},
		{name: "a beginless block first", text: strings.Replace(rsa, "-----BEGIN", "--BEGIN", 1) + ed25519, ids: []string{edID}, errs: []string{fmt.Sprintf("line %d: armor has no begin line", lines)}},
		{name: "a signature first", text: string(read(t, "rsa-armored.sig")) + ed25519, ids: []string{edID}, errs: []string{`line 1: armor of type "PGP SIGNATURE", not a public key block`}},
		{name: "the first key of a block", text: block(append([][]byte{set(ps[0], 0, 9)}, ps[1:]...)...), ids: []string{edID}, errs: []string{"line 1: unknown key version 9"}},
		{name: "the second key of a block", text: block(slices.Replace(slices.Clone(ps), second, second+1, set(ps[second], 0, 9))...), ids: []string{rsaID}, errs: []string{"line 1: unknown key version 9"}},
		{name: "half of the second key", text: block(pair[:len(pair)-1]), ids: []string{rsaID}, errs: []string{"line 1: packet longer than its block"}},
		{name: "a secret key", text: block(slices.Concat(ps[:second]...), packet(5, body(ps[second])...)), ids: []string{rsaID}, errs: []string{"line 1: a private key, not a public one"}},
		{name: "both", text: block(set(ps[0], 0, 9), set(ps[second], 0, 3)), ids: nil, errs: []string{"line 1: unknown key version 9", "line 1: key version 3, which clients do not read"}},
	} {
		keys, err := openpgp.ReadKeys([]byte(tt.text))
		var ids []string
		for _, k := range keys {
			ids = append(ids, k.ID)
		}
		if !slices.Equal(ids, tt.ids) {
			t.Errorf("%s: got keys %v, want %v", tt.name, ids, tt.ids)
		}
		if err == nil || err.Error() != strings.Join(tt.errs, "\n") {
			t.Errorf("%s: got error %v, want %q", tt.name, err, tt.errs)
		}
	}
}

func FuzzReadKeys(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.asc")
	for _, file := range files {
		text := read(f, filepath.Base(file))
		f.Add(text)
		f.Add(unarmor(f, filepath.Base(file)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		checkKeys(t, b)
		checkKeys(t, []byte(block(b))) // past the checksum
	})
}

func checkKeys(t *testing.T, text []byte) {
	keys, err := openpgp.ReadKeys(text)
	if len(keys) == 0 && err == nil {
		t.Errorf("neither keys nor an error")
	}
	again, err2 := openpgp.ReadKeys(text)
	if !reflect.DeepEqual(keys, again) || (err == nil) != (err2 == nil) || err != nil && err.Error() != err2.Error() {
		t.Errorf("got %v, %v; and then %v, %v", keys, err, again, err2)
	}
	for _, k := range keys {
		if !hexDigits(k.ID, 16) || !hexDigits(k.Fingerprint, 40) && !hexDigits(k.Fingerprint, 64) {
			t.Errorf("key ID %q, fingerprint %q", k.ID, k.Fingerprint)
		}
		for i, signer := range k.Signers {
			same := func(s openpgp.Signer) bool { return s.ID == signer.ID }
			if !hexDigits(signer.ID, 16) || slices.ContainsFunc(k.Signers[:i], same) || !k.Signs(signer.ID) {
				t.Errorf("key %s: signers %v", k.ID, k.Signers)
			}
		}
		alone, err := openpgp.ReadKeys([]byte(k.Armor))
		if err != nil || len(alone) != 1 || !reflect.DeepEqual(alone[0], k) {
			t.Errorf("key %v reads back from its armor as %v, %v", k, alone, err)
		}
	}
}
