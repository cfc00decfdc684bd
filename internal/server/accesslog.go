package server

import (
	"log/slog"
	"net/http"
	"net/url"
	"strings"

	"github.com/rekisteri/rekisteri"
)

// routeHealth is the route of [healthPath] in events. The others are those of
// the registry.
const routeHealth = "health"

// An accessLog logs a line for each request. The line has no query, which may
// sign a link, and no headers, which may contain a token. Requests that
// net/http refuses itself, such as those with too large headers, are not
// logged.
type accessLog struct {
	log    *slog.Logger
	tokens *rekisteri.TokenFile // nil: requests need no token
}

// observe logs a request. It is the [rekisteri.Options.Observe] function.
func (l accessLog) observe(req *http.Request, e rekisteri.Event) {
	attrs := []slog.Attr{
		slog.String("method", req.Method), slog.String("route", e.Route), slog.String("path", requestPath(req)),
		slog.Int("status", e.Status), slog.Int64("bytes", e.Bytes), slog.Duration("duration", e.Duration),
		slog.String("remote", req.RemoteAddr),
	}
	if l.tokens != nil {
		if by := l.tokens.Label(req); by != "" {
			attrs = append(attrs, slog.String("by", by))
		}
	}
	if e.Err != nil {
		attrs = append(attrs, slog.String("reason", e.Err.Error()))
	}
	l.log.LogAttrs(req.Context(), slog.LevelInfo, "request", attrs...)
}

// requestPath returns the path that the client asked for, with the prefix that
// was stripped from the request's URL.
func requestPath(req *http.Request) string {
	path := req.URL.Path
	if u, err := url.ParseRequestURI(req.RequestURI); err == nil {
		path = u.Path
	}
	path, _, _ = strings.Cut(path, "?") // an encoded query may contain a signature as well
	return path
}
