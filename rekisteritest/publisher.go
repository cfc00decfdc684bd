package rekisteritest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/release"
)

// TestPublisher checks that publishers keep the rules of [rekisteri.Publisher].
// It publishes the releases of [Releases], and compares what b serves with them.
// The error is like that of [Test].
//
// b serves what all publishers publish. It must see a release within five
// seconds. There must be at least one publisher. Several publishers stand for
// several processes that publish to the same store: give each one its own
// connection, or its own [rekisteri.Dir] of the same directory.
//
// The store must accept the signing keys of [Keys], each for its own namespace or
// provider. It must not hold releases of these. Give each run of TestPublisher
// a new store.
func TestPublisher(ctx context.Context, b rekisteri.Backend, publishers ...rekisteri.Publisher) error {
	if len(publishers) == 0 {
		return errors.New("there is no publisher to test")
	}
	t := newTester(ctx, b)
	t.publishers = publishers
	return t.run(publishRules)
}

// publishRules are the rules of publishers. Each one publishes releases of its
// own, so that no other rule depends on it.
var publishRules = []rule{
	{
		name: "a release is visible when it is complete",
		why: "clients fail on a release that lacks files, and do not find one that was reported as published; " +
			"release pipelines stop at a wrong receipt, and people look for the wrong missing files",
		check: checkComplete,
	},
	{
		name: "a published release never changes",
		why: "everyone who has the version in a lock file gets a checksum error; " +
			"a pipeline that is run again must succeed with the same files, and fail with others",
		check: checkNeverChanges,
	},
	{
		name: "an interrupted upload stores nothing",
		why: "half of a file is taken for all of it, and the release is broken or can never be completed; " +
			"with another error, the client is not told that its upload was cut off",
		check: checkInterrupted,
	},
	{
		name: "an upload can be resumed",
		why: "a pipeline that failed halfway, or whose next request goes to another process, can never publish the version; " +
			"one wrong upload makes the version unusable",
		check: checkResumed,
	},
	{
		name: "bad files are refused",
		why: "clients reject a signature of another release, and a zip that is damaged or has another sum, and panic on a blank line in SHA256SUMS; " +
			"an error that is not an UploadError becomes an outage, which the release tool retries without success",
		check: checkRefused,
	},
	{
		name: "publishers can race",
		why: "release tools upload files in parallel, and two pipelines can publish the same version: " +
			"clients get a mix of two builds, or an upload fails that is right",
		check: checkRace,
	},
	{
		name: "a canceled upload does no harm",
		why: "a client that hangs up would leave a version that nobody can publish; " +
			"the log would blame its files, or report a provider as deleted",
		check: checkCanceled,
	},
}

// pollFor is how long a backend may take to see a release.
const pollFor = 5 * time.Second

// A toPublish is a release that is being published.
type toPublish struct {
	*tester
	provider  rekisteri.Provider
	version   string
	publisher rekisteri.Publisher
	files     map[string][]byte

	zips     []string // their names
	manifest []string // its name, if there is one
	sums     string
	sig      string
}

// toPublish returns one of the releases of this package, for the publisher with
// an index. The index may exceed the number of publishers.
func (t *tester) toPublish(p rekisteri.Provider, version string, publisher int) *toPublish {
	r := &toPublish{
		tester: t, provider: p, version: version,
		publisher: t.publishers[publisher%len(t.publishers)],
		files:     make(map[string][]byte),
		sums:      release.SumsName(p.Type, version),
		sig:       release.SignatureName(p.Type, version),
	}
	dir := p.String() + "/" + version
	entries, err := fs.ReadDir(Releases(), dir)
	if err != nil {
		panic(err) // only if a check names a release that is not there
	}
	for _, e := range entries {
		r.files[e.Name()] = file(dir + "/" + e.Name())
		switch {
		case release.IsZip(e.Name()):
			r.zips = append(r.zips, e.Name())
		case e.Name() == release.ManifestName(p.Type, version):
			r.manifest = []string{e.Name()}
		}
	}
	return r
}

// String returns the provider and the version.
func (r *toPublish) String() string { return r.provider.String() + " " + r.version }

// publishCall returns a call of Publish.
func (r *toPublish) publishCall(name string) string {
	return fmt.Sprintf("Publish(%v, %s, %q)", r.provider, r.version, name)
}

// send calls Publish. It returns a receipt or an error.
func (r *toPublish) send(ctx context.Context, by rekisteri.Publisher, name string, content io.Reader) (*rekisteri.Receipt, error) {
	return value(ctx, r.tester, r.publishCall(name), func(ctx context.Context) (*rekisteri.Receipt, error) {
		return by.Publish(ctx, r.provider, r.version, name, content)
	}, cloneReceipt)
}

// put publishes a file with its right content.
func (r *toPublish) put(name string) (*rekisteri.Receipt, error) {
	return r.send(r.ctx, r.publisher, name, bytes.NewReader(r.files[name]))
}

// mustPut is put, but fails the rule if there is an error, or the state is not
// one of states.
func (r *toPublish) mustPut(name, how string, states ...string) *rekisteri.Receipt {
	receipt, err := r.put(name)
	switch {
	case err != nil:
		if fault := failure(err); fault != "" {
			r.failf("%s%s %s", r.publishCall(name), how, fault)
		}
		return nil
	case !slices.Contains(states, receipt.State):
		r.failf("%s%s returns the state %q, want %s", r.publishCall(name), how, receipt.State, strings.Join(states, " or "))
		return nil
	}
	return receipt
}

// isRefused reports whether an error says that a file cannot be accepted.
func isRefused(err error) bool { return errors.As(err, new(*rekisteri.UploadError)) }

// unfinishedFault describes how the backend serves a release that is not
// complete. It is empty if the backend does not serve it.
func (r *toPublish) unfinishedFault() string {
	if _, err := r.release(r.ctx, r.provider, r.version); err != errReported && !errors.Is(err, fs.ErrNotExist) {
		return releaseCall(r.provider, r.version) + " " + notFoundFault(err)
	}
	l, err := r.versions(r.ctx, r.provider)
	if err == nil && versionIn(l, r.version) != nil {
		return versionsCall(r.provider) + " lists " + r.version
	}
	return ""
}

// mustNotBeServed fails the rule if the backend serves the release.
func (r *toPublish) mustNotBeServed(when string) bool {
	fault := r.unfinishedFault()
	if fault != "" {
		r.failf("%s %s", fault, when)
	}
	return fault == ""
}

// mustBeServed fails the rule if the backend does not serve the whole release
// soon.
func (r *toPublish) mustBeServed(when string) {
	if fault := r.servedSoon(); fault != "" {
		r.failf("%s %s", fault, when)
	}
}

// servedSoon waits until the backend serves the release, and describes what is
// still wrong in the end. It is empty if nothing is.
func (r *toPublish) servedSoon() string {
	fault := ""
	for wait := time.Duration(0); wait < pollFor; wait += pollFor / 100 {
		if fault = r.served(); fault == "" {
			break
		}
		time.Sleep(pollFor / 100)
	}
	return fault
}

// served describes how what the backend serves differs from the release.
func (r *toPublish) served() string {
	call := releaseCall(r.provider, r.version)
	rel, err := r.release(r.ctx, r.provider, r.version)
	if err != nil {
		return describe(call, failure(err))
	}
	want := r.want[r.provider]
	if fault := strings.Join(packageFaults(rel, want.Releases[r.version]), "; "); fault != "" {
		return describe(call, fault)
	}
	l, err := r.versions(r.ctx, r.provider)
	if err != nil {
		return describe(versionsCall(r.provider), failure(err))
	}
	got, listed := versionIn(l, r.version), versionIn(want.Listing, r.version)
	switch {
	case got == nil:
		return versionsCall(r.provider) + " does not list " + r.version
	case !sameElements(got.Platforms, listed.Platforms):
		return fmt.Sprintf("%s lists %s with the platforms %v, want %v", versionsCall(r.provider), r.version, got.Platforms, listed.Platforms)
	case !sameElements(got.Protocols, listed.Protocols) || !sameElements(rel.Protocols, listed.Protocols):
		return fmt.Sprintf("%s lists %s with the protocols %v, and Release has %v, want %v",
			versionsCall(r.provider), r.version, got.Protocols, rel.Protocols, listed.Protocols)
	}
	for _, f := range r.filesOf(r.provider, r.version) {
		if fault := r.contentFault(r.ctx, f); fault != "" {
			return describe(f.String(), fault)
		}
	}
	return ""
}

// describe returns a call and its fault, if there is one.
func describe(call, fault string) string {
	if fault == "" {
		return ""
	}
	return call + " " + fault
}

// versionIn returns a version of a listing, or nil.
func versionIn(l *rekisteri.Listing, version string) *rekisteri.Version {
	for i := range l.Versions {
		if l.Versions[i].Version == version {
			return &l.Versions[i]
		}
	}
	return nil
}
