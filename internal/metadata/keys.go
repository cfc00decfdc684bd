package metadata

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/rekisteri/rekisteri/internal/openpgp"
)

// An armor is what an armored text holds.
type armor struct {
	keys []Key
	err  error // about keys that are left out
}

// signingKeys returns the keys of a list. If they equal those of the last list,
// it returns the same slice.
func (d *decoder) signingKeys(list *keyListJSON) []Key {
	if list == d.lastList {
		return d.lastKeys
	}
	d.lastList = list
	var keys []Key
	for i := 0; list != nil && i < len(list.Keys); i++ {
		keys = append(keys, d.readKey(&list.Keys[i])...)
	}
	if !slices.Equal(keys, d.lastKeys) {
		d.lastKeys = keys
	}
	return d.lastKeys
}

// readKey returns the keys of an armored text, each in a block of its own,
// since clients read only the first block of a text. If they cannot read that
// one, they fail, even if the next key is the right one.
func (d *decoder) readKey(k *keyJSON) []Key {
	a, ok := d.armors[k.ASCIIArmor]
	if !ok {
		a = readArmor(k.ASCIIArmor)
		d.armors[k.ASCIIArmor] = a
	}
	if a.err != nil {
		d.report(fmt.Sprintf("the signing key %q: %s", k.KeyID, strings.ReplaceAll(a.err.Error(), "\n", "; ")),
			"what cannot be read is left out, since clients would not try the other keys", "export the key again: gpg --armor --export")
	}
	alone := len(a.keys) == 1 && a.err == nil // else key_id and trust_signature are not about one key
	if k.TrustSignature != "" && len(a.keys) > 0 && !alone {
		d.report(fmt.Sprintf("the trust_signature of the signing key %q is over several keys", k.KeyID),
			"it is left out, since Terraform would refuse each of the keys", "give each key an entry of its own")
	}
	keys := slices.Clone(a.keys)
	for i := range keys {
		key := &keys[i]
		key.Source, key.SourceURL = d.intern(k.Source), d.intern(k.SourceURL)
		if alone {
			key.KeyID, key.TrustSignature = cmp.Or(d.intern(k.KeyID), key.KeyID), d.intern(k.TrustSignature)
		}
	}
	return keys
}

func readArmor(text string) (a armor) {
	keys, err := openpgp.ReadKeys([]byte(text))
	for _, key := range keys {
		if key.Armor == text {
			key.Armor = text // share the memory
		}
		a.keys = append(a.keys, Key{KeyID: key.ID, ASCIIArmor: key.Armor})
	}
	a.err = err
	return a
}
