package openpgp_test

import (
	"os"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri/internal/openpgp"
)

func TestReadable(t *testing.T) {
	b, err := os.ReadFile("../../cmd/rekisteri/sample/demo/demo.asc")
	if err != nil {
		t.Fatal(err)
	}
	good := string(b)
	lines := strings.Split(strings.TrimSuffix(good, "\n"), "\n")
	joined := func(sep string) string { return strings.Join(lines, sep) + "\n" }
	const begin, end = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n", "\n-----END PGP PUBLIC KEY BLOCK-----\n"
	for _, test := range []struct {
		name, text string
		want       bool
	}{
		{name: "as GnuPG writes it", text: good, want: true},
		{name: "without a line end", text: strings.TrimSuffix(good, "\n"), want: true},
		{name: "with CRLF", text: joined("\r\n"), want: true},
		{name: "with a header", text: strings.Replace(good, "\n", "\nComment: ACME's key, "+strings.Repeat("long", 50)+"\n", 1), want: true},
		{name: "lines as long as clients accept", text: begin + "\n" + strings.Repeat("A", 96) + end, want: true},
		{name: "text after it", text: good + "and more\n", want: true},
		{name: "empty", text: ""},
		{name: "no armor", text: "no key"},
		{name: "text before it", text: "ACME's key\n\n" + good},
		{name: "blank line before it", text: "\n" + good},
		{name: "byte order mark", text: "\uFEFF" + good},
		{name: "indented", text: "  " + joined("\n  ")},
		{name: "indented after the first line", text: joined("\n  ")},
		{name: "space after the lines", text: joined(" \n")},
		{name: "space after the first line", text: strings.Replace(good, "\n", " \n", 1)},
		{name: "tab after the checksum", text: strings.Replace(good, end, "\t"+end, 1)},
		{name: "long line", text: begin + "\n" + strings.Repeat("A", 97) + end},
		{name: "no blank line after the headers", text: strings.Replace(good, "\n\n", "\n", 1)},
		{name: "no end", text: strings.TrimSuffix(good, end)},
		{name: "only the first line", text: strings.TrimSuffix(begin, "\n")},
		{name: "nothing between", text: begin + strings.TrimPrefix(end, "\n")},
		{name: "signature", text: strings.ReplaceAll(good, "PUBLIC KEY BLOCK", "SIGNATURE")},
		{name: "private key", text: strings.ReplaceAll(good, "PUBLIC", "PRIVATE")},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := openpgp.Readable(test.text); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
