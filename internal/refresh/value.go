// Package refresh caches values that come from a slow source. A Value is loaded
// again from time to time. A Map evicts what was not used recently.
package refresh

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// A Policy says when a [Value] is loaded again, and how long a caller waits for
// that.
type Policy struct {
	// Every is the shortest time between the starts of two loads.
	Every time.Duration

	// Rest makes the time between two loads at least this many times as long as
	// the last reload took, so that a slow source is asked less often. The first
	// load does not count: it usually takes longer than the others.
	Rest int

	// FirstWait is how long Get waits for the first value.
	FirstWait time.Duration

	// Fresh is the age up to which a value is returned without waiting for the
	// load that replaces it. If the value is older, Get waits for that load,
	// but no longer than until StaleWait after the start of the load.
	Fresh, StaleWait time.Duration
}

// A Value is a value that is loaded when it is asked for, and loaded again when
// it is due. One load runs at a time, in a goroutine of its own. A load that
// fails leaves the last good value in place. A Value is safe for concurrent use.
type Value[T any] struct {
	policy *Policy
	load   func(prev T, loaded bool) (T, error)

	current atomic.Pointer[snapshot[T]] // nil: nothing was loaded yet

	mu     sync.Mutex
	flight *flight[T] // the load that runs; nil: none
}

// A snapshot is what was last loaded. It is immutable.
type snapshot[T any] struct {
	value T
	asOf  time.Time // when its load started
	next  time.Time // when it is loaded again
}

// A flight is a running load.
type flight[T any] struct {
	started time.Time
	began   time.Time     // when it began its work
	done    chan struct{} // closed when value and err are set
	value   T
	err     error
}

// New returns a Value. load gets the last good value as prev. At first there is
// none: loaded is then false. A panic of load counts as an error.
func New[T any](policy *Policy, load func(prev T, loaded bool) (T, error)) *Value[T] {
	return &Value[T]{policy: policy, load: load}
}

// Get returns the value. It returns an error only if nothing was loaded yet,
// and the load fails, ctx is done, or the load takes longer than FirstWait. The
// error of the last case matches [context.DeadlineExceeded].
func (v *Value[T]) Get(ctx context.Context) (value T, err error) {
	now := time.Now()
	s := v.current.Load()
	if s != nil && now.Before(s.next) {
		return s.value, nil
	}
	f := v.start(now)
	wait := v.policy.FirstWait
	if s != nil {
		if now.Sub(s.asOf) <= v.policy.Fresh {
			return s.value, nil
		}
		wait = v.policy.StaleWait - now.Sub(f.started)
		if wait <= 0 {
			return s.value, nil
		}
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
		err = fmt.Errorf("no answer for %v: %w", wait, context.DeadlineExceeded)
	}
	if s != nil {
		return s.value, nil
	}
	return value, err
}

// Reload waits for a load that starts after the call, and returns its result.
// If the load fails, it returns the last good value. After the policy's
// FirstWait, it returns an error.
func (v *Value[T]) Reload(ctx context.Context) (value T, err error) {
	called := time.Now()
	timer := time.NewTimer(v.policy.FirstWait)
	defer timer.Stop()
	for {
		v.mu.Lock()
		f := v.flight
		v.mu.Unlock()
		mine := f == nil || f.started.After(called)
		if f == nil {
			f = v.start(time.Now())
		}
		select {
		case <-f.done:
		case <-ctx.Done():
			return value, ctx.Err()
		case <-timer.C:
			return value, fmt.Errorf("no answer for %v: %w", v.policy.FirstWait, context.DeadlineExceeded)
		}
		if mine {
			return f.value, f.err
		}
	}
}

// Peek returns the last good value, and whether there is one. It loads nothing.
func (v *Value[T]) Peek() (value T, loaded bool) {
	if s := v.current.Load(); s != nil {
		return s.value, true
	}
	return value, false
}

// Overdue reports whether a load has been running for longer than Get waits. The
// value that Get returns may then be very old.
func (v *Value[T]) Overdue() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.flight != nil && time.Since(v.flight.started) >= v.policy.StaleWait
}

// Expire makes the value due: the next Get starts a load.
func (v *Value[T]) Expire() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s := v.current.Load(); s != nil {
		v.current.Store(&snapshot[T]{s.value, s.asOf, time.Time{}})
	}
}

// Begin is called by a load when it stops waiting and begins its work. The time
// before that does not count for Rest.
func (v *Value[T]) Begin() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.flight.began = time.Now()
}

// start returns the load that runs, and starts one if there is none.
func (v *Value[T]) start(now time.Time) *flight[T] {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.flight == nil {
		v.flight = &flight[T]{started: now, began: now, done: make(chan struct{})}
		go v.run(v.flight)
	}
	return v.flight
}

// run loads the value and ends the flight.
func (v *Value[T]) run(f *flight[T]) {
	prev := v.current.Load()
	var value T
	if prev != nil {
		value = prev.value
	}
	loaded, err := guard(func() (T, error) { return v.load(value, prev != nil) })

	v.mu.Lock()
	defer v.mu.Unlock()
	next := &snapshot[T]{loaded, f.started, f.started.Add(v.policy.Every)}
	if prev != nil {
		next.next = f.started.Add(max(v.policy.Every, time.Duration(v.policy.Rest)*time.Since(f.began)))
		if err != nil {
			next.value, next.asOf = prev.value, prev.asOf
		}
	}
	if err == nil || prev != nil {
		f.value = next.value
		v.current.Store(next)
	} else {
		f.err = err
	}
	v.flight = nil
	close(f.done)
}

// guard calls f and returns a panic as an error. The load runs in a goroutine
// of its own, where a panic would end the process.
func guard[T any](f func() (T, error)) (value T, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	return f()
}
