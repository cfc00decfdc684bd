package server

import (
	"fmt"
	"io"
	"net"
	"os"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/names"
)

// trialHost is the made-up host name of the registry in the printed commands.
// It has no port, so that it can also be the name of a TF_TOKEN_ variable.
const trialHost = "rekisteri.test"

// printTrial writes shell commands that install a provider, in a new directory,
// from the registry whose providers.v1 service is at url.
func printTrial(w io.Writer, p rekisteri.Provider, url string) {
	fmt.Fprintf(w, `
Paste this into a shell to install %[1]v from here:

cd "$(mktemp -d)"
cat >terraform.rc <<'EOF'
host "%[2]s" {
  services = { "providers.v1" = "%[3]s" }
}
EOF
cat >main.tf <<'EOF'
terraform {
  required_providers {
    %[4]s = { source = "%[2]s/%[1]v" }
  }
}
EOF
if client=$(command -v terraform || command -v tofu)
then TF_CLI_CONFIG_FILE="$PWD/terraform.rc" "$client" init
else echo 'Neither terraform nor tofu is on the PATH: install one of them, then paste this again.' >&2
fi

`, p, trialHost, url, names.LocalName(p.Type))
}

// dialable returns an address that reaches a listener on this machine.
func dialable(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return addr.String()
	}
	return fmt.Sprintf("127.0.0.1:%d", tcp.Port)
}

// IsTerminal reports whether w is a terminal, as far as the standard library
// can tell.
func IsTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
