package rekisteri

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"
)

const defaultLinkTTL = time.Hour

// links signs and checks file URLs. Clients send no credentials for files, so a
// signed URL carries the permission that its document was served with. A nil
// *links signs nothing and allows all requests.
type links struct {
	keys []*linkKey // the first one signs, all are accepted
	ttl  time.Duration
}

// A linkKey is a secret that signs links. It is safe for concurrent use.
type linkKey struct {
	id string // names the key in links and in the log

	mu      sync.Mutex // guards the buffers that signatures share
	mac     hash.Hash
	message []byte
	sum     [sha256.Size]byte
}

func newLinkKey(secret [32]byte) *linkKey {
	sum := sha256.Sum256(secret[:])
	return &linkKey{id: hex.EncodeToString(sum[:4]), mac: hmac.New(sha256.New, secret[:])}
}

// newLinks returns the links of a registry. If it is private and has no key, it
// gets a random one.
func newLinks(opts *Options) (l *links, random bool) {
	if opts.LinkTTL < 0 {
		panic("rekisteri: the LinkTTL is negative")
	}
	secrets := opts.LinkKeys
	if len(secrets) == 0 {
		if opts.Authorize == nil {
			return nil, false
		}
		random = true
		secrets = make([][32]byte, 1)
		rand.Read(secrets[0][:]) // never fails
	}
	const longest = 100 * 365 * 24 * time.Hour // longer ones would overflow
	l = &links{ttl: min(opts.LinkTTL, longest)}
	if l.ttl == 0 {
		l.ttl = defaultLinkTTL
	}
	for _, secret := range secrets {
		if secret == [32]byte{} {
			panic("rekisteri: a link key is all zeros")
		}
		l.keys = append(l.keys, newLinkKey(secret))
	}
	return l, random
}

// expiry returns when a link that is made now expires, in Unix time. It is rounded
// up to a multiple of half the TTL, so that a document stays the same for that
// long.
func (l *links) expiry(now time.Time) int64 {
	half := max(int64(l.ttl/time.Second)/2, 1)
	end := now.Add(l.ttl + time.Second - 1).Unix() // rounded up to a second
	return end + (half-end%half)%half
}

// signatureLen is the length of an encoded signature.
const signatureLen = 43

// appendQuery appends the query of a signed link.
func (l *links) appendQuery(b []byte, p Provider, version, name string, expires int64) []byte {
	key := l.keys[0]
	b = append(b, "?expires="...)
	at := len(b)
	b = strconv.AppendInt(b, expires, 10)
	e := b[at:]
	b = append(b, "&key="...)
	b = append(b, key.id...)
	b = append(b, "&signature="...)
	signature := key.sign(p, version, name, e)
	return append(b, signature[:]...)
}

// sign returns the signature of a link. A line end separates the fields. Only the
// last one, the file's name, can contain one, so two links never sign the same
// text.
func (k *linkKey) sign(p Provider, version, name string, expires []byte) (text [signatureLen]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	m := append(k.message[:0], "rekisteri link 1\n"...)
	for _, field := range [...]string{p.Namespace, p.Type, version} {
		m = append(m, field...)
		m = append(m, '\n')
	}
	m = append(m, expires...)
	m = append(m, '\n')
	m = append(m, name...)
	k.message = m
	k.mac.Reset()
	k.mac.Write(m)
	base64.RawURLEncoding.Encode(text[:], k.mac.Sum(k.sum[:0]))
	return text
}

// check returns nil if a request has a valid link to a file.
func (l *links) check(req *http.Request, p Provider, version, name string, now time.Time) error {
	if l == nil {
		return nil
	}
	refuse := func(why string) *refusal {
		return &refusal{status: http.StatusForbidden, reason: "the link to a file of " + p.String() + " " + version + " " + why}
	}
	query, err := url.ParseQuery(req.URL.RawQuery)
	if err != nil {
		return refuse("has a malformed query")
	}
	if len(query) == 0 {
		return refuse("is not signed")
	}
	expires, id, signature := query["expires"], query["key"], query["signature"]
	if len(expires) != 1 || len(id) != 1 || len(signature) != 1 {
		return refuse("does not have one each of expires, key and signature")
	}
	for _, key := range l.keys {
		if key.id != id[0] {
			continue
		}
		// The encoded text is compared, so that a signature has one spelling.
		want := key.sign(p, version, name, []byte(expires[0]))
		if subtle.ConstantTimeCompare(want[:], []byte(signature[0])) == 0 {
			return refuse("has been altered: its signature by the key " + key.id + " does not match")
		}
		end, err := strconv.ParseInt(expires[0], 10, 64)
		if err != nil {
			return refuse("has no valid time")
		}
		if late := now.Sub(time.Unix(end, 0)); late >= 0 {
			expired := refuse("expired " + late.Round(time.Second).String() + " ago")
			expired.expired = true
			return expired
		}
		return nil
	}
	return refuse(fmt.Sprintf("is signed with a key %.16q that this registry lacks", id[0]))
}
