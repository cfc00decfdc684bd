package main

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"
)

// accessLog returns a handler that logs a line for each request that next
// answers. The query of a request, which signs a link, and its headers, which
// hold a token, are not in it. What the server refuses before a handler sees
// it, such as headers without end, is not logged.
func accessLog(next http.Handler, prefix string, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		begun, reason := time.Now(), new(string)
		path, _, _ := strings.Cut(req.URL.Path, "?") // a query that was encoded may hold a signature as well
		rec := &recorder{ResponseWriter: w, head: req.Method == http.MethodHead}
		defer func() { // a handler that panics has its line, too
			attrs := []slog.Attr{
				slog.String("method", req.Method), slog.String("route", route(path, prefix)), slog.String("path", path),
				slog.Int("status", rec.status), slog.Int64("bytes", rec.bytes), slog.Duration("duration", time.Since(begun)),
			}
			if *reason != "" {
				attrs = append(attrs, slog.String("reason", *reason))
			}
			log.LogAttrs(req.Context(), slog.LevelInfo, "request", attrs...)
		}()
		next.ServeHTTP(rec, req.WithContext(context.WithValue(req.Context(), reasonKey{}, reason)))
		if rec.status == 0 {
			rec.status = http.StatusOK // which the server sends for a handler that sends nothing
		}
	})
}

// route returns the kind of a path, of which there are few: the path itself
// would make a dimension without end of whatever counts lines by it.
func route(path, prefix string) string {
	const discovery = "/.well-known/terraform.json"
	below, ok := strings.CutPrefix(path, prefix)
	switch {
	case path == healthPath:
		return "health"
	case path == discovery || below == discovery:
		return "discovery"
	case !ok || !strings.HasPrefix(below, "/"):
		return "other"
	}
	names := strings.Split(below[1:], "/")
	switch {
	case len(names) == 5 && names[0] == "v1" && names[1] == "providers" && names[4] == "versions":
		return "versions"
	case len(names) == 8 && names[0] == "v1" && names[1] == "providers" && names[5] == "download":
		return "download"
	case len(names) == 5 && names[0] == "files":
		return "file"
	}
	return "other"
}

// A recorder notes what is sent. A file goes through it in the form that the
// connection can send straight from the kernel.
type recorder struct {
	http.ResponseWriter
	head   bool  // the body is not sent
	status int   // 0: nothing was sent
	bytes  int64 // of the body
}

// WriteHeader implements [http.ResponseWriter].
func (r *recorder) WriteHeader(code int) {
	if r.status == 0 && (code >= 200 || code == http.StatusSwitchingProtocols) { // others announce the final one
		r.status = code
	}
	r.ResponseWriter.WriteHeader(code)
}

// Write implements [http.ResponseWriter].
func (r *recorder) Write(b []byte) (int, error) {
	n, err := r.ResponseWriter.Write(b)
	r.sent(int64(n))
	return n, err
}

// ReadFrom implements [io.ReaderFrom].
func (r *recorder) ReadFrom(src io.Reader) (int64, error) {
	n, err := io.Copy(r.ResponseWriter, src)
	r.sent(n)
	return n, err
}

// Flush implements [http.Flusher].
func (r *recorder) Flush() { r.FlushError() }

// FlushError serves [http.ResponseController].
func (r *recorder) FlushError() error {
	err := http.NewResponseController(r.ResponseWriter).Flush()
	if err == nil {
		r.sent(0) // the header
	}
	return err
}

// Unwrap serves [http.ResponseController].
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) sent(n int64) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if !r.head {
		r.bytes += n
	}
}

// A reasonKey is the key of a request's context for a *string, the reason why
// the request was refused.
type reasonKey struct{}

// Reasons is a [slog.Handler] that tells the access log why a request was
// refused. The registry says that to its logger alone, most of it at debug
// level; what is printed remains the Handler's affair.
type reasons struct{ slog.Handler }

// Enabled implements [slog.Handler].
func (h reasons) Enabled(ctx context.Context, level slog.Level) bool {
	return ctx.Value(reasonKey{}) != nil || h.Handler.Enabled(ctx, level)
}

// Handle implements [slog.Handler].
func (h reasons) Handle(ctx context.Context, record slog.Record) error {
	if reason, ok := ctx.Value(reasonKey{}).(*string); ok && record.Message == "request failed" {
		record.Attrs(func(attr slog.Attr) bool {
			if attr.Key == "error" {
				*reason = attr.Value.String()
			}
			return true
		})
	}
	if !h.Handler.Enabled(ctx, record.Level) {
		return nil
	}
	return h.Handler.Handle(ctx, record)
}

// WithAttrs implements [slog.Handler].
func (h reasons) WithAttrs(attrs []slog.Attr) slog.Handler {
	return reasons{h.Handler.WithAttrs(attrs)}
}

// WithGroup implements [slog.Handler].
func (h reasons) WithGroup(name string) slog.Handler { return reasons{h.Handler.WithGroup(name)} }
