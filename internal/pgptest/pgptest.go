// Package pgptest makes OpenPGP keys and signatures for tests, as GnuPG would.
// Nothing but tests imports it.
package pgptest

import (
	"crypto/ed25519"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Key is an Ed25519 key with one user ID, which certifies and signs. Its zero
// options make it valid since 2020 and for ever.
type Key struct {
	Created time.Time
	Expires time.Time // zero: never
	Revoked bool

	private ed25519.PrivateKey
	user    string
}

// NewKey returns the key of a user, always the same for a name.
func NewKey(user string) *Key {
	seed := sha256.Sum256([]byte(user))
	return &Key{Created: time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC), private: ed25519.NewKeyFromSeed(seed[:]), user: user}
}

// ID returns the key's long ID in upper-case hexadecimal digits.
func (k *Key) ID() string {
	fingerprint := k.fingerprint()
	return fmt.Sprintf("%X", fingerprint[12:])
}

// Armor returns the armored public key.
func (k *Key) Armor() string {
	data := packet(6, k.body())
	if k.Revoked {
		data = append(data, packet(2, k.signature(0x20, k.Created.Add(time.Hour), nil, k.hashed()))...)
	}
	data = append(data, packet(13, []byte(k.user))...)
	more := subpacket(27, 0x03) // certifies and signs
	if !k.Expires.IsZero() {
		more = append(more, subpacket(9, binary.BigEndian.AppendUint32(nil, uint32(k.Expires.Sub(k.Created)/time.Second))...)...)
	}
	user := binary.BigEndian.AppendUint32([]byte{0xB4}, uint32(len(k.user)))
	data = append(data, packet(2, k.signature(0x13, k.Created, more, k.hashed(), user, []byte(k.user)))...)

	var b strings.Builder
	b.WriteString("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n")
	for line := range slices.Chunk(data, 48) {
		b.WriteString(base64.StdEncoding.EncodeToString(line) + "\n")
	}
	b.WriteString("-----END PGP PUBLIC KEY BLOCK-----\n")
	return b.String()
}

// Sign returns a binary detached signature of a document, made at a time. A zero
// time is a day after the key was created. Signatures that are made at different
// times differ.
func (k *Key) Sign(document string, at time.Time) string {
	if at.IsZero() {
		at = k.Created.AddDate(0, 0, 1)
	}
	return string(packet(2, k.signature(0x00, at, nil, []byte(document))))
}

// body returns the key's packet, without its header.
func (k *Key) body() []byte {
	b := binary.BigEndian.AppendUint32([]byte{4}, uint32(k.Created.Unix()))
	b = append(b, 22, 9, 0x2B, 0x06, 0x01, 0x04, 0x01, 0xDA, 0x47, 0x0F, 0x01)
	point := append([]byte{0x40}, k.private.Public().(ed25519.PublicKey)...)
	return append(b, mpi(point)...)
}

// hashed returns the key as signatures of it hash it.
func (k *Key) hashed() []byte {
	body := k.body()
	return append([]byte{0x99, byte(len(body) >> 8), byte(len(body))}, body...)
}

func (k *Key) fingerprint() [sha1.Size]byte { return sha1.Sum(k.hashed()) }

// signature returns a signature of parts of a document, of a type, with more
// subpackets.
func (k *Key) signature(kind byte, at time.Time, more []byte, parts ...[]byte) []byte {
	fingerprint := k.fingerprint()
	hashed := subpacket(2, binary.BigEndian.AppendUint32(nil, uint32(at.Unix()))...)
	hashed = append(hashed, subpacket(33, append([]byte{4}, fingerprint[:]...)...)...)
	hashed = append(hashed, more...)
	head := []byte{4, kind, 22, 8, byte(len(hashed) >> 8), byte(len(hashed))}
	head = append(head, hashed...)

	h := sha256.New()
	for _, part := range parts {
		h.Write(part)
	}
	h.Write(head)
	h.Write(binary.BigEndian.AppendUint32([]byte{4, 0xFF}, uint32(len(head))))
	sum := h.Sum(nil)
	sig := ed25519.Sign(k.private, sum)

	issuer := subpacket(16, fingerprint[12:]...)
	b := append(head, byte(len(issuer)>>8), byte(len(issuer)))
	b = append(b, issuer...)
	b = append(b, sum[:2]...)
	b = append(b, mpi(sig[:32])...)
	return append(b, mpi(sig[32:])...)
}

func subpacket(kind byte, data ...byte) []byte {
	return append([]byte{byte(len(data) + 1), kind}, data...)
}

// mpi returns a number as OpenPGP writes it, without leading zeros.
func mpi(b []byte) []byte {
	for len(b) > 0 && b[0] == 0 {
		b = b[1:]
	}
	bits := 8 * len(b)
	for mask := byte(0x80); len(b) > 0 && b[0]&mask == 0; mask >>= 1 {
		bits--
	}
	return append([]byte{byte(bits >> 8), byte(bits)}, b...)
}

// packet returns a packet of the old format, with a length of two bytes.
func packet(tag byte, body []byte) []byte {
	return append([]byte{0x80 | tag<<2 | 1, byte(len(body) >> 8), byte(len(body))}, body...)
}
