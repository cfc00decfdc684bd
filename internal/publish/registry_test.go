package publish

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
)

// The base of a registry is found as Terraform finds its providers.v1.
func TestDiscover(t *testing.T) {
	document := func(service string) string { return fmt.Sprintf(`{"modules.v1":"/m/","providers.v1":%s}`, service) }
	for _, test := range []struct {
		name      string
		to        string            // default: https://r.example
		documents map[string]string // by URL; "302 ..." is a redirect, "401" a status
		insecure  bool
		want, err string
	}{
		{name: "relative", documents: map[string]string{"https://r.example/.well-known/terraform.json": document(`"/v1/providers/"`)}, want: "https://r.example/"},
		{name: "below a path", documents: map[string]string{"https://r.example/.well-known/terraform.json": document(`"/portal/tf/v1/providers/"`)}, want: "https://r.example/portal/tf/"},
		{name: "absolute", documents: map[string]string{"https://r.example/.well-known/terraform.json": document(`"https://other.example/tf/v1/providers/"`)}, want: "https://other.example/tf/"},
		{name: "host name", to: "r.example:8443", documents: map[string]string{"https://r.example:8443/.well-known/terraform.json": document(`"/v1/providers/"`)}, want: "https://r.example:8443/"},
		{name: "slash at the end", to: "https://r.example/", documents: map[string]string{"https://r.example/.well-known/terraform.json": document(`"/v1/providers/"`)}, want: "https://r.example/"},
		{name: "loopback", to: "http://127.0.0.1:5000", documents: map[string]string{"http://127.0.0.1:5000/.well-known/terraform.json": document(`"/v1/providers/"`)}, want: "http://127.0.0.1:5000/"},
		{name: "path", to: "https://r.example/portal/tf", want: "https://r.example/portal/tf/"},
		{name: "path with a slash", to: "https://r.example/tf/", want: "https://r.example/tf/"},
		{name: "redirect", documents: map[string]string{
			"https://r.example/.well-known/terraform.json": "302 https://www.r.example/tf.json",
			"https://www.r.example/tf.json":                document(`"v1/providers/"`)}, want: "https://www.r.example/"},

		{name: "redirect to http", documents: map[string]string{"https://r.example/.well-known/terraform.json": "302 http://r.example/tf.json"}, err: "the token is not sent to http://r.example"},
		{name: "redirects without end", documents: map[string]string{"https://r.example/.well-known/terraform.json": "302 /.well-known/terraform.json"}, err: "too many redirects"},
		{name: "http to another machine", to: "http://r.example", err: "the token is not sent to http://r.example, where others could read it"},
		{name: "http that is allowed", to: "http://r.example", insecure: true, documents: map[string]string{"http://r.example/.well-known/terraform.json": document(`"/v1/providers/"`)}, want: "http://r.example/"},
		{name: "nothing there", err: "https://r.example/.well-known/terraform.json: 404 Not Found; if the registry is below a path, give its URL, such as https://r.example/tf"},
		{name: "login", documents: map[string]string{"https://r.example/.well-known/terraform.json": "401"}, err: "401 Unauthorized"},
		{name: "login page", documents: map[string]string{"https://r.example/.well-known/terraform.json": "<html>"}, err: "it names no providers.v1 service"},
		{name: "no providers", documents: map[string]string{"https://r.example/.well-known/terraform.json": `{"modules.v1":"/m/"}`}, err: "it names no providers.v1 service"},
		{name: "providers for other versions", documents: map[string]string{"https://r.example/.well-known/terraform.json": document(`{}`)}, err: "it names no providers.v1 service"},
		{name: "another registry", documents: map[string]string{"https://r.example/.well-known/terraform.json": document(`"/api/registry/v1/tf-providers/"`)}, err: "but this command publishes only to registries whose URL ends in"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newClient(secret, test.insecure, transport(func(req *http.Request) (*http.Response, error) {
				if req.URL.Host == "r.example" && req.Header.Get("Authorization") != "Bearer "+secret {
					t.Errorf("%v is asked for with %q", req.URL, req.Header)
				}
				body, ok := test.documents[req.URL.String()]
				switch location, isRedirect := strings.CutPrefix(body, "302 "); {
				case !ok:
					return respond(req, 404, ""), nil
				case body == "401":
					return respond(req, 401, ""), nil
				case isRedirect:
					resp := respond(req, 302, "")
					resp.Header.Set("Location", location)
					return resp, nil
				}
				return respond(req, 200, body), nil
			}), &progress{w: io.Discard})
			to := test.to
			if to == "" {
				to = "https://r.example"
			}
			u, err := parseRegistry(to)
			if err != nil {
				t.Fatal(err)
			}
			base, err := c.discover(t.Context(), u)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%v, %v, want %q", base, err, test.err)
				}
				return
			}
			if err != nil || base.String() != test.want {
				t.Errorf("%v, %v, want %s", base, err, test.want)
			}
		})
	}
}

// A registry below a path is found by its host, and by its own URL.
func TestPublishBelowPath(t *testing.T) {
	r := newRegistry(t)
	mux := http.NewServeMux()
	mux.Handle("/portal/tf/", http.StripPrefix("/portal/tf", r))
	mux.HandleFunc("GET /.well-known/terraform.json", func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"providers.v1":"/portal/tf/v1/providers/"}`)
	})
	server := httptest.NewServer(mux)
	defer server.Close()
	dir := writeDist(t, releaseOf(t, "first"))
	if got := publishTo(t, server.URL, dir); got.err != nil || got.stdout != publishedLine {
		t.Errorf("%+v", got)
	}
	if got := publishTo(t, server.URL+"/portal/tf", dir); got.err != nil || !strings.Contains(got.stdout, "was published already") {
		t.Errorf("%+v", got)
	}
}

// The release must be listed in the end.
func TestCheckListed(t *testing.T) {
	for _, test := range []struct {
		name    string
		answers []string // the last one is repeated
		err     string
	}{
		{name: "listed", answers: []string{`200 {"versions":[{"version":"0.9.0"},{"version":"1.0.0"}]}`}},
		{name: "listed a little later", answers: []string{`404 {}`, `200 {"versions":[{"version":"0.9.0"}]}`, `200 {"versions":[{"version":"1.0.0"}]}`}},
		{name: "no right to read", answers: []string{"403 {}"}},
		{name: "no login", answers: []string{"401 {}"}},
		{name: "not listed", answers: []string{`200 {"versions":[{"version":"0.9.0"}]}`}, err: "https://r.example/tf/v1/providers/acme/hello/versions: it is not in the list"},
		{name: "no such provider", answers: []string{"404 {}"}, err: "404 Not Found"},
		{name: "login page", answers: []string{"200 <html>"}, err: "invalid character"},
		{name: "broken registry", answers: []string{"500 {}"}, err: "500 Internal Server Error"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				c := newClient(secret, false, transport(func(req *http.Request) (*http.Response, error) {
					answer := test.answers[min(asked, len(test.answers)-1)]
					asked++
					status := 0
					fmt.Sscan(answer, &status)
					return respond(req, status, answer[4:]), nil
				}), &progress{w: io.Discard})
				base, err := parseRegistry("https://r.example/tf/")
				if err != nil {
					t.Fatal(err)
				}
				begin := time.Now()
				err = (&target{c, base, rekisteri.Provider{Namespace: "acme", Type: "hello"}, "1.0.0"}).checkListed(t.Context())
				if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
					t.Errorf("%v, want %q", err, test.err)
				}
				if took := time.Since(begin); test.err == "" && took > 2*time.Second || took > 2*time.Minute {
					t.Errorf("it took %v", took)
				}
			})
		})
	}
}
