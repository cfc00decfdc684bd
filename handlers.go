package rekisteri

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/mod/semver"

	"github.com/rekisteri/rekisteri/internal/names"
	"github.com/rekisteri/rekisteri/internal/release"
)

// The paths of the protocol, and the patterns that [http.ServeMux] would have
// for them.
const (
	discoveryPath = "/.well-known/terraform.json"
	providersPath = "/v1/providers/"
	filesPath     = "files/"

	discoveryPattern = "GET " + discoveryPath
	versionsPattern  = "GET " + providersPath + "{namespace}/{type}/versions"
	downloadPattern  = "GET " + providersPath + "{namespace}/{type}/{version}/download/{os}/{arch}"
	filePattern      = "GET /" + filesPath + "{namespace}/{type}/{version}/{name}"

	// rootFromPackage leads from the document of a package, whose directory is
	// seven names deep, to the registry's root, wherever that is mounted.
	rootFromPackage = "../../../../../../../"

	maxSegments = 8 // as many as any route has
)

// ServeHTTP answers a request of the protocol.
func (r *Registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	var room [maxSegments]string
	path := segments(room[:0], req.URL)
	route, pattern := routeOf(req.URL, path)
	r.serve(w, req, route, pattern, path, r.discovery)
}

// serve answers a request for a route, and reports it to Options.Observe.
func (r *Registry) serve(w http.ResponseWriter, req *http.Request, route, pattern string, path []string, discovery *page) {
	e := Event{Route: route}
	if r.observe != nil {
		started := time.Now()
		defer func() {
			v := recover()
			if v != nil {
				e.Err = fmt.Errorf("panic: %v", v)
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

// answer answers a request, unless it returns an error.
func (r *Registry) answer(w http.ResponseWriter, req *http.Request, pattern string, path []string, discovery *page, e *Event) error {
	req.Pattern = ""
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		return &refusal{http.StatusMethodNotAllowed, "the method is neither GET nor HEAD"}
	}
	req.Pattern = pattern
	switch e.Route {
	case RouteDiscovery:
		return r.servePage(w, req, discovery, r.discoveryCache, e)
	case RouteVersions:
		if err := r.mayRead(req, path, e); err != nil {
			return err
		}
		return r.versions(w, req, e)
	case RouteDownload:
		if err := r.mayRead(req, path, e); err != nil {
			return err
		}
		return r.download(w, req, Platform{path[6], path[7]}, e)
	case RouteFile:
		return r.file(w, req, Provider{path[1], path[2]}, path[3], path[4], e)
	}
	return notFound("no such route")
}

// routeOf returns the route of a URL, whose path has these segments, and its
// pattern.
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

// segments appends the segments of a path, decoded, to parts. It returns nil
// where there is no room for them, or the path is malformed. A slash that was
// encoded is part of a segment, and an empty one, "." or ".." is a segment as
// any other, whose name is checked: no path is ever cleaned, or redirected.
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

// Discovery returns a handler for /.well-known/terraform.json at the root of a
// host that mounts the registry below prefix, such as "/tf". An empty prefix is
// the root itself. The handler answers no other path.
//
// A host that has a discovery document already adds the entry of this one,
// "providers.v1", to its own, or has the registry serve the others as
// [Options.Services].
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

// discoveryPage returns the discovery document of a host that mounts the
// registry below prefix.
func (r *Registry) discoveryPage(prefix string) *page {
	at := url.URL{Path: path.Join("/", prefix, providersPath) + "/"}
	services := map[string]any{"providers.v1": at.EscapedPath()}
	for name, service := range r.services {
		if _, ok := services[name]; ok {
			panic("rekisteri: Services has " + name)
		}
		services[name] = service
	}
	doc, err := encodePage(services)
	if err != nil {
		panic("rekisteri: Services cannot be encoded: " + err.Error())
	}
	return doc
}

// mayRead checks the names in the path of a document, notes them in e, and
// returns nil if the request may read it.
func (r *Registry) mayRead(req *http.Request, path []string, e *Event) error {
	namespace, providerType := path[2], path[3]
	p := Provider{names.Lower(namespace), names.Lower(providerType)}
	if !p.valid() {
		return errName()
	}
	e.Provider = p
	if e.Route == RouteDownload {
		if !names.ValidVersion(path[4]) {
			return errVersion()
		}
		e.Version = path[4]
		if on := (Platform{path[6], path[7]}); !on.valid() {
			return notFound("the platform is not in lower-case letters and digits")
		}
	}
	if p.Namespace != namespace || p.Type != providerType {
		return movedTo(req, p, path)
	}
	return r.authorized(req, p)
}

// movedTo returns an error that redirects to the lower-case spelling of a
// document's path. The registry does not fold the case itself: a proxy in front
// may have rules for paths, and must see the name that is served.
func movedTo(req *http.Request, p Provider, path []string) error {
	location := strings.Repeat("../", len(path)-3) + url.PathEscape(p.Namespace) + "/" + url.PathEscape(p.Type)
	for _, part := range path[4:] {
		location += "/" + url.PathEscape(part)
	}
	if req.URL.RawQuery != "" {
		location += "?" + req.URL.RawQuery
	}
	return &moved{location}
}

// versions answers what versions a provider has.
func (r *Registry) versions(w http.ResponseWriter, req *http.Request, e *Event) error {
	l, err := r.backend.Versions(req.Context(), e.Provider)
	if err != nil {
		return err
	}
	if l == nil {
		return errors.New("the backend returned no listing and no error")
	}
	doc, err := r.listingPage(e.Provider, l)
	if err != nil {
		return err
	}
	return r.servePage(w, req, doc, r.pagesCache, e)
}

// download answers where the package of a release for one platform is.
func (r *Registry) download(w http.ResponseWriter, req *http.Request, on Platform, e *Event) error {
	rel, err := r.release(req.Context(), e.Provider, e.Version)
	if err != nil {
		return err
	}
	doc, err := r.packagePage(e.Provider, e.Version, rel, on)
	if err != nil {
		return err
	}
	return r.servePage(w, req, doc, r.pagesCache, e)
}

// file serves a file of a release that the backend holds: one that a package's
// document leads to, and no other.
func (r *Registry) file(w http.ResponseWriter, req *http.Request, p Provider, version, name string, e *Event) error {
	if !p.valid() { // a link has no upper case
		return errName()
	}
	e.Provider = p
	if !names.ValidVersion(version) {
		return errVersion()
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
		expected, err := findFile(rel, p.Type, version, name)
		if err != nil {
			return err
		}
		f, err := r.opener.Open(req.Context(), p, version, name)
		if err != nil {
			return err
		}
		if f == nil {
			return errors.New("the backend returned no file and no error")
		}
		defer f.Close()
		// The file may belong to a newer release than the one that was asked for
		// before. Its ETag would be wrong then, and Range requests would join
		// two files.
		before := rel
		if rel, err = r.release(req.Context(), p, version); err != nil {
			return err
		}
		if rel != before {
			if now, err := findFile(rel, p.Type, version, name); err != nil || now != expected {
				continue
			}
		}
		return r.serveFile(w, req, f, expected, name, e)
	}
	return fmt.Errorf("%v %s changed twice while its file %s was opened", p, version, name)
}

// A servedFile is what is known of a file before it is opened.
type servedFile struct {
	contentType string
	sha256      [sha256.Size]byte // zero for SHA256SUMS and its signature
}

// findFile returns the file of a release that has a name, if the backend holds
// it.
func findFile(rel *Release, providerType, version, name string) (servedFile, error) {
	sums := release.SumsName(providerType, version)
	for i := range rel.Packages {
		pkg := &rel.Packages[i]
		switch {
		case pkg.URL == "" && name == pkg.Filename:
			return servedFile{"application/zip", pkg.SHA256}, nil
		case pkg.SHASumsURL == "" && name == sums:
			return servedFile{contentType: "text/plain; charset=utf-8"}, nil
		case pkg.SHASumsSignatureURL == "" && name == sums+".sig":
			return servedFile{contentType: "application/octet-stream"}, nil
		}
	}
	return servedFile{}, notFound("the release has no such file")
}

// serveFile answers a request with a file.
func (r *Registry) serveFile(w http.ResponseWriter, req *http.Request, f io.ReadSeeker, file servedFile, name string, e *Event) error {
	digest := &file.sha256
	if file.contentType != "application/zip" { // a small file
		var err error
		if digest, err = digestOf(f); err != nil {
			return err
		}
	}
	h := w.Header()
	h.Set("Content-Type", file.contentType)
	h["Cache-Control"] = r.filesCache
	h.Set("ETag", `"`+hex.EncodeToString(digest[:])+`"`)
	if err := r.serveContent(w, req, f, e); err != nil {
		return fmt.Errorf("%s of %v %s: %w", name, e.Provider, e.Version, err)
	}
	return nil
}

// digestOf returns the digest of a file, and rewinds it.
func digestOf(f io.ReadSeeker) (*[sha256.Size]byte, error) {
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return (*[sha256.Size]byte)(h.Sum(nil)), nil
}

// release returns what the backend holds of a release.
func (r *Registry) release(ctx context.Context, p Provider, version string) (*Release, error) {
	rel, err := r.backend.Release(ctx, p, version)
	if err == nil && rel == nil {
		err = errors.New("the backend returned no release and no error")
	}
	return rel, err
}

// A refusal is an answer other than a page that the registry gives on its own.
// The reason goes to the log.
type refusal struct {
	status int
	reason string
}

func (e *refusal) Error() string { return e.reason }

func notFound(reason string) error { return &refusal{http.StatusNotFound, reason} }

// A moved is an answer that redirects to a location.
type moved struct{ location string }

func (e *moved) Error() string { return "the name is not in lower case" }

// fail logs an error, and answers the request with it unless the answer was
// begun. This is the only place that does: what err says goes to the log, and the
// client gets no more than the status.
func (r *Registry) fail(w http.ResponseWriter, req *http.Request, err error, e *Event) {
	code := http.StatusInternalServerError
	refused, isRefusal := errors.AsType[*refusal](err)
	elsewhere, isMoved := err.(*moved)
	switch {
	case isRefusal:
		code = refused.status
	case isMoved:
		code = http.StatusPermanentRedirect
	case errors.Is(err, fs.ErrNotExist):
		code = http.StatusNotFound
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		code = http.StatusGatewayTimeout
	}
	begun := e.Status != 0
	hungUp := errors.Is(req.Context().Err(), context.Canceled)
	if begun && !hungUp {
		_, hungUp = errors.AsType[*hangUp](err)
	}
	level := slog.LevelDebug
	if code >= 500 && !hungUp { // else nobody misses the answer
		level = slog.LevelError
	}
	e.Status, e.Err = cmp.Or(e.Status, code), err
	if r.log.Enabled(req.Context(), level) {
		path, _, _ := strings.Cut(req.URL.Path, "?") // a query that was encoded may hold a signature as well
		r.log.Log(req.Context(), level, "request failed",
			"method", req.Method, "path", path, "status", e.Status, "error", err)
	}
	if begun {
		return // the client sees that the body is short
	}

	answer, ok := r.errorPages[code]
	if !ok {
		answer = errorPage(code)
	}
	h := w.Header()
	delete(h, "Content-Encoding") // of what could not be sent
	delete(h, "Etag")
	h["Content-Type"] = r.jsonType
	h["Cache-Control"] = r.noStore
	h["Content-Length"] = answer.length()
	switch code {
	case http.StatusMethodNotAllowed:
		h.Set("Allow", "GET, HEAD")
	case http.StatusPermanentRedirect:
		h.Set("Location", elsewhere.location) // http.Redirect would lead out of a mount
	case http.StatusUnauthorized:
		h.Set("WWW-Authenticate", "Bearer")
	}
	w.WriteHeader(code)
	n, _ := w.Write(answer.body)
	if req.Method != http.MethodHead {
		e.Bytes = int64(n)
	}
}

// errorPage returns the answer with an error.
func errorPage(code int) *representation {
	page := newRepresentation(fmt.Appendf(nil, `{"errors":[%q]}`, http.StatusText(code)), "")
	return &page
}

// The documents of the protocol, but for a package's, which packageDocument
// writes. A list is never null in them: clients differ in what they make of
// that.
type (
	listingJSON struct {
		Versions []versionJSON `json:"versions"`
		Warnings []string      `json:"warnings,omitempty"`
	}
	versionJSON struct {
		Version   string         `json:"version"`
		Protocols []string       `json:"protocols"`
		Platforms []platformJSON `json:"platforms"`
	}
	platformJSON struct {
		OS   string `json:"os"`
		Arch string `json:"arch"`
	}
	signingKeyJSON struct {
		KeyID          string `json:"key_id"`
		ASCIIArmor     string `json:"ascii_armor"`
		TrustSignature string `json:"trust_signature"`
		Source         string `json:"source"`
		SourceURL      string `json:"source_url"`
	}
)

// listingDocument returns the document of a listing without what a client would choke on: Terraform
// before 1.13 and OpenTofu refuse a provider for one version that they cannot
// parse, and all of them panic at a number that overflows.
func (r *Registry) listingDocument(p Provider, l *Listing) (*listingJSON, error) {
	doc := &listingJSON{Versions: make([]versionJSON, 0, len(l.Versions)), Warnings: l.Warnings}
	seen := make(map[string]bool, len(l.Versions))
	for _, v := range l.Versions {
		switch {
		case !names.ValidVersion(v.Version):
			r.leftOut(p, v.Version, "the version is not a full semantic version")
			continue
		case seen[v.Version]:
			r.leftOut(p, v.Version, "the version is listed twice")
			continue
		}
		seen[v.Version] = true
		platforms := make([]platformJSON, 0, len(v.Platforms))
		for _, on := range v.Platforms {
			if !on.valid() {
				r.leftOut(p, v.Version, "the platform's name cannot exist", "platform", on.String())
				continue
			}
			platforms = append(platforms, platformJSON(on))
		}
		doc.Versions = append(doc.Versions, versionJSON{v.Version, r.protocols(p, v.Version, v.Protocols), platforms})
	}
	if len(doc.Versions) == 0 {
		return nil, notFound("no version can be served")
	}
	slices.SortFunc(doc.Versions, func(a, b versionJSON) int {
		return cmp.Or(semver.Compare("v"+a.Version, "v"+b.Version), strings.Compare(a.Version, b.Version))
	})
	return doc, nil
}

// packageDocument returns the document of a release's package for a platform,
// with links that expire at a time, in seconds of Unix time. It is written by
// hand: encoding/json, and the strings that it needs, make the answer take half
// as long again.
func (r *Registry) packageDocument(p Provider, version string, rel *Release, on Platform, expires int64) (*page, error) {
	var pkg *Package
	for i := range rel.Packages { // of which none is copied
		if rel.Packages[i].Platform == on {
			pkg = &rel.Packages[i]
			break
		}
	}
	if pkg == nil {
		return nil, notFound("the release has no package for " + on.String())
	}
	if err := pkg.check(r.opener != nil); err != nil {
		r.leftOut(p, version, err.Error(), "platform", pkg.Platform.String())
		return nil, notFound("the package cannot be served")
	}
	signature := release.SignatureName(p.Type, version)
	sums := strings.TrimSuffix(signature, ".sig")

	b := make([]byte, 0, 4<<10) // on the stack
	b = append(b, `{"protocols":[`...)
	for i, protocol := range r.protocols(p, version, rel.Protocols) {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, protocol)
	}
	b = append(b, `],"os":`...)
	b = appendString(b, pkg.OS)
	b = append(b, `,"arch":`...)
	b = appendString(b, pkg.Arch)
	b = append(b, `,"filename":`...)
	b = appendString(b, pkg.Filename)
	b = append(b, `,"download_url":`...)
	b = r.appendURL(b, pkg.URL, p, version, pkg.Filename, expires)
	b = append(b, `,"shasums_url":`...)
	b = r.appendURL(b, pkg.SHASumsURL, p, version, sums, expires)
	b = append(b, `,"shasums_signature_url":`...)
	b = r.appendURL(b, pkg.SHASumsSignatureURL, p, version, signature, expires)
	b = append(b, `,"shasum":"`...)
	b = hex.AppendEncode(b, pkg.SHA256[:])
	b = append(b, `","signing_keys":{"gpg_public_keys":[`...)
	return r.pages.endWithKeys(b, r.signingKeys(p, version, pkg.SigningKeys), "]}}\n"), nil
}

// appendURL appends u as a JSON string. An empty one is that of a file of a
// release that the backend holds, as the document of a package refers to it.
func (r *Registry) appendURL(b []byte, u string, p Provider, version, name string, expires int64) []byte {
	if u != "" {
		return appendString(b, u)
	}
	b = append(b, '"') // and nothing in it has to be escaped for JSON
	if r.externalURL != "" {
		b = append(b, r.externalURL...)
		b = append(b, '/')
	} else {
		b = append(b, rootFromPackage...)
	}
	return append(r.appendFileURL(b, p, version, name, expires), '"')
}

// appendFileURL appends the URL of a file, relative to the registry's root.
func (r *Registry) appendFileURL(b []byte, p Provider, version, name string, expires int64) []byte {
	b = append(b, filesPath...)
	for _, dir := range [...]string{p.Namespace, p.Type, version} {
		b = append(b, url.PathEscape(dir)...)
		b = append(b, '/')
	}
	b = append(b, url.PathEscape(name)...)
	if r.links != nil {
		b = r.links.appendQuery(b, p, version, name, expires)
	}
	return b
}

// linkExpiry returns when a link that is made now expires; 0: links are not
// signed.
func (r *Registry) linkExpiry() int64 {
	if r.links == nil {
		return 0
	}
	return r.links.expiry(time.Now())
}

// protocols returns those of the protocol versions that a client can parse. One
// that it cannot makes it refuse the package.
func (r *Registry) protocols(p Provider, version string, all []string) []string {
	if all == nil {
		return []string{}
	}
	return without(all, func(s string) bool { return !names.ValidProtocol(s) }, func(s string) {
		r.leftOut(p, version, "the protocol version does not parse", "protocol", s)
	})
}

// signingKeys returns those of a package's keys that are keys. Another would
// keep a client from those behind it.
func (r *Registry) signingKeys(p Provider, version string, all []SigningKey) []SigningKey {
	return without(all, func(key SigningKey) bool { return !strings.HasPrefix(strings.TrimSpace(key.ASCIIArmor), armorHeader) }, func(key SigningKey) {
		r.leftOut(p, version, "the signing key is not an armored public key block", "key", key.KeyID)
	})
}

// without returns all that are not bad, and calls report for those that are.
func without[T any](all []T, bad func(T) bool, report func(T)) []T {
	if !slices.ContainsFunc(all, bad) {
		return all
	}
	good := make([]T, 0, len(all)) // and not nil, which is a null in a document
	for _, v := range all {
		if bad(v) {
			report(v)
		} else {
			good = append(good, v)
		}
	}
	return good
}

// leftOut logs that something a backend has returned is not sent, once an hour.
func (r *Registry) leftOut(p Provider, version, why string, args ...any) {
	if r.mentioned.due(p.String() + " " + version + " " + why + fmt.Sprint(args...)) {
		r.log.Warn("left out of an answer", append([]any{"provider", p.String(), "version", version, "reason", why}, args...)...)
	}
}

// A mentioned knows what was logged in the last hour.
type mentioned struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (m *mentioned) due(what string) bool {
	const room = 1000 // and then it forgets
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if at, ok := m.last[what]; ok && now.Sub(at) < remindEvery {
		return false
	}
	if len(m.last) >= room || m.last == nil {
		m.last = make(map[string]time.Time)
	}
	m.last[what] = now
	return true
}

// armorHeader begins an armored OpenPGP public key.
const armorHeader = "-----BEGIN PGP PUBLIC KEY BLOCK-----"

// authorized returns nil if a request may see a provider, and otherwise the
// answer.
func (r *Registry) authorized(req *http.Request, p Provider) error {
	err := r.Authorize(req, p)
	if err == nil {
		return nil
	}
	reason := "not authorized for " + p.String() + ": " + err.Error()
	switch {
	case errors.Is(err, ErrUnauthenticated):
		return &refusal{http.StatusUnauthorized, reason}
	case errors.Is(err, fs.ErrPermission):
		return &refusal{http.StatusForbidden, reason}
	case errors.Is(err, fs.ErrNotExist):
		return notFound(reason)
	}
	return fmt.Errorf("cannot tell who may see %v: %w", p, err)
}

func errName() error { return notFound("no provider can have this name") }

func errVersion() error { return notFound("the version is not a full semantic version") }

// valid reports whether p can be a provider's address, in lower case. Clients
// allow letters of any script, digits and dashes, and newer ones underscores.
func (p Provider) valid() bool {
	return names.Valid(p.Namespace) && names.Valid(p.Type)
}

// valid reports whether p can be a platform's name.
func (p Platform) valid() bool { return names.ValidPlatform(p.OS) && names.ValidPlatform(p.Arch) }

// check returns why no client can install the package, if none can. An empty
// URL is that of a file that is held, if files are.
func (p *Package) check(held bool) error {
	if !p.valid() {
		return fmt.Errorf("the platform %q %q is not in lower-case letters and digits", p.OS, p.Arch)
	}
	if !names.ValidFilename(p.Filename) {
		return fmt.Errorf("the file name %q is empty, too long, or has a character that none can have", p.Filename)
	}
	for _, u := range [...]struct{ name, url string }{
		{"the zip", p.URL}, {"SHA256SUMS", p.SHASumsURL}, {"its signature", p.SHASumsSignatureURL},
	} {
		if u.url == "" && held {
			continue
		}
		if u.url == "" {
			return fmt.Errorf("the URL of %s is missing", u.name)
		}
		if !names.ValidURL(u.url) {
			return fmt.Errorf("the URL of %s is not an http or https one", u.name)
		}
	}
	return nil
}
