package server

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/pgptest"
	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

// metricsURL returns where a command serves its metrics.
func metricsURL(t *testing.T, s *servertest.Server) string {
	t.Helper()
	m := regexp.MustCompile(`msg="serving metrics" url=(\S+)`).FindStringSubmatch(s.Stderr.String())
	if m == nil {
		t.Fatalf("it serves no metrics:\n%s", s.Stderr.String())
	}
	return m[1]
}

// promtool returns the path of promtool. It skips the test if there is none, and
// fails it in the project's CI.
func promtool(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil && os.Getenv("CI") != "" && runtime.GOOS == "linux" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip(err)
	}
	return path
}

// TestMetrics sends requests to a command, and reads its metrics.
func TestMetrics(t *testing.T) {
	tokens := secret(t, fmt.Sprintf("%x acme\n", sha256.Sum256([]byte("tok"))))
	expires := time.Now().Add(time.Hour).Truncate(time.Second)
	cert, key := servertest.Certificate(t, t.TempDir(), expires)
	s := servertest.Start(t, run, "-metrics-addr", "127.0.0.1:0", "-tokens", tokens, "-tls-cert", cert, "-tls-key", key)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	defer client.CloseIdleConnections()
	ask := func(method, path, token string) {
		req, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
	}
	const versions = "/v1/providers/acme/foo/versions"
	ask("GET", versions, "tok")
	ask("GET", versions, "tok")
	ask("HEAD", versions, "tok")
	ask("BREW", versions, "tok")
	ask("GET", versions, "x")
	ask("GET", "/v1/providers/acme/none/versions", "tok")
	ask("GET", "/providers/acme/foo", "") // a page
	ask("GET", healthPath, "")
	url := metricsURL(t, s)
	var text string
	servertest.Within(t, 5*time.Second, func() bool { // the last request may not be counted yet
		_, text = get(t, url)
		return strings.Contains(text, `route="health",method="GET"`) && strings.Contains(text, "\nrekisteri_http_requests_in_flight 0\n")
	})
	for _, want := range []string{
		`rekisteri_http_requests_total{route="versions",method="GET",code="200"} 2`,
		`rekisteri_http_requests_total{route="versions",method="HEAD",code="200"} 1`,
		`rekisteri_http_requests_total{route="versions",method="other",code="405"} 1`,
		`rekisteri_http_requests_total{route="versions",method="GET",code="401"} 1`,
		`rekisteri_http_requests_total{route="versions",method="GET",code="404"} 1`,
		`rekisteri_http_request_duration_seconds_count{route="versions"} 6`,
		`rekisteri_http_requests_total{route="page",method="GET",code="401"} 1`,
		`rekisteri_http_failures_total{reason="unauthenticated"} 2`,
		`rekisteri_http_failures_total{reason="not_found"} 1`,
		`rekisteri_http_failures_total{reason="method"} 1`,
		`rekisteri_http_failures_total{reason="error"} 0`,
		`rekisteri_uploads_total{result="published"} 0`,
		`rekisteri_tree_readable 1`,
		`rekisteri_tree_problems 0`,
		fmt.Sprintf(`rekisteri_tls_certificate_expiry_timestamp_seconds %v`, float64(expires.Unix())),
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("there is no %s", want)
		}
	}
	for _, want := range []string{ // more than zero
		`rekisteri_http_response_bytes_total{route="versions"}`, `rekisteri_tree_last_read_timestamp_seconds`,
		`rekisteri_cache_bytes{cache="tree"}`, `rekisteri_cache_bytes{cache="documents"}`,
		`process_start_time_seconds`, `go_goroutines`, `go_memstats_heap_alloc_bytes`, `go_memstats_sys_bytes`,
	} {
		if strings.Contains(text, want+" 0\n") || !strings.Contains(text, "\n"+want+" ") {
			t.Errorf("%s is zero or missing", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	for path, want := range map[string]int{"/": 404, "/metrics/": 404, healthPath: 404} {
		if code, _ := get(t, strings.TrimSuffix(url, metricsPath)+path); code != want {
			t.Errorf("%s: %d, want %d", path, code, want)
		}
	}
	if code, _ := request(t, "POST", url, ""); code != 405 {
		t.Errorf("POST: %d", code)
	}
}

// TestMetricsWhileTheDiskHangs has a request wait for the disk. The metrics show
// it, and do not wait.
func TestMetricsWhileTheDiskHangs(t *testing.T) {
	fsys, hang := brokenTree(), make(chan struct{})
	s := servertest.Start(t, runTree(fsys), "-metrics-addr", "127.0.0.1:0")
	fsys.hang.Store(&hang)
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		if resp, err := http.Get(s.URL + "/v1/providers/acme/foo/versions"); err == nil {
			resp.Body.Close()
		}
	}()
	for _, want := range []string{"1", "0"} {
		servertest.Within(t, 5*time.Second, func() bool {
			_, text := get(t, metricsURL(t, s))
			return strings.Contains(text, "\nrekisteri_http_requests_in_flight "+want+"\n")
		})
		if want == "1" {
			close(hang)
			<-answered
		}
	}
}

// TestMetricsAddr has no address for the metrics, a busy one, and one in the
// environment.
func TestMetricsAddr(t *testing.T) {
	s := servertest.Start(t, run)
	if strings.Contains(s.Stderr.String(), "metrics") {
		t.Errorf("it serves metrics:\n%s", s.Stderr.String())
	}
	err := run(t.Context(), []string{"-addr", "127.0.0.1:0", "-metrics-addr", "127.0.0.1:" + s.Port}, io.Discard, io.Discard)
	if err == nil || !strings.Contains(err.Error(), "set -metrics-addr to another address") {
		t.Errorf("a busy address: %v", err)
	}
	t.Setenv("REKISTERI_METRICS_ADDR", "127.0.0.1:0")
	metricsURL(t, servertest.Start(t, run))
}

// newExporter returns the metrics of a registry, and the handler that they are
// of. It has a certificate, and a key that expires.
func newExporter(t testing.TB, opts rekisteri.Options) (*exporter, http.Handler) {
	t.Helper()
	key := pgptest.NewKey("expires")
	key.Expires = time.Now().AddDate(1, 0, 0)
	dir := copyReleases(t)
	servertest.WriteFile(t, filepath.Join(dir, "acme", "expires.asc"), key.Armor())
	certFile, keyFile := servertest.Certificate(t, t.TempDir(), time.Now().Add(time.Hour))
	cert, err := newCertificate(t.Context(), certFile, keyFile, discard())
	if err != nil {
		t.Fatal(err)
	}
	x := &exporter{requestCounter: newRequestCounter(), cert: cert, running: new(atomic.Int64), started: time.Now()}
	x.backend = rekisteri.NewFSBackend(os.DirFS(dir), &rekisteri.FSOptions{Logger: discard()})
	for _, err := range x.backend.Providers(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
	}
	readTree(t.Context(), x.backend)
	opts.Logger, opts.Observe = discard(), x.observe
	x.registry = rekisteri.New(x.backend, &opts)
	return x, mount(x.registry, nil, "/tf", &health{stopping: t.Context(), backend: x.backend, observe: x.observe})
}

// TestUploadMetrics has uploads end in every way.
func TestUploadMetrics(t *testing.T) {
	x := &exporter{requestCounter: newRequestCounter()}
	for _, test := range []struct {
		status int
		reason string
		want   string
	}{
		{status: 200, want: "unchanged"},
		{status: 201, want: "published"},
		{status: 202, want: "staged"},
		{status: 400, reason: rekisteri.ReasonAborted, want: "aborted"},
		{status: 401, reason: rekisteri.ReasonUnauthenticated, want: "denied"},
		{status: 403, reason: rekisteri.ReasonForbidden, want: "denied"},
		{status: 404, reason: rekisteri.ReasonNotFound, want: "denied"},
		{status: 409, reason: rekisteri.ReasonConflict, want: "conflict"},
		{status: 413, reason: rekisteri.ReasonInvalid, want: "invalid"},
		{status: 422, reason: rekisteri.ReasonInvalid, want: "invalid"},
		{status: 500, reason: rekisteri.ReasonError, want: "error"},
		{status: 504, reason: rekisteri.ReasonTimeout, want: "error"},
		{status: 507, reason: rekisteri.ReasonFull, want: "error"},
	} {
		e := rekisteri.Event{Route: rekisteri.RouteUpload, Status: test.status, Reason: test.reason, Received: 7}
		if test.reason != "" {
			e.Err = io.ErrUnexpectedEOF
		}
		uploads, received := x.uploads[index(metricResults, test.want)].Load(), x.received.Load()
		x.observe(httptest.NewRequest("PUT", "/", nil), e)
		if x.uploads[index(metricResults, test.want)].Load() != uploads+1 || x.received.Load() != received+7 {
			t.Errorf("%d, %s is not counted as %s", test.status, test.reason, test.want)
		}
	}
}

// TestMetricLabels compares the values of labels with the constants of the
// library: none is counted as another one.
func TestMetricLabels(t *testing.T) {
	for _, test := range []struct {
		file, kind string
		known      []string
	}{
		{file: "../../events.go", kind: "Route", known: metricRoutes},
		{file: "../../events.go", kind: "Reason", known: metricReasons},
		{file: "../../publish.go", kind: "State", known: metricResults},
	} {
		text, err := os.ReadFile(test.file)
		if err != nil {
			t.Fatal(err)
		}
		values := regexp.MustCompile(`(?m)^\t`+test.kind+`[A-Z]\w+ += "(\w+)"`).FindAllStringSubmatch(string(text), -1)
		if len(values) == 0 {
			t.Errorf("%s has no %s constants", test.file, test.kind)
		}
		for _, m := range values {
			if as := test.known[index(test.known, m[1])]; as != m[1] {
				t.Errorf("%s %q is counted as %q", test.kind, m[1], as)
			}
		}
	}
}

// FuzzMetrics sends requests of any kind. No label has anything of a request.
func FuzzMetrics(f *testing.F) {
	f.Add("GET", "/tf/v1/providers/acme/foo/versions", "", "")
	f.Add("PUT", "/tf/files/acme/foo/9.0.0/x.zip", "Bearer x", "body")
	f.Add("BREW", `/tf/v1/providers/a"\n{}/foo/versions?x=y`, "Basic eDp5", "")
	f.Add("HEAD", "/healthz", "", "")
	f.Add("DELETE", "/.well-known/terraform.json", "", "")
	x, handler := newExporter(f, rekisteri.Options{
		Authorize: func(req *http.Request, _ rekisteri.Provider) error {
			if req.Header.Get("Authorization") == "" {
				return nil
			}
			return rekisteri.ErrUnauthenticated
		},
	})
	values := strings.Join(slices.Concat(metricRoutes, metricMethods, metricReasons, metricResults, []string{"tree", "documents"}), "|")
	allowed := regexp.MustCompile(`^(# .*|\w+(\{((route|method|reason|result|cache)="(` + values + `)"|code="([0-9]{3}|other)"|(le|version|goversion)="[^"]*"|,)*\})? [0-9.e+-]+)\n$`)
	f.Fuzz(func(t *testing.T, method, target, authorization, body string) {
		req, err := http.NewRequest(method, target, strings.NewReader(body))
		if err != nil {
			return
		}
		if authorization != "" {
			req.Header.Set("Authorization", authorization)
		}
		handler.ServeHTTP(httptest.NewRecorder(), req)
		for line := range strings.Lines(string(x.text(t.Context()))) {
			if !allowed.MatchString(line) {
				t.Fatal(line)
			}
		}
	})
}

// TestMetricsFormat has promtool check the metrics.
func TestMetricsFormat(t *testing.T) {
	tool := promtool(t)
	x, handler := newExporter(t, rekisteri.Options{})
	for _, path := range []string{"/tf/v1/providers/acme/foo/versions", "/healthz", "/none"} {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", path, nil))
	}
	cmd := exec.CommandContext(t.Context(), tool, "check", "metrics")
	cmd.Stdin = bytes.NewReader(x.text(t.Context()))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}
