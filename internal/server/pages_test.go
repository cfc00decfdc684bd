package server

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

// browserGet sends what a browser sends, without following redirects.
func browserGet(t *testing.T, url, token string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
	if token != "" {
		req.SetBasicAuth("anybody", token)
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var body strings.Builder
	if err := resp.Write(&body); err != nil {
		t.Fatal(err)
	}
	return resp, body.String()
}

// TestPages opens the pages of the command in a browser.
func TestPages(t *testing.T) {
	const token = "tok-for-acme"
	tokens := secret(t, fmt.Sprintf("%x acme\n", sha256.Sum256([]byte(token))))
	linkKey := secret(t, strings.Repeat("ab", 32))
	const list, foo, versions = "providers/acme/foo\"", `source  = &#34;registry.example.com:8443/acme/foo&#34;`, `{"versions":[`
	for _, test := range []struct {
		name, path, token string
		args              []string
		status            int
		want              string // in the answer
	}{
		{name: "the list", path: "/", status: 200, want: list},
		{name: "a provider", path: "/providers/acme/foo", args: []string{"-external-url", "https://registry.example.com:8443"}, status: 200, want: foo},
		{name: "an external URL with an IPv6 address", path: "/providers/acme/foo", args: []string{"-external-url", "https://[::1]:8443"}, status: 200, want: "source  = &#34;127.0.0.1:"},
		{name: "a provider that is not there", path: "/providers/acme/nothing", status: 404, want: "<h1>Not found</h1>"},
		{name: "an unknown path", path: "/x", status: 404, want: "<h1>Not found</h1>"},
		{name: "a document", path: "/v1/providers/acme/foo/versions", status: 200, want: versions},
		{name: "an unknown document", path: "/v1/providers", status: 404, want: `{"errors":["Not Found"]}`},
		{name: "a malformed document", path: "/v1/providers/acme/foo", status: 404, want: `{"errors":["Not Found"]}`},
		{name: "a missing file", path: "/files/x", status: 404, want: `{"errors":["Not Found"]}`},
		{name: "health", path: "/healthz", status: 200, want: `"status":"ok"`},

		{name: "a prefix", args: []string{"-prefix", "/tf"}, path: "/", status: 200, want: list},
		{name: "a prefix without a slash", args: []string{"-prefix", "/tf"}, path: "", status: 308, want: "Location: ./tf/"},

		{name: "tokens, the list without one", args: []string{"-tokens", tokens, "-link-key", linkKey}, path: "/", status: 401, want: "Www-Authenticate: Basic realm="},
		{name: "tokens, the list", args: []string{"-tokens", tokens, "-link-key", linkKey}, path: "/", token: token, status: 200, want: list},
		{name: "tokens, a namespace that may not be read", args: []string{"-tokens", tokens, "-link-key", linkKey}, path: "/providers/acme-labs/foo", token: token, status: 403, want: "<h1>No access</h1>"},
		{name: "tokens, Basic for a document", args: []string{"-tokens", tokens, "-link-key", linkKey}, path: "/v1/providers/acme/foo/versions", token: token, status: 401, want: "Www-Authenticate: Bearer\r\n"},

		{name: "a link key without tokens", args: []string{"-link-key", linkKey}, path: "/", status: 404, want: `{"errors":["Not Found"]}`},
		{name: "a link key without tokens and a prefix", args: []string{"-link-key", linkKey, "-prefix", "/tf"}, path: "", status: 404, want: `{"errors":["Not Found"]}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := servertest.Start(t, run, test.args...)
			resp, answer := browserGet(t, s.URL+test.path, test.token)
			if resp.StatusCode != test.status || !strings.Contains(answer, test.want) {
				t.Errorf("GET %s is\n%s\nwant %d with %q", test.path, answer, test.status, test.want)
			}
			if strings.Contains(test.name, "tokens,") && strings.Contains(answer, "labs") {
				t.Errorf("the answer tells of a namespace that the token may not read:\n%s", answer)
			}
		})
	}
}
