package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"strings"

	"github.com/rekisteri/rekisteri"
)

// trialHost is the made-up host that the printed trial gives the registry. A
// name without a port can stand in a TF_TOKEN_ variable, too.
const trialHost = "rekisteri.test"

// printTrial writes shell commands that install a provider from the registry
// at url, in a fresh folder.
func printTrial(ctx context.Context, w io.Writer, backend *rekisteri.FSBackend, url string) {
	p, ok := firstProvider(ctx, backend)
	if !ok {
		return
	}
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
TF_CLI_CONFIG_FILE="$PWD/terraform.rc" "$(command -v terraform || command -v tofu)" init

`, p, trialHost, url, localName(p.Type))
}

// firstProvider returns a provider of the tree. In the sample that is the one
// whose files are here.
func firstProvider(ctx context.Context, backend *rekisteri.FSBackend) (rekisteri.Provider, bool) {
	for p, err := range backend.Providers(ctx) {
		if err == nil {
			return p, true
		}
	}
	return rekisteri.Provider{}, false
}

// localName returns a provider's local name in a module, which must begin with
// a letter.
func localName(providerType string) string {
	if strings.IndexAny(providerType[:1], "0123456789-_") == 0 {
		return "p" + providerType
	}
	return providerType
}

// dialable returns an address that reaches a listener on this machine.
func dialable(addr net.Addr) string {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return addr.String()
	}
	return fmt.Sprintf("127.0.0.1:%d", tcp.Port)
}

// isTerminal reports whether w is a terminal, as nearly as the standard
// library can tell.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
