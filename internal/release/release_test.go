package release_test

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri/internal/release"
)

func TestParseZip(t *testing.T) {
	for _, test := range []struct {
		name string
		want release.ZipName
		ok   bool
	}{
		{"terraform-provider-foo_1.2.3_linux_amd64.zip", release.ZipName{Type: "foo", Version: "1.2.3", OS: "linux", Arch: "amd64"}, true},
		{"terraform-provider-google-beta_1.2.3-rc.1+b_darwin_arm64.zip", release.ZipName{Type: "google-beta", Version: "1.2.3-rc.1+b", OS: "darwin", Arch: "arm64"}, true},
		{"terraform-provider-a_b_1.0.0_linux_386.zip", release.ZipName{Type: "a_b", Version: "1.0.0", OS: "linux", Arch: "386"}, true},
		{name: "terraform-provider-foo_1.2.3_linux_amd64.tar.gz"},
		{name: "terraform-provider-foo_1.2.3_linux.zip"},
		{name: "terraform-provider-foo_1.2.3_linux_.zip"},
		{name: "terraform-provider-_1.2.3_linux_amd64.zip"},
		{name: "terraform-provider-foo__linux_amd64.zip"},
		{name: "provider-foo_1.2.3_linux_amd64.zip"},
		{name: "terraform-provider-.zip"},
		{name: ".zip"},
		{name: ""},
	} {
		got, ok := release.ParseZip(test.name)
		if ok != test.ok || ok && got != test.want {
			t.Errorf("ParseZip(%q) = %+v, %v, want %+v, %v", test.name, got, ok, test.want, test.ok)
		}
	}
}

func TestParseSumsName(t *testing.T) {
	for _, test := range []struct {
		name, typ, version string
		ok                 bool
	}{
		{"terraform-provider-foo_1.2.3_SHA256SUMS", "foo", "1.2.3", true},
		{"terraform-provider-a_b_1.2.3-rc.1_SHA256SUMS", "a_b", "1.2.3-rc.1", true},
		{name: "terraform-provider-foo_1.2.3_SHA256SUMS.sig"},
		{name: "terraform-provider-foo_SHA256SUMS"},
		{name: "SHA256SUMS"},
		{name: ""},
	} {
		typ, version, ok := release.ParseSumsName(test.name)
		if ok != test.ok || ok && (typ != test.typ || version != test.version) {
			t.Errorf("ParseSumsName(%q) = %q, %q, %v, want %q, %q, %v", test.name, typ, version, ok, test.typ, test.version, test.ok)
		}
		if ok && release.SumsName(typ, version) != test.name {
			t.Errorf("SumsName(%q, %q) = %q", typ, version, release.SumsName(typ, version))
		}
	}
}

func TestParseSums(t *testing.T) {
	a, b := fmt.Sprintf("%064x", 10), fmt.Sprintf("%064x", 11)
	for _, test := range []struct {
		name, data string
		want       []string
		comment    string
		err        string // a part of it
	}{
		{name: "plain", data: a + "  a.zip\n" + b + "  b.json\n", want: []string{"a.zip 0a", "b.json 0b"}},
		{name: "no last line end", data: a + "  a.zip", want: []string{"a.zip 0a"}},
		{name: "CRLF", data: a + "  a.zip\r\n" + b + "  b.zip\r\n", want: []string{"a.zip 0a", "b.zip 0b"}},
		{name: "upper case", data: strings.ToUpper(a) + "  A.zip\n", want: []string{"A.zip 0a"}},
		{name: "tab", data: a + "\ta.zip\n", want: []string{"a.zip 0a"}},
		{name: "same line twice", data: a + "  a.zip\n" + a + "  a.zip\n", want: []string{"a.zip 0a"}},
		{name: "comment", data: "# sums\n" + a + "  a.zip\n", want: []string{"a.zip 0a"}, comment: "# sums"},
		{name: "name with a space", data: a + "  a b.zip\n" + b + "  b.zip\n", want: []string{"b.zip 0b"}, comment: a + "  a b.zip"},
		{name: "short sum", data: a[1:] + "  a.zip\n" + b + "  b.zip\n", want: []string{"b.zip 0b"}, comment: a[1:] + "  a.zip"},
		{name: "blank first", data: "\n" + a + "  a.zip\n", err: "line 1 is blank"},
		{name: "blank last", data: a + "  a.zip\n\n", err: "line 2 is blank"},
		{name: "blank with CRLF", data: a + "  a.zip\r\n\r\n", err: "line 2 is blank"},
		{name: "white line", data: a + "  a.zip\n \t\n", err: "line 2 is blank"},
		{name: "binary mode", data: a + " *a.zip\n", err: "star"},
		{name: "two sums for a name", data: a + "  a.zip\n" + b + "  a.zip\n", err: "line 2 has another sum for a.zip"},
		{name: "empty", data: "", err: "no sums"},
		{name: "prose", data: "nothing here\n", err: "no sums"},
	} {
		sums, err := release.ParseSums(test.data)
		if test.err != "" || err != nil {
			if err == nil || test.err == "" || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: error %v, want %q", test.name, err, test.err)
			}
			continue
		}
		var got []string
		for _, f := range sums.Files {
			got = append(got, fmt.Sprintf("%s %02x", f.Name, f.SHA256[sha256.Size-1]))
		}
		if !slices.Equal(got, test.want) || sums.Comment != test.comment {
			t.Errorf("%s: got %q and comment %q, want %q and %q", test.name, got, sums.Comment, test.want, test.comment)
		}
	}
}

// FuzzParseSums compares the parser with what clients do: a blank line, at which
// they panic, is an error, and they find every sum that it returns.
func FuzzParseSums(f *testing.F) {
	sum := fmt.Sprintf("%064x", 10)
	f.Add(sum + "  a.zip\n")
	f.Add(sum + "  a.zip\r\n\n")
	f.Add("# comment\n" + sum + " *a.zip")
	f.Fuzz(func(t *testing.T, data string) {
		sums, err := release.ParseSums(data)
		if err != nil {
			return
		}
		lines := strings.Split(strings.TrimSuffix(data, "\n"), "\n")
		for _, line := range lines {
			if strings.TrimSpace(line) == "" {
				t.Fatalf("a blank line was accepted: %q", data)
			}
		}
		for _, file := range sums.Files {
			if !slices.ContainsFunc(lines, func(line string) bool {
				fields := strings.Fields(line)
				return len(fields) == 2 && fields[1] == file.Name && strings.ToLower(fields[0]) == fmt.Sprintf("%x", file.SHA256)
			}) {
				t.Fatalf("%+v is not in %q", file, data)
			}
		}
	})
}

// FuzzParseZip puts the parts of a name together again.
func FuzzParseZip(f *testing.F) {
	f.Add("terraform-provider-foo_1.2.3_linux_amd64.zip")
	f.Add("terraform-provider-_a__b.zip")
	f.Fuzz(func(t *testing.T, name string) {
		if z, ok := release.ParseZip(name); ok {
			if again := "terraform-provider-" + strings.Join([]string{z.Type, z.Version, z.OS, z.Arch}, "_") + ".zip"; again != name {
				t.Errorf("ParseZip(%q) = %+v, which is %q", name, z, again)
			}
		}
	})
}
