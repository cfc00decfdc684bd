package rekisteritest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/semver"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/openpgp"
	"github.com/rekisteri/rekisteri/internal/release"
)

// The rules, in the order in which they are checked. What can only go wrong in
// a first call comes first.
var rules = []rule{
	{
		name:  "an ended context is no absence",
		why:   "clients take a 404 for deleted: whoever hangs up, or waits too long, makes a provider vanish for those who share the answer",
		check: checkEndedContext,
	},
	{
		name:  "an ended context leaves no trace",
		why:   "one client that hangs up would break the provider for all that come after it",
		check: checkTrace,
	},
	{
		name:  "concurrent calls do not disturb each other",
		why:   "a registry serves many clients at once, and one would get another's provider, or none",
		check: checkConcurrency,
	},
	{
		name: "the listing is complete",
		why: "a version that is missing breaks init for everyone who has it in a lock file; " +
			"one that is too many is chosen as the newest, and then cannot be installed; " +
			"and warnings are how a provider is deprecated",
		check: checkListing,
	},
	{
		name: "versions are canonical",
		why: `OpenTofu, and Terraform before 1.13, refuse the whole provider for one "v1.0.0", so the registry leaves it out; ` +
			"and the registry asks for a release by its canonical version only",
		check: checkCanonical,
	},
	{
		name:  "a release is what the listing says",
		why:   "a client chooses by the listing, and then fails at a release that is missing, or lacks its platform or its protocol",
		check: checkAgreement,
	},
	{
		name:  "file names are those in SHA256SUMS",
		why:   "a client looks for the name there, and refuses the package if it has no sum",
		check: checkFilenames,
	},
	{
		name:  "digests are those of the zips",
		why:   "a client compares them with SHA256SUMS and with what it has downloaded, and refuses the package",
		check: checkDigests,
	},
	{
		name: "packages come with the key that signed them",
		why: "a client without the key refuses the package: unknown issuer; at a key that it cannot read, " +
			"and in Terraform at a trust signature that is not HashiCorp's, it gives up, even if the next key is right; " +
			"and people look keys up by their IDs",
		check: checkKeys,
	},
	{
		name:  "every file is somewhere",
		why:   "an empty URL says that the backend holds the file: if it is no Opener, the registry cannot serve the package at all",
		check: checkURLs,
	},
	{
		name: "the unknown does not exist",
		why: "an error that matches fs.ErrNotExist is a 404, and a client says that there is no such thing; " +
			"any other is an outage, which a client tries again and blames on the registry, and which wakes whoever is on call; " +
			"and an answer is a provider that nobody has published",
		check: checkUnknown,
	},
	{
		name: "a name leads to its own release's files only",
		why: "Open gets names that come from requests: one that leads elsewhere reads files that nobody meant to publish, " +
			"or those of a provider that the client may not see",
		check: checkNames,
	},
	{
		name:  "files are what was released",
		why:   "a client refuses a zip with another digest, and everything whose signature does not fit SHA256SUMS byte by byte",
		check: checkContents,
	},
	{
		name: "files can be read in parts",
		why: "the registry learns a file's size by seeking to its end, rewinds it, and starts in the middle for a client that resumes: " +
			"the client would get the wrong length or the wrong bytes",
		check: checkSeeking,
	},
	{
		name:  "a file can be open twice",
		why:   "two clients download the same zip at once, and each would get a part of it",
		check: checkTwice,
	},
}

// soon is time for a call to begin, and for no look at a disk or a network to
// end.
const soon = 5 * time.Millisecond

// withEnded calls f, which makes one call, with contexts that have ended or end
// in the middle of it. Those that have ended come first: they give a backend
// nothing to remember.
func (t *tester) withEnded(f func(ctx context.Context, how string)) {
	ctx, cancel := context.WithCancel(t.ctx)
	cancel()
	f(ctx, "a cancelled context")

	ctx, cancel = context.WithDeadline(t.ctx, time.Now().Add(-time.Second))
	f(ctx, "an expired context")
	cancel()

	ctx, cancel = context.WithTimeout(t.ctx, soon)
	f(ctx, "a context that soon expires")
	cancel()
}

// loaded reports whether the backend seems to know the releases at all. If it
// doesn't, what it says of them is no matter of contexts.
func (t *tester) loaded() bool {
	_, err := t.versions(t.ctx, t.providers[0])
	return err == nil
}

// cold returns the provider that is first asked for with contexts that have
// ended.
func (t *tester) cold() rekisteri.Provider { return t.providers[len(t.providers)-1] }

func checkEndedContext(t *tester) {
	p := t.cold()
	want := t.want[p]
	var absences []string
	says := func(call, how string, err error) {
		if errors.Is(err, fs.ErrNotExist) {
			absences = append(absences, fmt.Sprintf("%s with %s says that there is no such thing: %v", call, how, err))
		}
	}
	partial := ""
	t.withEnded(func(ctx context.Context, how string) {
		l, err := t.versions(ctx, p)
		says(versionsCall(p), how, err)
		if err == nil && len(l.Versions) < len(want.Releases) {
			partial = how
		}
	})
	for _, v := range want.Listing.Versions {
		t.withEnded(func(ctx context.Context, how string) {
			_, err := t.release(ctx, p, v.Version)
			says(releaseCall(p, v.Version), how, err)
		})
		for _, f := range t.heldFiles(p, v.Version) {
			t.withEnded(func(ctx context.Context, how string) {
				says(f.String(), how, t.open(ctx, f, func(io.ReadSeeker) {}))
			})
		}
	}
	if !t.loaded() {
		return // another rule says so
	}
	for _, absence := range absences {
		t.failf("%s", absence)
	}
	if l, err := t.versions(t.ctx, p); partial != "" && err == nil && len(l.Versions) == len(want.Releases) {
		t.failf("%s with %s returns a part of the versions, and no error", versionsCall(p), partial)
	}
}

// checkTrace asks for what checkEndedContext has asked for.
func checkTrace(t *tester) {
	p := t.cold()
	t.withEnded(func(ctx context.Context, _ string) { t.versions(ctx, p) })
	for _, v := range t.want[p].Listing.Versions {
		t.withEnded(func(ctx context.Context, _ string) { t.release(ctx, p, v.Version) })
	}
	loaded := t.loaded()
	later := func(call string, err error) {
		if err != nil && (loaded || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
			t.failed(call+", after calls whose contexts had ended,", err)
		}
	}
	_, err := t.versions(t.ctx, p)
	later(versionsCall(p), err)
	for _, v := range t.want[p].Listing.Versions {
		_, err := t.release(t.ctx, p, v.Version)
		later(releaseCall(p, v.Version), err)
	}

	for _, q := range t.questionsOf(t.providers[1]) { // which nobody has asked
		if fault := t.askInCompany(q); fault != "" && q.ask(t.ctx) == "" {
			t.failf("%s, while a caller that asks for the same hangs up, %s", q.call, fault)
		}
	}
}

// askInCompany asks a question right after a caller that hangs up right after
// that, and returns what is wrong with the answer.
func (t *tester) askInCompany(q question) (fault string) {
	ctx, hangUp := context.WithCancel(t.ctx)
	defer hangUp()
	var group sync.WaitGroup
	group.Go(func() { q.ask(ctx) })
	time.Sleep(soon)
	group.Go(func() { fault = q.ask(t.ctx) })
	time.Sleep(soon)
	hangUp()
	group.Wait()
	return fault
}

// A question is something to ask the backend whose answer is known.
type question struct {
	call string
	ask  func(context.Context) (fault string) // empty: the answer is right
}

// questionsOf returns all questions for what there is of a provider.
func (t *tester) questionsOf(p rekisteri.Provider) []question {
	want := t.want[p]
	all := []question{{versionsCall(p), func(ctx context.Context) string {
		l, err := t.versions(ctx, p)
		if err != nil {
			return failure(err)
		}
		return strings.Join(listingFaults(l, want.Listing), "; ")
	}}}
	for _, v := range want.Listing.Versions {
		version := v.Version
		all = append(all, question{releaseCall(p, version), func(ctx context.Context) string {
			rel, err := t.release(ctx, p, version)
			if err != nil {
				return failure(err)
			}
			return strings.Join(releaseFaults(rel, want.Releases[version]), "; ")
		}}, question{"Open, with the files of " + releaseCall(p, version) + ",", func(ctx context.Context) string {
			var faults []string
			for _, f := range t.heldFiles(p, version) {
				if fault := t.contentFault(ctx, f); fault != "" {
					faults = append(faults, f.name+" "+fault)
				}
			}
			return strings.Join(faults, "; ")
		}})
	}
	return all
}

// questions returns all questions, also for what there isn't.
func (t *tester) questions() []question {
	var all []question
	for _, p := range t.providers {
		all = append(all, t.questionsOf(p)...)
	}
	for _, u := range unknownProviders {
		all = append(all, question{versionsCall(u.provider), func(ctx context.Context) string {
			_, err := t.versions(ctx, u.provider)
			return absenceFault(err)
		}})
	}
	for _, u := range unknownReleases {
		all = append(all, question{releaseCall(u.provider, u.version), func(ctx context.Context) string {
			_, err := t.release(ctx, u.provider, u.version)
			return absenceFault(err)
		}})
	}
	return all
}

func checkConcurrency(t *tester) {
	const callers, rounds = 8, 2
	questions := t.questions()
	var mu sync.Mutex
	faults := make(map[int]string) // by the question's index
	var group sync.WaitGroup
	for caller := range callers {
		group.Go(func() {
			for round := range rounds {
				for i := range questions {
					// First all ask for the same, then each for something else.
					i = (i + round*caller*len(questions)/callers) % len(questions)
					if fault := questions[i].ask(t.ctx); fault != "" {
						mu.Lock()
						faults[i] = fault
						mu.Unlock()
					}
				}
			}
		})
	}
	group.Wait()
	for _, i := range slices.Sorted(maps.Keys(faults)) {
		// What is wrong without company, too, is broken by another rule.
		if questions[i].ask(t.ctx) == "" {
			t.failf("among other calls, %s %s", questions[i].call, faults[i])
		}
	}
}

func checkListing(t *tester) {
	for _, p := range t.providers {
		l, err := t.versions(t.ctx, p)
		if err != nil {
			t.failed(versionsCall(p), err)
			continue
		}
		for _, fault := range listingFaults(l, t.want[p].Listing) {
			t.failf("%s %s", versionsCall(p), fault)
		}
	}
}

// listingFaults returns how a listing differs from the one that was loaded.
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
			faultf("lacks %s", v.Version)
		case !sameSet(got.Platforms, v.Platforms):
			faultf("lists %s for the platforms %v, and it was loaded for %v", v.Version, got.Platforms, v.Platforms)
		case !sameSet(got.Protocols, v.Protocols):
			faultf("lists %s with the protocols %v, and it was loaded with %v", v.Version, got.Protocols, v.Protocols)
		}
	}
	for _, version := range slices.Sorted(maps.Keys(listed)) {
		faultf("lists %q, which was not loaded", version)
	}
	if !slices.Equal(l.Warnings, want.Warnings) {
		faultf("has the warnings %q, and was loaded with %q", l.Warnings, want.Warnings)
	}
	return faults
}

// sameSet reports whether a and b hold the same elements, in any order, and
// each as often.
func sameSet[T comparable](a, b []T) bool {
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

func checkCanonical(t *tester) {
	for _, p := range t.providers {
		l, err := t.versions(t.ctx, p)
		if err != nil {
			continue // the rule of the listing says so
		}
		for _, v := range l.Versions {
			if !canonical(v.Version) {
				t.failf("%s lists %q, which is not a full semantic version without a leading v", versionsCall(p), v.Version)
			}
		}
	}
}

func canonical(version string) bool {
	v := "v" + version
	return semver.Canonical(v)+semver.Build(v) == v
}

func checkAgreement(t *tester) {
	for _, p := range t.providers {
		l, err := t.versions(t.ctx, p)
		if err != nil {
			continue // the rule of the listing says so
		}
		for _, v := range l.Versions {
			if !canonical(v.Version) {
				continue // the registry never asks for such
			}
			call := releaseCall(p, v.Version)
			rel, err := t.release(t.ctx, p, v.Version)
			if err != nil {
				t.failed(call+", which is listed,", err)
				continue
			}
			if platforms := platformsOf(rel); !sameSet(platforms, v.Platforms) {
				t.failf("%s has packages for %v, and %v are listed", call, platforms, v.Platforms)
			}
			if !sameSet(rel.Protocols, v.Protocols) {
				t.failf("%s has the protocols %v, and %v are listed", call, rel.Protocols, v.Protocols)
			}
		}
	}
}

func platformsOf(rel *rekisteri.Release) []rekisteri.Platform {
	var platforms []rekisteri.Platform
	for _, pkg := range rel.Packages {
		platforms = append(platforms, pkg.Platform)
	}
	return platforms
}

// releaseFaults returns how a release differs from the one that was loaded, in
// what makes it that release and no other.
func releaseFaults(rel, want *rekisteri.Release) []string {
	var faults []string
	if got, wanted := platformsOf(rel), platformsOf(want); !sameSet(got, wanted) {
		faults = append(faults, fmt.Sprintf("has packages for %v, and was loaded with %v", got, wanted))
	}
	for _, pkg := range rel.Packages {
		if wanted := packageFor(want, pkg.Platform); wanted != nil && pkg.SHA256 != wanted.SHA256 {
			faults = append(faults, fmt.Sprintf("has another package for %v than was loaded", pkg.Platform))
		}
	}
	return faults
}

// packageFor returns a release's package for a platform, nil if there is none.
func packageFor(rel *rekisteri.Release, on rekisteri.Platform) *rekisteri.Package {
	i := slices.IndexFunc(rel.Packages, func(pkg rekisteri.Package) bool { return pkg.Platform == on })
	if i < 0 {
		return nil
	}
	return &rel.Packages[i]
}

// eachPackage calls f with the packages that the backend returns of the
// releases that were loaded, and with what was loaded. What is missing, and
// what is too much, other rules find.
func (t *tester) eachPackage(f func(call string, got, want *rekisteri.Package)) {
	for _, p := range t.providers {
		for _, v := range t.want[p].Listing.Versions {
			rel, err := t.release(t.ctx, p, v.Version)
			if err != nil {
				continue
			}
			for i := range rel.Packages {
				if want := packageFor(t.want[p].Releases[v.Version], rel.Packages[i].Platform); want != nil {
					f(releaseCall(p, v.Version), &rel.Packages[i], want)
				}
			}
		}
	}
}

func checkFilenames(t *tester) {
	t.eachPackage(func(call string, got, want *rekisteri.Package) {
		if got.Filename != want.Filename {
			t.failf("%s calls the package for %v %q, and SHA256SUMS %q", call, got.Platform, got.Filename, want.Filename)
		}
	})
}

func checkDigests(t *tester) {
	t.eachPackage(func(call string, got, want *rekisteri.Package) {
		if got.SHA256 != want.SHA256 {
			t.failf("%s has the digest %x for %v, and it is %x", call, got.SHA256, got.Platform, want.SHA256)
		}
	})
}

func checkKeys(t *tester) {
	t.eachPackage(func(call string, got, want *rekisteri.Package) {
		signer := want.SigningKeys[0].KeyID
		known := false
		for _, key := range got.SigningKeys {
			keys, err := openpgp.ReadKeys([]byte(key.ASCIIArmor))
			if err != nil {
				t.failf("%s has a key %q that cannot be read: %v", call, key.KeyID, err)
				continue
			}
			known = known || slices.ContainsFunc(keys, func(k openpgp.Key) bool { return k.ID == signer })
			if key.KeyID != keys[0].ID {
				t.failf("%s calls the key %s %q", call, keys[0].ID, key.KeyID)
			}
			if key.TrustSignature != "" {
				t.failf("%s has a trust signature for the key %s, and none was loaded", call, keys[0].ID)
			}
		}
		if !known {
			t.failf("%s lacks the key %s for %v", call, signer, got.Platform)
		}
	})
}

func checkURLs(t *tester) {
	t.eachPackage(func(call string, got, _ *rekisteri.Package) {
		for _, u := range []struct{ of, url string }{
			{"the zip for " + got.Platform.String(), got.URL},
			{"SHA256SUMS", got.SHASumsURL},
			{"the signature", got.SHASumsSignatureURL},
		} {
			if u.url == "" {
				if t.opener == nil {
					t.failf("%s has no URL of %s, and the backend is no Opener", call, u.of)
				}
				continue
			}
			if at, err := url.Parse(u.url); err != nil || at.Scheme != "" && at.Scheme != "https" && at.Scheme != "http" {
				t.failf("%s has %q for the URL of %s, which is not one of http or https", call, u.url, u.of)
			}
		}
	})
}

// What does not exist, though something like it does.
var unknownProviders = []struct {
	what     string
	provider rekisteri.Provider
}{
	{"a namespace that does not exist", rekisteri.Provider{Namespace: "nobody", Type: "foo"}},
	{"a type that does not exist", rekisteri.Provider{Namespace: "acme", Type: "nothing"}},
	{"a namespace with the type of another", rekisteri.Provider{Namespace: "acme-labs", Type: "foo-bar"}},
	{"the beginning of a type", rekisteri.Provider{Namespace: "acme", Type: "fo"}},
	{"the beginning of a namespace", rekisteri.Provider{Namespace: "acm", Type: "foo"}},
	{"a namespace and a type in each other's place", rekisteri.Provider{Namespace: "foo", Type: "acme"}},
}

var unknownReleases = []struct {
	what     string
	provider rekisteri.Provider
	version  string
}{
	{"a version that does not exist", rekisteri.Provider{Namespace: "acme", Type: "foo"}, "99.0.0"},
	{"a version of the type in another namespace", rekisteri.Provider{Namespace: "acme-labs", Type: "foo"}, "10.0.0"},
	{"a version of which there is a pre-release", rekisteri.Provider{Namespace: "acme", Type: "foo"}, "2.0.0"},
	{"a version of which there is a build", rekisteri.Provider{Namespace: "acme", Type: "foo-bar"}, "1.0.0"},
	{"another build of a version", rekisteri.Provider{Namespace: "acme", Type: "foo-bar"}, "1.0.0+other"},
	{"the end of a version", rekisteri.Provider{Namespace: "acme", Type: "foo"}, "0.0.0"},
	{"a type that does not exist", rekisteri.Provider{Namespace: "acme", Type: "nothing"}, "1.0.0"},
	{"a namespace that does not exist", rekisteri.Provider{Namespace: "nobody", Type: "foo"}, "1.0.0"},
	{"a namespace with the type of another", rekisteri.Provider{Namespace: "acme-labs", Type: "foo-bar"}, "1.1.0"},
}

func checkUnknown(t *tester) {
	for _, u := range unknownProviders {
		_, err := t.versions(t.ctx, u.provider)
		if fault := absenceFault(err); fault != "" {
			t.failf("%s, %s, %s", versionsCall(u.provider), u.what, fault)
		}
	}
	for _, u := range unknownReleases {
		_, err := t.release(t.ctx, u.provider, u.version)
		if fault := absenceFault(err); fault != "" {
			t.failf("%s, %s, %s", releaseCall(u.provider, u.version), u.what, fault)
		}
	}
}

// absenceFault returns what is wrong with the error for something that does
// not exist.
func absenceFault(err error) string {
	switch {
	case err == nil:
		return "succeeds"
	case err == errReported, errors.Is(err, fs.ErrNotExist):
		return ""
	}
	return fmt.Sprintf("fails with an error that does not match fs.ErrNotExist: %v", err)
}

// failure returns what is wrong with a call that should not have failed.
func failure(err error) string {
	if err == errReported {
		return ""
	}
	return fmt.Sprintf("fails: %v", err)
}

// heldFiles returns the files of a release that the backend holds, by what it
// says of the release.
func (t *tester) heldFiles(p rekisteri.Provider, version string) []heldFile {
	if t.opener == nil {
		return nil
	}
	rel, err := t.release(t.ctx, p, version)
	if err != nil {
		return nil // another rule says so
	}
	var files []heldFile
	hold := func(name, loadedAs string) {
		if slices.ContainsFunc(files, func(f heldFile) bool { return f.name == name }) {
			return
		}
		files = append(files, heldFile{p, version, name, t.want[p].Files[version][loadedAs]})
	}
	sums := release.SumsName(p.Type, version)
	for _, pkg := range rel.Packages {
		want := packageFor(t.want[p].Releases[version], pkg.Platform)
		if want == nil {
			continue // another rule says so
		}
		if pkg.URL == "" {
			hold(pkg.Filename, want.Filename)
		}
		if pkg.SHASumsURL == "" {
			hold(sums, sums)
		}
		if pkg.SHASumsSignatureURL == "" {
			hold(sums+".sig", sums+".sig")
		}
	}
	return files
}

// eachHeldFile calls f with all files that the backend holds.
func (t *tester) eachHeldFile(f func(heldFile)) {
	for _, p := range t.providers {
		for _, v := range t.want[p].Listing.Versions {
			for _, file := range t.heldFiles(p, v.Version) {
				f(file)
			}
		}
	}
}

func checkContents(t *tester) {
	t.eachHeldFile(func(f heldFile) {
		if fault := t.contentFault(t.ctx, f); fault != "" {
			t.failf("%v %s", f, fault)
		}
	})
}

// contentFault opens a file and returns what is wrong with its content.
func (t *tester) contentFault(ctx context.Context, f heldFile) string {
	content, err := t.read(ctx, f)
	switch {
	case err != nil:
		return failure(err)
	case len(content) < len(f.content):
		return fmt.Sprintf("has %d bytes, and %d were loaded", len(content), len(f.content))
	case len(content) > len(f.content):
		return fmt.Sprintf("has more than the %d bytes that were loaded", len(f.content))
	case !bytes.Equal(content, f.content):
		return fmt.Sprintf("has other bytes than were loaded: their SHA-256 is %x, and should be %x",
			sha256.Sum256(content), sha256.Sum256(f.content))
	}
	return ""
}

func checkSeeking(t *tester) {
	t.eachHeldFile(func(f heldFile) {
		whole, err := t.read(t.ctx, f)
		if err != nil || !bytes.Equal(whole, f.content) {
			return // the rule of contents says so
		}
		t.open(t.ctx, f, func(r io.ReadSeeker) {
			if err := readInParts(r, whole); err != nil {
				t.failf("%v: %v", f, err)
			}
		})
	})
}

// readInParts seeks and reads as the registry does for requests with a range.
func readInParts(r io.ReadSeeker, whole []byte) error {
	size := len(whole)
	for _, part := range [][2]int{{0, size}, {size / 2, size}, {1, size / 2}, {size - 1, size}, {0, 1}} {
		if end, err := r.Seek(0, io.SeekEnd); err != nil {
			return fmt.Errorf("seeking to the end fails: %w", err)
		} else if end != int64(size) {
			return fmt.Errorf("seeking to the end leads to %d, and there are %d bytes", end, size)
		}
		from, to := part[0], part[1]
		if at, err := r.Seek(int64(from), io.SeekStart); err != nil {
			return fmt.Errorf("seeking to %d fails: %w", from, err)
		} else if at != int64(from) {
			return fmt.Errorf("seeking to %d leads to %d", from, at)
		}
		got := make([]byte, to-from)
		if _, err := io.ReadFull(r, got); err != nil {
			return fmt.Errorf("reading the bytes from %d to %d fails: %w", from, to, err)
		}
		if !bytes.Equal(got, whole[from:to]) {
			return fmt.Errorf("reading the bytes from %d to %d gives others than reading all of it", from, to)
		}
	}
	return nil
}

func checkTwice(t *tester) {
	for _, p := range t.providers {
		for _, v := range t.want[p].Listing.Versions {
			if files := t.heldFiles(p, v.Version); len(files) > 0 {
				t.openTwice(files[0])
			}
		}
	}
}

// openTwice reads a file in the middle of another reading of it.
func (t *tester) openTwice(f heldFile) {
	alone, err := t.read(t.ctx, f)
	if err != nil {
		return // the rule of contents says so
	}
	t.open(t.ctx, f, func(r io.ReadSeeker) {
		first := make([]byte, len(alone)/2)
		if _, err := io.ReadFull(r, first); err != nil {
			return // the same
		}
		second, err := t.read(t.ctx, f)
		if err != nil {
			t.failed(fmt.Sprintf("%v while it is open already", f), err)
			return
		}
		rest, err := io.ReadAll(io.LimitReader(r, int64(len(f.content))+1-int64(len(first))))
		if err != nil {
			t.failf("%v: reading on after the file was opened and closed again fails: %v", f, err)
		} else if !bytes.Equal(second, alone) || !bytes.Equal(append(first, rest...), alone) {
			t.failf("%v: who reads it while it is open already gets other bytes, or leaves others to the first reader", f)
		}
	})
}

func checkNames(t *tester) {
	if t.opener == nil {
		return
	}
	foo := rekisteri.Provider{Namespace: "acme", Type: "foo"}
	refuse := func(p rekisteri.Provider, version, name string) {
		f := heldFile{provider: p, version: version, name: name}
		err := t.open(t.ctx, f, func(io.ReadSeeker) {})
		if fault := absenceFault(err); fault != "" {
			t.failf("%v %s", f, fault)
		}
	}
	const own, other = "terraform-provider-foo_1.0.0_linux_amd64.zip", "terraform-provider-foo_9.0.0_linux_amd64.zip"
	for _, name := range []string{
		"", ".", "..", "/", "./" + own, own + "/", own + "/.", "x/../" + own, "/" + own, `.\` + own, `\` + own,
		"nothing.zip", "terraform-provider-foo_1.0.0_plan9_386.zip",
		other, "terraform-provider-foo_9.0.0_SHA256SUMS", "terraform-provider-foo_9.0.0_SHA256SUMS.sig",
		"../9.0.0/" + other, "../../foo/9.0.0/" + other, `..\9.0.0\` + other, "..%2f9.0.0%2f" + other,
		"../../../acme-labs/foo/1.0.0/" + own, "../../foo-bar/1.1.0/terraform-provider-foo-bar_1.1.0_linux_amd64.zip",
		"../../acme.asc", "../../../../../../../../../../etc/passwd", "/etc/passwd", `C:\Windows\win.ini`,
		"NUL", "\x00", own + "\x00", own + "\x00.sig",
	} {
		refuse(foo, "1.0.0", name)
	}
	refuse(foo, "99.0.0", own)
	refuse(foo, "9.0.0", own)
	for _, u := range unknownProviders {
		refuse(u.provider, "1.0.0", own)
	}
}

func versionsCall(p rekisteri.Provider) string { return fmt.Sprintf("Versions(%v)", p) }

func releaseCall(p rekisteri.Provider, version string) string {
	return fmt.Sprintf("Release(%v, %s)", p, version)
}
