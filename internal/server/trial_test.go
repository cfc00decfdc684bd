package server

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri"
)

// TestTrialWithoutClient runs the printed commands where there is no client.
func TestTrialWithoutClient(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	bin := t.TempDir()
	for _, name := range []string{"mktemp", "cat"} {
		tool, err := exec.LookPath(name)
		if err != nil {
			t.Skip(err)
		}
		if err := os.Symlink(tool, filepath.Join(bin, name)); err != nil {
			t.Skip(err)
		}
	}
	var block strings.Builder
	printTrial(&block, foo, "http://127.0.0.1:5000/v1/providers/")
	_, script, _ := strings.Cut(block.String(), "from here:\n")
	cmd := exec.CommandContext(t.Context(), sh)
	cmd.Stdin = strings.NewReader(script + "\necho the shell goes on\n")
	cmd.Env = []string{"PATH=" + bin, "TMPDIR=" + t.TempDir()}
	out, err := cmd.CombinedOutput()
	const want = "Neither terraform nor tofu is on the PATH: install one of them, then paste this again.\nthe shell goes on\n"
	if err != nil || string(out) != want {
		t.Errorf("%q, %v, want %q", out, err, want)
	}
}

func TestTrialLocalName(t *testing.T) {
	for name, want := range map[string]string{"foo": "foo", "3com": "p3com", "-x": "p-x", "_x": "p_x"} {
		var block strings.Builder
		printTrial(&block, rekisteri.Provider{Namespace: "acme", Type: name}, "http://127.0.0.1:5000/v1/providers/")
		if line := "    " + want + ` = { source = "rekisteri.test/acme/` + name + `" }`; !strings.Contains(block.String(), line) {
			t.Errorf("no line %q in\n%s", line, block.String())
		}
	}
}

func TestDialable(t *testing.T) {
	for listens, want := range map[string]string{
		"0.0.0.0:80": "127.0.0.1:80", "[::]:80": "127.0.0.1:80", "127.0.0.1:80": "127.0.0.1:80", "192.0.2.1:80": "192.0.2.1:80", "[::1]:80": "[::1]:80",
	} {
		addr, err := net.ResolveTCPAddr("tcp", listens)
		if err != nil {
			t.Fatal(err)
		}
		if got := dialable(addr); got != want {
			t.Errorf("dialable(%s) = %s, want %s", listens, got, want)
		}
	}
}
