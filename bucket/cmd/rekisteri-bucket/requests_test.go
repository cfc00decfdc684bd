package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri/bucket/internal/storetest"
)

// TestRequests counts the requests to the object store, which cost money and are
// limited. docs/bucket.md has a table of them.
func TestRequests(t *testing.T) {
	t.Parallel()
	const releases, every = 30, 3 * time.Second
	s := storetest.S3(t)
	name := newAcme(t, s)
	b := openBucket(t, s, name)
	add := func(version string) {
		t.Helper()
		for file, content := range newRelease(t, "foo", version, "first") {
			put(t, b, "acme/foo/"+version+"/"+file, content)
		}
	}
	for i := range releases {
		add(fmt.Sprintf("1.%d.0", i))
	}
	p := storetest.NewProxy(t, s.Addr)
	r := startReplica(t, s, s.URL(name, p.Addr), "-refresh-every", every.String())
	time.Sleep(100 * time.Millisecond) // the probe of the store
	p.Requests()
	// want wants as many requests, not counting those for the key: it is young,
	// and is therefore read again for a while.
	want := func(what, want string) {
		t.Helper()
		requests := p.Requests()
		counted := requests[:0:0]
		for _, r := range requests {
			if !strings.HasSuffix(r.Name, ".asc") {
				counted = append(counted, r)
			}
		}
		if got := storetest.Count(counted); got != want {
			t.Errorf("%s: %q, want %q: %v", what, got, want, requests)
		}
	}
	const shared = 2 // the LISTs of the root and of the namespace, for all providers

	r.versions(t)
	want("the first versions", fmt.Sprintf("GET %d, LIST %d", 2*releases, 1+releases))
	for i := range 10 {
		r.versions(t)
		r.links(t, fmt.Sprintf("1.%d.0", i), "linux_amd64")
	}
	want("versions and downloads of what is in memory", "")
	time.Sleep(2 * every)
	want("an idle registry", "")
	r.versions(t)
	want("a refresh of an unchanged provider", fmt.Sprintf("LIST %d", shared+1))

	add("2.0.0")
	time.Sleep(2 * every)
	if got := r.versions(t); !strings.Contains(got, "2.0.0") {
		t.Errorf("the new version is not listed: %s", got)
	}
	want("a refresh that finds a new version", fmt.Sprintf("GET 2, LIST %d", shared+2))

	link := r.links(t, "2.0.0", "linux_amd64")[0]
	if a, err := ask(t, "HEAD", link, "", nil); err != nil || a.status != 200 {
		t.Errorf("HEAD: %v, %v", a, err)
	}
	want("HEAD of a zip", "")
	for _, link := range r.links(t, "2.0.0", "linux_amd64") {
		if a, err := ask(t, "GET", link, "", nil); err != nil || a.status != 200 {
			t.Errorf("%v, %v", a, err)
		}
	}
	want("a download, whose zip the client gets from the store", "GET 1")

	if a, err := r.publish(t, "3.0.0", newRelease(t, "foo", "3.0.0", "first")); err != nil || a.status != 201 {
		t.Fatalf("%v, %v", a, err)
	}
	requests := p.Requests()
	t.Logf("to publish a release with %d zips: %s", len(platforms), storetest.Count(requests))
}
