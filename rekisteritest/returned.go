package rekisteritest

import (
	"reflect"
	"slices"

	"github.com/rekisteri/rekisteri"
)

// A returnedValue is a value that the backend returned.
type returnedValue struct {
	call string // the first call that returned it
	copy any    // a copy of the value at that time; also a pointer
}

// keepReturned records a value for [tester.compareReturned], and checks that a
// pointer that is returned again has the same content. Because the pointer is
// kept, its memory cannot be reused for another value.
func (t *tester) keepReturned(call string, pointer any, clone func() any) {
	t.mu.Lock()
	before, again := t.returned[pointer]
	if !again {
		t.returned[pointer] = returnedValue{call, clone()}
	}
	t.mu.Unlock()
	if again && !reflect.DeepEqual(pointer, before.copy) {
		t.fail(unchanged, "%s returns the same pointer as %s, with another content", call, before.call)
	}
}

// compareReturned checks that no returned value has changed since.
func (t *tester) compareReturned() {
	for pointer, then := range t.returned {
		if !reflect.DeepEqual(pointer, then.copy) {
			t.fail(unchanged, "the value that %s returned has changed after other calls", then.call)
		}
	}
}

func cloneListing(l *rekisteri.Listing) *rekisteri.Listing {
	c := *l
	c.Versions, c.Warnings = slices.Clone(c.Versions), slices.Clone(c.Warnings)
	for i := range c.Versions {
		v := &c.Versions[i]
		v.Protocols, v.Platforms = slices.Clone(v.Protocols), slices.Clone(v.Platforms)
	}
	return &c
}

func cloneRelease(rel *rekisteri.Release) *rekisteri.Release {
	c := *rel
	c.Protocols, c.Packages = slices.Clone(c.Protocols), slices.Clone(c.Packages)
	for i := range c.Packages {
		c.Packages[i].SigningKeys = slices.Clone(c.Packages[i].SigningKeys)
	}
	return &c
}

func cloneReceipt(r *rekisteri.Receipt) *rekisteri.Receipt {
	return &rekisteri.Receipt{State: r.State, Missing: slices.Clone(r.Missing)}
}
