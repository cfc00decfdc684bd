package main

import (
	"crypto/tls"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// A keyPair is a TLS certificate and its key, in files that may change.
type keyPair struct {
	certFile, keyFile string
	log               *slog.Logger

	mu       sync.Mutex
	cert     *tls.Certificate
	looked   time.Time
	certInfo fs.FileInfo
	keyInfo  fs.FileInfo
	failed   string // the last error that was logged, until the files are good again
}

// load reads the files if they have changed.
func (p *keyPair) load() error {
	certInfo, certErr := os.Stat(p.certFile)
	keyInfo, keyErr := os.Stat(p.keyFile)
	if err := errors.Join(certErr, keyErr); err != nil {
		return err
	}
	same := func(a, b fs.FileInfo) bool {
		return a != nil && os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
	}
	if same(p.certInfo, certInfo) && same(p.keyInfo, keyInfo) {
		return nil
	}
	cert, err := tls.LoadX509KeyPair(p.certFile, p.keyFile)
	if err != nil {
		return err
	}
	p.cert, p.certInfo, p.keyInfo = &cert, certInfo, keyInfo
	return nil
}

// get returns the certificate for a connection. Files that are replaced one
// after the other don't match for a moment; what was read before serves on.
func (p *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := time.Now(); now.Sub(p.looked) >= time.Second {
		p.looked = now
		err := p.load()
		if err == nil {
			p.failed = ""
		} else if p.failed != err.Error() {
			p.failed = err.Error()
			p.log.Error("the TLS certificate cannot be read again; the old one is still served", "error", err)
		}
	}
	return p.cert, nil
}
