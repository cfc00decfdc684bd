package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
)

func newLogger(w io.Writer) *slog.Logger { return slog.New(slog.NewTextHandler(w, nil)) }

// accessLines returns the lines of requests in a log, without their durations.
func accessLines(t *testing.T, log string) []string {
	t.Helper()
	duration := regexp.MustCompile(` duration=[0-9.]+(ns|µs|ms|s)`)
	var lines []string
	for line := range strings.Lines(log) {
		if _, line, ok := strings.Cut(line, " msg=request "); ok {
			if !duration.MatchString(line) {
				t.Errorf("no duration: %s", line)
			}
			lines = append(lines, strings.TrimSpace(duration.ReplaceAllString(line, "")))
		}
	}
	return lines
}

// TestAccessLog asks for all there is, with and without leave.
func TestAccessLog(t *testing.T) {
	const token = "tok-for-demo"
	tokens := filepath.Join(t.TempDir(), "tokens")
	writeFile(t, tokens, fmt.Sprintf("%x demo\n", sha256.Sum256([]byte(token))))
	s := start(t, "-access-log", "-prefix", "/tf", "-tokens", tokens)
	root := strings.TrimSuffix(s.url, "/tf")
	_, doc := ask(t, "GET", s.url+"/v1/providers/demo/hello/1.0.0/download/linux/amd64", token)
	var pkg struct {
		DownloadURL string `json:"download_url"`
	}
	if err := json.Unmarshal([]byte(doc), &pkg); err != nil {
		t.Fatal(err)
	}
	const zip = "/tf/files/demo/hello/1.0.0/terraform-provider-hello_1.0.0_linux_amd64.zip"
	_, query, ok := strings.Cut(pkg.DownloadURL, "?")
	if !ok {
		t.Fatalf("the link is not signed: %s", pkg.DownloadURL)
	}
	const asked = 2 // by start, and above
	within(t, 5*time.Second, func() bool { return len(accessLines(t, s.stderr.String())) == asked })
	seen := asked
	for _, test := range []struct{ method, path, token, want string }{
		{"GET", "/.well-known/terraform.json", "", `method=GET route=discovery path=/.well-known/terraform.json status=200 bytes=%d`},
		{"GET", "/healthz?a=query", "", `method=GET route=health path=/healthz status=200 bytes=%d`},
		{"GET", "/tf/v1/providers/demo/hello/versions", token, `method=GET route=versions path=/tf/v1/providers/demo/hello/versions status=200 bytes=%d`},
		{"HEAD", "/tf/v1/providers/demo/hello/versions", token, `method=HEAD route=versions path=/tf/v1/providers/demo/hello/versions status=200 bytes=%d`},
		{"GET", "/tf/v1/providers/demo/hello/versions", "", `method=GET route=versions path=/tf/v1/providers/demo/hello/versions status=401 bytes=%d reason=`},
		{"GET", "/tf/v1/providers/acme/hello/versions", token, `method=GET route=versions path=/tf/v1/providers/acme/hello/versions status=403 bytes=%d reason=`},
		{"GET", "/tf/v1/providers/demo/hello/1.0.0/download/linux/s390x", token, `method=GET route=download path=/tf/v1/providers/demo/hello/1.0.0/download/linux/s390x status=404 bytes=%d reason=`},
		{"GET", zip + "?" + query, "", `method=GET route=file path=` + zip + ` status=200 bytes=%d`},
		{"HEAD", zip + "?" + query, "", `method=HEAD route=file path=` + zip + ` status=200 bytes=%d`},
		{"GET", zip, "", `method=GET route=file path=` + zip + ` status=403 bytes=%d reason=`},
		{"HEAD", zip + "?" + strings.Replace(query, "=", "=f", 1), "", `method=HEAD route=file path=` + zip + ` status=403 bytes=%d reason=`},
		{"PUT", "/tf/v1/providers/demo/hello/versions", token, `method=PUT route=versions path=/tf/v1/providers/demo/hello/versions status=405 bytes=%d reason=`},
		{"GET", "/tf/v1//providers?" + query, "", `method=GET route=other path=/tf/v1//providers status=404 bytes=%d reason=`},
		{"GET", "/tf", "", `method=GET route=other path=/tf status=404 bytes=%d reason=`},
		{"GET", "/%0Amsg=request", "", `method=GET route=other path="/\nmsg=request" status=404 bytes=%d reason=`},
	} {
		_, body := ask(t, test.method, root+test.path, test.token)
		want := fmt.Sprintf(test.want, len(body))
		// The line is written when the client has its answer already.
		within(t, 5*time.Second, func() bool { return len(accessLines(t, s.stderr.String())) > seen })
		lines := accessLines(t, s.stderr.String())
		got := lines[seen]
		if at := len(want); strings.HasSuffix(want, " reason=") && len(got) > at { // whose words are the library's
			got = got[:at]
		}
		if got != want {
			t.Errorf("%s %s:\n%s\nwant\n%s", test.method, test.path, got, want)
		}
		seen = len(lines)
	}
	log := s.stderr.String()
	for _, reason := range []string{"there is no bearer token", "may not read the namespace acme", "is not signed"} {
		if !strings.Contains(log, reason) {
			t.Errorf("the log does not say %q:\n%s", reason, log)
		}
	}
	for _, secret := range []string{token, query, "signature=", "expires=", "query", "Bearer", "request failed"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log has %q:\n%s", secret, log)
		}
	}

	s = start(t)
	fetch(t, s.url+"/v1/providers/demo/nothing/versions")
	s.stop()
	if log := s.stderr.String(); strings.Contains(log, "msg=request") || strings.Contains(log, "request failed") {
		t.Errorf("without the flag, there is an access log:\n%s", log)
	}
	s = start(t, "-access-log", "-debug")
	fetch(t, s.url+"/v1/providers/demo/nothing/versions")
	s.stop()
	if log := s.stderr.String(); !strings.Contains(log, `msg="request failed"`) || len(accessLines(t, log)) != 2 {
		t.Errorf("with -debug, a refusal is in the log once:\n%s", log)
	}
}

// TestRoute names the kinds of paths.
func TestRoute(t *testing.T) {
	for _, test := range []struct{ prefix, path, want string }{
		{"", "/healthz", "health"},
		{"/tf", "/healthz", "health"},
		{"/tf", "/tf/healthz", "other"},
		{"", "/.well-known/terraform.json", "discovery"},
		{"/tf", "/.well-known/terraform.json", "discovery"},
		{"/tf", "/tf/.well-known/terraform.json", "discovery"},
		{"", "/v1/providers/a/b/versions", "versions"},
		{"/tf", "/tf/v1/providers/a/b/versions", "versions"},
		{"/tf", "/v1/providers/a/b/versions", "other"},
		{"/tf", "/tfv1/providers/a/b/versions", "other"},
		{"", "/v1/providers/a/b/1.0.0/download/linux/amd64", "download"},
		{"", "/v1/providers/a/b/1.0.0/download/linux", "other"},
		{"", "/v1/modules/a/b/versions", "other"},
		{"", "/files/a/b/1.0.0/c.zip", "file"},
		{"", "/files/a/b/1.0.0/c/d.zip", "other"},
		{"", "/", "other"},
		{"", "", "other"},
		{"", "*", "other"},
	} {
		if got := route(test.path, test.prefix); got != test.want {
			t.Errorf("%s below %q is %q, want %q", test.path, test.prefix, got, test.want)
		}
	}
}

// A sink is a ResponseWriter that notes what it is handed.
type sink struct {
	httptest.ResponseRecorder
	from     io.Reader
	deadline time.Time
	codes    []int
}

func newSink() *sink { return &sink{ResponseRecorder: *httptest.NewRecorder()} }

func (s *sink) ReadFrom(src io.Reader) (int64, error) {
	s.from = src
	return io.Copy(struct{ io.Writer }{&s.ResponseRecorder}, src)
}

func (s *sink) WriteHeader(code int) {
	s.codes = append(s.codes, code)
	s.ResponseRecorder.WriteHeader(code)
}

func (s *sink) SetWriteDeadline(at time.Time) error {
	s.deadline = at
	return nil
}

// TestRecorder has handlers send in every way.
func TestRecorder(t *testing.T) {
	for _, test := range []struct {
		name, method string
		handler      http.HandlerFunc
		want         string
	}{
		{"nothing", "GET", func(http.ResponseWriter, *http.Request) {}, "status=200 bytes=0"},
		{"a status", "GET", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(304) }, "status=304 bytes=0"},
		{"writes", "GET", func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "abc")
			io.WriteString(w, "de")
		}, "status=200 bytes=5"},
		{"HEAD", "HEAD", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "abc") }, "status=200 bytes=0"},
		{"a copy", "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(206)
			io.Copy(w, io.LimitReader(strings.NewReader("abc"), 2))
		}, "status=206 bytes=2"},
		{"early hints", "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(103)
			w.WriteHeader(404)
			w.WriteHeader(200)
		}, "status=404 bytes=0"},
		{"a flush", "GET", func(w http.ResponseWriter, _ *http.Request) {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}, "status=200 bytes=0"},
		{"a panic", "GET", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "status=0 bytes=0"},
	} {
		var log buffer
		func() {
			defer func() { recover() }()
			accessLog(test.handler, "", newLogger(&log)).ServeHTTP(newSink(), httptest.NewRequest(test.method, "/", nil))
		}()
		want := "method=" + test.method + " route=other path=/ " + test.want
		if got := accessLines(t, log.String()); len(got) != 1 || got[0] != want {
			t.Errorf("%s: %q, want %q", test.name, got, want)
		}
	}

	s := newSink()
	rec := &recorder{ResponseWriter: s}
	control := http.NewResponseController(rec)
	at := time.Now()
	if err := control.SetWriteDeadline(at); err != nil || !s.deadline.Equal(at) {
		t.Errorf("the deadline was not passed on: %v", err)
	}
	if err := control.Flush(); err != nil || !s.Flushed {
		t.Errorf("the flush was not passed on: %v", err)
	}
	src := io.LimitReader(strings.NewReader("abc"), 2)
	if n, err := rec.ReadFrom(src); n != 2 || err != nil || s.from != src {
		t.Errorf("ReadFrom = %d, %v, and what is read from is passed on: %t", n, err, s.from == src)
	}
	if err := http.NewResponseController(&recorder{ResponseWriter: struct{ http.ResponseWriter }{s}}).Flush(); err == nil {
		t.Error("a flush that cannot be is one")
	}
}

// TestSendfile has a zip arrive at the connection as a file, through the
// access log.
func TestSendfile(t *testing.T) {
	dir := t.TempDir()
	files, err := fs.Sub(sample, "sample")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(dir, files); err != nil {
		t.Fatal(err)
	}
	fsys, err := openDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	reg := rekisteri.New(rekisteri.NewFSBackend(fsys, nil), nil)
	s := newSink()
	req := httptest.NewRequestWithContext(context.Background(), "GET", "/files/demo/hello/1.0.0/terraform-provider-hello_1.0.0_linux_amd64.zip", nil)
	accessLog(reg, "", discard()).ServeHTTP(s, req)
	limited, ok := s.from.(*io.LimitedReader)
	if s.Code != 200 || !ok {
		t.Fatalf("%d, read from a %T", s.Code, s.from)
	}
	if _, ok := limited.R.(*os.File); !ok {
		t.Errorf("the connection gets a %T", limited.R)
	}
}
