package rekisteritest

import (
	"fmt"
	"iter"
	"net/url"
	"slices"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/release"
)

// A servedPackage is a package that the backend returns.
type servedPackage struct {
	*rekisteri.Package
	call            string             // the call that returns it
	want            *rekisteri.Package // as it was loaded
	sums, signature []byte             // SHA256SUMS and its signature, as they were loaded
}

// packages yields the packages that the backend returns for the loaded releases.
// It skips missing and extra packages, which checkRelease reports.
func (t *tester) packages() iter.Seq[servedPackage] {
	return func(yield func(servedPackage) bool) {
		for p, version := range t.loaded() {
			rel, err := t.release(t.ctx, p, version)
			if err != nil {
				continue
			}
			files, sums := t.want[p].Files[version], release.SumsName(p.Type, version)
			for i := range rel.Packages {
				pkg := servedPackage{
					Package: &rel.Packages[i],
					call:    releaseCall(p, version),
					want:    packageFor(t.want[p].Releases[version], rel.Packages[i].Platform),
					sums:    files[sums], signature: files[sums+".sig"],
				}
				if pkg.want != nil && !yield(pkg) {
					return
				}
			}
		}
	}
}

// loaded yields the providers and versions that were loaded.
func (t *tester) loaded() iter.Seq2[rekisteri.Provider, string] {
	return func(yield func(rekisteri.Provider, string) bool) {
		for _, p := range t.providers {
			for _, v := range t.want[p].Listing.Versions {
				if !yield(p, v.Version) {
					return
				}
			}
		}
	}
}

// packageFor returns a release's package for a platform, or nil.
func packageFor(rel *rekisteri.Release, on rekisteri.Platform) *rekisteri.Package {
	i := slices.IndexFunc(rel.Packages, func(pkg rekisteri.Package) bool { return pkg.Platform == on })
	if i < 0 {
		return nil
	}
	return &rel.Packages[i]
}

// packageFaults describes how the packages of a release differ from those that
// were loaded.
func packageFaults(rel, want *rekisteri.Release) []string {
	var faults []string
	if got, want := platformsOf(rel), platformsOf(want); !sameElements(got, want) {
		faults = append(faults, fmt.Sprintf("has packages for %v, want %v", got, want))
	}
	for _, pkg := range rel.Packages {
		if want := packageFor(want, pkg.Platform); want != nil && pkg.SHA256 != want.SHA256 {
			faults = append(faults, fmt.Sprintf("has the wrong package for %v", pkg.Platform))
		}
	}
	return faults
}

func checkFilenames(t *tester) {
	for pkg := range t.packages() {
		if pkg.Filename != pkg.want.Filename {
			t.failf("%s has the file name %q for %v, but SHA256SUMS has %q", pkg.call, pkg.Filename, pkg.Platform, pkg.want.Filename)
		}
	}
}

func checkDigests(t *tester) {
	for pkg := range t.packages() {
		if pkg.SHA256 != pkg.want.SHA256 {
			t.failf("%s has the digest %x for %v, want %x", pkg.call, pkg.SHA256, pkg.Platform, pkg.want.SHA256)
		}
	}
}

func checkURLs(t *tester) {
	for pkg := range t.packages() {
		for _, file := range []struct{ name, url string }{
			{"the zip for " + pkg.Platform.String(), pkg.URL},
			{"SHA256SUMS", pkg.SHASumsURL},
			{"the signature", pkg.SHASumsSignatureURL},
		} {
			if file.url == "" {
				if t.opener == nil {
					t.failf("%s has no URL for %s, and the backend has no method Open", pkg.call, file.name)
				}
				continue
			}
			if u, err := url.Parse(file.url); err != nil || u.Scheme != "" && u.Scheme != "https" && u.Scheme != "http" {
				t.failf("%s has the URL %q for %s, which is not a URL of http or https", pkg.call, file.url, file.name)
			}
		}
	}
}
