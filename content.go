package rekisteri

import (
	"io"
	"math"
	"net/http"
	"time"
)

// serveContent answers a request with what http.ServeContent makes of content,
// whose headers are set.
func (r *Registry) serveContent(w http.ResponseWriter, req *http.Request, content io.ReadSeeker) {
	if _, err := content.Seek(0, io.SeekEnd); err != nil { // ServeContent would keep the cause to itself
		r.fail(w, req, err)
		return
	}
	cw := &contentWriter{ResponseWriter: w, refuse: func(code int) {
		r.fail(w, req, &refusal{code, "the condition or the range of the request does not hold"})
	}}
	if srv, ok := req.Context().Value(http.ServerContextKey).(*http.Server); ok && srv.WriteTimeout > 0 {
		cw.patience = max(srv.WriteTimeout, leastPatience)
	}
	http.ServeContent(cw, req, "", time.Time{}, content)
}

// A contentWriter gives errors the registry's form. Where the server has a
// write deadline, it puts that off while the response makes progress: a zip
// takes as long as it takes. Progress is slow to see: a write that waits goes
// on when a third of the connection's buffer is free, which may be a megabyte.
type contentWriter struct {
	http.ResponseWriter
	refuse   func(code int)
	refused  bool
	patience time.Duration // a chunk has to get through in this time; 0: in any
}

const (
	writeChunk    = 64 << 10 // bytes
	leastPatience = 10 * time.Minute
)

// WriteHeader implements [http.ResponseWriter].
func (w *contentWriter) WriteHeader(code int) {
	if code >= 400 {
		w.refused = true
		w.refuse(code)
		return
	}
	w.ResponseWriter.WriteHeader(code)
}

// Write implements [http.ResponseWriter].
func (w *contentWriter) Write(b []byte) (int, error) {
	if w.refused {
		return len(b), nil
	}
	w.extend()
	return w.ResponseWriter.Write(b)
}

// ReadFrom implements [io.ReaderFrom]. The connection gets a file in a form
// that it can send straight from the kernel.
func (w *contentWriter) ReadFrom(src io.Reader) (sent int64, err error) {
	if w.patience == 0 {
		return io.Copy(w.ResponseWriter, src)
	}
	rest := &io.LimitedReader{R: src, N: math.MaxInt64}
	if limited, ok := src.(*io.LimitedReader); ok {
		rest = limited
	}
	for rest.N > 0 {
		w.extend()
		chunk := &io.LimitedReader{R: rest.R, N: min(rest.N, writeChunk)}
		n, err := io.Copy(w.ResponseWriter, chunk)
		sent += n
		rest.N -= n
		if err != nil || chunk.N > 0 {
			return sent, err
		}
	}
	return sent, nil
}

// Unwrap serves [http.ResponseController].
func (w *contentWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *contentWriter) extend() {
	if w.patience > 0 {
		http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.patience))
	}
}
