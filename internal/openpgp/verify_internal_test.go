package openpgp

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/binary"
	"testing"
)

func TestCanonicalText(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{text: "", want: ""},
		{text: "a", want: "a"},
		{text: "\n", want: "\r\n"},
		{text: "a\n\nb", want: "a\r\n\r\nb"},
		{text: "a\r\n", want: "a\r\n"},
		{text: "a\rb\n", want: "a\rb\r\n"},
		{text: "a\r\r\n", want: "a\r\r\r\n"},
		{text: "a\r\r\r\n", want: "a\r\r\r\n"},
		{text: "a\r\n\n", want: "a\r\n\r\n"},
		{text: " \t\n", want: " \t\r\n"},
	} {
		if got := string(canonicalText([]byte(tt.text))); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.text, got, tt.want)
		}
	}
}

// The number in an RSA signature is shorter than its key if it begins with zeros.
func TestShortRSASignature(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	v := verifier{algo: algoRSA, public: &key.PublicKey}
	s := signature{version: 4, algo: algoRSA, hash: 8}
	for n := uint32(0); len(s.r) == 0 || s.r[0] != 0; n++ {
		s.hashed = binary.BigEndian.AppendUint32(nil, n)
		h := crypto.SHA256.New()
		h.Write(s.hashed)
		h.Write([]byte{4, 0xFF, 0, 0, 0, byte(len(s.hashed))})
		if s.r, err = rsa.SignPKCS1v15(nil, key, crypto.SHA256, h.Sum(nil)); err != nil {
			t.Fatal(err)
		}
	}
	if v.refutes(&s) {
		t.Error("refutes the signature with its zeros")
	}
	s.r = bytes.TrimLeft(s.r, "\x00")
	if v.refutes(&s) {
		t.Error("refutes the signature without its zeros")
	}
	s.r = append([]byte{0}, s.r...)
	s.r = append(make([]byte, 128), s.r...)
	if !v.refutes(&s) {
		t.Error("accepts a signature with too many zeros")
	}
}
