// Package rekisteritest tests implementations of [rekisteri.Backend] and
// [rekisteri.Publisher].
//
// Load the releases of this package into your backend, and call [Test]:
//
//	func TestBackend(t *testing.T) {
//		backend := newBackend(t, rekisteritest.Releases())
//		if err := rekisteritest.Test(t.Context(), backend); err != nil {
//			t.Fatal(err)
//		}
//	}
//
// [Releases] and [Contents] return the same releases in two forms. Releases
// returns files in the layout of docs/layout.md; [os.CopyFS] copies them to a
// directory. Contents returns values, by provider and version, with the content
// of every file. The backend must hold these releases and no others.
//
// Do not call the backend before Test does: some rules are about first calls,
// when the cache is empty.
//
// Run the test with the race detector (go test -race). Test calls the backend
// from many goroutines, and only the detector finds every data race.
//
// # Files
//
// A backend that stores files is a [rekisteri.Opener], and returns packages with
// empty URLs. Test opens every such file and compares its content. A backend
// that links to files elsewhere returns packages with URLs. Test does not follow
// them, so they may be made up. A backend can do both, file by file. If Open
// returns a [rekisteri.Redirect], Test checks its size, and does not follow it.
//
// # Optional interfaces
//
// Test looks for optional interfaces with type assertions, and checks the rules
// of each one that the backend implements:
//
//   - [rekisteri.Opener]
//   - [rekisteri.Lister]
//
// # Publishers
//
// [TestPublisher] tests a [rekisteri.Publisher] together with the backend that
// serves what it publishes. It publishes the releases of this package itself. The
// store has their signing keys at the start, and no releases: [Keys] returns the
// keys as files.
package rekisteritest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rekisteri/rekisteri"
)

// Test checks that b keeps the rules of [rekisteri.Backend], and those of the
// optional interfaces that it implements. b must hold the releases of [Releases]
// and no others.
//
// The error joins one error for each broken rule: its name, where it was broken,
// and what goes wrong for clients.
//
// Test ends early if ctx is done, or if a call does not return within 10
// seconds. It then leaves the goroutine of that call behind. A panic of the
// backend is reported as a broken rule, with its stack.
func Test(ctx context.Context, b rekisteri.Backend) error {
	return newTester(ctx, b).run(rules)
}

// clientTimeout is how long Terraform and OpenTofu wait for an answer.
const clientTimeout = 10 * time.Second

// A rule is something that a backend must do.
type rule struct {
	name    string
	why     string             // what goes wrong if a backend breaks the rule
	applies func(*tester) bool // nil: to every backend
	check   func(*tester)
}

// A tester is one run of [Test] or [TestPublisher].
type tester struct {
	ctx       context.Context
	backend   rekisteri.Backend
	opener    rekisteri.Opener // the backend; nil: it stores no files
	lister    rekisteri.Lister // the backend; nil: it cannot list its providers
	want      map[rekisteri.Provider]Content
	providers []rekisteri.Provider // the keys of want, in the order of the catalog
	rule      *rule                // the rule being checked

	publishers []rekisteri.Publisher // nil in [Test]

	mu       sync.Mutex
	faults   map[*rule][]string // where each rule is broken
	stack    []byte             // of the first panic
	returned map[any]returnedValue
	stopped  error // why the backend is no longer called; nil: calls go on
}

func newTester(ctx context.Context, b rekisteri.Backend) *tester {
	t := &tester{
		ctx:      ctx,
		backend:  b,
		want:     Contents(),
		faults:   make(map[*rule][]string),
		returned: make(map[any]returnedValue),
	}
	t.opener, _ = b.(rekisteri.Opener)
	t.lister, _ = b.(rekisteri.Lister)
	for _, p := range catalog {
		t.providers = append(t.providers, p.provider)
	}
	return t
}

// run checks rules, and returns an error for all that are broken.
func (t *tester) run(rules []rule) error {
	for i := range rules {
		if t.rule = &rules[i]; t.rule.applies == nil || t.rule.applies(t) {
			t.rule.check(t)
		}
	}
	t.compareReturned()
	return t.err(rules)
}

// fail records that the backend breaks a rule. It drops repetitions.
func (t *tester) fail(r *rule, format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if fault := fmt.Sprintf(format, args...); !slices.Contains(t.faults[r], fault) {
		t.faults[r] = append(t.faults[r], fault)
	}
}

// failf records that the backend breaks the rule that is being checked.
func (t *tester) failf(format string, args ...any) { t.fail(t.rule, format, args...) }

// err returns an error for the broken rules among callRules and rules.
func (t *tester) err(rules []rule) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	const shown = 8 // faults of one rule
	var errs []error
	add := func(r *rule) {
		faults := t.faults[r]
		if len(faults) == 0 {
			return
		}
		if more := len(faults) - shown; more > 0 {
			faults = append(slices.Clone(faults[:shown]), fmt.Sprintf("and %d more", more))
		}
		errs = append(errs, fmt.Errorf("%s:\n\t%s\n\twhy: %s", r.name, strings.Join(faults, "\n\t"), r.why))
	}
	for _, r := range callRules {
		add(r)
	}
	for i := range rules {
		add(&rules[i])
	}
	if t.stopped != nil {
		errs = append(errs, fmt.Errorf("the test stopped early: %w", t.stopped))
	}
	if t.stack != nil {
		errs = append(errs, fmt.Errorf("the stack of the first panic:\n%s", t.stack))
	}
	return errors.Join(errs...)
}
