// Package rekisteri serves a private provider registry for Terraform and
// OpenTofu.
//
// A [Registry] is an [http.Handler] that answers the provider registry
// protocol from a [Backend]. [NewFSBackend] makes one of a directory tree, or
// of any other [fs.FS]:
//
//	reg := rekisteri.New(rekisteri.NewFSBackend(os.DirFS("providers"), nil), nil)
//	http.ListenAndServe("127.0.0.1:5000", reg)
//
// A backend of one's own (a bucket, a database, another registry) has two
// methods; see [Backend].
//
// # Mounting
//
// A Registry at the root of a host serves all that the clients ask for,
// /.well-known/terraform.json included. Below a subpath it is mounted with
// [http.StripPrefix], and the host's root serves [Registry.Discovery]:
//
//	http.Handle("/tf/", http.StripPrefix("/tf", reg))
//	http.Handle("/.well-known/terraform.json", reg.Discovery("/tf"))
//
// Nothing else depends on the mount: a Registry never reads the Host header or
// X-Forwarded-* and needs no address of its own, behind whatever proxy it
// stands.
//
// # Protocol
//
// The documents are those of Terraform's [provider registry protocol] and
// [remote service discovery]; OpenTofu's are the same. The package knows which
// values make a client fail, and never sends them: what a backend holds of
// such is left out, reported in the log, and the rest is served.
//
// [provider registry protocol]: https://developer.hashicorp.com/terraform/internals/provider-registry-protocol
// [remote service discovery]: https://developer.hashicorp.com/terraform/internals/remote-service-discovery
package rekisteri

import (
	"container/list"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// A Provider is the address of a provider within a registry. Both names are in
// lower case, as clients send them.
type Provider struct {
	Namespace, Type string
}

// String returns the provider's address, such as "hashicorp/random".
func (p Provider) String() string { return p.Namespace + "/" + p.Type }

// A Platform is an operating system and an architecture, by Go's names for
// them.
type Platform struct {
	OS, Arch string
}

// String returns the platform's name in the form that releases use for it,
// such as "linux_amd64".
func (p Platform) String() string { return p.OS + "_" + p.Arch }

// A Listing is what there is of a provider: the answer to "versions".
type Listing struct {
	// Versions are the provider's versions, in any order.
	Versions []Version

	// Warnings are shown to whoever installs the provider, in the client's own
	// output, at every init. This is how a provider or a version is deprecated.
	Warnings []string
}

// A Version is one entry of a [Listing].
type Version struct {
	// Version is a full semantic version without a leading "v", such as
	// "1.2.0" or "2.0.0-rc.1+build5".
	Version string

	// Protocols are the versions of the plugin protocol that this version of
	// the provider speaks, such as "5.0".
	Protocols []string

	// Platforms are those that the version can be installed on.
	Platforms []Platform
}

// A Release is one version of a provider with all that an installation needs.
type Release struct {
	// Protocols are the versions of the plugin protocol that this version of
	// the provider speaks. Clients accept those of 5 and 6, and take a release
	// that names none to be compatible.
	Protocols []string

	// Packages holds one package for each platform.
	Packages []Package
}

// A Package is the zip of a release for one platform.
type Package struct {
	Platform

	// Filename is the name of the zip, as it stands in SHA256SUMS.
	Filename string

	// URL, SHASumsURL and SHASumsSignatureURL are where the zip, the release's
	// SHA256SUMS file and that file's detached signature are. They are passed
	// on as they are; a relative one is relative to the package's own
	// document. Clients send no credentials there.
	//
	// An empty one says that the backend holds the file itself. It has to be
	// an [Opener], and the registry serves the file, under the name Filename,
	// terraform-provider-<type>_<version>_SHA256SUMS, and that with ".sig"
	// after it.
	URL                 string
	SHASumsURL          string
	SHASumsSignatureURL string

	// SHA256 is the digest of the zip.
	SHA256 [sha256.Size]byte

	// SigningKeys are the public keys that SHA256SUMS may have been signed
	// with. Clients try them in order, and refuse a package without any.
	SigningKeys []SigningKey
}

// A SigningKey is an OpenPGP public key. The clients read ASCIIArmor, and
// Terraform TrustSignature; the rest is for people.
type SigningKey struct {
	// KeyID is the key's long ID: 16 upper-case hexadecimal digits.
	KeyID string

	// ASCIIArmor is the armored public key block.
	ASCIIArmor string

	// TrustSignature is HashiCorp's signature of the key. It is empty for
	// everyone who isn't a partner of theirs: Terraform refuses any other.
	TrustSignature string

	// Source and SourceURL name the key's owner.
	Source, SourceURL string
}

// A Backend knows what a registry serves.
//
// Its methods may be called concurrently. Their arguments are checked and
// canonical: the provider's names are in lower case and hold nothing but
// letters, digits, "-" and "_", and the version is a full semantic version.
//
// What does not exist is reported by an error that matches [fs.ErrNotExist],
// which clients get as a 404 and take for deleted. A context that has ended is
// no absence. Every other error is an outage, which they may try again: one that
// matches [context.DeadlineExceeded] or [context.Canceled] is a 504, the rest a
// 500. An error's text goes to the log, never to the client. No method returns
// nil without an error.
//
// Whoever returns a value gives it away: neither the backend nor the registry
// may modify it afterwards, and the backend may return the same pointer any
// number of times. The registry leaves out what a client would choke on
// (versions that aren't semantic versions, a platform that isn't one, ...) and
// reports it.
//
// Package rekisteritest checks that a backend keeps to this.
type Backend interface {
	// Versions returns what there is of a provider.
	Versions(ctx context.Context, p Provider) (*Listing, error)

	// Release returns one version of a provider, one that Versions lists.
	Release(ctx context.Context, p Provider, version string) (*Release, error)
}

// An Opener is a [Backend] that holds files of its releases itself.
type Opener interface {
	// Open opens a file of a release that the backend returned: the zip of a
	// package without a URL, or the SHA256SUMS file or its signature where
	// their URLs are empty. Its errors are as those of a Backend's methods: a
	// name that is none of these, such as a path, does not exist. The same
	// file may be open several times. The caller closes it, and reads it while
	// ctx lasts.
	//
	// The file of a package is sent straight from the kernel where it is an
	// [os.File].
	Open(ctx context.Context, p Provider, version, name string) (io.ReadSeekCloser, error)
}

// Options are the settings of a [Registry]. The zero value is ready to use.
type Options struct {
	// Logger gets the failures of requests: those of the server as errors, all
	// others at debug level. Nil is [slog.Default] as it is when [New] is
	// called.
	Logger *slog.Logger

	// ExternalURL is the absolute URL that clients reach the registry's root
	// at, such as "https://portal.example.com/tf". It makes the URLs of files
	// that the registry serves absolute, for tools that do not resolve
	// relative ones. Terraform and OpenTofu do: empty, the default, is right
	// for them at any address.
	ExternalURL string

	// Authorize decides who may see a provider. It is asked before the
	// backend, so that a refusal tells nothing of what exists. Nil, as the
	// function or as its result, lets in. An error that matches
	// [ErrUnauthenticated] is answered with 401, [fs.ErrPermission] with 403,
	// and [fs.ErrNotExist] with 404; any other is a failure, as a backend's
	// is. The error's text goes to the log.
	//
	// Clients send a bearer token for the registry's host, if they have one,
	// and never to the files of a release. Those are protected by signed
	// links, which only a document that Authorize let through has. The
	// discovery document is public.
	Authorize func(*http.Request, Provider) error

	// LinkKeys are the secrets that links to files are signed with: random
	// bytes, the same for all replicas of a registry. The first signs, and all
	// are accepted, so that a key can be rotated: add the new one after the
	// old one everywhere, then move it to the front, and drop the old one when
	// the links that it has signed have expired.
	//
	// Without a key, links are not signed and the files are open to everyone,
	// unless Authorize is set: then a random key is made up, and links end
	// with the process. A key without Authorize is for those who protect
	// /v1/providers/ themselves, before the registry.
	LinkKeys [][32]byte

	// LinkTTL is how long a signed link lasts at least; at most it lasts half as
	// long again. It is checked when a request begins, so that a long download ends
	// in peace. Zero is an hour.
	LinkTTL time.Duration

	// PageBytes bounds the encoded documents that the registry holds, in
	// bytes. Zero is 16 MiB; a negative number holds none.
	PageBytes int64

	// Services are other entries of the discovery document, such as
	// "login.v1" or "modules.v1", with which another server does its part for
	// the same host. They are encoded as JSON.
	Services map[string]any

	// Observe is called once for each request, for access logs and metrics. It
	// runs after the answer is written, in the goroutine of the request: a slow
	// one delays the end of the response. It must be safe for concurrent use.
	// Nil observes nothing.
	//
	// If a backend or a hook panics, Observe is called before the panic goes
	// on to the server.
	Observe func(*http.Request, Event)
}

// An Event describes how a request was answered. Its strings may be parts of
// the request: clone what is kept.
type Event struct {
	// Route is the kind of request: one of the constants RouteDiscovery,
	// RouteVersions, RouteDownload, RouteFile and RouteOther.
	Route string

	// Provider and Version are what the request names. They are set if the
	// names are valid, whether such a provider exists or not, so their number
	// has no bound.
	Provider Provider
	Version  string

	// Status is the status of the answer. It is 500 if there was a panic before
	// anything was written; the server then closes the connection.
	Status int

	// Bytes is the size of the body that was written. It is zero for HEAD.
	Bytes int64

	// Duration is the time from the start of the handler to its end.
	Duration time.Duration

	// Err is why the answer is an error or a redirect, or why the body is
	// incomplete: what the registry's log says. Nil is a complete answer. It is
	// not meant for clients.
	Err error
}

// The routes of an [Event].
const (
	RouteDiscovery = "discovery" // /.well-known/terraform.json
	RouteVersions  = "versions"  // the versions of a provider
	RouteDownload  = "download"  // where the package for a platform is
	RouteFile      = "file"      // a file of a release
	RouteOther     = "other"     // no route of the registry
)

// ErrUnauthenticated is what an error of [Options.Authorize] matches where a
// request has no credentials, or wrong ones.
var ErrUnauthenticated = errors.New("unauthenticated")

// A Registry is an [http.Handler] that answers the provider registry protocol.
// It is made by [New].
//
// The WriteTimeout of an [http.Server] does not cut a file that is on its way to
// a client that takes some kilobytes of it a second. One that has stopped
// reading is cut off after ten minutes, or after the WriteTimeout where that is
// longer. Without a WriteTimeout nobody is.
type Registry struct {
	backend     Backend
	opener      Opener // the backend too; nil: it holds no files
	log         *slog.Logger
	externalURL string // without a slash at the end; empty: URLs are relative

	observe   func(*http.Request, Event)          // nil: nobody observes
	authorize func(*http.Request, Provider) error // nil: everyone may see everything
	links     *links                              // nil: files are open to everyone
	services  map[string]any
	discovery *page // at the root
	pages     pageCache
	mentioned mentioned

	// Values of headers, which no request has to allocate.
	jsonType, gzipEncoding, varyEncoding []string
	pagesCache, filesCache               []string // Cache-Control
	discoveryCache, noStore              []string

	errorPages map[int]*representation // of the errors that are frequent
}

// New returns a Registry that serves what b knows, and the files that it holds
// if it is an [Opener]. Nil options are the defaults. New panics if b is nil,
// ExternalURL is not an absolute http or https URL, a link key is all zeros,
// LinkTTL is negative, or Services cannot be encoded or has "providers.v1".
func New(b Backend, opts *Options) *Registry {
	if b == nil {
		panic("rekisteri: New with a nil Backend")
	}
	if opts == nil {
		opts = new(Options)
	}
	r := &Registry{backend: b, log: opts.Logger, observe: opts.Observe}
	r.opener, _ = b.(Opener)
	if opts.ExternalURL != "" {
		u, err := url.Parse(opts.ExternalURL)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || strings.ContainsAny(opts.ExternalURL, `"?#`) {
			panic(fmt.Sprintf("rekisteri: the ExternalURL %q is not an absolute http or https URL", opts.ExternalURL))
		}
		r.externalURL = strings.TrimSuffix(u.String(), "/")
	}
	if r.log == nil {
		r.log = slog.Default()
	}
	r.authorize, r.services = opts.Authorize, opts.Services
	r.pages.limit, r.pages.byKey, r.pages.keys = opts.PageBytes, make(map[pageKey]*list.Element), make(map[SigningKey]*encodedKey)
	if r.pages.limit == 0 {
		r.pages.limit = defaultPageBytes
	}
	r.jsonType, r.gzipEncoding, r.varyEncoding = []string{"application/json"}, []string{"gzip"}, []string{"Accept-Encoding"}
	r.pagesCache, r.filesCache = []string{"no-cache"}, []string{"no-cache"}
	r.discoveryCache, r.noStore = []string{"no-cache"}, []string{"no-store"}
	r.errorPages = make(map[int]*representation)
	for _, code := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound} {
		r.errorPages[code] = errorPage(code)
	}
	var random bool
	if r.links, random = newLinks(opts); r.links != nil {
		// The request for a file has no Authorization header that would keep a
		// shared cache from it.
		r.pagesCache, r.filesCache = []string{"private, no-store"}, []string{"private, no-cache"}
	}
	if random && r.opener != nil {
		r.log.Warn("links to files are signed with a key of this process: they end with it, and replicas need one that they share")
	}
	r.discovery = r.discoveryPage("")
	return r
}

// Backend returns the backend that the registry serves. Its values are not
// filtered by [Options.Authorize]: ask [Registry.Authorize] before showing them.
func (r *Registry) Backend() Backend { return r.backend }

// Authorize returns nil if a request may see a provider. It is for handlers that
// show what the registry's backend holds in another form. Errors are those of
// [Options.Authorize]. An address that no provider can have gives an error that
// matches [fs.ErrNotExist].
func (r *Registry) Authorize(req *http.Request, p Provider) error {
	if !p.valid() {
		return fmt.Errorf("no provider can have the address %q: %w", p, fs.ErrNotExist)
	}
	if r.authorize == nil {
		return nil
	}
	return r.authorize(req, p)
}

// FileURL returns the URL of a file of a release that the registry serves: the
// name is a package's Filename, or that of SHA256SUMS or its signature. It does
// not check that the file exists.
//
// The URL is absolute if [Options.ExternalURL] is set, and otherwise relative to
// the registry's root, such as "files/acme/foo/1.0.0/foo.zip". If links are
// signed, whoever has the URL can read the file until the link expires. Call
// [Registry.Authorize] first.
func (r *Registry) FileURL(p Provider, version, name string) string {
	root := r.externalURL
	if root != "" {
		root += "/"
	}
	return string(r.appendFileURL([]byte(root), p, version, name, r.linkExpiry()))
}
