package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

// TestSwappedDirectory serves a path that is a link, as git-sync and
// ConfigMaps keep it, from wherever it leads.
func TestSwappedDirectory(t *testing.T) {
	if testing.Short() {
		t.Skip("it waits for the next look at the tree")
	}
	t.Parallel()
	tmp := t.TempDir()
	document := func(version string) string {
		return `{"versions":[{"version":"` + version + `","platforms":[{"os":"linux","arch":"amd64","filename":"f.zip","download_url":"https://h/f.zip",
			"shasums_url":"https://h/s","shasums_signature_url":"https://h/s.sig","shasum":"` + strings.Repeat("0", 64) + `"}]}]}`
	}
	servertest.WriteFile(t, filepath.Join(tmp, "a", "acme", "foo.json"), document("1.0.0"))
	servertest.WriteFile(t, filepath.Join(tmp, "b", "acme", "foo.json"), document("2.0.0"))
	link := filepath.Join(tmp, "current")
	if err := os.Symlink("a", link); err != nil {
		t.Skip(err)
	}
	s := start(t, "-dir", link)
	versions := s.URL + "/v1/providers/acme/foo/versions"
	if code, body := get(t, versions); code != 200 || !strings.Contains(body, "1.0.0") {
		t.Fatalf("%d %s", code, body)
	}
	if err := os.Symlink("b", link+".new"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link+".new", link); err != nil {
		t.Fatal(err)
	}
	servertest.Within(t, 4*time.Second, func() bool {
		_, body := get(t, versions)
		return strings.Contains(body, "2.0.0")
	})

	// A path that leads nowhere is an outage, not a deletion.
	if err := os.Remove(link); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2500 * time.Millisecond)
	if code, body := get(t, versions); code != 200 || !strings.Contains(body, "2.0.0") {
		t.Errorf("what was read before: %d %s", code, body)
	}
	if code, _ := get(t, s.URL+"/v1/providers/acme/bar/versions"); code != 500 {
		t.Errorf("what was never read: %d, want 500", code)
	}
}

// TestLinks follows links that stay in the tree, and no others.
func TestLinks(t *testing.T) {
	t.Parallel()
	outside, dir := t.TempDir(), t.TempDir()
	doc, err := sample.ReadFile("sample/hashicorp/random.json")
	if err != nil {
		t.Fatal(err)
	}
	servertest.WriteFile(t, filepath.Join(outside, "out", "secret.json"), string(doc))
	servertest.WriteFile(t, filepath.Join(dir, "..data", "real.json"), string(doc))
	servertest.WriteFile(t, filepath.Join(dir, "acme", "real.json"), string(doc))
	servertest.WriteFile(t, filepath.Join(dir, "file"), "not a directory")
	for name, target := range map[string]string{
		"acme/inside.json":   "real.json",
		"acme/hidden.json":   "../..data/real.json",
		"linked":             "acme",
		"acme/outside.json":  filepath.Join("..", "..", filepath.Base(outside), "out", "secret.json"),
		"acme/absolute.json": filepath.Join(dir, "acme", "real.json"),
		"acme/loop.json":     "loop.json",
		"acme/dangling.json": "nothing.json",
		"escaped":            filepath.Join(outside, "out"),
	} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Skip(err)
		}
	}
	s := start(t, "-dir", dir)
	for provider, want := range map[string]int{
		"acme/real": 200, "acme/inside": 200, "acme/hidden": 200, "linked/real": 200, "linked/inside": 200,
		"acme/outside": 404, "acme/absolute": 404, "acme/loop": 404, "acme/dangling": 404, "escaped/secret": 404, "file/foo": 404,
	} {
		if code, body := get(t, s.URL+"/v1/providers/"+provider+"/versions"); code != want {
			t.Errorf("%s = %d %s, want %d", provider, code, body, want)
		}
	}
	for _, want := range []string{"acme/outside.json", "leads out of the tree", "acme/absolute.json", "is absolute", "leads in a circle", "path=escaped"} {
		if !strings.Contains(s.Stderr.String(), want) {
			t.Errorf("the log says nothing of %s:\n%s", want, s.Stderr.String())
		}
	}
}
