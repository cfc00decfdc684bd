package publish

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"time"

	"github.com/rekisteri/rekisteri"
)

const (
	parallel = 4 // uploads at a time

	// A request that may succeed later is sent again, after longer and longer
	// pauses that add up to allPauses.
	firstPause = time.Second
	maxPause   = 16 * time.Second
	allPauses  = time.Minute

	// A request that makes no progress for this time has failed. The registry
	// and a proxy in front of it may take a while to store a large zip.
	stallTimeout = 3 * time.Minute

	maxAnswer    = 32 << 20 // bytes that are read of an answer; a list of versions may be long
	maxRedirects = 3        // of a GET, as Terraform follows them
)

// A client sends requests with a token to a registry.
type client struct {
	http     *http.Client
	token    string
	insecure bool // the token may be sent over plain http
	progress *progress
}

// newClient returns a client. A nil transport is the default one.
func newClient(token string, insecure bool, transport http.RoundTripper, p *progress) *client {
	if transport == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.MaxIdleConnsPerHost = parallel
		t.ExpectContinueTimeout = 5 * time.Second
		transport = t
	}
	c := &client{token: token, insecure: insecure, progress: p}
	c.http = &http.Client{Transport: transport, CheckRedirect: c.checkRedirect}
	return c
}

// checkRedirect follows no redirect of an upload: the client would send GET to
// what may be a login page.
func (c *client) checkRedirect(req *http.Request, via []*http.Request) error {
	if via[0].Method == http.MethodPut {
		return http.ErrUseLastResponse
	}
	if len(via) > maxRedirects {
		return &finalError{errors.New("too many redirects")}
	}
	if err := c.mayGetToken(req.URL); err != nil {
		return &finalError{err}
	}
	return nil
}

// mayGetToken returns an error if the token would travel to u in the clear.
func (c *client) mayGetToken(u *url.URL) error {
	ip := net.ParseIP(u.Hostname())
	if u.Scheme == "https" || c.insecure || u.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("the token is not sent to %s://%s, where others could read it in transit: use https, or set -insecure-http", u.Scheme, u.Host)
}

// A finalError is an error that another attempt would get again.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

// isFinal reports whether a request that has failed with err without an answer
// would fail again.
func isFinal(err error) bool {
	if _, ok := errors.AsType[*finalError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return true
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok && dns.IsNotFound {
		return true
	}
	return errors.Is(err, http.ErrSchemeMismatch)
}

// An answer is what a registry has answered.
type answer struct {
	url    *url.URL // after redirects
	status int
	header http.Header
	body   []byte
}

// A statusError is an answer that is an error.
type statusError struct {
	status int
	detail string // the detail from the registry, or else advice; may be empty
}

func (e *statusError) Error() string {
	text := strconv.Itoa(e.status)
	if name := http.StatusText(e.status); name != "" {
		text += " " + name
	}
	if e.detail != "" {
		text += ": " + e.detail
	}
	return text
}

// isTransient reports whether the same request may succeed a little later.
func isTransient(status int) bool {
	switch status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError,
		http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false // also for 507: somebody has to free some space
}

// retry calls attempt until it succeeds, or fails for good. The lines
// about failures begin with what.
func (c *client) retry(ctx context.Context, what string, attempt func() (*answer, error)) (*answer, error) {
	var paused time.Duration
	for next := firstPause; ; next = min(2*next, maxPause) {
		a, err := attempt()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err == nil && !isTransient(a.status) {
			return a, nil
		}
		pause := next - rand.N(next/4)
		if err != nil {
			if isFinal(err) {
				return nil, fmt.Errorf("%s: %w", what, err)
			}
		} else {
			err = a.error()
			if seconds, e := strconv.Atoi(a.header.Get("Retry-After")); e == nil {
				pause = max(pause, time.Duration(seconds)*time.Second)
			}
		}
		if paused += pause; paused > allPauses {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		c.progress.printf("%s: %v; trying again in %v", what, err, pause.Round(100*time.Millisecond))
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(pause):
		}
	}
}

// error returns an answer as an error.
func (a *answer) error() error {
	var page struct{ Detail string }
	json.Unmarshal(a.body, &page) // another server's page has no detail
	return &statusError{a.status, printable(page.Detail)}
}

// get sends a GET request with the token.
func (c *client) get(ctx context.Context, u *url.URL) (*answer, error) {
	if err := c.mayGetToken(u); err != nil {
		return nil, err
	}
	return c.retry(ctx, u.String(), func() (*answer, error) {
		ctx, cancel := context.WithTimeout(ctx, stallTimeout)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
		if err != nil {
			return nil, &finalError{err}
		}
		req.Header.Set("Accept", "application/json")
		return c.do(req)
	})
}

// do sends a request with the token, and reads the answer.
func (c *client) do(req *http.Request) (*answer, error) {
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("User-Agent", "rekisteri-publish")
	resp, err := c.http.Do(req)
	if err != nil {
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err // the caller adds the URL
		}
		if errors.Is(err, http.ErrSchemeMismatch) {
			err = fmt.Errorf("%w; if you want plain http, begin the URL with http://", err)
		}
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	return &answer{resp.Request.URL, resp.StatusCode, resp.Header, body}, nil
}

// put uploads a file to a URL.
func (c *client) put(ctx context.Context, u *url.URL, f file) (*rekisteri.Receipt, error) {
	if err := c.mayGetToken(u); err != nil {
		return nil, err
	}
	a, err := c.retry(ctx, f.name, func() (*answer, error) { return c.tryPut(ctx, u, f) })
	if err != nil {
		return nil, err
	}
	receipt, err := a.receipt()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", f.name, err)
	}
	return receipt, nil
}

func (c *client) tryPut(ctx context.Context, u *url.URL, f file) (*answer, error) {
	content, err := os.Open(f.path)
	if err != nil {
		return nil, &finalError{err}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(stallTimeout, func() { cancel(fmt.Errorf("it made no progress for %v", stallTimeout)) })
	defer stalled.Stop()
	body := &sending{ReadCloser: content, progress: c.progress, onRead: func() { stalled.Reset(stallTimeout) }}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, u.String(), body)
	if err != nil {
		content.Close()
		return nil, &finalError{err}
	}
	req.ContentLength = f.size
	req.Header.Set("Expect", "100-continue") // a refusal then comes before the body is sent
	req.Header.Set("X-Checksum-Sha256", hex.EncodeToString(f.sha256[:]))
	a, err := c.do(req)
	if err == nil && a.status < 300 {
		return a, nil
	}
	if readErr := body.fail(); readErr != nil {
		return nil, &finalError{readErr}
	}
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	return a, err
}

// receipt returns what became of an uploaded file. It returns an error for the
// page of another server, whatever its status.
func (a *answer) receipt() (*rekisteri.Receipt, error) {
	switch a.status {
	case http.StatusOK, http.StatusCreated, http.StatusAccepted:
		r := new(rekisteri.Receipt)
		err := json.Unmarshal(a.body, r)
		want := map[string]int{rekisteri.StateUnchanged: http.StatusOK, rekisteri.StatePublished: http.StatusCreated, rekisteri.StateStaged: http.StatusAccepted}[r.State]
		if err == nil && want == a.status {
			return r, nil
		}
		return nil, fmt.Errorf("the answer is %d, but it is not a registry's: is there a login page or a proxy in front of it?", a.status)
	}
	err := a.error().(*statusError)
	if err.detail == "" {
		err.detail = a.advice()
	}
	return nil, err
}

// advice says what to do about an answer without a detail.
func (a *answer) advice() string {
	switch a.status {
	case http.StatusUnauthorized:
		return "the registry does not know the token"
	case http.StatusForbidden:
		return "the token may not publish this provider"
	case http.StatusNotFound, http.StatusMethodNotAllowed:
		return "the registry does not accept uploads: publishing is off, or it is another server"
	case http.StatusRequestEntityTooLarge:
		return "a proxy in front of the registry limits the size of uploads; in nginx, set client_max_body_size 0"
	}
	if a.status/100 == 3 {
		to, err := url.Parse(a.header.Get("Location"))
		if err != nil {
			to = new(url.URL)
		}
		to.RawQuery, to.User = "", nil
		return fmt.Sprintf("uploads are redirected to %s, and redirects are not followed: let uploads pass the login in front of the registry, or give its own URL", to)
	}
	return ""
}
