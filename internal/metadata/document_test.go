package metadata_test

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri/internal/metadata"
)

// The keys in the testdata of the package openpgp.
const (
	ed25519ID = "4E1ABAA349B90D7B"
	rsaID     = "6E37763C9448D3C1"
)

func readArmor(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile("../openpgp/testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// quote returns s as JSON.
func quote(s string) string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// signingKeys returns the member for a key. More are members of the key.
func signingKeys(armor, more string) string {
	return `"signing_keys":{"gpg_public_keys":[{` + more + `"ascii_armor":` + quote(armor) + `}]}`
}

// platform returns an entry of platforms for linux_amd64. More are members that
// override its own.
func platform(more string) string {
	return `{"os":"linux","arch":"amd64","filename":"f.zip","download_url":"https://h/f.zip","shasum":"` + strings.Repeat("aB", 32) + `"` + more + `}`
}

// version returns an entry of versions.
func version(version, platforms string) string {
	return `{"version":` + quote(version) + `,"protocols":["5.0"],"platforms":[` + platforms + `]}`
}

// document returns a document in which everything but versions is good.
func document(t testing.TB, versions string) string {
	return `{"shasums_url":"https://h/s","shasums_signature_url":"https://h/g",` + signingKeys(readArmor(t, "ed25519.asc"), "") + `,"versions":[` + versions + `]}`
}

func decode(t testing.TB, text string) *metadata.Document {
	t.Helper()
	doc, err := metadata.Decode([]byte(text))
	if err != nil {
		t.Fatalf("Decode: %v\n%s", err, text)
	}
	return doc
}

func findings(doc *metadata.Document) string {
	var text strings.Builder
	for _, f := range doc.Findings {
		fmt.Fprintf(&text, "%s; %s; %s\n", f.What, f.Effect, f.Fix)
	}
	return text.String()
}

func TestDecode(t *testing.T) {
	want := &metadata.Document{
		Warnings: []string{"moved"},
		Versions: []metadata.Version{
			{Version: "1.0.0", Protocols: []string{"5.0"}, Packages: []metadata.Package{{
				OS: "linux", Arch: "amd64", Filename: "f.zip", URL: "https://h/f.zip", SHASumsURL: "s", SHASumsSignatureURL: "g", SHA256: [32]byte{0: 1, 31: 2},
				Keys: []metadata.Key{{KeyID: ed25519ID, ASCIIArmor: readArmor(t, "ed25519.asc"), TrustSignature: "trust", Source: "Acme", SourceURL: "https://acme"}},
			}}},
		},
	}
	got := decode(t, `{"x":[{}],"warnings":["moved"],"versions":[{"version":"v1","protocols":["5.0"],"y":null,"platforms":[{"z":1,
		"os":"linux","arch":"amd64","filename":"f.zip","download_url":"https://h/f.zip","shasum":"01`+strings.Repeat("0", 60)+`02"}]}],
		`+signingKeys(readArmor(t, "ed25519.asc"), `"trust_signature":"trust","source":"Acme","source_url":"https://acme",`)+`,
		"shasums_url":"s","shasums_signature_url":"g"}`)
	got.Index = nil
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

func TestDecodeErrors(t *testing.T) {
	good := document(t, version("1.0.0", platform("")))
	for name, test := range map[string]struct{ text, want string }{
		"empty":                         {text: "", want: "line 1, column 1: unexpected end of JSON input"},
		"cut":                           {text: good[:len(good)-3], want: "unexpected end of JSON input"},
		"cut before a value":            {text: `{"versions":`, want: "unexpected end of JSON input"},
		"null":                          {text: "null", want: "not a JSON object"},
		"a list":                        {text: "[]", want: "not a JSON object"},
		"a string":                      {text: `"x"`, want: "not a JSON object"},
		"a comma is missing in a list":  {text: "{\n \"versions\":\n [1 2]}", want: "invalid character '2' after array element"},
		"a comma is missing in a map":   {text: `{"a":1 "b":2}`, want: "after object key:value pair"},
		"no member name":                {text: `{1:2}`, want: "invalid character '1'"},
		"a bad escape":                  {text: "{\"versions\":\n[{\"version\":\"\\x\"}]}", want: "line 2, column "},
		"text after the end":            {text: good + "{}", want: "after top-level value"},
		"versions are null":             {text: `{"versions":null}`, want: "versions is not a list"},
		"versions are a map":            {text: `{"versions":{}}`, want: "versions is not a list"},
		"two lists of versions":         {text: `{"versions":[],"versions":[]}`, want: "more than one list of versions"},
		"shasums_url is a number":       {text: `{"shasums_url":5}`, want: "shasums_url cannot be a JSON number"},
		"shasums_signature_url is one":  {text: `{"shasums_signature_url":5}`, want: "shasums_signature_url cannot be a JSON number"},
		"warnings are a string":         {text: `{"warnings":"x"}`, want: "warnings cannot be a JSON string"},
		"a warning is an object":        {text: `{"warnings":[{}]}`, want: "cannot be a JSON object"},
		"signing_keys are a string":     {text: `{"signing_keys":"x"}`, want: "signing_keys cannot be a JSON string"},
		"a key is a number":             {text: `{"signing_keys":{"gpg_public_keys":[1]}}`, want: "cannot be a JSON number"},
		"a key is nothing but a number": {text: `{"signing_keys":{"gpg_public_keys":[{"ascii_armor":1}]}}`, want: "ascii_armor cannot be a JSON number"},
	} {
		t.Run(name, func(t *testing.T) {
			doc, err := metadata.Decode([]byte(test.text))
			if err == nil || !strings.HasPrefix(err.Error(), "it is not a metadata document: ") || !strings.Contains(err.Error(), test.want) {
				t.Errorf("Decode = %+v, %v, want error %q", doc, err, test.want)
			}
		})
	}
}

// TestDecodeWithoutVersions checks that a document without versions is not an error.
func TestDecodeWithoutVersions(t *testing.T) {
	for _, text := range []string{`{}`, `{"versions":[]}`, `{"Versions":[` + version("1.0.0", platform("")) + `]}`, " {\n} \n"} {
		if doc := decode(t, text); len(doc.Versions) > 0 || len(doc.Findings) > 0 {
			t.Errorf("%s: %+v", text, doc)
		}
	}
}

// TestEntries decodes odd entries. None of them affects the others.
func TestEntries(t *testing.T) {
	const good = "9.0.0 linux_amd64"
	for name, test := range map[string]struct {
		versions string
		want     string // versions and platforms, without the good one
		finding  string // part of a finding; if empty, there is none
	}{
		"plain":                   {versions: version("1.0.0", platform("")), want: "1.0.0 linux_amd64"},
		"1.2":                     {versions: version("1.2", platform("")), want: "1.2.0 linux_amd64"},
		"v1.2.0":                  {versions: version("v1.2.0", platform("")), want: "1.2.0 linux_amd64"},
		"build metadata":          {versions: version("1.0.0+1", platform("")) + "," + version("1.0.0+2", platform("")), want: "1.0.0+1 linux_amd64, 1.0.0+2 linux_amd64"},
		"a platform per version":  {versions: version("1.0.0", platform("")) + "," + version("2.0.0", platform(`,"os":"darwin"`)), want: "1.0.0 linux_amd64, 2.0.0 darwin_amd64"},
		"no version":              {versions: version("1.0.0", platform("")) + `,{"platforms":[` + platform("") + `]}`, want: "1.0.0 linux_amd64", finding: `entry 2 of versions: "" is not a semantic version`},
		"latest":                  {versions: version("latest", platform("")), finding: `"latest" is not a semantic version; it is not served, since clients would refuse the whole provider; write the version as in 1.2.3`},
		"1.2.3.4":                 {versions: version("1.2.3.4", platform("")), finding: `"1.2.3.4" is not`},
		"01.2.3":                  {versions: version("01.2.3", platform("")), finding: `"01.2.3" is not`},
		"overflow":                {versions: version("99999999999999999999.0.0", platform("")), finding: `"99999999999999999999.0.0" is not`},
		"the version is a number": {versions: `{"version":1.2,"platforms":[` + platform("") + `]}`, finding: "entry 1 of versions: version cannot be a JSON number; clients get the entry without that value"},
		"null":                    {versions: "null", finding: `entry 1 of versions: "" is not a semantic version`},
		"a list":                  {versions: "[]", finding: "entry 1 of versions: it cannot be a JSON array"},

		"the exact spelling first":   {versions: version("0.5.0", platform("")) + "," + version("0.5", platform(`,"os":"darwin"`)), want: "0.5.0 linux_amd64", finding: `entries 1 and 2 of versions, "0.5.0" and "0.5", are both version 0.5.0; clients get entry 1`},
		"the exact spelling last":    {versions: version("0.5", platform(`,"os":"darwin"`)) + "," + version("0.4.0", platform("")) + "," + version("0.5.0", platform("")), want: "0.4.0 linux_amd64, 0.5.0 linux_amd64", finding: `entries 3 and 1 of versions, "0.5.0" and "0.5", are both version 0.5.0; clients get entry 3`},
		"the exact spelling twice":   {versions: version("0.5.0", platform("")) + "," + version("0.5.0", platform(`,"os":"darwin"`)), want: "0.5.0 linux_amd64", finding: `entries 1 and 2 of versions, "0.5.0" and "0.5.0", are both version 0.5.0; clients get entry 1; remove one of the entries`},
		"two short spellings":        {versions: version("1.2", platform("")) + "," + version("v1.2.0", platform(`,"os":"darwin"`)), want: "1.2.0 linux_amd64", finding: `"1.2" and "v1.2.0", are both version 1.2.0; clients get entry 1`},
		"an unusable exact spelling": {versions: version("0.5.0", "") + "," + version("0.5", platform("")), want: "0.5.0 linux_amd64", finding: "version 0.5.0 has no platform that can be served"},

		"repeated members":           {versions: `{"protocols":["x"],"platforms":[{}],` + version("1.0.0", platform(""))[1:], want: "1.0.0 linux_amd64"},
		"a protocol is a number":     {versions: `{"version":"1.0.0","protocols":[5,"5.0","v6"],"platforms":[` + platform("") + `]}`, want: "1.0.0 linux_amd64", finding: `version 1.0.0: the protocol "v6" is not a version number; it is left out`},
		"one bad protocol, twice":    {versions: `{"version":"1.0.0","protocols":["x","5.0","x"],"platforms":[` + platform("") + `]}`, want: "1.0.0 linux_amd64", finding: `the protocol "x" is not`},
		"no protocols":               {versions: `{"version":"1.0.0","platforms":[` + platform("") + `]}`, want: "1.0.0 linux_amd64"},
		"no platforms":               {versions: `{"version":"1.0.0"}`, finding: "version 1.0.0 has no platform that can be served; it is not served"},
		"platforms are a string":     {versions: `{"version":"1.0.0","platforms":"x"}`, finding: "entry 1 of versions: platforms cannot be a JSON string"},
		"a platform is null":         {versions: version("1.0.0", "null,"+platform("")), want: "1.0.0 linux_amd64", finding: "version 1.0.0, entry 1 of platforms: "},
		"a platform is a number":     {versions: version("1.0.0", "1,"+platform("")), want: "1.0.0 linux_amd64", finding: "version 1.0.0, entry 1 of platforms: "},
		"a number for a URL":         {versions: version("1.0.0", platform(`,"shasums_url":1`)), want: "1.0.0 linux_amd64", finding: "entry 1 of versions: shasums_url cannot be a JSON number"},
		"a platform in upper case":   {versions: version("1.0.0", platform(`,"os":"Linux"`)+","+platform("")), want: "1.0.0 linux_amd64", finding: `"Linux" "amd64" is not in lower-case`},
		"a platform twice":           {versions: version("1.0.0", platform("")+","+platform("")), want: "1.0.0 linux_amd64", finding: "entry 2 of platforms: linux_amd64 is listed twice"},
		"a short shasum":             {versions: version("1.0.0", platform(`,"shasum":"abc"`)+","+platform("")), want: "1.0.0 linux_amd64", finding: "64 hexadecimal digits"},
		"a long shasum":              {versions: version("1.0.0", platform(`,"shasum":"`+strings.Repeat("a", 66)+`"`)), finding: "64 hexadecimal digits"},
		"a shasum that is not hex":   {versions: version("1.0.0", platform(`,"shasum":"`+strings.Repeat("x", 64)+`"`)), finding: "64 hexadecimal digits"},
		"no file name":               {versions: version("1.0.0", platform(`,"filename":""`)), finding: "file name"},
		"a space in a file name":     {versions: version("1.0.0", platform(`,"filename":"a b.zip"`)), finding: "file name"},
		"a wide space in one":        {versions: version("1.0.0", platform(`,"filename":"a\u2003b.zip"`)), finding: "file name"},
		"a control character in one": {versions: version("1.0.0", platform(`,"filename":"a\u007fb.zip"`)), finding: "file name"},
		"a backslash in one":         {versions: version("1.0.0", platform(`,"filename":"a\\b.zip"`)), finding: "file name"},
		"another script in one":      {versions: version("1.0.0", platform(`,"filename":"ä.zip"`)), want: "1.0.0 linux_amd64"},
		"no download URL":            {versions: version("1.0.0", platform(`,"download_url":""`)), finding: "the download_url is missing"},
		"another scheme":             {versions: version("1.0.0", platform(`,"download_url":"file:///etc/passwd"`)), finding: "the download_url is not an http or https URL"},
		"another scheme for sums":    {versions: version("1.0.0", platform("")+","+platform(`,"os":"b","shasums_url":"s3://x"`)), want: "1.0.0 linux_amd64", finding: "the shasums_url is not"},
		"keys are a string":          {versions: version("1.0.0", platform(`,"signing_keys":"x"`)), want: "1.0.0 linux_amd64", finding: "entry 1 of versions: signing_keys cannot be a JSON string"},
		"keys are a string, twice":   {versions: version("1.0.0", platform(`,"signing_keys":"x"`)) + "," + version("2.0.0", platform(`,"signing_keys":"x"`)), want: "1.0.0 linux_amd64, 2.0.0 linux_amd64", finding: "entry 2 of versions: signing_keys cannot be a JSON string"},
		"a key that cannot be read":  {versions: version("1.0.0", platform(`,"signing_keys":{"gpg_public_keys":[{"key_id":"X","ascii_armor":"none"},null]}`)), want: "1.0.0 linux_amd64", finding: `the signing key "X": no armored public key block; what cannot be read is left out, since clients`},
	} {
		t.Run(name, func(t *testing.T) {
			doc := decode(t, document(t, test.versions+","+version("9.0.0", platform(""))))
			var got []string
			for _, v := range doc.Versions {
				s := v.Version
				for _, pkg := range v.Packages {
					s += " " + pkg.OS + "_" + pkg.Arch
					if fmt.Sprintf("%x", pkg.SHA256) != strings.Repeat("ab", 32) {
						t.Errorf("%s: SHA256 = %x", s, pkg.SHA256)
					}
				}
				got = append(got, s)
			}
			want := []string{good}
			if test.want != "" {
				want = append(strings.Split(test.want, ", "), good)
			}
			if !slices.Equal(got, want) {
				t.Errorf("versions %q, want %q", got, want)
			}
			if text := findings(doc); test.finding == "" && text != "" || !strings.Contains(text, test.finding) {
				t.Errorf("findings\n%swant %q", text, test.finding)
			}
			seen := make(map[metadata.Finding]bool)
			for _, f := range doc.Findings {
				if seen[f] {
					t.Errorf("found twice: %+v", f)
				}
				seen[f] = true
			}
		})
	}
}

// TestInheritance checks that a platform inherits from its version first, and then
// from the document.
func TestInheritance(t *testing.T) {
	armor := readArmor(t, "ed25519.asc")
	keys := func(id string) string { return signingKeys(armor, `"key_id":"`+id+`",`) }
	on := func(os, more string) string { return platform(`,"os":"` + os + `"` + more) }
	shared := `"shasums_url":"doc","shasums_signature_url":"docsig",` + signingKeys(armor, "")
	versions := `"versions":[
		{"version":"2.0.0","protocols":["6.0"],"shasums_url":"ver",` + keys("VER") + `,"platforms":[` +
		on("a", "") + `,` +
		on("b", `,"shasums_url":"pkg",`+keys("PKG")) + `,` +
		on("c", `,"signing_keys":{"gpg_public_keys":[]}`) + `,` +
		on("d", `,"signing_keys":"x"`) + `,` +
		on("e", `,"signing_keys":null,"shasums_url":null`) + `,` +
		on("f", `,"signing_keys":{}`) + `]},
		{"version":"1.0.0","protocols":["5.0"],"platforms":[` + on("a", "") + `]}]`
	want := `2.0.0 [6.0] a ver docsig VER
2.0.0 [6.0] b pkg docsig PKG
2.0.0 [6.0] c ver docsig
2.0.0 [6.0] d ver docsig
2.0.0 [6.0] e ver docsig VER
2.0.0 [6.0] f ver docsig
1.0.0 [5.0] a doc docsig ` + ed25519ID + "\n"
	for name, text := range map[string]string{
		"before the versions": "{" + shared + "," + versions + "}",
		"behind the versions": "{" + versions + "," + shared + "}",
		"repeated":            `{"shasums_url":"x",` + keys("X") + "," + versions + "," + shared + "}",
	} {
		t.Run(name, func(t *testing.T) {
			var got strings.Builder
			for _, v := range decode(t, text).Versions {
				for _, pkg := range v.Packages {
					fmt.Fprintf(&got, "%s %v %s %s %s", v.Version, v.Protocols, pkg.OS, pkg.SHASumsURL, pkg.SHASumsSignatureURL)
					for _, k := range pkg.Keys {
						got.WriteString(" " + k.KeyID)
					}
					got.WriteString("\n")
				}
			}
			if got.String() != want {
				t.Errorf("got\n%swant\n%s", got.String(), want)
			}
		})
	}
}

// TestRepeatedMembers checks that the last of repeated members counts.
func TestRepeatedMembers(t *testing.T) {
	text := strings.Replace(document(t, version("1.0.0", platform(""))), "{", `{"warnings":["a","b"],"shasums_url":"x",`, 1)
	text = strings.TrimSuffix(text, "}") + `,"signing_keys":{"gpg_public_keys":[]},"warnings":[null]}`
	doc := decode(t, text)
	if pkg := doc.Versions[0].Packages[0]; !slices.Equal(doc.Warnings, []string{""}) || len(pkg.Keys) > 0 || pkg.SHASumsURL != "https://h/s" {
		t.Errorf("got %+v", doc)
	}
}

// TestMissingURLs checks that a package needs the URLs of SHA256SUMS and its
// signature.
func TestMissingURLs(t *testing.T) {
	const sums, signature = `"shasums_url":"https://h/s",`, `"shasums_signature_url":"https://h/g",`
	for _, test := range []struct{ missing, want string }{
		{missing: sums, want: "the shasums_url is missing"},
		{missing: signature, want: "the shasums_signature_url is missing"},
		{missing: sums + signature, want: "the shasums_url is missing"},
	} {
		doc := decode(t, strings.Replace(document(t, version("1.0.0", platform(""))+","+version("2.0.0", platform(""))), test.missing, "", 1))
		if len(doc.Versions) > 0 {
			t.Errorf("without %s: %+v", test.missing, doc.Versions)
		}
		if text := findings(doc); !strings.Contains(text, "version 2.0.0, entry 1 of platforms: "+test.want) {
			t.Errorf("without %s: findings\n%s", test.missing, text)
		}
	}
}

// TestNotInstallable checks the findings about versions that are served although
// clients refuse them.
func TestNotInstallable(t *testing.T) {
	many := make([]string, 7)
	for i := range many {
		many[i] = version(fmt.Sprintf("1.%d.0", i), platform(""))
	}
	good, seven := document(t, many[0]), document(t, strings.Join(many, ","))
	keys := signingKeys(readArmor(t, "ed25519.asc"), "")
	for name, test := range map[string]struct{ text, want string }{
		"no keys":         {text: strings.Replace(good, keys, `"x":1`, 1), want: "there is no signing key for version 1.0.0; clients refuse to install it; add signing_keys\n"},
		"an empty list":   {text: strings.Replace(good, keys, `"signing_keys":{"gpg_public_keys":[]}`, 1), want: "there is no signing key for version 1.0.0; clients refuse to install it; add signing_keys\n"},
		"five versions":   {text: strings.Replace(document(t, strings.Join(many[:5], ",")), keys, `"x":1`, 1), want: "there is no signing key for version 1.0.0, 1.1.0, 1.2.0, 1.3.0, 1.4.0; clients refuse to install it; add signing_keys\n"},
		"seven versions":  {text: strings.Replace(seven, keys, `"x":1`, 1), want: "there is no signing key for version 1.0.0, 1.1.0, 1.2.0, 1.3.0, 1.4.0 and 2 more; clients refuse to install it; add signing_keys\n"},
		"protocol 4":      {text: strings.Replace(good, "5.0", "4.0", 1), want: "there is neither protocol 5 nor 6 in version 1.0.0; clients refuse to install it; publish a newer version\n"},
		"protocols 4, 6":  {text: strings.Replace(good, `"5.0"`, `"4.0","6.0"`, 1)},
		"no protocols":    {text: strings.Replace(good, `"5.0"`, ``, 1)},
		"nothing unusual": {text: good},
	} {
		t.Run(name, func(t *testing.T) {
			doc := decode(t, test.text)
			if got := findings(doc); got != test.want || len(doc.Versions) == 0 {
				t.Errorf("findings\n%swant\n%s", got, test.want)
			}
		})
	}
}

// TestArmor checks that each key is in a block of its own that clients can read.
func TestArmor(t *testing.T) {
	rsa, ed25519 := readArmor(t, "rsa.asc"), readArmor(t, "ed25519.asc")
	head, data, _ := strings.Cut(ed25519, "\n\n")
	body, sum, _ := strings.Cut(data, "\n=")
	for name, test := range map[string]struct {
		armor   string
		want    []string // IDs
		id      string   // the explicit one, of a document that has one
		finding string
	}{
		"plain":              {armor: ed25519, want: []string{ed25519ID}, id: "X"},
		"indented":           {armor: "  " + strings.ReplaceAll(ed25519, "\n", "\n  "), want: []string{ed25519ID}, id: "X"},
		"trailing spaces":    {armor: strings.ReplaceAll(ed25519, "\n", " \n"), want: []string{ed25519ID}, id: "X"},
		"CRLF":               {armor: strings.ReplaceAll(ed25519, "\n", "\r\n"), want: []string{ed25519ID}, id: "X"},
		"a long line":        {armor: head + "\n\n" + strings.ReplaceAll(body, "\n", "") + "\n=" + sum, want: []string{ed25519ID}, id: "X"},
		"prose":              {armor: "The key of ACME:\n\n" + ed25519 + "\nas of 2026\n", want: []string{ed25519ID}, id: "X"},
		"a byte order mark":  {armor: "\uFEFF" + ed25519, want: []string{ed25519ID}, id: "X"},
		"two blocks":         {armor: rsa + ed25519, want: []string{rsaID, ed25519ID}},
		"two keys":           {armor: readArmor(t, "pair.asc"), want: []string{rsaID, ed25519ID}},
		"a broken block too": {armor: "-----BEGIN PGP MESSAGE-----\n\n-----END PGP MESSAGE-----\n" + ed25519, want: []string{ed25519ID}, finding: `the signing key "X": line 1: armor of type`},
		"a cut block":        {armor: ed25519[:200], finding: `the signing key "X": line 1: armor has no end line`},
		"none":               {armor: "", finding: `the signing key "X": no armored public key block`},
		"two errors":         {armor: strings.Repeat("-----END PGP MESSAGE-----\n", 2), finding: `"X": line 1: armor has no begin line; line 2: armor has no begin line;`},
	} {
		t.Run(name, func(t *testing.T) {
			for _, explicit := range []string{"", "X"} {
				more := ""
				if explicit != "" {
					more = `"key_id":"X",`
				}
				doc := decode(t, strings.Replace(document(t, version("1.0.0", platform(""))), signingKeys(ed25519, ""), signingKeys(test.armor, more+`"source":"S",`), 1))
				var want []metadata.Key
				for _, id := range test.want {
					k := metadata.Key{KeyID: id, ASCIIArmor: map[string]string{rsaID: rsa, ed25519ID: ed25519}[id], Source: "S"}
					if explicit != "" && test.id != "" {
						k.KeyID = test.id
					}
					want = append(want, k)
				}
				if got := doc.Versions[0].Packages[0].Keys; !slices.Equal(got, want) {
					t.Errorf("with key_id %q: keys\n%+v\nwant\n%+v", explicit, got, want)
				}
				if text := findings(doc); explicit != "" && (test.finding == "" && text != "" || !strings.Contains(text, test.finding)) {
					t.Errorf("findings\n%swant %q", text, test.finding)
				}
			}
		})
	}
}

// TestTrustSignature checks that a trust signature is left out if the block held
// several keys. Terraform verifies it over the whole block.
func TestTrustSignature(t *testing.T) {
	const trust = `"trust_signature":"trust",`
	for name, test := range map[string]struct {
		armor, want, finding string
	}{
		"one key":  {armor: readArmor(t, "ed25519.asc"), want: "trust"},
		"two keys": {armor: readArmor(t, "pair.asc"), finding: "the trust_signature of the signing key"},
		"no key":   {armor: "none", finding: "no armored public key block"},
	} {
		t.Run(name, func(t *testing.T) {
			doc := decode(t, document(t, version("1.0.0", platform(","+signingKeys(test.armor, trust)))))
			for _, k := range doc.Versions[0].Packages[0].Keys {
				if k.TrustSignature != test.want {
					t.Errorf("TrustSignature = %q, want %q", k.TrustSignature, test.want)
				}
			}
			text := findings(doc)
			if test.finding == "" && text != "" || !strings.Contains(text, test.finding) || strings.Contains(text, "trust_signature") != (name == "two keys") {
				t.Errorf("findings\n%swant %q", text, test.finding)
			}
		})
	}
}

// TestKeysAreShared checks that equal lists of keys are one slice.
func TestKeysAreShared(t *testing.T) {
	armor := readArmor(t, "ed25519.asc")
	same := "," + signingKeys(armor, "")
	doc := decode(t, document(t, version("1.0.0", platform(same)+","+platform(same+`,"os":"b"`))+","+version("2.0.0", platform(same)+","+platform(`,"os":"b",`+signingKeys(armor, `"source":"S",`)))))
	first := doc.Versions[0].Packages[0].Keys
	for _, v := range doc.Versions {
		for _, pkg := range v.Packages {
			switch {
			case pkg.Keys[0].Source == "S":
			case &pkg.Keys[0] != &first[0]:
				t.Errorf("%s %s has a copy of the keys", v.Version, pkg.OS)
			}
		}
	}
}
