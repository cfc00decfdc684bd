package refresh_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri/internal/refresh"
)

var policy = refresh.Policy{Every: time.Second, Rest: 20, FirstWait: 8 * time.Second, Fresh: 2 * time.Second, StaleWait: 100 * time.Millisecond}

// A source counts its loads, and fails, waits and panics as it is told.
type source struct {
	n     atomic.Int64
	takes time.Duration
	err   error
	panic bool
}

func (s *source) load(prev int64, loaded bool) (int64, error) {
	n := s.n.Add(1)
	time.Sleep(s.takes)
	if s.panic {
		panic("a bug")
	}
	if loaded != (n > 1) && s.err == nil && prev != 0 {
		return 0, fmt.Errorf("load %d has loaded %v, prev %d", n, loaded, prev)
	}
	return n, s.err
}

func TestValueIsLoadedWhenDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(source)
		v := refresh.New(&policy, s.load)
		get := func(want int64) {
			t.Helper()
			if got, err := v.Get(t.Context()); got != want || err != nil {
				t.Errorf("at %v: %d, %v, want %d", time.Now(), got, err, want)
			}
			synctest.Wait()
		}
		get(1)
		time.Sleep(999 * time.Millisecond)
		get(1)
		time.Sleep(2 * time.Millisecond)
		get(1) // and starts the load of the next
		get(2)
		time.Sleep(3 * time.Second)
		get(3) // too old to be returned without a wait
		v.Expire()
		get(3)
		get(4)
		if got, err := v.Reload(t.Context()); got != 5 || err != nil {
			t.Errorf("Reload: %d, %v", got, err)
		}
	})
}

func TestValueKeepsTheLastGoodOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{err: errors.New("no disk")}
		v := refresh.New(&policy, s.load)
		if _, err := v.Get(t.Context()); err != s.err {
			t.Errorf("without a value: %v", err)
		}
		s.err = nil
		if got, err := v.Get(t.Context()); got != 2 || err != nil {
			t.Errorf("right after the failure: %d, %v", got, err)
		}
		for _, fail := range []func(){func() { s.err = errors.New("no disk") }, func() { s.panic = true }} {
			fail()
			time.Sleep(3 * time.Second)
			if got, err := v.Get(t.Context()); got != 2 || err != nil {
				t.Errorf("after a failure: %d, %v", got, err)
			}
		}
		if n := s.n.Load(); n != 4 {
			t.Errorf("%d loads", n)
		}
	})
}

func TestValuePanicOfFirstLoad(t *testing.T) {
	v := refresh.New(&policy, (&source{panic: true}).load)
	if _, err := v.Get(t.Context()); err == nil {
		t.Error("no error")
	}
}

func TestValueSingleFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{takes: time.Second}
		v := refresh.New(&policy, s.load)
		var group sync.WaitGroup
		for range 100 {
			group.Go(func() {
				if got, err := v.Get(t.Context()); got != 1 || err != nil {
					t.Errorf("%d, %v", got, err)
				}
			})
		}
		group.Wait()
		if n := s.n.Load(); n != 1 {
			t.Errorf("%d loads", n)
		}
	})
}

func TestValueWaits(t *testing.T) {
	for _, test := range []struct {
		name        string
		takes       time.Duration
		first       bool          // nothing was loaded before
		timeout     time.Duration // of the caller
		wait        time.Duration
		value       int64
		err         error
		reloadDelay time.Duration // between the value's load and the call
	}{
		{name: "first value", takes: 3 * time.Second, first: true, timeout: time.Minute, wait: 3 * time.Second, value: 1},
		{name: "first value hangs", takes: time.Minute, first: true, timeout: time.Hour, wait: 8 * time.Second, err: context.DeadlineExceeded},
		{name: "caller hangs up", takes: time.Minute, first: true, timeout: time.Second, wait: time.Second, err: context.DeadlineExceeded},
		{name: "fresh value", takes: time.Minute, timeout: time.Hour, reloadDelay: 1500 * time.Millisecond, value: 1},
		{name: "stale value hangs", takes: time.Minute, timeout: time.Hour, reloadDelay: 3 * time.Second, wait: 100 * time.Millisecond, value: 1},
		{name: "stale value", takes: 50 * time.Millisecond, timeout: time.Hour, reloadDelay: 3 * time.Second, wait: 50 * time.Millisecond, value: 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := new(source)
				v := refresh.New(&policy, s.load)
				if !test.first {
					v.Get(t.Context())
					time.Sleep(test.reloadDelay)
				}
				s.takes = test.takes
				ctx, cancel := context.WithTimeout(t.Context(), test.timeout)
				defer cancel()
				started := time.Now()
				got, err := v.Get(ctx)
				if got != test.value || !errors.Is(err, test.err) {
					t.Errorf("%d, %v", got, err)
				}
				if waited := time.Since(started); waited != test.wait {
					t.Errorf("it took %v, want %v", waited, test.wait)
				}
				time.Sleep(time.Minute) // until the load has ended
			})
		})
	}
}

// A reload that hangs makes callers wait once, not each of them again.
func TestValueStaleWaitIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := new(source)
		v := refresh.New(&policy, s.load)
		v.Get(t.Context())
		s.takes = time.Minute
		time.Sleep(3 * time.Second)
		started := time.Now()
		for range 100 {
			v.Get(t.Context())
		}
		if took := time.Since(started); took > 200*time.Millisecond || !v.Overdue() {
			t.Errorf("100 calls took %v; overdue: %v", took, v.Overdue())
		}
		time.Sleep(time.Minute) // until the load has ended
		if v.Overdue() {
			t.Error("overdue, without a load")
		}
	})
}

func TestValueRests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{takes: 100 * time.Millisecond}
		v := refresh.New(&policy, s.load)
		for range 600 {
			v.Get(t.Context())
			time.Sleep(100 * time.Millisecond)
		}
		if n := s.n.Load(); n < 25 || n > 35 { // every two seconds, of a minute
			t.Errorf("%d loads", n)
		}
	})
}

// What a load waits for before its work does not count.
func TestValueRestsAfterWorkOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		var v *refresh.Value[int]
		v = refresh.New(&policy, func(int, bool) (int, error) {
			n++
			time.Sleep(500 * time.Millisecond)
			v.Begin()
			time.Sleep(time.Millisecond)
			return n, nil
		})
		for range 100 {
			v.Get(t.Context())
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Second)
		if n < 9 {
			t.Errorf("%d loads in ten seconds", n)
		}
	})
}

func TestReloadWaitsForALoadOfItsOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{takes: time.Second}
		v := refresh.New(&policy, s.load)
		go v.Get(t.Context())
		time.Sleep(500 * time.Millisecond)
		if got, err := v.Reload(t.Context()); got != 2 || err != nil {
			t.Errorf("%d, %v", got, err)
		}
		s.takes = time.Hour
		started := time.Now()
		if _, err := v.Reload(t.Context()); !errors.Is(err, context.DeadlineExceeded) || time.Since(started) != 8*time.Second {
			t.Errorf("after %v: %v", time.Since(started), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := v.Reload(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v", err)
		}
		time.Sleep(time.Hour) // until the load has ended
	})
}

func TestMap(t *testing.T) {
	var evicted []string
	m := refresh.NewMap(10, func(key string, value int) { evicted = append(evicted, fmt.Sprint(key, value)) })
	for i, key := range []string{"a", "b", "c"} {
		m.Put(key, i, 3)
	}
	m.Get("a")
	m.Put("d", 3, 3) // no room for b
	if _, ok := m.Get("b"); ok || !slices.Equal(evicted, []string{"b1"}) {
		t.Errorf("evicted %v", evicted)
	}
	m.GetOrPut("loading", func() (string, int) { return "loading", 9 })
	m.Put("e", 4, 7) // as large as all but one
	if n, size := m.Usage(); n != 3 || size != 10 {
		t.Errorf("%d values of %d", n, size)
	}
	sum := 0
	m.Each(func(_ string, v int) { sum += v })
	if sum != 9+4+3 {
		t.Errorf("the values' sum is %d", sum)
	}
	if v := m.GetOrPut("loading", func() (string, int) { return "loading", 10 }); v != 9 {
		t.Errorf("a value of size zero was evicted")
	}
	m.Put("huge", 5, 100)
	if v, ok := m.Get("huge"); !ok || v != 5 {
		t.Error("a value that is too large is not kept until the next")
	}
	m.Put("f", 6, 1)
	if _, ok := m.Get("huge"); ok {
		t.Error("a value that is too large is kept")
	}
	m.Put("f", 7, 2)
	m.Delete("f")
	m.Delete("f")
	if n, size := m.Usage(); n != 1 || size != 0 {
		t.Errorf("%d values of %d", n, size)
	}
}

func TestMapConcurrently(t *testing.T) {
	m := refresh.NewMap[int, int](100, nil)
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			for j := range 2000 {
				key := (i*j + j) % 50
				if v, ok := m.Get(key); ok && v != key {
					t.Errorf("key %d has %d", key, v)
				}
				m.GetOrPut(key, func() (int, int) { return key, key })
				m.Put(key, key, 5)
				if j%7 == 0 {
					m.Delete(key)
				}
			}
		})
	}
	group.Wait()
	if n, size := m.Usage(); n > 50 || size > 100 {
		t.Errorf("%d values of %d", n, size)
	}
}
