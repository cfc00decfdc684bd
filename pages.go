package rekisteri

import (
	"bytes"
	"compress/gzip"
	"container/list"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
	"weak"
)

const defaultPageBytes = 16 << 20

// A page is a document as it is sent. It is immutable.
type page struct {
	plain representation
	gzip  *representation // nil: it is sent as it is
}

// A representation is the bytes of a page in one encoding, with the values of
// its headers, which are made once.
type representation struct {
	body    []byte
	headers [2]string // ETag and Content-Length
}

func newRepresentation(body []byte, etag string) representation {
	return representation{body, [...]string{etag, strconv.Itoa(len(body))}}
}

func (r *representation) etag() []string   { return r.headers[0:1:1] }
func (r *representation) length() []string { return r.headers[1:2:2] }

// encodePage encodes a document.
func encodePage(document any) (*page, error) {
	body, err := encode(document)
	if err != nil {
		return nil, err
	}
	return newPage(body, sha256.Sum256(body)), nil
}

// newPage returns the page of a body, with an ETag of sum, which has to differ
// where bodies do.
func newPage(body []byte, sum [sha256.Size]byte) *page {
	etag := make([]byte, 0, 34)
	etag = append(etag, '"')
	etag = hex.AppendEncode(etag, sum[:16])
	etag = append(etag, '"')
	return &page{plain: newRepresentation(body, string(etag))}
}

// encode encodes a value as JSON, with a line end behind it.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer // which grows once, to what it needs: the encoder writes once
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // the addresses in it stay legible
	err := enc.Encode(v)
	return buf.Bytes(), err
}

// appendString appends s as encode would.
func appendString(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			text, _ := encode(s) // which a string always can be
			return append(b, bytes.TrimSuffix(text, []byte("\n"))...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

func (p *page) size() int64 {
	n := cap(p.plain.body)
	if p.gzip != nil {
		n += cap(p.gzip.body)
	}
	return int64(n)
}

// servePage answers a request with a page.
func (r *Registry) servePage(w http.ResponseWriter, req *http.Request, p *page, cacheControl []string, e *Event) error {
	h := w.Header()
	rep, part := &p.plain, req.Header["Range"] != nil
	if p.gzip != nil {
		if others := h["Vary"]; others == nil {
			h["Vary"] = r.varyEncoding
		} else {
			h["Vary"] = append(slices.Clip(others), r.varyEncoding...)
		}
		if !part && acceptsGzip(req.Header["Accept-Encoding"]) { // a part of a page is sent as it is
			rep = p.gzip
			h["Content-Encoding"] = r.gzipEncoding
		}
	}
	h["Content-Type"] = r.jsonType
	h["Cache-Control"] = cacheControl
	h["Etag"] = rep.etag()
	h["Content-Length"] = rep.length()
	if part || req.Header["If-None-Match"] != nil || req.Header["If-Match"] != nil {
		return r.serveContent(w, req, bytes.NewReader(rep.body), e)
	}
	w.WriteHeader(http.StatusOK)
	e.Status = http.StatusOK
	if req.Method != http.MethodHead {
		n, _ := w.Write(rep.body)
		e.Bytes = int64(n)
	}
	return nil
}

// acceptsGzip reports whether a client takes gzip, by the lines of its
// Accept-Encoding.
func acceptsGzip(lines []string) bool {
	for _, line := range lines {
		if line == "gzip" { // as the clients say it
			return true
		}
		for coding := range strings.SplitSeq(line, ",") {
			name, q, _ := strings.Cut(coding, ";")
			if strings.EqualFold(strings.TrimSpace(name), "gzip") {
				weight, err := strconv.ParseFloat(strings.TrimPrefix(strings.TrimSpace(q), "q="), 64)
				return err != nil || weight > 0
			}
		}
	}
	return false
}

// A pageKey is what a page answers: a provider's versions, or a package.
type pageKey struct {
	Provider
	version string // empty for the versions
	on      Platform
}

// clone returns a copy that does not hold the request that it was cut from.
func (k pageKey) clone() pageKey {
	texts := k.Namespace + k.Type + k.version + k.on.OS + k.on.Arch
	cut := func(s string) (copied string) {
		copied, texts = texts[:len(s)], texts[len(s):]
		return copied
	}
	return pageKey{Provider{cut(k.Namespace), cut(k.Type)}, cut(k.version), Platform{cut(k.on.OS), cut(k.on.Arch)}}
}

// A pageCache holds pages as long as there is room, and drops first what was
// asked for longest ago.
type pageCache struct {
	limit int64 // bytes

	mu     sync.RWMutex
	size   int64
	recent list.List // of *cachedPage, the last that was asked for first
	byKey  map[pageKey]*list.Element

	keys     map[SigningKey]*encodedKey
	keysSize int64 // bytes

	zip sync.Mutex // guards the writer, of which one is enough: it has a megabyte
	gz  *gzip.Writer
}

// A cachedPage is a page and what it was made of. Its pointers to that are
// weak: a page of a kilobyte must not hold a release of ten.
type cachedPage struct {
	key     pageKey
	listing weak.Pointer[Listing]
	release weak.Pointer[Release]
	expires int64 // when the links in the page do; 0: never
	page    *page
}

// overhead is about what a cached page takes beside its bytes.
const overhead = 600

func (c *cachedPage) size() int64 { return c.page.size() + overhead }

// get returns the page that answers key; nil: none is held.
func (c *pageCache) get(key pageKey) *cachedPage {
	c.mu.RLock()
	e := c.byKey[key]
	last := e == c.recent.Front()
	c.mu.RUnlock()
	if e == nil {
		return nil
	}
	if !last && c.mu.TryLock() { // if not, the order is still about right
		c.recent.MoveToFront(e)
		c.mu.Unlock()
	}
	return e.Value.(*cachedPage)
}

// replace puts a new page in the place of held, which may be nil. It returns
// the page that has these bytes.
func (c *pageCache) replace(held, entry *cachedPage) *page {
	if held != nil && bytes.Equal(held.page.plain.body, entry.page.plain.body) {
		entry.page = held.page
	} else if entry.key.version == "" {
		c.compress(entry.page)
	}
	c.put(entry)
	return entry.page
}

func (c *pageCache) put(entry *cachedPage) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.byKey[entry.key]; old != nil {
		c.remove(old)
	}
	if entry.size() > c.limit-c.keysSize {
		return
	}
	entry.key = entry.key.clone()
	c.byKey[entry.key] = c.recent.PushFront(entry)
	c.size += entry.size()
	for c.size+c.keysSize > c.limit {
		c.remove(c.recent.Back())
	}
}

func (c *pageCache) remove(e *list.Element) {
	entry := c.recent.Remove(e).(*cachedPage)
	delete(c.byKey, entry.key)
	c.size -= entry.size()
}

// An encodedKey is a signing key as documents have it. A few keys are most of
// many documents, so each is encoded and digested once.
type encodedKey struct {
	text []byte
	sum  [sha256.Size]byte
}

// size is about what a key takes: its text is in the map's key as well.
func (k *encodedKey) size() int64 { return int64(2 * len(k.text)) }

// endWithKeys returns the page of a document that lacks nothing but a list of
// keys and what is behind that.
func (c *pageCache) endWithKeys(document []byte, keys []SigningKey, end string) *page {
	body, sum := document, sha256.Sum256(document)
	for i, key := range keys {
		encoded := c.encodeKey(key)
		if i > 0 {
			body = append(body, ',')
		}
		body = append(body, encoded.text...)
		sum = sha256.Sum256(append(sum[:], encoded.sum[:]...))
	}
	body = append(body, end...)
	return newPage(bytes.Clone(body), sum)
}

// encodeKey returns a key encoded. A sixteenth of the room is for those that
// are held; where it is not enough, all of them are dropped.
func (c *pageCache) encodeKey(key SigningKey) *encodedKey {
	c.mu.RLock()
	held := c.keys[key]
	c.mu.RUnlock()
	if held != nil {
		return held
	}
	text, _ := encode(signingKeyJSON(key)) // which texts always can be
	text = bytes.TrimSuffix(text, []byte("\n"))
	encoded := &encodedKey{text, sha256.Sum256(text)}

	c.mu.Lock()
	defer c.mu.Unlock()
	if room := c.limit / 16; encoded.size() <= room && c.keys[key] == nil {
		if c.keysSize+encoded.size() > room {
			clear(c.keys)
			c.keysSize = 0
		}
		c.keys[key.clone()] = encoded
		c.keysSize += encoded.size()
	}
	return encoded
}

// clone returns a copy that holds nothing which its texts were cut from.
func (k SigningKey) clone() SigningKey {
	return SigningKey{strings.Clone(k.KeyID), strings.Clone(k.ASCIIArmor), strings.Clone(k.TrustSignature), strings.Clone(k.Source), strings.Clone(k.SourceURL)}
}

// compress adds the gzip representation to a new page, where it is smaller.
func (c *pageCache) compress(p *page) {
	c.zip.Lock()
	defer c.zip.Unlock()
	var buf bytes.Buffer
	if c.gz == nil {
		c.gz = gzip.NewWriter(&buf)
	} else {
		c.gz.Reset(&buf)
	}
	c.gz.Write(p.plain.body) // a Buffer takes everything
	c.gz.Close()
	if buf.Len() < len(p.plain.body) {
		etag := strings.TrimSuffix(p.plain.headers[0], `"`) + `-gzip"`
		rep := newRepresentation(bytes.Clone(buf.Bytes()), etag)
		p.gzip = &rep
	}
}

// listingPage returns the page of a listing.
func (r *Registry) listingPage(p Provider, l *Listing) (*page, error) {
	key := pageKey{Provider: p}
	held := r.pages.get(key)
	if held != nil && held.listing.Value() == l {
		return held.page, nil
	}
	doc, err := r.listingDocument(p, l)
	if err != nil {
		return nil, err
	}
	made, err := encodePage(doc)
	if err != nil {
		return nil, err
	}
	return r.pages.replace(held, &cachedPage{key: key, listing: weak.Make(l), page: made}), nil
}

// packagePage returns the page of a package of a release.
func (r *Registry) packagePage(p Provider, version string, rel *Release, on Platform) (*page, error) {
	expires := r.linkExpiry()
	key := pageKey{p, version, on}
	held := r.pages.get(key)
	if held != nil && held.release.Value() == rel && held.expires == expires {
		return held.page, nil
	}
	made, err := r.packageDocument(p, version, rel, on, expires)
	if err != nil {
		return nil, err
	}
	return r.pages.replace(held, &cachedPage{key: key, release: weak.Make(rel), expires: expires, page: made}), nil
}
