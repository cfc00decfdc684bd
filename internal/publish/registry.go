package publish

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	discoveryPath = "/.well-known/terraform.json"
	service       = "providers.v1"
	providersPath = "v1/providers/" // of a registry, below its base
	filesPath     = "files/"
)

// parseRegistry returns the URL that the user gives for a registry. A host name
// is short for https.
func parseRegistry(to string) (*url.URL, error) {
	if !strings.Contains(to, "://") {
		to = "https://" + to
	}
	u, err := url.Parse(to)
	if err != nil {
		return nil, errors.New("it does not parse") // the error has the URL, which may hold a password
	}
	switch {
	case u.User != nil:
		return nil, errors.New("it holds a user: tokens come from the environment")
	case u.Scheme != "https" && u.Scheme != "http":
		return nil, fmt.Errorf("its scheme is %s, not https", u.Scheme)
	case u.Hostname() == "":
		return nil, errors.New("it has no host")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, errors.New("it has a query or a fragment")
	}
	return u, nil
}

// discover returns the base of a registry's URLs, which ends in a slash. A URL
// with a path is the base itself. Otherwise the base comes from the host's
// discovery document, as for Terraform.
func (c *client) discover(ctx context.Context, to *url.URL) (*url.URL, error) {
	if strings.Trim(to.Path, "/") != "" {
		return to.JoinPath("/"), nil
	}
	at := to.JoinPath(discoveryPath)
	a, err := c.get(ctx, at)
	if err != nil {
		return nil, err
	}
	var document map[string]any
	json.Unmarshal(a.body, &document) // a document that does not parse has no service
	reference, ok := document[service].(string)
	if a.status != http.StatusOK || !ok {
		problem := fmt.Errorf("it names no %s service", service)
		if a.status != http.StatusOK {
			problem = a.error()
		}
		return nil, fmt.Errorf("%s: %w; if the registry is below a path, give its URL, such as %s", at, problem, to.JoinPath("tf"))
	}
	providers, err := a.url.Parse(reference)
	if err != nil {
		return nil, fmt.Errorf("%s: the URL of %s does not parse", at, service)
	}
	base, ok := strings.CutSuffix(providers.Path, providersPath)
	if !ok {
		return nil, fmt.Errorf("%s names %s for %s, but this command publishes only to registries whose URL ends in %s", at, providers.Redacted(), service, providersPath)
	}
	return &url.URL{Scheme: providers.Scheme, Host: providers.Host, Path: base}, nil
}

// listedWithin is how long a registry may take to list a release that it has
// published. Replicas over one tree notice it within two seconds.
const listedWithin = 15 * time.Second

// checkListed returns nil if the registry lists the version, or does not let the
// token read.
func (t *target) checkListed(ctx context.Context) error {
	u := t.base.JoinPath(providersPath, t.provider.Namespace, t.provider.Type, "versions")
	var waited time.Duration
	for pause := 250 * time.Millisecond; ; pause *= 2 {
		a, err := t.get(ctx, u)
		if err != nil {
			return err
		}
		var list struct{ Versions []struct{ Version string } }
		switch {
		case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
			return nil
		case a.status == http.StatusOK:
			err = json.Unmarshal(a.body, &list)
		default:
			err = a.error()
		}
		for _, v := range list.Versions {
			if v.Version == t.version {
				return nil
			}
		}
		if waited += pause; waited > listedWithin {
			return fmt.Errorf("%v: %w", u, cmp.Or(err, errors.New("it is not in the list")))
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}
