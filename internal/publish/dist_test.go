package publish

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri/internal/pgptest"
	"github.com/rekisteri/rekisteri/internal/release"
	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

// Every problem of a release is found before anything is sent.
func TestReadDist(t *testing.T) {
	const here, parent = "dist/", ""
	expired := pgptest.NewKey("expired")
	expired.Expires = time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name     string
		edit     func(files map[string]string) // by path in the repository
		key      string                        // -key, in the repository
		err      string
		findings []string // parts of them
		notes    bool     // the findings are notes
		others   string   // file names without their prefix; default: all
	}{
		{name: "good"},
		{name: "manifest beside the zips", edit: func(f map[string]string) {
			f[here+release.Manifest] = f[release.Manifest]
			delete(f, release.Manifest)
		}},
		{name: "manifest under its published name", edit: func(f map[string]string) {
			f[here+prefix+"manifest.json"] = f[release.Manifest]
			f[release.Manifest] = "{}" // of the next version
		}},
		{name: "good signature", edit: func(f map[string]string) { f["keys.asc"] = testKey().Armor() }, key: "keys.asc"},
		{name: "good signature by a key beside", edit: func(f map[string]string) { f[here+"acme.asc"] = testKey().Armor() }},
		{name: "key of somebody else beside", edit: func(f map[string]string) { f["other.asc"] = otherKey().Armor() }},
		{name: "another kind of .asc beside", edit: func(f map[string]string) { f["other.asc"] = "-----BEGIN PGP MESSAGE-----\n" }},
		{name: "zip of another build, not in SHA256SUMS", edit: func(f map[string]string) { f[here+prefix+"linux_386.zip"] = "x" }},
		{name: "release of another provider", edit: func(f map[string]string) { f[here+"terraform-provider-other_1.0.0_SHA256SUMS"] = "x" }},
		{name: "no manifest", edit: func(f map[string]string) { withoutManifest(f, here) }, others: "darwin_arm64.zip linux_amd64.zip"},

		{name: "no directory", edit: func(f map[string]string) { clear(f) }, err: "dist"},
		{name: "no release", edit: func(f map[string]string) {
			maps.DeleteFunc(f, func(name, _ string) bool { return strings.Contains(name, "SHA256SUMS") })
		}, err: "has no terraform-provider-hello_<version>_SHA256SUMS: give the directory that the release tool wrote"},
		{name: "two releases", edit: func(f map[string]string) { f[here+"terraform-provider-hello_1.1.0_SHA256SUMS"] = "x" },
			err: "has several releases (1.0.0, 1.1.0)"},
		{name: "another provider's release", edit: func(f map[string]string) {
			f[here+"terraform-provider-other_1.0.0_SHA256SUMS"] = f[here+sumsFile]
			delete(f, here+sumsFile)
		}, err: "has terraform-provider-other_1.0.0_SHA256SUMS, and no terraform-provider-hello_<version>_SHA256SUMS: give the -provider that it belongs to"},
		{name: "project without its prefix", edit: func(f map[string]string) {
			f[here+"hello_1.0.0_SHA256SUMS"] = f[here+sumsFile]
			delete(f, here+sumsFile)
		}, err: "set project_name: terraform-provider-hello in .goreleaser.yaml"},
		{name: "no such key", key: "missing.asc", err: "missing.asc"},
		{name: "key that is none", edit: func(f map[string]string) { f["key.asc"] = "x" }, key: "key.asc", err: "key.asc cannot be read: "},

		{name: "no signature", edit: func(f map[string]string) { delete(f, here+sumsFile+".sig") },
			findings: []string{"there is no signature of SHA256SUMS; add it: gpg --detach-sign"}},
		{name: "missing zip", edit: func(f map[string]string) { delete(f, here+zipFile) },
			findings: []string{zipFile + ": SHA256SUMS names this zip, and it is missing"}},
		{name: "damaged zip", edit: func(f map[string]string) {
			f[here+zipFile] = zipOf(t, "terraform-provider-hello_v1.0.0", "other")
		},
			findings: []string{zipFile + ": its sum is not the one in SHA256SUMS"}},
		{name: "zip that is cut off", edit: func(f map[string]string) { f[here+zipFile] = f[here+zipFile][:40] },
			findings: []string{zipFile + ": the zip is incomplete"}},
		{name: "zip without the binary", edit: func(f map[string]string) {
			signed(f, here, func(files map[string]string) { files[zipFile] = zipOf(t, "README.md", "x") })
		}, findings: []string{zipFile + ": it does not have a file terraform-provider-hello at its root; set binary:"}},
		{name: "two problems", edit: func(f map[string]string) { delete(f, here+zipFile); delete(f, here+macFile) },
			findings: []string{macFile + ": SHA256SUMS names this zip", zipFile + ": SHA256SUMS names this zip"}},
		{name: "blank line in SHA256SUMS", edit: func(f map[string]string) { f[here+sumsFile] += "\n" },
			findings: []string{"line 4 is blank"}},
		{name: "armored signature", edit: func(f map[string]string) { f[here+sumsFile+".sig"] = "-----BEGIN PGP SIGNATURE-----\n" },
			findings: []string{"the signature is armored"}},
		{name: "manifest that is not there", edit: func(f map[string]string) { delete(f, release.Manifest) },
			findings: []string{prefix + "manifest.json: SHA256SUMS names the manifest, and it is neither here nor in the parent directory; put terraform-registry-manifest.json"}},
		{name: "manifest that has changed", edit: func(f map[string]string) { f[release.Manifest] += "\n" },
			findings: []string{"terraform-registry-manifest.json: its sum is not the one in SHA256SUMS: it is another release's, or has changed since; check out"}},
		{name: "manifest that SHA256SUMS does not name", edit: func(f map[string]string) {
			text := f[release.Manifest]
			withoutManifest(f, here)
			f[release.Manifest] = text
		}, findings: []string{"SHA256SUMS does not name the manifest; it is not published"}, notes: true, others: "darwin_arm64.zip linux_amd64.zip"},
		{name: "comment in SHA256SUMS", edit: func(f map[string]string) {
			f[here+sumsFile] += "# today\n"
			f[here+sumsFile+".sig"] = testKey().Sign(f[here+sumsFile], time.Time{})
		}, findings: []string{`the line "# today" is not a sum`}, notes: true},
		{name: "signature of other bytes", edit: func(f map[string]string) {
			f["key.asc"] = testKey().Armor()
			f[here+sumsFile] = strings.ReplaceAll(f[here+sumsFile], "  ", " ")
		}, key: "key.asc", findings: []string{sumsFile + ".sig: the signature does not match the file: key " + testKey().ID()}},
		{name: "signature of other bytes by a key beside", edit: func(f map[string]string) {
			f["key.asc"] = testKey().Armor()
			f[here+sumsFile] = strings.ReplaceAll(f[here+sumsFile], "  ", " ")
		}, findings: []string{sumsFile + ".sig: the signature does not match the file"}},
		{name: "unknown key", edit: func(f map[string]string) { f["key.asc"] = otherKey().Armor() }, key: "key.asc",
			findings: []string{sumsFile + ".sig: the signing key is unknown"}},
		{name: "expired key", edit: func(f map[string]string) {
			f["key.asc"] = expired.Armor()
			f[here+sumsFile+".sig"] = expired.Sign(f[here+sumsFile], time.Time{})
		}, key: "key.asc", findings: []string{sumsFile + ".sig: the signing key has expired"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			repository := t.TempDir()
			files := make(map[string]string)
			for name, text := range releaseOf(t, "first") {
				if strings.HasSuffix(name, "_manifest.json") {
					files[release.Manifest] = text
				} else {
					files[here+name] = text
				}
			}
			if test.edit != nil {
				test.edit(files)
			}
			for name, text := range files {
				servertest.WriteFile(t, filepath.Join(repository, name), text)
			}
			key := test.key
			if key != "" {
				key = filepath.Join(repository, key)
			}
			d, findings, err := readDist(t.Context(), filepath.Join(repository, "dist"), "hello", key)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("error %v, want %q", err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(findings) != len(test.findings) {
				t.Errorf("%d findings, want %d", len(findings), len(test.findings))
			}
			for i, f := range findings {
				if text := findingText(f); i >= len(test.findings) || !strings.Contains(text, test.findings[i]) {
					t.Errorf("finding %q", text)
				}
			}
			if wantDist := len(test.findings) == 0 || test.notes; (d != nil) != wantDist {
				t.Fatalf("dist %+v, want one: %v", d, wantDist)
			}
			if d == nil {
				return
			}
			var others []string
			for _, f := range append([]file{d.sums, d.signature}, d.others...) {
				if text, err := os.ReadFile(f.path); err != nil || int64(len(text)) != f.size {
					t.Errorf("%+v has %d bytes, %v", f, len(text), err)
				}
				others = append(others, strings.TrimPrefix(f.name, prefix))
			}
			slices.Sort(others[2:])
			want := test.others
			if want == "" {
				want = "darwin_arm64.zip linux_amd64.zip manifest.json"
			}
			if got := strings.Join(others, " "); got != "SHA256SUMS SHA256SUMS.sig "+want || d.version != "1.0.0" {
				t.Errorf("version %s with %s, want %s", d.version, got, want)
			}
		})
	}
}

// signed edits the files of a release in a directory, and signs it again.
func signed(all map[string]string, dir string, edit func(files map[string]string)) {
	files := make(map[string]string)
	for name, text := range all {
		if inDir, ok := strings.CutPrefix(name, dir); ok {
			files[inDir] = text
		}
	}
	files[prefix+"manifest.json"] = all[release.Manifest]
	edit(files)
	signFiles(files)
	delete(files, prefix+"manifest.json")
	for name, text := range files {
		all[dir+name] = text
	}
}

// withoutManifest makes it a release of a provider without a manifest.
func withoutManifest(all map[string]string, dir string) {
	sums := ""
	for line := range strings.Lines(all[dir+sumsFile]) {
		if !strings.Contains(line, "manifest") {
			sums += line
		}
	}
	all[dir+sumsFile], all[dir+sumsFile+".sig"] = sums, testKey().Sign(sums, time.Time{})
	delete(all, release.Manifest)
}
