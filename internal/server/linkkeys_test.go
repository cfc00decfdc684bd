package server

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

func TestReadLinkKeys(t *testing.T) {
	key := func(digit string) string { return strings.Repeat(digit, 64) }
	for _, test := range []struct {
		name, text string
		want       int // keys
		err        string
	}{
		{name: "one key", text: key("a") + "\n", want: 1},
		{name: "two keys and comments", text: "# new\n" + key("a") + "\n\n" + key("B") + " # old", want: 2},
		{name: "no key", text: "# nothing\n", err: "has no link key"},
		{name: "too short", text: "0123", err: "line 1: a link key is 64 hexadecimal digits"},
		{name: "too long", text: "\n" + key("a") + "bb", err: "line 2: a link key is 64 hexadecimal digits"},
		{name: "no digits", text: key("x"), err: "line 1: a link key is 64 hexadecimal digits"},
		{name: "two keys in a line", text: key("a") + " " + key("b"), err: "line 1: a link key is 64 hexadecimal digits"},
		{name: "all zeros", text: key("a") + "\n" + key("0"), err: "line 2: the key is all zeros"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var log servertest.Buffer
			keys, err := readLinkKeys(secret(t, test.text), newLogger(&log))
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Fatalf("error %v, want %q", err, test.err)
				}
				for _, word := range strings.Fields(test.text) {
					if len(word) > 3 && strings.Contains(err.Error(), word) {
						t.Errorf("the error contains %q of the file: %v", word, err)
					}
				}
				return
			}
			if err != nil || len(keys) != test.want || keys[0][0] != 0xaa {
				t.Errorf("%d keys, %v, want %d", len(keys), err, test.want)
			}
			if log.String() != "" {
				t.Errorf("the log has %q", log.String())
			}
		})
	}
	if _, err := readLinkKeys(filepath.Join(t.TempDir(), "missing"), nil); !os.IsNotExist(err) {
		t.Errorf("a missing file: %v", err)
	}
}

func TestReadLinkKeysExposed(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("permissions are not checked on Windows")
	}
	name := secret(t, strings.Repeat("a", 64))
	if err := os.Chmod(name, 0o640); err != nil {
		t.Fatal(err)
	}
	var log servertest.Buffer
	if _, err := readLinkKeys(name, newLogger(&log)); err != nil || !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), name) {
		t.Errorf("%v, and the log has %q", err, log.String())
	}
}
