package tree

import (
	"fmt"
	"runtime/debug"
	"sync"
)

// A Pool limits how many file-system calls run at a time. Calls of Each may be
// nested: when no goroutine is free, Each runs f itself.
type Pool struct {
	tokens chan struct{}
}

// NewPool returns a Pool of n goroutines, besides those of the callers.
func NewPool(n int) *Pool { return &Pool{make(chan struct{}, n)} }

// Each calls f with every number from 0 to n-1, some of them concurrently, and
// returns when all calls have returned. If a call panics, Each panics after that.
func (p *Pool) Each(n int, f func(i int)) {
	var group sync.WaitGroup
	var once sync.Once
	var failure error
	call := func(i int) {
		defer func() {
			if v := recover(); v != nil {
				once.Do(func() { failure = fmt.Errorf("%v\n%s", v, debug.Stack()) })
			}
		}()
		f(i)
	}
	for i := range n {
		select {
		case p.tokens <- struct{}{}:
			group.Go(func() {
				defer func() { <-p.tokens }()
				call(i)
			})
		default:
			call(i)
		}
	}
	group.Wait()
	if failure != nil {
		panic(failure)
	}
}
