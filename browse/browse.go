// Package browse serves pages about the providers of a registry: what there is,
// how to use it, and what is wrong with it.
//
// The handler of [New] serves these paths. Put it next to the [rekisteri.Registry],
// which serves /v1/, /files/ and /.well-known/:
//
//	/                              the providers; ?q= filters them
//	/providers/{namespace}/{type}  one provider
//	/assets/                       the style sheet and the script
//
//	pages := browse.New(reg, nil)
//	mux.Handle("/v1/", reg)
//	mux.Handle("/files/", reg)
//	mux.Handle("/.well-known/", reg)
//	mux.Handle("/", pages)
//
// All links are relative, so [http.StripPrefix] and proxies may mount the pages
// anywhere. A request that accepts application/json rather than text/html gets the
// same as JSON.
//
// A page shows only what [rekisteri.Options.Authorize] allows the request to see.
// It has no links to files, which would be signed in a private registry.
package browse

import (
	"bytes"
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/httpfile"
	"github.com/rekisteri/rekisteri/internal/loglimit"
	"github.com/rekisteri/rekisteri/internal/names"
	"github.com/rekisteri/rekisteri/internal/page"
	"github.com/rekisteri/rekisteri/internal/refresh"
)

// Options are the settings of the pages. The zero value is ready to use.
type Options struct {
	// Host is the host name in the source addresses of the providers, with its
	// port unless that is 443, such as "registry.example.com". Clients ask it for
	// /.well-known/terraform.json. Empty means the Host header of the request: set
	// Host if a proxy changes that.
	Host string

	// Authorize decides whether a request may see a provider, in place of
	// [rekisteri.Options.Authorize] and with the same errors. It is for people who
	// authenticate in another way than clients do. Nil means
	// [rekisteri.Registry.Authorize].
	//
	// The list calls it for each provider until a page is full, so it should be
	// fast. The first call is for a provider that may not exist. If its error
	// matches [rekisteri.ErrUnauthenticated], the answer is 401, whichever
	// providers there are.
	Authorize func(*http.Request, rekisteri.Provider) error

	// Realm, if it is not empty, makes browsers ask for a user and a password if
	// Authorize returns [rekisteri.ErrUnauthenticated]. Authorize must accept
	// Basic authentication then, as [rekisteri.TokenFile.AuthorizeBasic] does.
	// Some browsers show the realm to users.
	Realm string

	// Problems returns what is wrong with a provider, to the extent that the
	// request may see it. It is called if Authorize allows the provider. Nil means
	// that pages show no problems. For an [rekisteri.FSBackend] b, it is often
	//
	//	func(req *http.Request, p rekisteri.Provider) ([]rekisteri.Problem, error) {
	//		return b.Problems(req.Context(), p)
	//	}
	//
	// New does not take this function from the backend, so that a backend that
	// hides something does not reveal it by accident.
	Problems func(*http.Request, rekisteri.Provider) ([]rekisteri.Problem, error)

	// Frame writes the HTML document for a page, for example in the layout of a
	// portal. Often it executes an [html/template.Template], and passes Content as
	// [html/template.HTML]. It is called for each request, by several goroutines
	// at once. Error pages have the frame too, so it must accept requests that
	// Authorize refuses. If it fails, a page becomes 500, and an error page
	// becomes JSON. Nil is a plain document.
	//
	// Content is made once for all requests. The document is not cached, and not
	// compressed: a proxy or a handler around the pages can do that.
	//
	// If a handler around the pages sets the header Content-Security-Policy, that
	// one is sent. It must allow the style sheet and the script from the same
	// origin.
	Frame func(w io.Writer, req *http.Request, p Page) error

	// Logger logs failures of the server at error level, and other refused
	// requests at debug level. Nil means [slog.Default] at the time of [New].
	Logger *slog.Logger

	// Observe is called as [rekisteri.Options.Observe] is. The route is
	// [rekisteri.RoutePage], or [rekisteri.RouteOther] if there is no such page.
	Observe func(*http.Request, rekisteri.Event)

	// CacheBytes limits the memory for encoded pages, in bytes. Zero is 4 MiB. A
	// negative number keeps no pages.
	CacheBytes int64
}

const (
	defaultCacheBytes = 4 << 20

	indexPattern    = "GET /{$}"
	providerPattern = "GET /providers/{namespace}/{type}"
	assetPattern    = "GET /assets/{name}"
)

//go:embed assets
var assets embed.FS

// A handler serves the pages.
type handler struct {
	registry  *rekisteri.Registry
	lister    rekisteri.Lister // the backend; nil: it cannot list its providers
	host      string
	authorize func(*http.Request, rekisteri.Provider) error
	challenge string // of a 401
	problems  func(*http.Request, rekisteri.Provider) ([]rekisteri.Problem, error)
	frame     func(io.Writer, *http.Request, Page) error // nil: a plain document
	log       *slog.Logger
	observe   func(*http.Request, rekisteri.Event)

	style, script asset
	cache         *refresh.Map[key, *cached]
	cacheBytes    int64
	gzip          page.Compressor
	reports       loglimit.Limit // of providers that cannot be listed
}

// New returns a handler for the pages of a registry. Nil options are the defaults.
// The list of providers needs a backend that is a [rekisteri.Lister].
//
// New takes the registry, and not its backend, so that the pages show what the
// registry's Authorize allows, and nothing else.
//
// New panics if r is nil, or Host is not a host name.
func New(r *rekisteri.Registry, opts *Options) http.Handler {
	if r == nil {
		panic("browse: New needs a Registry")
	}
	if opts == nil {
		opts = new(Options)
	}
	if opts.Host != "" && names.SourceHost(opts.Host) == "" {
		panic(fmt.Sprintf("browse: Host %q is not a host name, such as registry.example.com", opts.Host))
	}
	h := &handler{
		registry: r, host: names.SourceHost(opts.Host), authorize: opts.Authorize, challenge: "Bearer", problems: opts.Problems,
		frame: opts.Frame, log: opts.Logger, observe: opts.Observe,
		style:  newAsset("style.css", "text/css; charset=utf-8"),
		script: newAsset("script.js", "text/javascript; charset=utf-8"),
	}
	h.lister, _ = r.Backend().(rekisteri.Lister)
	if h.authorize == nil {
		h.authorize = r.Authorize
	}
	if opts.Realm != "" {
		h.challenge = fmt.Sprintf(`Basic realm="%s", charset="UTF-8"`, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(opts.Realm))
	}
	if h.log == nil {
		h.log = slog.Default()
	}
	h.cacheBytes = cmp.Or(opts.CacheBytes, defaultCacheBytes)
	h.cache = refresh.NewMap[key, *cached](h.cacheBytes, nil)
	for _, a := range []*asset{&h.style, &h.script} {
		h.gzip.Compress(a.page)
	}
	return h
}

// ServeHTTP answers a request for a page.
func (h *handler) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	v := &visit{handler: h, w: w, req: req, event: rekisteri.Event{Route: rekisteri.RouteOther}}
	if h.observe != nil {
		started := time.Now()
		defer func() {
			p := recover()
			if p != nil {
				v.event.Err, v.event.Reason = fmt.Errorf("panic: %v", p), rekisteri.ReasonError
				v.event.Status = cmp.Or(v.event.Status, http.StatusInternalServerError)
			}
			v.event.Duration = time.Since(started)
			h.observe(req, v.event)
			if p != nil {
				panic(p)
			}
		}()
	}
	if err := v.answer(); err != nil {
		v.fail(err)
	}
}

// A visit is a request for a page, and its answer.
type visit struct {
	*handler
	w     http.ResponseWriter
	req   *http.Request
	root  string // the relative URL of the index
	event rekisteri.Event

	frameFailed bool // so it is not called again
}

// A refusal is an error for which this package itself chooses the status.
type refusal struct {
	status   int
	reason   string
	location string // of a redirect
}

func (e *refusal) Error() string { return e.reason }

func notFound(reason string) error { return &refusal{status: http.StatusNotFound, reason: reason} }

// A denial is an error of Options.Authorize.
type denial struct {
	what string // what the request may not see
	error
}

func (e *denial) Error() string { return fmt.Sprintf("not authorized for %s: %v", e.what, e.error) }
func (e *denial) Unwrap() error { return e.error }

// isRefused reports whether an error of Authorize is about the request, and not
// about what Authorize depends on.
func isRefused(err error) bool {
	return errors.Is(err, rekisteri.ErrUnauthenticated) || errors.Is(err, fs.ErrPermission) || errors.Is(err, fs.ErrNotExist)
}

// answer answers the request. If it returns an error, the caller answers.
func (v *visit) answer() error {
	path := v.req.URL.Path
	v.root = strings.Repeat("../", max(strings.Count(path, "/")-1, 0))
	v.root = cmp.Or(v.root, "./")
	v.req.Pattern = "" // of an outer http.ServeMux
	header := v.w.Header()
	if header["Content-Security-Policy"] == nil {
		header.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'self'")
	}
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "no-referrer")
	header.Add("Vary", "Accept")
	if v.req.Method != http.MethodGet && v.req.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		return &refusal{status: http.StatusMethodNotAllowed, reason: "the method is neither GET nor HEAD"}
	}
	if strings.Contains(strings.ToLower(v.req.URL.RawPath), "%2f") {
		return notFound("a slash in the path is encoded") // rules of a proxy would not see it
	}
	parts := strings.Split(path, "/")
	switch {
	case path == "": // below a StripPrefix without a slash
		return v.redirectToRoot()
	case path == "/":
		v.begin(indexPattern)
		return v.index()
	case len(parts) == 4 && parts[1] == "providers":
		v.begin(providerPattern)
		return v.provider(parts[2], parts[3])
	case len(parts) == 5 && parts[1] == "providers" && parts[4] == "":
		return &refusal{http.StatusPermanentRedirect, "the path ends in a slash", "../" + url.PathEscape(parts[3])}
	case path == "/assets/style.css":
		return v.asset(&v.style)
	case path == "/assets/script.js":
		return v.asset(&v.script)
	}
	return notFound("no such page")
}

func (v *visit) begin(pattern string) {
	v.event.Route, v.req.Pattern = rekisteri.RoutePage, pattern
}

// redirectToRoot redirects to the index, whose path ends in a slash: links are
// relative to that.
func (v *visit) redirectToRoot() error {
	u, err := url.ParseRequestURI(v.req.RequestURI)
	if err != nil || u.Path == "" || strings.HasSuffix(u.Path, "/") {
		return notFound("the path is empty")
	}
	last := u.EscapedPath()[strings.LastIndex(u.EscapedPath(), "/")+1:]
	return &refusal{http.StatusPermanentRedirect, "the path of the list ends in a slash", "./" + last + "/"}
}

// allow checks the names in the path of a provider, and whether the request may
// see it.
func (v *visit) allow(namespace, typ string) (rekisteri.Provider, error) {
	p := rekisteri.Provider{Namespace: names.Lower(namespace), Type: names.Lower(typ)}
	if !names.Valid(p.Namespace) || !names.Valid(p.Type) {
		return p, notFound("the provider's name is not valid")
	}
	v.event.Provider = p
	if p.Namespace != namespace || p.Type != typ {
		return p, &refusal{http.StatusPermanentRedirect, "the provider's name is not in lower case",
			"../" + url.PathEscape(p.Namespace) + "/" + url.PathEscape(p.Type)}
	}
	if err := v.authorize(v.req, p); err != nil {
		return p, &denial{p.String(), err}
	}
	return p, nil
}

// errorStatus returns the status for an error. Only an error of Authorize becomes
// 401 or 403.
func errorStatus(err error) int {
	refused, isRefusal := errors.AsType[*refusal](err)
	_, denied := err.(*denial)
	switch {
	case isRefusal:
		return refused.status
	case denied && errors.Is(err, rekisteri.ErrUnauthenticated):
		return http.StatusUnauthorized
	case denied && errors.Is(err, fs.ErrPermission):
		return http.StatusForbidden
	case errors.Is(err, fs.ErrNotExist):
		return http.StatusNotFound
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// report puts an error into the event, and logs it. The answer has that status.
func (v *visit) report(err error, status int) {
	code := errorStatus(err)
	v.event.Status, v.event.Err, v.event.Reason = status, err, rekisteri.StatusReason(v.req, code)
	level := slog.LevelDebug
	if code >= 500 && v.event.Reason != rekisteri.ReasonAborted {
		level = slog.LevelError
	}
	v.log.Log(v.req.Context(), level, "request failed", "method", v.req.Method, "path", v.req.URL.Path, "status", status, "error", err)
}

// fail logs an error and answers the request with its status, unless the answer
// has started already. The error's text is not sent.
func (v *visit) fail(err error) {
	code, started := errorStatus(err), v.event.Status != 0
	v.report(err, cmp.Or(v.event.Status, code))
	if started {
		return
	}
	header := v.w.Header()
	for _, name := range []string{"Content-Encoding", "Etag"} { // of the page that was not sent
		header.Del(name)
	}
	if refused, ok := errors.AsType[*refusal](err); ok && refused.location != "" {
		if v.req.URL.RawQuery != "" {
			refused.location += "?" + v.req.URL.RawQuery
		}
		header.Set("Location", refused.location)
	}
	if code == http.StatusUnauthorized {
		header.Set("WWW-Authenticate", v.challenge)
	}
	made, contentType := page.New(errorJSON(code)), jsonType
	if preference(v.req) > 0 && !v.frameFailed { // curl gets what the registry answers
		if p, err := v.errorPage(code); err == nil {
			made, contentType = p, htmlType
		} else {
			v.log.Error("an error page cannot be made, so browsers get JSON", "path", v.req.URL.Path, "error", err)
		}
	}
	body, _ := made.Begin(header, v.req, []string{contentType}, []string{"no-store"})
	header.Del("Etag")
	v.write(code, body)
}

// write sends an answer with a body.
func (v *visit) write(code int, body []byte) {
	v.event.Status = code
	v.w.WriteHeader(code)
	if v.req.Method != http.MethodHead {
		n, _ := v.w.Write(body)
		v.event.Bytes = int64(n)
	}
}

// send answers the request with a page. A page with an error status has no
// conditions.
func (v *visit) send(code int, p *page.Page, contentType, cacheControl string) error {
	body, conditional := p.Begin(v.w.Header(), v.req, []string{contentType}, []string{cacheControl})
	if code != http.StatusOK || !conditional {
		v.write(code, body)
		return nil
	}
	var sent httpfile.Sent
	err := httpfile.Serve(v.w, v.req, bytes.NewReader(body), &sent)
	v.event.Status, v.event.Bytes = sent.Status, sent.Bytes
	switch err := err.(type) {
	case *httpfile.RefusedError:
		return &refusal{status: err.Status, reason: err.Error()}
	case *httpfile.HungUpError:
		return &refusal{status: statusHungUp, reason: err.Error()}
	}
	return err
}

// statusHungUp is nginx's status for a client that hung up. It is never sent.
const statusHungUp = 499

// An asset is a file that pages refer to.
type asset struct {
	contentType string
	page        *page.Page
	url         string // relative to the root; another content has another URL
	version     string
}

func newAsset(name, contentType string) asset {
	body, err := assets.ReadFile("assets/" + name)
	if err != nil {
		panic(err) // it is embedded
	}
	a := asset{contentType: contentType, page: page.New(body)}
	a.version = a.page.Hash()
	a.url = "assets/" + name + "?v=" + a.version
	return a
}

// asset answers with an asset. It is the same for everyone. A browser may keep it
// for ever if it has the URL of this version; a replica of another version has
// another one.
func (v *visit) asset(a *asset) error {
	v.begin(assetPattern)
	cacheControl := "no-cache"
	if v.req.URL.Query().Get("v") == a.version {
		cacheControl = "public, max-age=31536000, immutable"
	}
	return v.send(http.StatusOK, a.page, a.contentType, cacheControl)
}
