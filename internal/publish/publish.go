// Package publish is the command that uploads a release to a registry.
package publish

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/names"
	"github.com/rekisteri/rekisteri/internal/release"
	"github.com/rekisteri/rekisteri/internal/server"
)

const notes = `The directory is what GoReleaser wrote. Of the files in it, only those of the
release are sent. The manifest may be in its parent directory.

The token comes from the variable REKISTERI_TOKEN, or from Terraform's settings:
TF_TOKEN_<host>, or a credentials block of its configuration.

The command ends with status 0 only if the release is published. It is
safe to run again: it sends only what is missing.`

// Command returns the command that publishes a release.
func Command() server.Command {
	return server.Command{
		Name:    "publish",
		Args:    "directory",
		Summary: "publish the release in the directory; exit with 1 if it is not published",
		Notes:   notes,
		Setup: func(flags *flag.FlagSet) server.Run {
			p := new(publisher)
			flags.StringVar(&p.to, "to", "", "`URL` or host name of the registry; with a path, it is where the registry is mounted")
			flags.StringVar(&p.provider, "provider", "", "`namespace/type` of the provider")
			flags.StringVar(&p.keyFile, "key", "", "`file` with the public key to verify the signature with (default: the *.asc files in the directory or its parent; without any, only the registry verifies)")
			flags.BoolVar(&p.insecure, "insecure-http", false, "send the token over plain http to other machines as well")
			return p.run
		},
	}
}

// A publisher is the publish command.
type publisher struct {
	to, provider, keyFile string
	insecure              bool
	transport             http.RoundTripper // nil: the default one; tests set it
}

func (p *publisher) run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) != 1 {
		return server.Usagef("give one directory, after the flags")
	}
	namespace, typ, _ := strings.Cut(p.provider, "/")
	if !names.Valid(namespace) || !names.Valid(typ) {
		return server.Usagef("-provider must be a namespace and a type in lower case, such as acme/foo")
	}
	if p.to == "" {
		return server.Usagef("set -to, or the variable REKISTERI_TO, to the URL or host name of the registry")
	}
	to, err := parseRegistry(p.to)
	if err != nil {
		return server.Usagef("-to is not the URL or host name of a registry: %w", err)
	}
	token, err := findToken(to.Host)
	if err != nil {
		return err
	}
	progress := &progress{w: stderr, terminal: server.IsTerminal(stderr)}
	client := newClient(token, p.insecure, p.transport, progress)
	result, err := p.publish(ctx, client, to, rekisteri.Provider{Namespace: namespace, Type: typ}, args[0])
	progress.finish()
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted: run the command again to go on")
	}
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, result)
	return nil
}

// publish publishes the release in a directory, and returns a line for the user.
func (p *publisher) publish(ctx context.Context, c *client, to *url.URL, provider rekisteri.Provider, dir string) (string, error) {
	if err := c.mayGetToken(to); err != nil {
		return "", err
	}
	d, findings, err := readDist(ctx, dir, provider.Type, p.keyFile)
	if err != nil {
		return "", err
	}
	for _, f := range findings {
		c.progress.printf("%s", findingText(f))
	}
	if d == nil {
		return "", errors.New("the release cannot be published, and nothing was sent")
	}
	base, err := c.discover(ctx, to)
	if err != nil {
		return "", err
	}
	t := &target{c, base, provider, d.version}
	before, err := t.upload(ctx, d)
	if err != nil {
		return "", err
	}
	if err := t.checkListed(ctx); err != nil {
		return "", fmt.Errorf("the registry has accepted %v %s, but does not serve it: %w", provider, d.version, err)
	}
	if before {
		return fmt.Sprintf("%v %s was published already, with these files", provider, d.version), nil
	}
	return fmt.Sprintf("published %v %s", provider, d.version), nil
}

// findingText returns a finding as a line.
func findingText(f release.Finding) string {
	text := f.What
	for _, part := range []string{f.Effect, f.Fix} {
		if part != "" {
			text += "; " + part
		}
	}
	if f.File != "" {
		text = f.File + ": " + text
	}
	return text
}
