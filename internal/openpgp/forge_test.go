package openpgp_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/sha1"
	"encoding/binary"
	"slices"
)

// The secret keys of the keys that the tests make. Their signatures are as valid as gpg's.
func primarySecret() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{1}, 32)) }
func subkeySecret() ed25519.PrivateKey  { return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{2}, 32)) }

// forgedKey returns the packets of a key: the primary key, a user ID and its certification, a
// subkey for encryption and its binding. Its layout is that of ed25519.asc.
func forgedKey() [][]byte {
	key := packet(6, eddsaKey(primarySecret())...)
	uid := packet(13, []byte("forged <forged@example.com>")...)
	point := bytes.Repeat([]byte{9}, 32)
	sub := packet(14, slices.Concat([]byte{4, 0x65, 0x92, 0, 0x80, 18, 10, 0x2B, 6, 1, 4, 1, 0x97, 0x55, 1, 5, 1, 1, 7, 0x40}, point, []byte{3, 1, 8, 7})...)
	at2024 := []byte{5, 2, 0x65, 0x92, 0, 0x80}
	cert := signature(0x13, slices.Concat(at2024, issuedBy(body(key)), []byte{2, 27, 3}), nil)
	bind := signature(0x18, slices.Concat(at2024, issuedBy(body(key)), []byte{2, 27, 12}), nil)
	return seal(key, uid, cert, sub, bind)
}

// forgedSigner returns the packets of a subkey of forgedKey that signs, and of its binding with
// the given hashed subpackets.
func forgedSigner(subpackets ...byte) [][]byte {
	key, sub := packet(6, eddsaKey(primarySecret())...), packet(14, eddsaKey(subkeySecret())...)
	return [][]byte{sub, binding(key, crossSign(key, sub), subpackets...)}
}

// binding returns the binding of a subkey that signs, which is still to be sealed.
func binding(key, cross []byte, subpackets ...byte) []byte {
	return signature(0x18, slices.Concat(own(fingerprint(body(key))), []byte{2, 27, 2}, subpackets, embedded(cross)), nil)
}

// eddsaKey returns the body of a key packet, made on 1 January 2024.
func eddsaKey(secret ed25519.PrivateKey) []byte {
	head := []byte{4, 0x65, 0x92, 0, 0x80, 22, 9, 0x2B, 6, 1, 4, 1, 0xDA, 0x47, 0x0F, 1, 1, 7, 0x40}
	return append(head, secret.Public().(ed25519.PublicKey)...)
}

func hashedKey(body []byte) []byte {
	return append([]byte{0x99, byte(len(body) >> 8), byte(len(body))}, body...)
}

func fingerprint(body []byte) []byte {
	sum := sha1.Sum(hashedKey(body))
	return sum[:]
}

// signature returns an EdDSA signature packet with the given subpackets, which is still to be
// sealed: it has zeros for the signature itself.
func signature(kind byte, hashed, unhashed []byte) []byte {
	b := append([]byte{4, kind, 22, 8, byte(len(hashed) >> 8), byte(len(hashed))}, hashed...)
	b = append(append(b, byte(len(unhashed)>>8), byte(len(unhashed))), unhashed...)
	return packet(2, append(b, 0, 0, 0, 0, 0, 0)...)
}

func issuedBy(body []byte) []byte { return append([]byte{22, 33, 4}, fingerprint(body)...) }

// own returns the subpackets of the creation time, a second into 1970, and of the issuer.
func own(fingerprint []byte) []byte {
	return append([]byte{5, 2, 0, 0, 0, 1, 22, 33, 4}, fingerprint...)
}

// embedded returns a subpacket that embeds a signature packet.
func embedded(sig []byte) []byte {
	return append([]byte{byte(len(body(sig)) + 1), 32}, body(sig)...)
}

// crossSign returns the signature of the forged subkey on a primary key, with the given hashed
// subpackets.
func crossSign(primary, sub []byte, subpackets ...byte) []byte {
	sig := signature(0x19, append(own(fingerprint(body(sub))), subpackets...), nil)
	return sign(sig, subkeySecret(), hashedKey(body(primary)), hashedKey(body(sub)))
}

// seal signs those of packets that [signature] made, with the primary key.
func seal(packets ...[]byte) [][]byte {
	var primary, uid, sub []byte
	sealed := slices.Clone(packets)
	for i, p := range packets {
		if len(p) < 3 {
			continue
		}
		tag, head, size := header(p)
		if head+size != len(p) {
			continue
		}
		switch tag {
		case 6:
			primary = hashedKey(body(p))
		case 13:
			uid = append(binary.BigEndian.AppendUint32([]byte{0xB4}, uint32(len(body(p)))), body(p)...)
		case 14:
			sub = hashedKey(body(p))
		case 2:
			b := body(p)
			if len(b) < 12 || b[0] != 4 || b[2] != 22 || !bytes.HasSuffix(b, make([]byte, 6)) {
				continue
			}
			switch kind := b[1]; kind {
			case 0x10, 0x11, 0x12, 0x13, 0x30:
				sealed[i] = sign(p, primarySecret(), primary, uid)
			case 0x18, 0x28:
				sealed[i] = sign(p, primarySecret(), primary, sub)
			case 0x1F, 0x20:
				sealed[i] = sign(p, primarySecret(), primary)
			}
		}
	}
	return sealed
}

// sign returns a packet that [signature] made with the signature of data.
func sign(sig []byte, secret ed25519.PrivateKey, data ...[]byte) []byte {
	b := body(sig)
	hashed := b[6 : 6+int(b[4])<<8+int(b[5])]
	unhashed := b[len(hashed)+8 : len(b)-6]
	return makeSignature(b[1], b[2], b[3], secret, hashed, unhashed, data...)
}

// hashIDs are the hashes that clients know.
var hashIDs = map[byte]crypto.Hash{
	2: crypto.SHA1, 8: crypto.SHA256, 9: crypto.SHA384, 10: crypto.SHA512, 11: crypto.SHA224, 12: crypto.SHA3_256, 14: crypto.SHA3_512,
}

// makeSignature returns a signature of data, in the encoding of EdDSA (algorithm 22) or of
// Ed25519 (27).
func makeSignature(kind, algo, hash byte, secret ed25519.PrivateKey, hashed, unhashed []byte, data ...[]byte) []byte {
	b := append([]byte{4, kind, algo, hash, byte(len(hashed) >> 8), byte(len(hashed))}, hashed...)
	h := hashIDs[hash].New()
	for _, part := range data {
		h.Write(part)
	}
	h.Write(b)
	h.Write(binary.BigEndian.AppendUint32([]byte{4, 0xFF}, uint32(len(b))))
	sum := h.Sum(nil)
	sig := ed25519.Sign(secret, sum)
	b = append(append(b, byte(len(unhashed)>>8), byte(len(unhashed))), unhashed...)
	b = append(b, sum[0], sum[1])
	if algo == 27 {
		return packet(2, append(b, sig...)...)
	}
	for _, half := range [][]byte{sig[:32], sig[32:]} {
		half = bytes.TrimLeft(half, "\x00") // as in a multiprecision integer
		bits := len(half) * 8
		b = append(append(b, byte(bits>>8), byte(bits)), half...)
	}
	return packet(2, b...)
}

// forged returns an armored block of packets, after sealing them.
func forged(packets ...[]byte) string { return block(seal(packets...)...) }
