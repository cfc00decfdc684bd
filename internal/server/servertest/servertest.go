// Package servertest runs commands in tests.
package servertest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"testing"
	"time"
)

// A Buffer is an [io.Writer] that may be read while it is written.
type Buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements [io.Writer].
func (b *Buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// String returns what was written.
func (b *Buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// A Server is a command that serves.
type Server struct {
	URL            string // of the registry
	Port           string
	Stdout, Stderr Buffer

	// Stop ends the command, and returns its error.
	Stop func() error
}

// Start runs a command on a free port until the test ends. It fails the test if
// the command fails. Unless args say otherwise, requests that still run when it is
// stopped have little time to end.
func Start(t testing.TB, run func(ctx context.Context, args []string, stdout, stderr io.Writer) error, args ...string) *Server {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	s := new(Server)
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, append([]string{"-addr", "127.0.0.1:0", "-grace", "10ms"}, args...), &s.Stdout, &s.Stderr)
	}()
	s.Stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("the command ended with %v\n%s", err, s.Stderr.String())
		}
	})
	listening := regexp.MustCompile(`msg=listening url=(\S+)`)
	for {
		if m := listening.FindStringSubmatch(s.Stderr.String()); m != nil {
			u, err := url.Parse(m[1])
			if err != nil {
				t.Fatal(err)
			}
			s.URL, s.Port = m[1], u.Port()
			return s
		}
		select {
		case err := <-ended:
			ended <- nil
			t.Fatalf("the command ended with %v\n%s", err, s.Stderr.String())
		case <-time.After(time.Millisecond):
		}
	}
}

// Certificate writes a certificate for localhost, which is its own authority
// and expires at a time, and its key.
func Certificate(t testing.TB, dir string, expires time.Time) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: expires.Add(-48 * time.Hour), NotAfter: expires,
		IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	WriteFile(t, certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	WriteFile(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	return certFile, keyFile
}

// WriteFile writes a file that only its owner can read, and makes its
// directories.
func WriteFile(t testing.TB, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Within waits until ok returns true, and fails the test after a while.
func Within(t testing.TB, limit time.Duration, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it did not happen within %v", limit)
		}
	}
}
