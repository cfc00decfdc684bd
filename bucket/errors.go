package bucket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"sync"
	"time"

	"github.com/rekisteri/rekisteri/bucket/internal/status"
	"gocloud.dev/gcerrors"
)

// A storeError is an error of the store. It does not match [fs.ErrNotExist],
// although its cause may: a missing file of credentials says nothing about an
// object.
type storeError struct{ cause error }

// secrets matches a URL. Its groups leave out what may be secret: a user before
// the host, and the query.
var secrets = regexp.MustCompile(`([a-z0-9]+://)(?:[^/?#\s"'@]*@)?([^?\s"']*)(\?[^\s"']*)?`)

// Error returns the text of the cause, without the secret parts of URLs.
func (e *storeError) Error() string { return secrets.ReplaceAllString(e.cause.Error(), "$1$2") }

// Is reports whether the cause matches target.
func (e *storeError) Is(target error) bool {
	switch target {
	case fs.ErrNotExist, fs.ErrExist:
		return false
	case fs.ErrPermission:
		return gcerrors.Code(e.cause) == gcerrors.PermissionDenied
	}
	return errors.Is(e.cause, target)
}

// failure returns the error for an operation on an object that failed in the
// store.
func failure(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: &storeError{err}}
}

// isNotFound reports whether the store has answered that there is no such object.
// That is no proof: [FS.missing] lists it to find out.
func isNotFound(err error) bool {
	if gcerrors.Code(err) != gcerrors.NotFound {
		return false
	}
	// This is also the code of azureblob for a host that is not found, and that of
	// gcsblob for 403.
	_, isDNS := errors.AsType[*net.DNSError](err)
	code := status.Of(err)
	return !isDNS && (code == 0 || code == http.StatusNotFound)
}

// errTimeout is the cause of the end of a request that took too long.
var errTimeout = fmt.Errorf("the store has not answered in time: %w", context.DeadlineExceeded)

// timeoutCause returns errTimeout if that ended a request.
func timeoutCause(ctx context.Context, err error) error {
	if err != nil && context.Cause(ctx) == errTimeout {
		return errTimeout
	}
	return err
}

// request makes a request that must be answered in time.
func (f *FS) request(ctx context.Context, do func(context.Context) error) error {
	return f.throttle.do(func() error {
		ctx, cancel := context.WithTimeoutCause(ctx, requestTimeout, errTimeout)
		defer cancel()
		return timeoutCause(ctx, do(ctx))
	})
}

const (
	minPause = time.Second
	maxPause = time.Minute
)

// A throttle stops requests for a while when the store asks for fewer, such as
// with 503 SlowDown.
type throttle struct {
	mu    sync.Mutex
	until time.Time
	pause time.Duration // the last one; 0: a request has succeeded since
}

// errPaused is the error of a request that was not sent because of a pause.
var errPaused = errors.New("the store has asked for fewer requests, so this one was not sent")

// do calls request, unless there is a pause.
func (t *throttle) do(request func() error) error {
	t.mu.Lock()
	paused := time.Now().Before(t.until)
	t.mu.Unlock()
	if paused {
		return errPaused
	}
	err := request()
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err == nil:
		t.pause = 0
	case isSlowDown(err) && !time.Now().Before(t.until): // if several requests fail at once, only the first makes the pause longer
		t.pause = min(max(2*t.pause, minPause), maxPause)
		t.until = time.Now().Add(t.pause/2 + rand.N(t.pause))
	}
	return err
}

// isSlowDown reports whether the store asks for fewer requests.
func isSlowDown(err error) bool {
	if gcerrors.Code(err) == gcerrors.ResourceExhausted {
		return true
	}
	code := status.Of(err)
	return code == http.StatusServiceUnavailable || code == http.StatusTooManyRequests
}
