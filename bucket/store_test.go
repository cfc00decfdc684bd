package bucket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/bucket"
	"github.com/rekisteri/rekisteri/internal/pgptest"
	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"
)

// newStore returns a bucket with a key, and two more over the same objects that
// fail as their drivers are told.
func newStore(t *testing.T) (inner *blob.Bucket, buckets [2]*blob.Bucket, drivers [2]*faulty) {
	t.Helper()
	inner = memblob.OpenBucket(nil)
	addObject(t, inner, "acme/acme.asc", testKey().Armor())
	for i := range buckets {
		buckets[i], drivers[i] = newFaulty(inner)
	}
	return inner, buckets, drivers
}

// mustServe checks that a replica serves a version, or that it does not.
func mustServe(t *testing.T, r replica, version string, want bool) {
	t.Helper()
	fresh := rekisteri.NewFSBackend(r.fs, &rekisteri.FSOptions{Logger: quiet(t)})
	_, err := fresh.Release(t.Context(), acmeFoo, version)
	if want != (err == nil) || err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v, want it to be served: %t", version, err, want)
	}
}

// isWrite reports whether a request changes the bucket.
func isWrite(op string) bool { return !strings.HasPrefix(op, "LIST") && op != "GET" && op != "HEAD" }

// stopAfter returns a change after which only n more requests succeed, as if the
// process was killed. If lost is set, the next one succeeds too, but its reply is
// lost. It counts writes only.
func stopAfter(n int64, lost bool) (change func(*faulty), stopped *atomic.Bool) {
	var count atomic.Int64
	stopped = new(atomic.Bool)
	return func(f *faulty) {
		f.before = func(op, _ string) error {
			switch {
			case stopped.Load():
				return reset
			case isWrite(op) && count.Add(1) > n && !lost:
				stopped.Store(true)
				return reset
			}
			return nil
		}
		f.after = func(op, _ string) error {
			if isWrite(op) && count.Load() > n {
				stopped.Store(true)
				return reset
			}
			return nil
		}
	}, stopped
}

// TestCrash kills a replica after each of the writes of an upload. The upload
// then completes through another replica.
func TestCrash(t *testing.T) {
	for _, lost := range []bool{false, true} {
		for n := int64(0); ; n++ {
			done := false
			t.Run(fmt.Sprintf("lost=%t/writes=%d", lost, n), func(t *testing.T) {
				inner, buckets, drivers := newStore(t)
				files := build("1.0.0", "")
				all := names(files)
				a, b := newReplica(t, buckets[0], nil), newReplica(t, buckets[1], nil)
				change, stopped := stopAfter(n, lost)
				drivers[0].set(change)
				last := ""
				var err error
				for _, last = range all {
					if _, err = a.upload(t, "1.0.0", files, last); err != nil {
						break
					}
				}
				done = !stopped.Load()
				if err == nil && done {
					return
				}
				// Until the signature is there, nothing is served; then all is.
				hasSignature := slices.Contains(keys(t, inner, "acme/foo/1.0.0/"), sigOf("1.0.0"))
				mustServe(t, b, "1.0.0", hasSignature)
				// The client repeats the file that failed, and goes on.
				receipt, err := b.upload(t, "1.0.0", files, all[slices.Index(all, last):]...)
				if err != nil || receipt.State == rekisteri.StateStaged {
					t.Fatalf("receipt %v, %v", receipt, err)
				}
				mustHold(t, inner, "1.0.0", files)
				mustServe(t, b, "1.0.0", true)
			})
			if done {
				if n < 10 {
					t.Errorf("the upload has only %d writes", n)
				}
				break
			}
		}
	}
}

// TestLostReplies loses the reply of each write once, in one process: the upload
// succeeds when the client repeats what failed.
func TestLostReplies(t *testing.T) {
	for n := range int64(18) {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			inner, buckets, drivers := newStore(t)
			files := build("1.0.0", "")
			a := newReplica(t, buckets[0], nil)
			var count atomic.Int64
			drivers[0].set(func(f *faulty) {
				f.after = func(op, _ string) error {
					if isWrite(op) && count.Add(1) == n {
						return reset
					}
					return nil
				}
			})
			var receipt *rekisteri.Receipt
			for _, name := range names(files) {
				var err error
				for range 3 {
					if receipt, err = a.upload(t, "1.0.0", files, name); err == nil {
						break
					}
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if receipt.State == rekisteri.StateStaged {
				t.Errorf("receipt %v", receipt)
			}
			mustHold(t, inner, "1.0.0", files)
		})
	}
}

// TestLostConditionalReply loses the reply to each conditional put. The object is
// there, so the upload succeeds.
func TestLostConditionalReply(t *testing.T) {
	for _, lost := range []string{sumsOf("1.0.0"), sigOf("1.0.0")} {
		t.Run(lost, func(t *testing.T) {
			inner, buckets, drivers := newStore(t)
			files := build("1.0.0", "")
			drivers[0].set(func(f *faulty) {
				f.after = func(op, key string) error {
					if op == "PUT NEW" && strings.HasSuffix(key, lost) {
						return reset
					}
					return nil
				}
			})
			receipt, err := newReplica(t, buckets[0], nil).upload(t, "1.0.0", files, names(files)...)
			if err != nil || receipt.State != rekisteri.StatePublished {
				t.Errorf("receipt %v, %v", receipt, err)
			}
			mustHold(t, inner, "1.0.0", files)
		})
	}
}

// TestStoppedCommit stops a commit for long at each of its steps. Meanwhile, the
// version is deleted and claimed for another build: nothing is added to that.
func TestStoppedCommit(t *testing.T) {
	for _, step := range []string{"PUT NEW acme/foo/1.0.0/" + sumsOf("1.0.0"), "COPY"} {
		t.Run(step, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sleepUntilSigned()
				inner, buckets, drivers := newStore(t)
				mine, other := build("1.0.0", "mine"), build("1.0.0", "other")
				fsys := bucket.New(buckets[0], nil)
				var staged []rekisteri.Staged
				for _, name := range append([]string{sumsOf("1.0.0")}, slices.DeleteFunc(names(mine), func(name string) bool { return name == sumsOf("1.0.0") })...) {
					s, err := fsys.Stage(t.Context(), "acme/foo/1.0.0", name, strings.NewReader(mine[name]), func(rekisteri.StagedFile) error { return nil })
					if err != nil {
						t.Fatal(err)
					}
					staged = append(staged, s)
				}
				var stopped atomic.Bool
				drivers[0].set(func(f *faulty) {
					f.after = func(op, key string) error {
						if !strings.HasPrefix(op+" "+key, step) || !stopped.CompareAndSwap(false, true) {
							return nil
						}
						time.Sleep(time.Hour)
						for _, name := range keys(t, inner, "acme/foo/1.0.0/") {
							if err := inner.Delete(t.Context(), "acme/foo/1.0.0/"+name); err != nil {
								t.Error(err)
							}
						}
						addObject(t, inner, "acme/foo/1.0.0/"+sumsOf("1.0.0"), other[sumsOf("1.0.0")])
						return nil
					}
				})
				if err := fsys.Commit(t.Context(), "acme/foo/1.0.0", staged); !errors.Is(err, fs.ErrExist) {
					t.Error(err)
				}
				if slices.Contains(keys(t, inner, "acme/foo/1.0.0/"), sigOf("1.0.0")) {
					t.Error("the signature was put")
				}
			})
		})
	}
}

// TestClaimThatIsKnown tests that a claim that a replica has known for long is
// visible there as soon as it has completed it.
func TestClaimThatIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sleepUntilSigned()
		inner, buckets, _ := newStore(t)
		for i := range 5 { // of which one is read again at a time
			version := fmt.Sprintf("1.%d.0", i)
			addObject(t, inner, "acme/foo/"+version+"/"+sumsOf(version), build(version, "")[sumsOf(version)])
		}
		addRelease(t, inner, "0.1.0")
		r := newReplica(t, buckets[0], nil)
		for range 30 {
			if _, err := r.Versions(t.Context(), acmeFoo); err != nil {
				t.Fatal(err)
			}
			time.Sleep(12 * time.Second)
		}
		for i := range 5 {
			version := fmt.Sprintf("1.%d.0", i)
			files := build(version, "")
			if receipt, err := r.upload(t, version, files, names(files)...); err != nil || receipt.State != rekisteri.StatePublished {
				t.Errorf("%s: receipt %v, %v", version, receipt, err)
			}
			if _, err := r.Release(t.Context(), acmeFoo, version); err != nil {
				t.Error(err)
			}
		}
	})
}

// TestPublishDuringLoad tests that the first release of a provider is visible at
// once, although a LIST of its namespace began before the commit.
func TestPublishDuringLoad(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sleepUntilSigned()
		_, buckets, drivers := newStore(t)
		files := build("1.0.0", "")
		all := names(files)
		r := newReplica(t, buckets[0], nil)
		if _, err := r.upload(t, "1.0.0", files, all[:len(all)-1]...); err != nil {
			t.Fatal(err)
		}
		drivers[0].set(func(f *faulty) {
			f.before = func(op, key string) error {
				if op == "PUT NEW" && strings.HasSuffix(key, "SHA256SUMS") {
					time.Sleep(10 * time.Second)
					go r.Versions(t.Context(), rekisteri.Provider{Namespace: "acme", Type: "other"})
					time.Sleep(time.Millisecond)
				}
				return nil
			}
			f.after = func(op, key string) error {
				if op == "LIST" && key == "acme/" {
					time.Sleep(100 * time.Millisecond)
				}
				return nil
			}
		})
		receipt, err := r.upload(t, "1.0.0", files, all[len(all)-1])
		if err != nil || receipt.State != rekisteri.StatePublished {
			t.Errorf("receipt %v, %v", receipt, err)
		}
		time.Sleep(5 * time.Minute) // until all loads have ended
	})
}

// TestRace lets 16 pipelines publish two builds of a version through two
// replicas, with requests that take a random time.
func TestRace(t *testing.T) {
	for round := range 10 {
		t.Run(fmt.Sprint(round), func(t *testing.T) { synctest.Test(t, testRace) })
	}
}

func testRace(t *testing.T) {
	sleepUntilSigned()
	inner, buckets, drivers := newStore(t)
	for _, f := range drivers {
		f.set(func(f *faulty) {
			f.before = func(string, string) error { time.Sleep(rand.N(20 * time.Millisecond)); return nil }
			f.after = f.before
		})
	}
	replicas := []replica{newReplica(t, buckets[0], nil), newReplica(t, buckets[1], nil)}
	builds := []map[string]string{build("1.0.0", "a"), build("1.0.0", "b")}
	var published atomic.Int64
	var won [2]atomic.Int64 // uploads that say that their file is published
	var uploads sync.WaitGroup
	for i := range 16 {
		which := i / 2 % 2
		for _, name := range names(builds[which]) {
			uploads.Go(func() {
				receipt, err := replicas[i%2].upload(t, "1.0.0", builds[which], name)
				if err != nil && !errors.As(err, new(*rekisteri.UploadError)) {
					t.Errorf("%s: %v", name, err)
				}
				if err != nil || receipt.State == rekisteri.StateStaged {
					return
				}
				if receipt.State == rekisteri.StatePublished {
					published.Add(1)
				}
				if !strings.HasSuffix(name, ".json") { // both builds have the same
					won[which].Add(1)
				}
			})
		}
	}
	uploads.Wait()
	// An upload of the other build may have completed the release: it is refused
	// then.
	if n := published.Load(); n > 1 {
		t.Errorf("%d uploads say that they have published", n)
	}
	winner := 0
	if won[1].Load() > 0 {
		winner = 1
	}
	if won[1-winner].Load() > 0 {
		t.Error("both builds were published")
	}
	for _, f := range drivers {
		f.heal()
	}
	mustHold(t, inner, "1.0.0", builds[winner])
	mustServe(t, replicas[0], "1.0.0", true)
	for i, b := range builds { // a re-run of the winner succeeds, one of the other does not
		_, err := replicas[0].upload(t, "1.0.0", b, names(b)...)
		if i == winner && err != nil || i != winner && !errors.Is(err, fs.ErrExist) {
			t.Errorf("re-run of build %d: %v; the winner is %d", i, err, winner)
		}
	}
}

// sleepUntilSigned sleeps, in a bubble of synctest, whose time begins in 2000,
// until the test releases have been signed.
func sleepUntilSigned() { time.Sleep(time.Until(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC))) }

// TestClaim tests what can be done with a version whose publication was
// interrupted.
func TestClaim(t *testing.T) {
	mine, other := build("1.0.0", "mine"), build("1.0.0", "other")
	resigned := build("1.0.0", "mine")
	resigned[sigOf("1.0.0")] = testKey().Sign(resigned[sumsOf("1.0.0")], time.Now().Add(-time.Hour))
	tests := map[string]struct {
		stage  bool              // it is still there
		upload map[string]string // what comes next
		names  func(map[string]string) []string
		state  string // of the last receipt
		err    string // what the first error contains
		holds  map[string]string
	}{
		"the last file again": {
			stage: true, upload: mine, names: func(map[string]string) []string { return []string{sigOf("1.0.0")} },
			state: rekisteri.StatePublished, holds: mine,
		},
		"all files again": {stage: true, upload: mine, names: names, state: rekisteri.StateUnchanged, holds: mine},
		"the stage is gone, one file": {
			upload: mine, names: func(map[string]string) []string { return []string{zipOf("1.0.0")} }, state: rekisteri.StateStaged,
		},
		"the stage is gone, all files again":      {upload: mine, names: names, state: rekisteri.StatePublished, holds: mine},
		"the stage is gone, with a new signature": {upload: resigned, names: names, state: rekisteri.StatePublished, holds: resigned},
		"another build": {stage: true, upload: other, names: names, err: "is published already, and this", holds: mine},
		"the stage is gone, another build": {
			upload: other, names: names,
			err: "another build of acme/foo 1.0.0 was uploaded, and its publication was interrupted: only its own files can complete it. Upload the files of that build again",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inner, buckets, drivers := newStore(t)
			a, b := newReplica(t, buckets[0], nil), newReplica(t, buckets[1], nil)
			drivers[0].set(func(f *faulty) {
				f.before = func(op, key string) error {
					if op == "COPY" {
						return reset
					}
					return nil
				}
			})
			if _, err := a.upload(t, "1.0.0", mine, names(mine)...); err == nil {
				t.Fatal("the upload was not interrupted")
			}
			if got := keys(t, inner, "acme/foo/1.0.0/"); !slices.Equal(got, []string{sumsOf("1.0.0")}) {
				t.Fatalf("there is %q", got)
			}
			if !test.stage {
				for _, key := range keys(t, inner, "acme/.upload/") {
					if err := inner.Delete(t.Context(), "acme/.upload/"+key); err != nil {
						t.Fatal(err)
					}
				}
			}
			mustServe(t, b, "1.0.0", false)
			receipt, err := b.upload(t, "1.0.0", test.upload, test.names(test.upload)...)
			switch {
			case test.err != "":
				if _, ok := errors.AsType[*rekisteri.UploadError](err); !ok || !errors.Is(err, fs.ErrExist) || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %q", err, test.err)
				}
			case err != nil || receipt.State != test.state:
				t.Errorf("receipt %v, %v, want %s", receipt, err, test.state)
			}
			mustServe(t, b, "1.0.0", test.holds != nil)
			if test.holds != nil {
				mustHold(t, inner, "1.0.0", test.holds)
			}
		})
	}
}

// TestInTheWay tests that what is not a release, nor the beginning of one, is not
// touched.
func TestInTheWay(t *testing.T) {
	files := build("1.0.0", "")
	tests := map[string]map[string]string{
		"other file":                   {"README": "x"},
		"zip":                          {zipOf("1.0.0"): "x"},
		"signature without SHA256SUMS": {sigOf("1.0.0"): files[sigOf("1.0.0")]},
		"release without a zip":        {sigOf("1.0.0"): files[sigOf("1.0.0")], sumsOf("1.0.0"): files[sumsOf("1.0.0")]},
		"SHA256SUMS that is not one":   {sumsOf("1.0.0"): "nothing"},
	}
	for name, there := range tests {
		t.Run(name, func(t *testing.T) {
			inner, buckets, _ := newStore(t)
			for name, content := range there {
				addObject(t, inner, "acme/foo/1.0.0/"+name, content)
			}
			r := newReplica(t, buckets[0], nil)
			if _, err := r.upload(t, "1.0.0", files, names(files)...); !errors.Is(err, fs.ErrExist) {
				t.Errorf("error %v, want one that matches ErrExist", err)
			}
			mustHold(t, inner, "1.0.0", there)
		})
	}
}

// TestDiscard tests what a sweep of a namespace removes.
func TestDiscard(t *testing.T) {
	files := build("1.0.0", "")
	// stage stages files without completing the release.
	stage := func(t *testing.T, r replica) {
		t.Helper()
		if _, err := r.upload(t, "1.0.0", files, names(files)[:3]...); err != nil {
			t.Fatal(err)
		}
	}
	claim := func(t *testing.T, inner *blob.Bucket) {
		addObject(t, inner, "acme/foo/1.0.0/"+sumsOf("1.0.0"), files[sumsOf("1.0.0")])
	}
	future, past := time.Now().Add(time.Hour), time.Now().Add(-time.Hour)
	tests := map[string]struct {
		prepare func(t *testing.T, inner *blob.Bucket, r replica)
		during  func(t *testing.T, inner *blob.Bucket) // before the first marker is removed
		before  time.Time
		want    int // objects that are left, besides those that during adds
	}{
		"old":   {prepare: func(t *testing.T, _ *blob.Bucket, r replica) { stage(t, r) }, before: future},
		"young": {prepare: func(t *testing.T, _ *blob.Bucket, r replica) { stage(t, r) }, before: past, want: 6},
		"with an unfinished claim": {
			prepare: func(t *testing.T, inner *blob.Bucket, r replica) { stage(t, r); claim(t, inner) }, before: future, want: 6,
		},
		"claimed during the sweep": {
			prepare: func(t *testing.T, _ *blob.Bucket, r replica) { stage(t, r) }, during: claim, before: future, want: 6,
		},
		"content without a marker": {
			prepare: func(t *testing.T, inner *blob.Bucket, r replica) { addObject(t, inner, "acme/.upload/data/x", "") }, before: future,
		},
		"young content without a marker": {
			prepare: func(t *testing.T, inner *blob.Bucket, r replica) { addObject(t, inner, "acme/.upload/data/x", "") }, before: past, want: 1,
		},
		"something else": {
			prepare: func(t *testing.T, inner *blob.Bucket, r replica) {
				addObject(t, inner, "acme/.upload/stage/foo/1.0.0/x", "")
			}, before: future, want: 1,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inner, buckets, drivers := newStore(t)
			r := newReplica(t, buckets[0], nil)
			test.prepare(t, inner, r)
			var once sync.Once
			drivers[0].set(func(f *faulty) {
				f.before = func(op, _ string) error {
					if op == "DELETE" && test.during != nil {
						once.Do(func() { test.during(t, inner) })
					}
					return nil
				}
			})
			if err := r.fs.Discard(t.Context(), "acme", test.before); err != nil {
				t.Error(err)
			}
			if got := keys(t, inner, "acme/.upload/"); len(got) != test.want {
				t.Errorf("%q are left, want %d objects", got, test.want)
			}
		})
	}
}

// TestDiscardThatIsDenied tests that nothing is removed without its marker, if the
// library of a cloud calls a failure not found.
func TestDiscardThatIsDenied(t *testing.T) {
	for name, err := range map[string]error{
		"403 of Google":             &fault{gcerrors.NotFound, 403, "forbidden"},
		"no name server, for Azure": &notFound{&net.DNSError{Err: "no such host"}},
	} {
		t.Run(name, func(t *testing.T) {
			inner, buckets, drivers := newStore(t)
			files := build("1.0.0", "")
			r := newReplica(t, buckets[0], nil)
			if _, err := r.upload(t, "1.0.0", files, names(files)[:3]...); err != nil {
				t.Fatal(err)
			}
			drivers[0].set(failing("DELETE acme/.upload/stage", err))
			if err := r.fs.Discard(t.Context(), "acme", time.Now().Add(time.Hour)); err == nil {
				t.Error("no error")
			}
			if got := keys(t, inner, "acme/.upload/"); len(got) != 6 {
				t.Errorf("%q are left", got)
			}
		})
	}
}

// TestMarkersWithoutContent tests that staged files whose content was removed are
// not taken for staged.
func TestMarkersWithoutContent(t *testing.T) {
	files := build("1.0.0", "")
	for _, lost := range []func(name string) bool{
		func(string) bool { return true },
		func(name string) bool { return name == sumsOf("1.0.0") },
		func(name string) bool { return name == sigOf("1.0.0") },
		func(name string) bool { return strings.HasSuffix(name, ".zip") },
	} {
		inner, buckets, drivers := newStore(t)
		r := newReplica(t, buckets[0], nil)
		drivers[0].set(failing("PUT NEW acme", reset))
		if _, err := r.upload(t, "1.0.0", files, names(files)...); err == nil {
			t.Fatal("the upload was not interrupted")
		}
		drivers[0].heal()
		staged, err := r.fs.Staged(t.Context(), "acme/foo/1.0.0")
		if err != nil || len(staged) != len(files) {
			t.Fatalf("%d files are staged, %v", len(staged), err)
		}
		for _, s := range staged {
			if lost(s.Name) {
				if err := inner.Delete(t.Context(), s.Path); err != nil {
					t.Fatal(err)
				}
			}
		}
		receipt, err := r.upload(t, "1.0.0", files, names(files)...)
		if err != nil || receipt.State == rekisteri.StateStaged {
			t.Errorf("receipt %v, %v", receipt, err)
		}
		mustHold(t, inner, "1.0.0", files)
	}
}

// TestKeyThatCannotBeRead tests that an upload is not refused for good because a
// key could not be read: clients would not try again.
func TestKeyThatCannotBeRead(t *testing.T) {
	files := build("1.0.0", "")
	for _, others := range []bool{false, true} {
		inner, buckets, drivers := newStore(t)
		if others {
			addObject(t, inner, "acme/other.asc", pgptest.NewKey("other@acme.example").Armor())
		}
		r := newReplica(t, buckets[0], nil)
		for _, name := range names(files) {
			drivers[0].set(failing("GET acme/acme.asc", reset))
			if _, err := r.upload(t, "1.0.0", files, name); isUploadError(err) {
				t.Errorf("%s: %v", name, err)
			}
			drivers[0].heal()
			r = newReplica(t, buckets[0], nil)
		}
		if _, err := r.upload(t, "1.0.0", files, names(files)...); err != nil {
			t.Error(err)
		}
	}
}

// TestStage tests that what fails is not staged.
func TestStage(t *testing.T) {
	errBody := errors.New("the client hung up")
	tests := map[string]struct {
		content io.Reader
		check   error
		fault   func(*faulty)
		err     error // nil: any
		left    int   // objects
	}{
		"broken body":         {content: io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errBody)), err: errBody},
		"refused":             {content: strings.NewReader("x"), check: errBody, err: errBody},
		"content not written": {content: strings.NewReader("x"), fault: failing("PUT acme/.upload/data", slowDown)},
		"marker not written":  {content: strings.NewReader("x"), fault: failing("PUT acme/.upload/stage", forbidden), err: fs.ErrPermission, left: 1},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			inner, buckets, drivers := newStore(t)
			if test.fault != nil {
				drivers[0].set(test.fault)
			}
			_, err := bucket.New(buckets[0], nil).Stage(t.Context(), "acme/foo/1.0.0", "file", test.content, func(rekisteri.StagedFile) error { return test.check })
			if err == nil || test.err != nil && !errors.Is(err, test.err) {
				t.Errorf("error %v, want %v", err, test.err)
			}
			if got := keys(t, inner, "acme/.upload/"); len(got) != test.left {
				t.Errorf("%q are left, want %d objects", got, test.left)
			}
		})
	}
}

// TestStageLarge tests that a check can read all of a file whose end is in
// memory.
func TestStageLarge(t *testing.T) {
	content := strings.Repeat("0123456789", 500_000)
	inner, buckets, _ := newStore(t)
	staged, err := bucket.New(buckets[0], nil).Stage(t.Context(), "acme/foo/1.0.0", "file", strings.NewReader(content), func(f rekisteri.StagedFile) error {
		for _, part := range [][2]int{{0, 10}, {0, len(content)}, {len(content) - 10, len(content)}, {len(content) - 3<<20, len(content)}} {
			got := make([]byte, part[1]-part[0])
			if n, err := f.ReadAt(got, int64(part[0])); err != nil && err != io.EOF || string(got[:n]) != content[part[0]:part[1]] {
				return fmt.Errorf("part %v: %d bytes, %v", part, n, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := inner.ReadAll(t.Context(), staged.Path); err != nil || string(got) != content {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestProbe tests that nothing is published to a store that ignores conditions.
func TestProbe(t *testing.T) {
	inner, buckets, drivers := newStore(t)
	files := build("1.0.0", "")
	drivers[0].set(func(f *faulty) { f.write = func(_ string, opts *driver.WriterOptions) { opts.IfNotExist = false } })
	r := newReplica(t, buckets[0], nil)
	_, err := r.upload(t, "1.0.0", files, names(files)...)
	if _, ok := errors.AsType[*rekisteri.UploadError](err); !ok {
		t.Errorf("error %v, want an UploadError", err)
	}
	if got := keys(t, inner, ""); len(got) != 1 {
		t.Errorf("the bucket has %q, want the key alone", got)
	}
	drivers[0].heal()
	if _, err := r.upload(t, "1.0.0", files, names(files)...); err != nil {
		t.Errorf("with conditions: %v", err)
	}
}

// TestClientGone tests that a commit goes on when the client of the last file
// hangs up.
func TestClientGone(t *testing.T) {
	inner, buckets, drivers := newStore(t)
	files := build("1.0.0", "")
	all := names(files)
	r := newReplica(t, buckets[0], nil)
	if _, err := r.upload(t, "1.0.0", files, all[:len(all)-1]...); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	drivers[0].set(func(f *faulty) {
		f.before = func(op, _ string) error {
			if op == "COPY" {
				cancel()
			}
			return nil
		}
	})
	last := all[len(all)-1]
	r.publisher.Publish(ctx, acmeFoo, "1.0.0", last, strings.NewReader(files[last]))
	mustHold(t, inner, "1.0.0", files)
}
