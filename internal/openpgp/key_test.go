package openpgp_test

import (
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri/internal/openpgp"
)

// keyTests is the account that gpg --show-keys --with-colons gives of each key in testdata. Of
// rfc9580.asc gpg knows nothing: its row is what the RFC says.
var keyTests = []struct {
	file, id, fingerprint string
	created, expires      int64
	revoked               bool
	signers               []openpgp.Signer
}{
	{
		file: "brainpool-signer.asc", id: "6846855F47829F4B", fingerprint: "F158655A0802E16E76B907066846855F47829F4B",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "10BFE3F43F9281C9"}},
	},
	{
		file: "brainpool.asc", id: "2B2297CDAFBF51AD", fingerprint: "CC43A19EF5C24AF5D71A9FFF2B2297CDAFBF51AD",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "2B2297CDAFBF51AD"}, {ID: "3B7CDF82D974327C"}},
	},
	{
		file: "certified.asc", id: "0A4B172C0FAEE397", fingerprint: "7CC12FB38852A7CDE23CF52D0A4B172C0FAEE397",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "0A4B172C0FAEE397"}},
	},
	{
		file: "current.asc", id: "1CBC7C6437B83E85", fingerprint: "420AE87B620CEF5AB6424DAC1CBC7C6437B83E85",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "1CBC7C6437B83E85"}},
	},
	{
		file: "dsa.asc", id: "2F519468AF9C6E16", fingerprint: "1E306896FA3323FFC999B84D2F519468AF9C6E16",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "2F519468AF9C6E16"}},
	},
	{
		file: "ed25519-lapsed-extended.asc", id: "C704059C0BCCE224", fingerprint: "6776D3D3802AEF88F56335E5C704059C0BCCE224",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "FEC7AA05B906A057", Expires: unix(1798761600)}},
	},
	{
		file: "ed25519-lapsed.asc", id: "C704059C0BCCE224", fingerprint: "6776D3D3802AEF88F56335E5C704059C0BCCE224",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "FEC7AA05B906A057", Expires: unix(1709251200)}},
	},
	{
		file: "ed25519.asc", id: "4E1ABAA349B90D7B", fingerprint: "8E25B32A46A89204F4DD281E4E1ABAA349B90D7B",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "4E1ABAA349B90D7B"}},
	},
	{
		file: "expired.asc", id: "97DC26F532B9599E", fingerprint: "874EB185FB9A6F4DCEA08A4897DC26F532B9599E",
		created: 1704067200, expires: 1709251200,
		signers: []openpgp.Signer{{ID: "97DC26F532B9599E", Expires: unix(1709251200)}},
	},
	{
		file: "extended-before.asc", id: "062FCEDAAB1068F6", fingerprint: "416EF968621D1BEAB2083757062FCEDAAB1068F6",
		created: 1704067200, expires: 1709251200,
		signers: []openpgp.Signer{{ID: "062FCEDAAB1068F6", Expires: unix(1709251200)}},
	},
	{
		file: "extended-for-ever.asc", id: "062FCEDAAB1068F6", fingerprint: "416EF968621D1BEAB2083757062FCEDAAB1068F6",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "062FCEDAAB1068F6"}},
	},
	{
		file: "extended.asc", id: "062FCEDAAB1068F6", fingerprint: "416EF968621D1BEAB2083757062FCEDAAB1068F6",
		created: 1704067200, expires: 1893456000,
		signers: []openpgp.Signer{{ID: "062FCEDAAB1068F6", Expires: unix(1893456000)}},
	},
	{
		file: "hashicorp-2014.asc", id: "51852D87348FFC4C", fingerprint: "91A6E7F85D05C65630BEF18951852D87348FFC4C",
		created: 1393444045,
		signers: []openpgp.Signer{{ID: "51852D87348FFC4C"}},
	},
	{
		file: "nistp256.asc", id: "0A4B172C0FAEE397", fingerprint: "7CC12FB38852A7CDE23CF52D0A4B172C0FAEE397",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "0A4B172C0FAEE397"}},
	},
	{
		file: "nistp384.asc", id: "EB5FBCE1EA2A80D9", fingerprint: "5A2B27AC5D2B1654CDCA860CEB5FBCE1EA2A80D9",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "EB5FBCE1EA2A80D9"}},
	},
	{
		file: "nistp521.asc", id: "C8B31089F4E68DA0", fingerprint: "3A24669D407BD1C825124FF7C8B31089F4E68DA0",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "C8B31089F4E68DA0"}},
	},
	{
		file: "pair.asc", id: "6E37763C9448D3C1", fingerprint: "22828B946E82638F9751422E6E37763C9448D3C1",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "6E37763C9448D3C1"}},
	},
	{
		file: "pair.asc", id: "4E1ABAA349B90D7B", fingerprint: "8E25B32A46A89204F4DD281E4E1ABAA349B90D7B",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "4E1ABAA349B90D7B"}},
	},
	{
		file: "prose.asc", id: "6E37763C9448D3C1", fingerprint: "22828B946E82638F9751422E6E37763C9448D3C1",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "6E37763C9448D3C1"}},
	},
	{
		file: "prose.asc", id: "4E1ABAA349B90D7B", fingerprint: "8E25B32A46A89204F4DD281E4E1ABAA349B90D7B",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "4E1ABAA349B90D7B"}},
	},
	{
		file: "retired.asc", id: "5CB8E7F3269CAD31", fingerprint: "E02907814080B219E85CFBC85CB8E7F3269CAD31",
		created: 1704067200, revoked: true,
		signers: []openpgp.Signer{{ID: "5CB8E7F3269CAD31", Revoked: true}},
	},
	{
		file: "revocable.asc", id: "D438CB3546CCC43E", fingerprint: "18007E6074B2E044C2D5D6FFD438CB3546CCC43E",
		created: 1704067200, expires: 1767139200,
		signers: []openpgp.Signer{{ID: "D438CB3546CCC43E", Expires: unix(1767139200)}},
	},
	{
		file: "revoked-before.asc", id: "D2C10B560CCE9E11", fingerprint: "BA3F8FBD6BF0E2A8BCC566CFD2C10B560CCE9E11",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "D2C10B560CCE9E11"}},
	},
	{
		file: "revoked.asc", id: "D2C10B560CCE9E11", fingerprint: "BA3F8FBD6BF0E2A8BCC566CFD2C10B560CCE9E11",
		created: 1704067200, revoked: true,
		signers: []openpgp.Signer{{ID: "D2C10B560CCE9E11", Revoked: true}},
	},
	{
		file: "rotated-before.asc", id: "150535A65E9516EB", fingerprint: "5486DC885DD57F66420F4D95150535A65E9516EB",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "10D278FBAA856FB7"}},
	},
	{
		file: "rotated.asc", id: "150535A65E9516EB", fingerprint: "5486DC885DD57F66420F4D95150535A65E9516EB",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "10D278FBAA856FB7", Revoked: true}, {ID: "BE82678EE43DC454"}},
	},
	{
		file: "rsa.asc", id: "6E37763C9448D3C1", fingerprint: "22828B946E82638F9751422E6E37763C9448D3C1",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "6E37763C9448D3C1"}},
	},
	{
		file: "rsa2048-lapsed.asc", id: "EB2A88FBAAC3EDCF", fingerprint: "FEBD8F50909CA1867299CD3EEB2A88FBAAC3EDCF",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "A840107112FEA95C", Expires: unix(1709251200)}},
	},
	{
		file: "rsa2048.asc", id: "57D5BA71CC47BBD1", fingerprint: "82344302B8ADDC3571EA14CE57D5BA71CC47BBD1",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "57D5BA71CC47BBD1"}},
	},
	{
		file: "secp256k1.asc", id: "209CC3E6F3436069", fingerprint: "EDFBE0E4D5E269685BA4AD92209CC3E6F3436069",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "209CC3E6F3436069"}},
	},
	{
		file: "subkey.asc", id: "AEB065EBA028D784", fingerprint: "E12FF1CBAF28E0A5A98418D6AEB065EBA028D784",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "C85E0EE60E88D649", Revoked: true}, {ID: "429F128B955544CE", Expires: unix(1772323200)}},
	},
	{
		file: "text.asc", id: "274B19F36494C960", fingerprint: "C5567749239703EB96FA04D1274B19F36494C960",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "274B19F36494C960"}},
	},
	{
		file: "uids-clean.asc", id: "55B7D33697DD1B33", fingerprint: "619EC1E3D671E9C594F17C1A55B7D33697DD1B33",
		created: 1704067200, expires: 1767139200,
		signers: []openpgp.Signer{{ID: "55B7D33697DD1B33", Expires: unix(1767139200)}},
	},
	{
		file: "uids.asc", id: "55B7D33697DD1B33", fingerprint: "619EC1E3D671E9C594F17C1A55B7D33697DD1B33",
		created: 1704067200, expires: 1767139200,
		signers: []openpgp.Signer{{ID: "55B7D33697DD1B33", Expires: unix(1767139200)}},
	},
	{
		file: "rfc9580.asc", id: "CB186C4F0609A697", fingerprint: "CB186C4F0609A697E4D52DFA6C722B0C1F1E27C18A56708F6525EC27BAD9ACC9",
		created: 1669824483,
		signers: []openpgp.Signer{{ID: "CB186C4F0609A697"}},
	},
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
			Signers:     tt.signers,
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
		for i, k := range got {
			got[i] = openpgp.Key{
				ID: k.ID, Fingerprint: k.Fingerprint,
				Created: k.Created, Expires: k.Expires, Revoked: k.Revoked, Signers: k.Signers,
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %v\nwant %v", file, got, want)
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
		{name: "nothing", text: "", want: "no armored public key block"},
		{name: "prose", text: "Ask the security team for the key.\n", want: "no armored public key block"},
		{name: "a binary key", text: string(unarmor(t, "rsa.asc")), want: "no armored public key block"},
		{name: "no end line", text: rsa[:len(rsa)-60], want: "line 1: armor has no end line"},
		{name: "no begin line", text: rsa[60:], want: "armor has no begin line"},
		{name: "another end", text: strings.Replace(rsa, "END PGP PUBLIC", "END PGP PRIVATE", 1), want: `armor of type "PGP PUBLIC KEY BLOCK" ends as "PGP PRIVATE KEY BLOCK"`},
		{name: "a private block", text: strings.ReplaceAll(rsa, "PUBLIC", "PRIVATE"), want: "line 1: a private key, not a public one"},
		{name: "a message", text: strings.ReplaceAll(rsa, "PUBLIC KEY BLOCK", "MESSAGE"), want: `armor of type "PGP MESSAGE", not a public key block`},
		{name: "another checksum", text: rsa[:strings.LastIndex(rsa, "\n=")+2] + "AAAA" + rsa[strings.LastIndex(rsa, "\n=")+6:], want: "armor checksum does not match"},
		{name: "other data", text: other, want: "armor checksum does not match"},
		{name: "data after the checksum", text: strings.Replace(rsa, "-----END", "AAAA\n-----END", 1), want: "armor has data after its checksum"},
		{name: "no blank line", text: strings.Replace(rsa, "\n\n", "\n", 1), want: "armor has no blank line before its data"},
		{name: "no line at all", text: begin[:len(begin)-1] + end, want: "armor has no blank line before its data"},
		{name: "no colon", text: strings.Replace(rsa, "\n\n", "\nVersion GnuPG v1\n\n", 1), want: "armor has no blank line before its data"},
		{name: "not base64", text: strings.Replace(rsa, "\n\n", "\n\n!", 1), want: "armor is not base64"},
		{name: "no data", text: begin + end, want: "armor is empty"},

		{name: "no packet", text: block([]byte{0x7F}), want: "byte 0x7f where a packet should begin"},
		{name: "half a header", text: block([]byte{0xC6}), want: "packet longer than its block"},
		{name: "half a packet", text: block(key[:9]), want: "packet longer than its block"},
		{name: "a partial length", text: block([]byte{0xC6, 0xE0, 4, 0}), want: "packet of partial length"},
		{name: "an indeterminate length", text: block([]byte{0x9B, 4}), want: "packet of indeterminate length"},
		{name: "a huge length", text: block([]byte{0xC6, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 4}), want: "packet longer than its block"},
		{name: "a user ID first", text: block(uid, key), want: "line 1: a packet of type 13 where a public key should begin"},
		{name: "a secret key", text: block(packet(5, body(key)...)), want: "a private key, not a public one"},
		{name: "a secret subkey", text: block(key, uid, cert, packet(7, body(sub)...)), want: "a private key, not a public one"},
		{name: "a message", text: block(key, packet(11, 'b', 0, 0, 0, 0, 0)), want: "a packet of type 11, which does not belong in a key"},
		{name: "a critical packet", text: block(key, packet(39)), want: "a packet of type 39, which does not belong in a key"},
		{name: "another marker", text: block(key, packet(10, 'P', 'G', 'Q'), uid, cert), want: "malformed marker packet"},

		{name: "an empty key", text: block(packet(6)), want: "unknown key version 0"},
		{name: "version 3", text: block(set(key, 0, 3)), want: "key version 3, which clients do not read"},
		{name: "version 5", text: block(set(key, 0, 5)), want: "key version 5, which clients do not read"},
		{name: "version 9", text: block(set(key, 0, 9)), want: "unknown key version 9"},
		{name: "algorithm 99", text: block(set(key, 5, 99)), want: "key algorithm 99, which clients do not know"},
		{name: "a key for encryption", text: block(packet(6, body(sub)...), uid, cert), want: "primary key of algorithm 18, which cannot sign"},
		{name: "half a key", text: block(packet(6, body(key)[:20]...)), want: "key packet is cut short"},
		{name: "a key and more", text: block(packet(6, append(body(key), 0)...)), want: "key packet has bytes after its last field"},
		{name: "another curve", text: block(set(key, 15, 2)), want: "key on curve 2B06010401DA470F02, which clients do not know for algorithm 22"},
		{name: "EdDSA on another's curve", text: block(set(nist[0], 5, 22)), want: "key on curve 2A8648CE3D030107, which clients do not know for algorithm 22"},
		{name: "another prefix", text: block(set(key, 18, 4)), want: "key with a malformed point"},
		{name: "a short point", text: block(set(nist[0], 15, 1)), want: "key with a malformed point"},
		{name: "another derivation", text: block(key, uid, cert, set(sub, 54, 2)), want: "subkey: key with derivation parameters 010207, which clients do not know"},
		{name: "another cipher", text: block(key, uid, cert, set(sub, 55, 1)), want: "subkey: key with derivation parameters 010801, which clients do not know"},
		{name: "version 6 with an old algorithm", text: block(packet(6, slices.Concat([]byte{6, 0, 0, 0, 0, 22, 0, 0, 0, byte(len(body(key)) - 6)}, body(key)[6:])...)), want: "which clients do not know for algorithm 22"},
		{name: "a small RSA key", text: block(packet(6, append([]byte{4, 0, 0, 0, 0, 1, 3, 0xFF}, append(slices.Repeat([]byte{0x7F}, 128), 0, 2, 3)...)...)), want: "RSA key of 1023 bits, which clients refuse"},
		{name: "a large exponent", text: block(packet(6, append([]byte{4, 0, 0, 0, 0, 1, 4, 0}, append(slices.Repeat([]byte{0xFF}, 128), 0, 32, 1, 0, 0, 1)...)...)), want: "RSA key with a large exponent, which clients refuse"},
		{name: "version 6 that miscounts", text: block(set(v6[0], 9, 31)), want: "key packet is cut short"},

		{name: "a bare key", text: block(key), want: "no user ID with a certification of its own"},
		{name: "a bare user ID", text: block(key, uid), want: "no user ID with a certification of its own"},
		{name: "another's certification", text: block(key, uid, uids[2]), want: "no user ID with a certification of its own"},
		{name: "another's certification under a stolen key ID", text: block(key, uid, signature(0x13, append(own(make([]byte, 20)), append([]byte{9, 16}, issuer[12:]...)...), nil)), want: "no user ID with a certification of its own"},
		{name: "version 6 with a certification", text: block(v6[0], uid, signature(0x13, append([]byte{5, 2, 0, 0, 0, 1}, v6issuer...), nil)), want: "no direct-key signature of its own"},
		{name: "version 6 without a signature", text: block(v6[0], uid), want: "no direct-key signature of its own"},
		{name: "a binding on a user ID", text: block(key, uid, cert, bind), want: "user ID with a signature of type 0x18"},
		{name: "a subkey that clients do not know", text: block(key, uid, cert, set(sub, 5, 99), bind), want: "subkey: key algorithm 99, which clients do not know"},
		{name: "a subkey without a binding", text: block(key, uid, cert, sub), want: "no signature that binds it to the primary key"},
		{name: "a subkey of another", text: block(key, uid, cert, sub, nist[4]), want: "signature by another key than the primary"},
		{name: "a certification on a subkey", text: block(key, uid, cert, sub, cert), want: "signature of type 0x13"},
		{name: "a signing subkey that does not sign", text: block(key, uid, cert, sub, sig(0x18, 2, 27, 2)), want: "flagged for signing, but without a signature of its own"},
		{name: "another's revocation", text: block(key, revoked[1], uid, cert), want: "revocation by another key, which clients refuse"},
		{name: "user IDs revoked in two ways", text: block(append(slices.Clone(uids), set(uids[5], 0, 'x'), uids[6])...), want: "user IDs revoked with and without a certification"},

		{name: "an empty signature", text: block(key, uid, packet(2)), want: "signature packet is cut short"},
		{name: "half a signature", text: block(key, uid, packet(2, body(cert)[:40]...)), want: "signature packet is cut short"},
		{name: "a signature and more", text: block(key, uid, packet(2, append(body(cert), 0)...)), want: "signature packet has bytes after its last field"},
		{name: "version 6 with another salt", text: block(v6[0], set(v6[1], 80, 17)), want: "signature with a salt of the wrong size"},
		{name: "no creation time", text: block(key, uid, signature(0x13, nil, nil)), want: "signature without a creation time"},
		{name: "a creation time that anyone may write", text: block(key, uid, signature(0x13, nil, own(issuer))), want: "signature without a creation time"},
		{name: "half a time", text: block(key, uid, signature(0x13, []byte{4, 2, 0, 0, 0}, nil)), want: "signature subpacket of type 2 is cut short"},
		{name: "a time and more", text: block(key, uid, signature(0x13, []byte{6, 2, 0, 0, 0, 0, 0}, nil)), want: "signature subpacket of type 2 has bytes after its last field"},
		{name: "a subpacket of nothing", text: block(key, uid, sig(0x13, 0)), want: "signature with a subpacket that is cut short"},
		{name: "half a subpacket", text: block(key, uid, sig(0x13, 9, 11, 0)), want: "signature with a subpacket that is cut short"},
		{name: "half a subpacket that is not hashed", text: block(key, uid, signature(0x13, own(issuer), []byte{0xC0})), want: "signature with a subpacket that is cut short"},
		{name: "a subpacket on which clients crash", text: block(key, uid, sig(0x13, 1, 4)), want: "signature subpacket of type 4 is cut short"},
		{name: "an endless expression", text: block(key, uid, sig(0x13, 2, 6, 'a')), want: "signature subpacket of type 6 is cut short"},
		{name: "a half cipher suite", text: block(key, uid, sig(0x13, 2, 39, 9)), want: "signature subpacket of type 39 is cut short"},
		{name: "a notation that miscounts", text: block(key, uid, sig(0x13, 10, 20, 0, 0, 0, 0, 0, 1, 0, 1, 'a')), want: "signature subpacket of type 20 is cut short"},
		{name: "a fingerprint of version 3", text: block(key, uid, sig(0x13, append([]byte{22, 33, 3}, issuer...)...)), want: "signature by a key of version 3"},
		{name: "one embedded in a signature by a subkey", text: block(key, uid, sig(0x19, embedded(sig(0x19))...)), want: "signature with more than one embedded in it"},
		{name: "a short hash for a cipher", text: block(key, uid, cert, set(set(sub, 54, 11), 55, 9)), want: "subkey: key with derivation parameters 010B09, which clients do not know"},
		{name: "another version's fingerprint", text: block(key, uid, sig(0x13, append([]byte{22, 33, 6}, issuer...)...)), want: "signature subpacket of type 33 is cut short"},
		{name: "version 6 with a key ID", text: block(v6[0], packet(2, append([]byte{6, 0x1F, 27, 8, 0, 0, 0, 16, 5, 2, 0, 0, 0, 1, 9, 16, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 16}, make([]byte, 16+64)...)...)), want: "names its issuer by key ID"},
		{name: "an embedded certification", text: block(key, uid, sig(0x13, embedded(sig(0x13))...)), want: "embedded signature of type 0x13"},
		{name: "half an embedded signature", text: block(key, uid, sig(0x13, 2, 32, 4)), want: "embedded signature packet is cut short"},
		{name: "two embedded signatures", text: block(key, uid, sig(0x13, append(embedded(sig(0x19)), embedded(sig(0x19))...)...)), want: "signature with more than one embedded in it"},
		{name: "one embedded in another", text: block(key, uid, sig(0x13, embedded(sig(0x19, embedded(sig(0x19))...))...)), want: "signature with more than one embedded in it"},
		{name: "half a photo", text: block(key, uid, cert, packet(17, 9, 1)), want: "user attribute is cut short"},
		{name: "an empty photo", text: block(key, uid, cert, packet(17, 0)), want: "user attribute is cut short"},
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

// Keys may hold more than gpg writes, as long as clients read them.
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
		{name: "nothing more", packets: ed, signers: 1},
		{name: "a long header", packets: [][]byte{long, uid, cert}, signers: 1},
		{name: "markers, trust and what is new", packets: [][]byte{key, packet(10, 'P', 'G', 'P'), uid, packet(12, 6), cert, packet(40), sub, packet(63, 1), bind}, signers: 1},
		{name: "a long user ID", packets: [][]byte{key, packet(13, make([]byte, 200)...), cert}, signers: 1},
		{name: "a long subpacket", packets: [][]byte{key, uid, sig(0x13, 255, 0, 0, 0, 2, 27, 2)}, signers: 1},
		{name: "448", packets: [][]byte{key, uid, cert, packet(2, append([]byte{4, 0x13, 28, 8, 0, 6, 5, 2, 0, 0, 0, 1, 0, 0, 0, 0}, make([]byte, 114)...)...),
			packet(14, append([]byte{4, 0, 0, 0, 0, 26}, make([]byte, 56)...)...), bind,
			packet(14, append([]byte{4, 0, 0, 0, 0, 28}, make([]byte, 57)...)...), bind}, signers: 1},
		{name: "padding", packets: [][]byte{key, uid, cert, sub, bind, packet(21, 0, 0, 0)}, signers: 1},
		{name: "a signature of version 3", packets: [][]byte{key, uid, packet(2, 3, 5, 0x13), cert}, signers: 1},
		{name: "a signature with MD5", packets: [][]byte{key, uid, set(cert, 3, 1), cert, sub, set(bind, 3, 1), bind}, signers: 1},
		{name: "a signature of another algorithm", packets: [][]byte{key, uid, set(cert, 2, 99), cert}, signers: 1},
		{name: "a signature that is not for others", packets: [][]byte{key, uid, sig(0x18, 2, 4, 0), cert}, signers: 1},
		{name: "a critical subpacket", packets: [][]byte{key, uid, sig(0x18, 2, 0x80|99, 0), cert}, signers: 1},
		{name: "an unknown subpacket", packets: [][]byte{key, uid, cert, sig(0x13, 2, 99, 0)}, signers: 1},
		{name: "an embedded signature of version 3", packets: [][]byte{key, uid, sig(0x18, 2, 32, 3), cert}, signers: 1},
		{name: "all that clients know", packets: [][]byte{key, uid, sig(0x13, 2, 4, 1, 3, 5, 1, 60, 3, 6, 'a', 0, 2, 11, 9, 9, 20, 0, 0, 0, 0, 0, 0, 0, 0, 2, 25, 1, 2, 27, 2, 2, 29, 0, 3, 39, 9, 2), cert}, signers: 1},
		{name: "no key flags", packets: [][]byte{key, uid, sig(0x13)}, signers: 0},
		{name: "empty key flags", packets: [][]byte{key, uid, sig(0x13, 1, 27)}, signers: 0},
		{name: "key flags that anyone may write", packets: [][]byte{key, uid, signature(0x13, own(issuer), []byte{2, 27, 2})}, signers: 0},
		{name: "an issuer by key ID", packets: [][]byte{key, uid, signature(0x13, []byte{5, 2, 0, 0, 0, 1, 2, 27, 2}, append([]byte{9, 16}, issuer[12:]...))}, signers: 1},
		{name: "a newer certification", packets: [][]byte{key, uid, cert, sig(0x13)}, signers: 1}, // sig is of 1970
		{name: "a user ID twice", packets: [][]byte{key, uid, cert, uid, cert}, signers: 1},
		{name: "user IDs of the same second", packets: [][]byte{key, uid, sig(0x13, 2, 27, 2), set(uid, 0, 'x'), sig(0x13)}, signers: 0}, // clients choose at random
		{name: "a user ID of the same second, flagged as primary", packets: [][]byte{key, uid, sig(0x13, 2, 27, 2, 2, 25, 1), set(uid, 0, 'x'), sig(0x13)}, signers: 1},
		{name: "an older user ID, flagged as primary", packets: [][]byte{key, uid, sig(0x13, 2, 25, 1), set(uid, 0, 'x'), cert}, signers: 0},
		{name: "a newer user ID that is revoked", packets: [][]byte{key, uid, sig(0x13, 2, 27, 2), set(uid, 0, 'x'), cert, sig(0x30)}, signers: 1},
		{name: "a user ID whose second copy has no flags", packets: [][]byte{key, uid, cert, uid, sig(0x13)}, signers: 0},
		{name: "its primary as a subkey", packets: [][]byte{key, uid, cert, packet(14, body(key)...), sig(0x18, append([]byte{2, 27, 2}, embedded(sig(0x19))...)...)}, signers: 1},
		{name: "a photo and a direct-key signature", packets: [][]byte{key, uid, cert, packet(17, 1, 1), sig(0x1F)}, signers: 1},
		{name: "a direct-key signature without flags", packets: [][]byte{key, signature(0x1F, append([]byte{5, 2, 0xFF, 0, 0, 0}, own(issuer)[6:]...), nil), uid, cert}, signers: 1},
		{name: "a subkey twice", packets: append(slices.Clone(signing), signing[len(signing)-2:]...), signers: 2},
		{name: "a user ID that is only revoked", packets: slices.Concat(uids[:5], uids[5:7]), signers: 1},
	} {
		keys, err := openpgp.ReadKeys([]byte(block(tt.packets...)))
		if err != nil || len(keys) != 1 || len(keys[0].Signers) != tt.signers {
			t.Errorf("%s: got %v, %v; want one key with %d signers", tt.name, keys, err, tt.signers)
		}
		checkKeys(t, []byte(block(tt.packets...)))
	}
}
