package tree

import (
	"fmt"
	"runtime/debug"
	"sync"
)

// A Pool bounds how many calls of a file system run at a time for one load. Its
// users may nest: a task that finds no room for another one runs it itself.
type Pool struct {
	tokens chan struct{}
}

// NewPool returns a Pool for n goroutines beside the caller's.
func NewPool(n int) *Pool { return &Pool{make(chan struct{}, n)} }

// Each calls f with every number from 0 to n-1, some of them concurrently, and
// returns when all calls have. It panics if one of them does.
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
