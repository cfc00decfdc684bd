package openpgp_test

import (
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri/internal/openpgp"
)

const created = 1717200000 // by gpg, as make.sh sets its clock

var signatureTests = []struct {
	file, issuers    string
	created, expires int64
}{
	{file: "brainpool-signer.sig", issuers: "1072E226596F8B71", created: created},
	{file: "dsa.sig", issuers: "2F519468AF9C6E16", created: created},
	{file: "ed25519-lapsed.sig", issuers: "2F245FEC18C574ED", created: 1706745600},
	{file: "ed25519.sig", issuers: "4E1ABAA349B90D7B", created: created},
	{file: "extended.sig", issuers: "062FCEDAAB1068F6", created: 1706745600},
	{file: "handover.sig", issuers: "753299FA3BA9EF23 4C862ADB29B08600", created: 1706745600},
	{file: "nistp256.sig", issuers: "0A4B172C0FAEE397", created: created},
	{file: "nistp384.sig", issuers: "99B8CC6291CF6961", created: created},
	{file: "nistp521.sig", issuers: "227FF1FA3671828B", created: created},
	{file: "rfc9580.sig", issuers: "CB186C4F0609A697", created: 1670947683},
	{file: "revoked.sig", issuers: "D2C10B560CCE9E11", created: created},
	{file: "rotated-before.sig", issuers: "39084C1A28604AE9", created: 1705276800},
	{file: "rotated.sig", issuers: "8832BD956E3F95AF", created: created},
	{file: "rsa-expiring.sig", issuers: "6E37763C9448D3C1", created: created, expires: created + 30*24*60*60},
	{file: "rsa-sha512.sig", issuers: "6E37763C9448D3C1", created: created},
	{file: "rsa-text.sig", issuers: "6E37763C9448D3C1", created: created},
	{file: "rsa.sig", issuers: "6E37763C9448D3C1", created: created},
	{file: "rsa2048-SHA1.sig", issuers: "B967CA9C7C01427B", created: created},
	{file: "rsa2048-SHA224.sig", issuers: "B967CA9C7C01427B", created: created},
	{file: "rsa2048-SHA256.sig", issuers: "B967CA9C7C01427B", created: created},
	{file: "rsa2048-SHA384.sig", issuers: "B967CA9C7C01427B", created: created},
	{file: "rsa2048-SHA512.sig", issuers: "B967CA9C7C01427B", created: created},
	{file: "rsa2048-lapsed.sig", issuers: "AB573FB72A002929", created: 1706745600},
	{file: "rsa2048.sig", issuers: "B967CA9C7C01427B", created: created},
	{file: "secp256k1.sig", issuers: "EC899A8EA487BF95", created: created},
	{file: "subkey.sig", issuers: "429F128B955544CE", created: created},
	{file: "returns.sig", issuers: "405F06ABC3F2BFB5", created: created},
	{file: "text-binary.sig", issuers: "405F06ABC3F2BFB5", created: created},
	{file: "text.sig", issuers: "405F06ABC3F2BFB5", created: created},
	{file: "two.sig", issuers: "6E37763C9448D3C1 4E1ABAA349B90D7B", created: created},
	{file: "uids.sig", issuers: "55B7D33697DD1B33", created: created},
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

// Clients skip packets that they do not know.
func TestReadSignaturesSkips(t *testing.T) {
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
		{name: "armor", b: read(t, "rsa-armored.sig"), want: "signature is armored"},
		{name: "nothing", b: nil, want: "no signature that clients read: empty file"},
		{name: "text", b: []byte("none"), want: "byte 0x6e where a packet should begin"},
		{name: "a key", b: split(t, "ed25519.asc")[0], want: "a packet of type 6, not a signature"},
		{name: "half", b: sig[:len(sig)-1], want: "packet longer than its block"},
		{name: "a line feed after it", b: append(slices.Clone(sig), '\n'), want: "byte 0x0a where a packet should begin"},
		{name: "a marker", b: packet(10, 'P', 'G', 'P'), want: "no signature that clients read: empty file"},
		{name: "version 3", b: set(sig, 0, 3), want: "no signature that clients read: signature version 3"},
		{name: "MD5", b: set(sig, 3, 1), want: "no signature that clients read: hash algorithm 1"},
		{name: "another algorithm", b: set(sig, 2, 30), want: "no signature that clients read: signature algorithm 30"},
		{name: "a certification", b: set(sig, 1, 0x10), want: "a signature of type 0x10, not over a file"},
		{name: "a critical notation", b: read(t, "rsa-critical.sig"), want: "signature has a critical notation, which clients refuse"},
		{name: "no issuer", b: signature(0, dated, nil), want: "signature does not name its issuer"},
		{name: "two issuers", b: signature(0, append(own(make([]byte, 20)), 9, 16, 1, 2, 3, 4, 5, 6, 7, 8), nil), want: "signature names two issuers"},
		{name: "no creation time", b: signature(0, nil, nil), want: "signature without a creation time"},
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

// A signature of version 6 names its issuer by a fingerprint that begins with the key ID.
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
