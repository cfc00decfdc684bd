package openpgp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
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

// A curve is one that clients know for ECDSA and ECDH.
type curve struct {
	name      string
	pointSize int            // of an uncompressed point
	elliptic  elliptic.Curve // nil: the standard library does not have it
}

// curveByOID returns the curve with an object identifier (RFC 9580, section 9.2), or a curve
// without a name.
func curveByOID(oid string) curve {
	switch oid {
	case "\x2A\x86\x48\xCE\x3D\x03\x01\x07":
		return curve{name: "NIST P-256", pointSize: 65, elliptic: elliptic.P256()}
	case "\x2B\x81\x04\x00\x22":
		return curve{name: "NIST P-384", pointSize: 97, elliptic: elliptic.P384()}
	case "\x2B\x81\x04\x00\x23":
		return curve{name: "NIST P-521", pointSize: 133, elliptic: elliptic.P521()}
	case "\x2B\x81\x04\x00\x0A":
		return curve{name: "secp256k1", pointSize: 65}
	case "\x2B\x24\x03\x03\x02\x08\x01\x01\x07":
		return curve{name: "brainpoolP256r1", pointSize: 65}
	case "\x2B\x24\x03\x03\x02\x08\x01\x01\x0B":
		return curve{name: "brainpoolP384r1", pointSize: 97}
	case "\x2B\x24\x03\x03\x02\x08\x01\x01\x0D":
		return curve{name: "brainpoolP512r1", pointSize: 129}
	}
	return curve{}
}

// The other two curves have one algorithm each, and only up to version 4.
const (
	oidCurve25519 = "\x2B\x06\x01\x04\x01\x97\x55\x01\x05\x01" // ECDH
	oidEd25519    = "\x2B\x06\x01\x04\x01\xDA\x47\x0F\x01"     // EdDSA
)

// maxRSABits bounds the time that an RSA signature takes. crypto/rsa has no bound, crypto/tls
// has this one, and GnuPG makes no larger keys.
const maxRSABits = 8192

const cipherAES256 = 9

// keyWraps lists the ciphers that clients know for ECDH (RFC 9580, section 9.3).
var keyWraps = []byte{2, 3, 7, 8, cipherAES256}

// A verifier is the part of a public key that verifies signatures. It is immutable.
type verifier struct {
	algo   byte
	public crypto.PublicKey // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey; nil: it verifies none
	beyond string           // names the algorithm if it signs and the standard library lacks it
}

// A publicKey is the content of the packet of a primary key or a subkey.
type publicKey struct {
	verifier
	version         byte
	created         uint
	id, fingerprint string
	body            []byte // of the packet
}

func parsePublicKey(body []byte) (publicKey, error) {
	f := fields{b: body}
	k := publicKey{version: f.byte(), created: f.number(4), verifier: verifier{algo: f.byte()}, body: body}
	switch k.version {
	case 4:
		sum := sha1.Sum(k.hashed())
		k.fingerprint = hex(sum[:])
		k.id = k.fingerprint[24:]
	case 6:
		sum := sha256.Sum256(k.hashed())
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

	var err error
	switch k.algo {
	case algoRSA, algoRSAEncryptOnly, algoRSASignOnly:
		err = k.parseRSA(&f)
	case algoElGamal:
		_, _, _ = f.mpi(), f.mpi(), f.mpi()
	case algoDSA:
		_, _, _, _ = f.mpi(), f.mpi(), f.mpi(), f.mpi()
		k.beyond = "DSA"
	case algoECDH, algoECDSA, algoEdDSA:
		err = k.parsePoint(&f)
	case algoX25519:
		f.take(32)
	case algoEd25519:
		k.public = ed25519.PublicKey(slices.Clone(f.take(32)))
	case algoX448:
		f.take(56)
	case algoEd448:
		f.take(57)
		k.beyond = "Ed448"
	default:
		err = fmt.Errorf("key algorithm %d, which clients do not know", k.algo)
	}
	if err != nil {
		return k, err
	}
	return k, f.check("key packet")
}

// hashed returns the form of k that fingerprints and signatures hash.
func (k *publicKey) hashed() []byte {
	if k.version == 6 {
		return append(binary.BigEndian.AppendUint32([]byte{0x9B}, uint32(len(k.body))), k.body...)
	}
	return append([]byte{0x99, byte(len(k.body) >> 8), byte(len(k.body))}, k.body...)
}

func (k *publicKey) parseRSA(f *fields) error {
	n, e := new(big.Int).SetBytes(f.mpi()), f.mpi()
	switch bits := n.BitLen(); {
	case f.short:
		return nil
	case bits < 1024:
		return fmt.Errorf("RSA key of %d bits, which clients refuse", bits)
	case len(e) > 3:
		return errors.New("RSA key with a large exponent, which clients refuse")
	case bits > maxRSABits:
		k.beyond = fmt.Sprintf("RSA with %d bits", bits)
	case k.algo != algoRSAEncryptOnly:
		k.public = &rsa.PublicKey{N: n, E: int(new(big.Int).SetBytes(e).Int64())}
	}
	return nil
}

// parsePoint takes the fields of an algorithm that needs a curve.
func (k *publicKey) parsePoint(f *fields) error {
	oid := string(f.take(f.number(1)))
	var known curve
	prefix := byte(0x04)
	switch {
	case k.version == 4 && (k.algo == algoECDH && oid == oidCurve25519 || k.algo == algoEdDSA && oid == oidEd25519):
		known.pointSize, prefix = 33, 0x40
	case k.algo != algoEdDSA:
		known = curveByOID(oid)
	}
	point := f.mpi()
	switch {
	case f.short:
		return nil
	case known.pointSize == 0:
		return fmt.Errorf("key on curve %X, which clients do not know for algorithm %d", oid, k.algo)
	case len(point) != known.pointSize || point[0] != prefix:
		return errors.New("key with a malformed point")
	case k.algo == algoECDH:
		return parseKDF(f)
	case k.algo == algoEdDSA:
		k.public = ed25519.PublicKey(slices.Clone(point[1:]))
	case known.elliptic == nil:
		k.beyond = "ECDSA on " + known.name
	default:
		public, err := ecdsa.ParseUncompressedPublicKey(known.elliptic, point)
		if err != nil {
			return fmt.Errorf("key with a point that is not on %s", known.name)
		}
		k.public = public
	}
	return nil
}

// parseKDF takes the key derivation parameters of ECDH.
func parseKDF(f *fields) error {
	kdf := f.take(f.number(1))
	if f.short {
		return nil
	}
	ok := len(kdf) == 3 && kdf[0] == 1 && hashes[kdf[1]].salt > 0 && slices.Contains(keyWraps, kdf[2])
	if !ok || kdf[1] == hashSHA224 && kdf[2] == cipherAES256 { // the hash would be too short
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
