package server

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/browse"
	"github.com/rekisteri/rekisteri/internal/names"
)

// pages returns the handler for the pages of a registry, or nil if it must not
// serve pages. tokens may be nil.
func (s *serving) pages(reg *rekisteri.Registry, opts *rekisteri.Options, tree *Tree, tokens *rekisteri.TokenFile) http.Handler {
	if tokens == nil && s.linkKey != "" {
		// The proxy in front protects /v1/, and may not know of the pages.
		opts.Logger.Info("there are no pages for people, since -link-key is set without -tokens")
		return nil
	}
	settings := &browse.Options{
		Logger:  opts.Logger,
		Observe: opts.Observe,
		Problems: func(req *http.Request, p rekisteri.Provider) ([]rekisteri.Problem, error) {
			return tree.Backend.Problems(req.Context(), p)
		},
		CacheBytes: opts.PageBytes / 8,
	}
	if u, err := url.Parse(s.externalURL); err == nil {
		// It is empty for an IP address, for example. Then pages use the Host
		// header.
		settings.Host = names.SourceHost(u.Host)
	}
	if tokens != nil {
		settings.Authorize = tokens.AuthorizeBasic
		settings.Realm = "Provider registry: the password is your token"
	}
	return browse.New(reg, settings)
}

// withPages returns a handler that serves the registry, and pages at all other
// paths. If pages is nil, it returns reg.
func withPages(reg, pages http.Handler) http.Handler {
	if pages == nil {
		return reg
	}
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		for _, own := range []string{"/v1/", "/files/", "/.well-known/"} {
			if strings.HasPrefix(req.URL.Path, own) {
				reg.ServeHTTP(w, req)
				return
			}
		}
		pages.ServeHTTP(w, req)
	})
}
