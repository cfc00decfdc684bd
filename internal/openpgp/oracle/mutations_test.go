package oracle

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"testing"
)

// allPackets returns the packets of every key and signature of gpg.
func allPackets(t testing.TB) (all [][]byte) {
	files, _ := filepath.Glob("../testdata/*.asc")
	for _, file := range files {
		if name := filepath.Base(file); name != "prose.asc" {
			all = append(all, packets(unarmor(t, read(t, name)))...)
		}
	}
	for _, f := range fixtures {
		if f.sig != "rsa-armored.sig" {
			all = append(all, packets(read(t, f.sig))...)
		}
	}
	return all
}

// Clients accept every damaged key or signature that package openpgp accepts.
func TestMutations(t *testing.T) {
	rounds := 60
	if testing.Short() {
		rounds = 5
	}
	others := allPackets(t)
	for n, f := range fixtures {
		if f.sig == "rsa-armored.sig" {
			continue
		}
		rounds := rounds
		if f.beyond { // slow in go-crypto
			rounds /= 5
		}
		j := newJudge()
		r := rand.New(rand.NewPCG(1, uint64(n)))
		text, sig, document := read(t, f.key), read(t, f.sig), read(t, documentOf(f.document))
		data := unarmor(t, text)
		now := times()[7]
		for i := range rounds {
			check := func(what string, text, document, sig []byte) {
				t.Helper()
				j.compare(t, fmt.Sprintf("%s by %s, mutation %d of the %s", f.sig, f.key, i, what), text, document, sig, now, f.beyond)
			}
			check("document", text, mutate(r, document), sig)
			check("packets of the signature", text, document, shuffle(r, sig, others))
			check("packets of the key", rearmor(shuffle(r, data, others)), document, sig)
			if altered := mutate(r, sig); !hungry(altered) {
				check("signature", text, document, altered)
			}
			if altered := mutate(r, data); !hungry(altered) {
				check("key", rearmor(altered), document, sig)
			}
		}
	}
}

// A bit of every byte of a signature, and every length of it.
func TestBits(t *testing.T) {
	for _, f := range fixtures {
		if f.beyond || testing.Short() && f.key != "ed25519.asc" {
			continue
		}
		j := newJudge()
		text, sig, document := read(t, f.key), read(t, f.sig), read(t, documentOf(f.document))
		now := times()[7]
		for i := range sig {
			j.compare(t, fmt.Sprintf("%s by %s, cut at %d", f.sig, f.key, i), text, document, sig[:i], now, f.beyond)
			flipped := slices.Clone(sig)
			flipped[i] ^= 1 << (i % 8)
			j.compare(t, fmt.Sprintf("%s by %s, byte %d flipped", f.sig, f.key, i), text, document, flipped, now, f.beyond)
		}
	}
}

// FuzzCompare is for longer runs than those of TestMutations. It needs -fuzzminimizetime=1x, since
// go-crypto takes another path at each run.
func FuzzCompare(f *testing.F) {
	for _, fix := range fixtures {
		if !fix.beyond && fix.sig != "rsa-armored.sig" {
			f.Add(unarmor(f, read(f, fix.key)), read(f, fix.sig), read(f, documentOf(fix.document)))
		}
	}
	j := newJudge()
	now := times()[7]
	f.Fuzz(func(t *testing.T, key, sig, document []byte) {
		if hungry(key) || hungry(sig) {
			return
		}
		clear(j.keys)
		clear(j.rings)
		j.compare(t, "fuzzed", rearmor(key), document, sig, now, false)
	})
}

// hungry reports whether there may be a signature of version 6 in b that says that it is large.
// go-crypto before v1.5 allocates that much, up to 4 GiB.
func hungry(b []byte) bool {
	const much = 1 << 20
	for i := 0; i+8 <= len(b); i++ {
		if b[i] != 6 || b[i+3] > 14 {
			continue
		}
		size := binary.BigEndian.Uint32(b[i+4:])
		if size > much {
			return true
		}
		if rest := b[i+8:]; int(size)+4 <= len(rest) && binary.BigEndian.Uint32(rest[size:]) > much {
			return true
		}
	}
	return false
}
