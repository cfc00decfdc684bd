package rekisteri

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"weak"

	"github.com/rekisteri/rekisteri/internal/refresh"
)

const defaultPageBytes = 16 << 20

// A page is an encoded document. It is immutable.
type page struct {
	plain representation
	gzip  *representation // nil: the page is not compressed
}

// A representation is the body of a page in one encoding, with its headers.
type representation struct {
	body         []byte
	etag, length headerValue
}

// A headerValue is the only value of a header. It is stored as http.Header needs
// it, so that a request allocates nothing.
type headerValue []string

func newRepresentation(body []byte, etag string) representation {
	return representation{body, headerValue{etag}, headerValue{strconv.Itoa(len(body))}}
}

// encode returns a value as JSON, with a line end.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // URLs stay readable
	err := enc.Encode(v)
	return buf.Bytes(), err
}

// encodePage encodes a document.
func encodePage(document any) (*page, error) {
	body, err := encode(document)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(body)
	return &page{plain: newRepresentation(body, `"`+hex.EncodeToString(sum[:16])+`"`)}, nil
}

func (p *page) size() int64 {
	n := cap(p.plain.body)
	if p.gzip != nil {
		n += cap(p.gzip.body)
	}
	return int64(n)
}

// A pageKey names a page: the versions of a provider, or a package.
type pageKey struct {
	Provider
	version string // empty for the versions
	on      Platform
}

// clone returns a copy of the key whose strings do not keep the request in
// memory.
func (k pageKey) clone() pageKey {
	return pageKey{Provider{strings.Clone(k.Namespace), strings.Clone(k.Type)}, strings.Clone(k.version),
		Platform{strings.Clone(k.on.OS), strings.Clone(k.on.Arch)}}
}

// A cachedPage is a page and the value that it was made from. The pointers are
// weak: a page of a kilobyte must not keep a whole release in memory.
type cachedPage struct {
	*page
	listing weak.Pointer[Listing]
	release weak.Pointer[Release]
	expires int64 // of the page's links; 0: they do not expire
}

// pageOverhead is about what the cache needs for a page beside its body.
const pageOverhead = 600

// A pageCache holds pages. It evicts the least recently used ones.
type pageCache struct {
	limit int64
	pages *refresh.Map[pageKey, cachedPage]

	mu   sync.Mutex // guards gzip. There is only one, since a writer takes almost a megabyte
	gzip *gzip.Writer
}

func newPageCache(limit int64) *pageCache {
	if limit == 0 {
		limit = defaultPageBytes
	}
	return &pageCache{limit: limit, pages: refresh.NewMap[pageKey, cachedPage](limit, nil), gzip: gzip.NewWriter(nil)}
}

// put stores a page and returns it. If the old page for the key has the same
// body, put keeps and returns the old one.
func (c *pageCache) put(key pageKey, old, made cachedPage) *page {
	switch {
	case old.page != nil && bytes.Equal(old.plain.body, made.plain.body):
		made.page = old.page
	case key.version == "":
		c.compress(made.page)
	}
	if size := made.size() + pageOverhead; size <= c.limit {
		c.pages.Put(key.clone(), made, size)
	} else {
		c.pages.Delete(key)
	}
	return made.page
}

// compress adds the gzip representation to a new page, if it is smaller.
func (c *pageCache) compress(p *page) {
	var buf bytes.Buffer
	c.mu.Lock()
	c.gzip.Reset(&buf)
	c.gzip.Write(p.plain.body) // to a Buffer, so it cannot fail
	c.gzip.Close()
	c.mu.Unlock()
	if buf.Len() < len(p.plain.body) {
		etag := strings.TrimSuffix(p.plain.etag[0], `"`) + `-gzip"`
		zipped := newRepresentation(bytes.Clone(buf.Bytes()), etag)
		p.gzip = &zipped
	}
}

// listingPage returns the page of a listing, from the cache if that has it.
func (r *Registry) listingPage(p Provider, l *Listing) (*page, error) {
	key := pageKey{Provider: p}
	cached, ok := r.pages.pages.Get(key)
	if ok && cached.listing.Value() == l {
		return cached.page, nil
	}
	doc, err := r.listingDocument(p, l)
	if err != nil {
		return nil, err
	}
	made, err := encodePage(doc)
	if err != nil {
		return nil, err
	}
	return r.pages.put(key, cached, cachedPage{page: made, listing: weak.Make(l)}), nil
}

// packagePage returns the page of a package, from the cache if that has it.
func (r *Registry) packagePage(p Provider, version string, rel *Release, on Platform) (*page, error) {
	expires := r.linkExpiry()
	key := pageKey{p, version, on}
	cached, ok := r.pages.pages.Get(key)
	if ok && cached.release.Value() == rel && cached.expires == expires {
		return cached.page, nil
	}
	doc, err := r.packageDocument(p, version, rel, on, expires)
	if err != nil {
		return nil, err
	}
	made, err := encodePage(doc)
	if err != nil {
		return nil, err
	}
	return r.pages.put(key, cached, cachedPage{page: made, release: weak.Make(rel), expires: expires}), nil
}
