package bucket_test

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
)

// A schedule decides in which order the requests of several replicas reach the
// store, and which of them fail. Each request waits for its turn twice: before it
// takes effect, and before its reply arrives.
type schedule struct {
	rand   *rand.Rand
	faults bool

	mu      sync.Mutex
	off     bool
	waiting []*turn
	dead    [2]bool // replicas that were killed
	steps   int
}

// A turn is a request that waits.
type turn struct {
	replica int
	what    string
	next    chan error
}

// attach makes the requests of a replica wait for their turns. The clock of the
// replica differs by some seconds from that of the store.
func (s *schedule) attach(replica int, f *faulty) {
	wait := func(when string) func(op, key string) error {
		return func(op, key string) error {
			s.mu.Lock()
			if s.off || s.dead[replica] {
				dead := s.dead[replica]
				s.mu.Unlock()
				if dead {
					return reset
				}
				return nil
			}
			t := &turn{replica, op + " " + key + " " + when, make(chan error)}
			s.waiting = append(s.waiting, t)
			s.mu.Unlock()
			return <-t.next
		}
	}
	skew := time.Duration(s.rand.IntN(11)-5) * time.Second
	f.set(func(f *faulty) {
		f.before, f.after = wait("before"), wait("after")
		f.list = func(_ string, objects []*driver.ListObject) *driver.ListPage {
			for _, o := range objects {
				o.ModTime = o.ModTime.Add(skew)
			}
			return &driver.ListPage{Objects: objects}
		}
	})
}

// run gives turns until done is closed.
func (s *schedule) run(done chan struct{}) {
	for {
		synctest.Wait()
		s.mu.Lock()
		if len(s.waiting) == 0 {
			s.mu.Unlock()
			select {
			case <-done:
				return
			default:
			}
			time.Sleep(10 * time.Millisecond)
			continue
		}
		// Requests of one replica may begin in any order.
		slices.SortStableFunc(s.waiting, func(a, b *turn) int {
			return cmp.Or(a.replica-b.replica, strings.Compare(a.what, b.what))
		})
		i := s.rand.IntN(len(s.waiting))
		t := s.waiting[i]
		s.waiting = slices.Delete(s.waiting, i, i+1)
		s.steps++
		var err error
		if s.faults && s.rand.IntN(100) == 0 {
			err = reset // before: it was not made; after: its reply is lost
		}
		if s.faults && s.rand.IntN(400) == 0 && !s.dead[1-t.replica] {
			s.dead[t.replica] = true
			err = reset
		}
		if s.dead[t.replica] {
			err = reset
		}
		s.mu.Unlock()
		t.next <- err
	}
}

// stop lets all further requests pass.
func (s *schedule) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.off, s.dead = true, [2]bool{true, true}
	for _, t := range s.waiting {
		t.next <- reset
	}
}

// TestInterleavings publishes a version through two replicas, with requests in
// random orders, lost requests, lost replies and killed replicas. Some of the
// files may have been staged more than a day before, so that the replicas sweep
// them meanwhile.
func TestInterleavings(t *testing.T) {
	for seed := range uint64(200) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testInterleaving(t, seed) })
		})
	}
}

func testInterleaving(t *testing.T, seed uint64) {
	sleepUntilSigned()
	random := rand.New(rand.NewPCG(seed, 0))
	s := &schedule{rand: random, faults: random.IntN(3) > 0}
	inner, buckets, drivers := newStore(t)
	builds := []map[string]string{build("1.0.0", "a")}
	if random.IntN(2) == 0 {
		builds = append(builds, build("1.0.0", "b"))
	}
	claimed := false
	if random.IntN(2) == 0 { // what an upload left the day before
		old := newReplica(t, memoryOf(inner), nil)
		b := builds[random.IntN(len(builds))]
		all := names(b)
		random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		if _, err := old.upload(t, "1.0.0", b, all[:1+random.IntN(len(all)-1)]...); err != nil {
			t.Fatal(err)
		}
		if random.IntN(4) == 0 {
			addObject(t, inner, "acme/foo/1.0.0/"+sumsOf("1.0.0"), b[sumsOf("1.0.0")])
			claimed = true
		}
		time.Sleep(25 * time.Hour)
	}
	var replicas []replica
	for i := range drivers {
		replicas = append(replicas, newReplica(t, buckets[i], nil))
		s.attach(i, drivers[i])
	}
	type answer struct {
		build int
		name  string
		state string
		err   error
	}
	var mu sync.Mutex
	var answers []answer
	var uploads sync.WaitGroup
	for which, b := range builds {
		queue := make(chan string, len(b))
		all := names(b)
		if random.IntN(2) == 0 {
			random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		}
		for _, name := range all {
			queue <- name
		}
		close(queue)
		for worker := range 1 + random.IntN(3) {
			uploads.Go(func() {
				for name := range queue {
					for try := range 3 {
						receipt, err := replicas[(worker+try)%2].upload(t, "1.0.0", b, name)
						a := answer{build: which, name: name, err: err}
						if err == nil {
							a.state = receipt.State
						}
						mu.Lock()
						answers = append(answers, a)
						mu.Unlock()
						if err == nil || isUploadError(err) {
							break
						}
					}
				}
			})
		}
	}
	done := make(chan struct{})
	go func() { uploads.Wait(); close(done) }()
	s.run(done)
	t.Logf("%d steps, faults: %t, builds: %d, dead: %v", s.steps, s.faults, len(builds), s.dead)
	for _, a := range answers {
		t.Logf("build %d: %s: %s %v", a.build, a.name, a.state, a.err)
	}
	s.stop()
	holder := mustBeWhole(t, inner, builds)
	published := 0
	for _, a := range answers {
		if a.err != nil && !isUploadError(a.err) && !s.faults {
			t.Errorf("build %d: %s: %v", a.build, a.name, a.err)
		}
		if a.err != nil && len(builds) == 1 && isUploadError(a.err) {
			t.Errorf("build %d: %s is refused: %v", a.build, a.name, a.err)
		}
		if a.state == rekisteri.StatePublished {
			published++
		}
		if (a.state == rekisteri.StatePublished || a.state == rekisteri.StateUnchanged) && !strings.HasSuffix(a.name, ".json") && a.build != holder {
			t.Errorf("build %d: %s was acknowledged, and the bucket has build %d", a.build, a.name, holder)
		}
	}
	if published > 1 || !s.faults && len(builds) == 1 && !claimed && published != 1 {
		t.Errorf("%d uploads say that they have published", published)
	}
	if t.Failed() {
		return
	}
	time.Sleep(5 * time.Minute) // until what still runs has ended

	// Another replica completes what is there. If that is a mixture, the first
	// attempt may be told so.
	r := newReplica(t, memoryOf(inner), nil)
	for range 2 {
		for _, b := range builds {
			for _, name := range names(b) {
				if _, err := r.upload(t, "1.0.0", b, name); err != nil && !isUploadError(err) {
					t.Errorf("recovery: %v", err)
				}
			}
		}
	}
	winner := mustBeWhole(t, inner, builds)
	if holder >= 0 && winner != holder {
		t.Errorf("build %d was replaced by %d", holder, winner)
	}
	mustServe(t, r, "1.0.0", true)
	for i, b := range builds {
		_, err := r.upload(t, "1.0.0", b, names(b)...)
		if i == winner && err != nil || i != winner && !errors.Is(err, fs.ErrExist) {
			t.Errorf("re-run of build %d: %v; the winner is %d", i, err, winner)
		}
	}
}

func memoryOf(inner *blob.Bucket) *blob.Bucket { b, _ := newFaulty(inner); return b }

func isUploadError(err error) bool {
	_, ok := errors.AsType[*rekisteri.UploadError](err)
	return ok
}

// mustBeWhole returns which of the builds is published, or -1. It checks that it
// is whole.
func mustBeWhole(t *testing.T, inner *blob.Bucket, builds []map[string]string) int {
	t.Helper()
	there := make(map[string]string)
	for _, name := range keys(t, inner, "acme/foo/1.0.0/") {
		content, err := inner.ReadAll(t.Context(), "acme/foo/1.0.0/"+name)
		if err != nil {
			t.Fatal(err)
		}
		there[name] = string(content)
	}
	if _, ok := there[sigOf("1.0.0")]; !ok {
		return -1
	}
	for i, b := range builds {
		if maps.Equal(b, there) {
			return i
		}
	}
	for name, content := range there {
		t.Logf("%s: %x", name, sha256.Sum256([]byte(content)))
	}
	t.Error("what is published is torn")
	return -1
}
