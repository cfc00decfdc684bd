package rekisteri

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// servePage answers a request with a page.
func (r *Registry) servePage(w http.ResponseWriter, req *http.Request, p *page, cacheControl headerValue, e *Event) error {
	h := w.Header()
	rep := &p.plain
	_, hasRange := req.Header["Range"]
	if p.gzip != nil {
		if others := h["Vary"]; others == nil {
			h["Vary"] = r.headers.vary
		} else {
			h["Vary"] = append(slices.Clip(others), r.headers.vary...)
		}
		if !hasRange && acceptsGzip(req.Header["Accept-Encoding"]) { // a range is one of the plain body
			rep = p.gzip
			h["Content-Encoding"] = r.headers.gzip
		}
	}
	h["Content-Type"] = r.headers.json
	h["Cache-Control"] = cacheControl
	h["Etag"] = rep.etag
	h["Content-Length"] = rep.length
	if hasRange || req.Header["If-None-Match"] != nil || req.Header["If-Match"] != nil {
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

// serveContent answers a request with content, as [http.ServeContent] does. The
// headers that describe the content are already set.
func (r *Registry) serveContent(w http.ResponseWriter, req *http.Request, content io.ReadSeeker, e *Event) error {
	if _, err := content.Seek(0, io.SeekEnd); err != nil { // ServeContent does not tell the cause
		return err
	}
	cw := &contentWriter{ResponseWriter: w}
	if srv, ok := req.Context().Value(http.ServerContextKey).(*http.Server); ok && srv.WriteTimeout > 0 {
		cw.timeout = max(srv.WriteTimeout, minWriteTimeout)
	}
	defer func() { e.Status, e.Bytes = cw.status, cw.bytes }() // even if content panics
	http.ServeContent(cw, req, "", time.Time{}, content)
	switch {
	case cw.refused != 0:
		return &refusal{status: cw.refused, reason: "a condition or range of the request does not hold"}
	case cw.err == nil:
		return nil
	case cw.source.err == nil:
		return &refusal{status: statusHungUp, reason: fmt.Sprintf("the client hung up after %d bytes: %v", cw.bytes, cw.err)}
	}
	return fmt.Errorf("the file cannot be read after %d bytes: %w", cw.bytes, cw.source.err)
}

// statusHungUp is nginx's status for a client that hung up. It is never sent.
const statusHungUp = 499

const (
	writeChunk      = 64 << 10 // the bytes for which the write deadline is extended
	minWriteTimeout = 10 * time.Minute
)

// A contentWriter is the ResponseWriter for http.ServeContent. It leaves errors to
// the registry and records what was sent. If the server has a write deadline, it
// extends the deadline for each chunk, so that only a client that stops reading
// is disconnected. It notices progress late: a blocked write continues when a
// third of the connection's buffer is free, and the buffer may have a megabyte.
type contentWriter struct {
	http.ResponseWriter
	timeout time.Duration // for a chunk; 0: none

	status  int   // 0: no header was sent
	bytes   int64 // of the body
	refused int   // the error status that ServeContent chose
	err     error // what ended the body early
	source  *source
}

// A source is a reader that records its error.
type source struct {
	io.Reader
	err error // never io.EOF
}

// Read implements [io.Reader].
func (s *source) Read(b []byte) (int, error) {
	n, err := s.Reader.Read(b)
	if err != io.EOF {
		s.err = err
	}
	return n, err
}

// WriteHeader implements [http.ResponseWriter].
func (w *contentWriter) WriteHeader(code int) {
	if code >= 400 {
		w.refused = code
		return
	}
	w.status = code
	w.ResponseWriter.WriteHeader(code)
}

// Write implements [http.ResponseWriter]. ServeContent uses it for error texts,
// and ReadFrom for content.
func (w *contentWriter) Write(b []byte) (int, error) {
	if w.refused != 0 {
		return len(b), nil
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// ReadFrom implements [io.ReaderFrom]. It passes a file on in the form that
// net/http recognizes, so that the kernel can send it without a copy.
func (w *contentWriter) ReadFrom(src io.Reader) (sent int64, err error) {
	limited, ok := src.(*io.LimitedReader) // as ServeContent passes it
	if !ok {
		return io.Copy(struct{ io.Writer }{w}, src)
	}
	w.source = &source{Reader: limited.R}
	var from io.Reader = w.source
	file, isFile := limited.R.(*os.File)
	if isFile {
		from = file
	}
	for sent < limited.N && w.err == nil {
		chunk := &io.LimitedReader{R: from, N: limited.N - sent}
		if w.timeout > 0 {
			chunk.N = min(chunk.N, writeChunk)
			http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.timeout))
		}
		var n int64
		n, w.err = io.Copy(w.ResponseWriter, chunk)
		sent += n
		if w.err == nil && chunk.N > 0 {
			w.source.err = io.ErrUnexpectedEOF
			w.err = w.source.err
		}
	}
	w.bytes += sent
	if isFile && w.err != nil && w.source.err == nil {
		w.source.Read(make([]byte, 1)) // whose error was it? sendfile does not tell
	}
	return sent, w.err
}

// Unwrap returns the underlying writer, for [http.ResponseController].
func (w *contentWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
