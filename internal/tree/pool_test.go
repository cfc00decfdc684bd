package tree_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri/internal/tree"
)

func TestPoolEach(t *testing.T) {
	tests := map[string]struct{ goroutines, calls int }{
		"no calls":      {goroutines: 4, calls: 0},
		"one call":      {goroutines: 4, calls: 1},
		"many calls":    {goroutines: 4, calls: 100},
		"no goroutines": {goroutines: 0, calls: 10},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // panics on a deadlock
				counts := make([]int, test.calls)
				tree.NewPool(test.goroutines).Each(test.calls, func(i int) { counts[i]++ })
				if slices.ContainsFunc(counts, func(n int) bool { return n != 1 }) {
					t.Errorf("calls by index are %v, want 1 each", counts)
				}
			})
		})
	}
}

// A gauge counts how many calls run at a time.
type gauge struct{ now, most atomic.Int64 }

// run takes a second of a bubble's clock.
func (g *gauge) run(int) {
	now := g.now.Add(1)
	for most := g.most.Load(); now > most && !g.most.CompareAndSwap(most, now); most = g.most.Load() {
	}
	time.Sleep(time.Second)
	g.now.Add(-1)
}

func TestPoolConcurrency(t *testing.T) {
	const goroutines = 3
	tests := map[string]struct {
		run  func(p *tree.Pool, g *gauge)
		want int64 // calls at a time
	}{
		"one caller": {
			run:  func(p *tree.Pool, g *gauge) { p.Each(20, g.run) },
			want: goroutines + 1,
		},
		"two callers": {
			run: func(p *tree.Pool, g *gauge) {
				var group sync.WaitGroup
				for range 2 {
					group.Go(func() { p.Each(20, g.run) })
				}
				group.Wait()
			},
			want: goroutines + 2,
		},
		"nested": {
			run: func(p *tree.Pool, g *gauge) {
				p.Each(5, func(int) { p.Each(5, func(int) { p.Each(5, g.run) }) })
			},
			want: goroutines + 1,
		},
		"fewer calls than goroutines": {
			run:  func(p *tree.Pool, g *gauge) { p.Each(2, g.run) },
			want: 2,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := new(gauge)
				test.run(tree.NewPool(goroutines), g)
				if most, now := g.most.Load(), g.now.Load(); most != test.want || now != 0 {
					t.Errorf("%d calls ran at a time, and %d still run, want %d and 0", most, now, test.want)
				}
			})
		})
	}
}

func TestPoolPanic(t *testing.T) {
	tests := map[string]func(p *tree.Pool, calls *atomic.Int64){
		"in a goroutine": func(p *tree.Pool, calls *atomic.Int64) {
			p.Each(10, func(i int) {
				calls.Add(1)
				if i == 0 {
					panic("broken disk")
				}
			})
		},
		"in the caller": func(p *tree.Pool, calls *atomic.Int64) {
			p.Each(10, func(i int) {
				calls.Add(1)
				if time.Sleep(time.Second); i == 3 { // the goroutines are busy with 0, 1 and 2
					panic("broken disk")
				}
			})
		},
		"nested": func(p *tree.Pool, calls *atomic.Int64) {
			p.Each(5, func(i int) {
				p.Each(2, func(j int) {
					calls.Add(1)
					if i == 1 && j == 1 {
						panic("broken disk")
					}
				})
			})
		},
	}
	for name, run := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := tree.NewPool(3)
				var calls atomic.Int64
				func() {
					defer func() {
						if text := fmt.Sprint(recover()); !strings.HasPrefix(text, "broken disk\ngoroutine ") {
							t.Errorf("Each panics with %q, want the cause and its stack", text)
						}
					}()
					run(p, &calls)
				}()
				if n := calls.Load(); n != 10 {
					t.Errorf("f was called %d times, want 10", n)
				}
				g := new(gauge)
				if p.Each(10, g.run); g.most.Load() != 4 {
					t.Errorf("%d calls run at a time after the panic, want 4", g.most.Load())
				}
			})
		})
	}
}
