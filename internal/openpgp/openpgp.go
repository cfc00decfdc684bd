// Package openpgp reads the OpenPGP (RFC 4880 and RFC 9580) that a provider registry needs:
// armored public keys and detached signatures. It tells which key made a signature, in which
// state that key is, and what clients will say of both. It verifies what the standard library
// can: RSA, ECDSA on the NIST curves, and Ed25519.
//
// Clients read keys with github.com/ProtonMail/go-crypto. One key that they cannot read fails
// an installation, even if the next key is the right one. This package therefore accepts what
// they accept, or less where no known program writes the rest. The module in directory oracle
// compares the two.
//
// The package does no I/O. Its values are immutable and safe for concurrent use.
package openpgp

import (
	"crypto/rsa"
	"slices"
	"time"
)

// A Key is a primary public key with its subkeys, as a key block states it.
type Key struct {
	ID          string    // the long key ID: 16 upper-case hex digits
	Fingerprint string    // in upper-case hex
	Created     time.Time // in UTC, as are all times here
	Expires     time.Time // zero: never
	Revoked     bool      // clients refuse all its signatures

	// Signers are the keys, among the primary key and the subkeys, whose signatures clients
	// verify: those that are flagged for signing. Each ID is there once.
	Signers []Signer

	// Armor is an armored block of this key alone, in a form that clients read. It is the
	// block that the key was read from if that block is in good form, else a new one.
	Armor string

	updated uint // the time of the newest signature that the key made on itself
}

// A Signer is a primary key or a subkey that may sign.
type Signer struct {
	ID      string    // as in [Signature.Issuer]
	Expires time.Time // zero: never; a subkey may expire before its primary key
	Revoked bool

	verifier verifier
	beyond   string // names what about it cannot be verified; empty: nothing
	since    uint   // its signatures are not valid before this time
}

// Signs reports whether id is the ID of one of the key's signers.
func (k *Key) Signs(id string) bool { return k.signer(id) != nil }

func (k *Key) signer(id string) *Signer {
	i := slices.IndexFunc(k.Signers, func(s Signer) bool { return s.ID == id })
	if i < 0 {
		return nil
	}
	return &k.Signers[i]
}

// Size returns about how many bytes of memory the key takes.
func (k *Key) Size() int {
	const key, signer = 192, 200 // of the structs, with what a signer points to but for RSA
	size := key + len(k.Fingerprint) + len(k.Armor) + signer*len(k.Signers)
	for _, s := range k.Signers {
		if public, ok := s.verifier.public.(*rsa.PublicKey); ok {
			size += public.Size()
		}
	}
	return size
}

func unix(seconds uint) time.Time { return time.Unix(int64(seconds), 0).UTC() }

// end returns the end of a life of so many seconds. Zero seconds mean no end.
func end(created, life uint) time.Time {
	if life == 0 {
		return time.Time{}
	}
	return unix(created).Add(time.Duration(life) * time.Second)
}
