package rekisteri_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
)

// A release is served with the keys of its provider and its namespace, the one
// that signed it first.
func TestSigningKeys(t *testing.T) {
	const (
		rsa, ed25519, nistp256       = "6E37763C9448D3C1", "4E1ABAA349B90D7B", "0A4B172C0FAEE397"
		withSubkey, extended, killed = "AEB065EBA028D784", "062FCEDAAB1068F6", "D2C10B560CCE9E11"
	)
	for _, test := range []struct {
		name, signature string
		keys            map[string]string // by the file's path
		want            string            // the IDs of the keys, in their order
		armor           string            // the file with the first key's armor; empty: not checked
	}{
		{name: "one", signature: "rsa.sig", keys: map[string]string{"acme/a.asc": "rsa.asc"}, want: rsa, armor: "rsa.asc"},
		{name: "the signer first", signature: "rsa.sig", keys: map[string]string{"acme/a.asc": "ed25519.asc", "acme/b.asc": "rsa.asc", "acme/c.asc": "nistp256.asc"}, want: rsa + " " + ed25519 + " " + nistp256, armor: "rsa.asc"},
		{name: "Ed25519", signature: "ed25519.sig", keys: map[string]string{"acme/a.asc": "pair.asc"}, want: ed25519 + " " + rsa},
		{name: "ECDSA", signature: "nistp256.sig", keys: map[string]string{"acme/a.asc": "pair.asc", "acme/b.asc": "nistp256.asc"}, want: nistp256 + " " + rsa + " " + ed25519},
		{name: "two blocks in a file", signature: "ed25519.sig", keys: map[string]string{"acme/a.asc": "prose.asc"}, want: ed25519 + " " + rsa},
		{name: "two signers", signature: "two.sig", keys: map[string]string{"acme/a.asc": "nistp256.asc", "acme/b.asc": "ed25519.asc"}, want: ed25519 + " " + nistp256},
		{name: "the provider's before the namespace's", signature: "nistp256.sig", keys: map[string]string{"acme/a.asc": "rsa.asc", "acme/hello/z.asc": "ed25519.asc"}, want: ed25519 + " " + rsa},
		{name: "a subkey", signature: "subkey.sig", keys: map[string]string{"acme/a.asc": "rsa.asc", "acme/b.asc": "subkey.asc"}, want: withSubkey + " " + rsa},
		{name: "twice: the later expiry", signature: "extended.sig", keys: map[string]string{"acme/a.asc": "extended-before.asc", "acme/b.asc": "extended.asc"}, want: extended, armor: "extended.asc"},
		{name: "twice, the other way round", signature: "extended.sig", keys: map[string]string{"acme/a.asc": "extended.asc", "acme/b.asc": "extended-before.asc"}, want: extended, armor: "extended.asc"},
		{name: "twice: never expires latest", signature: "extended.sig", keys: map[string]string{"acme/a.asc": "extended.asc", "acme/b.asc": "extended-for-ever.asc"}, want: extended, armor: "extended-for-ever.asc"},
		{name: "an expired key", signature: "extended.sig", keys: map[string]string{"acme/a.asc": "extended-before.asc"}, want: extended},
		{name: "a revoked key", signature: "revoked.sig", keys: map[string]string{"acme/a.asc": "revoked.asc"}, want: killed},
		{name: "twice: revoked", signature: "revoked.sig", keys: map[string]string{"acme/a.asc": "revoked-before.asc", "acme/b.asc": "revoked.asc"}, want: killed, armor: "revoked.asc"},
		{name: "twice: revoked, the other way round", signature: "revoked.sig", keys: map[string]string{"acme/a.asc": "revoked.asc", "acme/b.asc": "revoked-before.asc"}, want: killed, armor: "revoked.asc"},
		{name: "an expired signature", signature: "rsa-expiring.sig", keys: map[string]string{"acme/a.asc": "rsa.asc"}, want: rsa},
		{name: "no keys", signature: "rsa.sig"},
	} {
		t.Run(test.name, func(t *testing.T) {
			tr := newTree(t, "1.0.0")
			delete(tr, "acme/key.asc")
			tr["acme/hello/1.0.0/terraform-provider-hello_1.0.0_SHA256SUMS.sig"] = gpgFile(t, test.signature)
			for at, name := range test.keys {
				tr[at] = gpgFile(t, name)
			}
			b := newBackend(t, tr.mapFS())
			rel, err := b.Release(t.Context(), acmeHello, "1.0.0")
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, key := range rel.Packages[0].SigningKeys {
				got = append(got, key.KeyID)
			}
			if g := strings.Join(got, " "); g != test.want {
				t.Errorf("keys %s, want %s", g, test.want)
			}
			if test.armor != "" && rel.Packages[0].SigningKeys[0].ASCIIArmor != gpgFile(t, test.armor) {
				t.Errorf("the first key's armor is not that of %s", test.armor)
			}
		})
	}
}

// A key that expires is a problem then, although no file changes.
func TestKeyExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // whose time begins in 2000
		tr := newTree(t, "1.0.0")
		for to, from := range map[string]string{"acme/key.asc": "extended-before.asc", "acme/hello/1.0.0/terraform-provider-hello_1.0.0_SHA256SUMS.sig": "extended.sig"} {
			tr[to] = gpgFile(t, from)
		}
		var log bytes.Buffer
		b := rekisteri.NewFSBackend(newLiveFS(tr), &rekisteri.FSOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		versionsOf(t, b)
		if log.Len() > 0 {
			t.Errorf("before it expires, the log says %s", log.String())
		}
		time.Sleep(time.Until(time.Date(2024, 3, 1, 0, 0, 1, 0, time.UTC)))
		versionsOf(t, b)
		synctest.Wait()
		if !strings.Contains(log.String(), "expired on 2024-03-01") {
			t.Errorf("after it has expired, the log says %s", log.String())
		}
	})
}
