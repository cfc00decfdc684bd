package bucket_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"gocloud.dev/blob/driver"
)

// TestSoak publishes versions through two replicas, to a store of whose requests
// every tenth or so fails in some way, while clients read. A version that was seen
// never disappears, and in the end all are there.
func TestSoak(t *testing.T) {
	for round := range 3 {
		t.Run(fmt.Sprint(round), func(t *testing.T) { synctest.Test(t, testSoak) })
	}
}

// fails returns a fault of the store, or nil.
func fails(_, key string) error {
	time.Sleep(rand.N(50 * time.Millisecond))
	if rand.N(25) > 0 {
		return nil
	}
	return []error{reset, forbidden, timeout, errNoCredentials, noKey}[rand.N(5)]
}

// chaos makes requests fail: before or after they were carried out, or with a
// part of the answer.
func chaos(f *faulty) {
	f.before = fails
	f.after = func(op, key string) error {
		if err := fails(op, key); err != noKey { // a write that was carried out
			return err
		}
		return reset
	}
	f.list = func(_ string, objects []*driver.ListObject) *driver.ListPage {
		if len(objects) > 0 && rand.N(20) == 0 {
			return &driver.ListPage{Objects: objects[:len(objects)-1], NextPageToken: []byte("a page that does not exist")}
		}
		return &driver.ListPage{Objects: objects}
	}
	f.read = func(_ string, r io.Reader) io.Reader {
		if rand.N(20) == 0 {
			return io.MultiReader(io.LimitReader(r, 10), iotest.ErrReader(reset))
		}
		return r
	}
}

func testSoak(t *testing.T) {
	sleepUntilSigned()
	inner, buckets, drivers := newStore(t)
	const versions = 12
	version := func(i int) string { return fmt.Sprintf("1.%d.0", i) }
	replicas := []replica{newReplica(t, buckets[0], nil), newReplica(t, buckets[1], nil)}
	for _, f := range drivers {
		f.set(chaos)
	}
	done := make(chan struct{})
	var readers, writers sync.WaitGroup
	for _, r := range replicas {
		readers.Go(func() {
			seen := make(map[string]bool)
			for {
				l, err := r.Versions(t.Context(), acmeFoo)
				if errors.Is(err, fs.ErrNotExist) && len(seen) > 0 {
					t.Errorf("the provider has disappeared: %v", err)
				}
				listed := make(map[string]bool)
				if err == nil {
					for _, v := range l.Versions {
						listed[v.Version] = true
						seen[v.Version] = true
						if _, err := r.Release(t.Context(), acmeFoo, v.Version); errors.Is(err, fs.ErrNotExist) {
							t.Errorf("%s is listed, and absent: %v", v.Version, err)
						}
					}
					for v := range seen {
						if !listed[v] {
							t.Errorf("%s has disappeared", v)
						}
					}
				}
				select {
				case <-done:
					return
				case <-time.After(time.Second):
				}
			}
		})
	}
	for i := range versions {
		writers.Go(func() {
			time.Sleep(rand.N(5 * time.Minute))
			files := build(version(i), "")
			for _, name := range names(files) {
				for try := 0; ; try++ {
					// Another try may go to the other replica.
					_, err := replicas[rand.N(2)].upload(t, version(i), files, name)
					if err == nil {
						break
					}
					if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrExist) || try == 100 {
						t.Errorf("%s, try %d: %v", name, try, err)
						return
					}
					time.Sleep(time.Second)
				}
			}
		})
	}
	writers.Wait()
	for _, f := range drivers {
		f.heal()
	}
	time.Sleep(5 * time.Minute) // uploads that were not completed are, a minute later
	close(done)
	readers.Wait()
	for i := range versions {
		mustHold(t, inner, version(i), build(version(i), ""))
		for _, r := range replicas {
			if _, err := r.Release(t.Context(), acmeFoo, version(i)); err != nil {
				t.Error(err)
			}
		}
	}
	time.Sleep(5 * time.Minute) // until all timers have ended
}
