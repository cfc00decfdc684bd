package server

import (
	"crypto/tls"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

// serial returns the serial number of the certificate that a connection gets.
func serial(t *testing.T, c *certificate) string {
	t.Helper()
	cert, err := c.get(new(tls.ClientHelloInfo))
	if err != nil {
		t.Fatal(err)
	}
	return cert.Leaf.SerialNumber.String()
}

// TestCertificateReload replaces the files of a certificate.
func TestCertificateReload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		inAnHour := time.Now().Add(time.Hour)
		certFile, keyFile := servertest.Certificate(t, dir, inAnHour)
		var log servertest.Buffer
		c, err := newCertificate(t.Context(), certFile, keyFile, newLogger(&log))
		if err != nil {
			t.Fatal(err)
		}
		// settle lets the next reload run.
		settle := func() {
			time.Sleep(time.Second)
			serial(t, c)
			synctest.Wait()
		}
		before := serial(t, c)
		settle()
		if got := serial(t, c); got != before || log.String() != "" {
			t.Errorf("unchanged files: serial %s, before %s; the log has %q", got, before, log.String())
		}

		servertest.WriteFile(t, certFile, "half a certificate")
		for range 3 {
			settle()
		}
		if got := serial(t, c); got != before {
			t.Error("a broken certificate replaced a good one")
		}
		if n := strings.Count(log.String(), "level=ERROR"); n != 1 || !strings.Contains(log.String(), certFile) {
			t.Errorf("the broken certificate is logged %d times, want 1:\n%s", n, log.String())
		}

		if err := os.Remove(keyFile); err != nil {
			t.Fatal(err)
		}
		settle()
		if got := serial(t, c); got != before || strings.Count(log.String(), "level=ERROR") != 2 {
			t.Errorf("a missing key: serial %s, before %s; the log has\n%s", got, before, log.String())
		}

		servertest.Certificate(t, dir, inAnHour)
		settle()
		if serial(t, c) == before {
			t.Error("the new certificate is not used")
		}
	})
}

// TestCertificateHangs has reading the files hang: handshakes go on with what
// was read before.
func TestCertificateHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		certFile, keyFile := servertest.Certificate(t, dir, time.Now().Add(time.Hour))
		c, err := newCertificate(t.Context(), certFile, keyFile, discard())
		if err != nil {
			t.Fatal(err)
		}
		before := serial(t, c)
		resume := make(chan struct{})
		c.stat = func(name string) (fs.FileInfo, error) {
			<-resume
			return os.Stat(name)
		}
		servertest.Certificate(t, dir, time.Now().Add(time.Hour))
		begun := time.Now()
		for range 3 {
			time.Sleep(time.Minute)
			if got := serial(t, c); got != before {
				t.Error("the new certificate is used before it was read")
			}
		}
		if took := time.Since(begun); took != 3*time.Minute {
			t.Errorf("handshakes waited for the files: %v", took-3*time.Minute)
		}
		close(resume)
		synctest.Wait()
		if serial(t, c) == before {
			t.Error("the new certificate is not used")
		}
	})
}

func TestCertificateExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		certFile, keyFile := servertest.Certificate(t, dir, time.Now().Add(time.Minute))
		var log servertest.Buffer
		c, err := newCertificate(t.Context(), certFile, keyFile, newLogger(&log))
		if err != nil {
			t.Fatal(err)
		}
		wait := func(d time.Duration) (logged int) {
			time.Sleep(d)
			serial(t, c)
			synctest.Wait()
			return strings.Count(log.String(), "has expired")
		}
		for _, test := range []struct {
			name  string
			after time.Duration
			want  int // times that it was logged
		}{
			{name: "valid", after: 59 * time.Second, want: 0},
			{name: "expired", after: 2 * time.Second, want: 1},
			{name: "still expired", after: time.Minute, want: 1},
		} {
			if got := wait(test.after); got != test.want {
				t.Errorf("%s: logged %d times, want %d:\n%s", test.name, got, test.want, log.String())
			}
		}
		servertest.Certificate(t, dir, time.Now().Add(-time.Second))
		if got := wait(time.Second); got != 2 {
			t.Errorf("another expired certificate: logged %d times, want 2:\n%s", got, log.String())
		}
	})
}

func TestNewCertificateErrors(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile := servertest.Certificate(t, dir, time.Now().Add(time.Hour))
	_, otherKey := servertest.Certificate(t, t.TempDir(), time.Now().Add(time.Hour))
	missing, empty := filepath.Join(dir, "missing"), filepath.Join(dir, "empty")
	servertest.WriteFile(t, empty, "")
	for _, test := range []struct {
		name, certFile, keyFile, err string
	}{
		{name: "no certificate", certFile: missing, keyFile: keyFile, err: missing},
		{name: "no key", certFile: certFile, keyFile: missing, err: missing},
		{name: "an empty certificate", certFile: empty, keyFile: keyFile, err: "find any PEM data"},
		{name: "another key", certFile: certFile, keyFile: otherKey, err: "does not match"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log servertest.Buffer
			if _, err := newCertificate(t.Context(), test.certFile, test.keyFile, newLogger(&log)); err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			if log.String() != "" {
				t.Errorf("the log has %q: the error is enough", log.String())
			}
		})
	}
}
