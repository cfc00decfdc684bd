package rekisteri

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/rekisteri/rekisteri/internal/names"
	"github.com/rekisteri/rekisteri/internal/page"
)

// The paths of the protocol, and their patterns as http.ServeMux writes them.
const (
	discoveryPath = "/.well-known/terraform.json"
	providersPath = "/v1/providers/"
	filesPath     = "files/" // from the registry's root

	discoveryPattern = "GET " + discoveryPath
	versionsPattern  = "GET " + providersPath + "{namespace}/{type}/versions"
	downloadPattern  = "GET " + providersPath + "{namespace}/{type}/{version}/download/{os}/{arch}"
	filePattern      = "GET /" + filesPath + "{namespace}/{type}/{version}/{name}"
	uploadPattern    = "PUT /" + filesPath + "{namespace}/{type}/{version}/{name}"

	// rootFromPackage leads from the document of a package to the registry's
	// root, wherever that is mounted.
	rootFromPackage = "../../../../../../../"

	maxSegments = 8 // of the path of any route
)

// ServeHTTP answers a request of the protocol.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var buf [maxSegments]string
	path := segments(buf[:0], req.URL)
	route, pattern := routeOf(req.URL, path)
	r.serve(w, req, route, pattern, path, r.discovery)
}

// Discovery returns a handler for /.well-known/terraform.json at the root of a
// host that mounts the registry below a prefix, such as "/tf". An empty prefix is
// the root itself. The handler answers other paths with 404.
//
// If the host already has a discovery document, add this one's entry
// "providers.v1" to it, or add the host's other entries to [Options.Services].
func (r *Registry) Discovery(prefix string) http.Handler {
	doc := r.discoveryPage(prefix)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == discoveryPath {
			r.serve(w, req, RouteDiscovery, discoveryPattern, nil, doc)
		} else {
			r.serve(w, req, RouteOther, "", nil, doc)
		}
	})
}

// segments appends the decoded segments of a URL's path to parts. It returns nil
// if they exceed the capacity of parts, or the path is malformed. Paths are not
// cleaned: an encoded slash is part of a segment, and empty segments, "." and
// ".." are segments whose names are checked like others.
func segments(parts []string, u *url.URL) []string {
	path := u.Path
	if u.RawPath != "" {
		path = u.EscapedPath()
	}
	rest, more := strings.CutPrefix(path, "/")
	for more {
		if len(parts) == cap(parts) {
			return nil
		}
		var part string
		part, rest, more = strings.Cut(rest, "/")
		if u.RawPath != "" {
			var err error
			if part, err = url.PathUnescape(part); err != nil {
				return nil
			}
		}
		parts = append(parts, part)
	}
	return parts
}

// routeOf returns the route of a URL and its pattern.
func routeOf(u *url.URL, path []string) (route, pattern string) {
	api := len(path) > 2 && path[0] == "v1" && path[1] == "providers"
	switch {
	case api && len(path) == 5 && path[4] == "versions":
		return RouteVersions, versionsPattern
	case api && len(path) == 8 && path[5] == "download":
		return RouteDownload, downloadPattern
	case len(path) == 5 && path[0] == "files":
		return RouteFile, filePattern
	case u.Path == discoveryPath:
		return RouteDiscovery, discoveryPattern
	}
	return RouteOther, ""
}

// serve answers a request and passes the event to Options.Observe. The event
// stays on the stack: a warm request allocates nothing for it.
func (r *Registry) serve(w http.ResponseWriter, req *http.Request, route, pattern string, path []string, discovery *page.Page) {
	e := Event{Route: route}
	if r.observe != nil {
		started := time.Now()
		defer func() {
			v := recover()
			if v != nil {
				e.Err, e.Reason = fmt.Errorf("panic: %v", v), ReasonError
				e.Status = cmp.Or(e.Status, http.StatusInternalServerError)
			}
			e.Duration = time.Since(started)
			r.observe(req, e)
			if v != nil {
				panic(v)
			}
		}()
	}
	if err := r.answer(w, req, pattern, path, discovery, &e); err != nil {
		r.fail(w, req, err, &e)
	}
}

// answer answers a request. If it returns an error, the caller passes that to
// fail, which answers.
func (r *Registry) answer(w http.ResponseWriter, req *http.Request, pattern string, path []string, discovery *page.Page, e *Event) error {
	req.Pattern = "" // an outer http.ServeMux may have set it
	if e.Route == RouteFile && req.Method == http.MethodPut && r.publish != nil {
		e.Route, req.Pattern = RouteUpload, uploadPattern
		return r.upload(w, req, path, e)
	}
	if e.Route == RouteFile && req.Method == http.MethodPut {
		return &refusal{status: http.StatusMethodNotAllowed, reason: "publishing is off"}
	}
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		return &refusal{status: http.StatusMethodNotAllowed, reason: "the method is neither GET nor HEAD"}
	}
	req.Pattern = pattern
	switch e.Route {
	case RouteDiscovery:
		return r.servePage(w, req, discovery, r.headers.discovery, e)
	case RouteVersions:
		return r.versions(w, req, path, e)
	case RouteDownload:
		return r.download(w, req, path, e)
	case RouteFile:
		return r.file(w, req, path, e)
	}
	return notFound("no such route")
}

// versions answers with the versions of a provider.
func (r *Registry) versions(w http.ResponseWriter, req *http.Request, path []string, e *Event) error {
	if err := r.allow(req, path, e); err != nil {
		return err
	}
	l, err := r.backend.Versions(req.Context(), e.Provider)
	if err != nil {
		return err
	}
	if l == nil {
		return errors.New("the backend returned neither a listing nor an error")
	}
	doc, err := r.listingPage(e.Provider, l)
	if err != nil {
		return err
	}
	return r.servePage(w, req, doc, r.headers.documents, e)
}

// download answers with the package of a release for one platform.
func (r *Registry) download(w http.ResponseWriter, req *http.Request, path []string, e *Event) error {
	if err := r.allow(req, path, e); err != nil {
		return err
	}
	rel, err := r.release(req.Context(), e.Provider, e.Version)
	if err != nil {
		return err
	}
	doc, err := r.packagePage(e.Provider, e.Version, rel, Platform{path[6], path[7]})
	if err != nil {
		return err
	}
	return r.servePage(w, req, doc, r.headers.documents, e)
}

// allow checks the names in the path of a provider's document and sets them in e.
// It returns nil if the request may see the provider.
func (r *Registry) allow(req *http.Request, path []string, e *Event) error {
	p := Provider{names.Lower(path[2]), names.Lower(path[3])}
	if !p.valid() {
		return notFound("the provider's name is not valid")
	}
	e.Provider = p
	if e.Route == RouteDownload {
		if !names.ValidVersion(path[4]) {
			return notFound("the version is not a full semantic version")
		}
		e.Version = path[4]
		if on := (Platform{path[6], path[7]}); !on.valid() {
			return notFound("the platform's name is not valid")
		}
	}
	if p.Namespace != path[2] || p.Type != path[3] {
		return redirect(req, path, p)
	}
	if r.authorize == nil {
		return nil
	}
	if err := r.authorize(req, p); err != nil {
		return &denial{p, err}
	}
	return nil
}

// redirect returns an error that redirects to the lower-case spelling of a path.
// A proxy in front may have rules for paths, so it must see the names that are
// served. The location is relative: http.Redirect would make it absolute, without
// the prefix that http.StripPrefix removed.
func redirect(req *http.Request, path []string, p Provider) error {
	location := strings.Repeat("../", len(path)-3) + url.PathEscape(p.Namespace) + "/" + url.PathEscape(p.Type)
	for _, part := range path[4:] {
		location += "/" + url.PathEscape(part)
	}
	if req.URL.RawQuery != "" {
		location += "?" + req.URL.RawQuery
	}
	return &refusal{status: http.StatusPermanentRedirect, reason: "the provider's name is not in lower case", location: location}
}

// release calls the backend's Release.
func (r *Registry) release(ctx context.Context, p Provider, version string) (*Release, error) {
	rel, err := r.backend.Release(ctx, p, version)
	if err == nil && rel == nil {
		err = errors.New("the backend returned neither a release nor an error")
	}
	return rel, err
}

// file answers with a file of a release that the backend holds. If no document of
// a package refers to the file, it does not exist.
func (r *Registry) file(w http.ResponseWriter, req *http.Request, path []string, e *Event) error {
	p, version, name := Provider{path[1], path[2]}, path[3], path[4]
	if !p.valid() { // includes upper case: no document has such a link
		return notFound("the provider's name is not valid")
	}
	e.Provider = p
	if !names.ValidVersion(version) {
		return notFound("the version is not a full semantic version")
	}
	e.Version = version
	if r.opener == nil {
		return notFound("the backend holds no files")
	}
	if err := r.links.check(req, p, version, name, time.Now()); err != nil {
		return err
	}
	rel, err := r.release(req.Context(), p, version)
	if err != nil {
		return err
	}
	for range 2 {
		expected, err := findFile(rel, p, version, name)
		if err != nil {
			return err
		}
		f, err := r.opener.Open(req.Context(), p, version, name)
		elsewhere, _ := errors.AsType[*Redirect](err)
		switch {
		case f != nil:
			defer f.Close()
		case err == nil:
			return errors.New("the backend returned neither a file nor an error")
		}
		if err != nil && elsewhere == nil {
			return err
		}
		// If the release was replaced meanwhile, the file may be new, and its
		// ETag would be that of the old file.
		before := rel
		if rel, err = r.release(req.Context(), p, version); err != nil {
			return err
		}
		if rel != before {
			if now, err := findFile(rel, p, version, name); err != nil || now != expected {
				continue
			}
		}
		if elsewhere != nil {
			err = r.serveRedirect(w, req, elsewhere, expected, e)
		} else {
			err = r.serveFile(w, req, f, expected, e)
		}
		if err != nil {
			return fmt.Errorf("%s of %v %s: %w", name, p, version, err)
		}
		return nil
	}
	return fmt.Errorf("the release %v %s was replaced twice while %s was opened", p, version, name)
}

// A refusal is an error for which the registry itself chooses the status.
type refusal struct {
	status   int
	reason   string
	location string // of a redirect
	expired  bool   // it is about a link that has expired
}

func (e *refusal) Error() string { return e.reason }

func notFound(reason string) error { return &refusal{status: http.StatusNotFound, reason: reason} }

// A denial is an error of Options.Authorize or PublishOptions.Authorize, or says
// that an upload comes from another site.
type denial struct {
	provider Provider
	error
}

func (e *denial) Error() string { return fmt.Sprintf("not authorized for %v: %v", e.provider, e.error) }
func (e *denial) Unwrap() error { return e.error }

// errorStatus returns the status for an error of a route. An fs.ErrPermission of a
// backend is about its own access to storage, so only an error of Authorize is 401
// or 403. Only an upload can conflict with what is there, or fill the disk.
func errorStatus(err error, route string) int {
	refused, isRefusal := errors.AsType[*refusal](err)
	_, denied := err.(*denial)
	_, isInvalid := errors.AsType[*UploadError](err)
	isUpload := route == RouteUpload
	switch {
	case isRefusal:
		return refused.status
	case denied && errors.Is(err, ErrUnauthenticated):
		return http.StatusUnauthorized
	case denied && errors.Is(err, fs.ErrPermission):
		return http.StatusForbidden
	case isUpload && errors.Is(err, fs.ErrExist):
		return http.StatusConflict
	case isUpload && isInvalid:
		return http.StatusUnprocessableEntity
	case isUpload && isFull(err):
		return http.StatusInsufficientStorage
	case errors.Is(err, fs.ErrNotExist):
		return http.StatusNotFound
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// fail logs an error and answers the request with its status, unless the answer
// has started already. All errors are answered here. Their text is not sent to
// clients, except for the detail of an [UploadError].
func (r *Registry) fail(w http.ResponseWriter, req *http.Request, err error, e *Event) {
	code, started := errorStatus(err, e.Route), e.Status != 0
	e.Status, e.Err, e.Reason = cmp.Or(e.Status, code), err, reasonOf(req, err, code)
	level := slog.LevelDebug
	if code >= 500 && !errors.Is(req.Context().Err(), context.Canceled) { // else the client has gone
		level = slog.LevelError
	}
	if r.log.Enabled(req.Context(), level) {
		path, _, _ := strings.Cut(req.URL.Path, "?") // if a client encoded the "?" of a link, the path contains the signature
		r.log.Log(req.Context(), level, "request failed",
			"method", req.Method, "path", path, "status", e.Status, "error", err)
	}
	if started {
		return // the client sees that the body is too short
	}
	h := w.Header()
	delete(h, "Content-Encoding") // of the page that was not sent
	delete(h, "Etag")
	if code != http.StatusRequestedRangeNotSatisfiable {
		delete(h, "Content-Range")
	}
	switch code {
	case http.StatusMethodNotAllowed:
		h.Set("Allow", "GET, HEAD")
		if e.Route == RouteFile && r.publish != nil {
			h.Set("Allow", "GET, HEAD, PUT")
		}
	case http.StatusPermanentRedirect:
		h.Set("Location", err.(*refusal).location)
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
		if e.Route == RouteUpload {
			h.Add("WWW-Authenticate", `Basic realm="rekisteri"`)
		}
	}
	answer, ok := r.errorPages[code]
	if e.Route == RouteUpload {
		answer, ok = newErrorPage(code, uploadDetail(err)), true
	}
	if !ok {
		answer = newErrorPage(code, "")
	}
	h["Content-Type"] = r.headers.json
	h["Cache-Control"] = r.headers.noStore
	h["Content-Length"] = answer.length
	w.WriteHeader(code)
	n, _ := w.Write(answer.body)
	if req.Method != http.MethodHead {
		e.Bytes = int64(n)
	}
}

// An errorPage is the body of an error, with its length as a header.
type errorPage struct {
	body   []byte
	length headerValue
}

// newErrorPage returns the body for an error status, with a detail if that is not
// empty.
func newErrorPage(code int, detail string) *errorPage {
	body, _ := encode(struct { // strings can always be encoded
		Errors []string `json:"errors"`
		Detail string   `json:"detail,omitempty"`
	}{[]string{http.StatusText(code)}, detail})
	body = bytes.TrimSuffix(body, []byte("\n"))
	return &errorPage{body, headerValue{strconv.Itoa(len(body))}}
}
