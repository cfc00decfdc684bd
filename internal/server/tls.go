package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"time"

	"github.com/rekisteri/rekisteri/internal/refresh"
)

// A certificate is a TLS certificate and its key, in files that may change.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	stat              func(name string) (fs.FileInfo, error)
	pair              *refresh.Value[*keyPair]

	// Used by load only, of which one runs at a time.
	failed  string // the last error that was logged, until the files are good again
	expired bool   // it was logged that the certificate has expired
}

// A keyPair is what was read of the files.
type keyPair struct {
	cert              *tls.Certificate
	certInfo, keyInfo fs.FileInfo
}

// newCertificate reads the files.
func newCertificate(ctx context.Context, certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log, stat: os.Stat}
	// After the first read, no handshake waits for the files.
	c.pair = refresh.New(&refresh.Policy{Every: time.Second, FirstWait: 10 * time.Second, Fresh: math.MaxInt64}, c.load)
	if _, err := c.pair.Get(ctx); err != nil {
		return nil, fmt.Errorf("cannot read the TLS certificate: %w", err)
	}
	return c, nil
}

// get returns the certificate for a connection. It is the GetCertificate of a
// [tls.Config].
func (c *certificate) get(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	pair, err := c.pair.Get(hello.Context())
	if err != nil {
		return nil, err
	}
	return pair.cert, nil
}

// load reads the files if they have changed. While two files are replaced one
// after the other, they do not match. Until they do, the old pair is used.
func (c *certificate) load(prev *keyPair, loaded bool) (*keyPair, error) {
	pair, err := c.read(prev)
	switch {
	case err == nil:
		c.failed = ""
		c.checkExpiry(pair, pair != prev)
	case loaded && c.failed != err.Error():
		c.failed = err.Error()
		c.log.Error("the changed TLS certificate cannot be used; clients still get the old one: fix the files, and they are read again automatically",
			"cert", c.certFile, "key", c.keyFile, "error", err)
	}
	return pair, err
}

// read reads the files, unless they are those of prev. A nil prev is none.
func (c *certificate) read(prev *keyPair) (*keyPair, error) {
	certInfo, certErr := c.stat(c.certFile)
	keyInfo, keyErr := c.stat(c.keyFile)
	if err := errors.Join(certErr, keyErr); err != nil {
		return nil, err
	}
	if prev != nil && sameFile(prev.certInfo, certInfo) && sameFile(prev.keyInfo, keyInfo) {
		return prev, nil
	}
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return nil, err
	}
	return &keyPair{&cert, certInfo, keyInfo}, nil
}

// checkExpiry logs, once for each certificate, that it has expired.
func (c *certificate) checkExpiry(pair *keyPair, changed bool) {
	if changed {
		c.expired = false
	}
	if notAfter := pair.cert.Leaf.NotAfter; !c.expired && time.Now().After(notAfter) {
		c.expired = true
		c.log.Error("the TLS certificate has expired, and clients refuse to connect: renew it, and the files are read again automatically",
			"cert", c.certFile, "expired", notAfter)
	}
}

func sameFile(a, b fs.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}
