// Package httpfile serves files over HTTP. It is [http.ServeContent] with three
// additions: it reports what was sent, and why not all was; it leaves error
// answers to the caller; and slow clients are not cut off by the server's
// WriteTimeout.
package httpfile

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime/debug"
	"strings"
	"time"
)

const (
	writeChunk      = 64 << 10 // the bytes for which the write deadline is extended
	minWriteTimeout = 10 * time.Minute
	firstRead       = 512 // the bytes that are read before the header is sent
)

// Sent is what was sent to a client.
type Sent struct {
	Status int   // 0: no header was sent, so that the caller can answer
	Bytes  int64 // of the body
}

// A RefusedError is returned for a request with a condition or range that does not
// hold. Nothing was sent.
type RefusedError struct{ Status int }

func (e *RefusedError) Error() string { return "a condition or range of the request does not hold" }

// A HungUpError is returned if the client did not read the whole body.
type HungUpError struct {
	Sent int64
	Err  error
}

func (e *HungUpError) Error() string {
	return fmt.Sprintf("the client hung up after %d bytes: %v", e.Sent, e.Err)
}

func (e *HungUpError) Unwrap() error { return e.Err }

// Serve answers a request with content. The headers that describe it are already
// set. Sent is up to date even if content panics. Errors that are not of the types
// above are errors of content.
func Serve(w http.ResponseWriter, req *http.Request, content io.ReadSeeker, sent *Sent) error {
	if _, err := content.Seek(0, io.SeekEnd); err != nil { // ServeContent does not tell the cause
		return err
	}
	cw := &writer{ResponseWriter: w, sent: sent}
	if srv, ok := req.Context().Value(http.ServerContextKey).(*http.Server); ok && srv.WriteTimeout > 0 {
		cw.timeout = max(srv.WriteTimeout, minWriteTimeout)
	}
	if strings.Contains(req.Header.Get("Range"), ",") {
		shared := &sharedContent{content: content, turn: make(chan struct{}, 1)}
		defer shared.end()
		content = shared
	}
	http.ServeContent(cw, req, "", time.Time{}, content)
	switch {
	case cw.refused != 0:
		return &RefusedError{cw.refused}
	case cw.err == nil:
		cw.sendHeader() // if there is no body
		return nil
	case cw.source.err == nil:
		return &HungUpError{sent.Bytes, cw.err}
	}
	return fmt.Errorf("the file cannot be read after %d bytes: %w", sent.Bytes, cw.source.err)
}

// A sharedContent is content that http.ServeContent reads in a goroutine of its
// own, as it does for several ranges. The goroutine may outlive ServeContent, and
// the caller of Serve may close the content then. A panic there would end the
// process.
type sharedContent struct {
	content io.ReadSeeker
	turn    chan struct{} // has an element while the content is in use
	ended   bool          // it must not be used any more
}

// end waits until the content is not in use, and lets nobody use it any more.
func (c *sharedContent) end() {
	c.turn <- struct{}{}
	c.ended = true
	<-c.turn
}

// Read implements [io.Reader].
func (c *sharedContent) Read(b []byte) (n int, err error) {
	err = c.use(func() error {
		n, err = c.content.Read(b)
		return err
	})
	return n, err
}

// Seek implements [io.Seeker].
func (c *sharedContent) Seek(offset int64, whence int) (at int64, err error) {
	err = c.use(func() error {
		at, err = c.content.Seek(offset, whence)
		return err
	})
	return at, err
}

// use calls f unless the content has ended. A panic is an error.
func (c *sharedContent) use(f func() error) (err error) {
	c.turn <- struct{}{}
	defer func() { <-c.turn }()
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("panic: %v\n%s", v, debug.Stack())
		}
	}()
	if c.ended {
		return os.ErrClosed
	}
	return f()
}

// A writer is the ResponseWriter for http.ServeContent. If the server has a write
// deadline, it extends the deadline for each chunk, so that only a client that
// stops reading is disconnected. It notices progress late: a blocked write
// continues when a third of the connection's buffer is free, and the buffer may
// have a megabyte.
type writer struct {
	http.ResponseWriter
	sent    *Sent
	timeout time.Duration // for a chunk; 0: none

	status  int   // that ServeContent chose; sent with the first bytes of the body
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
func (w *writer) WriteHeader(code int) {
	if code >= 400 {
		w.refused = code
		return
	}
	w.status = code
}

// sendHeader sends the header if it was not sent yet. The first bytes of content
// were read by then: the caller can still answer if content cannot be read.
func (w *writer) sendHeader() {
	if w.sent.Status == 0 {
		w.sent.Status = w.status
		w.ResponseWriter.WriteHeader(w.status)
	}
}

// Write implements [http.ResponseWriter]. ServeContent uses it for error texts,
// and ReadFrom for content.
func (w *writer) Write(b []byte) (int, error) {
	if w.refused != 0 {
		return len(b), nil
	}
	w.sendHeader()
	n, err := w.ResponseWriter.Write(b)
	w.sent.Bytes += int64(n)
	return n, err
}

// ReadFrom implements [io.ReaderFrom]. It passes a file on in the form that
// net/http recognizes, so that the kernel can send it without a copy.
func (w *writer) ReadFrom(src io.Reader) (n int64, err error) {
	limited, ok := src.(*io.LimitedReader) // as ServeContent passes it
	if !ok {
		return io.Copy(struct{ io.Writer }{w}, src)
	}
	w.source = &source{Reader: limited.R}
	var from io.Reader = w.source
	file, isFile := limited.R.(*os.File)
	if isFile {
		from = file
	} else if limited.N > 0 {
		first := make([]byte, min(limited.N, firstRead))
		read, err := w.source.Read(first)
		if read == 0 && err != nil && err != io.EOF {
			w.err = err
			return 0, err
		}
		from = io.MultiReader(bytes.NewReader(first[:read]), w.source)
	}
	w.sendHeader()
	for n < limited.N && w.err == nil {
		chunk := &io.LimitedReader{R: from, N: limited.N - n}
		if w.timeout > 0 {
			chunk.N = min(chunk.N, writeChunk)
			http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.timeout))
		}
		var m int64
		m, w.err = io.Copy(w.ResponseWriter, chunk)
		n += m
		w.sent.Bytes += m
		if w.err == nil && chunk.N > 0 {
			w.source.err = io.ErrUnexpectedEOF
			w.err = w.source.err
		}
	}
	if isFile && w.err != nil && w.source.err == nil {
		w.source.Read(make([]byte, 1)) // whose error was it? sendfile does not tell
	}
	return n, w.err
}

// Unwrap returns the underlying writer, for [http.ResponseController].
func (w *writer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
