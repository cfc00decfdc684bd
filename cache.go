package rekisteri

import (
	"bytes"
	"encoding/json"
	"strings"
	"weak"

	"github.com/rekisteri/rekisteri/internal/page"
	"github.com/rekisteri/rekisteri/internal/refresh"
)

const defaultPageBytes = 16 << 20

// A headerValue is the only value of a header. It is stored as http.Header needs
// it, so that a request allocates nothing.
type headerValue []string

// encode returns a value as JSON, with a line end.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // URLs stay readable
	err := enc.Encode(v)
	return buf.Bytes(), err
}

// encodePage encodes a document.
func encodePage(document any) (*page.Page, error) {
	body, err := encode(document)
	if err != nil {
		return nil, err
	}
	return page.New(body), nil
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
	*page.Page
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
	gzip  page.Compressor
}

func newPageCache(limit int64) *pageCache {
	if limit == 0 {
		limit = defaultPageBytes
	}
	return &pageCache{limit: limit, pages: refresh.NewMap[pageKey, cachedPage](limit, nil)}
}

// put stores a page and returns it. If the old page for the key has the same
// body, put keeps and returns the old one.
func (c *pageCache) put(key pageKey, old, made cachedPage) *page.Page {
	switch {
	case old.Page != nil && bytes.Equal(old.Body(), made.Body()):
		made.Page = old.Page
	case key.version == "":
		c.gzip.Compress(made.Page)
	}
	if size := made.Size() + pageOverhead; size <= c.limit {
		c.pages.Put(key.clone(), made, size)
	} else {
		c.pages.Delete(key)
	}
	return made.Page
}

// listingPage returns the page of a listing, from the cache if that has it.
func (r *Registry) listingPage(p Provider, l *Listing) (*page.Page, error) {
	key := pageKey{Provider: p}
	cached, ok := r.pages.pages.Get(key)
	if ok && cached.listing.Value() == l {
		return cached.Page, nil
	}
	doc, err := r.listingDocument(p, l)
	if err != nil {
		return nil, err
	}
	made, err := encodePage(doc)
	if err != nil {
		return nil, err
	}
	return r.pages.put(key, cached, cachedPage{Page: made, listing: weak.Make(l)}), nil
}

// packagePage returns the page of a package, from the cache if that has it.
func (r *Registry) packagePage(p Provider, version string, rel *Release, on Platform) (*page.Page, error) {
	expires := r.linkExpiry()
	key := pageKey{p, version, on}
	cached, ok := r.pages.pages.Get(key)
	if ok && cached.release.Value() == rel && cached.expires == expires {
		return cached.Page, nil
	}
	doc, err := r.packageDocument(p, version, rel, on, expires)
	if err != nil {
		return nil, err
	}
	made, err := encodePage(doc)
	if err != nil {
		return nil, err
	}
	return r.pages.put(key, cached, cachedPage{Page: made, release: weak.Make(rel), expires: expires}), nil
}
