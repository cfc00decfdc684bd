package rekisteritest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/rekisteri/rekisteri"
)

// aMoment is enough for a call to start, and too short for a disk or a network.
const aMoment = 5 * time.Millisecond

// eachDoneContext calls f, which makes one call, with contexts that are done or
// become done during the call. The contexts that are already done come first:
// they leave nothing in a cache.
func (t *tester) eachDoneContext(f func(ctx context.Context, how string)) {
	ctx, cancel := context.WithCancel(t.ctx)
	cancel()
	f(ctx, "with a canceled context")

	ctx, cancel = context.WithDeadline(t.ctx, time.Now().Add(-time.Second))
	f(ctx, "with an expired context")
	cancel()

	ctx, cancel = context.WithTimeout(t.ctx, aMoment)
	f(ctx, "with a context that expires during the call")
	cancel()
}

// isLoaded reports whether the backend has the releases at all. If it does not,
// its errors are not due to contexts.
func (t *tester) isLoaded() bool {
	_, err := t.versions(t.ctx, t.providers[0])
	return err == nil
}

// coldProvider returns the provider whose first calls have a done context.
func (t *tester) coldProvider() rekisteri.Provider { return t.providers[len(t.providers)-1] }

func checkDoneContext(t *tester) {
	p := t.coldProvider()
	want := t.want[p].Listing.Versions
	var faults []string
	note := func(call, how string, err error) {
		if errors.Is(err, fs.ErrNotExist) {
			faults = append(faults, fmt.Sprintf("%s %s reports that it does not exist: %v", call, how, err))
		}
	}
	partial := ""
	t.eachDoneContext(func(ctx context.Context, how string) {
		l, err := t.versions(ctx, p)
		note(versionsCall(p), how, err)
		if err == nil && len(l.Versions) < len(want) {
			partial = how
		}
	})
	for _, v := range want {
		t.eachDoneContext(func(ctx context.Context, how string) {
			_, err := t.release(ctx, p, v.Version)
			note(releaseCall(p, v.Version), how, err)
		})
		for _, f := range t.filesOf(p, v.Version) {
			t.eachDoneContext(func(ctx context.Context, how string) {
				note(f.String(), how, t.open(ctx, f, func(io.ReadSeeker) {}))
			})
		}
	}
	if !t.isLoaded() {
		return // checkListing reports it
	}
	for _, fault := range faults {
		t.failf("%s", fault)
	}
	if l, err := t.versions(t.ctx, p); partial != "" && err == nil && len(l.Versions) == len(want) {
		t.failf("%s %s returns some of the versions without an error", versionsCall(p), partial)
	}
}

// checkAfterDoneContext repeats the calls of checkDoneContext with a context
// that is not done.
func checkAfterDoneContext(t *tester) {
	p := t.coldProvider()
	t.eachDoneContext(func(ctx context.Context, _ string) { t.versions(ctx, p) })
	for _, v := range t.want[p].Listing.Versions {
		t.eachDoneContext(func(ctx context.Context, _ string) { t.release(ctx, p, v.Version) })
	}
	loaded := t.isLoaded()
	check := func(call string, err error) {
		ofContext := errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
		if err != nil && err != errReported && (loaded || ofContext) {
			t.failf("%s fails after calls with a done context: %v", call, err)
		}
	}
	_, err := t.versions(t.ctx, p)
	check(versionsCall(p), err)
	for _, v := range t.want[p].Listing.Versions {
		_, err := t.release(t.ctx, p, v.Version)
		check(releaseCall(p, v.Version), err)
	}

	for _, q := range t.queriesFor(t.providers[1]) { // its first calls
		if fault := t.faultBesideCanceled(q); fault != "" && q.fault(t.ctx) == "" {
			t.failf("%s, with a concurrent caller that hangs up, %s", q.call, fault)
		}
	}
}

// faultBesideCanceled makes a query shortly after another caller, who then hangs
// up, and returns its fault.
func (t *tester) faultBesideCanceled(q query) (fault string) {
	ctx, hangUp := context.WithCancel(t.ctx)
	defer hangUp()
	var group sync.WaitGroup
	group.Go(func() { q.fault(ctx) })
	time.Sleep(aMoment)
	group.Go(func() { fault = q.fault(t.ctx) })
	time.Sleep(aMoment)
	hangUp()
	group.Wait()
	return fault
}
