package rekisteri

import (
	"cmp"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/rekisteri/rekisteri/internal/names"
	"github.com/rekisteri/rekisteri/internal/refresh"
	"github.com/rekisteri/rekisteri/internal/secretfile"
)

// A TokenFile authorizes requests by bearer tokens whose digests are in a file.
// Its methods are for [Options.Authorize] and [PublishOptions]. It is safe for
// concurrent use.
//
// Each line of the file has the SHA-256 of a token in hexadecimal digits, and the
// namespaces that the token may read, or "*" for all of them. A namespace with
// ":publish" after it, such as "acme:publish" or "*:publish", is one that the
// token may publish to and read. "#" starts a comment. On Unix, a file that users
// other than its owner can write is refused, and one that they can read causes a
// warning.
//
// Changes take effect within a second. A file without lines refuses everyone. If
// the file is malformed or cannot be read, the error is logged, and the tokens
// that it had before stay valid.
type TokenFile struct {
	name   string
	log    *slog.Logger
	tokens *refresh.Value[[]token]

	// The rest is for load, which does not run concurrently.
	failure string // that was logged last; empty if the file is good
	warned  bool   // that the file is exposed
}

// A token is a line of a token file.
type token struct {
	line          int
	label         string // the comment
	sum           [sha256.Size]byte
	read, publish []string // namespaces; allNamespaces is every one
}

const allNamespaces = "*"

func (t *token) mayRead(namespace string) bool { return allows(t.read, namespace) }

func (t *token) mayNotRead(p Provider) error {
	return fmt.Errorf("the token in line %d may not read the namespace %s: %w", t.line, p.Namespace, fs.ErrPermission)
}

func (t *token) mayPublish(namespace string) bool { return allows(t.publish, namespace) }

func allows(namespaces []string, namespace string) bool {
	return slices.Contains(namespaces, allNamespaces) || slices.Contains(namespaces, namespace)
}

// NewTokenFile reads a token file. Nil log is [slog.Default].
func NewTokenFile(name string, log *slog.Logger) (*TokenFile, error) {
	if log == nil {
		log = slog.Default()
	}
	f := &TokenFile{name: name, log: log}
	// A revoked token must stop working within a second. So there is no Fresh:
	// a request waits until the file is read again, unless the file system
	// hangs.
	f.tokens = refresh.New(&refresh.Policy{Every: time.Second, FirstWait: 10 * time.Second, StaleWait: time.Second}, f.load)
	if _, err := f.tokens.Get(context.Background()); err != nil {
		return nil, fmt.Errorf("the token file cannot be used: %w", err)
	}
	return f, nil
}

// Authorize returns nil if a request has a bearer token that may read the
// provider's namespace. Otherwise its error matches [ErrUnauthenticated], if
// there is no token or an unknown one, or [fs.ErrPermission].
func (f *TokenFile) Authorize(req *http.Request, p Provider) error {
	t, err := f.find(req, bearerToken(req))
	if err == nil && !t.mayRead(p.Namespace) {
		err = t.mayNotRead(p)
	}
	return err
}

// AuthorizeBasic is [TokenFile.Authorize] for pages that people open in a browser:
// it also accepts the token as the password of Basic authentication, whatever the
// user. It is not meant for [Options.Authorize], since clients send bearer tokens.
func (f *TokenFile) AuthorizeBasic(req *http.Request, p Provider) error {
	t, err := f.find(req, bearerOrPassword(req))
	if err == nil && !t.mayRead(p.Namespace) {
		err = t.mayNotRead(p)
	}
	return err
}

// AuthorizePublish returns nil if a request has a token that may publish to the
// provider's namespace, as a bearer token or as the password of Basic
// authentication, whatever the user. Its errors are those of
// [TokenFile.Authorize].
func (f *TokenFile) AuthorizePublish(req *http.Request, p Provider) error {
	t, err := f.find(req, bearerOrPassword(req))
	if err == nil && !t.mayPublish(p.Namespace) {
		err = fmt.Errorf("the token in line %d may not publish to the namespace %s: %w", t.line, p.Namespace, fs.ErrPermission)
	}
	return err
}

// Label returns the comment of the line that a request's token is in, or "line 7"
// if it has none. It returns an empty string if there is no token, or an unknown
// one. It is for logs: a comment is not unique.
func (f *TokenFile) Label(req *http.Request) string {
	tokens, _ := f.tokens.Peek()
	t, err := match(tokens, bearerOrPassword(req))
	if err != nil {
		return ""
	}
	return cmp.Or(t.label, fmt.Sprint("line ", t.line))
}

// CanPublish reports whether the file has a token that may publish.
func (f *TokenFile) CanPublish() bool {
	tokens, _ := f.tokens.Peek()
	return slices.ContainsFunc(tokens, func(t token) bool { return len(t.publish) > 0 })
}

// bearerToken returns the bearer token of a request, or an empty string.
func bearerToken(req *http.Request) string {
	scheme, secret, _ := strings.Cut(req.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(secret)
}

// bearerOrPassword returns the bearer token of a request, or the password of Basic
// authentication.
func bearerOrPassword(req *http.Request) string {
	if _, password, ok := req.BasicAuth(); ok {
		return password
	}
	return bearerToken(req)
}

// find returns the line of the file that has the digest of a secret.
func (f *TokenFile) find(req *http.Request, secret string) (*token, error) {
	tokens, err := f.tokens.Get(req.Context())
	if err != nil {
		return nil, err
	}
	return match(tokens, secret)
}

// match returns the token that has the digest of a secret.
func match(tokens []token, secret string) (*token, error) {
	if secret == "" {
		return nil, fmt.Errorf("there is no bearer token: %w", ErrUnauthenticated)
	}
	sum := sha256.Sum256([]byte(secret))
	var digest []byte // if the token looks like one
	if len(secret) == hex.EncodedLen(len(sum)) {
		digest, _ = hex.DecodeString(secret)
	}
	var known, pasted *token
	for i := range tokens { // all of them, so that the time taken reveals nothing
		if subtle.ConstantTimeCompare(tokens[i].sum[:], sum[:]) == 1 {
			known = &tokens[i]
		}
		if subtle.ConstantTimeCompare(tokens[i].sum[:], digest) == 1 {
			pasted = &tokens[i]
		}
	}
	switch {
	case known != nil:
		return known, nil
	case pasted != nil:
		return nil, fmt.Errorf("line %d of the token file has the bearer token itself; it must have the token's SHA-256: %w", pasted.line, ErrUnauthenticated)
	}
	return nil, fmt.Errorf("the bearer token is not known: %w", ErrUnauthenticated)
}

// load reads the file again, and logs why it cannot be used.
func (f *TokenFile) load(before []token, loaded bool) ([]token, error) {
	tokens, err := f.read()
	switch {
	case err == nil:
		f.failure = ""
		if len(tokens) == 0 && (!loaded || len(before) > 0) {
			f.log.Warn("the token file has no token: all requests for providers are refused", "file", f.name)
		}
	case loaded && f.failure != err.Error():
		f.failure = err.Error()
		f.log.Error("the token file cannot be used; the tokens that it had before stay valid", "error", err)
	}
	return tokens, err
}

func (f *TokenFile) read() ([]token, error) {
	file, err := secretfile.Read(f.name)
	if err != nil {
		return nil, err
	}
	var tokens []token
	lines := make(map[[sha256.Size]byte]int)
	for line := range file.Lines() {
		t, err := parseToken(line)
		if first, ok := lines[t.sum]; err == nil && ok {
			err = fmt.Errorf("the token is already in line %d", first)
		}
		if err != nil {
			return nil, fmt.Errorf("%s, line %d: %w", f.name, line.Number, err)
		}
		lines[t.sum] = line.Number
		tokens = append(tokens, t)
	}
	if file.Exposed && !f.warned {
		f.warned = true
		f.log.Warn("users other than its owner can read the token file", "file", f.name)
	}
	return tokens, nil
}

// parseToken parses a line. Its errors do not quote the line, which may have a
// secret in the wrong place.
func parseToken(line secretfile.Line) (token, error) {
	t := token{line: line.Number, label: line.Comment}
	sum, err := hex.DecodeString(line.Fields[0])
	if err != nil || len(sum) != sha256.Size {
		return t, errors.New("it does not start with a SHA-256 of 64 hexadecimal digits")
	}
	t.sum = [sha256.Size]byte(sum)
	if t.sum == sha256.Sum256(nil) || t.sum == sha256.Sum256([]byte("\n")) {
		return t, errors.New("it has the SHA-256 of an empty token")
	}
	if len(line.Fields) < 2 {
		return t, errors.New("it names no namespace after the SHA-256; * is all of them")
	}
	for i, word := range line.Fields[1:] {
		namespace, right, hasRight := strings.Cut(word, ":")
		if hasRight && right != "publish" {
			return t, fmt.Errorf("word %d has a right that is not known; the only one is :publish", i+2)
		}
		if namespace = names.Lower(namespace); namespace != allNamespaces && !names.Valid(namespace) {
			return t, fmt.Errorf("word %d is neither a namespace nor *", i+2)
		}
		t.read = append(t.read, namespace)
		if hasRight {
			t.publish = append(t.publish, namespace)
		}
	}
	return t, nil
}
