package rekisteri_test

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
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

// newTokenFile returns a token file and its name.
func newTokenFile(t *testing.T, text string, log *logBuffer) (*rekisteri.TokenFile, string) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "tokens")
	writeSecret(t, name, text)
	f, err := rekisteri.NewTokenFile(name, log.logger())
	if err != nil {
		t.Fatal(err)
	}
	return f, name
}

// ask authorizes a request with a whole Authorization header.
func ask(f *rekisteri.TokenFile, authorization, namespace string) error {
	req := httptest.NewRequest("GET", "/", nil)
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	return f.Authorize(req, rekisteri.Provider{Namespace: namespace, Type: "foo"})
}

func TestTokens(t *testing.T) {
	raw := strings.Repeat("0123456789abcdef", 4) // stands in the file in place of its digest
	f, _ := newTokenFile(t, "# who may read what\n"+tokenLine("everything", "* # the platform team")+
		"\n"+strings.ToUpper(tokenLine("one", "Acme"))+tokenLine("two", "acme\tother#ci #2")+raw+" acme\n", new(logBuffer))
	for _, test := range []struct {
		name, authorization, namespace string
		want                           error
		reason                         string
	}{
		{name: "all namespaces", authorization: "Bearer everything", namespace: "acme"},
		{name: "all namespaces, another one", authorization: "Bearer everything", namespace: "anything"},
		{name: "scheme in lower case", authorization: "bearer one", namespace: "acme"},
		{name: "spaces", authorization: "Bearer  two ", namespace: "other"},
		{name: "another namespace", authorization: "Bearer one", namespace: "other", want: fs.ErrPermission, reason: "line 4 may not read the namespace other"},
		{name: "start of a namespace", authorization: "Bearer two", namespace: "acm", want: fs.ErrPermission, reason: "line 5 may not"},
		{name: "unknown token", authorization: "Bearer three", namespace: "acme", want: rekisteri.ErrUnauthenticated, reason: "not known"},
		{name: "digest for the token", authorization: "Bearer " + strings.Fields(tokenLine("one", ""))[0], namespace: "acme", want: rekisteri.ErrUnauthenticated, reason: "line 4 of the token file has"},
		{name: "token for the digest", authorization: "Bearer " + raw, namespace: "acme", want: rekisteri.ErrUnauthenticated, reason: "line 6 of the token file has the bearer token itself"},
		{name: "token of the same length", authorization: "Bearer " + strings.Repeat("f", 64), namespace: "acme", want: rekisteri.ErrUnauthenticated, reason: "not known"},
		{name: "no token", authorization: "Bearer", namespace: "acme", want: rekisteri.ErrUnauthenticated, reason: "no bearer token"},
		{name: "empty token", authorization: "Bearer ", namespace: "acme", want: rekisteri.ErrUnauthenticated, reason: "no bearer token"},
		{name: "another scheme", authorization: "Basic one", namespace: "acme", want: rekisteri.ErrUnauthenticated, reason: "no bearer token"},
		{name: "no scheme", authorization: "one", namespace: "acme", want: rekisteri.ErrUnauthenticated, reason: "no bearer token"},
		{name: "no header", namespace: "acme", want: rekisteri.ErrUnauthenticated, reason: "no bearer token"},
	} {
		t.Run(test.name, func(t *testing.T) {
			err := ask(f, test.authorization, test.namespace)
			if !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), test.reason) {
				t.Errorf("%v, want %v with %q", err, test.want, test.reason)
			}
		})
	}
	for i := range 2000 { // the digests of some start like a known one
		if err := ask(f, fmt.Sprint("Bearer ", i), "acme"); !errors.Is(err, rekisteri.ErrUnauthenticated) {
			t.Fatalf("token %d: %v", i, err)
		}
	}
}

// The right to publish is given per namespace, and implies the right to read.
func TestPublishTokens(t *testing.T) {
	f, _ := newTokenFile(t, tokenLine("reader", "acme")+tokenLine("publisher", "acme:publish other")+tokenLine("all", "*:publish # CI"), new(logBuffer))
	for _, test := range []struct {
		name, authorization, namespace string
		publish, read                  error
	}{
		{name: "reader", authorization: "Bearer reader", namespace: "acme", publish: fs.ErrPermission},
		{name: "publisher", authorization: "Bearer publisher", namespace: "acme"},
		{name: "publisher, a namespace to read", authorization: "Bearer publisher", namespace: "other", publish: fs.ErrPermission},
		{name: "publisher, another namespace", authorization: "Bearer publisher", namespace: "third", publish: fs.ErrPermission, read: fs.ErrPermission},
		{name: "all namespaces", authorization: "Bearer all", namespace: "third"},
		{name: "Basic", authorization: "Basic " + base64.StdEncoding.EncodeToString([]byte("anybody:publisher")), namespace: "acme", read: rekisteri.ErrUnauthenticated},
		{name: "Basic without a password", authorization: "Basic " + base64.StdEncoding.EncodeToString([]byte("publisher:")), namespace: "acme", publish: rekisteri.ErrUnauthenticated, read: rekisteri.ErrUnauthenticated},
		{name: "unknown token", authorization: "Bearer x", namespace: "acme", publish: rekisteri.ErrUnauthenticated, read: rekisteri.ErrUnauthenticated},
		{name: "no token", namespace: "acme", publish: rekisteri.ErrUnauthenticated, read: rekisteri.ErrUnauthenticated},
	} {
		req := httptest.NewRequest("PUT", "/", nil)
		req.Header.Set("Authorization", test.authorization)
		p := rekisteri.Provider{Namespace: test.namespace, Type: "foo"}
		if err := f.AuthorizePublish(req, p); !errors.Is(err, test.publish) || (err == nil) != (test.publish == nil) {
			t.Errorf("%s: publish: %v, want %v", test.name, err, test.publish)
		}
		if err := f.Authorize(req, p); !errors.Is(err, test.read) || (err == nil) != (test.read == nil) {
			t.Errorf("%s: read: %v, want %v", test.name, err, test.read)
		}
	}
	if !f.CanPublish() {
		t.Error("nobody can publish")
	}
	if f, _ := newTokenFile(t, tokenLine("reader", "acme *"), new(logBuffer)); f.CanPublish() {
		t.Error("a reader can publish")
	}
	name := filepath.Join(t.TempDir(), "tokens")
	for _, bad := range []string{"acme:write", "acme:", ":publish", "acme:publish:publish"} {
		writeSecret(t, name, tokenLine("x", bad))
		if _, err := rekisteri.NewTokenFile(name, silent); err == nil || strings.Contains(err.Error(), bad) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

func TestTokenLabel(t *testing.T) {
	f, _ := newTokenFile(t, tokenLine("commented", "acme # the CI #2")+tokenLine("bare", "acme"), new(logBuffer))
	for _, test := range []struct{ name, authorization, want string }{
		{name: "a comment", authorization: "Bearer commented", want: "the CI #2"},
		{name: "no comment", authorization: "Bearer bare", want: "line 2"},
		{name: "Basic", authorization: "Basic " + base64.StdEncoding.EncodeToString([]byte("anybody:commented")), want: "the CI #2"},
		{name: "an unknown token", authorization: "Bearer x"},
		{name: "a digest", authorization: "Bearer " + strings.Fields(tokenLine("bare", ""))[0]},
		{name: "no token"},
	} {
		req := httptest.NewRequest("GET", "/", nil)
		req.Header.Set("Authorization", test.authorization)
		if got := f.Label(req); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}

func TestTokenFileErrors(t *testing.T) {
	const secret = "hunter2"
	good := tokenLine("good", "acme")
	for _, test := range []struct{ name, text, want string }{
		{name: "token without digest", text: secret + " acme\n", want: "line 1: it does not start with a SHA-256"},
		{name: "wrong order", text: good + "acme " + secret, want: "line 2: it does not start with a SHA-256"},
		{name: "short digest", text: good[1:], want: "line 1: it does not start with a SHA-256"},
		{name: "long digest", text: "ab" + good, want: "line 1: it does not start with a SHA-256"},
		{name: "not hexadecimal", text: strings.Repeat("x", 64) + " acme", want: "line 1: it does not start with a SHA-256"},
		{name: "no namespace", text: tokenLine("x", "") + good, want: "line 1: it names no namespace"},
		{name: "namespace in the comment", text: tokenLine("x", "# acme"), want: "line 1: it names no namespace"},
		{name: "no valid namespace", text: tokenLine("x", "acme ../"+secret), want: "line 1: word 3 is neither"},
		{name: "Kelvin sign", text: tokenLine("x", "\u212Aube"), want: "line 1: word 2 is neither"},
		{name: "pattern", text: tokenLine("x", "ac*"), want: "line 1: word 2 is neither"},
		{name: "listed twice", text: good + "# \n" + good, want: "line 3: the token is already in line 1"},
		{name: "empty token", text: tokenLine("", "*"), want: "SHA-256 of an empty token"},
		{name: "line end for a token", text: tokenLine("\n", "*"), want: "SHA-256 of an empty token"},
		{name: "too large", text: good + strings.Repeat("# nothing\n", 110<<10), want: "larger than"},
	} {
		t.Run(test.name, func(t *testing.T) {
			name := filepath.Join(t.TempDir(), "tokens")
			writeSecret(t, name, test.text)
			if _, err := rekisteri.NewTokenFile(name, quiet(t)); err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), secret) {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
	if _, err := rekisteri.NewTokenFile(filepath.Join(t.TempDir(), "none"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if _, err := rekisteri.NewTokenFile(t.TempDir(), nil); err == nil {
		t.Error("a directory is accepted")
	}
}

// A pipe is refused: opening it would wait for a writer.
func TestTokenFileIsPipe(t *testing.T) {
	name := filepath.Join(t.TempDir(), "tokens")
	if err := makePipe(name); err != nil {
		t.Skip(err)
	}
	if _, err := rekisteri.NewTokenFile(name, nil); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Error(err)
	}
}

func TestTokenFilePermissions(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a file's mode does not show permissions on Windows")
	}
	for mode, want := range map[fs.FileMode]string{0o600: "", 0o400: "", 0o640: "warn", 0o644: "warn", 0o620: "refuse", 0o602: "refuse", 0o666: "refuse"} {
		t.Run(fmt.Sprintf("%o", mode), func(t *testing.T) {
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
			log := new(logBuffer)
			_, err := rekisteri.NewTokenFile(link, log.logger())
			if (err != nil) != (want == "refuse") || err != nil && !strings.Contains(err.Error(), "chmod go-w") {
				t.Errorf("%v", err)
			}
			if text := log.take(); strings.Contains(text, "can read the token file") != (want == "warn") {
				t.Errorf("the log says %s", text)
			}
		})
	}
}

// A change takes effect within a second, and no revoked token gets a request after
// that.
func TestTokenFileChanges(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(t *testing.T, name string)
		old    error // for the token "old", after the change
		new    error // for the token "new"
		log    string
	}{
		{name: "replaced", change: func(t *testing.T, name string) { writeSecret(t, name, tokenLine("new", "acme")) }, old: rekisteri.ErrUnauthenticated},
		{name: "line deleted", change: func(t *testing.T, name string) { writeSecret(t, name, tokenLine("new", "acme")+"# gone\n") }, old: rekisteri.ErrUnauthenticated},
		{name: "only line deleted", change: func(t *testing.T, name string) { writeSecret(t, name, "") },
			old: rekisteri.ErrUnauthenticated, new: rekisteri.ErrUnauthenticated, log: "level=WARN msg=\"the token file has no token"},
		{name: "comment left", change: func(t *testing.T, name string) { writeSecret(t, name, "# nobody\n") },
			old: rekisteri.ErrUnauthenticated, new: rekisteri.ErrUnauthenticated, log: "level=WARN msg=\"the token file has no token"},
		{name: "namespace changed", change: func(t *testing.T, name string) { writeSecret(t, name, tokenLine("old", "other")) }, old: fs.ErrPermission, new: rekisteri.ErrUnauthenticated},
		{name: "malformed", change: func(t *testing.T, name string) { writeSecret(t, name, "half") }, new: rekisteri.ErrUnauthenticated, log: "level=ERROR msg=\"the token file cannot be used"},
		{name: "cut off", change: func(t *testing.T, name string) { writeSecret(t, name, tokenLine("new", "acme")[:40]) }, new: rekisteri.ErrUnauthenticated, log: "level=ERROR msg=\"the token file cannot be used"},
		{name: "deleted", change: func(t *testing.T, name string) { os.Remove(name) }, new: rekisteri.ErrUnauthenticated, log: "level=ERROR msg=\"the token file cannot be used"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				log := new(logBuffer)
				f, name := newTokenFile(t, tokenLine("old", "acme"), log)
				for range 5 {
					time.Sleep(time.Second)
					if err := ask(f, "Bearer old", "acme"); err != nil {
						t.Errorf("before the change: %v", err)
					}
				}
				test.change(t, name)
				for range 3 {
					time.Sleep(time.Second)
					for range 2 {
						if old, now := ask(f, "Bearer old", "acme"), ask(f, "Bearer new", "acme"); !errors.Is(old, test.old) || !errors.Is(now, test.new) {
							t.Errorf("after the change: old token %v, new token %v", old, now)
						}
					}
				}
				text := log.take()
				if n := strings.Count(text, "\n"); test.log == "" && n > 0 || test.log != "" && (n != 1 || !strings.Contains(text, test.log)) {
					t.Errorf("the log says\n%s", text)
				}

				writeSecret(t, name, tokenLine("newer", "acme"))
				time.Sleep(time.Second)
				if err := ask(f, "Bearer newer", "acme"); err != nil {
					t.Errorf("after it is good again: %v", err)
				}
				test.change(t, name)
				time.Sleep(time.Second)
				ask(f, "Bearer newer", "acme")
				if text := log.take(); !strings.Contains(text, test.log) {
					t.Errorf("the log does not have it again: %s", text)
				}
			})
		})
	}
}

// An empty file at the start refuses everyone, with a warning.
func TestTokenFileStartsEmpty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := new(logBuffer)
		f, name := newTokenFile(t, "# nobody yet\n", log)
		if err := ask(f, "Bearer x", "acme"); !errors.Is(err, rekisteri.ErrUnauthenticated) {
			t.Errorf("%v", err)
		}
		if text := log.take(); !strings.Contains(text, "level=WARN") || !strings.Contains(text, name) {
			t.Errorf("the log says %s", text)
		}
		writeSecret(t, name, tokenLine("x", "acme"))
		time.Sleep(time.Second)
		if err := ask(f, "Bearer x", "acme"); err != nil {
			t.Errorf("after a token was added: %v", err)
		}
	})
}

func TestTokenFileConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, name := newTokenFile(t, tokenLine("a", "acme")+tokenLine("b", "acme"), new(logBuffer))
		var group sync.WaitGroup
		for i := range 20 {
			group.Go(func() {
				for range 50 {
					time.Sleep(time.Duration(i) * 10 * time.Millisecond)
					if err := ask(f, "Bearer b", "acme"); err != nil {
						t.Error(err)
					}
				}
			})
		}
		time.Sleep(500 * time.Millisecond)
		os.Rename(name, name+".away")
		time.Sleep(2 * time.Second)
		os.Rename(name+".away", name)
		group.Wait()
	})
}

// FuzzTokenFile reads a token file. A token is allowed if a line has its digest
// and the namespace, and not otherwise.
func FuzzTokenFile(f *testing.F) {
	const token = "fuzz"
	for _, text := range []string{tokenLine(token, "acme"), tokenLine(token, "*"), tokenLine(token, "other # acme"), "# " + tokenLine(token, "acme") + tokenLine("x", "*"), strings.ToUpper(tokenLine(token, "acme")), "", "\x00"} {
		f.Add(text)
	}
	name := filepath.Join(f.TempDir(), "tokens")
	digest := strings.Fields(tokenLine(token, ""))[0]
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		tokens, err := rekisteri.NewTokenFile(name, silent)
		if err != nil {
			return
		}
		var want error = rekisteri.ErrUnauthenticated
		for line := range strings.Lines(text) {
			line, _, _ = strings.Cut(line, "#")
			if fields := strings.Fields(line); len(fields) > 1 && strings.EqualFold(fields[0], digest) {
				want = fs.ErrPermission
				for _, namespace := range fields[1:] {
					if namespace == "*" || strings.ToLower(namespace) == "acme" {
						want = nil
					}
				}
			}
		}
		if err := ask(tokens, "Bearer "+token, "acme"); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
		if err := ask(tokens, fmt.Sprintf("Bearer %s", digest), "acme"); err == nil {
			t.Errorf("%q: the digest is allowed as a token", text)
		}
	})
}

// Pages accept a token as a password. Documents do not.
func TestBasicTokens(t *testing.T) {
	f, _ := newTokenFile(t, tokenLine("reader", "acme"), new(logBuffer))
	basic := func(user, password string) string {
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	}
	for _, test := range []struct {
		name, authorization, namespace string
		page, document                 error
	}{
		{name: "bearer", authorization: "Bearer reader", namespace: "acme"},
		{name: "password", authorization: basic("anybody", "reader"), namespace: "acme", document: rekisteri.ErrUnauthenticated},
		{name: "password alone", authorization: basic("", "reader"), namespace: "acme", document: rekisteri.ErrUnauthenticated},
		{name: "another namespace", authorization: basic("", "reader"), namespace: "other", page: fs.ErrPermission, document: rekisteri.ErrUnauthenticated},
		{name: "token as the user", authorization: basic("reader", ""), namespace: "acme", page: rekisteri.ErrUnauthenticated, document: rekisteri.ErrUnauthenticated},
		{name: "unknown password", authorization: basic("", "x"), namespace: "acme", page: rekisteri.ErrUnauthenticated, document: rekisteri.ErrUnauthenticated},
		{name: "nothing", namespace: "acme", page: rekisteri.ErrUnauthenticated, document: rekisteri.ErrUnauthenticated},
	} {
		req := httptest.NewRequest("GET", "/", nil)
		req.Header.Set("Authorization", test.authorization)
		p := rekisteri.Provider{Namespace: test.namespace, Type: "foo"}
		if err := f.AuthorizeBasic(req, p); !errors.Is(err, test.page) || (err == nil) != (test.page == nil) {
			t.Errorf("%s: page: %v, want %v", test.name, err, test.page)
		}
		if err := f.Authorize(req, p); !errors.Is(err, test.document) || (err == nil) != (test.document == nil) {
			t.Errorf("%s: document: %v, want %v", test.name, err, test.document)
		}
	}
}
