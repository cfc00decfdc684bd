package rekisteri_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
)

func tokenLine(token, rest string) string {
	return fmt.Sprintf("%x %s\n", sha256.Sum256([]byte(token)), rest)
}

func writeSecret(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// ask asks a token file for a provider, with a whole Authorization header.
func ask(f *rekisteri.TokenFile, authorization, namespace string) error {
	req := httptest.NewRequest("GET", "/", nil)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	return f.Authorize(req, rekisteri.Provider{Namespace: namespace, Type: "foo"})
}

func TestTokens(t *testing.T) {
	name := filepath.Join(t.TempDir(), "tokens")
	writeSecret(t, name, "# who may read what\n"+tokenLine("everything", "* # the platform team")+
		"\n"+strings.ToUpper(tokenLine("one", "Acme"))+tokenLine("two", "acme\tother"))
	f, err := rekisteri.NewTokenFile(name, quiet(t))
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		authorization, namespace string
		want                     error
		reason                   string
	}{
		{"Bearer everything", "acme", nil, ""},
		{"Bearer everything", "anything", nil, ""},
		{"bearer one", "acme", nil, ""},
		{"Bearer  two ", "other", nil, ""},
		{"Bearer one", "other", fs.ErrPermission, "line 4 may not read the namespace other"},
		{"Bearer two", "acm", fs.ErrPermission, ""},
		{"Bearer three", "acme", rekisteri.ErrUnauthenticated, "not known"},
		{"Bearer " + strings.Fields(tokenLine("one", ""))[0], "acme", rekisteri.ErrUnauthenticated, "not known"},
		{"Bearer", "acme", rekisteri.ErrUnauthenticated, "no bearer token"},
		{"Bearer ", "acme", rekisteri.ErrUnauthenticated, "no bearer token"},
		{"Basic one", "acme", rekisteri.ErrUnauthenticated, ""},
		{"one", "acme", rekisteri.ErrUnauthenticated, ""},
		{"", "acme", rekisteri.ErrUnauthenticated, ""},
	} {
		err := ask(f, test.authorization, test.namespace)
		if !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), test.reason) {
			t.Errorf("%q for %s: %v, want %v", test.authorization, test.namespace, err, test.want)
		}
	}
	for i := range 2000 { // among whose sums are some that begin as a known one does
		if err := ask(f, fmt.Sprint("Bearer ", i), "acme"); !errors.Is(err, rekisteri.ErrUnauthenticated) {
			t.Fatalf("token %d: %v", i, err)
		}
	}
}

func TestTokenFileErrors(t *testing.T) {
	const secret = "hunter2"
	good := tokenLine("good", "acme")
	for _, test := range []struct{ name, text, want string }{
		{"empty", "", "holds no token"},
		{"comments", "# nothing\n\n", "holds no token"},
		{"a token as it is", secret + " acme\n", "line 1: it does not begin with a SHA-256"},
		{"the other way round", good + "acme " + secret, "line 2: it does not begin with a SHA-256"},
		{"a short sum", good[1:], "line 1: it does not begin with a SHA-256"},
		{"a long sum", "ab" + good, "line 1: it does not begin with a SHA-256"},
		{"no hex", strings.Repeat("x", 64) + " acme", "line 1: it does not begin with a SHA-256"},
		{"no namespace", tokenLine("x", "") + good, "line 1: it names no namespace"},
		{"no namespace but a comment", tokenLine("x", "# acme"), "line 1: it names no namespace"},
		{"no name", tokenLine("x", "acme ../"+secret), "line 1: word 3 is neither"},
		{"a pattern", tokenLine("x", "ac*"), "line 1: word 2 is neither"},
		{"twice", good + "# \n" + good, "line 3: the token stands in a line before it"},
		{"empty token", tokenLine("", "*"), "SHA-256 of an empty token"},
		{"more than is read", good + strings.Repeat("# nothing\n", 110<<10), "larger than"},
		{"line end for a token", tokenLine("\n", "*"), "SHA-256 of an empty token"},
	} {
		name := filepath.Join(t.TempDir(), "tokens")
		writeSecret(t, name, test.text)
		if _, err := rekisteri.NewTokenFile(name, quiet(t)); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	if _, err := rekisteri.NewTokenFile(filepath.Join(t.TempDir(), "none"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := rekisteri.NewTokenFile(t.TempDir(), nil); err == nil {
		t.Error("a directory is read")
	}
}

func TestTokenFileRights(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("rights don't show in a file's mode on Windows")
	}
	for mode, want := range map[fs.FileMode]string{0o600: "", 0o400: "", 0o640: "warn", 0o644: "warn", 0o620: "refuse", 0o602: "refuse", 0o666: "refuse"} {
		dir := t.TempDir()
		name := filepath.Join(dir, "tokens")
		writeSecret(t, name, tokenLine("x", "*"))
		if err := os.Chmod(name, mode); err != nil {
			t.Fatal(err)
		}
		link := filepath.Join(dir, "link") // as in a mounted secret
		if err := os.Symlink("tokens", link); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		_, err := rekisteri.NewTokenFile(link, slog.New(slog.NewTextHandler(&log, nil)))
		if (err != nil) != (want == "refuse") || err != nil && !strings.Contains(err.Error(), "chmod go-w") {
			t.Errorf("mode %o: %v", mode, err)
		}
		if got := strings.Contains(log.String(), "can be read by others"); got != (want == "warn") {
			t.Errorf("mode %o: the log says %s", mode, log.String())
		}
	}
}

// TestTokenFileChanges changes the file under a running registry.
func TestTokenFileChanges(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "tokens")
	writeSecret(t, name, tokenLine("old", "acme"))
	var mu sync.Mutex
	var log bytes.Buffer
	f, err := rekisteri.NewTokenFile(name, slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil)))
	if err != nil {
		t.Fatal(err)
	}
	wait := func() { time.Sleep(1050 * time.Millisecond) }

	writeSecret(t, name, tokenLine("new", "acme")) // of the same size, and within the clock's grain
	wait()
	if old, new := ask(f, "Bearer old", "acme"), ask(f, "Bearer new", "acme"); !errors.Is(old, rekisteri.ErrUnauthenticated) || new != nil {
		t.Errorf("after a change: the old token %v, the new one %v", old, new)
	}
	for _, broken := range []string{"", "half", tokenLine("new", "acme")[:40]} {
		writeSecret(t, name, broken)
		wait()
		if err := errors.Join(ask(f, "Bearer new", "acme"), ask(f, "Bearer new", "acme")); err != nil {
			t.Errorf("after it is %q: %v", broken, err)
		}
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		wait()
		if err := ask(f, "Bearer new", "acme"); err != nil {
			t.Errorf("after it is gone: %v", err)
		}
	}
	mu.Lock()
	if n := strings.Count(log.String(), "no such file"); n != 1 && runtime.GOOS != "windows" {
		t.Errorf("that it is gone is logged %d times:\n%s", n, log.String())
	}
	mu.Unlock()
	writeSecret(t, name, tokenLine("newer", "*"))
	wait()
	var group sync.WaitGroup
	ask(f, "Bearer newer", "acme")
	for range 20 {
		group.Go(func() {
			if err := ask(f, "Bearer newer", "other"); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
}

type lockedWriter struct {
	mu *sync.Mutex
	b  *bytes.Buffer
}

func (w lockedWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.b.Write(p)
}

// TestTokenFileGoneTwice moves a file away and back, twice: each time is logged.
func TestTokenFileGoneTwice(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "tokens")
	writeSecret(t, name, tokenLine("token", "acme"))
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(name, old, old); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	f, err := rekisteri.NewTokenFile(name, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	move := func(from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1050 * time.Millisecond)
		if err := ask(f, "Bearer token", "acme"); err != nil {
			t.Error(err)
		}
	}
	for range 2 {
		move(name, name+".away")
		move(name+".away", name)
	}
	if n := strings.Count(log.String(), "cannot be read again"); n != 2 {
		t.Errorf("it is logged %d times:\n%s", n, log.String())
	}
}

// TestTokenPipe is refused: to open a pipe would wait for its writer.
func TestTokenPipe(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), "tokens")
	if err := makePipe(name); err != nil {
		t.Skip(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := rekisteri.NewTokenFile(name, nil)
		done <- err
	}()
	select {
	case err := <-done:
		if err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it hangs")
	}
}
