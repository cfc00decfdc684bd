package openpgp_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri/internal/openpgp"
)

func TestReadKeysErrors(t *testing.T) {
	rsa := string(read(t, "rsa.asc"))
	other := rsa[:strings.Index(rsa, "\n\n")+2] + "A" + rsa[strings.Index(rsa, "\n\n")+3:]
	ed := forgedKey()
	key, uid, cert, sub, bind := ed[0], ed[1], ed[2], ed[3], ed[4]
	nist := split(t, "nistp256.asc")
	revoked := split(t, "revoked.asc")
	uids := split(t, "uids.asc")
	v6 := split(t, "rfc9580.asc")
	signer := forgedSigner()
	v6issuer := body(v6[1])[33:68]
	issuer := fingerprint(body(key))
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

		{name: "no packet", text: forged([]byte{0x7F}), want: "byte 0x7f where a packet should begin"},
		{name: "half a header", text: forged([]byte{0xC6}), want: "packet longer than its block"},
		{name: "half a packet", text: forged(key[:9]), want: "packet longer than its block"},
		{name: "a partial length", text: forged([]byte{0xC6, 0xE0, 4, 0}), want: "packet of partial length"},
		{name: "an indeterminate length", text: forged([]byte{0x9B, 4}), want: "packet of indeterminate length"},
		{name: "a huge length", text: forged([]byte{0xC6, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 4}), want: "packet longer than its block"},
		{name: "a user ID first", text: forged(uid, key), want: "line 1: a packet of type 13 where a public key should begin"},
		{name: "a secret key", text: forged(packet(5, body(key)...)), want: "a private key, not a public one"},
		{name: "a secret subkey", text: forged(key, uid, cert, packet(7, body(sub)...)), want: "a private key, not a public one"},
		{name: "a message", text: forged(key, packet(11, 'b', 0, 0, 0, 0, 0)), want: "a packet of type 11, which does not belong in a key"},
		{name: "a critical packet", text: forged(key, packet(39)), want: "a packet of type 39, which does not belong in a key"},
		{name: "another marker", text: forged(key, packet(10, 'P', 'G', 'Q'), uid, cert), want: "malformed marker packet"},

		{name: "an empty key", text: forged(packet(6)), want: "unknown key version 0"},
		{name: "version 3", text: forged(set(key, 0, 3)), want: "key version 3, which clients do not read"},
		{name: "version 5", text: forged(set(key, 0, 5)), want: "key version 5, which clients do not read"},
		{name: "version 9", text: forged(set(key, 0, 9)), want: "unknown key version 9"},
		{name: "algorithm 99", text: forged(set(key, 5, 99)), want: "key algorithm 99, which clients do not know"},
		{name: "a key for encryption", text: forged(packet(6, body(sub)...), uid, cert), want: "primary key of algorithm 18, which cannot sign"},
		{name: "half a key", text: forged(packet(6, body(key)[:20]...)), want: "key packet is cut short"},
		{name: "a key and more", text: forged(packet(6, append(body(key), 0)...)), want: "key packet has bytes after its last field"},
		{name: "another curve", text: forged(set(key, 15, 2)), want: "key on curve 2B06010401DA470F02, which clients do not know for algorithm 22"},
		{name: "EdDSA on another's curve", text: forged(set(nist[0], 5, 22)), want: "key on curve 2A8648CE3D030107, which clients do not know for algorithm 22"},
		{name: "another prefix", text: forged(set(key, 18, 4)), want: "key with a malformed point"},
		{name: "a short point", text: forged(set(nist[0], 15, 1)), want: "key with a malformed point"},
		{name: "another derivation", text: forged(key, uid, cert, set(sub, 54, 2)), want: "subkey: key with derivation parameters 010207, which clients do not know"},
		{name: "another cipher", text: forged(key, uid, cert, set(sub, 55, 1)), want: "subkey: key with derivation parameters 010801, which clients do not know"},
		{name: "version 6 with an old algorithm", text: forged(packet(6, slices.Concat([]byte{6, 0, 0, 0, 0, 22, 0, 0, 0, byte(len(body(key)) - 6)}, body(key)[6:])...)), want: "which clients do not know for algorithm 22"},
		{name: "a small RSA key", text: forged(packet(6, append([]byte{4, 0, 0, 0, 0, 1, 3, 0xFF}, append(slices.Repeat([]byte{0x7F}, 128), 0, 2, 3)...)...)), want: "RSA key of 1023 bits, which clients refuse"},
		{name: "a large exponent", text: forged(packet(6, append([]byte{4, 0, 0, 0, 0, 1, 4, 0}, append(slices.Repeat([]byte{0xFF}, 128), 0, 32, 1, 0, 0, 1)...)...)), want: "RSA key with a large exponent, which clients refuse"},
		{name: "version 6 that miscounts", text: forged(set(v6[0], 9, 31)), want: "key packet is cut short"},

		{name: "a bare key", text: forged(key), want: "no user ID with a certification of its own"},
		{name: "a bare user ID", text: forged(key, uid), want: "no user ID with a certification of its own"},
		{name: "another's certification", text: forged(key, uid, uids[2]), want: "no user ID with a certification of its own"},
		{name: "another's certification under a stolen key ID", text: forged(key, uid, signature(0x13, append(own(make([]byte, 20)), append([]byte{9, 16}, issuer[12:]...)...), nil)), want: "no user ID with a certification of its own"},
		{name: "version 6 with a certification", text: forged(v6[0], uid, signature(0x13, append([]byte{5, 2, 0, 0, 0, 1}, v6issuer...), nil)), want: "user ID with a signature of its key that does not verify"},
		{name: "version 6 without a signature", text: forged(v6[0], uid), want: "no direct-key signature of its own"},
		{name: "a binding on a user ID", text: forged(key, uid, cert, bind), want: "user ID with a signature of type 0x18"},
		{name: "a subkey that clients do not know", text: forged(key, uid, cert, set(sub, 5, 99), bind), want: "subkey: key algorithm 99, which clients do not know"},
		{name: "a subkey without a binding", text: forged(key, uid, cert, sub), want: "no signature that binds it to the primary key"},
		{name: "a subkey of another", text: forged(key, uid, cert, sub, nist[4]), want: "signature by another key than the primary"},
		{name: "a certification on a subkey", text: forged(key, uid, cert, sub, cert), want: "signature of type 0x13"},
		{name: "a signing subkey that does not sign", text: forged(key, uid, cert, sub, sig(0x18, 2, 27, 2)), want: "flagged for signing, but without a signature of its own"},
		{name: "another's revocation", text: forged(key, revoked[1], uid, cert), want: "revocation by another key, which clients refuse"},
		{name: "user IDs revoked in two ways", text: forged(key, uid, cert, sig(0x30), set(uid, 0, 'x'), sig(0x30)), want: "user IDs revoked with and without a certification"},

		{name: "a certification of another user ID", text: forged(key, set(uid, 0, 'x'), cert), want: "user ID with a signature of its key that does not verify"},
		{name: "a revocation of another user ID", text: forged(key, uid, cert, sign(sig(0x30), primarySecret(), hashedKey(body(key)))), want: "user ID with a signature of its key that does not verify"},
		{name: "a revocation of another key", text: forged(key, sign(sig(0x20), primarySecret(), hashedKey(body(nist[0]))), uid, cert), want: "revocation that does not verify"},
		{name: "a binding of another subkey", text: forged(key, uid, cert, set(sub, 30, 1), bind), want: "signature by its primary key that does not verify"},
		{name: "a revocation of another subkey", text: forged(key, uid, cert, sub, bind, sign(sig(0x28), primarySecret(), hashedKey(body(key)))), want: "signature by its primary key that does not verify"},
		{name: "a signing subkey that another key signed", text: forged(key, uid, cert, signer[0], sig(0x18, append([]byte{2, 27, 2}, embedded(crossSign(nist[0], signer[0]))...)...)),
			want: "flagged for signing, but its signature on the primary key does not verify"},
		{name: "a subkey for encryption, flagged for signing", text: forged(key, uid, cert, sub, sig(0x18, append([]byte{2, 27, 2}, embedded(crossSign(key, sub))...)...)),
			want: "flagged for signing, but its signature on the primary key does not verify"},
		{name: "a certification of another algorithm", text: forged(key, uid, set(cert, 2, 27)), want: "signature packet"},
		{name: "a point that is not on its curve", text: forged(set(nist[0], 20, 0)), want: "key with a point that is not on NIST P-256"},
		{name: "a critical notation in a certification", text: forged(key, uid, sig(0x13, 9, 0x80|20, 0, 0, 0, 0, 0, 0, 0, 0)), want: "self-signature with a critical notation, which clients refuse"},
		{name: "a critical notation in a binding", text: forged(append([][]byte{key, uid, cert}, forgedSigner(9, 0x80|20, 0, 0, 0, 0, 0, 0, 0, 0)...)...),
			want: "signature with a critical notation, which clients refuse"},

		{name: "an empty signature", text: forged(key, uid, packet(2)), want: "signature packet is cut short"},
		{name: "half a signature", text: forged(key, uid, packet(2, body(cert)[:40]...)), want: "signature packet is cut short"},
		{name: "a signature and more", text: forged(key, uid, packet(2, append(body(cert), 0)...)), want: "signature packet has bytes after its last field"},
		{name: "version 6 with another salt", text: forged(v6[0], set(v6[1], 80, 17)), want: "signature with a salt of the wrong size"},
		{name: "no creation time", text: forged(key, uid, signature(0x13, nil, nil)), want: "signature without a creation time"},
		{name: "a creation time that anyone may write", text: forged(key, uid, signature(0x13, nil, own(issuer))), want: "signature without a creation time"},
		{name: "half a time", text: forged(key, uid, signature(0x13, []byte{4, 2, 0, 0, 0}, nil)), want: "signature subpacket of type 2 is cut short"},
		{name: "a time and more", text: forged(key, uid, signature(0x13, []byte{6, 2, 0, 0, 0, 0, 0}, nil)), want: "signature subpacket of type 2 has bytes after its last field"},
		{name: "a subpacket of nothing", text: forged(key, uid, sig(0x13, 0)), want: "signature with a subpacket that is cut short"},
		{name: "half a subpacket", text: forged(key, uid, sig(0x13, 9, 11, 0)), want: "signature with a subpacket that is cut short"},
		{name: "half a subpacket that is not hashed", text: forged(key, uid, signature(0x13, own(issuer), []byte{0xC0})), want: "signature with a subpacket that is cut short"},
		{name: "a subpacket on which clients crash", text: forged(key, uid, sig(0x13, 1, 4)), want: "signature subpacket of type 4 is cut short"},
		{name: "an endless expression", text: forged(key, uid, sig(0x13, 2, 6, 'a')), want: "signature subpacket of type 6 is cut short"},
		{name: "a half cipher suite", text: forged(key, uid, sig(0x13, 2, 39, 9)), want: "signature subpacket of type 39 is cut short"},
		{name: "a notation that miscounts", text: forged(key, uid, sig(0x13, 10, 20, 0, 0, 0, 0, 0, 1, 0, 1, 'a')), want: "signature subpacket of type 20 is cut short"},
		{name: "a fingerprint of version 3", text: forged(key, uid, sig(0x13, append([]byte{22, 33, 3}, issuer...)...)), want: "signature by a key of version 3"},
		{name: "one embedded in a signature by a subkey", text: forged(key, uid, sig(0x19, embedded(sig(0x19))...)), want: "signature with more than one embedded in it"},
		{name: "a short hash for a cipher", text: forged(key, uid, cert, set(set(sub, 54, 11), 55, 9)), want: "subkey: key with derivation parameters 010B09, which clients do not know"},
		{name: "another version's fingerprint", text: forged(key, uid, sig(0x13, append([]byte{22, 33, 6}, issuer...)...)), want: "signature subpacket of type 33 is cut short"},
		{name: "version 6 with a key ID", text: forged(v6[0], packet(2, append([]byte{6, 0x1F, 27, 8, 0, 0, 0, 16, 5, 2, 0, 0, 0, 1, 9, 16, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 16}, make([]byte, 16+64)...)...)), want: "names its issuer by key ID"},
		{name: "an embedded certification", text: forged(key, uid, sig(0x13, embedded(sig(0x13))...)), want: "embedded signature of type 0x13"},
		{name: "half an embedded signature", text: forged(key, uid, sig(0x13, 2, 32, 4)), want: "embedded signature packet is cut short"},
		{name: "two embedded signatures", text: forged(key, uid, sig(0x13, append(embedded(sig(0x19)), embedded(sig(0x19))...)...)), want: "signature with more than one embedded in it"},
		{name: "one embedded in another", text: forged(key, uid, sig(0x13, embedded(sig(0x19, embedded(sig(0x19))...))...)), want: "signature with more than one embedded in it"},
		{name: "half a photo", text: forged(key, uid, cert, packet(17, 9, 1)), want: "user attribute is cut short"},
		{name: "an empty photo", text: forged(key, uid, cert, packet(17, 0)), want: "user attribute is cut short"},
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
