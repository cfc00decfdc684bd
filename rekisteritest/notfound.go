package rekisteritest

import "github.com/rekisteri/rekisteri"

// The providers and releases that do not exist, but are similar to some that do.
var (
	unknownProviders = []struct {
		what     string
		provider rekisteri.Provider
	}{
		{"a namespace that does not exist", rekisteri.Provider{Namespace: "nobody", Type: "foo"}},
		{"a type that does not exist", rekisteri.Provider{Namespace: "acme", Type: "nothing"}},
		{"a namespace with a type of another namespace", rekisteri.Provider{Namespace: "acme-labs", Type: "foo-bar"}},
		{"a prefix of a type", rekisteri.Provider{Namespace: "acme", Type: "fo"}},
		{"a prefix of a namespace", rekisteri.Provider{Namespace: "acm", Type: "foo"}},
		{"a namespace and a type in the wrong order", rekisteri.Provider{Namespace: "foo", Type: "acme"}},
	}

	unknownReleases = []struct {
		what     string
		provider rekisteri.Provider
		version  string
	}{
		{"a version that does not exist", rekisteri.Provider{Namespace: "acme", Type: "foo"}, "99.0.0"},
		{"a version of the same type in another namespace", rekisteri.Provider{Namespace: "acme-labs", Type: "foo"}, "10.0.0"},
		{"a version that has only a pre-release", rekisteri.Provider{Namespace: "acme", Type: "foo"}, "2.0.0"},
		{"a version that exists only with build metadata", rekisteri.Provider{Namespace: "acme", Type: "foo-bar"}, "1.0.0"},
		{"a version with other build metadata", rekisteri.Provider{Namespace: "acme", Type: "foo-bar"}, "1.0.0+other"},
		{"a suffix of a version", rekisteri.Provider{Namespace: "acme", Type: "foo"}, "0.0.0"},
		{"a type that does not exist", rekisteri.Provider{Namespace: "acme", Type: "nothing"}, "1.0.0"},
		{"a namespace that does not exist", rekisteri.Provider{Namespace: "nobody", Type: "foo"}, "1.0.0"},
		{"a namespace with a type of another namespace", rekisteri.Provider{Namespace: "acme-labs", Type: "foo-bar"}, "1.1.0"},
	}
)

func checkNotFound(t *tester) {
	for _, u := range unknownProviders {
		_, err := t.versions(t.ctx, u.provider)
		if fault := notFoundFault(err); fault != "" {
			t.failf("%s, %s, %s", versionsCall(u.provider), u.what, fault)
		}
	}
	for _, u := range unknownReleases {
		_, err := t.release(t.ctx, u.provider, u.version)
		if fault := notFoundFault(err); fault != "" {
			t.failf("%s, %s, %s", releaseCall(u.provider, u.version), u.what, fault)
		}
	}
}
