// Package page holds encoded documents, and answers requests with them.
package page

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// A Page is an encoded document. It is immutable.
type Page struct {
	plain        representation
	gzip         *representation // nil: the page is not compressed
	coding, vary []string        // headers of a compressed page
}

// A representation is the body of a page in one encoding, with its headers. Those
// are stored as http.Header needs them, so that a request allocates nothing.
type representation struct {
	body         []byte
	etag, length []string
}

func newRepresentation(body []byte, etag string) representation {
	return representation{body, []string{etag}, []string{strconv.Itoa(len(body))}}
}

// New returns a page with a body, which must not be modified afterwards.
func New(body []byte) *Page {
	sum := sha256.Sum256(body)
	return &Page{plain: newRepresentation(body, `"`+hex.EncodeToString(sum[:16])+`"`)}
}

// Body returns the body that is not compressed. It must not be modified.
func (p *Page) Body() []byte { return p.plain.body }

// Hash returns a hash of the body, in hexadecimal digits.
func (p *Page) Hash() string { return strings.Trim(p.plain.etag[0], `"`) }

// Size is how much memory the bodies take.
func (p *Page) Size() int64 {
	n := cap(p.plain.body)
	if p.gzip != nil {
		n += cap(p.gzip.body)
	}
	return int64(n)
}

// A Compressor compresses pages, one at a time. The zero value is ready to use.
type Compressor struct {
	mu     sync.Mutex // guards writer, since a writer takes almost a megabyte
	writer *gzip.Writer
}

// Compress adds the gzip representation to a new page, if it is smaller.
func (c *Compressor) Compress(p *Page) {
	var buf bytes.Buffer
	c.mu.Lock()
	if c.writer == nil {
		c.writer = gzip.NewWriter(nil)
	}
	c.writer.Reset(&buf)
	c.writer.Write(p.plain.body) // to a Buffer, so it cannot fail
	c.writer.Close()
	c.mu.Unlock()
	if buf.Len() < len(p.plain.body) {
		etag := strings.TrimSuffix(p.plain.etag[0], `"`) + `-gzip"`
		zipped := newRepresentation(bytes.Clone(buf.Bytes()), etag)
		p.gzip, p.coding, p.vary = &zipped, []string{"gzip"}, []string{"Accept-Encoding"}
	}
}

// Begin sets the headers that describe the page in an answer to a request, and
// returns the body to send. If conditional is true, the request has a condition
// or a range, and the answer depends on it.
func (p *Page) Begin(h http.Header, req *http.Request, contentType, cacheControl []string) (body []byte, conditional bool) {
	rep := &p.plain
	_, hasRange := req.Header["Range"]
	if p.gzip != nil {
		if others := h["Vary"]; others == nil {
			h["Vary"] = p.vary
		} else {
			h["Vary"] = append(slices.Clip(others), p.vary...)
		}
		if !hasRange && acceptsGzip(req.Header["Accept-Encoding"]) { // a range refers to the plain body
			rep = p.gzip
			h["Content-Encoding"] = p.coding
		}
	}
	h["Content-Type"] = contentType
	h["Cache-Control"] = cacheControl
	h["Etag"] = rep.etag
	h["Content-Length"] = rep.length
	return rep.body, hasRange || req.Header["If-None-Match"] != nil || req.Header["If-Match"] != nil
}

// acceptsGzip reports whether a client accepts gzip, by the lines of its
// Accept-Encoding header.
func acceptsGzip(lines []string) bool {
	for _, line := range lines {
		if line == "gzip" { // what Terraform and OpenTofu send
			return true
		}
		for coding := range strings.SplitSeq(line, ",") {
			name, param, _ := strings.Cut(coding, ";")
			if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
				continue
			}
			_, weight, ok := strings.Cut(strings.ToLower(param), "q=")
			q, err := strconv.ParseFloat(strings.TrimSpace(weight), 64)
			return !ok || err != nil || q > 0
		}
	}
	return false
}
