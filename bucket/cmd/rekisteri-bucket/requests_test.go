package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri/bucket/internal/storetest"
)

// TestRequests counts the requests to the object store. docs/bucket.md has them
// in a table.
func TestRequests(t *testing.T) {
	t.Parallel()
	s := storetest.S3(t)
	name := newAcme(t, s)
	b := openBucket(t, s, name)
	const releases = 30
	for i := range releases {
		version := fmt.Sprintf("1.%d.0", i)
		for file, content := range newRelease(t, "foo", version, "first") {
			put(t, b, "acme/foo/"+version+"/"+file, content)
		}
	}
	p := storetest.NewProxy(t, s.Addr)
	const every = 3 * time.Second
	r := startReplica(t, s, s.URL(name, p.Addr), "-check-every", every.String())
	t.Logf("start: %s", fmt.Sprint(p.Requests()))
	want := func(what, requests string) {
		t.Helper()
		if got := storetest.Count(p.Requests()); got != requests {
			t.Errorf("%s: %q, want %q", what, got, requests)
		}
	}
	r.versions(t)
	t.Logf("first versions of %d releases: %s", releases, fmt.Sprint(p.Requests()))
	r.versions(t)
	r.links(t, "1.3.0", "linux_amd64")
	r.links(t, "1.4.0", "linux_amd64")
	want("versions and downloads of what is in memory", "")
	time.Sleep(2 * every)
	want("an idle registry", "")
	r.versions(t)
	t.Logf("a look at an unchanged provider: %s", fmt.Sprint(p.Requests()))
	for file, content := range newRelease(t, "foo", "2.0.0", "first") {
		put(t, b, "acme/foo/2.0.0/"+file, content)
	}
	time.Sleep(2 * every)
	r.versions(t)
	t.Logf("a new version: %s", fmt.Sprint(p.Requests()))
	r.links(t, "2.0.0", "linux_amd64")
	t.Logf("%s", fmt.Sprint(p.Requests()))
}
