// Package openpgp reads just enough of OpenPGP (RFC 4880 and RFC 9580) to tell which key
// made a detached signature, and in what state a public key is.
//
// It verifies nothing cryptographically. It need not: whoever installs a provider verifies
// its signature, with the keys that the registry names. The registry has to pick those keys,
// put the right one first, and say what is wrong with the others before a client does. So
// nothing that this package returns is proof of anything.
//
// Clients read keys with github.com/ProtonMail/go-crypto, and one key that they cannot
// read makes an installation fail even where the next one is right. What is accepted here is
// what they accept, or less where no program is known to write the rest. What they
// refuse and this package does not notice is a self-signature that does not verify.
package openpgp

import (
	"bytes"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// A Key is a primary public key with its subkeys, as it stands in a key block.
type Key struct {
	ID          string    // the long key ID: 16 upper-case hex digits
	Fingerprint string    // in upper-case hex
	Created     time.Time // in UTC, as are all times here
	Expires     time.Time // the zero time: never
	Revoked     bool      // by a signature of its own

	// Signers are the IDs of those keys, among the primary and the subkeys, whose
	// signatures clients look at: flagged for signing and, if a subkey, not revoked.
	// Whether the whole key is revoked or expired makes no difference. It is never nil.
	Signers []string

	// Armor is a block that holds this key alone: the block that it was read from, if
	// that held no other and was in good form, or one written anew.
	Armor string
}

// A Signature is what a detached signature says of itself.
type Signature struct {
	Issuer  string // the ID of the key that made it, as in [Key.Signers]
	Created time.Time
	Expires time.Time // the zero time: never
}

// ErrArmored is the error of [ReadSignatures] for a signature in armor.
var ErrArmored = errors.New("signature is armored, and clients read only the binary form")

// ReadSignatures returns the signatures of a detached signature file, in their order.
// Clients go by the first of them whose issuer is among their keys.
//
// Signatures of a version or an algorithm that clients do not know they pass over, and
// so does ReadSignatures; a file of no others is an error. So is anything in the file at
// which a client may stop, and a signature that it refuses whatever the key.
func ReadSignatures(b []byte) ([]Signature, error) {
	if bytes.HasPrefix(bytes.TrimSpace(b), []byte("-----BEGIN PGP ")) {
		return nil, ErrArmored
	}
	var sigs []Signature
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
		sigs = append(sigs, Signature{s.issuer, unix(s.created), end(s.created, s.life)})
	}
	if len(sigs) == 0 {
		return nil, fmt.Errorf("no signature that clients read: %s", why)
	}
	return sigs, nil
}

func unix(seconds uint) time.Time { return time.Unix(int64(seconds), 0).UTC() }

// end returns when a life of so many seconds ends. No seconds at all are endless.
func end(created, life uint) time.Time {
	if life == 0 {
		return time.Time{}
	}
	return unix(created).Add(time.Duration(life) * time.Second)
}

// Packet types (RFC 9580, section 5).
const (
	tagSignature     = 2
	tagSecretKey     = 5
	tagPublicKey     = 6
	tagSecretSubkey  = 7
	tagMarker        = 10
	tagTrust         = 12
	tagUserID        = 13
	tagPublicSubkey  = 14
	tagUserAttribute = 17
	tagPadding       = 21
	tagNonCritical   = 40 // this one and those above
)

// A packet is what everything in OpenPGP is made of.
type packet struct {
	tag  byte
	body []byte
}

// nextPacket returns the first packet of b, and what comes after it.
func nextPacket(b []byte) (p packet, rest []byte, err error) {
	f := fields{b: b}
	first := f.byte()
	var size uint
	switch {
	case first&0x80 == 0:
		return p, nil, fmt.Errorf("byte %#02x where a packet should begin", first)
	case first&0x40 != 0:
		p.tag = first & 0x3F
		size = f.number(1)
		switch {
		case size == 255:
			size = f.number(4)
		case size >= 224: // meant for data, not for keys and signatures
			return p, nil, errors.New("packet of partial length")
		case size >= 192:
			size = (size-192)<<8 + f.number(1) + 192
		}
	case first&3 == 3:
		return p, nil, errors.New("packet of indeterminate length")
	default:
		p.tag = first >> 2 & 0x0F
		size = f.number(1 << (first & 3))
	}
	p.body = f.take(size)
	if f.short {
		return p, nil, errors.New("packet longer than its block")
	}
	if p.tag == tagMarker && string(p.body) != "PGP" {
		return p, nil, errors.New("malformed marker packet")
	}
	return p, f.b, nil
}

// ignored reports whether p means nothing to clients wherever it stands.
func (p packet) ignored() bool {
	return p.tag == tagMarker || p.tag == tagTrust || p.tag >= tagNonCritical
}

// fields takes one field after the other off the front of b. Past its end it yields zeros
// and stays short, so that a run of fields needs but one check.
type fields struct {
	b     []byte
	short bool
}

func (f *fields) take(n uint) []byte {
	if n > uint(len(f.b)) {
		f.b, f.short = nil, true
		return nil
	}
	field := f.b[:n]
	f.b = f.b[n:]
	return field
}

func (f *fields) rest() []byte { return f.take(uint(len(f.b))) }

// number takes a big-endian number of up to four bytes.
func (f *fields) number(size uint) uint {
	var n uint
	for _, c := range f.take(size) {
		n = n<<8 | uint(c)
	}
	return n
}

func (f *fields) byte() byte { return byte(f.number(1)) }

// mpi takes a multiprecision integer.
func (f *fields) mpi() []byte { return f.take((f.number(2) + 7) / 8) }

// subpacket takes a subpacket of a signature or of a user attribute. One without even
// a type makes f short.
func (f *fields) subpacket() []byte {
	size := f.number(1)
	switch {
	case size == 255:
		size = f.number(4)
	case size >= 192:
		size = (size-192)<<8 + f.number(1) + 192
	}
	f.short = f.short || size == 0
	return f.take(size)
}

// check returns an error unless the fields taken were all there, and there are no others.
func (f *fields) check(what string) error {
	switch {
	case f.short:
		return fmt.Errorf("%s is cut short", what)
	case len(f.b) > 0:
		return fmt.Errorf("%s is longer than what it holds", what)
	}
	return nil
}

// Public key algorithms (RFC 9580, section 9.1) that need a curve.
const (
	algoECDH  = 18
	algoECDSA = 19
	algoEdDSA = 22
)

// signing holds the algorithms of the signatures that clients know: RSA (two of them), DSA,
// ECDSA, EdDSA, Ed25519 and Ed448.
var signing = []byte{1, 3, 17, algoECDSA, algoEdDSA, 27, 28}

// pointSize holds the curves for ECDSA and ECDH that clients know, by object identifier
// (RFC 9580, section 9.2).
var pointSize = map[string]int{
	"\x2A\x86\x48\xCE\x3D\x03\x01\x07":     65,  // NIST P-256
	"\x2B\x81\x04\x00\x22":                 97,  // NIST P-384
	"\x2B\x81\x04\x00\x23":                 133, // NIST P-521
	"\x2B\x81\x04\x00\x0A":                 65,  // secp256k1
	"\x2B\x24\x03\x03\x02\x08\x01\x01\x07": 65,  // brainpoolP256r1
	"\x2B\x24\x03\x03\x02\x08\x01\x01\x0B": 97,  // brainpoolP384r1
	"\x2B\x24\x03\x03\x02\x08\x01\x01\x0D": 129, // brainpoolP512r1
}

// The other two curves have an algorithm each, and only up to version 4.
const (
	curve25519 = "\x2B\x06\x01\x04\x01\x97\x55\x01\x05\x01" // ECDH
	ed25519    = "\x2B\x06\x01\x04\x01\xDA\x47\x0F\x01"     // EdDSA
)

// saltSize holds the hash algorithms that clients know, with the size of the salt that
// goes with each in version 6 (RFC 9580, section 9.5).
var saltSize = map[byte]uint{8: 16, 9: 24, 10: 32, 11: 16, 12: 16, 14: 32}

const hashSHA1 = 2 // which clients know up to version 4

// keyWraps holds the ciphers that clients know for ECDH (RFC 9580, section 9.3).
var keyWraps = []byte{2, 3, 7, 8, 9}

// A publicKey is what is in the packet of a primary key or a subkey.
type publicKey struct {
	version, algo   byte
	created         uint
	id, fingerprint string
}

func parsePublicKey(body []byte) (publicKey, error) {
	f := fields{b: body}
	k := publicKey{version: f.byte(), created: f.number(4), algo: f.byte()}
	switch k.version {
	case 4:
		sum := sha1.Sum(append([]byte{0x99, byte(len(body) >> 8), byte(len(body))}, body...))
		k.id, k.fingerprint = hex(sum[12:]), hex(sum[:])
	case 6:
		sum := sha256.Sum256(append(binary.BigEndian.AppendUint32([]byte{0x9B}, uint32(len(body))), body...))
		k.id, k.fingerprint = hex(sum[:8]), hex(sum[:])
		if size := f.number(4); size != uint(len(f.b)) {
			f.short = true
		}
	case 2, 3, 5:
		return k, fmt.Errorf("key version %d, which clients do not read", k.version)
	default:
		return k, fmt.Errorf("unknown key version %d", k.version)
	}

	switch k.algo {
	case 1, 2, 3: // RSA
		n, e := f.mpi(), f.mpi()
		if bits := new(big.Int).SetBytes(n).BitLen(); bits < 1024 && !f.short {
			return k, fmt.Errorf("RSA key of %d bits, which clients refuse", bits)
		} else if len(e) > 3 {
			return k, errors.New("RSA key with a large exponent, which clients refuse")
		}
	case 16: // ElGamal
		_, _, _ = f.mpi(), f.mpi(), f.mpi()
	case 17: // DSA
		_, _, _, _ = f.mpi(), f.mpi(), f.mpi(), f.mpi()
	case algoECDH, algoECDSA, algoEdDSA:
		if err := k.parsePoint(&f); err != nil {
			return k, err
		}
	case 25, 27: // X25519, Ed25519
		f.take(32)
	case 26: // X448
		f.take(56)
	case 28: // Ed448
		f.take(57)
	default:
		return k, fmt.Errorf("key algorithm %d, which clients do not know", k.algo)
	}
	return k, f.check("key packet")
}

// parsePoint takes the fields of an algorithm that needs a curve.
func (k *publicKey) parsePoint(f *fields) error {
	oid := string(f.take(f.number(1)))
	size, prefix := 0, byte(0x04)
	switch {
	case k.version == 4 && (k.algo == algoECDH && oid == curve25519 || k.algo == algoEdDSA && oid == ed25519):
		size, prefix = 33, 0x40
	case k.algo != algoEdDSA:
		size = pointSize[oid]
	}
	if size == 0 && !f.short {
		return fmt.Errorf("key on curve %X, which clients do not know for algorithm %d", oid, k.algo)
	}
	if p := f.mpi(); !f.short && (len(p) != size || p[0] != prefix) {
		return errors.New("key with a malformed point")
	}
	if k.algo != algoECDH {
		return nil
	}
	kdf := f.take(f.number(1))
	if !f.short && (len(kdf) != 3 || kdf[0] != 1 || saltSize[kdf[1]] == 0 || !slices.Contains(keyWraps, kdf[2])) {
		return fmt.Errorf("key with derivation parameters %X, which clients do not know", kdf)
	}
	return nil
}

// made reports whether s names k as its issuer.
func (k *publicKey) made(s *signature) bool {
	if s.fingerprint != "" {
		return s.fingerprint == k.fingerprint
	}
	return s.issuer == k.id
}

func hex(b []byte) string { return fmt.Sprintf("%X", b) }

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

// A signature is what is in a signature packet, as far as it matters here.
type signature struct {
	foreign string // why clients pass over it; empty if they do not

	version, kind, algo byte
	issuer, fingerprint string
	disputed            bool // names different issuers
	dated               bool // says when it was created
	created, life       uint // in seconds
	keyLife             uint
	sign                bool // flags a key for signing
	crossed             bool // embeds a signature by the subkey
	critical            bool // has a notation that its readers must know
}

// parseSignature reads the body of a signature packet, or a signature embedded in another.
// It fails for signatures at which clients stop.
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
	s.kind, s.algo = f.byte(), f.byte()
	hash := f.byte()
	hashed := fields{b: f.take(f.number(width))}
	unhashed := fields{b: f.take(f.number(width))}
	f.take(2) // of the hash
	if f.short {
		return s, f.check("signature packet")
	}
	salt, known := saltSize[hash]
	if !known && (hash != hashSHA1 || s.version > 4) {
		s.foreign = fmt.Sprintf("hash algorithm %d", hash)
		return s, nil
	}
	if !slices.Contains(signing, s.algo) {
		s.foreign = fmt.Sprintf("signature algorithm %d", s.algo)
		return s, nil
	}
	if s.version > 4 && (f.number(1) != salt || f.take(salt) == nil) {
		return s, errors.New("signature with a salt of the wrong size")
	}
	switch s.algo {
	case 1, 3: // RSA
		f.mpi()
	case 27: // Ed25519
		f.take(64)
	case 28: // Ed448
		f.take(114)
	default:
		_, _ = f.mpi(), f.mpi()
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

// readSubpacket adds to s what a subpacket says (RFC 9580, section 5.2.3.7). Of what is not
// hashed clients look at the issuer and at an embedded signature only.
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
		f.take(1)
	case 27: // key flags
		flags := f.rest()
		s.sign = s.sign || len(flags) > 0 && flags[0]&0x02 != 0
	case 29: // reason for revocation
		f.take(1)
		f.rest()
	case 32: // embedded signature
		if embedded || s.crossed {
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
		s.crossed = true
	case 33, 35: // fingerprints of the issuer, of an intended recipient
		size, id := uint(20), 12
		if f.byte() > 4 {
			size, id = 32, 0
		}
		if fp := f.take(size); kind == 33 && !f.short {
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

// A part is a packet of a key with the signatures that stand on it.
type part struct {
	tag  byte
	key  publicKey // if it is a primary key or a subkey
	sigs []signature
}

// newest returns the newest of the signatures on p of types from low to high that k says it
// made, the first of them if there are several, or nil.
func (p *part) newest(k *publicKey, low, high byte) *signature {
	var last *signature
	for i := range p.sigs {
		if s := &p.sigs[i]; low <= s.kind && s.kind <= high && k.made(s) {
			last = newer(last, s)
		}
	}
	return last
}

// newer returns b if it is newer than a, else a. Either may be nil.
func newer(a, b *signature) *signature {
	if a == nil || b != nil && b.created > a.created {
		return b
	}
	return a
}

// readKey reads one key, but for its Armor.
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
	k := Key{
		ID:          primary.id,
		Fingerprint: primary.fingerprint,
		Created:     unix(primary.created),
		Signers:     []string{},
	}
	parts := []part{{tag: tagPublicKey, key: primary}}
	for _, p := range packets[1:] {
		if parts, err = appendPacket(parts, p); err != nil {
			return Key{}, fmt.Errorf("key %s: %w", k.ID, err)
		}
	}
	if err := k.readParts(&primary, parts); err != nil {
		return Key{}, fmt.Errorf("key %s: %w", k.ID, err)
	}
	return k, nil
}

// appendPacket puts a signature on the last part, and most other packets after it.
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
		// A subkey that clients passed over would leave its signatures to the part before.
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
	case p.tag == tagUserID || p.tag == tagPadding:
		parts = append(parts, part{tag: p.tag})
	case p.tag == tagSecretSubkey:
		return nil, errPrivate
	default:
		return nil, fmt.Errorf("a packet of type %d, which does not belong in a key", p.tag)
	}
	return parts, nil
}

// readParts adds to k what its parts and their signatures say.
func (k *Key) readParts(primary *publicKey, parts []part) error {
	if !slices.Contains(signing, primary.algo) {
		return fmt.Errorf("primary key of algorithm %d, which cannot sign", primary.algo)
	}
	// Clients take a primary key's properties from the newest signature on its user
	// IDs or, in version 6, on the key itself.
	var self *signature
	var bare, both bool // there are user IDs revoked without a certification, and with one
	for _, p := range parts {
		switch p.tag {
		case tagUserID:
			for _, s := range p.sigs {
				if (s.kind < sigGenericCert || s.kind > sigPositiveCert) && s.kind != sigCertRevocation {
					return fmt.Errorf("user ID with a signature of type %#02x", s.kind)
				}
			}
			cert := p.newest(primary, sigGenericCert, sigPositiveCert)
			if p.newest(primary, sigCertRevocation, sigCertRevocation) != nil {
				bare, both = bare || cert == nil, both || cert != nil
			}
			if primary.version == 4 {
				self = newer(self, cert)
			}
		case tagPublicSubkey:
			signs, err := p.readSubkey(primary)
			if err != nil {
				return fmt.Errorf("subkey %s: %w", p.key.id, err)
			}
			if signs && !slices.Contains(k.Signers, p.key.id) {
				k.Signers = append(k.Signers, p.key.id)
			}
		default:
			for _, s := range p.sigs {
				if s.kind == sigKeyRevocation && !primary.made(&s) {
					return errors.New("revocation by another key, which clients refuse")
				}
				k.Revoked = k.Revoked || s.kind == sigKeyRevocation
			}
			if primary.version == 6 {
				self = newer(self, p.newest(primary, sigDirectKey, sigDirectKey))
			}
		}
	}
	switch {
	case self == nil && primary.version == 6:
		return errors.New("no direct-key signature of its own")
	case self == nil:
		return errors.New("no user ID with a certification of its own")
	case primary.version == 4 && bare && both:
		// Looking for the primary user ID, they compare certifications that are not there.
		return errors.New("user IDs revoked with and without a certification, which crash clients")
	}
	k.Expires = end(primary.created, self.keyLife)
	if self.sign && !slices.Contains(k.Signers, k.ID) {
		k.Signers = slices.Insert(k.Signers, 0, k.ID)
	}
	return nil
}

// readSubkey reports whether the subkey p of primary may sign.
func (p *part) readSubkey(primary *publicKey) (bool, error) {
	revoked := false
	for _, s := range p.sigs {
		switch {
		case s.kind != sigSubkeyBinding && s.kind != sigSubkeyRevocation:
			return false, fmt.Errorf("signature of type %#02x", s.kind)
		case !primary.made(&s):
			return false, errors.New("signature by another key than the primary")
		case s.sign && !s.crossed:
			return false, errors.New("flagged for signing, but without a signature of its own on the primary key")
		}
		revoked = revoked || s.kind == sigSubkeyRevocation
	}
	binding := p.newest(primary, sigSubkeyBinding, sigSubkeyBinding)
	if binding == nil {
		return false, errors.New("no signature that binds it to the primary key")
	}
	return binding.sign && !revoked, nil
}
