package oracle

import (
	"bytes"
	"crypto"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	client "github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/armor"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Keys and signatures that go-crypto makes: those that GnuPG does not know are among them.
func TestGenerated(t *testing.T) {
	made := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	now := made.AddDate(0, 1, 0)
	hashes := []crypto.Hash{crypto.SHA224, crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA3_256, crypto.SHA3_512}
	for _, tt := range []struct {
		name   string
		config packet.Config
		beyond bool
	}{
		{name: "RSA", config: packet.Config{Algorithm: packet.PubKeyAlgoRSA, RSABits: 2048}},
		{name: "RSA of version 6", config: packet.Config{Algorithm: packet.PubKeyAlgoRSA, RSABits: 2048, V6Keys: true}},
		{name: "EdDSA", config: packet.Config{Algorithm: packet.PubKeyAlgoEdDSA}},
		{name: "Ed25519 of version 4", config: packet.Config{Algorithm: packet.PubKeyAlgoEd25519}},
		{name: "Ed25519 of version 6", config: packet.Config{Algorithm: packet.PubKeyAlgoEd25519, V6Keys: true}},
		{name: "Ed448", config: packet.Config{Algorithm: packet.PubKeyAlgoEd448, V6Keys: true}, beyond: true},
		{name: "P-256", config: packet.Config{Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveNistP256}},
		{name: "P-256 of version 6", config: packet.Config{Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveNistP256, V6Keys: true}},
		{name: "P-384", config: packet.Config{Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveNistP384}},
		{name: "P-521", config: packet.Config{Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveNistP521}},
		{name: "P-521 of version 6", config: packet.Config{Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveNistP521, V6Keys: true}},
		{name: "brainpoolP384", config: packet.Config{Algorithm: packet.PubKeyAlgoECDSA, Curve: packet.CurveBrainpoolP384}, beyond: true},
	} {
		for _, subkey := range []bool{false, true} {
			tt.config.Time = func() time.Time { return made }
			e, err := client.NewEntity("generated", "", "generated@example.com", &tt.config)
			if err != nil {
				t.Fatalf("%s: %v", tt.name, err)
			}
			if subkey {
				if err := e.AddSigningSubkey(&tt.config); err != nil {
					t.Fatalf("%s: %v", tt.name, err)
				}
			}
			text := serialize(t, e)
			document := []byte("one\ntwo \r\nthree\r\r\nfour")
			j := newJudge()
			for _, hash := range hashes {
				for _, textMode := range []bool{false, true} {
					name := fmt.Sprintf("%s, subkey %v, %v, text %v", tt.name, subkey, hash, textMode)
					tt.config.DefaultHash = hash
					var sig bytes.Buffer
					sign := client.DetachSign
					if textMode {
						sign = client.DetachSignText
					}
					if err := sign(&sig, e, bytes.NewReader(document), &tt.config); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
					if ok := j.compare(t, name, text, document, sig.Bytes(), now, tt.beyond); ok == tt.beyond {
						_, _, err := j.verifies(string(text), document, sig.Bytes(), now)
						t.Errorf("%s: accepted by both: %v (%v)", name, ok, err)
					}
					r := rand.New(rand.NewPCG(2, uint64(hash)))
					for i := range 5 {
						j.compare(t, fmt.Sprintf("%s, mutation %d", name, i), text, document, mutate(r, sig.Bytes()), now, tt.beyond)
					}
				}
			}
		}
	}
}

func serialize(t testing.TB, e *client.Entity) []byte {
	t.Helper()
	var b strings.Builder
	w, err := armor.Encode(&b, client.PublicKeyType, nil)
	if err == nil {
		err = e.Serialize(w)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return []byte(b.String())
}
