package openpgp

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A Signature is what a detached signature states of itself.
type Signature struct {
	Issuer  string // the ID of the key that made it: 16 upper-case hex digits
	Created time.Time
	Expires time.Time // zero: never
}

// ErrArmored is the error of [ReadSignatures] for a signature in armor.
var ErrArmored = errors.New("signature is armored, and clients read only the binary form: sign without --armor")

// ReadSignatures returns the signatures in a detached signature file, in their order.
//
// It skips signatures whose version or algorithm clients do not know, as they do; a file
// with no others is an error. Anything else in the file at which a client stops is an error
// too, and so is a signature that clients refuse whatever the key.
func ReadSignatures(b []byte) ([]Signature, error) {
	parsed, err := readSignatures(b)
	if err != nil {
		return nil, err
	}
	return statements(parsed), nil
}

// statements returns what signatures state of themselves.
func statements(parsed []signature) []Signature {
	sigs := make([]Signature, len(parsed))
	for i, s := range parsed {
		sigs[i] = Signature{Issuer: s.issuer, Created: unix(s.created), Expires: end(s.created, s.life)}
	}
	return sigs
}

func readSignatures(b []byte) ([]signature, error) {
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN PGP ")) {
		return nil, ErrArmored
	}
	var sigs []signature
	why := "empty file"
	for len(b) > 0 {
		p, rest, err := nextPacket(b)
		if err != nil {
			return nil, err
		}
		b = rest
		if p.ignored() {
			continue
		}
		if p.tag != tagSignature {
			return nil, fmt.Errorf("a packet of type %d, not a signature", p.tag)
		}
		s, err := parseSignature(p.body, false)
		switch {
		case err != nil:
			return nil, err
		case s.foreign != "":
			why = s.foreign
			continue
		case s.kind != sigBinary && s.kind != sigText:
			return nil, fmt.Errorf("a signature of type %#02x, not over a file", s.kind)
		case s.issuer == "":
			return nil, errors.New("signature does not name its issuer")
		case s.disputed:
			return nil, errors.New("signature names two issuers")
		case s.critical:
			return nil, errors.New("signature has a critical notation, which clients refuse")
		}
		sigs = append(sigs, s)
	}
	if len(sigs) == 0 {
		return nil, fmt.Errorf("no signature that clients read: %s", why)
	}
	return sigs, nil
}

const (
	hashSHA1   = 2
	hashSHA224 = 11
)

// hashes maps the hash algorithms that clients know to the implementation and to the size of
// the salt that goes with it in version 6 (RFC 9580, section 9.5). SHA-1 is known up to
// version 4 only, and has no salt.
var hashes = map[byte]struct {
	crypto.Hash
	salt uint
}{
	hashSHA1:   {Hash: crypto.SHA1},
	8:          {Hash: crypto.SHA256, salt: 16},
	9:          {Hash: crypto.SHA384, salt: 24},
	10:         {Hash: crypto.SHA512, salt: 32},
	hashSHA224: {Hash: crypto.SHA224, salt: 16},
	12:         {Hash: crypto.SHA3_256, salt: 16},
	14:         {Hash: crypto.SHA3_512, salt: 32},
}

// Signature types (RFC 9580, section 5.2.1).
const (
	sigBinary            = 0x00
	sigText              = 0x01
	sigGenericCert       = 0x10 // the first of four
	sigPositiveCert      = 0x13 // the last
	sigSubkeyBinding     = 0x18
	sigPrimaryKeyBinding = 0x19
	sigDirectKey         = 0x1F
	sigKeyRevocation     = 0x20
	sigSubkeyRevocation  = 0x28
	sigCertRevocation    = 0x30
)

// A signature is the content of a signature packet, as far as it matters here.
type signature struct {
	foreign string // why clients skip it; empty if they do not

	version, kind, algo byte
	hash                byte
	hashed              []byte // the fields up to the hashed subpackets, which are hashed too
	tag                 []byte // the first two bytes of the hash
	salt                []byte // of version 6
	r, s                []byte // the signature proper; s is not used by RSA, Ed25519 and Ed448
	issuer, fingerprint string
	disputed            bool // names different issuers
	dated               bool // has a creation time
	created, life       uint // in seconds
	keyLife             uint
	sign                bool       // flags a key for signing
	primaryID           bool       // flags its user ID as the primary one
	embedded            *signature // by the subkey
	critical            bool       // has a notation that its readers must know
}

// parseSignature parses the body of a signature packet or of an embedded signature. It
// returns an error for signatures at which clients stop.
func parseSignature(body []byte, embedded bool) (signature, error) {
	f := fields{b: body}
	s := signature{version: f.byte()}
	width := uint(2) // of the sizes of the areas
	switch {
	case s.version == 6:
		width = 4
	case s.version != 4 && !f.short:
		s.foreign = fmt.Sprintf("signature version %d", s.version)
		return s, nil
	}
	s.kind, s.algo, s.hash = f.byte(), f.byte(), f.byte()
	hashed := fields{b: f.take(f.number(width))}
	s.hashed = body[:len(body)-len(f.b)]
	unhashed := fields{b: f.take(f.number(width))}
	s.tag = f.take(2)
	if f.short {
		return s, f.check("signature packet")
	}
	hash, known := hashes[s.hash]
	switch {
	case !known || s.hash == hashSHA1 && s.version > 4:
		s.foreign = fmt.Sprintf("hash algorithm %d", s.hash)
		return s, nil
	case !slices.Contains(signing, s.algo):
		s.foreign = fmt.Sprintf("signature algorithm %d", s.algo)
		return s, nil
	}
	if s.version > 4 {
		if f.number(1) != hash.salt {
			return s, errors.New("signature with a salt of the wrong size")
		}
		s.salt = f.take(hash.salt)
	}
	switch s.algo {
	case algoRSA, algoRSASignOnly:
		s.r = f.mpi()
	case algoEd25519:
		s.r = f.take(64)
	case algoEd448:
		s.r = f.take(114)
	default:
		s.r, s.s = f.mpi(), f.mpi()
	}
	if err := f.check("signature packet"); err != nil {
		return s, err
	}
	for len(hashed.b) > 0 {
		if err := s.readSubpacket(hashed.subpacket(), true, embedded); err != nil {
			return s, err
		}
	}
	for len(unhashed.b) > 0 {
		if err := s.readSubpacket(unhashed.subpacket(), false, embedded); err != nil {
			return s, err
		}
	}
	if !s.dated {
		return s, errors.New("signature without a creation time")
	}
	return s, nil
}

// readSubpacket adds the content of a subpacket to s (RFC 9580, section 5.2.3.7). Of the
// subpackets that are not hashed, clients read the issuer and an embedded signature only.
func (s *signature) readSubpacket(sp []byte, hashed, embedded bool) error {
	if len(sp) == 0 {
		return errors.New("signature with a subpacket that is cut short")
	}
	kind, critical := sp[0]&0x7F, sp[0]&0x80 != 0
	if !hashed && kind != 16 && kind != 32 && kind != 33 {
		return nil
	}
	f := fields{b: sp[1:]}
	switch kind {
	case 2: // creation time
		s.created, s.dated = f.number(4), true
	case 3: // expiration time
		s.life = f.number(4)
	case 4: // exportable certification
		// Clients crash on an empty one.
		if f.byte() == 0 {
			s.foreign = "a signature that is not for others"
		}
	case 5: // trust level and amount
		f.take(2)
	case 6: // regular expression
		f.short = !bytes.HasSuffix(f.rest(), []byte{0})
	case 9: // key expiration time
		s.keyLife = f.number(4)
	case 16: // issuer key ID
		id := f.take(8)
		if s.version > 4 && hashed {
			return errors.New("signature of version 6 that names its issuer by key ID")
		}
		if s.version == 4 {
			s.name(id)
		}
	case 20: // notation
		f.take(4)
		f.take(f.number(2) + f.number(2))
		s.critical = s.critical || critical
	case 25: // primary user ID
		s.primaryID = f.byte() > 0
	case 27: // key flags
		flags := f.rest()
		s.sign = s.sign || len(flags) > 0 && flags[0]&0x02 != 0
	case 29: // reason for revocation
		f.take(1)
		f.rest()
	case 32: // embedded signature
		if embedded || s.embedded != nil || s.kind == sigPrimaryKeyBinding {
			return errors.New("signature with more than one embedded in it")
		}
		in, err := parseSignature(f.rest(), true)
		switch {
		case err != nil:
			return fmt.Errorf("embedded %w", err)
		case in.foreign != "":
			s.foreign = in.foreign
		case in.kind != sigPrimaryKeyBinding:
			return fmt.Errorf("embedded signature of type %#02x", in.kind)
		}
		s.embedded = &in
	case 33, 35: // fingerprints of the issuer, of an intended recipient
		version, size, id := f.byte(), uint(20), 12
		if version > 4 {
			size, id = 32, 0
		}
		if fp := f.take(size); kind == 33 && !f.short {
			if version != 4 && version != 6 { // versions of clients differ in what they make of it
				return fmt.Errorf("signature by a key of version %d", version)
			}
			s.fingerprint = hex(fp)
			s.name(fp[id : id+8])
		}
	case 39: // preferred cipher suites
		f.short = len(f.rest())%2 != 0
	case 11, 21, 22, 23, 24, 26, 28, 30: // preferences, addresses, features
		f.rest()
	default:
		f.rest()
		if critical {
			s.foreign = fmt.Sprintf("critical subpacket of type %d", kind)
		}
	}
	return f.check(fmt.Sprintf("signature subpacket of type %d", kind))
}

// name sets the issuer of s.
func (s *signature) name(id []byte) {
	s.disputed = s.disputed || s.issuer != "" && s.issuer != hex(id)
	s.issuer = hex(id)
}
