package openpgp_test

import (
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri/internal/openpgp"
	"github.com/rekisteri/rekisteri/internal/pgptest"
)

// ring returns the keyring of files in testdata, in their order.
func ring(t testing.TB, files ...string) *openpgp.Keyring {
	t.Helper()
	var read []openpgp.KeyFile
	for _, file := range files {
		read = append(read, openpgp.KeyFile{Path: file, Keys: keys(t, file)})
	}
	return openpgp.NewKeyring(read)
}

func keys(t testing.TB, file string) []openpgp.Key {
	t.Helper()
	keys, err := openpgp.ReadKeys(read(t, file))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return keys
}

func signatures(t testing.TB, file string) []openpgp.Signature {
	t.Helper()
	signed, err := openpgp.ReadSignatures(read(t, file))
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return signed
}

// paths returns the IDs of keys, each with the file that it is from.
func paths(keys []openpgp.RingKey) string {
	var s []string
	for _, k := range keys {
		s = append(s, k.ID[12:]+"@"+strings.TrimSuffix(k.Path, ".asc"))
	}
	return strings.Join(s, " ")
}

func TestNewKeyring(t *testing.T) {
	for _, tt := range []struct {
		name  string
		files []string
		want  string
	}{
		{name: "no file"},
		{name: "one key", files: []string{"rsa.asc"}, want: "D3C1@rsa"},
		{name: "keys in the order of their files", files: []string{"rsa.asc", "ed25519.asc"}, want: "D3C1@rsa 0D7B@ed25519"},
		{name: "the other order", files: []string{"ed25519.asc", "rsa.asc"}, want: "0D7B@ed25519 D3C1@rsa"},
		{name: "keys in the order of a block", files: []string{"pair.asc"}, want: "D3C1@pair 0D7B@pair"},
		{name: "the first of equal copies", files: []string{"pair.asc", "ed25519.asc", "rsa.asc"}, want: "D3C1@pair 0D7B@pair"},
		{name: "extended first", files: []string{"extended.asc", "extended-before.asc"}, want: "68F6@extended"},
		{name: "extended last", files: []string{"extended-before.asc", "extended.asc"}, want: "68F6@extended"},
		{name: "extended for ever first", files: []string{"extended-for-ever.asc", "extended.asc"}, want: "68F6@extended-for-ever"},
		{name: "extended for ever last", files: []string{"extended.asc", "extended-for-ever.asc"}, want: "68F6@extended-for-ever"},
		{name: "revoked first", files: []string{"revoked.asc", "revoked-before.asc"}, want: "9E11@revoked"},
		{name: "revoked last", files: []string{"revoked-before.asc", "revoked.asc"}, want: "9E11@revoked"},
		{name: "a new subkey first", files: []string{"rotated.asc", "rotated-before.asc"}, want: "4D1A@rotated"},
		{name: "a new subkey last", files: []string{"rotated-before.asc", "rotated.asc"}, want: "4D1A@rotated"},
		{name: "a subkey extended", files: []string{"ed25519-lapsed.asc", "ed25519-lapsed-extended.asc"}, want: "7D99@ed25519-lapsed-extended"},
		{name: "a better copy keeps its place", files: []string{"revoked-before.asc", "rsa.asc", "revoked.asc"}, want: "9E11@revoked D3C1@rsa"},
	} {
		if got := paths(ring(t, tt.files...).Keys()); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestSigner(t *testing.T) {
	for _, tt := range []struct {
		name   string
		files  []string
		sig    string
		want   string // the file of the key
		issuer string
		order  string
	}{
		{name: "no key", sig: "rsa.sig"},
		{name: "another key", files: []string{"ed25519.asc"}, sig: "rsa.sig", order: "0D7B@ed25519"},
		{name: "the only key", files: []string{"rsa.asc"}, sig: "rsa.sig", want: "rsa.asc", issuer: "6E37763C9448D3C1", order: "D3C1@rsa"},
		{name: "the last key", files: []string{"ed25519.asc", "nistp256.asc", "rsa.asc"}, sig: "rsa.sig", want: "rsa.asc",
			issuer: "6E37763C9448D3C1", order: "D3C1@rsa 0D7B@ed25519 E397@nistp256"},
		{name: "a subkey", files: []string{"rsa.asc", "subkey.asc"}, sig: "subkey.sig", want: "subkey.asc",
			issuer: "429F128B955544CE", order: "D784@subkey D3C1@rsa"},
		{name: "a revoked subkey", files: []string{"rotated.asc"}, sig: "rotated-before.sig", want: "rotated.asc",
			issuer: "39084C1A28604AE9", order: "4D1A@rotated"},
		{name: "a subkey of a newer copy", files: []string{"rotated-before.asc"}, sig: "rotated.sig", order: "4D1A@rotated-before"},
		{name: "two signatures, both known", files: []string{"ed25519.asc", "rsa.asc"}, sig: "two.sig", want: "rsa.asc",
			issuer: "6E37763C9448D3C1", order: "D3C1@rsa 0D7B@ed25519"},
		{name: "two signatures, the second known", files: []string{"nistp256.asc", "ed25519.asc"}, sig: "two.sig", want: "ed25519.asc",
			issuer: "4E1ABAA349B90D7B", order: "0D7B@ed25519 E397@nistp256"},
		{name: "two signatures, the first revoked", files: []string{"retired.asc", "current.asc"}, sig: "handover.sig", want: "current.asc",
			issuer: "4C862ADB29B08600", order: "8600@current EF23@retired"},
		{name: "two signatures, the first revoked and the second unknown", files: []string{"retired.asc"}, sig: "handover.sig", want: "retired.asc",
			issuer: "753299FA3BA9EF23", order: "EF23@retired"},
	} {
		r := ring(t, tt.files...)
		key, sig := r.Signer(signatures(t, tt.sig))
		if (key == nil) != (sig == nil) || (key == nil) != (tt.want == "") {
			t.Errorf("%s: got %v, %v", tt.name, key, sig)
		} else if key != nil && (key.Path != tt.want || sig.Issuer != tt.issuer) {
			t.Errorf("%s: got %s, %s; want %s, %s", tt.name, key.Path, sig.Issuer, tt.want, tt.issuer)
		}
		if got := paths(r.Order(key)); got != tt.order {
			t.Errorf("%s: got order %q, want %q", tt.name, got, tt.order)
		}
	}
}

func TestJudge(t *testing.T) {
	day := func(s string) time.Time {
		d, err := time.Parse(time.DateOnly, s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	type fault struct {
		kind  openpgp.FaultKind
		path  string
		keyID string
		when  string
	}
	for _, tt := range []struct {
		name     string
		files    []string
		sig, now string
		want     []fault
		until    string
	}{
		{name: "a key for ever", files: []string{"rsa.asc"}, sig: "rsa.sig", now: "2024-06-02"},
		{name: "no key", sig: "rsa.sig", now: "2024-06-02",
			want: []fault{{kind: openpgp.UnknownKey, keyID: "6E37763C9448D3C1"}}},
		{name: "another key", files: []string{"ed25519.asc"}, sig: "rsa.sig", now: "2024-06-02",
			want: []fault{{kind: openpgp.UnknownKey, keyID: "6E37763C9448D3C1"}}},
		{name: "no key for two signatures", sig: "two.sig", now: "2024-06-02",
			want: []fault{{kind: openpgp.UnknownKey, keyID: "6E37763C9448D3C1"}}},
		{name: "a key before it expires", files: []string{"extended-before.asc"}, sig: "extended.sig", now: "2024-02-29", until: "2024-03-01"},
		{name: "a key as it expires", files: []string{"extended-before.asc"}, sig: "extended.sig", now: "2024-03-01",
			want: []fault{{kind: openpgp.ExpiredKey, path: "extended-before.asc", keyID: "062FCEDAAB1068F6", when: "2024-03-01"}}},
		{name: "an extended key", files: []string{"extended-before.asc", "extended.asc"}, sig: "extended.sig", now: "2024-03-01", until: "2030-01-01"},
		{name: "an extended key that expires", files: []string{"extended.asc"}, sig: "extended.sig", now: "2031-01-01",
			want: []fault{{kind: openpgp.ExpiredKey, path: "extended.asc", keyID: "062FCEDAAB1068F6", when: "2030-01-01"}}},
		{name: "a key extended for ever", files: []string{"extended-for-ever.asc"}, sig: "extended.sig", now: "2031-01-01"},
		{name: "a revoked key", files: []string{"revoked.asc"}, sig: "revoked.sig", now: "2024-06-02",
			want: []fault{{kind: openpgp.RevokedKey, path: "revoked.asc", keyID: "D2C10B560CCE9E11"}}},
		{name: "a revoked copy", files: []string{"revoked-before.asc", "revoked.asc"}, sig: "revoked.sig", now: "2024-06-02",
			want: []fault{{kind: openpgp.RevokedKey, path: "revoked.asc", keyID: "D2C10B560CCE9E11"}}},
		{name: "two signatures, the first revoked", files: []string{"retired.asc", "current.asc"}, sig: "handover.sig", now: "2024-06-02"},
		{name: "a revoked subkey", files: []string{"rotated.asc"}, sig: "rotated-before.sig", now: "2024-06-02",
			want: []fault{{kind: openpgp.RevokedKey, path: "rotated.asc", keyID: "39084C1A28604AE9"}}},
		{name: "the next subkey", files: []string{"rotated.asc"}, sig: "rotated.sig", now: "2024-06-02"},
		{name: "a subkey before it expires", files: []string{"subkey.asc"}, sig: "subkey.sig", now: "2026-02-28", until: "2026-03-01"},
		{name: "a subkey as it expires", files: []string{"subkey.asc"}, sig: "subkey.sig", now: "2026-03-01",
			want: []fault{{kind: openpgp.ExpiredSubkey, path: "subkey.asc", keyID: "429F128B955544CE", when: "2026-03-01"}}},
		{name: "an RSA subkey that expired", files: []string{"rsa2048-lapsed.asc"}, sig: "rsa2048-lapsed.sig", now: "2024-06-02",
			want: []fault{{kind: openpgp.ExpiredSubkey, path: "rsa2048-lapsed.asc", keyID: "AB573FB72A002929", when: "2024-03-01"}}},
		{name: "an Ed25519 subkey that expired", files: []string{"ed25519-lapsed.asc"}, sig: "ed25519-lapsed.sig", now: "2024-06-02",
			want: []fault{{kind: openpgp.ExpiredSubkey, path: "ed25519-lapsed.asc", keyID: "2F245FEC18C574ED", when: "2024-03-01"}}},
		{name: "an extended subkey", files: []string{"ed25519-lapsed.asc", "ed25519-lapsed-extended.asc"}, sig: "ed25519-lapsed.sig", now: "2024-06-02", until: "2027-01-01"},
		{name: "a signature before it expires", files: []string{"rsa.asc"}, sig: "rsa-expiring.sig", now: "2024-06-02", until: "2024-07-01"},
		{name: "a signature as it expires", files: []string{"rsa.asc"}, sig: "rsa-expiring.sig", now: "2024-07-01",
			want: []fault{{kind: openpgp.ExpiredSignature, path: "rsa.asc", keyID: "6E37763C9448D3C1", when: "2024-07-01"}}},
	} {
		faults, until := ring(t, tt.files...).Judge(signatures(t, tt.sig), day(tt.now))
		var got []fault
		for _, f := range faults {
			g := fault{kind: f.Kind, keyID: f.KeyID}
			if f.Key != nil {
				g.path = f.Key.Path
			}
			if !f.When.IsZero() {
				g.when = f.When.Format(time.DateOnly)
			}
			got = append(got, g)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
		if want := (time.Time{}); tt.until == "" && until != want || tt.until != "" && !until.Equal(day(tt.until)) {
			t.Errorf("%s: got until %v, want %q", tt.name, until, tt.until)
		}
	}
}

// A signature that expires after its key is judged anew at the earlier time, then at the later.
func TestJudgeUntil(t *testing.T) {
	r := ring(t, "extended-before.asc")
	signed := []openpgp.Signature{{Issuer: "062FCEDAAB1068F6", Created: unix(1706745600), Expires: unix(1800000000)}}
	var kinds []openpgp.FaultKind
	now := unix(1706745600)
	for range 3 {
		faults, until := r.Judge(signed, now)
		for _, f := range faults {
			kinds = append(kinds, f.Kind)
		}
		now = until
	}
	want := []openpgp.FaultKind{openpgp.ExpiredKey, openpgp.ExpiredKey, openpgp.ExpiredSignature}
	if !slices.Equal(kinds, want) || !now.IsZero() {
		t.Errorf("got %v until %v, want %v", kinds, now, want)
	}
}

// Size is within a factor of 1.5 of the memory that keys take.
func TestSize(t *testing.T) {
	if testing.Short() {
		t.Skip("it is long")
	}
	const copies = 64
	for _, file := range []string{"rsa.asc", "ed25519.asc", "dsa.asc", "subkey.asc", "uids.asc", "rfc9580.asc", "prose.asc", "nistp521.asc", "rsa2048-lapsed.asc", "rotated.asc"} {
		text := read(t, file)
		keys(t, file) // for what the standard library keeps
		held := make([][]openpgp.Key, copies)
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		for i := range held {
			held[i], _ = openpgp.ReadKeys(text)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		taken := float64(after.HeapAlloc-before.HeapAlloc) / copies
		size := 0.0
		for _, k := range held[0] {
			size += float64(k.Size())
		}
		if ratio := size / taken; ratio < 1/1.5 || ratio > 1.5 {
			t.Errorf("%s: %.0f bytes by Size, %.0f on the heap", file, size, taken)
		}
		runtime.KeepAlive(held)
	}
}

// FuzzKeyring checks that a keyring is a function of its files, and that Judge agrees with Signer.
func FuzzKeyring(f *testing.F) {
	for _, seed := range []struct{ a, b, sig string }{
		{a: "rsa.asc", b: "ed25519.asc", sig: "two.sig"},
		{a: "revoked-before.asc", b: "revoked.asc", sig: "revoked.sig"},
		{a: "rotated-before.asc", b: "rotated.asc", sig: "rotated.sig"},
		{a: "retired.asc", b: "current.asc", sig: "handover.sig"},
		{a: "rfc9580.asc", b: "subkey.asc", sig: "rsa-expiring.sig"},
	} {
		f.Add(unarmor(f, seed.a), unarmor(f, seed.b), read(f, seed.sig), int64(created))
	}
	f.Fuzz(func(t *testing.T, a, b, sig []byte, now int64) {
		build := func() *openpgp.Keyring {
			var files []openpgp.KeyFile
			for i, data := range [][]byte{a, b, a} {
				keys, _ := openpgp.ReadKeys([]byte(block(data)))
				files = append(files, openpgp.KeyFile{Path: string(rune('a' + i)), Keys: keys})
			}
			return openpgp.NewKeyring(files)
		}
		r := build()
		if !reflect.DeepEqual(r, build()) {
			t.Errorf("two keyrings of the same files differ")
		}
		for i, k := range r.Keys() {
			if slices.ContainsFunc(r.Keys()[:i], func(other openpgp.RingKey) bool { return other.Fingerprint == k.Fingerprint }) {
				t.Errorf("key %s is there twice", k.ID)
			}
		}
		signed, _ := openpgp.ReadSignatures(sig)
		at := time.Unix(now, 0)
		key, _ := r.Signer(signed)
		faults, until := r.Judge(signed, at)
		unknown := len(faults) == 1 && faults[0].Kind == openpgp.UnknownKey
		if (key == nil) != unknown {
			t.Errorf("signer %v, and faults %v", key, faults)
		}
		if !until.IsZero() && !until.After(at) {
			t.Errorf("judged anew at %v, which is not after %v", until, at)
		}
		if ordered := r.Order(key); len(ordered) != len(r.Keys()) || key != nil && ordered[0].Fingerprint != key.Fingerprint {
			t.Errorf("%d keys, and %d in order", len(r.Keys()), len(ordered))
		}
	})
}

// Every file in testdata is read by a keyring test or a key test, so that Judge is run on it.
func TestJudgeAll(t *testing.T) {
	files, _ := filepath.Glob("testdata/*.asc")
	for i, file := range files {
		files[i] = filepath.Base(file)
	}
	all := ring(t, files...)
	for _, tt := range signatureTests {
		signed := signatures(t, tt.file)
		key, sig := all.Signer(signed)
		if key == nil || !key.Signs(sig.Issuer) || !strings.Contains(tt.issuers, sig.Issuer) {
			t.Errorf("%s: got signer %v, %v", tt.file, key, sig)
		}
		for i := range signed {
			if key, _ := all.Signer(signed[i : i+1]); key == nil || !key.Signs(signed[i].Issuer) {
				t.Errorf("%s: signature %d: got signer %v", tt.file, i, key)
			}
		}
	}
}

func TestNextExpiry(t *testing.T) {
	for _, tt := range []struct {
		name, now string
		files     []string
		want      string // empty: never
	}{
		{name: "no key", now: "2022-01-01"},
		{name: "a key without an expiry", now: "2022-01-01", files: []string{"rsa.asc"}},
		{name: "a revoked key", now: "2022-01-01", files: []string{"revoked.asc"}},
		{name: "the first of several", now: "2022-01-01", files: []string{"rsa.asc", "extended.asc", "expired.asc"}, want: "2024-03-01"},
		{name: "when that has expired", now: "2024-03-01", files: []string{"rsa.asc", "extended.asc", "expired.asc"}, want: "2030-01-01"},
		{name: "the better copy of a key", now: "2022-01-01", files: []string{"extended-before.asc", "extended.asc"}, want: "2030-01-01"},
		{name: "a subkey", now: "2022-01-01", files: []string{"ed25519-lapsed.asc"}, want: "2024-03-01"},
	} {
		now, err := time.Parse(time.DateOnly, tt.now)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if next := ring(t, tt.files...).NextExpiry(now); !next.IsZero() {
			got = next.Format(time.DateOnly)
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
	key := pgptest.NewKey("a revoked key that expires")
	key.Expires, key.Revoked = key.Created.AddDate(1, 0, 0), true
	read, err := openpgp.ReadKeys([]byte(key.Armor()))
	if err != nil {
		t.Fatal(err)
	}
	if next := openpgp.NewKeyring([]openpgp.KeyFile{{Keys: read}}).NextExpiry(key.Created); !next.IsZero() {
		t.Errorf("a revoked key that expires: %v, want never", next)
	}
}
