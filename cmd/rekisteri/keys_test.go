package main

import (
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri/internal/pgptest"
	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

// TestSigningKeys has clients install releases whose keys are in several states.
// docs/troubleshooting.md and docs/publishing.md quote what they print.
func TestSigningKeys(t *testing.T) {
	skipLong(t)
	t.Parallel()
	good, other, expired, revoked := pgptest.NewKey("good"), pgptest.NewKey("other"), pgptest.NewKey("expired"), pgptest.NewKey("revoked")
	expired.Expires = expired.Created.AddDate(1, 0, 0)
	revoked.Revoked = true
	const (
		installed = "signed, key ID " // Terraform: self-signed
		unknown   = "authentication signature from unknown issuer"
	)
	tests := []struct {
		namespace       string
		keys            []*pgptest.Key // in the tree
		signer          *pgptest.Key
		otherBytes      bool // are what was signed
		env             string
		terraform, tofu string // in what they print
	}{
		{namespace: "several", keys: []*pgptest.Key{other, expired, revoked, good}, signer: good, terraform: installed + good.ID(), tofu: installed + good.ID()},
		{namespace: "unknown", keys: []*pgptest.Key{other}, signer: good, terraform: unknown, tofu: unknown},
		{namespace: "revoked", keys: []*pgptest.Key{revoked}, signer: revoked, terraform: "openpgp: signature made by revoked key", tofu: "openpgp: signature made by revoked key"},
		{namespace: "expired", keys: []*pgptest.Key{expired}, signer: expired, terraform: installed + expired.ID(), tofu: "gpg key expired, this will fail in future versions"},
		{namespace: "enforced", keys: []*pgptest.Key{expired}, signer: expired, env: "OPENTOFU_ENFORCE_GPG_EXPIRATION=true", terraform: installed + expired.ID(), tofu: unknown},
		{namespace: "other-bytes", keys: []*pgptest.Key{good}, signer: good, otherBytes: true, terraform: "openpgp: invalid signature", tofu: "openpgp: invalid signature"},
	}
	tree := t.TempDir()
	for _, test := range tests {
		dir := filepath.Join(tree, test.namespace)
		copySample(t, "demo/hello", filepath.Join(dir, "hello"))
		for _, key := range test.keys {
			servertest.WriteFile(t, filepath.Join(dir, key.ID()+".asc"), key.Armor())
		}
		name := filepath.Join(dir, "hello", "1.0.0", "terraform-provider-hello_1.0.0_SHA256SUMS")
		sums, err := os.ReadFile(name)
		if err == nil {
			err = os.Remove(name + ".sig") // a copy of an embedded file is read-only
		}
		if err != nil {
			t.Fatal(err)
		}
		if test.otherBytes {
			sums = sums[1:]
		}
		servertest.WriteFile(t, name+".sig", test.signer.Sign(string(sums), time.Time{}))
	}
	servertest.EachClient(t, func(t *testing.T, client string) {
		s := start(t, "-dir", tree)
		for _, test := range tests {
			want := test.terraform
			if path.Base(t.Name()) == "tofu" {
				want = test.tofu
			}
			out, _ := runInit(t, client, newModule(t, host+"/"+test.namespace+"/hello"), cleanEnv(t, clientConfig(t, s.URL, ""), test.env))
			if !strings.Contains(words(out), want) {
				t.Errorf("%s: want %q in\n%s", test.namespace, want, out)
			}
		}
	})
}
