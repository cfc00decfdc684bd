// Package oracle compares package openpgp with github.com/ProtonMail/go-crypto, the OpenPGP of
// Terraform and OpenTofu. It is a module of its own so that the registry does not depend on
// go-crypto, and it holds nothing but tests.
package oracle

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	client "github.com/ProtonMail/go-crypto/openpgp"
	clienterrors "github.com/ProtonMail/go-crypto/openpgp/errors"
	"github.com/ProtonMail/go-crypto/openpgp/packet"

	"github.com/rekisteri/rekisteri/internal/openpgp"
)

// A class is a verdict on a signature.
type class string

const (
	accepted         class = "accepted"
	unreadableKey    class = "unreadable key"
	unreadable       class = "unreadable signature"
	unknownKey       class = "unknown key"
	revokedKey       class = "revoked key"
	expiredKey       class = "expired key"
	expiredSignature class = "expired signature"
	badSignature     class = "bad signature"
	future           class = "future"       // here only: clients call it an expired key or signature
	unverifiable     class = "unverifiable" // here only
	crashed          class = "crashed"      // clients only
)

// A judge gives both verdicts. It remembers the keys that it has read, since most tests change
// a signature many times.
type judge struct {
	keys  map[string]keysRead
	rings map[string]ringRead
}

type keysRead struct {
	ring *openpgp.Keyring
	err  error
}

type ringRead struct {
	ring client.EntityList
	err  error
}

func newJudge() *judge {
	return &judge{keys: make(map[string]keysRead), rings: make(map[string]ringRead)}
}

func (j *judge) readKeys(text string) (*openpgp.Keyring, error) {
	read, ok := j.keys[text]
	if !ok {
		var keys []openpgp.Key
		keys, read.err = openpgp.ReadKeys([]byte(text))
		read.ring = openpgp.NewKeyring([]openpgp.KeyFile{{Path: "key.asc", Keys: keys}})
		j.keys[text] = read
	}
	return read.ring, read.err
}

func (j *judge) readRing(armor string) (client.EntityList, error) {
	read, ok := j.rings[armor]
	if !ok {
		read.ring, read.err = client.ReadArmoredKeyRing(strings.NewReader(armor))
		j.rings[armor] = read
	}
	return read.ring, read.err
}

// installs returns the verdict of a client that installs a release: it tries each armored key
// in turn, and stops at the first that the signature names. It does what findSigningKey does in
// Terraform and OpenTofu, internal/getproviders/package_authentication.go, but at a given time.
func (j *judge) installs(armors []string, document, sig []byte, now time.Time) (verdict class, err error) {
	defer func() {
		if r := recover(); r != nil {
			verdict, err = crashed, fmt.Errorf("panic: %v", r)
		}
	}()
	config := &packet.Config{Time: func() time.Time { return now }}
	for _, armor := range armors {
		ring, err := j.readRing(armor)
		if err != nil {
			return unreadableKey, err
		}
		_, err = client.CheckDetachedSignature(ring, bytes.NewReader(document), bytes.NewReader(sig), config)
		_, isSignature := errors.AsType[clienterrors.SignatureError](err)
		_, isArgument := errors.AsType[clienterrors.InvalidArgumentError](err)
		switch {
		case err == nil:
			return accepted, nil
		case err == clienterrors.ErrUnknownIssuer:
			continue
		case err == clienterrors.ErrKeyRevoked:
			return revokedKey, err
		case err == clienterrors.ErrKeyExpired:
			return expiredKey, err
		case err == clienterrors.ErrSignatureExpired:
			return expiredSignature, err
		case isSignature || isArgument:
			return badSignature, err
		}
		return unreadable, err
	}
	return unknownKey, clienterrors.ErrUnknownIssuer
}

// verifies returns the verdict of package openpgp, and the armored keys in the order in which
// the registry serves them.
func (j *judge) verifies(text string, document, sig []byte, now time.Time) (verdict class, armors []string, err error) {
	ring, keysErr := j.readKeys(text)
	key, err := ring.Verify(document, sig, now)
	for _, k := range ring.Order(key) {
		armors = append(armors, k.Armor)
	}
	switch {
	case err == nil:
		return accepted, armors, nil
	case errors.Is(err, openpgp.ErrUnknownKey) && keysErr != nil:
		return unreadableKey, armors, keysErr
	case errors.Is(err, openpgp.ErrUnknownKey):
		return unknownKey, armors, err
	case errors.Is(err, openpgp.ErrRevokedKey):
		return revokedKey, armors, err
	case errors.Is(err, openpgp.ErrExpiredKey):
		return expiredKey, armors, err
	case errors.Is(err, openpgp.ErrExpiredSignature):
		return expiredSignature, armors, err
	case errors.Is(err, openpgp.ErrFuture):
		return future, armors, err
	case errors.Is(err, openpgp.ErrBadSignature):
		return badSignature, armors, err
	case errors.Is(err, openpgp.ErrUnverifiable):
		return unverifiable, armors, err
	}
	return unreadable, armors, err
}

// compare compares the verdicts on a signature by a key that is in text, and reports whether
// both accept it. beyond says that the key has an algorithm that the standard library lacks, so
// that package openpgp verifies nothing of it.
func (j *judge) compare(t testing.TB, name string, text, document, sig []byte, now time.Time, beyond bool) bool {
	t.Helper()
	ours, armors, err := j.verifies(string(text), document, sig, now)
	theirs, clientErr := j.installs(armors, document, sig, now)
	raw, rawErr := j.installs([]string{string(text)}, document, sig, now)
	fail := func(what string) {
		t.Helper()
		t.Errorf("%s: %s\n      here: %s (%v)\n   clients: %s (%v)\nas written: %s (%v)\n%s%x",
			name, what, ours, err, theirs, clientErr, raw, rawErr, text, sig)
	}
	switch {
	case ours == accepted && theirs != accepted:
		fail("accepted here and refused by clients")
	case theirs == unreadableKey && !beyond:
		fail("clients cannot read a key that is served")
	case ours == accepted || theirs != accepted && raw != accepted || ours == unverifiable && beyond:
	case (ours == unreadableKey || ours == unreadable) && tolerated(err), ours == unreadable && j.damagedAround(text, document, sig, now):
	case ours == revokedKey && theirs == revokedKey && twice(text): // the revoked copy is served, clients also have the other
	case theirs == accepted:
		fail("refused here and accepted by clients")
	default:
		fail("refused here and accepted by clients as written")
	}
	return ours == accepted && theirs == accepted
}

// twice reports whether text holds two copies of a key.
func twice(text []byte) bool {
	keys, _ := openpgp.ReadKeys(text)
	return len(keys) == 2 && keys[0].Fingerprint == keys[1].Fingerprint
}

// damagedAround reports whether a packet of sig is accepted without the others. Clients read
// no further than the first signature by a known key. Package openpgp reads all, since clients
// that know another key would stop somewhere else.
func (j *judge) damagedAround(text, document, sig []byte, now time.Time) bool {
	for start, first := range sig {
		if first != 0x88 && first != 0x89 && first != 0xC2 { // how the fixtures begin a signature
			continue
		}
		for _, size := range packetSizes(sig[start:]) {
			verdict, _, _ := j.verifies(string(text), document, sig[start:start+size], now)
			if verdict == accepted || verdict == unverifiable {
				return true
			}
		}
	}
	return false
}

// packetSizes returns the sizes that the packet at the front of b may have.
func packetSizes(b []byte) (sizes []int) {
	if len(b) < 3 {
		return nil
	}
	for _, size := range []int{
		2 + int(b[1]),
		3 + int(b[1])<<8 + int(b[2]),
		3 + int(b[1])<<8 + int(b[2]) - 192<<8 + 192,
	} {
		if 0 < size && size <= len(b) {
			sizes = append(sizes, size)
		}
	}
	return sizes
}

// tolerated reports whether package openpgp may refuse what clients accept for the reason err.
// Every reason is damage that no program is known to write.
func tolerated(err error) bool {
	return containsAny(err,
		// Clients read the fields of a packet, whatever its length says, and go on behind them.
		"packet longer than its block",
		"packet of indeterminate length",
		"packet of partial length",
		"where a packet should begin",
		"where a public key should begin",
		"has bytes after its last field",
		// Clients ignore the size of the fields of a version 6 key.
		"key packet is cut short",
		// Clients skip a signature with an unknown subpacket before they see what else is wrong.
		"signature packet is cut short",
		"signature without a creation time",
		// Clients take the last of two issuers.
		"signature names two issuers",
		// Clients skip a subkey that they do not know, and some packets of other kinds. They take
		// the signatures on it for signatures on the packet before it, and often refuse the key.
		"which clients do not know",
		"unknown key version",
		"which does not belong in a key",
	)
}

func containsAny(err error, texts ...string) bool {
	return slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(err.Error(), s) })
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
