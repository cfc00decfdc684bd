package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/bucket/internal/storetest"
	"github.com/rekisteri/rekisteri/internal/server/servertest"
	"google.golang.org/api/googleapi"
)

// TestWrongURL has URLs that no bucket can have. The errors have nothing of
// what may be a secret.
func TestWrongURL(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, url, want string }{
		{name: "none", want: "set -bucket, or the variable REKISTERI_BUCKET"},
		{name: "a name", url: "providers", want: "does not begin with s3://"},
		{name: "no URL", url: "s3://pro viders", want: "is not a URL, such as"},
		{name: "another scheme", url: "https://s3cret@providers", want: "does not begin with s3://, gs:// or azblob://"},
		{name: "a directory", url: "file:///srv/providers", want: "does not begin with s3://"},
		{name: "a user", url: "s3://AKID:s3cret@providers?region=eu-west-1", want: "contains credentials"},
		{name: "a user in the endpoint", url: "s3://providers?region=eu-west-1&endpoint=http://AKID:s3cret@127.0.0.1", want: "contains credentials"},
		{name: "no bucket", url: "s3://?region=eu-west-1", want: "names no bucket"},
		{name: "a path", url: "s3://providers/team/a?region=eu-west-1", want: "add the parameter prefix=team/a/"},
		{name: "a prefix without a slash", url: "gs://providers?prefix=team", want: "the prefix team in -bucket does not end with a slash"},
		{name: "an endpoint without a scheme", url: "s3://providers?endpoint=minio:9000", want: "the endpoint in -bucket is not a URL"},
		{name: "a user in an endpoint without a scheme", url: "s3://providers?endpoint=AKID:s3cret@127.0.0.1:9000", want: "the endpoint in -bucket is not a URL"},
		{name: "a parameter that cannot be read", url: "s3://providers?endpoint=http://AKID:s3%zzcret@127.0.0.1", want: "is not a URL"},
		{name: "one object", url: "s3://providers?region=eu-west-1&key=s3cret", want: "has the parameter key"},
		{name: "an unknown parameter", url: "s3://providers?regoin=eu-west-1", want: `unknown query parameter "regoin"`},
		{name: "a wrong value", url: "s3://providers?region=eu-west-1&use_path_style=on", want: "use_path_style"},
	} {
		t.Run(test.name, func(t *testing.T) {
			args := []string{"check"}
			if test.url != "" {
				args = append(args, "-bucket", test.url)
			}
			err := newProgram().Run(t.Context(), args, io.Discard, io.Discard)
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "s3cret") {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
	if err := newProgram().Run(t.Context(), []string{"serve", "-refresh-every", "10ms", "-bucket", "s3://providers"}, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "-refresh-every is 10ms: set it to 1s or more") {
		t.Error(err)
	}
}

// TestUnusable opens buckets that cannot be used until the operator does
// something, and those that cannot be reached for now.
func TestUnusable(t *testing.T) {
	for name, value := range map[string]string{"AWS_REGION": "", "AWS_DEFAULT_REGION": "", "AWS_CONFIG_FILE": os.DevNull} {
		t.Setenv(name, value)
	}
	s := storetest.S3(t)
	name := s.NewBucket(t)
	slow := storetest.NewProxy(t, s.Addr)
	slow.Hook(func(w http.ResponseWriter, _ *http.Request) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	})
	denied := storetest.NewProxy(t, s.Addr)
	denied.Hook(func(w http.ResponseWriter, _ *http.Request) bool {
		refuse(w)
		return true
	})
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for _, test := range []struct {
		name, url, secret string
		want              string
		outage            bool
	}{
		{name: "no such bucket", url: s.URL("nothing", s.Addr), want: "there is no bucket s3://nothing/: create it, or correct -bucket and its region: "},
		{name: "a wrong secret", url: s.URL(name, s.Addr), secret: "wrong", want: "the bucket s3://" + name + "/ cannot be listed: set credentials that may list and read it"},
		{name: "access denied", url: s.URL(name, denied.Addr), want: "the bucket s3://" + name + "/ cannot be listed: set credentials that may list and read it"},
		{name: "no region", url: "s3://" + name, want: "check the region in -bucket"},
		{name: "no route", url: s.URL(name, closed.Addr().String()), want: "cannot be reached, so clients get errors until it can: check the network", outage: true},
		{name: "an overloaded store", url: s.URL(name, slow.Addr), want: "cannot be reached, so clients get errors until it can: check the network", outage: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.secret != "" {
				t.Setenv("AWS_SECRET_ACCESS_KEY", test.secret)
			}
			var log bytes.Buffer
			src := &source{url: test.url, refreshEvery: time.Second}
			_, err := src.Open(t.Context(), &rekisteri.FSOptions{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			got := log.String()
			if !test.outage {
				if err == nil {
					t.Fatal("it can be opened")
				}
				got = err.Error()
			} else if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(got, test.want) {
				t.Errorf("%s\nwant %q", got, test.want)
			}
			t.Log(got)
			for _, secret := range append(s.Secrets, "max-keys") {
				if strings.Contains(got, secret) {
					t.Errorf("it has %q: %s", secret, got)
				}
			}
		})
	}
}

// refuse answers as S3 does without the right to do something.
func refuse(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(http.StatusForbidden)
	io.WriteString(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>`)
}

// TestIsOutage has errors as the libraries of the clouds return them.
func TestIsOutage(t *testing.T) {
	for _, test := range []struct {
		name string
		err  error
		want bool
	}{
		{name: "Azure is busy", err: &azcore.ResponseError{StatusCode: 503, ErrorCode: "ServerBusy"}, want: true},
		{name: "Azure denies", err: &azcore.ResponseError{StatusCode: 403, ErrorCode: "AuthorizationFailure"}},
		{name: "Google is busy", err: &googleapi.Error{Code: 503}, want: true},
		{name: "Google denies", err: &googleapi.Error{Code: 403}},
		{name: "no name server", err: &url.Error{Op: "Get", URL: "https://acme.blob.core.windows.net", Err: &net.DNSError{Err: "no such host", Name: "acme.blob.core.windows.net", IsNotFound: true}}, want: true},
	} {
		if got := isOutage(test.err); got != test.want {
			t.Errorf("%s: %t", test.name, got)
		}
	}
}

func TestText(t *testing.T) {
	err := errors.New("GET \"https://AKID:s3cret@acct.blob.example/providers?comp=list&sig=s3cret\":\n  dial tcp: refused")
	if got, want := text(err), `GET "https://acct.blob.example/providers": dial tcp: refused`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// TestHelp has the flags of this command in its help.
func TestHelp(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	if err := newProgram().Run(t.Context(), []string{"help", "serve"}, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"rekisteri-bucket publish [flags] directory", "-bucket URL", "-stream\n", "-refresh-every duration", "-tokens file", "REKISTERI_"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the help does not have %q:\n%s", want, out.String())
		}
	}
}

// TestStoreThatCannotPublish has stores that refuse to write, or do so whatever
// the condition. The log says so at the start, and uploads are refused.
func TestStoreThatCannotPublish(t *testing.T) {
	t.Parallel()
	s := storetest.S3(t)
	for _, test := range []struct {
		name   string
		hook   func(http.ResponseWriter, *http.Request) bool
		log    string
		status int
		answer string
	}{
		{
			name: "no right to write",
			hook: func(w http.ResponseWriter, req *http.Request) bool {
				if !writes(req) {
					return false
				}
				refuse(w)
				return true
			},
			log: "AccessDenied", status: http.StatusUnprocessableEntity, answer: "the registry cannot write",
		},
		{
			name: "no conditions",
			hook: func(w http.ResponseWriter, req *http.Request) bool {
				if !writes(req) {
					return false
				}
				w.Header().Set("ETag", `"1"`)
				return true
			},
			log: "ignores the conditions of writes", status: http.StatusUnprocessableEntity, answer: "ignores the conditions of writes",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := storetest.NewProxy(t, s.Addr)
			p.Hook(test.hook)
			r := startReplica(t, s, s.URL(newAcme(t, s), p.Addr))
			servertest.Within(t, 10*time.Second, func() bool {
				return strings.Contains(r.stderr.String(), "releases cannot be published, so uploads fail")
			})
			if !strings.Contains(r.stderr.String(), test.log) {
				t.Errorf("the log does not have %q:\n%s", test.log, r.stderr.String())
			}
			got, err := r.publish(t, "1.0.0", newRelease(t, "foo", "1.0.0", "first"))
			if err != nil || got.status != test.status || !strings.Contains(got.body, test.answer) {
				t.Errorf("%v, %v, want %d", got, err, test.status)
			}
		})
	}
}

// TestTokenInURL has credentials that are a part of each URL, and cannot presign
// others. The log does not have them, even if the store is gone.
func TestTokenInURL(t *testing.T) {
	s := storetest.Azure(t)
	name := newAcme(t, s)
	p := storetest.NewProxy(t, s.Addr)
	s.Env = storetest.TokenEnv(t, p.Addr)
	r := startReplica(t, s, "azblob://"+name, "-refresh-every", "1s")
	if !strings.Contains(r.stderr.String(), "the credentials cannot presign URLs, so the registry sends zips itself") {
		t.Errorf("the log has\n%s", r.stderr.String())
	}
	files := newRelease(t, "foo", "1.0.0", "first")
	if got, err := r.publish(t, "1.0.0", files); err != nil || got.status != http.StatusCreated {
		t.Fatalf("%v, %v", got, err)
	}
	r.wantServed(t, "1.0.0", files)
	p.Close()
	servertest.Within(t, time.Minute, func() bool {
		ask(t, "GET", r.url+"/v1/providers/acme/bar/versions", readToken, nil)
		return strings.Contains(r.stderr.String(), "connection refused")
	})
}
