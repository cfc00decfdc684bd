package openpgp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	_ "crypto/sha3"   // for the hashes that signatures name
	_ "crypto/sha512" // likewise
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// The errors of [Keyring.Verify] wrap one of these, and say what to do.
var (
	ErrUnknownKey       = errors.New("the signing key is unknown")
	ErrRevokedKey       = errors.New("the signing key is revoked")
	ErrExpiredKey       = errors.New("the signing key has expired")
	ErrExpiredSignature = errors.New("the signature has expired")
	ErrFuture           = errors.New("the signature or its key is dated in the future")
	ErrBadSignature     = errors.New("the signature does not match the file")
	ErrUnverifiable     = errors.New("the signature cannot be verified")
)

// Verify verifies a detached signature file over document, as a client does that is given the
// keys in the order of [Keyring.Order]. It returns the key that made the signature, and returns
// it with an error too if the ring has it.
//
// The error is one of [ReadSignatures], or wraps one of the errors above. A signature that does
// not match the document is always ErrBadSignature, whatever else is wrong with it.
func (r *Keyring) Verify(document, sig []byte, now time.Time) (*RingKey, error) {
	parsed, err := readSignatures(sig)
	if err != nil {
		return nil, err
	}
	signed := statements(parsed)
	key, stated := r.Signer(signed)
	if key == nil {
		return nil, fmt.Errorf("%w: no public key here has the ID %s; add the armored key, or sign with a key that is here",
			ErrUnknownKey, signed[0].Issuer)
	}
	s := &parsed[slices.IndexFunc(parsed, func(s signature) bool { return s.issuer == stated.Issuer })]
	if s.kind == sigText {
		document = canonicalText(document)
	}
	signer := key.signer(stated.Issuer)
	if signer.verifier.refutes(s, document) {
		return key, fmt.Errorf("%w: key %s signed other bytes, or the signature is damaged; sign the file again after its last change",
			ErrBadSignature, signer.ID)
	}
	return key, key.accepts(signer, stated, now)
}

// accepts returns an error unless clients accept a signature by signer that matches its file.
func (k *Key) accepts(signer *Signer, sig *Signature, now time.Time) error {
	expired := func(t time.Time) bool { return !t.IsZero() && !t.After(now) }
	switch {
	case k.Revoked:
		return fmt.Errorf("%w: clients refuse what key %s signed; sign with another key", ErrRevokedKey, k.ID)
	case signer.Revoked:
		return fmt.Errorf("%w: clients refuse what subkey %s of key %s signed; sign with another subkey or key", ErrRevokedKey, signer.ID, k.ID)
	case expired(k.Expires):
		return fmt.Errorf("%w: key %s expired on %s; extend its life and export it again, or sign with another key",
			ErrExpiredKey, k.ID, k.Expires.Format(time.DateOnly))
	case expired(signer.Expires):
		return fmt.Errorf("%w: subkey %s of key %s expired on %s; extend its life and export the key again, or sign with another key",
			ErrExpiredKey, signer.ID, k.ID, signer.Expires.Format(time.DateOnly))
	case expired(sig.Expires):
		return fmt.Errorf("%w on %s: sign again, without an expiry", ErrExpiredSignature, sig.Expires.Format(time.DateOnly))
	case sig.Created.After(now):
		return fmt.Errorf("%w: the signature is of %s; check the clocks here and where it was made",
			ErrFuture, sig.Created.Format(time.RFC3339))
	case unix(signer.since).After(now):
		return fmt.Errorf("%w: key %s is valid from %s on; check the clocks here and where it was made",
			ErrFuture, signer.ID, unix(signer.since).Format(time.RFC3339))
	case signer.beyond != "":
		return fmt.Errorf("%w: key %s needs %s, which this program lacks; sign with an RSA, ECDSA (NIST P-256, P-384 or P-521) or Ed25519 key",
			ErrUnverifiable, signer.ID, signer.beyond)
	}
	return nil
}

// refutes reports whether s cannot be a signature by v over data, which is hashed part by part.
// A key whose algorithm is beyond the standard library refutes nothing.
func (v *verifier) refutes(s *signature, data ...[]byte) bool {
	if v.algo != s.algo {
		return true
	}
	if v.beyond != "" {
		return false
	}
	h := hashes[s.hash].New()
	h.Write(s.salt)
	for _, part := range data {
		h.Write(part)
	}
	h.Write(s.hashed)
	h.Write([]byte{s.version, 0xFF})
	h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s.hashed))))
	sum := h.Sum(nil)
	if s.version > 4 && !bytes.Equal(sum[:2], s.tag) { // in version 4, clients ignore the tag
		return true
	}
	switch public := v.public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, hashes[s.hash].Hash, sum, pad(s.r, public.Size())) != nil
	case *ecdsa.PublicKey:
		return !ecdsa.Verify(public, sum, new(big.Int).SetBytes(s.r), new(big.Int).SetBytes(s.s))
	case ed25519.PublicKey:
		sig := s.r
		if s.algo == algoEdDSA {
			sig = append(pad(s.r, 32), pad(s.s, 32)...)
		}
		return len(sig) != ed25519.SignatureSize || !ed25519.Verify(public, sum, sig)
	}
	return true // a key for encryption, whose algorithm no signature has
}

// pad returns a copy of b with the leading zeros that a multiprecision integer lacks. A b that
// is longer than size stays so.
func pad(b []byte, size int) []byte {
	return append(make([]byte, max(0, size-len(b)), size+len(b)), b...)
}

// canonicalText returns text with the line ends that a signature of type 0x01 covers. Clients
// add a carriage return to a line feed unless the byte before it is a carriage return that does
// not itself follow another one.
func canonicalText(text []byte) []byte {
	canonical := make([]byte, 0, len(text)+bytes.Count(text, []byte("\n")))
	after := false // such a carriage return
	for _, c := range text {
		if c == '\n' && !after {
			canonical = append(canonical, '\r')
		}
		canonical = append(canonical, c)
		after = c == '\r' && !after
	}
	return canonical
}
