package rekisteritest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"runtime/debug"
	"time"

	"github.com/rekisteri/rekisteri"
)

// errReported is the error of a call that broke one of the [callRules], or that
// was not made. The checks do not report it again.
var errReported = errors.New("reported")

// call runs f, which calls the backend, and reports whether f returned in time
// and without a panic. If not, f may still be running, and its results must not
// be read.
func (t *tester) call(ctx context.Context, what string, f func(context.Context)) bool {
	if t.isStopped() {
		return false
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, clientTimeout)
	defer cancel()
	timer := time.NewTimer(clientTimeout)
	defer timer.Stop()
	done := make(chan string, 1) // how f ended; empty: it returned
	go func() {
		how := "ends the goroutine that calls it"
		defer func() {
			if v := recover(); v != nil {
				how = fmt.Sprintf("panics: %v", v)
				t.keepStack(debug.Stack())
			}
			done <- how
		}()
		f(ctx)
		how = ""
	}()
	how, late := "", false
	select {
	case how = <-done:
		late = time.Since(start) >= clientTimeout // f may have waited for its context
	case <-timer.C:
		late = true
	case <-t.ctx.Done():
	}
	switch {
	case how != "":
		t.fail(noPanic, "%s %s", what, how)
		return false
	case t.ctx.Err() != nil: // the result may be due to that
		t.stop(fmt.Errorf("%w during %s", t.ctx.Err(), what))
		return false
	case late:
		t.fail(inTime, "%s does not return within %v", what, clientTimeout)
		t.stop(errors.New("the backend hangs"))
		return false
	}
	return true
}

func (t *tester) isStopped() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.stopped != nil
}

// stop prevents further calls of the backend.
func (t *tester) stop(why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stopped == nil {
		t.stopped = why
	}
}

func (t *tester) keepStack(stack []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stack == nil {
		t.stack = stack
	}
}

// value calls a method of the backend that returns a value. It returns a value
// or an error, never neither.
func value[T any](ctx context.Context, t *tester, what string, method func(context.Context) (*T, error), clone func(*T) *T) (*T, error) {
	var v *T
	var err error
	switch {
	case !t.call(ctx, what, func(ctx context.Context) { v, err = method(ctx) }):
		return nil, errReported
	case err != nil:
		return nil, err
	case v == nil:
		t.fail(noNil, "%s returns nil, nil", what)
		return nil, errReported
	}
	t.keepReturned(what, v, func() any { return clone(v) })
	return v, nil
}

// versions calls the backend's Versions. It returns a listing or an error.
func (t *tester) versions(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
	return value(ctx, t, versionsCall(p), func(ctx context.Context) (*rekisteri.Listing, error) {
		return t.backend.Versions(ctx, p)
	}, cloneListing)
}

// release calls the backend's Release. It returns a release or an error.
func (t *tester) release(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
	return value(ctx, t, releaseCall(p, version), func(ctx context.Context) (*rekisteri.Release, error) {
		return t.backend.Release(ctx, p, version)
	}, cloneRelease)
}

// open calls the backend's Open and then use with the file. The context of the
// call lasts until use returns: a file may be unusable after that. The error is
// that of Open.
func (t *tester) open(ctx context.Context, f storedFile, use func(io.ReadSeeker)) error {
	var err error
	returned := t.call(ctx, f.String(), func(ctx context.Context) {
		var file io.ReadSeekCloser
		file, err = t.opener.Open(ctx, f.provider, f.version, f.name)
		switch {
		case err != nil:
		case file == nil:
			t.fail(noNil, "%v returns nil, nil", f)
			err = errReported
		default:
			defer file.Close()
			use(file)
		}
	})
	if !returned {
		return errReported
	}
	return err
}

// read opens a file and returns its content. It reads at most one byte more than
// was loaded.
func (t *tester) read(ctx context.Context, f storedFile) ([]byte, error) {
	var content []byte
	var readErr error
	err := t.open(ctx, f, func(r io.ReadSeeker) {
		content, readErr = io.ReadAll(io.LimitReader(r, int64(len(f.content))+1))
	})
	switch {
	case err != nil:
		return nil, err
	case readErr != nil:
		return nil, fmt.Errorf("reading the file: %w", readErr)
	}
	return content, nil
}

// list calls the backend's Providers, and calls yield with its values. The
// error is nil or errReported.
func (t *tester) list(ctx context.Context, yield func(rekisteri.Provider, error) bool) error {
	isNil := false
	returned := t.call(ctx, providersCall, func(ctx context.Context) {
		if seq := t.lister.Providers(ctx); seq != nil {
			seq(yield)
		} else {
			isNil = true
		}
	})
	if returned && isNil {
		t.fail(noNil, "%s returns a nil iterator", providersCall)
	}
	if !returned || isNil {
		return errReported
	}
	return nil
}

const providersCall = "Providers"

func versionsCall(p rekisteri.Provider) string { return fmt.Sprintf("Versions(%v)", p) }

func releaseCall(p rekisteri.Provider, version string) string {
	return fmt.Sprintf("Release(%v, %s)", p, version)
}

// failure describes the error of a call that should succeed. It is empty if the
// error has been reported, or redirects to a file.
func failure(err error) string {
	if err == errReported || errors.As(err, new(*rekisteri.Redirect)) {
		return ""
	}
	return fmt.Sprintf("fails: %v", err)
}

// notFoundFault describes what is wrong with the error of a call for something
// that does not exist. It is empty if nothing is.
func notFoundFault(err error) string {
	switch {
	case err == nil:
		return "succeeds"
	case err == errReported, errors.Is(err, fs.ErrNotExist):
		return ""
	}
	return fmt.Sprintf("fails with an error that does not match fs.ErrNotExist: %v", err)
}
