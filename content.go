package rekisteri

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

const (
	writeChunk      = 64 << 10         // bytes between two extensions of the deadline
	minWriteTimeout = 10 * time.Minute // for a chunk, however short the server's is
)

// serveContent answers a request with content, as http.ServeContent does. The
// headers of the content are set already.
func (r *Registry) serveContent(w http.ResponseWriter, req *http.Request, content io.ReadSeeker, e *Event) error {
	if _, err := content.Seek(0, io.SeekEnd); err != nil { // ServeContent hides the cause
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
		return &refusal{cw.refused, "the condition or the range of the request does not hold"}
	case cw.err == nil:
		return nil
	}
	err := cw.source.err
	if err == nil || errors.Is(req.Context().Err(), context.Canceled) {
		err = &hangUp{cw.err}
	}
	return fmt.Errorf("it broke off after %d bytes: %w", cw.bytes, err)
}

// A hangUp is an error of a connection whose client did not read the whole
// answer.
type hangUp struct{ err error }

func (e *hangUp) Error() string { return "the client hung up: " + e.err.Error() }
func (e *hangUp) Unwrap() error { return e.err }

// A contentWriter is what http.ServeContent writes to. It leaves errors to the
// registry, and notes what was sent. If the server has a write deadline, each
// chunk moves it: a zip takes as long as it takes, while a client that stops
// reading is cut off. Progress is seen late, since a write waits until a third
// of the connection's buffer is free, which may be a megabyte.
type contentWriter struct {
	http.ResponseWriter
	timeout time.Duration // for a chunk; 0: none

	status  int // 0: nothing was sent
	bytes   int64
	refused int     // the status that ServeContent wanted to fail with
	err     error   // what the body broke off with
	source  *source // where the body came from
}

// A source is a reader that keeps its error.
type source struct {
	io.Reader
	err error // io.EOF is none
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

// Write implements [http.ResponseWriter]. ServeContent calls it for the text of
// an error; content comes through ReadFrom.
func (w *contentWriter) Write(b []byte) (int, error) {
	if w.refused != 0 {
		return len(b), nil
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// ReadFrom implements [io.ReaderFrom]. The connection gets a file in the form
// that it can send straight from the kernel.
func (w *contentWriter) ReadFrom(src io.Reader) (sent int64, err error) {
	limited, ok := src.(*io.LimitedReader) // what ServeContent copies from
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
		w.source.Read(make([]byte, 1)) // the kernel does not tell which side has failed
	}
	return sent, w.err
}

// Unwrap serves [http.ResponseController].
func (w *contentWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
