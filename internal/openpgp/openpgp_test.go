package openpgp_test

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri/internal/openpgp"
)

// keyTests says of each key in testdata what gpg --show-keys --with-colons does: key ID,
// fingerprint, the times of creation and expiry, whether it is revoked, and which of
// its keys have an "s" of their own. Of rfc9580.asc gpg knows nothing; the RFC says what it is.
var keyTests = []struct {
	file, id, fingerprint string
	created, expires      int64
	revoked               bool
	signers               string
}{
	{"brainpool.asc", "2B2297CDAFBF51AD", "CC43A19EF5C24AF5D71A9FFF2B2297CDAFBF51AD", 1704067200, 0, false, "2B2297CDAFBF51AD 3B7CDF82D974327C"},
	{"certified.asc", "0A4B172C0FAEE397", "7CC12FB38852A7CDE23CF52D0A4B172C0FAEE397", 1704067200, 0, false, "0A4B172C0FAEE397"},
	{"dsa.asc", "2F519468AF9C6E16", "1E306896FA3323FFC999B84D2F519468AF9C6E16", 1704067200, 0, false, "2F519468AF9C6E16"},
	{"ed25519.asc", "4E1ABAA349B90D7B", "8E25B32A46A89204F4DD281E4E1ABAA349B90D7B", 1704067200, 0, false, "4E1ABAA349B90D7B"},
	{"expired.asc", "97DC26F532B9599E", "874EB185FB9A6F4DCEA08A4897DC26F532B9599E", 1704067200, 1709251200, false, "97DC26F532B9599E"},
	{"extended-before.asc", "062FCEDAAB1068F6", "416EF968621D1BEAB2083757062FCEDAAB1068F6", 1704067200, 1709251200, false, "062FCEDAAB1068F6"},
	{"extended-for-ever.asc", "062FCEDAAB1068F6", "416EF968621D1BEAB2083757062FCEDAAB1068F6", 1704067200, 0, false, "062FCEDAAB1068F6"},
	{"extended.asc", "062FCEDAAB1068F6", "416EF968621D1BEAB2083757062FCEDAAB1068F6", 1704067200, 1893456000, false, "062FCEDAAB1068F6"},
	{"hashicorp-2014.asc", "51852D87348FFC4C", "91A6E7F85D05C65630BEF18951852D87348FFC4C", 1393444045, 0, false, "51852D87348FFC4C"},
	{"nistp256.asc", "0A4B172C0FAEE397", "7CC12FB38852A7CDE23CF52D0A4B172C0FAEE397", 1704067200, 0, false, "0A4B172C0FAEE397"},
	{"pair.asc", "6E37763C9448D3C1", "22828B946E82638F9751422E6E37763C9448D3C1", 1704067200, 0, false, "6E37763C9448D3C1"},
	{"pair.asc", "4E1ABAA349B90D7B", "8E25B32A46A89204F4DD281E4E1ABAA349B90D7B", 1704067200, 0, false, "4E1ABAA349B90D7B"},
	{"prose.asc", "6E37763C9448D3C1", "22828B946E82638F9751422E6E37763C9448D3C1", 1704067200, 0, false, "6E37763C9448D3C1"},
	{"prose.asc", "4E1ABAA349B90D7B", "8E25B32A46A89204F4DD281E4E1ABAA349B90D7B", 1704067200, 0, false, "4E1ABAA349B90D7B"},
	{"revocable.asc", "D438CB3546CCC43E", "18007E6074B2E044C2D5D6FFD438CB3546CCC43E", 1704067200, 1767139200, false, "D438CB3546CCC43E"},
	{"revoked-before.asc", "D2C10B560CCE9E11", "BA3F8FBD6BF0E2A8BCC566CFD2C10B560CCE9E11", 1704067200, 0, false, "D2C10B560CCE9E11"},
	{"revoked.asc", "D2C10B560CCE9E11", "BA3F8FBD6BF0E2A8BCC566CFD2C10B560CCE9E11", 1704067200, 0, true, "D2C10B560CCE9E11"},
	{"rsa.asc", "6E37763C9448D3C1", "22828B946E82638F9751422E6E37763C9448D3C1", 1704067200, 0, false, "6E37763C9448D3C1"},
	{"subkey.asc", "AEB065EBA028D784", "E12FF1CBAF28E0A5A98418D6AEB065EBA028D784", 1704067200, 0, false, "429F128B955544CE"},
	{"uids-clean.asc", "55B7D33697DD1B33", "619EC1E3D671E9C594F17C1A55B7D33697DD1B33", 1704067200, 1767139200, false, "55B7D33697DD1B33"},
	{"uids.asc", "55B7D33697DD1B33", "619EC1E3D671E9C594F17C1A55B7D33697DD1B33", 1704067200, 1767139200, false, "55B7D33697DD1B33"},
	{"rfc9580.asc", "CB186C4F0609A697", "CB186C4F0609A697E4D52DFA6C722B0C1F1E27C18A56708F6525EC27BAD9ACC9", 1669824483, 0, false, "CB186C4F0609A697"},
}

func TestReadKeys(t *testing.T) {
	want := map[string][]openpgp.Key{}
	for _, tt := range keyTests {
		want[tt.file] = append(want[tt.file], openpgp.Key{
			ID:          tt.id,
			Fingerprint: tt.fingerprint,
			Created:     unix(tt.created),
			Expires:     unix(tt.expires),
			Revoked:     tt.revoked,
			Signers:     strings.Fields(tt.signers),
		})
	}
	files, err := filepath.Glob("testdata/*.asc")
	if err != nil || len(files) != len(want) {
		t.Errorf("%d files in testdata and %d in the table; %v", len(files), len(want), err)
	}
	for file, want := range want {
		got, err := openpgp.ReadKeys(read(t, file))
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		for i := range got {
			got[i].Armor = ""
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %v\nwant %v", file, got, want)
		}
	}
}

func unix(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

// A block of one key is passed on as it is. What ReadKeys writes itself is what gpg writes.
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
		{"one key", rsa, []string{rsa}},
		{"headers", versioned, []string{versioned}},
		{"no checksum", unsummed, []string{unsummed}},
		{"no line feed at the end", strings.TrimSpace(rsa), []string{strings.TrimSpace(rsa)}},
		{"two keys", string(read(t, "pair.asc")), []string{rsa, ed25519}},
		{"two blocks in prose", string(read(t, "prose.asc")), []string{rsa, ed25519}},
		{"two blocks and no prose", rsa + ed25519, []string{rsa, ed25519}},
		{"CRLF", strings.ReplaceAll(rsa, "\n", "\r\n"), []string{rsa}},
		{"CRLF and headers", strings.ReplaceAll(versioned, "\n", "\r\n"), []string{rsa}},
		{"byte order mark", "\uFEFF" + rsa, []string{rsa}},
		{"trailing space", strings.ReplaceAll(rsa, "\n", " \n"), []string{rsa}},
		{"indented", indented.String(), []string{rsa}},
		{"all in one line", oneLine, []string{rsa}},
		{"a long header", strings.Replace(rsa, "\n\n", "\nComment: "+strings.Repeat("x", 99)+"\n\n", 1), []string{rsa}},
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

// What is broken is left out, and hides nothing that is not.
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
		{"a broken block first", strings.Replace(rsa, "\n=", "\n=A", 1) + ed25519, []string{edID}, []string{"line 1: armor is not base64"}},
		{"a broken block last", "\n\n" + rsa + strings.Replace(ed25519, "END PGP PUBLIC", "END OF", 1), []string{rsaID}, []string{fmt.Sprintf("line %d: armor has no end line", lines+3)}},
		{"an endless block first", strings.Replace(rsa, "-----END", "--END", 1) + ed25519, []string{edID}, []string{"line 1: armor has no end line"}},
		{"a beginless block first", strings.Replace(rsa, "-----BEGIN", "--BEGIN", 1) + ed25519, []string{edID}, []string{fmt.Sprintf("line %d: armor has no begin line", lines)}},
		{"a signature first", string(read(t, "rsa-armored.sig")) + ed25519, []string{edID}, []string{`line 1: armor of type "PGP SIGNATURE", not a public key block`}},
		{"the first key of a block", block(append([][]byte{set(ps[0], 0, 9)}, ps[1:]...)...), []string{edID}, []string{"line 1: unknown key version 9"}},
		{"the second key of a block", block(slices.Replace(slices.Clone(ps), second, second+1, set(ps[second], 0, 9))...), []string{rsaID}, []string{"line 1: unknown key version 9"}},
		{"half of the second key", block(pair[:len(pair)-1]), []string{rsaID}, []string{"line 1: packet longer than its block"}},
		{"a secret key", block(slices.Concat(ps[:second]...), packet(5, body(ps[second])...)), []string{rsaID}, []string{"line 1: a private key, not a public one"}},
		{"both", block(set(ps[0], 0, 9), set(ps[second], 0, 3)), nil, []string{"line 1: unknown key version 9", "line 1: key version 3, which clients do not read"}},
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

func TestReadKeysErrors(t *testing.T) {
	rsa := string(read(t, "rsa.asc"))
	other := rsa[:strings.Index(rsa, "\n\n")+2] + "A" + rsa[strings.Index(rsa, "\n\n")+3:]
	ed := split(t, "ed25519.asc") // key, user ID, its certification, subkey, its binding
	key, uid, cert, sub, bind := ed[0], ed[1], ed[2], ed[3], ed[4]
	nist := split(t, "nistp256.asc")
	revoked := split(t, "revoked.asc")
	uids := split(t, "uids.asc")
	v6 := split(t, "rfc9580.asc")
	v6issuer := body(v6[1])[33:68]
	issuer := body(cert)[9:29] // of the key, as its certification names it
	sig := func(kind byte, subpackets ...byte) []byte {
		return signature(kind, append(own(issuer), subpackets...), nil)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"nothing", "", "no armored public key block"},
		{"prose", "Ask the security team for the key.\n", "no armored public key block"},
		{"a binary key", string(unarmor(t, "rsa.asc")), "no armored public key block"},
		{"no end line", rsa[:len(rsa)-60], "line 1: armor has no end line"},
		{"no begin line", rsa[60:], "armor has no begin line"},
		{"another end", strings.Replace(rsa, "END PGP PUBLIC", "END PGP PRIVATE", 1), `armor of type "PGP PUBLIC KEY BLOCK" ends as "PGP PRIVATE KEY BLOCK"`},
		{"a private block", strings.ReplaceAll(rsa, "PUBLIC", "PRIVATE"), "line 1: a private key, not a public one"},
		{"a message", strings.ReplaceAll(rsa, "PUBLIC KEY BLOCK", "MESSAGE"), `armor of type "PGP MESSAGE", not a public key block`},
		{"another checksum", rsa[:strings.LastIndex(rsa, "\n=")+2] + "AAAA" + rsa[strings.LastIndex(rsa, "\n=")+6:], "armor checksum does not match"},
		{"other data", other, "armor checksum does not match"},
		{"data after the checksum", strings.Replace(rsa, "-----END", "AAAA\n-----END", 1), "armor goes on after its checksum"},
		{"no blank line", strings.Replace(rsa, "\n\n", "\n", 1), "armor has no blank line before its data"},
		{"no line at all", begin[:len(begin)-1] + end, "armor has no blank line before its data"},
		{"no colon", strings.Replace(rsa, "\n\n", "\nVersion GnuPG v1\n\n", 1), "armor has no blank line before its data"},
		{"not base64", strings.Replace(rsa, "\n\n", "\n\n!", 1), "armor is not base64"},
		{"no data", begin + end, "armor is empty"},

		{"no packet", block([]byte{0x7F}), "byte 0x7f where a packet should begin"},
		{"half a header", block([]byte{0xC6}), "packet longer than its block"},
		{"half a packet", block(key[:9]), "packet longer than its block"},
		{"a partial length", block([]byte{0xC6, 0xE0, 4, 0}), "packet of partial length"},
		{"an indeterminate length", block([]byte{0x9B, 4}), "packet of indeterminate length"},
		{"a huge length", block([]byte{0xC6, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 4}), "packet longer than its block"},
		{"a user ID first", block(uid, key), "line 1: a packet of type 13 where a public key should begin"},
		{"a secret key", block(packet(5, body(key)...)), "a private key, not a public one"},
		{"a secret subkey", block(key, uid, cert, packet(7, body(sub)...)), "a private key, not a public one"},
		{"a message", block(key, packet(11, 'b', 0, 0, 0, 0, 0)), "a packet of type 11, which does not belong in a key"},
		{"a critical packet", block(key, packet(39)), "a packet of type 39, which does not belong in a key"},
		{"another marker", block(key, packet(10, 'P', 'G', 'Q'), uid, cert), "malformed marker packet"},

		{"an empty key", block(packet(6)), "unknown key version 0"},
		{"version 3", block(set(key, 0, 3)), "key version 3, which clients do not read"},
		{"version 5", block(set(key, 0, 5)), "key version 5, which clients do not read"},
		{"version 9", block(set(key, 0, 9)), "unknown key version 9"},
		{"algorithm 99", block(set(key, 5, 99)), "key algorithm 99, which clients do not know"},
		{"a key for encryption", block(packet(6, body(sub)...), uid, cert), "primary key of algorithm 18, which cannot sign"},
		{"half a key", block(packet(6, body(key)[:20]...)), "key packet is cut short"},
		{"a key and more", block(packet(6, append(body(key), 0)...)), "key packet is longer than what it holds"},
		{"another curve", block(set(key, 15, 2)), "key on curve 2B06010401DA470F02, which clients do not know for algorithm 22"},
		{"EdDSA on another's curve", block(set(nist[0], 5, 22)), "key on curve 2A8648CE3D030107, which clients do not know for algorithm 22"},
		{"another prefix", block(set(key, 18, 4)), "key with a malformed point"},
		{"a short point", block(set(nist[0], 15, 1)), "key with a malformed point"},
		{"another derivation", block(key, uid, cert, set(sub, 54, 2)), "subkey: key with derivation parameters 010207, which clients do not know"},
		{"another cipher", block(key, uid, cert, set(sub, 55, 1)), "subkey: key with derivation parameters 010801, which clients do not know"},
		{"version 6 with an old algorithm", block(packet(6, slices.Concat([]byte{6, 0, 0, 0, 0, 22, 0, 0, 0, byte(len(body(key)) - 6)}, body(key)[6:])...)), "which clients do not know for algorithm 22"},
		{"a small RSA key", block(packet(6, append([]byte{4, 0, 0, 0, 0, 1, 3, 0xFF}, append(slices.Repeat([]byte{0x7F}, 128), 0, 2, 3)...)...)), "RSA key of 1023 bits, which clients refuse"},
		{"a large exponent", block(packet(6, append([]byte{4, 0, 0, 0, 0, 1, 4, 0}, append(slices.Repeat([]byte{0xFF}, 128), 0, 32, 1, 0, 0, 1)...)...)), "RSA key with a large exponent, which clients refuse"},
		{"version 6 that miscounts", block(set(v6[0], 9, 31)), "key packet is cut short"},

		{"a bare key", block(key), "no user ID with a certification of its own"},
		{"a bare user ID", block(key, uid), "no user ID with a certification of its own"},
		{"another's certification", block(key, uid, uids[2]), "no user ID with a certification of its own"},
		{"another's certification under a stolen key ID", block(key, uid, signature(0x13, append(own(make([]byte, 20)), append([]byte{9, 16}, issuer[12:]...)...), nil)), "no user ID with a certification of its own"},
		{"version 6 with a certification", block(v6[0], uid, signature(0x13, append([]byte{5, 2, 0, 0, 0, 1}, v6issuer...), nil)), "no direct-key signature of its own"},
		{"version 6 without a signature", block(v6[0], uid), "no direct-key signature of its own"},
		{"a binding on a user ID", block(key, uid, cert, bind), "user ID with a signature of type 0x18"},
		{"a subkey that clients do not know", block(key, uid, cert, set(sub, 5, 99), bind), "subkey: key algorithm 99, which clients do not know"},
		{"a subkey without a binding", block(key, uid, cert, sub), "no signature that binds it to the primary key"},
		{"a subkey of another", block(key, uid, cert, sub, nist[4]), "signature by another key than the primary"},
		{"a certification on a subkey", block(key, uid, cert, sub, cert), "signature of type 0x13"},
		{"a signing subkey that does not sign", block(key, uid, cert, sub, sig(0x18, 2, 27, 2)), "flagged for signing, but without a signature of its own"},
		{"another's revocation", block(key, revoked[1], uid, cert), "revocation by another key, which clients refuse"},
		{"user IDs revoked in two ways", block(append(slices.Clone(uids), uids[5], uids[6])...), "user IDs revoked with and without a certification"},

		{"an empty signature", block(key, uid, packet(2)), "signature packet is cut short"},
		{"half a signature", block(key, uid, packet(2, body(cert)[:40]...)), "signature packet is cut short"},
		{"a signature and more", block(key, uid, packet(2, append(body(cert), 0)...)), "signature packet is longer than what it holds"},
		{"version 6 with another salt", block(v6[0], set(v6[1], 80, 17)), "signature with a salt of the wrong size"},
		{"no creation time", block(key, uid, signature(0x13, nil, nil)), "signature without a creation time"},
		{"a creation time that anyone may write", block(key, uid, signature(0x13, nil, own(issuer))), "signature without a creation time"},
		{"half a time", block(key, uid, signature(0x13, []byte{4, 2, 0, 0, 0}, nil)), "signature subpacket of type 2 is cut short"},
		{"a time and more", block(key, uid, signature(0x13, []byte{6, 2, 0, 0, 0, 0, 0}, nil)), "signature subpacket of type 2 is longer than what it holds"},
		{"a subpacket of nothing", block(key, uid, sig(0x13, 0)), "signature with a subpacket that is cut short"},
		{"half a subpacket", block(key, uid, sig(0x13, 9, 11, 0)), "signature with a subpacket that is cut short"},
		{"half a subpacket that is not hashed", block(key, uid, signature(0x13, own(issuer), []byte{0xC0})), "signature with a subpacket that is cut short"},
		{"a subpacket on which clients crash", block(key, uid, sig(0x13, 1, 4)), "signature subpacket of type 4 is cut short"},
		{"an endless expression", block(key, uid, sig(0x13, 2, 6, 'a')), "signature subpacket of type 6 is cut short"},
		{"a half cipher suite", block(key, uid, sig(0x13, 2, 39, 9)), "signature subpacket of type 39 is cut short"},
		{"a notation that miscounts", block(key, uid, sig(0x13, 10, 20, 0, 0, 0, 0, 0, 1, 0, 1, 'a')), "signature subpacket of type 20 is cut short"},
		{"another version's fingerprint", block(key, uid, sig(0x13, append([]byte{22, 33, 6}, issuer...)...)), "signature subpacket of type 33 is cut short"},
		{"version 6 with a key ID", block(v6[0], packet(2, append([]byte{6, 0x1F, 27, 8, 0, 0, 0, 16, 5, 2, 0, 0, 0, 1, 9, 16, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 16}, make([]byte, 16+64)...)...)), "names its issuer by key ID"},
		{"an embedded certification", block(key, uid, sig(0x13, embedded(sig(0x13))...)), "embedded signature of type 0x13"},
		{"half an embedded signature", block(key, uid, sig(0x13, 2, 32, 4)), "embedded signature packet is cut short"},
		{"two embedded signatures", block(key, uid, sig(0x13, append(embedded(sig(0x19)), embedded(sig(0x19))...)...)), "signature with more than one embedded in it"},
		{"one embedded in another", block(key, uid, sig(0x13, embedded(sig(0x19, embedded(sig(0x19))...))...)), "signature with more than one embedded in it"},
		{"half a photo", block(key, uid, cert, packet(17, 9, 1)), "user attribute is cut short"},
		{"an empty photo", block(key, uid, cert, packet(17, 0)), "user attribute is cut short"},
	} {
		keys, err := openpgp.ReadKeys([]byte(tt.text))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got error %v, want one with %q", tt.name, err, tt.want)
		}
		if len(keys) > 0 {
			t.Errorf("%s: got keys %v", tt.name, keys)
		}
	}
}

// Keys in which there is more than gpg writes, but nothing that clients stumble over.
func TestReadKeysTolerates(t *testing.T) {
	ed := split(t, "ed25519.asc")
	key, uid, cert, sub, bind := ed[0], ed[1], ed[2], ed[3], ed[4]
	signing := split(t, "subkey.asc")
	uids := split(t, "uids.asc")
	issuer := body(cert)[9:29]
	sig := func(kind byte, subpackets ...byte) []byte {
		return signature(kind, append(own(issuer), subpackets...), nil)
	}
	long := append([]byte{0xC6, 0xFF, 0, 0, 0, byte(len(body(key)))}, body(key)...)
	for _, tt := range []struct {
		name    string
		packets [][]byte
		signers int
	}{
		{"nothing more", ed, 1},
		{"a long header", [][]byte{long, uid, cert}, 1},
		{"markers, trust and what is new", [][]byte{key, packet(10, 'P', 'G', 'P'), uid, packet(12, 6), cert, packet(40), sub, packet(63, 1), bind}, 1},
		{"a long user ID", [][]byte{key, packet(13, make([]byte, 200)...), cert}, 1},
		{"a long subpacket", [][]byte{key, uid, sig(0x13, 255, 0, 0, 0, 2, 27, 2)}, 1},
		{"448", [][]byte{key, uid, cert, packet(2, append([]byte{4, 0x13, 28, 8, 0, 6, 5, 2, 0, 0, 0, 1, 0, 0, 0, 0}, make([]byte, 114)...)...),
			packet(14, append([]byte{4, 0, 0, 0, 0, 26}, make([]byte, 56)...)...), bind,
			packet(14, append([]byte{4, 0, 0, 0, 0, 28}, make([]byte, 57)...)...), bind}, 1},
		{"padding", [][]byte{key, uid, cert, sub, bind, packet(21, 0, 0, 0)}, 1},
		{"a signature of version 3", [][]byte{key, uid, packet(2, 3, 5, 0x13), cert}, 1},
		{"a signature with MD5", [][]byte{key, uid, set(cert, 3, 1), cert, sub, set(bind, 3, 1), bind}, 1},
		{"a signature of another algorithm", [][]byte{key, uid, set(cert, 2, 99), cert}, 1},
		{"a signature that is not for others", [][]byte{key, uid, sig(0x18, 2, 4, 0), cert}, 1},
		{"a critical subpacket", [][]byte{key, uid, sig(0x18, 2, 0x80|99, 0), cert}, 1},
		{"an unknown subpacket", [][]byte{key, uid, cert, sig(0x13, 2, 99, 0)}, 1},
		{"an embedded signature of version 3", [][]byte{key, uid, sig(0x18, 2, 32, 3), cert}, 1},
		{"all that clients know", [][]byte{key, uid, sig(0x13, 2, 4, 1, 3, 5, 1, 60, 3, 6, 'a', 0, 2, 11, 9, 9, 20, 0, 0, 0, 0, 0, 0, 0, 0, 2, 25, 1, 2, 27, 2, 2, 29, 0, 3, 39, 9, 2), cert}, 1},
		{"no key flags", [][]byte{key, uid, sig(0x13)}, 0},
		{"empty key flags", [][]byte{key, uid, sig(0x13, 1, 27)}, 0},
		{"key flags that anyone may write", [][]byte{key, uid, signature(0x13, own(issuer), []byte{2, 27, 2})}, 0},
		{"an issuer by key ID", [][]byte{key, uid, signature(0x13, []byte{5, 2, 0, 0, 0, 1, 2, 27, 2}, append([]byte{9, 16}, issuer[12:]...))}, 1},
		{"a newer certification", [][]byte{key, uid, cert, sig(0x13)}, 1}, // sig is of 1970
		{"a user ID twice", [][]byte{key, uid, cert, uid, cert}, 1},
		{"user IDs of the same second", [][]byte{key, uid, sig(0x13, 2, 27, 2), uid, sig(0x13)}, 1},
		{"its primary as a subkey", [][]byte{key, uid, cert, packet(14, body(key)...), sig(0x18, append([]byte{2, 27, 2}, embedded(sig(0x19))...)...)}, 1},
		{"a photo and a direct-key signature", [][]byte{key, uid, cert, packet(17, 1, 1), sig(0x1F)}, 1},
		{"a direct-key signature without flags", [][]byte{key, signature(0x1F, append([]byte{5, 2, 0xFF, 0, 0, 0}, own(issuer)[6:]...), nil), uid, cert}, 1},
		{"a subkey twice", append(slices.Clone(signing), signing[len(signing)-2:]...), 1},
		{"a user ID that is only revoked", slices.Concat(uids[:5], uids[5:7]), 1},
	} {
		keys, err := openpgp.ReadKeys([]byte(block(tt.packets...)))
		if err != nil || len(keys) != 1 || len(keys[0].Signers) != tt.signers {
			t.Errorf("%s: got %v, %v; want one key with %d signers", tt.name, keys, err, tt.signers)
		}
		checkKeys(t, []byte(block(tt.packets...)))
	}
}

const created = 1717200000 // by gpg, as make.sh sets its clock

var signatureTests = []struct {
	file, issuers    string
	created, expires int64
}{
	{"dsa.sig", "2F519468AF9C6E16", created, 0},
	{"ed25519.sig", "4E1ABAA349B90D7B", created, 0},
	{"extended.sig", "062FCEDAAB1068F6", 1706745600, 0},
	{"nistp256.sig", "0A4B172C0FAEE397", created, 0},
	{"revoked.sig", "D2C10B560CCE9E11", created, 0},
	{"rsa-expiring.sig", "6E37763C9448D3C1", created, created + 30*24*60*60},
	{"rsa-sha512.sig", "6E37763C9448D3C1", created, 0},
	{"rsa-text.sig", "6E37763C9448D3C1", created, 0},
	{"rsa.sig", "6E37763C9448D3C1", created, 0},
	{"subkey.sig", "429F128B955544CE", created, 0},
	{"two.sig", "6E37763C9448D3C1 4E1ABAA349B90D7B", created, 0},
	{"uids.sig", "55B7D33697DD1B33", created, 0},
}

func TestReadSignatures(t *testing.T) {
	for _, tt := range signatureTests {
		var want []openpgp.Signature
		for _, id := range strings.Fields(tt.issuers) {
			want = append(want, openpgp.Signature{Issuer: id, Created: unix(tt.created), Expires: unix(tt.expires)})
		}
		got, err := openpgp.ReadSignatures(read(t, tt.file))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %v, %v; want %v", tt.file, got, err, want)
		}
	}
}

// Clients pass over what they do not know, and take what comes after it.
func TestReadSignaturesPassesOver(t *testing.T) {
	sig := read(t, "ed25519.sig")
	want, err := openpgp.ReadSignatures(sig)
	if err != nil {
		t.Fatal(err)
	}
	for name, p := range map[string][]byte{
		"a marker":                   packet(10, 'P', 'G', 'P'),
		"trust":                      packet(12, 0),
		"a new packet":               packet(60),
		"version 3":                  packet(2, 3),
		"version 5":                  packet(2, 5),
		"a new algorithm":            set(sig, 2, 30),
		"a new hash":                 set(sig, 3, 99),
		"version 6 with SHA-1":       packet(2, 6, 0, 27, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		"a critical new subpacket":   signature(0, []byte{5, 2, 0, 0, 0, 1, 1, 0x80 | 99}, nil),
		"what is only for its maker": signature(0, []byte{5, 2, 0, 0, 0, 1, 2, 4, 0}, nil),
	} {
		got, err := openpgp.ReadSignatures(slices.Concat(p, sig, p))
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %v, %v; want %v", name, got, err, want)
		}
	}
}

func TestReadSignaturesErrors(t *testing.T) {
	sig := read(t, "ed25519.sig")
	dated := []byte{5, 2, 0, 0, 0, 1}
	for _, tt := range []struct {
		name string
		b    []byte
		want string
	}{
		{"armor", read(t, "rsa-armored.sig"), "signature is armored"},
		{"nothing", nil, "no signature that clients read: empty file"},
		{"text", []byte("none"), "byte 0x6e where a packet should begin"},
		{"a key", split(t, "ed25519.asc")[0], "a packet of type 6, not a signature"},
		{"half", sig[:len(sig)-1], "packet longer than its block"},
		{"a line feed after it", append(slices.Clone(sig), '\n'), "byte 0x0a where a packet should begin"},
		{"a marker", packet(10, 'P', 'G', 'P'), "no signature that clients read: empty file"},
		{"version 3", set(sig, 0, 3), "no signature that clients read: signature version 3"},
		{"MD5", set(sig, 3, 1), "no signature that clients read: hash algorithm 1"},
		{"another algorithm", set(sig, 2, 30), "no signature that clients read: signature algorithm 30"},
		{"a certification", set(sig, 1, 0x10), "a signature of type 0x10, not over a file"},
		{"a critical notation", read(t, "rsa-critical.sig"), "signature has a critical notation, which clients refuse"},
		{"no issuer", signature(0, dated, nil), "signature does not name its issuer"},
		{"two issuers", signature(0, append(own(make([]byte, 20)), 9, 16, 1, 2, 3, 4, 5, 6, 7, 8), nil), "signature names two issuers"},
		{"no creation time", signature(0, nil, nil), "signature without a creation time"},
	} {
		got, err := openpgp.ReadSignatures(tt.b)
		if err == nil || !strings.Contains(err.Error(), tt.want) || got != nil {
			t.Errorf("%s: got %v, %v; want an error with %q", tt.name, got, err, tt.want)
		}
		if armored := tt.name == "armor"; errors.Is(err, openpgp.ErrArmored) != armored {
			t.Errorf("%s: %v is ErrArmored: %v, want %v", tt.name, err, !armored, armored)
		}
	}
}

// A signature of version 6 names its issuer by a longer fingerprint, of which the key ID is the beginning.
func TestReadSignaturesVersion6(t *testing.T) {
	hashed := []byte{5, 2, 0, 0, 1, 0, 5, 3, 0, 0, 0, 60, 34, 33, 6, 0xAB}
	hashed = append(hashed, make([]byte, 31)...)
	body := append([]byte{6, 0, 27, 8, 0, 0, 0, byte(len(hashed))}, hashed...)
	body = append(body, 0, 0, 0, 0, 0, 0, 16)
	sig := packet(2, append(body, make([]byte, 16+64)...)...)
	got, err := openpgp.ReadSignatures(sig)
	want := openpgp.Signature{Issuer: "AB00000000000000", Created: unix(256), Expires: unix(316)}
	if err != nil || len(got) != 1 || got[0] != want {
		t.Errorf("got %v, %v; want %v", got, err, want)
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
		if k.Signers == nil {
			t.Errorf("key %s: nil signers", k.ID)
		}
		for i, id := range k.Signers {
			if !hexDigits(id, 16) || slices.Contains(k.Signers[:i], id) {
				t.Errorf("key %s: signers %q", k.ID, k.Signers)
			}
		}
		alone, err := openpgp.ReadKeys([]byte(k.Armor))
		if err != nil || len(alone) != 1 || !reflect.DeepEqual(alone[0], k) {
			t.Errorf("key %v reads back from its armor as %v, %v", k, alone, err)
		}
	}
}

func hexDigits(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789ABCDEF") == ""
}

func FuzzReadSignature(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.sig")
	for _, file := range files {
		f.Add(read(f, filepath.Base(file)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		sigs, err := openpgp.ReadSignatures(b)
		if (len(sigs) == 0) != (err != nil) {
			t.Errorf("got %v, %v", sigs, err)
		}
		for _, s := range sigs {
			if !hexDigits(s.Issuer, 16) || s.Created.IsZero() || !s.Expires.IsZero() && !s.Expires.After(s.Created) {
				t.Errorf("got %v", s)
			}
		}
		if err != nil {
			return
		}
		twice, err := openpgp.ReadSignatures(slices.Concat(b, b))
		if err != nil || !slices.Equal(twice, slices.Concat(sigs, sigs)) {
			t.Errorf("got %v, and of the same twice %v, %v", sigs, twice, err)
		}
	})
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

// data returns the lines of base64 in a text that is one block.
func data(text string) string {
	_, text, _ = strings.Cut(text, "\n\n")
	text, _, _ = strings.Cut(text, "\n-----END")
	text, _, _ = strings.Cut(text, "\n=")
	return text
}

// unarmor returns what the only, or first, block of a file in testdata holds.
func unarmor(t testing.TB, name string) []byte {
	t.Helper()
	_, text, _ := strings.Cut(string(read(t, name)), "-----BEGIN")
	b, err := base64.StdEncoding.DecodeString(data(text))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// header returns what the header of p says, if it is as short as gpg makes it.
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

// body returns a copy of what is in p after its header.
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

// signature returns an EdDSA signature packet with the given subpackets, and with zeros for the signature itself.
func signature(kind byte, hashed, unhashed []byte) []byte {
	b := append([]byte{4, kind, 22, 8, byte(len(hashed) >> 8), byte(len(hashed))}, hashed...)
	b = append(append(b, byte(len(unhashed)>>8), byte(len(unhashed))), unhashed...)
	return packet(2, append(b, 0, 0, 0, 0, 0, 0)...)
}

// own returns the subpackets of the creation time, a second into 1970, and of the issuer.
func own(fingerprint []byte) []byte {
	return append([]byte{5, 2, 0, 0, 0, 1, 22, 33, 4}, fingerprint...)
}

// embedded returns a subpacket that embeds a signature packet.
func embedded(sig []byte) []byte {
	return append([]byte{byte(len(body(sig)) + 1), 32}, body(sig)...)
}
