package publish

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

const publishedLine = "published acme/hello 1.0.0\n"

// A release is published with all its files, and once.
func TestPublish(t *testing.T) {
	r := newRegistry(t)
	files := releaseOf(t, "first")
	dir := writeDist(t, files)
	got := r.publish(dir)
	if got.err != nil || got.stdout != publishedLine {
		t.Fatalf("%+v", got)
	}
	if !maps.Equal(r.published(), files) {
		t.Errorf("published are %q", slices.Sorted(maps.Keys(r.published())))
	}
	if want := "[SHA256SUMS SHA256SUMS.sig darwin_arm64.zip linux_amd64.zip manifest.json]"; fmt.Sprint(r.uploads()) != want {
		t.Errorf("uploads %v, want %s", r.uploads(), want)
	}
	for _, name := range []string{zipFile, macFile, sumsFile} {
		if !strings.Contains(got.stderr, "uploaded "+name+" (") {
			t.Errorf("stderr does not tell of %s:\n%s", name, got.stderr)
		}
	}

	r.requests = nil
	if got = r.publish(dir); got.err != nil || got.stdout != "acme/hello 1.0.0 was published already, with these files\n" {
		t.Errorf("again: %+v", got)
	}
	if want := "[SHA256SUMS]"; fmt.Sprint(r.uploads()) != want {
		t.Errorf("again: uploads %v, want %s", r.uploads(), want)
	}
	if got = r.publish(writeDist(t, releaseOf(t, "second"))); got.err == nil || got.stdout != "" || !strings.Contains(got.err.Error(), "409 Conflict: acme/hello 1.0.0 is published already") {
		t.Errorf("another build: %+v", got)
	}
}

// What was uploaded before is not sent again, and does no harm if it is of
// another build.
func TestPublishAfterAnother(t *testing.T) {
	good, old := releaseOf(t, "first"), releaseOf(t, "old")
	for _, test := range []struct {
		name    string
		files   map[string]string
		before  []string // files that were uploaded
		uploads string   // empty: it depends on which comes first
	}{
		{name: "a zip", files: good, before: []string{zipFile},
			uploads: "[SHA256SUMS SHA256SUMS.sig darwin_arm64.zip manifest.json]"},
		{name: "all but SHA256SUMS", files: good, before: []string{zipFile, macFile, prefix + "manifest.json", sumsFile + ".sig"},
			uploads: "[SHA256SUMS]"},
		{name: "all but the signature", files: good, before: []string{zipFile, macFile, prefix + "manifest.json", sumsFile},
			uploads: "[SHA256SUMS SHA256SUMS.sig]"},
		{name: "all but a zip", files: good, before: []string{macFile, prefix + "manifest.json", sumsFile, sumsFile + ".sig"},
			uploads: "[SHA256SUMS SHA256SUMS.sig linux_amd64.zip]"},
		{name: "a zip of another build", files: old, before: []string{zipFile}},
		{name: "another build without SHA256SUMS", files: old, before: []string{zipFile, macFile, prefix + "manifest.json"},
			uploads: "[SHA256SUMS SHA256SUMS SHA256SUMS.sig darwin_arm64.zip linux_amd64.zip manifest.json]"},
		{name: "another build without a zip", files: old, before: []string{zipFile, prefix + "manifest.json", sumsFile, sumsFile + ".sig"},
			uploads: "[SHA256SUMS SHA256SUMS.sig darwin_arm64.zip linux_amd64.zip]"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRegistry(t)
			for _, name := range test.before {
				if status := r.put(name, test.files[name]); status != 202 {
					t.Fatalf("%s: %d", name, status)
				}
			}
			got := r.publish(writeDist(t, good))
			if got.err != nil || got.stdout != publishedLine || !maps.Equal(r.published(), good) {
				t.Errorf("%+v", got)
			}
			if test.uploads != "" && fmt.Sprint(r.uploads()) != test.uploads {
				t.Errorf("uploads %v, want %s\n%s", r.uploads(), test.uploads, got.stderr)
			}
		})
	}
}

// A release of which the registry has a wrong zip, with the right SHA256SUMS,
// can still be published.
func TestPublishAfterWrongZip(t *testing.T) {
	files := releaseOf(t, "first")
	r := newRegistry(t)
	wrong := maps.Clone(files)
	wrong[zipFile] = zipOf(t, "terraform-provider-hello_v1.0.0", "damaged")
	for _, name := range []string{macFile, zipFile, prefix + "manifest.json", sumsFile + ".sig", sumsFile} {
		if status := r.put(name, wrong[name]); status != 202 && name != sumsFile {
			t.Fatalf("%s: %d", name, status)
		}
	}
	got := r.publish(writeDist(t, files))
	if got.err != nil || got.stdout != publishedLine || !maps.Equal(r.published(), files) {
		t.Errorf("%+v", got)
	}
}

// Each failure says what is wrong, and nothing is published.
func TestPublishFailures(t *testing.T) {
	page := func(status int, headers ...string) func(w http.ResponseWriter, req *http.Request) bool {
		return func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method != http.MethodPut {
				return false
			}
			for i := 0; i < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(status)
			w.Write([]byte("<html>a login page</html>"))
			return true
		}
	}
	for _, test := range []struct {
		name   string
		edit   func(*publisher)
		before func(w http.ResponseWriter, req *http.Request) bool
		token  string
		err    string // a part of the error
	}{
		{name: "wrong token", token: "wrong", err: sumsFile + ": 401 Unauthorized: the registry does not know the token"},
		{name: "another namespace", edit: func(p *publisher) { p.provider = "other/hello" }, err: "403 Forbidden: the token may not publish this provider"},
		{name: "login page", before: page(200, "Content-Type", "text/html"), err: "the answer is 200, but it is not a registry's"},
		{name: "created by another server", before: page(201), err: "the answer is 201, but it is not a registry's"},
		{name: "redirect to a login page", before: page(302, "Location", "https://login.example/in?state="+secret),
			err: "302 Found: uploads are redirected to https://login.example/in, and redirects are not followed"},
		{name: "proxy with a limit", before: page(413), err: "413 Request Entity Too Large: a proxy in front of the registry limits the size of uploads"},
		{name: "publishing is off", before: page(405), err: "405 Method Not Allowed: the registry does not accept uploads"},
		{name: "full disk", before: page(507), err: "507 Insufficient Storage"},
		{name: "state that does not fit the status", before: func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method == http.MethodPut {
				w.Write([]byte(`{"state":"staged"}`))
			}
			return req.Method == http.MethodPut
		}, err: "the answer is 200, but it is not a registry's"},
		{name: "registry that stays incomplete", before: func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method == http.MethodPut {
				w.WriteHeader(202)
				w.Write([]byte(`{"state":"staged","missing":["` + zipFile + `"]}`))
			}
			return req.Method == http.MethodPut
		}, err: "all files were sent, but the registry still lacks " + zipFile},
		{name: "control characters", before: func(w http.ResponseWriter, req *http.Request) bool {
			if req.Method == http.MethodPut {
				w.WriteHeader(409)
				w.Write([]byte(`{"detail":"a\u001b[2Jb"}`))
			}
			return req.Method == http.MethodPut
		}, err: "409 Conflict: a [2Jb"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := newRegistry(t)
			r.before = test.before
			if test.token != "" {
				t.Setenv(tokenVariable, test.token)
			}
			edit := test.edit
			if edit == nil {
				edit = func(*publisher) {}
			}
			got := r.publish(writeDist(t, releaseOf(t, "first")), edit)
			if got.err == nil || !strings.Contains(got.err.Error(), test.err) || got.stdout != "" {
				t.Errorf("%+v\nwant %q", got, test.err)
			}
			if len(r.published()) > 0 {
				t.Error("a release was published")
			}
		})
	}
}

// Nothing is sent of a release that has problems.
func TestPublishProblems(t *testing.T) {
	r := newRegistry(t)
	files := releaseOf(t, "first")
	delete(files, zipFile)
	delete(files, macFile)
	got := r.publish(writeDist(t, files))
	if got.err == nil || !strings.Contains(got.err.Error(), "nothing was sent") || len(r.requests) > 0 {
		t.Errorf("%+v after %q", got, r.requests)
	}
	for _, name := range []string{zipFile, macFile} {
		if want := name + ": SHA256SUMS names this zip, and it is missing; copy the zip that was released\n"; !strings.Contains(got.stderr, want) {
			t.Errorf("stderr has no %q:\n%s", want, got.stderr)
		}
	}
}

// A signature by a key that the registry does not know is refused before any zip
// is sent.
func TestPublishUnknownKey(t *testing.T) {
	r := newRegistry(t)
	servertest.WriteFile(t, filepath.Join(r.dir, "acme", "key.asc"), "")
	servertest.WriteFile(t, filepath.Join(r.dir, "acme", "other.asc"), otherKey().Armor())
	got := r.publish(writeDist(t, releaseOf(t, "first")))
	if got.err == nil || !strings.Contains(got.err.Error(), "422 Unprocessable Entity: the registry does not know the signing key "+testKey().ID()) {
		t.Errorf("%+v", got)
	}
	if want := "[SHA256SUMS SHA256SUMS.sig]"; fmt.Sprint(r.uploads()) != want {
		t.Errorf("uploads %v, want %s", r.uploads(), want)
	}
}

// The command fails if the registry does not list what it has accepted, and
// trusts it if the token may not read.
func TestPublishListed(t *testing.T) {
	t.Setenv(tokenVariable, secret)
	dir := writeDist(t, releaseOf(t, "first"))
	for _, test := range []struct {
		name   string
		status int // of the list of versions
		err    string
	}{
		{name: "not listed", status: 404, err: "the registry has accepted acme/hello 1.0.0, but does not serve it"},
		{name: "token that may not read", status: 403},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &publisher{to: "https://r.example/tf", provider: "acme/hello", transport: transport(func(req *http.Request) (*http.Response, error) {
					if req.Method == http.MethodPut {
						defer req.Body.Close()
						return respond(req, 200, `{"state":"unchanged"}`), nil
					}
					return respond(req, test.status, ""), nil
				})}
				err := p.run(t.Context(), []string{dir}, io.Discard, io.Discard)
				if (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %q", err, test.err)
				}
			})
		})
	}
}

// The command line is checked before anything else.
func TestPublishUsage(t *testing.T) {
	t.Setenv(tokenVariable, secret)
	for _, test := range []struct {
		name, to, provider string
		args               []string
		err                string
	}{
		{name: "no directory", to: "localhost", provider: "acme/hello", err: "give one directory"},
		{name: "flags after the directory", to: "localhost", provider: "acme/hello", args: []string{"dist", "-key", "x"}, err: "after the flags"},
		{name: "no provider", to: "localhost", args: []string{"dist"}, err: "-provider must be"},
		{name: "provider without a namespace", to: "localhost", provider: "hello", args: []string{"dist"}, err: "-provider must be"},
		{name: "provider in upper case", to: "localhost", provider: "Acme/hello", args: []string{"dist"}, err: "-provider must be"},
		{name: "provider with three parts", to: "localhost", provider: "host/acme/hello", args: []string{"dist"}, err: "-provider must be"},
		{name: "no registry", provider: "acme/hello", args: []string{"dist"}, err: "REKISTERI_TO"},
		{name: "password in the URL", to: "https://me:pass@localhost", provider: "acme/hello", args: []string{"dist"}, err: "tokens come from the environment"},
		{name: "malformed URL", to: "https://me:pass@local host:x", provider: "acme/hello", args: []string{"dist"}, err: "it does not parse"},
		{name: "ftp", to: "ftp://localhost", provider: "acme/hello", args: []string{"dist"}, err: "its scheme is ftp"},
		{name: "no host", to: "https:///tf", provider: "acme/hello", args: []string{"dist"}, err: "it has no host"},
		{name: "query", to: "https://localhost/?x=1", provider: "acme/hello", args: []string{"dist"}, err: "it has a query"},
		{name: "http to another machine", to: "http://registry.example", provider: "acme/hello", args: []string{"dist"}, err: "the token is not sent to http://registry.example"},
	} {
		p := &publisher{to: test.to, provider: test.provider}
		var out servertest.Buffer
		err := p.run(t.Context(), test.args, &out, &out)
		if err == nil || !strings.Contains(err.Error(), test.err) || strings.Contains(err.Error(), "pass@") {
			t.Errorf("%s: %v, want %q", test.name, err, test.err)
		}
	}
}
