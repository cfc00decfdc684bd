package release_test

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri/internal/release"
)

// signature is an Ed25519 signature by GnuPG.
var signature = func() string {
	b, err := base64.StdEncoding.DecodeString("iIoEABYIADIWIQSOJbMqRqiSBPTdKB5OGrqjSbkNewUCZlpkgBQcZWQyNTUxOUBleGFtcGxlLmNvbQAKCRBOGrqjSbkNezq0AP94bLgGFAhU6o+Agev7rjSv+66l3IZxrYG8QPwqbSu6RgD9FlUrrUGVea2W3Ct2c6Nl6TI+X7G75YFbVh6KVv7wWgM=")
	if err != nil {
		panic(err)
	}
	return string(b)
}()

const (
	sumsName     = "terraform-provider-foo_1.2.3_SHA256SUMS"
	linuxZip     = "terraform-provider-foo_1.2.3_linux_amd64.zip"
	darwinZip    = "terraform-provider-foo_1.2.3_darwin_arm64.zip"
	manifestName = "terraform-provider-foo_1.2.3_manifest.json"
)

type files map[string]*release.File

// newFiles returns the files of a good release of foo 1.2.3.
func newFiles() files {
	return files{
		sumsName:          {Content: line(1, linuxZip) + line(2, darwinZip)},
		sumsName + ".sig": {Content: signature},
		linuxZip:          {Size: 100},
		darwinZip:         {Size: 200},
	}
}

// line returns a line of SHA256SUMS.
func line(sum int, name string) string { return fmt.Sprintf("%064x  %s\n", sum, name) }

// addManifest adds a manifest, and the line of SHA256SUMS for it.
func (f files) addManifest(name, content string) {
	f[name] = &release.File{Content: content}
	f[sumsName].Content += fmt.Sprintf("%x  %s\n", sha256.Sum256([]byte(content)), manifestName)
}

func manifest(protocols string) string {
	return `{"version": 1, "metadata": {"protocol_versions": [` + protocols + `]}}`
}

// rename gives a file another name, which SHA256SUMS knows.
func (f files) rename(from, to string) {
	f[to] = f[from]
	delete(f, from)
}

func TestInspect(t *testing.T) {
	digest := func(n byte) *[32]byte { return &[32]byte{31: n} }
	for _, test := range []struct {
		name      string
		edit      func(f files)
		dir       string // default: 1.2.3
		served    bool
		protocols string   // default: 5.0
		findings  []string // class, file: what; effect; fix
	}{
		{name: "good", served: true},
		{name: "good, with digests", served: true, edit: func(f files) { f[linuxZip].SHA256, f[darwinZip].SHA256 = digest(1), digest(2) }},
		{name: "directory with a v", dir: "v1.2.3", served: true},
		{name: "other files", served: true, edit: func(f files) {
			f["terraform-provider-foo_1.2.3_linux_386.zip"] = &release.File{Err: errors.New("not listed")}
			f["terraform-provider-foo_v1.2.3"] = &release.File{}
		}},
		{name: "CRLF", served: true, edit: func(f files) { f[sumsName].Content = strings.ReplaceAll(f[sumsName].Content, "\n", "\r\n") }},
		{name: "sum of something else", served: true, edit: func(f files) { f[sumsName].Content += line(3, "README.md") }},

		{name: "empty directory", edit: func(f files) { clear(f) }, findings: []string{
			"incomplete, : there is no SHA256SUMS of a release of foo; ; copy all files of the release, terraform-provider-foo_<version>_SHA256SUMS and its signature included"}},
		{name: "no SHA256SUMS", edit: func(f files) { delete(f, sumsName) }, findings: []string{
			"incomplete, : there is no SHA256SUMS of a release of foo; ; copy all files of the release, terraform-provider-foo_<version>_SHA256SUMS and its signature included"}},
		{name: "another project name", edit: func(f files) { f.rename(sumsName, "foo_1.2.3_SHA256SUMS") }, findings: []string{
			"wrong, foo_1.2.3_SHA256SUMS: its name does not begin with terraform-provider-foo_; ; set project_name: terraform-provider-foo in .goreleaser.yaml, and release again"}},
		{name: "another project name beside the right one", served: true, edit: func(f files) { f["foo_1.2.3_SHA256SUMS"] = &release.File{} }, findings: []string{
			"note, foo_1.2.3_SHA256SUMS: its name does not begin with terraform-provider-foo_; it is not served; set project_name: terraform-provider-foo in .goreleaser.yaml, and release again"}},
		{name: "another type", edit: func(f files) { f.rename(sumsName, "terraform-provider-bar_1.2.3_SHA256SUMS") }, findings: []string{
			"wrong, terraform-provider-bar_1.2.3_SHA256SUMS: its name says that it belongs to the provider bar; ; move its release to that provider's directory"}},
		{name: "no full version", edit: func(f files) { f.rename(sumsName, "terraform-provider-foo_1.2_SHA256SUMS") }, findings: []string{
			`wrong, terraform-provider-foo_1.2_SHA256SUMS: "1.2" in its name is not a full semantic version; ; release it with a version such as 1.2.3`}},
		{name: "directory of another version", dir: "2.0.0", served: true, findings: []string{
			"note, : the directory is called 2.0.0, and its files are those of version 1.2.3; version 1.2.3 is served; rename the directory to 1.2.3"}},
		{name: "directory of no version", dir: "latest", served: true, findings: []string{
			"note, : the directory is called latest, and its files are those of version 1.2.3; version 1.2.3 is served; rename the directory to 1.2.3"}},
		{name: "two releases", served: true, edit: func(f files) { f["terraform-provider-foo_2.0.0_SHA256SUMS"] = &release.File{} }, findings: []string{
			"note, terraform-provider-foo_2.0.0_SHA256SUMS: the directory holds several releases; it is not served; move each release to a directory of its own"}},
		{name: "two releases in a directory of no version", dir: "all", edit: func(f files) { f["terraform-provider-foo_2.0.0_SHA256SUMS"] = &release.File{} }, findings: []string{
			"note, terraform-provider-foo_1.2.3_SHA256SUMS: the directory holds several releases; it is not served; move each release to a directory of its own",
			"note, terraform-provider-foo_2.0.0_SHA256SUMS: the directory holds several releases; it is not served; move each release to a directory of its own",
			"wrong, : the directory holds several releases, and is named after none of them; ; move each release to a directory of its own"}},

		{name: "unreadable SHA256SUMS", edit: func(f files) { f[sumsName] = &release.File{Err: errors.New("permission denied")} }, findings: []string{
			"unreadable, " + sumsName + ": it cannot be read: permission denied; ; make the file readable"}},
		{name: "empty SHA256SUMS", edit: func(f files) { f[sumsName].Content = "" }, findings: []string{
			"wrong, " + sumsName + ": clients cannot read it: the file has no sums; ; write it as sha256sum does, and sign it again"}},
		{name: "blank line", edit: func(f files) { f[sumsName].Content += "\n" }, findings: []string{
			"wrong, " + sumsName + ": clients cannot read it: line 3 is blank; ; write it as sha256sum does, and sign it again"}},
		{name: "star", edit: func(f files) { f[sumsName].Content = strings.ReplaceAll(f[sumsName].Content, "  ", " *") }, findings: []string{
			"wrong, " + sumsName + ": clients cannot read it: line 1 has a star before the name, as sha256sum -b writes it; ; write it as sha256sum does, and sign it again"}},
		{name: "two sums for a zip", edit: func(f files) { f[sumsName].Content += line(3, linuxZip) }, findings: []string{
			"wrong, " + sumsName + ": clients cannot read it: line 3 has another sum for " + linuxZip + " than an earlier line; ; write it as sha256sum does, and sign it again"}},
		{name: "comment", served: true, edit: func(f files) { f[sumsName].Content += "# made today\n" }, findings: []string{
			"note, " + sumsName + `: the line "# made today" is not a sum; the release is served, but a lock file gets the hash of one platform only; remove the line, and sign the file again`}},
		{name: "no zip named", edit: func(f files) { f[sumsName].Content = line(3, manifestName) }, findings: []string{
			"wrong, " + sumsName + ": it names no zip of foo 1.2.3; ; list the release's zips in it, and sign it again"}},
		{name: "zip of another version", served: true, edit: func(f files) {
			f[sumsName].Content += line(3, "terraform-provider-foo_1.0.0_linux_amd64.zip")
		}, findings: []string{
			"note, " + sumsName + ": it names terraform-provider-foo_1.0.0_linux_amd64.zip, which is not a zip of foo 1.2.3; that file is not served; list each release's own zips in its SHA256SUMS"}},
		{name: "path as a name", served: true, edit: func(f files) {
			f[sumsName].Content += line(3, "terraform-provider-../../foo_1.2.3_linux_amd64.zip")
		}, findings: []string{
			"note, " + sumsName + ": it names terraform-provider-../../foo_1.2.3_linux_amd64.zip, which is not a zip of foo 1.2.3; that file is not served; list each release's own zips in its SHA256SUMS"}},
		{name: "platform in upper case", served: true, edit: func(f files) {
			f[sumsName].Content += line(3, "terraform-provider-foo_1.2.3_Linux_amd64.zip")
		}, findings: []string{
			"note, " + sumsName + ": it names terraform-provider-foo_1.2.3_Linux_amd64.zip, which is not a zip of foo 1.2.3; that file is not served; list each release's own zips in its SHA256SUMS"}},

		{name: "no signature", edit: func(f files) { delete(f, sumsName+".sig") }, findings: []string{
			"incomplete, " + sumsName + ".sig: there is no signature of SHA256SUMS; ; add it: gpg --detach-sign " + sumsName}},
		{name: "unreadable signature", edit: func(f files) { f[sumsName+".sig"] = &release.File{Err: errors.New("permission denied")} }, findings: []string{
			"unreadable, " + sumsName + ".sig: it cannot be read: permission denied; ; make the file readable"}},
		{name: "half a signature", edit: func(f files) { f[sumsName+".sig"].Content = signature[:50] }, findings: []string{
			"wrong, " + sumsName + ".sig: "}},
		{name: "armored signature", edit: func(f files) {
			f[sumsName+".sig"].Content = "-----BEGIN PGP SIGNATURE-----\n\nAAAA\n-----END PGP SIGNATURE-----\n"
		}, findings: []string{"wrong, " + sumsName + ".sig: the signature is armored, and clients read only binary ones; ; sign SHA256SUMS again, without --armor: gpg --detach-sign " + sumsName}},

		{name: "missing zip", edit: func(f files) { delete(f, linuxZip) }, findings: []string{
			"incomplete, " + linuxZip + ": SHA256SUMS names this zip, and it is missing; ; copy the zip that was released"}},
		{name: "zip without an end", edit: func(f files) { f[linuxZip].Cut = true }, findings: []string{
			"incomplete, " + linuxZip + ": the zip is incomplete: it has no end record; ; copy it again, if no copy is in progress"}},
		{name: "unreadable zip", edit: func(f files) { f[linuxZip] = &release.File{Err: errors.New("permission denied")} }, findings: []string{
			"unreadable, " + linuxZip + ": it cannot be read: permission denied; ; make the file readable"}},
		{name: "zip with another sum", edit: func(f files) { f[linuxZip].SHA256 = digest(9) }, findings: []string{
			"wrong, " + linuxZip + ": its sum is not the one in SHA256SUMS; ; copy the zip that was released"}},
		{name: "zip without the binary", edit: func(f files) { f[linuxZip].NoBinary = true }, findings: []string{
			"wrong, " + linuxZip + ": it does not have a file terraform-provider-foo at its root; ; set binary: '{{ .ProjectName }}_v{{ .Version }}' in .goreleaser.yaml, and release a new version"}},
		{name: "several faults", edit: func(f files) {
			delete(f, sumsName+".sig")
			delete(f, linuxZip)
			f[darwinZip].Cut = true
		}, findings: []string{
			"incomplete, " + sumsName + ".sig: there is no signature of SHA256SUMS; ; add it: gpg --detach-sign " + sumsName,
			"incomplete, " + linuxZip + ": SHA256SUMS names this zip, and it is missing; ; copy the zip that was released",
			"incomplete, " + darwinZip + ": the zip is incomplete: it has no end record; ; copy it again, if no copy is in progress"}},

		{name: "manifest", served: true, protocols: "6.0", edit: func(f files) { f.addManifest(release.Manifest, manifest(`"6.0"`)) }},
		{name: "published manifest", served: true, protocols: "5.1 6.0", edit: func(f files) { f.addManifest(manifestName, manifest(`"5.1", "6.0"`)) }},
		{name: "manifest that SHA256SUMS does not name", served: true, protocols: "6.0", edit: func(f files) {
			f[release.Manifest] = &release.File{Content: manifest(`"6.0"`)}
		}},
		{name: "missing manifest", served: true, edit: func(f files) { f[sumsName].Content += line(3, manifestName) }},
		{name: "manifest without protocols", served: true, edit: func(f files) { f.addManifest(release.Manifest, manifest("")) }},
		{name: "manifest of another release", edit: func(f files) {
			f.addManifest(release.Manifest, manifest(`"6.0"`))
			f[release.Manifest] = &release.File{Content: manifest(`"5.0"`)}
		}, findings: []string{"incomplete, " + release.Manifest + ": its sum is not the one in SHA256SUMS; ; copy the manifest that was released, or none"}},
		{name: "unreadable manifest", edit: func(f files) { f[release.Manifest] = &release.File{Err: errors.New("permission denied")} }, findings: []string{
			"unreadable, " + release.Manifest + ": it cannot be read: permission denied; ; make the file readable"}},
		{name: "manifest that is not JSON", edit: func(f files) { f.addManifest(release.Manifest, "version: 1") }, findings: []string{
			"wrong, " + release.Manifest + ": it is not a manifest: "}},
		{name: "manifest with a number", edit: func(f files) { f.addManifest(release.Manifest, manifest("5")) }, findings: []string{
			"wrong, " + release.Manifest + `: it is not a manifest: metadata.protocol_versions must be a list of strings, such as ["5.0"]; ; copy the manifest that was released, or none`}},
		{name: "manifest with nonsense", edit: func(f files) { f.addManifest(release.Manifest, manifest(`"v5"`)) }, findings: []string{
			"wrong, " + release.Manifest + `: the protocol version "v5" does not parse: write it as in "5.0", and release again; ; copy the manifest that was released, or none`}},
		{name: "protocol 4 only", edit: func(f files) { f.addManifest(release.Manifest, manifest(`"4.0"`)) }, findings: []string{
			"wrong, " + release.Manifest + ": the release speaks only the protocol versions 4.0, and clients need 5 or 6: release it with a newer plugin SDK; ; copy the manifest that was released, or none"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := newFiles()
			if test.edit != nil {
				test.edit(f)
			}
			dir := test.dir
			if dir == "" {
				dir = "1.2.3"
			}
			r, findings := release.Inspect("foo", dir, f)
			if len(findings) != len(test.findings) {
				t.Errorf("findings %q, want %q", texts(findings), test.findings)
			}
			for i, text := range texts(findings) {
				if i < len(test.findings) && !strings.HasPrefix(text, test.findings[i]) {
					t.Errorf("finding %q, want %q", text, test.findings[i])
				}
			}
			if (r != nil) != test.served {
				t.Fatalf("release %+v, want one: %v", r, test.served)
			}
			if r == nil {
				return
			}
			protocols := test.protocols
			if protocols == "" {
				protocols = "5.0"
			}
			if got := strings.Join(r.Protocols, " "); got != protocols || r.Version != "1.2.3" || len(r.Signatures) != 1 || r.Signature != signature {
				t.Errorf("release %+v", r)
			}
			want := []release.Zip{
				{Name: darwinZip, OS: "darwin", Arch: "arm64", SHA256: *digest(2), Size: 200},
				{Name: linuxZip, OS: "linux", Arch: "amd64", SHA256: *digest(1), Size: 100},
			}
			if !slices.Equal(r.Zips, want) {
				t.Errorf("zips %+v", r.Zips)
			}
		})
	}
}

func texts(findings []release.Finding) (all []string) {
	classes := [...]string{"note", "incomplete", "unreadable", "wrong"}
	for _, f := range findings {
		all = append(all, fmt.Sprintf("%s, %s: %s; %s; %s", classes[f.Class], f.File, f.What, f.Effect, f.Fix))
	}
	return all
}

func TestRelevant(t *testing.T) {
	for name, want := range map[string]bool{
		sumsName: true, sumsName + ".sig": true, linuxZip: true, manifestName: true, release.Manifest: true, "foo_1.2.3_SHA256SUMS": true,
		"": false, "artifacts.json": false, "CHANGELOG.md": false,
	} {
		if got := release.Relevant(name); got != want {
			t.Errorf("Relevant(%q) = %v", name, got)
		}
	}
}

func TestIsBinary(t *testing.T) {
	for name, want := range map[string]bool{
		"terraform-provider-foo": true, "terraform-provider-foo_v1.2.3": true, "terraform-provider-foo.exe": true,
		"terraform-provider-foobar": false, "bin/terraform-provider-foo": false, "terraform-provider-foo_/x": false, "foo": false,
	} {
		if got := release.IsBinary(name, "foo"); got != want {
			t.Errorf("IsBinary(%q) = %v", name, got)
		}
	}
}

// FuzzInspect checks what a release promises, whatever is in the files: clients
// can read its SHA256SUMS, every zip has its sum in there and was given, and
// nothing was found that keeps it from being served.
func FuzzInspect(f *testing.F) {
	good := newFiles()
	f.Add("foo", "1.2.3", sumsName, good[sumsName].Content, signature, manifest(`"6.0"`), byte(0))
	f.Add("foo", "v1.2.3", sumsName, good[sumsName].Content+"\n", signature[:20], manifest("5"), byte(1))
	f.Add("a_b", "", "terraform-provider-a_b_1.0.0_SHA256SUMS", line(1, "terraform-provider-a_b_1.0.0_linux_386.zip"), signature+signature, "{", byte(2))
	f.Fuzz(func(t *testing.T, typ, dir, name, sums, sig, man string, flags byte) {
		all := files{name: {Content: sums}, name + ".sig": {Content: sig}}
		if flags&1 != 0 {
			all[release.Manifest] = &release.File{Content: man}
		}
		parsed, err := release.ParseSums(sums)
		if err == nil {
			for _, sum := range parsed.Files {
				if release.IsZip(sum.Name) {
					all[sum.Name] = &release.File{Size: 1, Cut: flags&2 != 0}
				}
			}
		}
		before := maps.Clone(all)
		r, findings := release.Inspect(typ, dir, all)
		if !maps.Equal(before, all) {
			t.Error("the files were changed")
		}
		served := !slices.ContainsFunc(findings, func(f release.Finding) bool { return f.Class != release.Note })
		if (r != nil) != served {
			t.Fatalf("release %v with findings %v", r, findings)
		}
		for _, f := range findings {
			if f.What == "" || f.Fix == "" || f.Class == release.Note && f.Effect == "" {
				t.Errorf("finding %+v", f)
			}
		}
		if r == nil {
			return
		}
		if len(r.Zips) == 0 || len(r.Signatures) == 0 || err != nil || flags&2 != 0 {
			t.Fatalf("release %+v", r)
		}
		for _, z := range r.Zips {
			if sum, ok := parsed.Of(z.Name); !ok || sum != z.SHA256 || all[z.Name] == nil || strings.ContainsAny(z.Name, `/\`) {
				t.Errorf("zip %+v", z)
			}
		}
	})
}
