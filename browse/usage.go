package browse

import (
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/names"
)

// A usage has the texts that users paste to use a provider.
type usage struct {
	source      string // the provider's address, with the host
	block       string // of a module's configuration; empty: there is nothing to install
	credentials string // of the client's configuration, for a private registry
	services    string // of the client's configuration, for a registry on this machine without TLS
	unknownHost bool   // source has a placeholder for the host name
}

// unknownHost is the placeholder for a host name that the request does not tell.
const unknownHost = "registry.example.com"

// usage returns how to use a version of a provider.
func (v *visit) usage(p rekisteri.Provider, latest, host, services string) usage {
	u := usage{unknownHost: host == ""}
	if u.unknownHost {
		host = unknownHost
	}
	u.source = host + "/" + p.String()
	if latest == "" {
		return u
	}
	u.block = fmt.Sprintf(`terraform {
  required_providers {
    %s = {
      source  = %q
      version = %q
    }
  }
}
`, names.LocalName(p.Type), u.source, latest)
	if strings.HasPrefix(v.challenge, "Basic ") {
		u.credentials = fmt.Sprintf("credentials %q {\n  token = \"…\"\n}\n", host)
	}
	if services != "" {
		u.services = fmt.Sprintf("host %q {\n  services = { \"providers.v1\" = %q }\n}\n", host, services)
	}
	return u
}

// address returns the host in the providers' source addresses; empty: it is not
// known. Clients insist on https. For a registry without TLS on the user's machine,
// services is the URL for the host block of a client's configuration.
func (v *visit) address() (host, services string) {
	if v.host != "" {
		return v.host, ""
	}
	host = names.SourceHost(v.req.Host)
	if host == "" || v.req.TLS != nil || !isLoopback(host) {
		return host, ""
	}
	u, err := url.ParseRequestURI(v.req.RequestURI)
	if err != nil {
		return host, ""
	}
	prefix, ok := strings.CutSuffix(u.EscapedPath(), v.req.URL.EscapedPath())
	if !ok {
		return host, ""
	}
	return host, "http://" + host + prefix + "/v1/providers/"
}

func isLoopback(host string) bool {
	name, _, _ := strings.Cut(host, ":")
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}
