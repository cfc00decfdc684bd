package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri/bucket/internal/storetest"
)

// TestVisible publishes at a replica, which serves the release at once. The other
// one does so when it checks the provider again.
func TestVisible(t *testing.T) {
	t.Parallel()
	s := storetest.S3(t)
	name := newAcme(t, s)
	a, b := startReplica(t, s, s.URL(name, s.Addr), "-refresh-every", "2s"), startReplica(t, s, s.URL(name, s.Addr), "-refresh-every", "2s")
	for _, version := range []string{"1.0.0", "1.1.0"} {
		before := b.versions(t)
		files := newRelease(t, "foo", version, "first")
		if got, err := a.publish(t, version, files); err != nil || got.status != http.StatusCreated {
			t.Fatalf("%v, %v", got, err)
		}
		published := time.Now()
		if got := a.versions(t); !strings.Contains(got, version) {
			t.Errorf("the replica that published %s lists %s", version, got)
		}
		a.wantServed(t, version, files)
		for !strings.Contains(b.versions(t), version) {
			if time.Since(published) > 20*time.Second {
				t.Fatalf("the other replica does not list %s: %s, and before %s", version, b.versions(t), before)
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Logf("the other replica lists %s after %v", version, time.Since(published).Round(10*time.Millisecond))
		b.wantServed(t, version, files)
	}
	for _, path := range []string{"/", "/acme/foo", "/healthz", "/nothing"} { // pages for people, which must have no secret
		if got, err := ask(t, "GET", a.url+path, readToken, nil); err != nil || got.status >= 500 {
			t.Errorf("%s: %v, %v", path, got, err)
		}
	}
}

// TestRace has 16 pipelines publish the same version through two replicas, each
// with a build of its own. One of them wins.
func TestRace(t *testing.T) {
	t.Parallel()
	const racers, rounds = 16, 5
	s := storetest.S3(t)
	name := newAcme(t, s)
	replicas := []*replica{startReplica(t, s, s.URL(name, s.Addr), "-refresh-every", "1s"), startReplica(t, s, s.URL(name, s.Addr), "-refresh-every", "1s")}
	for round := range rounds {
		version := fmt.Sprintf("1.%d.0", round)
		builds := make([]release, racers)
		for i := range builds {
			builds[i] = newRelease(t, "foo", version, fmt.Sprint("build ", i))
		}
		answers := make([]answer, racers)
		each(racers, func(i int) {
			var err error
			if answers[i], err = replicas[i%2].publish(t, version, builds[i]); err != nil {
				t.Error(err)
			}
		})
		winner := -1
		for i, a := range answers {
			switch {
			case a.status == http.StatusCreated && winner < 0, a.status == http.StatusOK && winner < 0:
				winner = i
			case a.status == http.StatusCreated, a.status == http.StatusOK:
				t.Errorf("round %d: both %d and %d were told that their build is published", round, winner, i)
			case a.status != http.StatusConflict && a.status != http.StatusAccepted && a.status != http.StatusUnprocessableEntity:
				t.Errorf("round %d: racer %d got %v", round, i, a)
			}
		}
		if winner < 0 {
			t.Errorf("round %d: nobody has won: %v", round, answers)
			continue
		}
		for _, r := range replicas {
			for begun := time.Now(); !strings.Contains(r.versions(t), version) && time.Since(begun) < 20*time.Second; {
				time.Sleep(50 * time.Millisecond)
			}
			r.wantServed(t, version, builds[winner])
		}
	}
}

// writes reports whether a request changes what is in the bucket.
func writes(req *http.Request) bool {
	return req.Method == http.MethodPut || req.Method == http.MethodPost || req.Method == http.MethodDelete
}

// killAt has a replica's process killed at the nth request that writes: before
// or after the store has carried it out.
func killAt(p *storetest.Proxy, victim *replica, n int64, after bool) (reached func() bool) {
	var seen atomic.Int64
	p.Hook(func(w http.ResponseWriter, req *http.Request) bool {
		if !writes(req) || seen.Add(1) != n {
			return false
		}
		if after {
			p.Forward(&discard{header: make(http.Header)}, req)
		}
		victim.kill()
		return true
	})
	return func() bool { return seen.Load() >= n }
}

// A discard is a response that nobody reads.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header       { return d.header }
func (*discard) Write(b []byte) (int, error) { return len(b), nil }
func (*discard) WriteHeader(int)             {}

// TestKilled kills a replica at each request that writes while a release is
// published, before and after the request takes effect. The release is then
// sent again to another replica, which publishes it.
func TestKilled(t *testing.T) {
	t.Parallel()
	s := storetest.S3(t)
	name := newAcme(t, s)
	proxy := storetest.NewProxy(t, s.Addr)
	other := startReplica(t, s, s.URL(name, s.Addr), "-refresh-every", "1s")
	for i, ended := 0, false; !ended; i++ {
		n, after := i/2+1, i%2 == 1
		version := fmt.Sprintf("1.%d.%d", n, i%2)
		files := newRelease(t, "foo", version, "first")
		proxy.Hook(nil)
		victim := startReplica(t, s, s.URL(name, proxy.Addr), "-refresh-every", "1s")
		reached := killAt(proxy, victim, int64(n), after)
		_, err := victim.publish(t, version, files)
		if ended = !reached(); ended {
			t.Logf("a release takes %d requests that write", n-1)
			if err != nil {
				t.Errorf("nobody killed the replica: %v", err)
			}
		}
		got, err := other.publish(t, version, files)
		if err != nil || got.status != http.StatusCreated && got.status != http.StatusOK {
			t.Errorf("killed at write %d (after it: %v), then sent again: %v, %v", n, after, got, err)
			continue
		}
		other.wantServed(t, version, files)
		victim.kill()
		if testing.Short() && i > 6 {
			break
		}
	}
}

// TestAbandonedClaim finds a version that is claimed for a release whose other
// files are gone: they were removed, or the bucket was copied halfway.
func TestAbandonedClaim(t *testing.T) {
	t.Parallel()
	s := storetest.S3(t)
	name := newAcme(t, s)
	lost, other := newRelease(t, "foo", "1.0.0", "lost"), newRelease(t, "foo", "1.0.0", "other")
	put(t, openBucket(t, s, name), "acme/foo/1.0.0/"+sumsName("foo", "1.0.0"), lost[sumsName("foo", "1.0.0")])
	r := startReplica(t, s, s.URL(name, s.Addr), "-refresh-every", "1s")
	got, err := r.publish(t, "1.0.0", other)
	if err != nil || got.status != http.StatusConflict {
		t.Fatalf("another build: %v, %v", got, err)
	}
	for _, want := range []string{"Upload the files of that build again", "or release a new version", "can delete what is at acme/foo/1.0.0"} {
		if !strings.Contains(got.body, want) {
			t.Errorf("the answer does not say %q: %s", want, got.body)
		}
	}
	if got, err = r.publish(t, "1.0.0", lost); err != nil || got.status != http.StatusCreated {
		t.Errorf("the build that it is claimed for: %v, %v", got, err)
	}
	r.wantServed(t, "1.0.0", lost)
}
