package rekisteritest

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/openpgp"
)

func checkKeys(t *tester) {
	checked := make(map[rekisteri.SigningKey][]string) // many packages have the same keys
	for pkg := range t.packages() {
		for _, key := range pkg.SigningKeys {
			faults, ok := checked[key]
			if !ok {
				faults = keyFaults(key)
				checked[key] = faults
			}
			for _, fault := range faults {
				t.failf("%s has the signing key %q, which %s", pkg.call, key.KeyID, fault)
			}
		}
	}
}

// keyFaults describes what is wrong with a key.
func keyFaults(key rekisteri.SigningKey) []string {
	var faults []string
	if key.TrustSignature != "" {
		faults = append(faults, "has a trust signature, but none was loaded")
	}
	// Clients read both kinds of line ends, and ignore empty lines around a block.
	armor := strings.Trim(strings.ReplaceAll(key.ASCIIArmor, "\r\n", "\n"), "\n") + "\n"
	switch keys, err := openpgp.ReadKeys([]byte(armor)); {
	case err != nil:
		faults = append(faults, fmt.Sprintf("cannot be read: %v", err))
	case len(keys) > 1:
		faults = append(faults, fmt.Sprintf("holds %d keys: return one signing key for each", len(keys)))
	default:
		if armor != keys[0].Armor {
			faults = append(faults, armorFault(armor))
		}
		if key.KeyID != keys[0].ID {
			faults = append(faults, "has the ID "+keys[0].ID)
		}
	}
	return faults
}

// armorFault describes why clients may fail to read a block in bad form.
func armorFault(text string) string {
	switch trimmed := strings.TrimSpace(text); {
	case !strings.HasPrefix(trimmed, "-----BEGIN"):
		return "has text before the armored block"
	case !strings.HasSuffix(trimmed, "-----"):
		return "has text after the armored block"
	}
	for i, line := range strings.Split(text, "\n") {
		switch {
		case line != strings.TrimSpace(line):
			return fmt.Sprintf("has white space around line %d of its armor", i+1)
		case len(line) > 76:
			return fmt.Sprintf("has more than 76 characters in line %d of its armor", i+1)
		}
	}
	return "is not armored as GnuPG does it"
}

func checkSignatures(t *tester) {
	var last servedPackage
	for pkg := range t.packages() {
		if pkg.call == last.call && slices.Equal(pkg.SigningKeys, last.SigningKeys) {
			continue // the packages of a release have one signature
		}
		if fault := signatureFault(pkg); fault != "" {
			t.failf("%s %s", pkg.call, fault)
		}
		last = pkg
	}
}

// signatureFault tries a package's keys in order, as clients do, and describes
// why they reject the signature.
func signatureFault(pkg servedPackage) string {
	signed, err := openpgp.ReadSignatures(pkg.signature)
	if err != nil {
		panic(err) // the signature is one of this package
	}
	// The keys do not expire. At the time of the signature, the result does not
	// depend on the clock of this machine.
	now := signed[0].Created
	for _, key := range pkg.SigningKeys {
		keys, err := openpgp.ReadKeys([]byte(key.ASCIIArmor))
		if err != nil {
			return "" // checkKeys reports it
		}
		ring := openpgp.NewKeyring([]openpgp.KeyFile{{Keys: keys}})
		_, err = ring.Verify(pkg.sums, pkg.signature, now)
		if err == nil {
			return ""
		}
		if !errors.Is(err, openpgp.ErrUnknownKey) { // clients try the next key
			return fmt.Sprintf("has a signature that clients reject: %v", err)
		}
	}
	return fmt.Sprintf("does not have the key %s, which made the signature", signed[0].Issuer)
}
