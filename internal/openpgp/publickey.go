package openpgp

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// Public key algorithms (RFC 9580, section 9.1).
const (
	algoRSA            = 1
	algoRSAEncryptOnly = 2
	algoRSASignOnly    = 3
	algoElGamal        = 16
	algoDSA            = 17
	algoECDH           = 18
	algoECDSA          = 19
	algoEdDSA          = 22
	algoX25519         = 25
	algoX448           = 26
	algoEd25519        = 27
	algoEd448          = 28
)

// signing lists the signature algorithms that clients know.
var signing = []byte{algoRSA, algoRSASignOnly, algoDSA, algoECDSA, algoEdDSA, algoEd25519, algoEd448}

// pointSize maps the curves for ECDSA and ECDH that clients know, by object identifier
// (RFC 9580, section 9.2), to the size of an uncompressed point.
var pointSize = map[string]int{
	"\x2A\x86\x48\xCE\x3D\x03\x01\x07":     65,  // NIST P-256
	"\x2B\x81\x04\x00\x22":                 97,  // NIST P-384
	"\x2B\x81\x04\x00\x23":                 133, // NIST P-521
	"\x2B\x81\x04\x00\x0A":                 65,  // secp256k1
	"\x2B\x24\x03\x03\x02\x08\x01\x01\x07": 65,  // brainpoolP256r1
	"\x2B\x24\x03\x03\x02\x08\x01\x01\x0B": 97,  // brainpoolP384r1
	"\x2B\x24\x03\x03\x02\x08\x01\x01\x0D": 129, // brainpoolP512r1
}

// The other two curves have one algorithm each, and only up to version 4.
const (
	curve25519 = "\x2B\x06\x01\x04\x01\x97\x55\x01\x05\x01" // ECDH
	ed25519    = "\x2B\x06\x01\x04\x01\xDA\x47\x0F\x01"     // EdDSA
)

// keyWraps lists the ciphers that clients know for ECDH (RFC 9580, section 9.3).
var keyWraps = []byte{2, 3, 7, 8, 9}

// A publicKey is the content of the packet of a primary key or a subkey.
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
		k.fingerprint = hex(sum[:])
		k.id = k.fingerprint[24:]
	case 6:
		sum := sha256.Sum256(append(binary.BigEndian.AppendUint32([]byte{0x9B}, uint32(len(body))), body...))
		k.fingerprint = hex(sum[:])
		k.id = k.fingerprint[:16]
		if size := f.number(4); size != uint(len(f.b)) {
			f.short = true
		}
	case 2, 3, 5:
		return k, fmt.Errorf("key version %d, which clients do not read", k.version)
	default:
		return k, fmt.Errorf("unknown key version %d", k.version)
	}

	switch k.algo {
	case algoRSA, algoRSAEncryptOnly, algoRSASignOnly:
		n, e := f.mpi(), f.mpi()
		if bits := new(big.Int).SetBytes(n).BitLen(); bits < 1024 && !f.short {
			return k, fmt.Errorf("RSA key of %d bits, which clients refuse", bits)
		} else if len(e) > 3 {
			return k, errors.New("RSA key with a large exponent, which clients refuse")
		}
	case algoElGamal:
		_, _, _ = f.mpi(), f.mpi(), f.mpi()
	case algoDSA:
		_, _, _, _ = f.mpi(), f.mpi(), f.mpi(), f.mpi()
	case algoECDH, algoECDSA, algoEdDSA:
		if err := k.parsePoint(&f); err != nil {
			return k, err
		}
	case algoX25519, algoEd25519:
		f.take(32)
	case algoX448:
		f.take(56)
	case algoEd448:
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
	known := len(kdf) == 3 && kdf[0] == 1 && saltSize[kdf[1]] > 0 && slices.Contains(keyWraps, kdf[2])
	if known && kdf[1] == 11 && kdf[2] == 9 {
		known = false // SHA-224 is too short for AES-256
	}
	if !f.short && !known {
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
