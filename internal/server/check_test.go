package server

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/rekisteri/rekisteri/internal/server/servertest"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

func TestCheck(t *testing.T) {
	dir := copyReleases(t)
	servertest.WriteFile(t, filepath.Join(dir, "acme", "bad.json"), "{")
	const damaged = "acme/foo/9.0.0/terraform-provider-foo_9.0.0_linux_amd64.zip"
	zip, err := os.ReadFile(filepath.Join(dir, damaged))
	if err != nil {
		t.Fatal(err)
	}
	zip[50] ^= 1
	if err := os.Remove(filepath.Join(dir, damaged)); err != nil {
		t.Fatal(err)
	}
	servertest.WriteFile(t, filepath.Join(dir, damaged), string(zip))
	good, bad := rekisteritest.Releases(), os.DirFS(dir)
	for _, test := range []struct {
		name string
		tree fs.FS
		args []string
		want []string // parts of what it prints, in order
		err  string
	}{
		{name: "a good tree", tree: good, want: []string{"3 providers checked, 0 problems"}},
		{name: "its zips", tree: good, args: []string{"-hash"}, want: []string{"3 providers checked, 0 problems"}},
		{name: "one provider", tree: good, args: []string{"acme/foo"}, want: []string{"1 provider checked, 0 problems"}},
		{name: "a bad document", tree: bad, want: []string{"acme/bad.json: ", "4 providers checked, 1 problem\n"}, err: "the tree has problems"},
		{name: "a damaged zip", tree: bad, args: []string{"-hash"}, want: []string{"acme/bad.json: ", damaged + ": ", "4 providers checked, 2 problems"}, err: "the tree has problems"},
		{name: "a damaged zip elsewhere", tree: bad, args: []string{"-hash", "acme-labs/foo"}, want: []string{"1 provider checked, 0 problems"}},
		{name: "a missing provider", tree: good, args: []string{"acme/nothing", "acme/foo"}, want: []string{"acme/nothing: ", "2 providers checked, 1 problem\n"}, err: "the tree has problems"},
		{name: "no provider name", tree: good, args: []string{"acme"}, err: `"acme" is not the name of a provider`},
		{name: "a flag behind a name", tree: good, args: []string{"acme/foo", "-dir=a/b"}, err: "flags come before the names"},
		{name: "an empty tree", tree: fstest.MapFS{}, want: []string{"0 providers checked, 1 problem\n"}, err: "the tree has problems"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out strings.Builder
			err := runTree(test.tree)(t.Context(), append([]string{"check"}, test.args...), &out, io.Discard)
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			rest, ok := out.String(), true
			for _, part := range test.want {
				if _, rest, ok = strings.Cut(rest, part); !ok {
					t.Errorf("it printed\n%swithout %q", out.String(), part)
					break
				}
			}
		})
	}
}

func TestCheckInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := run(ctx, []string{"check"}, io.Discard, io.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want %v", err, context.Canceled)
	}
}

func TestCount(t *testing.T) {
	for n, want := range map[int]string{0: "0 problems", 1: "1 problem", 2: "2 problems"} {
		if got := count(n, "problem"); got != want {
			t.Errorf("count(%d) = %q, want %q", n, got, want)
		}
	}
}
