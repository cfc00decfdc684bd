package server

import (
	"net/http"
	"runtime/debug"
	"testing"
)

func TestCacheSizes(t *testing.T) {
	if tree, documents := cacheSizes(defaultCacheMiB); tree != 32<<20 || documents != 16<<20 {
		t.Errorf("the default sizes are %d and %d, want those of the library", tree, documents)
	}
}

// keepSettings restores the settings of the garbage collector after a test.
func keepSettings(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(1<<40)
	t.Cleanup(func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	})
}

func TestLimitMemory(t *testing.T) {
	keepSettings(t)
	for _, test := range []struct {
		name, gogc, memlimit string
		cacheMiB             int
		wantPercent          int
		wantLimit            int64
	}{
		{name: "the default", cacheMiB: 48, wantPercent: 400, wantLimit: 120 << 20},
		{name: "a small cache", cacheMiB: 1, wantPercent: 400, wantLimit: 120 << 20},
		{name: "a large cache", cacheMiB: 480, wantPercent: 400, wantLimit: 1200 << 20},
		{name: "GOGC is set", gogc: "100", cacheMiB: 48, wantPercent: 100, wantLimit: 1 << 40},
		{name: "GOMEMLIMIT is set", memlimit: "1TiB", cacheMiB: 48, wantPercent: 100, wantLimit: 1 << 40},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("GOGC", test.gogc)
			t.Setenv("GOMEMLIMIT", test.memlimit)
			debug.SetGCPercent(100)
			debug.SetMemoryLimit(1 << 40)
			limitMemory(test.cacheMiB)
			if percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1); percent != test.wantPercent || limit != test.wantLimit {
				t.Errorf("%d %%, %d bytes, want %d %%, %d bytes", percent, limit, test.wantPercent, test.wantLimit)
			}
		})
	}
}

// TestMemoryLimitTrack opens and closes connections.
func TestMemoryLimitTrack(t *testing.T) {
	keepSettings(t)
	t.Setenv("GOGC", "")
	t.Setenv("GOMEMLIMIT", "")
	m := limitMemory(defaultCacheMiB)
	for _, test := range []struct {
		name  string
		state http.ConnState
		n     int
		want  int64 // the limit above 120 MiB, in connections
	}{
		{name: "connections that the limit is for", state: http.StateNew, n: connsStep, want: 0},
		{name: "requests", state: http.StateActive, n: connsStep, want: 0},
		{name: "one connection more", state: http.StateNew, n: 1, want: connsStep},
		{name: "many connections", state: http.StateNew, n: 3 * connsStep, want: 4 * connsStep},
		{name: "connections that end", state: http.StateClosed, n: 4 * connsStep, want: 4 * connsStep},
		{name: "others in their place", state: http.StateNew, n: 4 * connsStep, want: 4 * connsStep},
	} {
		for range test.n {
			m.track(nil, test.state)
		}
		if got := debug.SetMemoryLimit(-1) - 120<<20; got != test.want*connBytes {
			t.Errorf("%s: the limit is 120 MiB and %d KiB, want %d KiB", test.name, got>>10, test.want*connBytes>>10)
		}
	}
}

// TestMemoryLimitOfEnvironment leaves the limit as the environment sets it.
func TestMemoryLimitOfEnvironment(t *testing.T) {
	keepSettings(t)
	t.Setenv("GOMEMLIMIT", "1TiB")
	m := limitMemory(defaultCacheMiB)
	for range 2 * connsStep {
		m.track(nil, http.StateNew)
	}
	if got := debug.SetMemoryLimit(-1); got != 1<<40 {
		t.Errorf("the limit is %d", got)
	}
}
