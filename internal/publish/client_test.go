package publish

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

// A transport answers requests without a network.
type transport func(*http.Request) (*http.Response, error)

// RoundTrip implements [http.RoundTripper].
func (f transport) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// respond returns an answer.
func respond(req *http.Request, status int, body string) *http.Response {
	return &http.Response{StatusCode: status, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(body)), Request: req}
}

const stagedAnswer = `{"state":"staged"}`

// Requests that may succeed later are sent again, for about a minute, and others
// are not.
func TestRetry(t *testing.T) {
	path := filepath.Join(t.TempDir(), zipFile)
	servertest.WriteFile(t, path, "content")
	good := func(req *http.Request) (*http.Response, error) {
		if body, err := io.ReadAll(req.Body); err != nil || string(body) != "content" || req.ContentLength != int64(len(body)) {
			t.Errorf("the body is %q, %v", body, err)
		}
		if sum := req.Header.Get("X-Checksum-Sha256"); sum != fmt.Sprintf("%x", sha256.Sum256([]byte("content"))) {
			t.Errorf("the sum is %s", sum)
		}
		return respond(req, 202, stagedAnswer), nil
	}
	answers := func(status int) transport {
		return func(req *http.Request) (*http.Response, error) {
			io.Copy(io.Discard, req.Body)
			return respond(req, status, `{"detail":"because"}`), nil
		}
	}
	fails := func(err error) transport {
		return func(req *http.Request) (*http.Response, error) { return nil, err }
	}
	for _, test := range []struct {
		name     string
		fail     transport
		times    int // how often it fails; 0: always
		attempts int // 0: as many as fit into a minute
		err      string
	}{
		{name: "service unavailable, then good", fail: answers(503), times: 3, attempts: 4},
		{name: "too many requests, then good", fail: answers(429), times: 1, attempts: 2},
		{name: "connection reset, then good", fail: fails(errors.New("connection reset")), times: 2, attempts: 3},
		{name: "unexpected end, then good", fail: fails(io.ErrUnexpectedEOF), times: 1, attempts: 2},
		{name: "bad gateway", fail: answers(502), err: zipFile + ": 502 Bad Gateway: because"},
		{name: "error of the server", fail: answers(500), err: "500 Internal Server Error"},
		{name: "no connection", fail: fails(errors.New("connection refused")), err: zipFile + ": connection refused"},
		{name: "wrong token", fail: answers(401), attempts: 1, err: "401 Unauthorized: because"},
		{name: "conflict", fail: answers(409), attempts: 1, err: "409 Conflict: because"},
		{name: "wrong file", fail: answers(422), attempts: 1, err: "422 Unprocessable Entity: because"},
		{name: "full disk", fail: answers(507), attempts: 1, err: "507 Insufficient Storage: because"},
		{name: "unknown host", fail: fails(&net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}), attempts: 1, err: "no such host"},
		{name: "unknown authority", fail: fails(&tls.CertificateVerificationError{Err: errors.New("unknown authority")}), attempts: 1, err: "unknown authority"},
		{name: "http at an https URL", fail: fails(http.ErrSchemeMismatch), attempts: 1, err: "begin the URL with http://"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				attempts := 0
				var log bytes.Buffer
				p := &progress{w: &log, terminal: true}
				c := newClient(secret, false, transport(func(req *http.Request) (*http.Response, error) {
					defer req.Body.Close()
					if attempts++; test.times == 0 || attempts <= test.times {
						return test.fail(req)
					}
					return good(req)
				}), p)
				begin := time.Now()
				f := file{name: zipFile, path: path, size: int64(len("content")), sha256: sha256.Sum256([]byte("content"))}
				p.expect([]file{f})
				receipt, err := c.put(t.Context(), &url.URL{Scheme: "https", Host: "r.example", Path: "/" + zipFile}, f)
				if test.err == "" {
					if err != nil || receipt.State != rekisteri.StateStaged || p.bytesSent != f.size {
						t.Errorf("%+v, %v, %d bytes", receipt, err, p.bytesSent)
					}
				} else if err == nil || !strings.Contains(err.Error(), test.err) || p.bytesSent != 0 {
					t.Errorf("%v, %d bytes, want %q", err, p.bytesSent, test.err)
				}
				took := time.Since(begin)
				if test.attempts == 0 && (attempts < 5 || took < 30*time.Second || took > time.Minute) || test.attempts != 0 && attempts != test.attempts {
					t.Errorf("%d attempts in %v", attempts, took)
				}
				if lines := strings.Count(log.String(), "trying again in"); lines != attempts-1 {
					t.Errorf("%d lines tell of %d attempts", lines, attempts)
				}
			})
		})
	}
}

// A server that asks to wait is obeyed, within the limit.
func TestRetryAfter(t *testing.T) {
	for _, test := range []struct {
		after string
		want  time.Duration
		fails bool
	}{
		{after: "20", want: 20 * time.Second},
		{after: "3600", fails: true},
		{after: "Wed, 21 Oct 2026 07:28:00 GMT", want: time.Second}, // of which only numbers are read
	} {
		synctest.Test(t, func(t *testing.T) {
			attempts := 0
			c := newClient(secret, false, transport(func(req *http.Request) (*http.Response, error) {
				if attempts++; attempts > 1 {
					return respond(req, 200, "{}"), nil
				}
				resp := respond(req, 429, "")
				resp.Header.Set("Retry-After", test.after)
				return resp, nil
			}), &progress{w: io.Discard})
			begin := time.Now()
			_, err := c.get(t.Context(), &url.URL{Scheme: "https", Host: "r.example"})
			if took := time.Since(begin).Round(time.Second); (err != nil) != test.fails || took != test.want {
				t.Errorf("Retry-After %s: %v after %v, want %v", test.after, err, took, test.want)
			}
		})
	}
}

// An upload that makes no progress is given up, and tried again.
func TestStall(t *testing.T) {
	path := filepath.Join(t.TempDir(), zipFile)
	servertest.WriteFile(t, path, "content")
	synctest.Test(t, func(t *testing.T) {
		attempts := 0
		c := newClient(secret, false, transport(func(req *http.Request) (*http.Response, error) {
			defer req.Body.Close()
			if attempts++; attempts > 1 {
				return respond(req, 202, stagedAnswer), nil
			}
			for range 10 { // it is slow, and then it stalls
				select {
				case <-time.After(stallTimeout - time.Second):
					req.Body.Read(make([]byte, 1))
				case <-req.Context().Done():
					return nil, req.Context().Err()
				}
			}
			<-req.Context().Done()
			return nil, req.Context().Err()
		}), &progress{w: io.Discard})
		begin := time.Now()
		_, err := c.put(t.Context(), &url.URL{Scheme: "https", Host: "r.example"}, file{name: zipFile, path: path, size: 7})
		if took := time.Since(begin); err != nil || attempts != 2 || took < 10*(stallTimeout-time.Second) {
			t.Errorf("%v after %d attempts and %v", err, attempts, took)
		}
	})
}

// A file that cannot be read is not tried again.
func TestPutMissingFile(t *testing.T) {
	dir := t.TempDir() // reading a directory fails
	for _, path := range []string{dir, filepath.Join(dir, "missing")} {
		synctest.Test(t, func(t *testing.T) {
			c := newClient(secret, false, transport(func(req *http.Request) (*http.Response, error) {
				_, err := io.ReadAll(req.Body)
				return nil, err
			}), &progress{w: io.Discard})
			begin := time.Now()
			_, err := c.put(t.Context(), &url.URL{Scheme: "https", Host: "r.example"}, file{name: zipFile, path: path, size: 7})
			if took := time.Since(begin); err == nil || !strings.Contains(err.Error(), path) || took != 0 {
				t.Errorf("%v after %v, want an error of %s at once", err, took, path)
			}
		})
	}
}

// The command ends when it is interrupted.
func TestInterrupted(t *testing.T) {
	dir := writeDist(t, releaseOf(t, "first"))
	t.Setenv(tokenVariable, secret)
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Second, cancel)
		p := &publisher{to: "https://r.example", provider: "acme/hello", transport: transport(func(req *http.Request) (*http.Response, error) {
			return nil, errors.New("connection refused")
		})}
		err := p.run(ctx, []string{dir}, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), "interrupted") {
			t.Errorf("error %v", err)
		}
	})
}

// A refusal comes before the body is sent.
func TestExpect(t *testing.T) {
	var read int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Header.Get("Authorization") == "Bearer "+secret {
			read, _ = io.Copy(io.Discard, req.Body)
			w.WriteHeader(202)
			io.WriteString(w, stagedAnswer)
			return
		}
		w.WriteHeader(401)
	}))
	defer server.Close()
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), zipFile)
	servertest.WriteFile(t, path, strings.Repeat("x", 1<<20))
	f := file{name: zipFile, path: path, size: 1 << 20}
	p := &progress{w: io.Discard}
	if _, err := newClient(secret, false, nil, p).put(t.Context(), base, f); err != nil || read != f.size || p.bytesSent != f.size {
		t.Errorf("%v, %d bytes arrived, %d were sent", err, read, p.bytesSent)
	}
	p = &progress{w: io.Discard}
	var largest int64
	client := newClient("wrong", false, nil, p)
	inner := client.http.Transport
	client.http.Transport = transport(func(req *http.Request) (*http.Response, error) {
		resp, err := inner.RoundTrip(req)
		largest = p.bytesSent
		return resp, err
	})
	if _, err := client.put(t.Context(), base, f); err == nil || largest != 0 {
		t.Errorf("%v, %d bytes were sent", err, largest)
	}
}
