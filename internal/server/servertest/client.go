package servertest

import (
	"cmp"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Clients returns the names of the programs that install providers.
func Clients() []string { return []string{"terraform", "tofu"} }

// LookClient returns the path of a client: from the variable with its name in
// upper case, or else from the PATH. A test of a client that is not there is
// skipped. It fails if the variable is set, or if terraform is missing where CI
// is set.
func LookClient(t testing.TB, name string) string {
	t.Helper()
	variable := strings.ToUpper(name)
	set := os.Getenv(variable)
	path, err := exec.LookPath(cmp.Or(set, name))
	if err == nil {
		return path
	}
	if set != "" || name == "terraform" && os.Getenv("CI") != "" {
		t.Fatalf("there is no %s: %v", name, err)
	}
	t.Skipf("there is no %s: put it on the PATH, or its path into %s; .ci/run builds OpenTofu in ~/.cache/rekisteri-ci", name, variable)
	return ""
}

// EachClient runs a test with every client on this machine, in parallel with
// other tests. The test has the client's name.
func EachClient(t *testing.T, test func(t *testing.T, client string)) {
	for _, name := range Clients() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, LookClient(t, name))
		})
	}
}
