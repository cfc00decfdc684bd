package server

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

// accessLines returns the lines of requests in a log, without the values that
// vary.
func accessLines(log string) []string {
	varies := regexp.MustCompile(` duration=[0-9.]+(ns|µs|ms|s) remote=127\.0\.0\.1:[0-9]+`)
	var lines []string
	for line := range strings.Lines(log) {
		if _, line, ok := strings.Cut(line, " msg=request "); ok {
			lines = append(lines, strings.TrimSpace(varies.ReplaceAllString(line, " ...")))
		}
	}
	return lines
}

// TestAccessLog sends requests of all kinds, with and without a token.
func TestAccessLog(t *testing.T) {
	const token = "tok-for-acme"
	tokens := secret(t, fmt.Sprintf("%x acme # the CI\n", sha256.Sum256([]byte(token))))
	s := servertest.Start(t, run, "-access-log", "-prefix", "/tf", "-tokens", tokens)
	root := strings.TrimSuffix(s.URL, "/tf")
	const versions, download, zip = "/tf/v1/providers/acme/foo/versions", "/tf/v1/providers/acme/foo/9.0.0/download/linux/amd64", "/tf/files/acme/foo/9.0.0/terraform-provider-foo_9.0.0_linux_amd64.zip"
	_, doc := request(t, "GET", root+download, token)
	var pkg struct {
		DownloadURL string `json:"download_url"`
	}
	if err := json.Unmarshal([]byte(doc), &pkg); err != nil {
		t.Fatal(err)
	}
	_, query, ok := strings.Cut(pkg.DownloadURL, "?")
	if !ok {
		t.Fatalf("the link is not signed: %s", pkg.DownloadURL)
	}
	seen := 0
	// next returns the next line, which is written after the client has its
	// answer.
	next := func() string {
		t.Helper()
		servertest.Within(t, 5*time.Second, func() bool { return len(accessLines(s.Stderr.String())) > seen })
		seen++
		return accessLines(s.Stderr.String())[seen-1]
	}
	next()
	for _, test := range []struct {
		method, path, token string
		route               string
		status              int
		reason              string
	}{
		{method: "GET", path: "/.well-known/terraform.json", route: "discovery", status: 200},
		{method: "GET", path: "/healthz?a=query", route: "health", status: 200},
		{method: "POST", path: "/healthz", route: "health", status: 405, reason: "the method is neither GET nor HEAD"},
		{method: "GET", path: versions, token: token, route: "versions", status: 200},
		{method: "HEAD", path: versions, token: token, route: "versions", status: 200},
		{method: "GET", path: versions, route: "versions", status: 401, reason: "there is no bearer token"},
		{method: "GET", path: "/tf/v1/providers/beta/foo/versions", token: token, route: "versions", status: 403, reason: "may not read the namespace beta"},
		{method: "GET", path: "/tf/v1/providers/acme/foo/9.0.0/download/linux/s390x", token: token, route: "download", status: 404, reason: "linux_s390x"},
		{method: "GET", path: zip + "?" + query, route: "file", status: 200},
		{method: "HEAD", path: zip + "?" + query, route: "file", status: 200},
		{method: "GET", path: zip, route: "file", status: 403, reason: "is not signed"},
		{method: "HEAD", path: zip + "?" + strings.Replace(query, "=", "=f", 1), route: "file", status: 403, reason: "link"},
		{method: "GET", path: zip + "%3F" + query, route: "file", status: 403, reason: "link"},
		{method: "PUT", path: versions, token: token, route: "versions", status: 405, reason: "the method is neither GET nor HEAD"},
		{method: "GET", path: "/tf/v1//providers?" + query, route: "other", status: 404, reason: "no such route"},
		{method: "HEAD", path: "/tf/?q=x", token: token, route: "page", status: 200},
		{method: "GET", path: "/tf/", route: "page", status: 401, reason: "there is no bearer token"},
		{method: "HEAD", path: "/tf/providers/acme/foo", token: token, route: "page", status: 200},
		{method: "GET", path: "/tf/providers/beta/foo", token: token, route: "page", status: 403, reason: "may not read the namespace beta"},
		{method: "GET", path: "/tf/nothing", route: "other", status: 404, reason: "no such page"},
		{method: "GET", path: "/outside", route: "other", status: 404, reason: "no such route"},
		{method: "GET", path: "/%0Amsg=request", route: "other", status: 404, reason: "no such route"},
	} {
		status, body := request(t, test.method, root+test.path, test.token)
		path, _, _ := strings.Cut(strings.ReplaceAll(test.path, "%3F", "?"), "?")
		if strings.Contains(path, "%") {
			path = `"/\nmsg=request"`
		}
		want := fmt.Sprintf("method=%s route=%s path=%s status=%d bytes=%d ...", test.method, test.route, path, test.status, len(body))
		if test.token != "" {
			want += ` by="the CI"`
		}
		line := next()
		got, reason, _ := strings.Cut(line, " reason=")
		if status != test.status || got != want || !strings.Contains(reason, test.reason) || (reason == "") != (test.reason == "") {
			t.Errorf("%s %s:\n%s\nwant\n%s reason=%s", test.method, test.path, line, want, test.reason)
		}
	}
	s.Stop()
	for _, secret := range []string{token, query, "signature=", "expires=", "query", "Bearer", "request failed"} {
		if strings.Contains(s.Stderr.String(), secret) {
			t.Errorf("the log has %q:\n%s", secret, s.Stderr.String())
		}
	}
}

// TestAccessLogFlags has a request refused with and without the flags that log
// it.
func TestAccessLogFlags(t *testing.T) {
	for _, test := range []struct {
		flags            []string
		requests, failed int // lines
	}{
		{},
		{flags: []string{"-access-log"}, requests: 1},
		{flags: []string{"-debug"}, failed: 1},
		{flags: []string{"-access-log", "-debug"}, requests: 1, failed: 1},
	} {
		t.Run(fmt.Sprint(test.flags), func(t *testing.T) {
			t.Parallel()
			s := servertest.Start(t, run, test.flags...)
			get(t, s.URL+"/v1/providers/acme/nothing/versions")
			s.Stop()
			log := s.Stderr.String()
			if requests, failed := len(accessLines(log)), strings.Count(log, `msg="request failed"`); requests != test.requests || failed != test.failed {
				t.Errorf("%d lines of requests and %d of failures, want %d and %d:\n%s", requests, failed, test.requests, test.failed, log)
			}
		})
	}
}

func TestRequestPath(t *testing.T) {
	for _, test := range []struct{ uri, stripped, want string }{
		{uri: "/tf/v1/x?query", stripped: "/v1/x", want: "/tf/v1/x"},
		{uri: "/a%20b", stripped: "/a b", want: "/a b"},
		{uri: "http://host/tf/v1/x?query", stripped: "/v1/x", want: "/tf/v1/x"},
		{uri: "/a%3Fquery", stripped: "/a?query", want: "/a"},
		{uri: "", stripped: "/a?query", want: "/a"},
	} {
		req := httptest.NewRequest(http.MethodGet, "/", nil)
		req.RequestURI, req.URL.Path = test.uri, test.stripped
		if got := requestPath(req); got != test.want {
			t.Errorf("requestPath of %q = %q, want %q", test.uri, got, test.want)
		}
	}
}

func TestAccessLogReason(t *testing.T) {
	var log servertest.Buffer
	req := httptest.NewRequest("GET", "/a", nil)
	req.RemoteAddr = "127.0.0.1:1234"
	accessLog{log: newLogger(&log)}.observe(req, rekisteri.Event{Route: rekisteri.RouteFile, Status: 200, Bytes: 5, Duration: 2 * time.Millisecond, Err: fmt.Errorf("cut\noff")})
	const want = ` msg=request method=GET route=file path=/a status=200 bytes=5 duration=2ms remote=127.0.0.1:1234 reason="cut\noff"` + "\n"
	if !strings.HasSuffix(log.String(), want) {
		t.Errorf("the log has %q, want %q", log.String(), want)
	}
}
