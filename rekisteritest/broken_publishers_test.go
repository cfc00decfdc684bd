package rekisteritest_test

import (
	"context"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

// The names of the rules of publishers.
const (
	complete     = "a release is visible when it is complete"
	neverChanges = "a published release never changes"
	interrupted  = "an interrupted upload stores nothing"
	resumed      = "an upload can be resumed"
	refused      = "bad files are refused"
	race         = "publishers can race"
	canceled     = "a canceled upload does no harm"
)

// A brokenPublisher is a way to break two good publishers over a store.
type brokenPublisher struct {
	breakIt func(t *testing.T, s *memoryStore, b *fakeBackend, publishers []*fakePublisher)
	rules   []string // that are then broken, and no others
	fault   string   // a part of the error; may be empty
}

var brokenPublishers = map[string]map[string]brokenPublisher{
	"complete":    brokenComplete,
	"changes":     brokenNeverChanges,
	"interrupted": brokenInterrupted,
	"resumed":     brokenResumed,
	"refused":     brokenRefused,
	"race":        brokenRace,
	"canceled":    brokenCanceled,
	"calls":       brokenPublishCalls,
}

// TestBrokenPublishers tests that every broken publisher is caught, for the rules
// that it breaks and no others.
func TestBrokenPublishers(t *testing.T) {
	for subject, all := range brokenPublishers {
		for name, test := range all {
			t.Run(subject+"/"+name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					s := newMemoryStore()
					b, publishers := s.publishers(2)
					test.breakIt(t, s, b, []*fakePublisher{publishers[0].(*fakePublisher), publishers[1].(*fakePublisher)})
					err := rekisteritest.TestPublisher(t.Context(), b, publishers...)
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

// TestEveryPublishRule tests that a broken publisher breaks each rule.
func TestEveryPublishRule(t *testing.T) {
	tested := make(map[string]bool)
	for _, all := range brokenPublishers {
		for _, b := range all {
			for _, rule := range b.rules {
				tested[rule] = true
			}
		}
	}
	if got, want := slices.Sorted(maps.Keys(tested)), slices.Sorted(slices.Values(rekisteritest.PublishRuleNames())); !slices.Equal(got, want) {
		t.Errorf("the broken publishers break %q, want %q", got, want)
	}
}

// An upload is a call of Publish.
type upload struct {
	ctx     context.Context
	store   *memoryStore
	p       rekisteri.Provider
	version string
	name    string
	content io.Reader

	good func() (*rekisteri.Receipt, error) // what a good publisher does
}

// published reports whether the release is published.
func (u *upload) published() bool {
	u.store.mu.Lock()
	defer u.store.mu.Unlock()
	return u.store.files[u.p.String()+"/"+u.version] != nil
}

// publishWith returns a function that replaces Publish for one release.
func publishWith(p rekisteri.Provider, version string, publish func(*upload) (*rekisteri.Receipt, error)) func(*testing.T, *memoryStore, *fakeBackend, []*fakePublisher) {
	return func(_ *testing.T, s *memoryStore, _ *fakeBackend, publishers []*fakePublisher) {
		replace(s, publishers, p, version, publish)
	}
}

func replace(s *memoryStore, publishers []*fakePublisher, p rekisteri.Provider, version string, publish func(*upload) (*rekisteri.Receipt, error)) {
	for _, f := range publishers {
		f.publish = func(ctx context.Context, to rekisteri.Provider, v, name string, content io.Reader) (*rekisteri.Receipt, error) {
			if to != p || v != version {
				return s.Publish(ctx, to, v, name, content)
			}
			return publish(&upload{ctx, s, to, v, name, content, func() (*rekisteri.Receipt, error) {
				return s.Publish(ctx, to, v, name, content)
			}})
		}
	}
}
