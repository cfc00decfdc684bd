package rekisteritest

import (
	"context"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/rekisteri/rekisteri"
)

// A query is a call of the backend, or several, whose result is known.
type query struct {
	call  string
	fault func(context.Context) string // makes the call and describes what is wrong with the result; empty: nothing
}

// queriesFor returns the queries for what a provider has.
func (t *tester) queriesFor(p rekisteri.Provider) []query {
	want := t.want[p]
	all := []query{{versionsCall(p), func(ctx context.Context) string {
		l, err := t.versions(ctx, p)
		if err != nil {
			return failure(err)
		}
		return strings.Join(listingFaults(l, want.Listing), "; ")
	}}}
	for _, v := range want.Listing.Versions {
		all = append(all, query{releaseCall(p, v.Version), func(ctx context.Context) string {
			rel, err := t.release(ctx, p, v.Version)
			if err != nil {
				return failure(err)
			}
			return strings.Join(packageFaults(rel, want.Releases[v.Version]), "; ")
		}}, query{"Open for the files of " + releaseCall(p, v.Version), func(ctx context.Context) string {
			var faults []string
			for _, f := range t.filesOf(p, v.Version) {
				if fault := t.contentFault(ctx, f); fault != "" {
					faults = append(faults, f.name+" "+fault)
				}
			}
			return strings.Join(faults, "; ")
		}})
	}
	return all
}

// queries returns all queries, including those for names that do not exist.
func (t *tester) queries() []query {
	var all []query
	for _, p := range t.providers {
		all = append(all, t.queriesFor(p)...)
	}
	for _, u := range unknownProviders {
		all = append(all, query{versionsCall(u.provider), func(ctx context.Context) string {
			_, err := t.versions(ctx, u.provider)
			return notFoundFault(err)
		}})
	}
	for _, u := range unknownReleases {
		all = append(all, query{releaseCall(u.provider, u.version), func(ctx context.Context) string {
			_, err := t.release(ctx, u.provider, u.version)
			return notFoundFault(err)
		}})
	}
	if t.lister != nil {
		all = append(all, query{providersCall, func(ctx context.Context) string {
			faults, _ := t.listFaults(ctx)
			return strings.Join(faults, "; ")
		}})
	}
	return all
}

func checkConcurrency(t *tester) {
	const callers, rounds = 8, 2
	queries := t.queries()
	var mu sync.Mutex
	faults := make(map[int]string) // by the query's index
	var group sync.WaitGroup
	for caller := range callers {
		group.Go(func() {
			for round := range rounds {
				for i := range queries {
					// In the first round, all callers make the same query. In the
					// second, each makes a different one.
					i = (i + round*caller*len(queries)/callers) % len(queries)
					if fault := queries[i].fault(t.ctx); fault != "" {
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
		// If the query also fails alone, it breaks another rule.
		if q := queries[i]; q.fault(t.ctx) == "" {
			t.failf("%s, among concurrent calls, %s", q.call, faults[i])
		}
	}
}
