package rekisteritest_test

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

// The names of the rules.
const (
	noNil         = "no nil without an error"
	noPanic       = "no panics"
	inTime        = "calls return in time"
	unchanged     = "returned values do not change"
	doneNotFound  = "a done context is never reported as not found"
	doneEffect    = "a done context has no lasting effect"
	concurrency   = "concurrent calls are independent"
	listing       = "the listing is complete"
	canonical     = "versions are canonical"
	release       = "a release matches its listing"
	fileNames     = "file names match SHA256SUMS"
	digests       = "digests match the zips"
	keys          = "clients accept every signing key"
	signature     = "a signing key verifies the signature"
	source        = "every file has a source"
	notFound      = "what does not exist is reported as not found"
	names         = "Open opens only files of the release"
	contents      = "files have the released content"
	parts         = "files can be read in parts"
	openTwice     = "a file can be opened twice at a time"
	redirects     = "redirects lead to a file"
	listInterrupt = "an interrupted provider list ends with an error"
	listStop      = "the provider list stops when the loop does"
	list          = "the provider list is complete"
)

// A broken is a way to break a good backend.
type broken struct {
	// breakIt modifies the values of the backend, or replaces its methods.
	breakIt func(t *testing.T, m memory, b *fakeBackend)

	// rules are the rules that the backend then breaks, and no others.
	rules []string

	// fault is a part of the error. It may be empty.
	fault string
}

// brokenBackends has all broken backends, by subject and description.
var brokenBackends = map[string]map[string]broken{
	"not found":  brokenNotFound,
	"listings":   brokenListings,
	"releases":   brokenReleases,
	"keys":       brokenKeys,
	"contexts":   brokenContexts,
	"calls":      brokenCalls,
	"concurrent": brokenConcurrency,
	"files":      brokenFiles,
	"redirects":  brokenRedirects,
	"providers":  brokenProviders,
}

// TestBroken tests that every broken backend is caught, for the rules that it
// breaks and no others.
func TestBroken(t *testing.T) {
	for subject, backends := range brokenBackends {
		for name, test := range backends {
			t.Run(subject+"/"+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					m := load()
					b := newFakeBackend(m)
					test.breakIt(t, m, b)
					err := rekisteritest.Test(t.Context(), b)
					want := slices.Sorted(slices.Values(test.rules))
					if got := brokenRules(err); !slices.Equal(got, want) {
						t.Errorf("broken rules are %q, want %q:\n%v", got, want, err)
					} else if !strings.Contains(err.Error(), test.fault) {
						t.Errorf("got:\n%v\nwant it to contain:\n%s", err, test.fault)
					}
				})
			})
		}
	}
}

// brokenRules returns the rules that an error of the package names.
func brokenRules(err error) []string {
	if err == nil {
		return nil
	}
	var rules []string
	for _, name := range slices.Concat(rekisteritest.RuleNames(), rekisteritest.PublishRuleNames()) {
		if strings.Contains("\n"+err.Error(), "\n"+name+":\n\t") {
			rules = append(rules, name)
		}
	}
	slices.Sort(rules)
	return slices.Compact(rules) // both have the rules of every call
}

// TestEveryRule tests that a broken backend breaks each rule.
func TestEveryRule(t *testing.T) {
	tested := make(map[string]bool)
	for _, backends := range brokenBackends {
		for _, b := range backends {
			for _, rule := range b.rules {
				tested[rule] = true
			}
		}
	}
	if got, want := slices.Sorted(maps.Keys(tested)), slices.Sorted(slices.Values(rekisteritest.RuleNames())); !slices.Equal(got, want) {
		t.Errorf("the broken backends break %q, want %q", got, want)
	}
}

// editKeys modifies all signing keys.
func (m memory) editKeys(edit func(*rekisteri.SigningKey)) {
	for _, c := range m {
		for _, rel := range c.Releases {
			for i := range rel.Packages {
				for j := range rel.Packages[i].SigningKeys {
					edit(&rel.Packages[i].SigningKeys[j])
				}
			}
		}
	}
}
