package rekisteritest

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/release"
)

func TestSignatureFault(t *testing.T) {
	content := Contents()[rekisteri.Provider{Namespace: "acme", Type: "foo-bar"}]
	files := content.Files["1.1.0"]
	sums, signature := files[release.SumsName("foo-bar", "1.1.0")], files[release.SignatureName("foo-bar", "1.1.0")]
	keys := content.Releases["1.1.0"].Packages[0].SigningKeys // the first made the signature
	other := slices.Clone(keys)
	slices.Reverse(other)
	unreadable := []rekisteri.SigningKey{{KeyID: keys[0].KeyID, ASCIIArmor: "no key"}, keys[0]}
	tests := map[string]struct {
		sums []byte
		keys []rekisteri.SigningKey
		want string // a part of the fault
	}{
		"good":                    {sums: sums, keys: keys},
		"signing key comes last":  {sums: sums, keys: other},
		"unreadable key first":    {sums: sums, keys: unreadable}, // checkKeys reports it
		"no keys":                 {sums: sums, want: "does not have the key " + keys[0].KeyID},
		"only another key":        {sums: sums, keys: other[:1], want: "does not have the key " + keys[0].KeyID},
		"signature of other sums": {sums: bytes.ToUpper(sums), keys: keys, want: "has a signature that clients reject: the signature does not match"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			got := signatureFault(servedPackage{
				Package: &rekisteri.Package{SigningKeys: test.keys}, sums: test.sums, signature: signature,
			})
			if !strings.Contains(got, test.want) || (got == "") != (test.want == "") {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
