package server

import (
	"runtime/debug"
	"testing"
)

func TestMemoryLimit(t *testing.T) {
	for _, test := range []struct{ cacheMiB, wantMiB int64 }{
		{cacheMiB: 1, wantMiB: 104},
		{cacheMiB: 48, wantMiB: 104},
		{cacheMiB: 96, wantMiB: 208},
		{cacheMiB: 480, wantMiB: 1040},
	} {
		if got := memoryLimit(int(test.cacheMiB)); got != test.wantMiB<<20 {
			t.Errorf("memoryLimit(%d) = %d MiB, want %d", test.cacheMiB, got>>20, test.wantMiB)
		}
	}
}

func TestCacheSizes(t *testing.T) {
	if tree, documents := cacheSizes(defaultCacheMiB); tree != 32<<20 || documents != 16<<20 {
		t.Errorf("the default sizes are %d and %d, want those of the library", tree, documents)
	}
}

func TestLimitMemory(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(1<<40)
	defer func() {
		debug.SetGCPercent(percent)
		debug.SetMemoryLimit(limit)
	}()
	for _, test := range []struct {
		name, gogc, memlimit string
		wantPercent          int
		wantLimit            int64
	}{
		{name: "nothing is set", wantPercent: 400, wantLimit: 104 << 20},
		{name: "GOGC is set", gogc: "100", wantPercent: 100, wantLimit: 1 << 40},
		{name: "GOMEMLIMIT is set", memlimit: "1TiB", wantPercent: 100, wantLimit: 1 << 40},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Setenv("GOGC", test.gogc)
			t.Setenv("GOMEMLIMIT", test.memlimit)
			debug.SetGCPercent(100)
			debug.SetMemoryLimit(1 << 40)
			limitMemory(defaultCacheMiB)
			if percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1); percent != test.wantPercent || limit != test.wantLimit {
				t.Errorf("%d %%, %d bytes, want %d %%, %d bytes", percent, limit, test.wantPercent, test.wantLimit)
			}
		})
	}
}
