package rekisteritest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/rekisteri/rekisteri"
)

// maxYields is the number of values after which a list is not read further. It
// may have no end.
const maxYields = 100

// listFaults describes how the backend's list of providers differs from those
// that were loaded. The error is nil or errReported.
func (t *tester) listFaults(ctx context.Context) ([]string, error) {
	var faults []string
	yielded := make(map[rekisteri.Provider]int)
	calls := 0
	err := t.list(ctx, func(p rekisteri.Provider, err error) bool {
		if err != nil {
			faults = append(faults, fmt.Sprintf("yields an error: %v", err))
		} else {
			yielded[p]++
		}
		calls++
		return calls < maxYields
	})
	if err != nil {
		return nil, err
	}
	for _, p := range t.providers {
		switch n := yielded[p]; {
		case n == 0:
			faults = append(faults, fmt.Sprintf("does not yield %v", p))
		case n > 1:
			faults = append(faults, fmt.Sprintf("yields %v more than once", p))
		}
		delete(yielded, p)
	}
	for _, p := range slices.SortedFunc(maps.Keys(yielded), compareProviders) {
		faults = append(faults, fmt.Sprintf("yields %q, which was not loaded", p.String()))
	}
	return faults, nil
}

func compareProviders(a, b rekisteri.Provider) int { return strings.Compare(a.String(), b.String()) }

func checkList(t *tester) {
	faults, _ := t.listFaults(t.ctx)
	for _, fault := range faults {
		t.failf("%s %s", providersCall, fault)
	}
}

func checkStoppedList(t *tester) {
	calls := 0
	err := t.list(t.ctx, func(rekisteri.Provider, error) bool {
		calls++
		return false
	})
	if err == nil && calls > 1 {
		t.failf("%s calls yield again after yield has returned false", providersCall)
	}
}

func checkInterruptedList(t *tester) {
	var interrupted []string
	t.eachDoneContext(func(ctx context.Context, how string) {
		interrupted = append(interrupted, t.interruptedListFault(ctx, how, func() {}))
	})
	ctx, cancel := context.WithCancel(t.ctx)
	defer cancel()
	interrupted = append(interrupted, t.interruptedListFault(ctx, "with a context that is canceled after the first provider", cancel))
	if faults, err := t.listFaults(t.ctx); err != nil || len(faults) > 0 {
		return // checkList reports it
	}
	for _, fault := range interrupted {
		if fault != "" {
			t.failf("%s", fault)
		}
	}
}

// interruptedListFault lists the providers, calls interrupt after the first of
// them, and describes what is wrong with the result.
func (t *tester) interruptedListFault(ctx context.Context, how string, interrupt func()) string {
	providers := 0
	var errs []error
	err := t.list(ctx, func(_ rekisteri.Provider, err error) bool {
		if err != nil {
			errs = append(errs, err)
		} else {
			providers++
		}
		interrupt()
		return providers+len(errs) < maxYields
	})
	switch joined := errors.Join(errs...); {
	case err != nil:
	case errors.Is(joined, fs.ErrNotExist):
		return fmt.Sprintf("%s %s reports that something does not exist: %v", providersCall, how, joined)
	case joined == nil && providers < len(t.providers):
		return fmt.Sprintf("%s %s yields %d of %d providers without an error", providersCall, how, providers, len(t.providers))
	}
	return ""
}
