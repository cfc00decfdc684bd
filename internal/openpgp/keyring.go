package openpgp

import (
	"slices"
	"time"
)

// A KeyFile is a file of public keys, as [ReadKeys] read it.
type KeyFile struct {
	Path string
	Keys []Key
}

// A RingKey is a key of a [Keyring] and the file it came from.
type RingKey struct {
	Key
	Path string
}

// A Keyring holds the keys that releases may be signed with. It is immutable. What its
// methods return must not be modified.
type Keyring struct {
	keys []RingKey
}

// NewKeyring returns the keys in files, each once. The files are in order of precedence: they
// decide the order of the keys.
//
// Of two copies of a key, a revoked one wins, else the one that expires later, else the one
// with the newer self-signature, else the first.
func NewKeyring(files []KeyFile) *Keyring {
	r := new(Keyring)
	for _, file := range files {
		for _, key := range file.Keys {
			i := slices.IndexFunc(r.keys, func(k RingKey) bool { return k.Fingerprint == key.Fingerprint })
			switch {
			case i < 0:
				r.keys = append(r.keys, RingKey{Key: key, Path: file.Path})
			case key.supersedes(&r.keys[i].Key):
				r.keys[i] = RingKey{Key: key, Path: file.Path}
			}
		}
	}
	return r
}

// supersedes reports whether k is a better copy of the same key than other.
func (k *Key) supersedes(other *Key) bool {
	switch {
	case k.Revoked != other.Revoked:
		return k.Revoked
	case !k.Expires.Equal(other.Expires):
		return earlier(k.Expires, other.Expires).Equal(other.Expires)
	}
	return k.updated > other.updated
}

// Keys returns the keys in their order.
func (r *Keyring) Keys() []RingKey { return r.keys }

// NextExpiry returns when the first of the keys and subkeys that may sign now expires. A zero
// time means never.
func (r *Keyring) NextExpiry(now time.Time) (next time.Time) {
	for _, key := range r.keys {
		for _, signer := range key.Signers {
			if end := earlier(key.Expires, signer.Expires); end.After(now) && !key.Revoked && !signer.Revoked {
				next = earlier(next, end)
			}
		}
	}
	return next
}

// Signer returns the key that clients verify signed with, and the signature that they verify.
// It returns nil, nil if no signature is by a key of the ring.
//
// A client tries one key after the other, and stops at the first that one of the signatures
// names. Signer therefore prefers a key that is not revoked, and of those the key that the
// first signature names. The key must be served before the others: see [Keyring.Order].
func (r *Keyring) Signer(signed []Signature) (*RingKey, *Signature) {
	var key *RingKey
	var sig *Signature
	at, revoked := len(signed), true
	for i := range r.keys {
		k := &r.keys[i]
		j := slices.IndexFunc(signed, func(s Signature) bool { return k.Signs(s.Issuer) })
		if j < 0 {
			continue
		}
		bad := k.Revoked || k.signer(signed[j].Issuer).Revoked
		if key == nil || revoked && !bad || revoked == bad && j < at {
			key, sig, at, revoked = k, &signed[j], j, bad
		}
	}
	return key, sig
}

// Order returns the keys with first in front of the others. Clients try them in order. A nil
// first changes nothing.
func (r *Keyring) Order(first *RingKey) []RingKey {
	if first == nil {
		return r.keys
	}
	keys := make([]RingKey, 1, len(r.keys)+1)
	keys[0] = *first
	for _, k := range r.keys {
		if k.Fingerprint != first.Fingerprint {
			keys = append(keys, k)
		}
	}
	return keys
}

// A Fault is a reason for which clients refuse a signature, or warn of it.
type Fault struct {
	Kind  FaultKind
	Key   *RingKey  // nil for UnknownKey
	KeyID string    // of the key or subkey that made the signature
	When  time.Time // when it expired; zero for UnknownKey and RevokedKey
}

// A FaultKind says what is wrong with a signature or its key.
type FaultKind int

const (
	UnknownKey       FaultKind = iota + 1 // no key of the ring made any of the signatures
	RevokedKey                            // the key or the subkey is revoked
	ExpiredKey                            // the primary key has expired
	ExpiredSubkey                         // the subkey has expired by itself
	ExpiredSignature                      // the signature has expired by itself
)

// Judge returns the faults that clients find in signatures at a time, and the time at which
// that changes although no file does. A zero time means never. Judge does not read the
// signed file.
func (r *Keyring) Judge(signed []Signature, now time.Time) (faults []Fault, until time.Time) {
	key, sig := r.Signer(signed)
	if key == nil {
		fault := Fault{Kind: UnknownKey}
		if len(signed) > 0 {
			fault.KeyID = signed[0].Issuer
		}
		return []Fault{fault}, time.Time{}
	}
	signer := key.signer(sig.Issuer)
	if key.Revoked || signer.Revoked {
		faults = append(faults, Fault{Kind: RevokedKey, Key: key, KeyID: sig.Issuer})
	}
	expiry := func(kind FaultKind, when time.Time) {
		switch {
		case when.IsZero():
		case when.After(now):
			until = earlier(until, when)
		default:
			faults = append(faults, Fault{Kind: kind, Key: key, KeyID: sig.Issuer, When: when})
		}
	}
	expiry(ExpiredKey, key.Expires)
	if signer.ID != key.ID {
		expiry(ExpiredSubkey, signer.Expires)
	}
	expiry(ExpiredSignature, sig.Expires)
	return faults, until
}
