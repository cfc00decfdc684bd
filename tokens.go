package rekisteri

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rekisteri/rekisteri/internal/names"
	"github.com/rekisteri/rekisteri/internal/secretfile"
	"github.com/rekisteri/rekisteri/internal/tree"
)

// A TokenFile authorizes requests by static bearer tokens, which stand in a
// file as their digests. Its Authorize method serves as [Options.Authorize].
//
// The file has a line for each token: the SHA-256 of the token in hexadecimal
// digits, and the namespaces that it may read, or "*" for all. "#" begins a
// comment. On Unix, a file that others than its owner can write is refused,
// and one that they can read is warned of.
//
// The file is read again within a second of its change. One that is malformed
// then, or cannot be read, leaves in force what it said before. A TokenFile is
// safe for concurrent use.
type TokenFile struct {
	name   string
	log    *slog.Logger
	tokens atomic.Pointer[[]token]

	mu     sync.Mutex // held while the file is looked at
	looked time.Time
	stamp  tree.Version
	failed string // the last error that was logged, until the file is good again
	warned bool
}

// A token is a line of a token file.
type token struct {
	line       int
	sum        [sha256.Size]byte
	all        bool
	namespaces []string
}

// NewTokenFile reads a file of tokens. A nil logger is [slog.Default].
func NewTokenFile(name string, log *slog.Logger) (*TokenFile, error) {
	if log == nil {
		log = slog.Default()
	}
	f := &TokenFile{name: name, log: log, looked: time.Now()}
	if err := f.read(); err != nil {
		return nil, err
	}
	return f, nil
}

// Authorize lets a request in if its bearer token may read the provider's
// namespace. Its errors match [ErrUnauthenticated], for no token or one that
// isn't known, and [fs.ErrPermission].
func (f *TokenFile) Authorize(req *http.Request, p Provider) error {
	f.look()
	scheme, secret, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	if secret = strings.TrimSpace(secret); !strings.EqualFold(scheme, "Bearer") || secret == "" {
		return fmt.Errorf("there is no bearer token: %w", ErrUnauthenticated)
	}
	sum := sha256.Sum256([]byte(secret))
	var found *token
	tokens := *f.tokens.Load()
	for i := range tokens { // all of them, so that the time tells nothing
		if subtle.ConstantTimeCompare(tokens[i].sum[:], sum[:]) == 1 {
			found = &tokens[i]
		}
	}
	switch {
	case found == nil:
		return fmt.Errorf("the bearer token is not known: %w", ErrUnauthenticated)
	case !found.all && !slices.Contains(found.namespaces, p.Namespace):
		return fmt.Errorf("the token in line %d may not read the namespace %s: %w", found.line, p.Namespace, fs.ErrPermission)
	}
	return nil
}

// look reads the file again if it has changed. One request a second looks; the
// others don't wait for it.
func (f *TokenFile) look() {
	if !f.mu.TryLock() {
		return
	}
	defer f.mu.Unlock()
	now := time.Now()
	if now.Sub(f.looked) < checkEvery {
		return
	}
	f.looked = now
	info, err := os.Stat(f.name)
	if err == nil && !f.stamp.Proves(info) {
		err = f.read()
	}
	if err == nil {
		f.failed = ""
	} else if f.failed != err.Error() {
		f.failed = err.Error()
		f.log.Error("the token file cannot be read again; what it said before is still in force", "error", err)
	}
}

// read reads the file.
func (f *TokenFile) read() error {
	now := time.Now()
	file, err := secretfile.Read(f.name)
	if err != nil {
		return err
	}
	var tokens []token
	for line, fields := range file.Lines() {
		t, err := parseToken(fields)
		if err == nil && slices.ContainsFunc(tokens, func(o token) bool { return o.sum == t.sum }) {
			err = errors.New("the token stands in a line before it, too")
		}
		if err != nil {
			return fmt.Errorf("%s, line %d: %w", f.name, line, err)
		}
		t.line = line
		tokens = append(tokens, t)
	}
	if len(tokens) == 0 {
		return fmt.Errorf("%s holds no token", f.name)
	}
	if file.Exposed && !f.warned {
		f.warned = true
		f.log.Warn("the token file can be read by others than its owner", "file", f.name)
	}
	f.tokens.Store(&tokens)
	f.stamp = tree.VersionOf(file.Info, now)
	return nil
}

func parseToken(fields []string) (token, error) {
	var t token
	sum, err := hex.DecodeString(fields[0])
	if err != nil || len(sum) != sha256.Size {
		return t, errors.New("it does not begin with a SHA-256 of 64 hexadecimal digits") // but may with a secret
	}
	t.sum = [sha256.Size]byte(sum)
	if t.sum == sha256.Sum256(nil) || t.sum == sha256.Sum256([]byte("\n")) {
		return t, errors.New("it is the SHA-256 of an empty token")
	}
	if len(fields) < 2 {
		return t, errors.New("it names no namespace behind the SHA-256: * is all of them")
	}
	for i, namespace := range fields[1:] {
		if namespace == "*" {
			t.all = true
			continue
		}
		namespace = strings.ToLower(namespace)
		if !names.Valid(namespace) {
			return t, fmt.Errorf("word %d is neither a namespace nor *", i+2) // and may be a secret
		}
		t.namespaces = append(t.namespaces, namespace)
	}
	return t, nil
}
