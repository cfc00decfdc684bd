package pgptest_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri/internal/openpgp"
	"github.com/rekisteri/rekisteri/internal/pgptest"
)

func TestSignaturesVerify(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name string
		key  func(k *pgptest.Key)
		want error
	}{
		{name: "good", key: func(*pgptest.Key) {}},
		{name: "expired", key: func(k *pgptest.Key) { k.Expires = now.Add(-time.Hour) }, want: openpgp.ErrExpiredKey},
		{name: "expires later", key: func(k *pgptest.Key) { k.Expires = now.Add(time.Hour) }},
		{name: "revoked", key: func(k *pgptest.Key) { k.Revoked = true }, want: openpgp.ErrRevokedKey},
	} {
		k := pgptest.NewKey(test.name)
		test.key(k)
		keys, err := openpgp.ReadKeys([]byte(k.Armor()))
		if err != nil || len(keys) != 1 || keys[0].ID != k.ID() {
			t.Fatalf("%s: %+v, %v", test.name, keys, err)
		}
		ring := openpgp.NewKeyring([]openpgp.KeyFile{{Keys: keys}})
		if _, err := ring.Verify([]byte("document"), []byte(k.Sign("document", time.Time{})), now); !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		if _, err := ring.Verify([]byte("other"), []byte(k.Sign("document", time.Time{})), now); !errors.Is(err, openpgp.ErrBadSignature) {
			t.Errorf("%s, another document: %v", test.name, err)
		}
		if k.Sign("document", time.Time{}) == k.Sign("document", now) {
			t.Errorf("%s: two signatures are equal", test.name)
		}
	}
}

// GnuPG accepts the keys and the signatures, where it is installed.
func TestGnuPGVerifies(t *testing.T) {
	gpg, err := exec.LookPath("gpg")
	if err != nil {
		t.Skip("gpg is not installed")
	}
	dir := t.TempDir()
	k := pgptest.NewKey("a key <key@example.com>")
	for name, text := range map[string]string{"key.asc": k.Armor(), "document": "document", "document.sig": k.Sign("document", time.Time{})} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range [][]string{{"--import", "key.asc"}, {"--verify", "document.sig", "document"}} {
		cmd := exec.Command(gpg, append([]string{"--batch", "--no-tty", "--homedir", dir}, args...)...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil && !strings.Contains(string(out), "agent") {
			t.Errorf("gpg %v: %v\n%s", args, err, out)
		}
	}
}
