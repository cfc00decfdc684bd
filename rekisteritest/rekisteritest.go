// Package rekisteritest tests implementations of [rekisteri.Backend].
//
// A test of a backend takes three steps. First it loads the releases that the
// suite brings along, into whatever the backend reads: a bucket, a database, a
// directory. They come in two forms with the same content. [Releases] is a tree
// of files in the layout that docs/layout.md describes, which [os.CopyFS] makes
// a directory of. [Contents] is the same as values, by provider and version,
// with the content of every file; what a backend needs to be loaded from it is
// a loop. The backend holds these releases and no others.
//
// Then it makes the backend, cold: without having asked it for anything. A part
// of the suite is about first calls, which find nothing in a cache.
//
// At last it calls [Test], which returns nil, or an error that says which rules
// the backend has broken, where, and what becomes of a client for that:
//
//	func TestBackend(t *testing.T) {
//		backend := newBackend(t, rekisteritest.Releases())
//		if err := rekisteritest.Test(t.Context(), backend); err != nil {
//			t.Fatal(err)
//		}
//	}
//
// Such a test is best run with the race detector (go test -race): Test calls
// the backend from many goroutines, and only the detector sees all that goes
// wrong there.
//
// # Files
//
// A backend that holds files is a [rekisteri.Opener], and returns packages with
// empty URLs. Test opens all of them, and compares every byte with what was
// loaded. A backend that links to files elsewhere returns packages with URLs,
// which it makes up for the test as it likes: Test never follows one. Both may
// be mixed, package by package and file by file.
package rekisteritest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rekisteri/rekisteri"
)

// Test checks that b, which holds the releases of [Releases] and no others,
// does all that a [rekisteri.Backend] promises, and a [rekisteri.Opener] if it
// is one. All that was loaded has to come back, protocols and warnings
// included. The error joins one for each rule that is broken: its name, where
// it was broken, and why it is a rule.
//
// A call that has not come back after 10 seconds ends the test, with its
// goroutine left behind. So does the end of ctx. A panic of the backend is
// reported as one more broken rule, with the stack.
func Test(ctx context.Context, b rekisteri.Backend) error {
	return test(ctx, b, clientPatience)
}

// clientPatience is how long Terraform and OpenTofu wait for an answer.
const clientPatience = 10 * time.Second

func test(ctx context.Context, b rekisteri.Backend, patience time.Duration) error {
	t := &tester{
		ctx:      ctx,
		backend:  b,
		patience: patience,
		want:     Contents(),
		found:    make(map[*rule][]string),
		kept:     make(map[any]kept),
	}
	t.opener, _ = b.(rekisteri.Opener)
	for _, p := range catalog {
		t.providers = append(t.providers, p.provider)
	}
	for i := range rules {
		t.rule = &rules[i]
		t.rule.check(t)
	}
	t.compareKept()
	return t.err()
}

// A rule is something that a backend has to do.
type rule struct {
	name  string
	why   string        // what breaks where a backend doesn't
	check func(*tester) // nil: every call of the others checks it
}

// These rules hold for every call.
var (
	neverNil = rule{
		name: "no nil without an error",
		why:  "the registry has nothing to serve and no reason to log: clients get a 500, and a caller that trusts the contract panics",
	}
	neverPanics = rule{
		name: "no panics",
		why:  "the client's connection is cut without an answer, and a panic outside of a request's goroutine ends the whole server",
	}
	inTime = rule{
		name: "an answer in time",
		why:  "clients give up after 10 seconds, and what hangs piles up in the server, request by request",
	}
	immutable = rule{
		name: "what is returned does not change",
		why: "other requests are reading it, so that a client gets half of the one and half of the other; " +
			"and the same pointer says that nothing has changed",
	}
)

// A tester is one run of the rules.
type tester struct {
	ctx       context.Context
	backend   rekisteri.Backend
	opener    rekisteri.Opener // the backend too; nil: it holds no files
	patience  time.Duration
	want      map[rekisteri.Provider]Content
	providers []rekisteri.Provider // those of want, in the catalog's order
	rule      *rule                // the one being checked

	mu    sync.Mutex
	found map[*rule][]string // where each rule is broken
	stack []byte             // of the first panic
	kept  map[any]kept       // by the pointer that was returned
	over  error              // why no more calls are made; nil: they are
}

// fail records that the backend has broken a rule. The same words once are
// enough.
func (t *tester) fail(r *rule, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if what := fmt.Sprintf(format, args...); !slices.Contains(t.found[r], what) {
		t.found[r] = append(t.found[r], what)
	}
}

// failf records that the backend has broken the rule that is being checked.
func (t *tester) failf(format string, args ...any) { t.fail(t.rule, format, args...) }

// failed records a call that should have gone well and did not.
func (t *tester) failed(what string, err error) {
	if err != errReported {
		t.failf("%s fails: %v", what, err)
	}
}

// errReported is the error of a call that has broken a rule of its own, or was
// not made. There is nothing more to be said of it.
var errReported = errors.New("reported")

// err returns what was found.
func (t *tester) err() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	const enough = 8 // places to find one mistake
	var errs []error
	add := func(r *rule) {
		places := t.found[r]
		if len(places) == 0 {
			return
		}
		if more := len(places) - enough; more > 0 {
			places = append(slices.Clone(places[:enough]), fmt.Sprintf("and %d more", more))
		}
		errs = append(errs, fmt.Errorf("%s:\n\t%s\n\twhy: %s", r.name, strings.Join(places, "\n\t"), r.why))
	}
	for _, r := range []*rule{&neverPanics, &inTime, &neverNil, &immutable} {
		add(r)
	}
	for i := range rules {
		add(&rules[i])
	}
	if t.over != nil {
		errs = append(errs, fmt.Errorf("not all rules were checked: %w", t.over))
	}
	if t.stack != nil {
		errs = append(errs, fmt.Errorf("the stack of the first panic:\n%s", t.stack))
	}
	return errors.Join(errs...)
}

// call calls f, which calls the backend, and reports whether it came back: in
// time, and without a panic. What f writes is not to be touched otherwise.
func (t *tester) call(ctx context.Context, what string, f func(context.Context)) bool {
	t.mu.Lock()
	over := t.over != nil
	t.mu.Unlock()
	if over {
		return false
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, t.patience)
	defer cancel()
	timer := time.NewTimer(t.patience)
	defer timer.Stop()
	ended := make(chan string, 1)
	go func() {
		how := "ends the goroutine that calls it"
		defer func() {
			if v := recover(); v != nil {
				how = fmt.Sprintf("panics: %v", v)
				t.keepStack(debug.Stack())
			}
			ended <- how
		}()
		f(ctx)
		how = ""
	}()
	how, late := "", false
	select {
	case how = <-ended:
		late = time.Since(begun) >= t.patience // it may have waited for its context
	case <-timer.C:
		late = true
	case <-t.ctx.Done():
	}
	switch {
	case how != "":
		t.fail(&neverPanics, "%s %s", what, how)
		return false
	case t.ctx.Err() != nil: // what the backend makes of that is no fault of its own
		t.end(fmt.Errorf("%w, in the middle of %s", t.ctx.Err(), what))
		return false
	case late:
		t.fail(&inTime, "%s has not come back after %v", what, t.patience)
		t.end(errors.New("the backend hangs"))
		return false
	}
	return true
}

func (t *tester) keepStack(stack []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.stack == nil {
		t.stack = stack
	}
}

// end keeps the backend from being called again.
func (t *tester) end(why error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over == nil {
		t.over = why
	}
}

// versions calls the backend's Versions. It returns a listing or an error.
func (t *tester) versions(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
	what := versionsCall(p)
	var l *rekisteri.Listing
	var err error
	switch {
	case !t.call(ctx, what, func(ctx context.Context) { l, err = t.backend.Versions(ctx, p) }):
		return nil, errReported
	case err != nil:
		return nil, err
	case l == nil:
		t.fail(&neverNil, "%s returns neither a listing nor an error", what)
		return nil, errReported
	}
	t.keep(what, l, func() any { return copyListing(l) })
	return l, nil
}

// release calls the backend's Release. It returns a release or an error.
func (t *tester) release(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
	what := releaseCall(p, version)
	var rel *rekisteri.Release
	var err error
	switch {
	case !t.call(ctx, what, func(ctx context.Context) { rel, err = t.backend.Release(ctx, p, version) }):
		return nil, errReported
	case err != nil:
		return nil, err
	case rel == nil:
		t.fail(&neverNil, "%s returns neither a release nor an error", what)
		return nil, errReported
	}
	t.keep(what, rel, func() any { return copyRelease(rel) })
	return rel, nil
}

// A heldFile is a file that the backend holds.
type heldFile struct {
	provider      rekisteri.Provider
	version, name string
	content       []byte
}

// String returns the call that opens the file.
func (f heldFile) String() string {
	return fmt.Sprintf("Open(%v, %s, %q)", f.provider, f.version, f.name)
}

// open calls the backend's Open, and use with the file if there is one, before
// the context of the call ends: the file may live no longer. The error is of
// Open.
func (t *tester) open(ctx context.Context, f heldFile, use func(io.ReadSeeker)) error {
	var err error
	if !t.call(ctx, f.String(), func(ctx context.Context) {
		var file io.ReadSeekCloser
		file, err = t.opener.Open(ctx, f.provider, f.version, f.name)
		switch {
		case err != nil:
		case file == nil:
			t.fail(&neverNil, "%v returns neither a file nor an error", f)
			err = errReported
		default:
			defer file.Close()
			use(file)
		}
	}) {
		return errReported
	}
	return err
}

// read opens a file and returns what is in it. It reads no more than a byte
// beyond what should be there.
func (t *tester) read(ctx context.Context, f heldFile) ([]byte, error) {
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

// A kept is a value that the backend has returned.
type kept struct {
	what string // the call
	copy any    // what it was then; a pointer too
}

// keep keeps a value for [tester.compareKept]. One that is returned again has
// to be the same. Keeping the pointer also keeps its memory from being used for
// another value.
func (t *tester) keep(what string, pointer any, clone func() any) {
	t.mu.Lock()
	before, again := t.kept[pointer]
	if !again {
		t.kept[pointer] = kept{what, clone()}
	}
	t.mu.Unlock()
	if again && !reflect.DeepEqual(pointer, before.copy) {
		t.fail(&immutable, "%s returns the pointer that %s has returned, with another content", what, before.what)
	}
}

// compareKept compares all values that the backend has returned with what they
// were then.
func (t *tester) compareKept() {
	for pointer, then := range t.kept {
		if !reflect.DeepEqual(pointer, then.copy) {
			t.fail(&immutable, "what %s has returned is something else after other calls", then.what)
		}
	}
}

func copyListing(l *rekisteri.Listing) *rekisteri.Listing {
	c := *l
	c.Versions, c.Warnings = slices.Clone(c.Versions), slices.Clone(c.Warnings)
	for i := range c.Versions {
		v := &c.Versions[i]
		v.Protocols, v.Platforms = slices.Clone(v.Protocols), slices.Clone(v.Platforms)
	}
	return &c
}

func copyRelease(rel *rekisteri.Release) *rekisteri.Release {
	c := *rel
	c.Protocols, c.Packages = slices.Clone(c.Protocols), slices.Clone(c.Packages)
	for i := range c.Packages {
		c.Packages[i].SigningKeys = slices.Clone(c.Packages[i].SigningKeys)
	}
	return &c
}
