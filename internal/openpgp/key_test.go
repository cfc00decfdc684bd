package openpgp_test

import (
	"fmt"
	"path/filepath"
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
		file: "brainpool-signer.asc", id: "58D9BEE081B1E1B9", fingerprint: "72A9497231B561A3617A0C7958D9BEE081B1E1B9",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "1072E226596F8B71"}},
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
		file: "current.asc", id: "4C862ADB29B08600", fingerprint: "121B56613F49723E9E1B466D4C862ADB29B08600",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "4C862ADB29B08600"}},
	},
	{
		file: "dsa.asc", id: "2F519468AF9C6E16", fingerprint: "1E306896FA3323FFC999B84D2F519468AF9C6E16",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "2F519468AF9C6E16"}},
	},
	{
		file: "ed25519-lapsed-extended.asc", id: "2410C7903D947D99", fingerprint: "374AFE406A9BB3941FBDF6D32410C7903D947D99",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "2F245FEC18C574ED", Expires: unix(1798761600)}},
	},
	{
		file: "ed25519-lapsed.asc", id: "2410C7903D947D99", fingerprint: "374AFE406A9BB3941FBDF6D32410C7903D947D99",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "2F245FEC18C574ED", Expires: unix(1709251200)}},
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
		file: "nistp384.asc", id: "99B8CC6291CF6961", fingerprint: "ED03AB371D8E667D75FAB8BD99B8CC6291CF6961",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "99B8CC6291CF6961"}},
	},
	{
		file: "nistp521.asc", id: "227FF1FA3671828B", fingerprint: "4AD3CA76053B42DB6ED0384B227FF1FA3671828B",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "227FF1FA3671828B"}},
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
		file: "retired.asc", id: "753299FA3BA9EF23", fingerprint: "FEE7BF36E5CE5B37D0875FA8753299FA3BA9EF23",
		created: 1704067200, revoked: true,
		signers: []openpgp.Signer{{ID: "753299FA3BA9EF23", Revoked: true}},
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
		file: "rotated-before.asc", id: "98B70D0EC9894D1A", fingerprint: "0EBBBF88BF7A69BBDE72E11998B70D0EC9894D1A",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "39084C1A28604AE9"}},
	},
	{
		file: "rotated.asc", id: "98B70D0EC9894D1A", fingerprint: "0EBBBF88BF7A69BBDE72E11998B70D0EC9894D1A",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "39084C1A28604AE9", Revoked: true}, {ID: "8832BD956E3F95AF"}},
	},
	{
		file: "rsa.asc", id: "6E37763C9448D3C1", fingerprint: "22828B946E82638F9751422E6E37763C9448D3C1",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "6E37763C9448D3C1"}},
	},
	{
		file: "rsa2048-lapsed.asc", id: "A318346972A0D024", fingerprint: "BEBCB7C719BE258F4A0A27B9A318346972A0D024",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "AB573FB72A002929", Expires: unix(1709251200)}},
	},
	{
		file: "rsa2048.asc", id: "B967CA9C7C01427B", fingerprint: "835A8A08CCCBB215450C507BB967CA9C7C01427B",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "B967CA9C7C01427B"}},
	},
	{
		file: "secp256k1.asc", id: "EC899A8EA487BF95", fingerprint: "ACA2793F554293D0539D1C46EC899A8EA487BF95",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "EC899A8EA487BF95"}},
	},
	{
		file: "subkey.asc", id: "AEB065EBA028D784", fingerprint: "E12FF1CBAF28E0A5A98418D6AEB065EBA028D784",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "C85E0EE60E88D649", Revoked: true}, {ID: "429F128B955544CE", Expires: unix(1772323200)}},
	},
	{
		file: "text.asc", id: "405F06ABC3F2BFB5", fingerprint: "AB5EA7D13AA8E3DC9D9DCC2D405F06ABC3F2BFB5",
		created: 1704067200,
		signers: []openpgp.Signer{{ID: "405F06ABC3F2BFB5"}},
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
	want := map[string][]string{}
	for _, tt := range keyTests {
		want[tt.file] = append(want[tt.file], describe(openpgp.Key{
			ID:          tt.id,
			Fingerprint: tt.fingerprint,
			Created:     unix(tt.created),
			Expires:     unix(tt.expires),
			Revoked:     tt.revoked,
			Signers:     tt.signers,
		}))
	}
	files, err := filepath.Glob("testdata/*.asc")
	if err != nil || len(files) != len(want) {
		t.Errorf("%d files in testdata and %d in the table; %v", len(files), len(want), err)
	}
	for file, want := range want {
		keys, err := openpgp.ReadKeys(read(t, file))
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		var got []string
		for _, k := range keys {
			got = append(got, describe(k))
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s:\n got %v\nwant %v", file, got, want)
		}
	}
}

// describe returns what k tells of itself, without its armor.
func describe(k openpgp.Key) string {
	s := fmt.Sprintf("%s %s created %v expires %v revoked %v", k.ID, k.Fingerprint, k.Created, k.Expires, k.Revoked)
	for _, signer := range k.Signers {
		s += fmt.Sprintf(", signer %s expires %v revoked %v", signer.ID, signer.Expires, signer.Revoked)
	}
	return s
}

// Keys may hold more than gpg writes, as long as clients read them.
func TestReadKeysTolerates(t *testing.T) {
	ed := forgedKey()
	key, uid, cert, sub, bind := ed[0], ed[1], ed[2], ed[3], ed[4]
	signing := split(t, "subkey.asc")
	uids := split(t, "uids.asc")
	issuer := fingerprint(body(key))
	sig := func(kind byte, subpackets ...byte) []byte {
		return signature(kind, append(own(issuer), subpackets...), nil)
	}
	newer := func(subpackets ...byte) []byte { // than sig
		return signature(0x13, slices.Concat([]byte{5, 2, 0x65, 0x92, 0, 0x80}, issuedBy(body(key)), subpackets), nil)
	}
	crossed := sign(sig(0x19), primarySecret(), hashedKey(body(key)), hashedKey(body(key)))
	long := append([]byte{0xC6, 0xFF, 0, 0, 0, byte(len(body(key)))}, body(key)...)
	for _, tt := range []struct {
		name    string
		packets [][]byte
		signers int
	}{
		{name: "nothing more", packets: ed, signers: 1},
		{name: "a long header", packets: [][]byte{long, uid, cert}, signers: 1},
		{name: "markers, trust and what is new", packets: [][]byte{key, packet(10, 'P', 'G', 'P'), uid, packet(12, 6), cert, packet(40), sub, packet(63, 1), bind}, signers: 1},
		{name: "a long user ID", packets: [][]byte{key, packet(13, make([]byte, 200)...), sig(0x13, 2, 27, 2)}, signers: 1},
		{name: "a long subpacket", packets: [][]byte{key, uid, sig(0x13, 255, 0, 0, 0, 2, 27, 2)}, signers: 1},
		{name: "448", packets: [][]byte{key, uid, cert, packet(2, append([]byte{4, 0x13, 28, 8, 0, 6, 5, 2, 0, 0, 0, 1, 0, 0, 0, 0}, make([]byte, 114)...)...),
			packet(14, append([]byte{4, 0, 0, 0, 0, 26}, make([]byte, 56)...)...), sig(0x18),
			packet(14, append([]byte{4, 0, 0, 0, 0, 28}, make([]byte, 57)...)...), sig(0x18)}, signers: 1},
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
		{name: "an older user ID, flagged as primary", packets: [][]byte{key, uid, sig(0x13, 2, 25, 1), set(uid, 0, 'x'), newer(2, 27, 2)}, signers: 0},
		{name: "a newer user ID that is revoked", packets: [][]byte{key, uid, sig(0x13, 2, 27, 2), set(uid, 0, 'x'), newer(), sig(0x30)}, signers: 1},
		{name: "a user ID whose second copy has no flags", packets: [][]byte{key, uid, cert, uid, sig(0x13)}, signers: 0},
		{name: "its primary as a subkey", packets: [][]byte{key, uid, cert, packet(14, body(key)...), sig(0x18, append([]byte{2, 27, 2}, embedded(crossed)...)...)}, signers: 1},
		{name: "a photo and a direct-key signature", packets: [][]byte{key, uid, cert, packet(17, 1, 1), sig(0x1F)}, signers: 1},
		{name: "a direct-key signature without flags", packets: [][]byte{key, signature(0x1F, append([]byte{5, 2, 0xFF, 0, 0, 0}, own(issuer)[6:]...), nil), uid, cert}, signers: 1},
		{name: "a signing subkey", packets: append([][]byte{key, uid, cert}, forgedSigner()...), signers: 2},
		{name: "a critical notation in the binding of a subkey for encryption", packets: [][]byte{key, uid, cert, sub, sig(0x18, 9, 0x80|20, 0, 0, 0, 0, 0, 0, 0, 0)}, signers: 1},
		{name: "a subkey twice", packets: append(slices.Clone(signing), signing[len(signing)-2:]...), signers: 2},
		{name: "a user ID that is only revoked", packets: slices.Concat(uids[:5], uids[5:7]), signers: 1},
	} {
		keys, err := openpgp.ReadKeys([]byte(forged(tt.packets...)))
		if err != nil || len(keys) != 1 || len(keys[0].Signers) != tt.signers {
			t.Errorf("%s: got %v, %v; want one key with %d signers", tt.name, keys, err, tt.signers)
		}
		checkKeys(t, []byte(forged(tt.packets...)))
	}
}

// ReadKeys verifies every signature of a key on itself, as clients do, unless the standard
// library lacks its algorithm.
func TestReadKeysVerifies(t *testing.T) {
	for _, tt := range []struct {
		file   string
		beyond bool
	}{
		{file: "rsa.asc"},
		{file: "rsa2048-lapsed.asc"},
		{file: "hashicorp-2014.asc"},
		{file: "nistp256.asc"},
		{file: "nistp384.asc"},
		{file: "nistp521.asc"},
		{file: "ed25519.asc"},
		{file: "rotated.asc"},
		{file: "revoked.asc"},
		{file: "uids.asc"},
		{file: "rfc9580.asc"},
		{file: "dsa.asc", beyond: true},
		{file: "brainpool.asc", beyond: true},
		{file: "secp256k1.asc", beyond: true},
		{file: "brainpool-signer.asc", beyond: true},
	} {
		packets := split(t, tt.file)
		photo := false
		for i, p := range packets {
			switch tag, head, size := header(p); {
			case tag == 17:
				photo = true // on which clients verify nothing
			case tag != 2:
				photo = false
			case !photo:
				altered := slices.Clone(packets)
				altered[i] = slices.Clone(p)
				altered[i][head+size-1] ^= 1
				_, err := openpgp.ReadKeys([]byte(block(altered...)))
				if verified := err != nil && strings.Contains(err.Error(), "does not verify"); verified == tt.beyond {
					t.Errorf("%s: packet %d altered: got error %v", tt.file, i, err)
				}
			}
		}
	}
}
