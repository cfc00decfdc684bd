// Package rekisteri serves a private provider registry for Terraform and
// OpenTofu.
//
// A [Registry] is an [http.Handler] that speaks the provider registry protocol
// and gets its data from a [Backend]. [NewFSBackend] returns a backend for a
// directory, or any other [fs.FS]:
//
//	dir, err := rekisteri.OpenDir("providers")
//	if err != nil {
//		log.Fatal(err)
//	}
//	reg := rekisteri.New(rekisteri.NewFSBackend(dir, nil), nil)
//	http.ListenAndServe("127.0.0.1:5000", reg)
//
// A backend for other storage, such as a database, implements the two methods of
// [Backend]. The package rekisteritest tests it.
//
// # Mounting
//
// A Registry at the root of a host serves every path that clients request,
// including /.well-known/terraform.json. To serve it below a prefix, use
// [http.StripPrefix], and serve [Registry.Discovery] at the root of the host:
//
//	http.Handle("/tf/", http.StripPrefix("/tf", reg))
//	http.Handle("/.well-known/terraform.json", reg.Discovery("/tf"))
//
// Nothing else depends on the mount. A Registry does not read the Host header or
// X-Forwarded headers, so it needs no configuration behind a proxy.
//
// A Registry sets [http.Request.Pattern] to the pattern of its route, as
// [http.ServeMux] does, for middleware that labels requests with it. StripPrefix
// passes a copy of the request on: wrap such middleware around the Registry, not
// around StripPrefix.
//
// # Protocol
//
// The documents are those of the [provider registry protocol] and of
// [remote service discovery]. Terraform and OpenTofu fail on some values that the
// protocol allows. A Registry drops such values from its answers, logs them, and
// serves the rest.
//
// [provider registry protocol]: https://developer.hashicorp.com/terraform/internals/provider-registry-protocol
// [remote service discovery]: https://developer.hashicorp.com/terraform/internals/remote-service-discovery
package rekisteri

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/rekisteri/rekisteri/internal/loglimit"
	"github.com/rekisteri/rekisteri/internal/names"
	"github.com/rekisteri/rekisteri/internal/page"
)

// A Provider is the address of a provider within a registry. Both names are in
// lower case.
type Provider struct {
	Namespace, Type string
}

// String returns the address, such as "hashicorp/random".
func (p Provider) String() string { return p.Namespace + "/" + p.Type }

// valid reports whether p can be the address of a provider.
func (p Provider) valid() bool { return names.Valid(p.Namespace) && names.Valid(p.Type) }

// A Platform is an operating system and an architecture, named as in Go.
type Platform struct {
	OS, Arch string
}

// String returns the platform as it is written in file names, such as
// "linux_amd64".
func (p Platform) String() string { return p.OS + "_" + p.Arch }

// valid reports whether p can be the name of a platform.
func (p Platform) valid() bool { return names.ValidPlatform(p.OS) && names.ValidPlatform(p.Arch) }

// A Listing holds the versions of a provider.
type Listing struct {
	// Versions are the provider's versions, in any order.
	Versions []Version

	// Warnings are shown to users at each terraform init. Use them to deprecate a
	// provider.
	Warnings []string
}

// A Version is an entry of a [Listing].
type Version struct {
	// Version is a full semantic version without a leading "v", such as
	// "1.2.0" or "2.0.0-rc.1+build5".
	Version string

	// Protocols are the versions of the plugin protocol that this version of
	// the provider speaks, such as "5.0".
	Protocols []string

	// Platforms are the platforms that have a package.
	Platforms []Platform
}

// A Release is what clients need to install one version of a provider.
type Release struct {
	// Protocols are the versions of the plugin protocol that this version of
	// the provider speaks. Clients accept major versions 5 and 6. If the list is
	// empty, clients assume that the provider is compatible.
	Protocols []string

	// Packages holds one package per platform.
	Packages []Package
}

// A Package is the zip of a release for one platform.
type Package struct {
	Platform

	// Filename is the name of the zip in SHA256SUMS.
	Filename string

	// URL, SHASumsURL and SHASumsSignatureURL locate the zip, the release's
	// SHA256SUMS file and the detached signature of that file. They are sent
	// unchanged. A relative URL is relative to the package's document. Clients
	// send no credentials to them.
	//
	// If a URL is empty, the registry serves the file itself, and the backend
	// must be an [Opener]. The zip is then named Filename, SHA256SUMS is named
	// terraform-provider-<type>_<version>_SHA256SUMS, and its signature has
	// ".sig" appended.
	URL                 string
	SHASumsURL          string
	SHASumsSignatureURL string

	// SHA256 is the digest of the zip.
	SHA256 [sha256.Size]byte

	// SigningKeys are the public keys to verify SHA256SUMS with. Clients try them
	// in order. They refuse a package without keys.
	SigningKeys []SigningKey
}

// A SigningKey is an OpenPGP public key. Clients read ASCIIArmor. Terraform also
// reads TrustSignature. The other fields are for people.
type SigningKey struct {
	// KeyID is the long key ID: 16 upper-case hexadecimal digits.
	KeyID string

	// ASCIIArmor is the armored public key block. It begins with its header
	// line, with no text before it.
	ASCIIArmor string

	// TrustSignature is HashiCorp's signature of a partner's key. Leave it empty
	// for other keys: Terraform refuses a signature that is not HashiCorp's.
	TrustSignature string

	// Source and SourceURL name the key's owner.
	Source, SourceURL string
}

// A Backend holds the providers that a registry serves.
//
// Methods may be called concurrently. Their arguments are valid: names are in
// lower case and consist of letters, digits, "-" and "_"; a version is a full
// semantic version.
//
// If a provider or version does not exist, methods return an error that matches
// [fs.ErrNotExist]. Clients get a 404 and treat it as deleted, so never report
// ErrNotExist because ctx is done or storage cannot be reached. Any other error
// is an outage: clients get a 504 if it matches [context.DeadlineExceeded] or
// [context.Canceled], and a 500 otherwise. The text of an error is logged and not
// sent to clients. A method must not return nil without an error.
//
// Returned values must not be modified afterwards, by either side. A backend may
// return the same pointer again; the registry then reuses the encoded document.
//
// The package rekisteritest tests these rules.
type Backend interface {
	// Versions returns the versions of a provider.
	Versions(ctx context.Context, p Provider) (*Listing, error)

	// Release returns one version of a provider. It must find every version that
	// Versions lists.
	Release(ctx context.Context, p Provider, version string) (*Release, error)
}

// An Opener is a [Backend] that also holds the files of releases.
type Opener interface {
	// Open opens a file of a release: the zip of a package without a URL, or
	// SHA256SUMS or its signature if their URLs are empty. Any other name, such
	// as a path, does not exist. Errors are as for the methods of a Backend. A
	// file may be open several times. The caller closes the file and does not
	// use it after ctx is done.
	//
	// The registry calls Release before and after Open. If the zip's digest has
	// changed in between, it opens the file again.
	//
	// If the file is an [os.File], the kernel can send it without a copy. If
	// clients can read the file elsewhere, Open may return a [*Redirect] instead.
	Open(ctx context.Context, p Provider, version, name string) (io.ReadSeekCloser, error)
}

// A Lister is a [Backend] that can list its providers.
type Lister interface {
	// Providers yields every provider once, in any order. It should not read
	// more than their names. An error means that some providers are missing, such
	// as those of a namespace that cannot be read. The iterator goes on after it. If ctx is done before the
	// last provider, the iterator yields an error.
	//
	// The registry itself does not list. A handler that does must ask
	// [Registry.Authorize] for each provider.
	Providers(ctx context.Context) iter.Seq2[Provider, error]
}

// A Redirect is an error of [Opener.Open]: the file is at another URL, such as a
// presigned one of an object store. Everyone who has the URL can read the file, so
// neither Error nor an [Event] contains it.
//
// The registry answers a GET request with a 302 to the URL. It answers a HEAD
// request itself, from Size.
type Redirect struct {
	URL  string // an absolute http or https URL, which must work for GET
	Size int64  // of the file, in bytes
}

func (*Redirect) Error() string { return "the file is at another URL" }

// Options are the settings of a [Registry]. The zero value is ready to use.
type Options struct {
	// Logger logs failures of the server at error level, dropped values as
	// warnings, and other refused requests at debug level. Nil means
	// [slog.Default] at the time of [New].
	Logger *slog.Logger

	// Observe is called once for each request, for access logs and metrics. It
	// runs after the answer is written, in the request's goroutine, so a slow
	// function delays the end of the response. It must be safe for concurrent
	// use. If a backend or hook panics, Observe is called before the panic
	// continues. Nil means no calls.
	Observe func(*http.Request, Event)

	// ExternalURL is the absolute URL of the registry's root, such as
	// "https://portal.example.com/tf". If it is set, documents have absolute
	// URLs for the files that the registry serves. Some tools need that. Empty
	// means relative URLs, which Terraform and OpenTofu resolve.
	ExternalURL string

	// Authorize decides whether a request may see a provider. It is called
	// before the backend, so a refusal does not reveal what exists. A nil
	// function, or a nil error, allows access. An error that matches
	// [ErrUnauthenticated] is answered with 401, [fs.ErrPermission] with 403 and
	// [fs.ErrNotExist] with 404. Any other error is answered like an error of
	// the backend. The error's text is logged. The discovery document is public.
	//
	// Clients send their token to the registry's documents only, never to file
	// URLs. The registry therefore signs the file URLs in the documents that
	// Authorize allows, and serves files to signed URLs only.
	Authorize func(*http.Request, Provider) error

	// Publish lets releases be published with PUT requests. Nil means that they
	// are answered with 405, and nothing is written.
	Publish *PublishOptions

	// LinkKeys are random secrets that sign file URLs. All replicas of a registry
	// need the same keys. The first key signs; all keys are accepted. To rotate,
	// append the new key on all replicas, move it to the front, and remove the
	// old key when its links have expired.
	//
	// If there are none and Authorize is set, New makes a random key, so links
	// become invalid when the process ends. If there are none and Authorize is
	// nil, links are not signed and files are public. Use keys without
	// Authorize if something else protects /v1/providers/.
	LinkKeys [][32]byte

	// LinkTTL is the minimum lifetime of a signed link. The maximum is one and a
	// half times as long. The registry checks the link when a request starts, so a
	// long download is not interrupted. Zero is one hour.
	LinkTTL time.Duration

	// PageBytes limits the memory for encoded documents, in bytes. Zero is 16
	// MiB. A negative number keeps no documents.
	PageBytes int64

	// Services are additional entries of the discovery document, such as
	// "login.v1" or "modules.v1", for services that other servers provide. They
	// are encoded as JSON.
	Services map[string]any
}

// ErrUnauthenticated is matched by an error of [Options.Authorize] if a request
// has no credentials or wrong ones.
var ErrUnauthenticated = errors.New("unauthenticated")

// A Registry is an [http.Handler] for the provider registry protocol. [New]
// returns one. It is safe for concurrent use.
//
// If the [http.Server] has a WriteTimeout, the registry extends it while a file
// makes progress. A client that stops reading is disconnected after ten minutes,
// or after the WriteTimeout if that is longer. Without a WriteTimeout, such a
// client is never disconnected.
type Registry struct {
	backend     Backend
	opener      Opener // backend, if it holds files; else nil
	log         *slog.Logger
	observe     func(*http.Request, Event)
	authorize   func(*http.Request, Provider) error
	publish     *PublishOptions // nil: off
	crossOrigin *http.CrossOriginProtection
	externalURL string // without a trailing slash
	links       *links // nil: files are public
	services    map[string]any

	discovery *page.Page // for a registry at the root
	pages     *pageCache
	reports   loglimit.Limit // of dropped values

	errorPages map[int]*errorPage // of frequent errors
	headers    headers
}

// headers has the values of response headers, which are made once.
type headers struct {
	json                                 headerValue
	documents, files, discovery, noStore headerValue // of Cache-Control
}

// New returns a Registry that serves the providers of b, and their files if b is
// an [Opener]. Nil options are the defaults.
//
// New panics if b is nil, or Publish lacks To or Authorize. It also panics if
// ExternalURL is not an absolute http or https URL, a link key is all zeros,
// LinkTTL is negative, or Services cannot be encoded or contains "providers.v1".
func New(b Backend, opts *Options) *Registry {
	if b == nil {
		panic("rekisteri: New needs a Backend")
	}
	if opts == nil {
		opts = new(Options)
	}
	r := &Registry{
		backend: b, log: opts.Logger, observe: opts.Observe, authorize: opts.Authorize, services: opts.Services,
		pages: newPageCache(opts.PageBytes), errorPages: make(map[int]*errorPage),
		headers: headers{
			json:      headerValue{"application/json"},
			documents: headerValue{"no-cache"}, files: headerValue{"no-cache"}, discovery: headerValue{"no-cache"}, noStore: headerValue{"no-store"},
		},
	}
	r.opener, _ = b.(Opener)
	if opts.Publish != nil {
		if opts.Publish.To == nil || opts.Publish.Authorize == nil {
			panic("rekisteri: PublishOptions need To and Authorize")
		}
		publish := *opts.Publish
		r.publish, r.crossOrigin = &publish, http.NewCrossOriginProtection()
	}
	if r.log == nil {
		r.log = slog.Default()
	}
	if opts.ExternalURL != "" {
		u, err := url.Parse(opts.ExternalURL)
		if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "" || strings.ContainsAny(opts.ExternalURL, `"?#`) {
			panic(fmt.Sprintf("rekisteri: ExternalURL %q is not an absolute http or https URL", opts.ExternalURL))
		}
		r.externalURL = strings.TrimSuffix(u.String(), "/")
	}
	for _, code := range []int{http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound} {
		r.errorPages[code] = newErrorPage(code, "")
	}
	var random bool
	if r.links, random = newLinks(opts); r.links != nil {
		// Requests for files have no Authorization header, so without "private" a
		// shared cache could store the answers.
		r.headers.documents, r.headers.files = headerValue{"private, no-store"}, headerValue{"private, no-cache"}
	}
	if random && r.opener != nil {
		r.log.Warn("file links are signed with a random key: they become invalid when this process ends, and other replicas refuse them; set a link key")
	}
	r.discovery = r.discoveryPage("")
	return r
}

// Backend returns the backend that was passed to [New]. A handler that shows its
// data must ask [Registry.Authorize] for each provider.
func (r *Registry) Backend() Backend { return r.backend }

// CachedBytes returns about how much memory the encoded documents take, which
// [Options.PageBytes] limits.
func (r *Registry) CachedBytes() int64 {
	_, size := r.pages.pages.Usage()
	return size
}

// Authorize returns nil if a request may see a provider, and otherwise an error
// as [Options.Authorize] describes. If p is not a valid address, the error
// matches [fs.ErrNotExist].
func (r *Registry) Authorize(req *http.Request, p Provider) error {
	if !p.valid() {
		return fmt.Errorf("%q is not the address of a provider: %w", p, fs.ErrNotExist)
	}
	if r.authorize == nil {
		return nil
	}
	return r.authorize(req, p)
}

// FileURL returns the URL at which the registry serves a file of a release. The
// name is a package's Filename, or the name of SHA256SUMS or its signature.
// FileURL does not check that the file exists.
//
// The URL is absolute if [Options.ExternalURL] is set. Otherwise it is relative
// to the registry's root, such as "files/acme/foo/1.0.0/foo.zip". If links are
// signed, anyone who has the URL can read the file until the link expires, so
// call [Registry.Authorize] first.
func (r *Registry) FileURL(p Provider, version, name string) string {
	root := ""
	if r.externalURL != "" {
		root = r.externalURL + "/"
	}
	return r.fileURL(root, p, version, name, r.linkExpiry())
}
