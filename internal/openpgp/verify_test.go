package openpgp_test

import (
	"crypto/ed25519"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri/internal/openpgp"
)

// document returns the file that a signature in testdata covers.
func document(t testing.TB, sig string) []byte {
	t.Helper()
	switch sig {
	case "text.sig", "text-binary.sig":
		return read(t, "text")
	case "rfc9580.sig", "returns.sig":
		return read(t, strings.TrimSuffix(sig, ".sig"))
	}
	return read(t, "document")
}

// allKeys returns the keyring of every key in testdata.
func allKeys(t testing.TB) *openpgp.Keyring {
	t.Helper()
	files, err := filepath.Glob("testdata/*.asc")
	if err != nil {
		t.Fatal(err)
	}
	for i, file := range files {
		files[i] = filepath.Base(file)
	}
	return ring(t, files...)
}

// Every signature in testdata covers its document and no other.
func TestVerify(t *testing.T) {
	want := map[string]error{ // without an entry: it verifies
		"brainpool-signer.sig": openpgp.ErrUnverifiable,
		"dsa.sig":              openpgp.ErrUnverifiable,
		"secp256k1.sig":        openpgp.ErrUnverifiable,
		"revoked.sig":          openpgp.ErrRevokedKey,
		"rotated-before.sig":   openpgp.ErrRevokedKey,
		"rsa2048-lapsed.sig":   openpgp.ErrExpiredKey,
		"rsa-expiring.sig":     openpgp.ErrExpiredSignature,
		"returns.sig":          openpgp.ErrBadSignature, // see make.sh
	}
	r := allKeys(t)
	now := unix(created).AddDate(1, 0, 0)
	for _, tt := range signatureTests {
		sig, doc := read(t, tt.file), document(t, tt.file)
		key, err := r.Verify(doc, sig, now)
		if !errors.Is(err, want[tt.file]) {
			t.Errorf("%s: got error %v, want %v", tt.file, err, want[tt.file])
		}
		if key == nil {
			t.Fatalf("%s: got no key", tt.file)
		}
		if ids := strings.Fields(tt.issuers); !key.Signs(ids[len(ids)-1]) && !key.Signs(ids[0]) {
			t.Errorf("%s: got key %v", tt.file, key.ID)
		}
		for _, other := range [][]byte{nil, append([]byte("x"), doc...), append(slices.Clone(doc), 'x'), doc[1:]} {
			_, err := r.Verify(other, sig, now)
			beyond := errors.Is(want[tt.file], openpgp.ErrUnverifiable) && tt.file != "brainpool-signer.sig" // which is Ed25519
			if err == nil || errors.Is(err, openpgp.ErrBadSignature) == beyond {
				t.Errorf("%s: got error %v for another document", tt.file, err)
			}
		}
	}
}

// Verify judges a signature as it is at a time.
func TestVerifyState(t *testing.T) {
	for _, tt := range []struct {
		name, sig string
		files     []string
		now       string
		want      error
		text      string
		key       string // the file of the key that Verify returns
	}{
		{name: "no key", sig: "rsa.sig", now: "2024-06-02", want: openpgp.ErrUnknownKey,
			text: "the signing key is unknown: no public key here has the ID 6E37763C9448D3C1; add the armored key, or sign with a key that is here"},
		{name: "another key", sig: "two.sig", files: []string{"dsa.asc"}, now: "2024-06-02", want: openpgp.ErrUnknownKey,
			text: "the signing key is unknown: no public key here has the ID 6E37763C9448D3C1; add the armored key, or sign with a key that is here"},
		{name: "the second of two signatures", sig: "two.sig", files: []string{"ed25519.asc"}, now: "2024-06-02", key: "ed25519.asc"},
		{name: "another document", sig: "text.sig", files: []string{"text.asc"}, now: "2024-06-02", want: openpgp.ErrBadSignature, key: "text.asc",
			text: "the signature does not match the file: key 405F06ABC3F2BFB5 signed other bytes, or the signature is damaged; sign the file again after its last change"},
		{name: "the day before it was made", sig: "rsa.sig", files: []string{"rsa.asc"}, now: "2024-05-31", want: openpgp.ErrFuture, key: "rsa.asc",
			text: "the signature or its key is dated in the future: the signature is of 2024-06-01T00:00:00Z; check the clocks here and where it was made"},
		{name: "as it was made", sig: "rsa.sig", files: []string{"rsa.asc"}, now: "2024-06-01", key: "rsa.asc"},
		{name: "before its key was extended", sig: "extended.sig", files: []string{"extended.asc"}, now: "2024-02-01", key: "extended.asc"},
		{name: "before its key expires", sig: "extended.sig", files: []string{"extended-before.asc"}, now: "2024-02-29", key: "extended-before.asc"},
		{name: "as its key expires", sig: "extended.sig", files: []string{"extended-before.asc"}, now: "2024-03-01", want: openpgp.ErrExpiredKey, key: "extended-before.asc",
			text: "the signing key has expired: key 062FCEDAAB1068F6 expired on 2024-03-01; extend its life and export it again, or sign with another key"},
		{name: "before its subkey expires", sig: "rsa2048-lapsed.sig", files: []string{"rsa2048-lapsed.asc"}, now: "2024-02-29", key: "rsa2048-lapsed.asc"},
		{name: "as its subkey expires", sig: "rsa2048-lapsed.sig", files: []string{"rsa2048-lapsed.asc"}, now: "2024-03-01", want: openpgp.ErrExpiredKey, key: "rsa2048-lapsed.asc",
			text: "the signing key has expired: subkey AB573FB72A002929 of key A318346972A0D024 expired on 2024-03-01; extend its life and export the key again, or sign with another key"},
		{name: "before its subkey was extended", sig: "ed25519-lapsed.sig", files: []string{"ed25519-lapsed-extended.asc"}, now: "2024-02-14", want: openpgp.ErrFuture, key: "ed25519-lapsed-extended.asc",
			text: "the signature or its key is dated in the future: key 2F245FEC18C574ED is valid from 2024-02-15T00:00:00Z on; check the clocks here and where it was made"},
		{name: "before it expires", sig: "rsa-expiring.sig", files: []string{"rsa.asc"}, now: "2024-06-30", key: "rsa.asc"},
		{name: "as it expires", sig: "rsa-expiring.sig", files: []string{"rsa.asc"}, now: "2024-07-01", want: openpgp.ErrExpiredSignature, key: "rsa.asc",
			text: "the signature has expired on 2024-07-01: sign again, without an expiry"},
		{name: "a revoked key", sig: "revoked.sig", files: []string{"revoked-before.asc", "revoked.asc"}, now: "2024-06-02", want: openpgp.ErrRevokedKey, key: "revoked.asc",
			text: "the signing key is revoked: clients refuse what key D2C10B560CCE9E11 signed; sign with another key"},
		{name: "a revoked subkey", sig: "rotated-before.sig", files: []string{"rotated.asc"}, now: "2024-06-02", want: openpgp.ErrRevokedKey, key: "rotated.asc",
			text: "the signing key is revoked: clients refuse what subkey 39084C1A28604AE9 of key 98B70D0EC9894D1A signed; sign with another subkey or key"},
		{name: "one of two keys revoked", sig: "handover.sig", files: []string{"retired.asc", "current.asc"}, now: "2024-06-02", key: "current.asc"},
		{name: "DSA", sig: "dsa.sig", files: []string{"dsa.asc"}, now: "2024-06-02", want: openpgp.ErrUnverifiable, key: "dsa.asc",
			text: "the signature cannot be verified: key 2F519468AF9C6E16 needs DSA, which this program lacks; sign with an RSA, ECDSA (NIST P-256, P-384 or P-521) or Ed25519 key"},
		{name: "an Ed25519 subkey of a brainpool key", sig: "brainpool-signer.sig", files: []string{"brainpool-signer.asc"}, now: "2024-06-02", want: openpgp.ErrUnverifiable, key: "brainpool-signer.asc",
			text: "the signature cannot be verified: key 1072E226596F8B71 needs ECDSA on brainpoolP256r1, which this program lacks; sign with an RSA, ECDSA (NIST P-256, P-384 or P-521) or Ed25519 key"},
	} {
		now, err := time.Parse(time.DateOnly, tt.now)
		if err != nil {
			t.Fatal(err)
		}
		key, err := ring(t, tt.files...).Verify(read(t, "document"), read(t, tt.sig), now)
		if !errors.Is(err, tt.want) || err != nil && err.Error() != tt.text {
			t.Errorf("%s: got error %v, want %v: %s", tt.name, err, tt.want, tt.text)
		}
		if got := path(key); got != tt.key {
			t.Errorf("%s: got the key of %q, want of %q", tt.name, got, tt.key)
		}
	}
}

func path(key *openpgp.RingKey) string {
	if key == nil {
		return ""
	}
	return key.Path
}

func TestVerifyHashes(t *testing.T) {
	r := forgedRing(t, forgedKey()...)
	for id := range hashIDs {
		for n := range byte(50) { // some of the signatures begin with zeros
			doc := []byte{n}
			sig := makeSignature(0, 22, id, primarySecret(), own(fingerprint(eddsaKey(primarySecret()))), nil, doc)
			if _, err := r.Verify(doc, sig, unix(created)); err != nil {
				t.Errorf("hash %d: document %d: %v", id, n, err)
			}
		}
	}
}

// A key of version 4 may use the newer encoding of Ed25519.
func TestVerifyEd25519(t *testing.T) {
	key := packet(6, append([]byte{4, 0x65, 0x92, 0, 0x80, 27}, primarySecret().Public().(ed25519.PublicKey)...)...)
	hashed := append(own(fingerprint(body(key))), 2, 27, 2)
	cert := makeSignature(0x13, 27, 8, primarySecret(), hashed, nil, hashedKey(body(key)), []byte{0xB4, 0, 0, 0, 1, 'x'})
	r := forgedRing(t, key, packet(13, 'x'), cert)
	doc := []byte("document")
	for _, tt := range []struct {
		algo byte
		want error
	}{
		{algo: 27},
		{algo: 22, want: openpgp.ErrBadSignature},
	} {
		sig := makeSignature(0, tt.algo, 8, primarySecret(), own(fingerprint(body(key))), nil, doc)
		if _, err := r.Verify(doc, sig, unix(created)); !errors.Is(err, tt.want) {
			t.Errorf("algorithm %d: got error %v, want %v", tt.algo, err, tt.want)
		}
	}
}

// The signatures of a key on itself may expire, and may be dated in the future.
func TestVerifySelfSignatures(t *testing.T) {
	ed := forgedKey()
	key, uid := ed[0], ed[1]
	issuer := fingerprint(body(key))
	at := func(seconds byte) []byte { return append([]byte{5, 2, 0x70, 0, 0, seconds}, issuedBy(body(key))...) }
	cert := func(hashed ...byte) []byte { return signature(0x13, hashed, nil) }
	sub := forgedSigner()[0]
	const minute = 60
	lasting := []byte{5, 3, 0, 0, 0, minute}
	since := time.Unix(0x70000000, 0)
	for _, tt := range []struct {
		name    string
		packets [][]byte
		secret  ed25519.PrivateKey
		now     time.Time
		want    error
	}{
		{name: "before the certification", packets: [][]byte{key, uid, cert(append(at(9), 2, 27, 2)...)}, secret: primarySecret(), now: since.Add(8 * time.Second), want: openpgp.ErrFuture},
		{name: "as the certification", packets: [][]byte{key, uid, cert(append(at(9), 2, 27, 2)...)}, secret: primarySecret(), now: since.Add(9 * time.Second)},
		{name: "before the certification expires", packets: [][]byte{key, uid, cert(slices.Concat(at(0), lasting, []byte{2, 27, 2})...)}, secret: primarySecret(), now: since.Add(59 * time.Second)},
		{name: "as the certification expires", packets: [][]byte{key, uid, cert(slices.Concat(at(0), lasting, []byte{2, 27, 2})...)}, secret: primarySecret(), now: since.Add(time.Minute), want: openpgp.ErrExpiredKey},
		{name: "a key of tomorrow", packets: ed[:3], secret: primarySecret(), now: time.Unix(0x65920080-1, 0), want: openpgp.ErrFuture},
		{name: "its only user ID is revoked", packets: [][]byte{key, uid, ed[2], signature(0x30, own(issuer), nil)}, secret: primarySecret(), now: since, want: openpgp.ErrRevokedKey},
		{name: "one of two user IDs is revoked", packets: [][]byte{key, uid, ed[2], signature(0x30, own(issuer), nil), set(uid, 0, 'x'), cert(append(own(issuer), 2, 27, 2)...)}, secret: primarySecret(), now: since},
		{name: "the first of two user IDs has a life", packets: [][]byte{key, uid, cert(append(own(issuer), 2, 27, 2, 5, 9, 0, 0, 0, 1)...), set(uid, 0, 'x'), cert(append(own(issuer), 2, 27, 2)...)},
			secret: primarySecret(), now: since, want: openpgp.ErrExpiredKey}, // clients choose at random
		{name: "a subkey", packets: append(slices.Clone(ed), forgedSigner()...), secret: subkeySecret(), now: since},
		{name: "a subkey of a key of tomorrow", packets: append([][]byte{key, uid, cert(append(at(9), 2, 27, 2)...)}, forgedSigner()...), secret: subkeySecret(), now: since, want: openpgp.ErrFuture},
		{name: "a subkey of an expired key", packets: append([][]byte{key, uid, cert(append(own(issuer), 5, 9, 0, 0, 0, 1)...)}, forgedSigner()...), secret: subkeySecret(), now: since, want: openpgp.ErrExpiredKey},
		{name: "a revoked subkey", packets: append(append(slices.Clone(ed), forgedSigner()...), signature(0x28, own(issuer), nil)), secret: subkeySecret(), now: since, want: openpgp.ErrRevokedKey},
		{name: "a subkey with a life", packets: append(slices.Clone(ed), forgedSigner(5, 9, 0, 0, 0, 1)...), secret: subkeySecret(), now: since, want: openpgp.ErrExpiredKey},
		{name: "a binding that expired", packets: append(slices.Clone(ed), forgedSigner(lasting...)...), secret: subkeySecret(), now: since, want: openpgp.ErrExpiredKey},
		{name: "a cross-signature that expired", packets: append(slices.Clone(ed), sub, binding(key, crossSign(key, sub, lasting...))), secret: subkeySecret(), now: since, want: openpgp.ErrExpiredKey},
		{name: "a cross-signature of tomorrow", packets: append(slices.Clone(ed), sub, binding(key, crossSign(key, sub, 5, 2, 0x70, 0, 0, 9))), secret: subkeySecret(), now: since, want: openpgp.ErrFuture},
		{name: "a binding of tomorrow", packets: append(slices.Clone(ed), forgedSigner(5, 2, 0x70, 0, 0, 9)...), secret: subkeySecret(), now: since, want: openpgp.ErrFuture},
	} {
		doc := []byte("document")
		sig := makeSignature(0, 22, 8, tt.secret, own(fingerprint(eddsaKey(tt.secret))), nil, doc)
		if _, err := forgedRing(t, tt.packets...).Verify(doc, sig, tt.now); !errors.Is(err, tt.want) || err != nil && tt.want == nil {
			t.Errorf("%s: got error %v, want %v", tt.name, err, tt.want)
		}
	}
}

// An RSA key so large that verifying takes long is not used.
func TestVerifyLargeRSA(t *testing.T) {
	number := func(bits int) []byte {
		return slices.Concat([]byte{byte(bits >> 8), byte(bits)}, []byte{1 << ((bits - 1) % 8)}, slices.Repeat([]byte{0xFF}, (bits+7)/8-1))
	}
	for _, tt := range []struct {
		bits int
		want error
	}{
		{bits: 8193, want: openpgp.ErrUnverifiable},
		{bits: 65535, want: openpgp.ErrUnverifiable},
	} {
		key := packet(6, slices.Concat([]byte{4, 0x65, 0x92, 0, 0x80, 1}, number(tt.bits), []byte{0, 17, 1, 0, 1})...)
		hashed := append(own(fingerprint(body(key))), 2, 27, 2)
		rsa := func(kind byte) []byte {
			return packet(2, slices.Concat([]byte{4, kind, 1, 8, 0, byte(len(hashed))}, hashed, []byte{0, 0, 0, 0}, number(tt.bits-1))...)
		}
		r := forgedRing(t, key, packet(13, 'x'), rsa(0x13))
		if _, err := r.Verify(nil, rsa(0), unix(created)); !errors.Is(err, tt.want) {
			t.Errorf("%d bits: got error %v, want %v", tt.bits, err, tt.want)
		}
	}
}

// A key that may not sign is unknown to clients.
func TestVerifyWithoutFlag(t *testing.T) {
	ed := forgedKey()
	r := forgedRing(t, ed[0], ed[1], signature(0x13, append(own(fingerprint(body(ed[0]))), 2, 27, 1), nil))
	sig := makeSignature(0, 22, 8, primarySecret(), own(fingerprint(body(ed[0]))), nil)
	if _, err := r.Verify(nil, sig, unix(created)); !errors.Is(err, openpgp.ErrUnknownKey) {
		t.Errorf("got error %v", err)
	}
}

func forgedRing(t testing.TB, packets ...[]byte) *openpgp.Keyring {
	t.Helper()
	keys, err := openpgp.ReadKeys([]byte(forged(packets...)))
	if err != nil {
		t.Fatal(err)
	}
	return openpgp.NewKeyring([]openpgp.KeyFile{{Path: "forged.asc", Keys: keys}})
}
