package rekisteri_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/pgptest"
)

// TestProblems compares what is served of broken trees, and the problems that
// Check finds, with testdata/problems.txt. Every problem of a tree has a section
// there, so that its text is reviewed as an operator reads it.
//
// The tree has the releases 1.0.0 and 2.0.0 of acme/hello before it is edited.
// Whatever happens to 2.0.0, 1.0.0 is served.
func TestProblems(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	for _, test := range []struct {
		name string
		edit func(tr tree)
		fail map[string]error // what the file system returns for a path and all below it

		unsigned bool // SHA256SUMS is not signed again after the edit
	}{
		{name: "nothing wrong", edit: func(tree) {}},

		{name: "no SHA256SUMS", edit: func(tr tree) { delete(tr, sums200) }},
		{name: "another project name", edit: func(tr tree) {
			tr[dir200+"hello_2.0.0_SHA256SUMS"] = tr[sums200]
			delete(tr, sums200)
		}},
		{name: "empty SHA256SUMS", edit: func(tr tree) { tr[sums200] = "" }},
		{name: "blank line in SHA256SUMS", edit: func(tr tree) { tr[sums200] += "\n" }},
		{name: "comment in SHA256SUMS", edit: func(tr tree) { tr[sums200] += "# made today\n" }},
		{name: "star in SHA256SUMS", edit: func(tr tree) { tr[sums200] = strings.ReplaceAll(tr[sums200], "  ", " *") }},
		{name: "CRLF in SHA256SUMS", edit: func(tr tree) { tr[sums200] = strings.ReplaceAll(tr[sums200], "\n", "\r\n") }},
		{name: "upper-case sum", edit: func(tr tree) {
			sum, rest, _ := strings.Cut(tr[sums200], "  ")
			tr[sums200] = strings.ToUpper(sum) + "  " + rest
		}},
		{name: "SHA256SUMS without a zip", edit: func(tr tree) {
			tr[sums200] = strings.Repeat("0", 64) + "  terraform-provider-hello_2.0.0_manifest.json\n"
		}},
		{name: "zip of another version", edit: func(tr tree) {
			tr[sums200] += strings.Repeat("0", 64) + "  terraform-provider-hello_1.0.0_linux_amd64.zip\n"
		}},
		{name: "path as a name", edit: func(tr tree) {
			tr[sums200] = strings.ReplaceAll(tr[sums200], "terraform-provider-hello_2.0.0_linux", "terraform-provider-../../acme/key_2.0.0_linux")
		}},
		{name: "unreadable SHA256SUMS", edit: func(tree) {}, fail: map[string]error{sums200: fs.ErrPermission}},

		{name: "no signature", edit: func(tr tree) { delete(tr, sums200+".sig") }},
		{name: "half a signature", edit: func(tr tree) { tr[sums200+".sig"] = tr[sums200+".sig"][:50] }},
		{name: "armored signature", edit: func(tr tree) {
			tr[sums200+".sig"] = "-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n"
		}},
		{name: "signature of another SHA256SUMS", unsigned: true, edit: func(tr tree) {
			tr[sums200] = strings.Replace(tr[sums200], "  ", "\t", 1)
		}},
		{name: "expired signature", edit: func(tr tree) {
			tr[sums200+".sig"], tr["acme/rsa.asc"] = gpgFile(t, "rsa-expiring.sig"), gpgFile(t, "rsa.asc")
		}},

		{name: "missing zip", edit: func(tr tree) { delete(tr, zip200) }},
		{name: "growing zip", edit: func(tr tree) { tr[zip200] = tr[zip200][:100] }},
		{name: "empty zip", edit: func(tr tree) { tr[zip200] = "" }},
		{name: "zip with a comment", edit: func(tr tree) {
			b := []byte(tr[zip200])
			b[len(b)-2] = 5
			tr[zip200] = string(b) + "hello"
		}},
		{name: "zip with another sum", edit: func(tr tree) {
			tr[zip200] = sampleFile(t, "demo/hello/1.0.0/terraform-provider-hello_1.0.0_windows_arm64.zip")
		}},
		{name: "zip without the binary", edit: func(tr tree) {
			old := tr[zip200]
			tr[zip200] = strings.ReplaceAll(old, "terraform-provider-hello", "terraform-provider-jello")
			line := "%x  terraform-provider-hello_2.0.0_linux"
			tr[sums200] = strings.ReplaceAll(tr[sums200], fmt.Sprintf(line, sha256.Sum256([]byte(old))), fmt.Sprintf(line, sha256.Sum256([]byte(tr[zip200]))))
		}},
		{name: "unreadable zip", edit: func(tree) {}, fail: map[string]error{zip200: fs.ErrPermission}},

		{name: "manifest", edit: func(tr tree) { tr.addManifest("terraform-registry-manifest.json", `"6.0"`) }},
		{name: "published manifest", edit: func(tr tree) { tr.addManifest("terraform-provider-hello_2.0.0_manifest.json", `"5.1"`) }},
		{name: "manifest of another release", edit: func(tr tree) {
			tr.addManifest("terraform-registry-manifest.json", `"6.0"`)
			tr[dir200+"terraform-registry-manifest.json"] = manifestOf(`"5.0"`)
		}},
		{name: "manifest that is not JSON", edit: func(tr tree) { tr[dir200+"terraform-registry-manifest.json"] = "version: 1" }},
		{name: "manifest with a number", edit: func(tr tree) { tr[dir200+"terraform-registry-manifest.json"] = manifestOf(`5`) }},
		{name: "manifest with nonsense", edit: func(tr tree) { tr[dir200+"terraform-registry-manifest.json"] = manifestOf(`"v5"`) }},
		{name: "manifest without protocols", edit: func(tr tree) { tr[dir200+"terraform-registry-manifest.json"] = manifestOf("") }},
		{name: "protocol 4 only", edit: func(tr tree) { tr[dir200+"terraform-registry-manifest.json"] = manifestOf(`"4.0"`) }},

		{name: "directory with a v", edit: func(tr tree) { tr.move("acme/hello/2.0.0", "acme/hello/v2.0.0") }},
		{name: "directory of another version", edit: func(tr tree) { tr.move("acme/hello/2.0.0", "acme/hello/3.0.0") }},
		{name: "directory of no version", edit: func(tr tree) { tr.move("acme/hello/2.0.0", "acme/hello/latest") }},
		{name: "release in two directories", edit: func(tr tree) { tr.addRelease(t, "acme/hello/v2.0.0", "2.0.0", "linux_amd64") }},
		{name: "release in two other directories", edit: func(tr tree) {
			tr.addRelease(t, "acme/hello/a", "2.0.0", "linux_amd64")
			tr.addRelease(t, "acme/hello/z", "2.0.0", "linux_amd64")
		}},
		{name: "two releases in a directory", edit: func(tr tree) { tr.addRelease(t, "acme/hello/2.0.0", "3.0.0", "linux_amd64") }},
		{name: "short version", edit: func(tr tree) {
			tr.move("acme/hello/2.0.0", "old")
			tr.addRelease(t, "acme/hello/2.0", "2.0", "linux_amd64")
		}},
		{name: "empty directory", edit: func(tr tree) { tr.move("acme/hello/2.0.0", ".old"); tr["acme/hello/2.0.0/README"] = "" }},
		{name: "file in the place of a directory", edit: func(tr tree) { tr.move("acme/hello/2.0.0", ".old"); tr["acme/hello/2.0.0"] = "" }},
		{name: "other files", edit: func(tr tree) {
			tr["acme/hello/README.md"] = ""
			tr[dir200+"artifacts.json"], tr[dir200+"metadata.json"], tr[dir200+"config.yaml"], tr[dir200+"digests.txt"] = "{", "{", "{", ""
			tr[dir200+"terraform-provider-hello_linux_amd64_v1/terraform-provider-hello_v2.0.0"] = "\x7fELF"
			tr[sums200] += strings.Repeat("0", 64) + "  terraform-provider-hello_2.0.0_manifest.json\n"
		}},
		{name: "release of another provider", edit: func(tr tree) {
			tr.move("acme/hello/2.0.0", ".old")
			for name, text := range tr {
				if rest, ok := strings.CutPrefix(name, ".old/"); ok {
					tr[dir200+strings.ReplaceAll(rest, "hello", "other")] = text
				}
			}
		}},
		{name: "release without a directory", edit: func(tr tree) { tr.move("acme/hello/2.0.0", "acme/hello") }},
		{name: "unreadable release", edit: func(tree) {}, fail: map[string]error{"acme/hello/2.0.0": fs.ErrPermission}},

		{name: "no key", edit: func(tr tree) { delete(tr, "acme/key.asc"); tr["other/key.asc"] = testKey().Armor() }},
		{name: "key that is none", edit: func(tr tree) { tr["acme/hello/bad.asc"] = "no key" }},
		{name: "private key", edit: func(tr tree) {
			tr["acme/private.asc"] = "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nAAAA\n-----END PGP PRIVATE KEY BLOCK-----\n"
		}},
		{name: "good key and bad key", edit: func(tr tree) {
			tr["acme/key.asc"] += "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n"
		}},
		{name: "directory in the place of a key", edit: func(tr tree) { tr["acme/dir.asc/x"] = "" }},
		{name: "unreadable key", edit: func(tree) {}, fail: map[string]error{"acme/key.asc": fs.ErrPermission}},
		{name: "expired key", edit: func(tr tree) {
			k := pgptest.NewKey("expired@acme.example")
			k.Expires = time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)
			tr[sums200+".sig"], tr["acme/more.asc"] = k.Sign(tr[sums200], time.Time{}), k.Armor()
		}},
		{name: "expired subkey", edit: func(tr tree) {
			tr[sums200+".sig"], tr["acme/more.asc"] = gpgFile(t, "subkey.sig"), gpgFile(t, "subkey.asc")
		}},
		{name: "revoked key", edit: func(tr tree) {
			k := pgptest.NewKey("revoked@acme.example")
			k.Revoked = true
			tr[sums200+".sig"], tr["acme/more.asc"] = k.Sign(tr[sums200], time.Time{}), k.Armor()
		}},

		{name: "document with warnings", edit: func(tr tree) { tr["acme/hello.json"] = `{"warnings": ["use another"]}` }},
		{name: "document with a version that has a directory", edit: func(tr tree) { tr["acme/hello.json"] = documentOf("2.0.0", "3.0.0") }},
		{name: "document that is not JSON", edit: func(tr tree) { tr["acme/hello.json"] = `{"versions":[1 2]}` }},
		{name: "document of another kind", edit: func(tr tree) { tr["acme/hello.json"] = `{"Version":[]}` }},
		{name: "document without keys", edit: func(tr tree) {
			tr["acme/hello.json"] = strings.Replace(documentOf("3.0.0"), sampleKeys(""), `"x":1`, 1)
		}},
		{name: "document with an odd version", edit: func(tr tree) { tr["acme/hello.json"] = documentOf("latest", "3.0.0") }},
		{name: "document with two spellings", edit: func(tr tree) { tr["acme/hello.json"] = documentOf("3.0", "3.0.0") }},
		{name: "directory in the place of a document", edit: func(tr tree) { tr["acme/hello.json/x"] = "" }},
		{name: "unreadable document", edit: func(tr tree) { tr["acme/hello.json"] = documentOf("3.0.0") }, fail: map[string]error{"acme/hello.json": fs.ErrPermission}},

		{name: "hidden names", edit: func(tr tree) {
			tr["acme/hello/.git/x"], tr["lost+found/x"], tr[".git/config"], tr["acme/.x.asc"] = "", "", "", ""
		}},
		{name: "upper-case namespace", edit: func(tr tree) { tr["Acme/x.json"] = "{}" }},
		{name: "upper-case type", edit: func(tr tree) { tr["acme/Foo/1.0.0/x"], tr["acme/Bar.json"] = "", "{}" }},
		{name: "impossible name", edit: func(tr tree) { tr["acme corp/x.json"] = "{}" }},
		{name: "document outside a namespace", edit: func(tr tree) { tr["foo.json"] = "{}" }},
		{name: "one directory too deep", edit: func(tr tree) { tr.move("acme", ""); tr.trim() }},
		{name: "two directories too deep", edit: func(tr tree) { tr.move("acme/hello", ""); tr.trim(); delete(tr, "acme/key.asc") }},
		{name: "provider without a release", edit: func(tr tree) { tr["acme/foo/README"] = "" }},
		{name: "unreadable provider", edit: func(tree) {}, fail: map[string]error{"acme/hello": fs.ErrPermission}},
		{name: "unreadable namespace", edit: func(tr tree) { tr["other/foo.json"] = documentOf("1.0.0") }, fail: map[string]error{"other": fs.ErrPermission}},
		{name: "unreadable tree", edit: func(tree) {}, fail: map[string]error{".": fs.ErrPermission}},
		{name: "empty tree", edit: func(tr tree) { clear(tr) }},
		{name: "tree with a key only", edit: func(tr tree) { clear(tr); tr["acme/key.asc"] = sampleFile(t, "demo/demo.asc") }},
	} {
		tr := newTree(t, "1.0.0", "2.0.0")
		signed := maps.Clone(tr)
		test.edit(tr)
		if !test.unsigned && tr[sums200+".sig"] == signed[sums200+".sig"] {
			tr.sign(sums200)
		}
		var texts []string
		report := func(fsys fs.FS) {
			b := newBackend(t, fsys)
			text := "serves " + versionsOf(t, b) + "\n" + checkText(t, b, &rekisteri.CheckOptions{Hash: true})
			texts = append(texts, strings.TrimSuffix(text, "\n"))
		}
		l := newLiveFS(tr)
		l.fail = test.fail
		report(l)
		if test.fail == nil {
			dir := t.TempDir()
			tr.write(t, dir)
			report(rootFS(t, dir))
			if texts[0] != texts[1] {
				t.Errorf("%s: in memory:\n%s\nin a directory:\n%s", test.name, texts[0], texts[1])
			}
		}
		fmt.Fprintf(&got, "== %s\n%s\n\n", test.name, strings.ReplaceAll(texts[0], "; ", ";\n    "))
	}
	compareGolden(t, "testdata/problems.txt", got.String())
}

// compareGolden compares a text with a file, which -update rewrites.
func compareGolden(t *testing.T, name, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is out of date; go test -run %s -update rewrites it:\n%s", name, t.Name(), firstDifference(got, string(want)))
	}
}

// gpgFile returns a key or a signature that GnuPG made.
func gpgFile(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile("internal/openpgp/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func manifestOf(protocols string) string {
	return `{"version": 1, "metadata": {"protocol_versions": [` + protocols + `]}}`
}

// addManifest adds a manifest to the release 2.0.0, and the line of SHA256SUMS
// that names it.
func (tr tree) addManifest(name, protocols string) {
	tr[dir200+name] = manifestOf(protocols)
	tr[sums200] += fmt.Sprintf("%x  terraform-provider-hello_2.0.0_manifest.json\n", sha256.Sum256([]byte(tr[dir200+name])))
}

// trim removes slashes in front of names.
func (tr tree) trim() {
	for name, text := range tr {
		if rest, ok := strings.CutPrefix(name, "/"); ok {
			tr[rest] = text
			delete(tr, name)
		}
	}
}

// TestProviderProblems asks for the problems of one provider.
func TestProviderProblems(t *testing.T) {
	t.Parallel()
	tr := newTree(t, "1.0.0", "2.0.0")
	delete(tr, sums200)
	tr["acme/broken.asc"] = "no key"
	tr["acme/Upper/1.0.0/x"] = "" // about another provider
	tr["acme/empty/1.0.0/x"] = ""
	dir := t.TempDir()
	tr.write(t, dir)
	if err := os.Symlink("/nowhere", dir+"/acme/hello/3.0.0"); err != nil {
		t.Skip(err)
	}
	opened, err := rekisteri.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := newBackend(t, opened)
	for _, test := range []struct {
		provider string
		paths    []string
		err      error
	}{
		{provider: "hello", paths: []string{"acme/broken.asc", "acme/hello/2.0.0", "acme/hello/3.0.0"}},
		{provider: "empty", paths: []string{"acme/broken.asc", "acme/empty/1.0.0"}},
		{provider: "missing", err: fs.ErrNotExist},
	} {
		problems, err := b.Problems(t.Context(), rekisteri.Provider{Namespace: "acme", Type: test.provider})
		if !errors.Is(err, test.err) || (err == nil) != (test.err == nil) {
			t.Errorf("%s: %v, want %v", test.provider, err, test.err)
		}
		var paths []string
		for _, p := range problems {
			paths = append(paths, p.Path)
			if strings.Contains(p.String(), dir) {
				t.Errorf("a problem names a path outside the tree: %v", p)
			}
		}
		slices.Sort(paths)
		if !slices.Equal(paths, test.paths) {
			t.Errorf("%s: problems at %q, want %q", test.provider, paths, test.paths)
		}
	}
	if _, err := b.Problems(t.Context(), rekisteri.Provider{Namespace: "nowhere", Type: "x"}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a namespace that is not there: %v", err)
	}
}
