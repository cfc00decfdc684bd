package openpgp

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A part is a packet of a key, with the signatures on it.
type part struct {
	tag    byte
	userID string    // if it is a user ID
	key    publicKey // if it is a primary key or a subkey
	sigs   []signature
}

// newest returns the newest signature on p of a type from low to high that names k as its
// issuer. It returns the first of several, and nil if there is none.
func (p *part) newest(k *publicKey, low, high byte) *signature {
	var last *signature
	for i := range p.sigs {
		if s := &p.sigs[i]; low <= s.kind && s.kind <= high && k.made(s) && (last == nil || s.created > last.created) {
			last = s
		}
	}
	return last
}

// readKey returns the key that packets hold, without its Armor.
func readKey(packets []packet) (Key, error) {
	switch first := packets[0]; first.tag {
	case tagPublicKey:
	case tagSecretKey:
		return Key{}, errPrivate
	default:
		return Key{}, fmt.Errorf("a packet of type %d where a public key should begin", first.tag)
	}
	primary, err := parsePublicKey(packets[0].body)
	if err != nil {
		return Key{}, err
	}
	parts := []part{{tag: tagPublicKey, key: primary}}
	for _, p := range packets[1:] {
		if parts, err = appendPacket(parts, p); err != nil {
			return Key{}, fmt.Errorf("key %s: %w", primary.id, err)
		}
	}
	k, err := readParts(&primary, parts)
	if err != nil {
		return Key{}, fmt.Errorf("key %s: %w", primary.id, err)
	}
	return k, nil
}

// appendPacket adds a signature to the last part, and most other packets after it.
func appendPacket(parts []part, p packet) ([]part, error) {
	switch {
	case p.ignored():
	case p.tag == tagSignature:
		s, err := parseSignature(p.body, false)
		if err != nil {
			return nil, err
		}
		if last := &parts[len(parts)-1]; s.foreign == "" {
			last.sigs = append(last.sigs, s)
		}
	case p.tag == tagPublicSubkey:
		// An error even for an unknown algorithm: clients skip such a subkey, and then
		// take its signatures for signatures on the part before.
		sub, err := parsePublicKey(p.body)
		if err != nil {
			return nil, fmt.Errorf("subkey: %w", err)
		}
		parts = append(parts, part{tag: p.tag, key: sub})
	case p.tag == tagUserAttribute:
		for f := (fields{b: p.body}); len(f.b) > 0; {
			if f.subpacket(); f.short {
				return nil, f.check("user attribute")
			}
		}
		parts = append(parts, part{tag: p.tag})
	case p.tag == tagUserID:
		parts = append(parts, part{tag: p.tag, userID: string(p.body)})
	case p.tag == tagPadding:
		parts = append(parts, part{tag: p.tag})
	case p.tag == tagSecretSubkey:
		return nil, errPrivate
	default:
		return nil, fmt.Errorf("a packet of type %d, which does not belong in a key", p.tag)
	}
	return parts, nil
}

// readParts returns the key that is made of parts.
func readParts(primary *publicKey, parts []part) (Key, error) {
	k := Key{ID: primary.id, Fingerprint: primary.fingerprint, Created: unix(primary.created)}
	if !slices.Contains(signing, primary.algo) {
		return k, fmt.Errorf("primary key of algorithm %d, which cannot sign", primary.algo)
	}
	var ids identities
	var direct *signature // in version 6, it has the place of the user IDs
	for i := range parts {
		p := &parts[i]
		k.note(primary, p)
		switch p.tag {
		case tagUserID:
			if err := ids.add(primary, p); err != nil {
				return k, err
			}
		case tagPublicSubkey:
			signer, err := p.readSubkey(primary)
			if err != nil {
				return k, fmt.Errorf("subkey %s: %w", p.key.id, err)
			}
			if signer != nil && !k.Signs(signer.ID) {
				k.Signers = append(k.Signers, *signer)
			}
		default:
			revoked, err := p.revokes(primary)
			if err != nil {
				return k, err
			}
			k.Revoked = k.Revoked || revoked
			if last := p.newest(primary, sigDirectKey, sigDirectKey); last != nil && (direct == nil || last.created > direct.created) {
				direct = last
			}
		}
	}
	var self []*signature // clients take the key's properties from one of these
	switch {
	case primary.version == 4:
		best, err := ids.primary()
		if err != nil {
			return k, err
		}
		for _, id := range best {
			self = append(self, id.self)
			k.Revoked = k.Revoked || id.revocations > 0
		}
	case direct == nil:
		return k, errors.New("no direct-key signature of its own")
	case primary.refutes(direct, primary.hashed()):
		return k, errors.New("direct-key signature that does not verify")
	default:
		self = append(self, direct)
	}
	return k, k.describe(primary, self)
}

// describe sets the properties that self, the self-signatures of primary, give the key.
func (k *Key) describe(primary *publicKey, self []*signature) error {
	signs, since := true, primary.created
	for _, s := range self {
		if s.critical {
			return errors.New("self-signature with a critical notation, which clients refuse")
		}
		signs, since = signs && s.sign, max(since, s.created)
		k.Expires = earlier(k.Expires, earlier(end(primary.created, s.keyLife), end(s.created, s.life)))
	}
	for i := range k.Signers {
		k.Signers[i].since = max(since, k.Signers[i].since)
	}
	if signs && !k.Signs(k.ID) {
		k.Signers = slices.Insert(k.Signers, 0, Signer{
			ID: k.ID, Expires: k.Expires, Revoked: k.Revoked,
			verifier: primary.verifier, beyond: primary.beyond, since: since,
		})
	}
	return nil
}

// revokes reports whether there is a signature on p that revokes primary.
func (p *part) revokes(primary *publicKey) (bool, error) {
	revoked := false
	for i := range p.sigs {
		switch s := &p.sigs[i]; {
		case s.kind != sigKeyRevocation:
		case !primary.made(s):
			return false, errors.New("revocation by another key, which clients refuse")
		case primary.refutes(s, primary.hashed()):
			return false, errors.New("revocation that does not verify")
		default:
			revoked = true
		}
	}
	return revoked, nil
}

// note sets k.updated by the signatures of primary on p.
func (k *Key) note(primary *publicKey, p *part) {
	for i := range p.sigs {
		if s := &p.sigs[i]; primary.made(s) {
			k.updated = max(k.updated, s.created)
		}
	}
}

// earlier returns the earlier of two ends, of which the zero time is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// An identity is a user ID with the primary key's own signatures on it.
type identity struct {
	userID      string
	self        *signature // the newest certification; nil: it is only revoked
	revocations int
}

type identities []identity

// add adds the user ID p unless the primary key has signed nothing on it. Of two parts with
// the same user ID, the later one counts.
func (ids *identities) add(primary *publicKey, p *part) error {
	id := identity{userID: p.userID, self: p.newest(primary, sigGenericCert, sigPositiveCert)}
	hashed := binary.BigEndian.AppendUint32([]byte{0xB4}, uint32(len(p.userID)))
	for i := range p.sigs {
		switch s := &p.sigs[i]; {
		case s.kind != sigCertRevocation && (s.kind < sigGenericCert || s.kind > sigPositiveCert):
			return fmt.Errorf("user ID with a signature of type %#02x", s.kind)
		case !primary.made(s):
		case primary.refutes(s, primary.hashed(), hashed, []byte(p.userID)):
			return errors.New("user ID with a signature of its key that does not verify")
		case s.kind == sigCertRevocation:
			id.revocations++
		}
	}
	if id.self == nil && id.revocations == 0 {
		return nil
	}
	*ids = append(slices.DeleteFunc(*ids, func(other identity) bool { return other.userID == id.userID }), id)
	return nil
}

// primary returns the user IDs one of which clients take a version 4 key's properties from:
// those with the fewest revocations, of them those flagged as primary, of them the newest.
// Clients choose at random among several.
func (ids identities) primary() ([]identity, error) {
	var best []identity
	var bare, both bool // there are revoked user IDs without a certification, and with one
	for _, id := range ids {
		if id.revocations > 0 {
			bare, both = bare || id.self == nil, both || id.self != nil
		}
		switch {
		case id.self == nil:
		case len(best) == 0 || id.before(&best[0]):
			best = []identity{id}
		case !best[0].before(&id):
			best = append(best, id)
		}
	}
	switch {
	case len(best) == 0:
		return nil, errors.New("no user ID with a certification of its own")
	case bare && both:
		return nil, errors.New("user IDs revoked with and without a certification, which crash clients")
	}
	return best, nil
}

// before reports whether clients prefer id to other. Both have a certification.
func (id *identity) before(other *identity) bool {
	switch {
	case id.revocations != other.revocations:
		return id.revocations < other.revocations
	case id.self.primaryID != other.self.primaryID:
		return id.self.primaryID
	}
	return id.self.created > other.self.created
}

// readSubkey returns the subkey p of primary as a signer, or nil if it may not sign.
func (p *part) readSubkey(primary *publicKey) (*Signer, error) {
	signer := &Signer{ID: p.key.id, verifier: p.key.verifier, beyond: cmp.Or(primary.beyond, p.key.beyond)}
	for i := range p.sigs {
		switch s := &p.sigs[i]; {
		case s.kind != sigSubkeyBinding && s.kind != sigSubkeyRevocation:
			return nil, fmt.Errorf("signature of type %#02x", s.kind)
		case !primary.made(s):
			return nil, errors.New("signature by another key than the primary")
		case primary.refutes(s, primary.hashed(), p.key.hashed()):
			return nil, errors.New("signature by its primary key that does not verify")
		case s.sign && s.embedded == nil:
			return nil, errors.New("flagged for signing, but without a signature of its own on the primary key")
		case s.sign && p.key.refutes(s.embedded, primary.hashed(), p.key.hashed()):
			return nil, errors.New("flagged for signing, but its signature on the primary key does not verify")
		case s.kind == sigSubkeyRevocation:
			signer.Revoked = true
		}
	}
	binding := p.newest(primary, sigSubkeyBinding, sigSubkeyBinding)
	switch {
	case binding == nil:
		return nil, errors.New("no signature that binds it to the primary key")
	case !binding.sign:
		return nil, nil
	}
	signer.Expires, signer.since = end(p.key.created, binding.keyLife), p.key.created
	for _, s := range []*signature{binding, binding.embedded} {
		if s.critical {
			return nil, errors.New("signature with a critical notation, which clients refuse")
		}
		signer.Expires, signer.since = earlier(signer.Expires, end(s.created, s.life)), max(signer.since, s.created)
	}
	return signer, nil
}
