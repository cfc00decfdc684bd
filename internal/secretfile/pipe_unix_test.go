//go:build unix

package secretfile_test

import (
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rekisteri/rekisteri/internal/secretfile"
)

// TestReadPipe tests that Read does not wait for the writer of a pipe.
func TestReadPipe(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Skip("no pipes: ", err)
	}
	if _, err := secretfile.Read(name); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("got %v, want an error for a pipe", err)
	}
}
