package rekisteritest

import (
	"fmt"
	"maps"
	"slices"

	"golang.org/x/mod/semver"

	"github.com/rekisteri/rekisteri"
)

func checkListing(t *tester) {
	for _, p := range t.providers {
		l, err := t.versions(t.ctx, p)
		switch {
		case err == errReported:
		case err != nil:
			t.failf("%s fails: %v", versionsCall(p), err)
		default:
			for _, fault := range listingFaults(l, t.want[p].Listing) {
				t.failf("%s %s", versionsCall(p), fault)
			}
		}
	}
}

// listingFaults describes how a listing differs from the one that was loaded.
func listingFaults(l, want *rekisteri.Listing) []string {
	var faults []string
	faultf := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	listed := make(map[string]*rekisteri.Version)
	for i, v := range l.Versions {
		if listed[v.Version] != nil {
			faultf("lists %s twice", v.Version)
		}
		listed[v.Version] = &l.Versions[i]
	}
	for _, v := range want.Versions {
		got := listed[v.Version]
		delete(listed, v.Version)
		switch {
		case got == nil:
			faultf("does not list %s", v.Version)
		case !sameElements(got.Platforms, v.Platforms):
			faultf("lists %s with the platforms %v, want %v", v.Version, got.Platforms, v.Platforms)
		case !sameElements(got.Protocols, v.Protocols):
			faultf("lists %s with the protocols %v, want %v", v.Version, got.Protocols, v.Protocols)
		}
	}
	for _, version := range slices.Sorted(maps.Keys(listed)) {
		faultf("lists %q, which was not loaded", version)
	}
	if !slices.Equal(l.Warnings, want.Warnings) {
		faultf("has the warnings %q, want %q", l.Warnings, want.Warnings)
	}
	return faults
}

// sameElements reports whether a and b have the same elements, each as often, in
// any order.
func sameElements[T comparable](a, b []T) bool {
	count := make(map[T]int)
	for _, e := range a {
		count[e]++
	}
	for _, e := range b {
		count[e]--
	}
	for _, n := range count {
		if n != 0 {
			return false
		}
	}
	return true
}

// listed calls f with the versions in the backend's own listings.
func (t *tester) listed(f func(rekisteri.Provider, rekisteri.Version)) {
	for _, p := range t.providers {
		l, err := t.versions(t.ctx, p)
		if err != nil {
			continue // checkListing reports it
		}
		for _, v := range l.Versions {
			f(p, v)
		}
	}
}

func checkCanonical(t *tester) {
	t.listed(func(p rekisteri.Provider, v rekisteri.Version) {
		if !isCanonical(v.Version) {
			t.failf("%s lists %q, which is not a full semantic version without a leading v", versionsCall(p), v.Version)
		}
	})
}

func isCanonical(version string) bool {
	v := "v" + version
	return semver.Canonical(v)+semver.Build(v) == v
}

func checkRelease(t *tester) {
	t.listed(func(p rekisteri.Provider, v rekisteri.Version) {
		if !isCanonical(v.Version) {
			return // the registry never asks for it
		}
		call := releaseCall(p, v.Version)
		rel, err := t.release(t.ctx, p, v.Version)
		if err != nil {
			if err != errReported {
				t.failf("%s fails, but the version is listed: %v", call, err)
			}
			return
		}
		if platforms := platformsOf(rel); !sameElements(platforms, v.Platforms) {
			t.failf("%s has packages for %v, but the listing has %v", call, platforms, v.Platforms)
		}
		if !sameElements(rel.Protocols, v.Protocols) {
			t.failf("%s has the protocols %v, but the listing has %v", call, rel.Protocols, v.Protocols)
		}
	})
}

func platformsOf(rel *rekisteri.Release) []rekisteri.Platform {
	var platforms []rekisteri.Platform
	for _, pkg := range rel.Packages {
		platforms = append(platforms, pkg.Platform)
	}
	return platforms
}
