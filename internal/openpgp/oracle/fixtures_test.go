package oracle

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	client "github.com/ProtonMail/go-crypto/openpgp"

	"github.com/rekisteri/rekisteri/internal/openpgp"
)

// fixtures pairs the signatures of gpg with the keys that made them.
var fixtures = []struct {
	key, sig string
	document string // empty: "document"
	beyond   bool   // the standard library lacks an algorithm of the key
}{
	{key: "rsa.asc", sig: "rsa.sig"},
	{key: "rsa.asc", sig: "rsa-text.sig"},
	{key: "rsa.asc", sig: "rsa-critical.sig"},
	{key: "rsa.asc", sig: "rsa-expiring.sig"},
	{key: "rsa.asc", sig: "two.sig"},
	{key: "rsa.asc", sig: "ed25519.sig"},
	{key: "rsa2048.asc", sig: "rsa2048-SHA1.sig"},
	{key: "rsa2048.asc", sig: "rsa2048-SHA224.sig"},
	{key: "rsa2048.asc", sig: "rsa2048-SHA384.sig"},
	{key: "rsa2048.asc", sig: "rsa2048-SHA512.sig"},
	{key: "rsa2048-lapsed.asc", sig: "rsa2048-lapsed.sig"},
	{key: "ed25519.asc", sig: "ed25519.sig"},
	{key: "ed25519.asc", sig: "two.sig"},
	{key: "ed25519-lapsed.asc", sig: "ed25519-lapsed.sig"},
	{key: "ed25519-lapsed-extended.asc", sig: "ed25519-lapsed.sig"},
	{key: "nistp256.asc", sig: "nistp256.sig"},
	{key: "certified.asc", sig: "nistp256.sig"},
	{key: "nistp384.asc", sig: "nistp384.sig"},
	{key: "nistp521.asc", sig: "nistp521.sig"},
	{key: "subkey.asc", sig: "subkey.sig"},
	{key: "rotated.asc", sig: "rotated.sig"},
	{key: "rotated.asc", sig: "rotated-before.sig"},
	{key: "rotated-before.asc", sig: "rotated-before.sig"},
	{key: "extended-before.asc", sig: "extended.sig"},
	{key: "extended.asc", sig: "extended.sig"},
	{key: "extended-for-ever.asc", sig: "extended.sig"},
	{key: "revoked-before.asc", sig: "revoked.sig"},
	{key: "revoked.asc", sig: "revoked.sig"},
	{key: "retired.asc", sig: "handover.sig"},
	{key: "current.asc", sig: "handover.sig"},
	{key: "pair.asc", sig: "two.sig"},
	{key: "uids.asc", sig: "uids.sig"},
	{key: "uids-clean.asc", sig: "uids.sig"},
	{key: "text.asc", sig: "text.sig", document: "text"},
	{key: "text.asc", sig: "text-binary.sig", document: "text"},
	{key: "text.asc", sig: "returns.sig", document: "returns"},
	{key: "text.asc", sig: "text.sig"},
	{key: "rfc9580.asc", sig: "rfc9580.sig", document: "rfc9580"},
	{key: "dsa.asc", sig: "dsa.sig", beyond: true},
	{key: "secp256k1.asc", sig: "secp256k1.sig", beyond: true},
	{key: "brainpool-signer.asc", sig: "brainpool-signer.sig", beyond: true},
	{key: "rsa.asc", sig: "rsa-armored.sig"},
}

// times are those at which something about a fixture changes, and times between.
func times() []time.Time {
	var times []time.Time
	for _, day := range []string{"2022-12-14", "2023-12-31", "2024-01-20", "2024-02-01", "2024-02-14", "2024-02-20", "2024-03-02", "2024-06-02", "2024-07-02", "2026-03-02", "2027-01-02", "2031-01-01"} {
		at, _ := time.Parse(time.DateOnly, day)
		times = append(times, at.Add(time.Hour))
	}
	return times
}

// Package openpgp and clients give the same verdict on what gpg wrote, at any time.
func TestFixtures(t *testing.T) {
	j := newJudge()
	for _, f := range fixtures {
		text, sig := read(t, f.key), read(t, f.sig)
		document := read(t, documentOf(f.document))
		for _, now := range times() {
			ours, armors, err := j.verifies(string(text), document, sig, now)
			theirs, clientErr := j.installs(armors, document, sig, now)
			same := ours == theirs
			switch ours {
			case revokedKey: // clients ignore a revocation before its date, package openpgp does not
				same = same || now.Before(revocations())
			case future:
				same = theirs == expiredKey || theirs == expiredSignature
			case unverifiable:
				same = theirs == accepted
			case unreadable:
				same = same || strings.Contains(err.Error(), "critical notation") && theirs == badSignature
			}
			if !same {
				t.Errorf("%s by %s on %v: %s here (%v), %s by clients (%v)", f.sig, f.key, now, ours, err, theirs, clientErr)
			}
		}
	}
}

// revocations is when the keys of gpg were revoked.
func revocations() time.Time { return time.Date(2024, 2, 1, 0, 0, 0, 0, time.UTC) }

func documentOf(name string) string {
	if name == "" {
		return "document"
	}
	return name
}

// Every armor of ReadKeys is one that clients read as the same key, whatever the text was.
func TestArmor(t *testing.T) {
	files, err := filepath.Glob("../testdata/*.asc")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		original := string(read(t, filepath.Base(file)))
		for name, text := range map[string]string{
			"as it is":            original,
			"indented":            strings.ReplaceAll("\n"+original, "\n", "\n\t"),
			"spaces at the end":   strings.ReplaceAll(original, "\n", "  \n"),
			"CRLF":                strings.ReplaceAll(original, "\n", "\r\n"),
			"a byte order mark":   "\uFEFF" + original,
			"prose around":        "Our key:\n\n" + original + "\nand no other\n",
			"two blocks":          original + "\n" + original,
			"headers":             strings.ReplaceAll(original, "BLOCK-----\n\n", "BLOCK-----\nVersion: 1\nComment: \nX: y\n\n"),
			"a long header":       strings.ReplaceAll(original, "BLOCK-----\n\n", "BLOCK-----\nComment: "+strings.Repeat("x", 200)+"\n\n"),
			"no line feed":        strings.TrimSpace(original),
			"blank lines":         strings.ReplaceAll(original, "\nm", "\n\nm"),
			"all in one line":     oneLine(t, original),
			"carriage returns in": strings.ReplaceAll(original, "A", "A\r"),
		} {
			keys, err := openpgp.ReadKeys([]byte(text))
			if err != nil && name != "carriage returns in" {
				t.Errorf("%s, %s: %v", file, name, err)
			}
			for _, k := range keys {
				compareKey(t, file+", "+name, k)
			}
		}
	}
}

// oneLine joins the lines of base64 in each block of text.
func oneLine(t testing.TB, text string) string {
	var b strings.Builder
	for block := range strings.SplitAfterSeq(text, "-----END PGP PUBLIC KEY BLOCK-----") {
		if _, block, ok := strings.Cut(block, "-----BEGIN"); ok {
			b.WriteString("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n" + base64.StdEncoding.EncodeToString(unarmor(t, []byte(block))) +
				"\n-----END PGP PUBLIC KEY BLOCK-----\n")
		}
	}
	return b.String()
}

// compareKey compares what package openpgp and clients tell of a key.
func compareKey(t testing.TB, name string, k openpgp.Key) {
	t.Helper()
	ring, err := client.ReadArmoredKeyRing(strings.NewReader(k.Armor))
	if err != nil || len(ring) != 1 {
		t.Errorf("%s: clients read %d keys, %v in\n%s", name, len(ring), err, k.Armor)
		return
	}
	e := ring[0]
	self, id := e.PrimarySelfSignature()
	now := time.Now()
	if keyID(k.ID) != e.PrimaryKey.KeyId || k.Fingerprint != fmt.Sprintf("%X", e.PrimaryKey.Fingerprint) || !k.Created.Equal(e.PrimaryKey.CreationTime) || k.Revoked != (e.Revoked(now) || id != nil && id.Revoked(now)) {
		t.Errorf("%s: key %v is to clients %v", name, k, e)
	}
	expires := time.Time{}
	if self.KeyLifetimeSecs != nil && *self.KeyLifetimeSecs != 0 {
		expires = k.Created.Add(time.Duration(*self.KeyLifetimeSecs) * time.Second)
	}
	if !k.Expires.Equal(expires) {
		t.Errorf("%s: key expires %v, and for clients %v", name, k.Expires, expires)
	}
	const sign = 2 // the key flag
	var want, got []uint64
	for _, key := range ring.KeysByIdUsage(e.PrimaryKey.KeyId, sign) {
		want = append(want, key.PublicKey.KeyId)
	}
	for _, sub := range e.Subkeys {
		for _, key := range ring.KeysByIdUsage(sub.PublicKey.KeyId, sign) {
			want = append(want, key.PublicKey.KeyId)
		}
	}
	for _, signer := range k.Signers {
		for _, key := range ring.KeysById(keyID(signer.ID)) {
			got = append(got, key.PublicKey.KeyId)
			if signer.Revoked != (k.Revoked && signer.ID == k.ID || key.Revoked(now)) {
				t.Errorf("%s: signer %v is revoked for clients: %v", name, signer, key.Revoked(now))
			}
			if expires := signer.Expires; !expires.IsZero() && (key.PublicKey.KeyExpired(key.SelfSignature, expires) || !key.PublicKey.KeyExpired(key.SelfSignature, expires.Add(time.Second))) {
				t.Errorf("%s: signer %v expires at another time for clients", name, signer)
			}
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("%s: signers %X, and for clients %X", name, got, want)
	}
}

func keyID(s string) (id uint64) {
	for _, c := range s {
		id = id<<4 | uint64(strings.IndexRune("0123456789ABCDEF", c))
	}
	return id
}

// unarmor returns the data of the only block in a text of gpg.
func unarmor(t testing.TB, text []byte) []byte {
	t.Helper()
	_, body, _ := strings.Cut(string(text), "\n\n")
	body, _, _ = strings.Cut("\n"+body, "\n-----END")
	body, _, _ = strings.Cut(body, "\n=")
	data, err := base64.StdEncoding.DecodeString(strings.ReplaceAll(body, "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// rearmor returns an armored block of data, without a checksum.
func rearmor(data []byte) []byte {
	var b strings.Builder
	b.WriteString("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n")
	for line := range slices.Chunk(data, 48) {
		b.WriteString(base64.StdEncoding.EncodeToString(line) + "\n")
	}
	b.WriteString("-----END PGP PUBLIC KEY BLOCK-----\n")
	return []byte(b.String())
}

// packets splits data into packets, whose headers must be as short as gpg writes them.
func packets(data []byte) (all [][]byte) {
	for len(data) > 0 {
		size := 0
		switch first := data[0]; {
		case first&0x40 == 0 && first&3 == 0:
			size = 2 + int(data[1])
		case first&0x40 == 0:
			size = 3 + int(data[1])<<8 + int(data[2])
		case data[1] < 192:
			size = 2 + int(data[1])
		default:
			size = 3 + int(data[1])<<8 + int(data[2]) - 192<<8 + 192
		}
		all = append(all, data[:size])
		data = data[size:]
	}
	return all
}

// mutate returns data with one or two changes: of a bit, a byte, or the order of packets.
func mutate(r *rand.Rand, data []byte) []byte {
	data = slices.Clone(data)
	for range 1 + r.IntN(2) {
		if len(data) == 0 {
			return data
		}
		i := r.IntN(len(data))
		switch r.IntN(12) {
		case 0:
			data[i] = byte(r.Uint32())
		case 1:
			data[i]++
		case 2:
			data[i] = 0
		case 3:
			data = data[:i]
		case 4:
			data = slices.Insert(data, i, byte(r.Uint32()))
		case 5:
			data = slices.Delete(data, i, i+1)
		default:
			data[i] ^= 1 << r.IntN(8)
		}
	}
	return data
}

// shuffle returns data with a packet of it removed, repeated, moved, or replaced by one of others.
func shuffle(r *rand.Rand, data []byte, others [][]byte) []byte {
	all := packets(data)
	i, j := r.IntN(len(all)), r.IntN(len(all))
	switch r.IntN(5) {
	case 0:
		all = slices.Delete(all, i, i+1)
	case 1:
		all = slices.Insert(all, i, all[j])
	case 2:
		all[i], all[j] = all[j], all[i]
	case 3:
		all[i] = others[r.IntN(len(others))]
	default:
		all = slices.Insert(all, i, others[r.IntN(len(others))])
	}
	return slices.Concat(all...)
}
