package rekisteri

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/mod/semver"

	"github.com/rekisteri/rekisteri/internal/names"
	"github.com/rekisteri/rekisteri/internal/openpgp"
	"github.com/rekisteri/rekisteri/internal/page"
	"github.com/rekisteri/rekisteri/internal/release"
)

// The documents of the protocol. Lists are never null, since clients differ in how
// they read null.
type (
	listingDocument struct {
		Versions []versionDocument `json:"versions"`
		Warnings []string          `json:"warnings,omitempty"`
	}
	versionDocument struct {
		Version   string             `json:"version"`
		Protocols []string           `json:"protocols"`
		Platforms []platformDocument `json:"platforms"`
	}
	platformDocument struct {
		OS   string `json:"os"`
		Arch string `json:"arch"`
	}
	packageDocument struct {
		Protocols           []string `json:"protocols"`
		OS                  string   `json:"os"`
		Arch                string   `json:"arch"`
		Filename            string   `json:"filename"`
		DownloadURL         string   `json:"download_url"`
		SHASumsURL          string   `json:"shasums_url"`
		SHASumsSignatureURL string   `json:"shasums_signature_url"`
		SHASum              string   `json:"shasum"`
		SigningKeys         struct {
			GPGPublicKeys []keyDocument `json:"gpg_public_keys"`
		} `json:"signing_keys"`
	}
	keyDocument struct {
		KeyID          string `json:"key_id"`
		ASCIIArmor     string `json:"ascii_armor"`
		TrustSignature string `json:"trust_signature"`
		Source         string `json:"source"`
		SourceURL      string `json:"source_url"`
	}
)

// discoveryPage returns the discovery document of a host that mounts the
// registry below prefix.
func (r *Registry) discoveryPage(prefix string) *page.Page {
	at := url.URL{Path: path.Join("/", prefix, providersPath) + "/"}
	services := map[string]any{"providers.v1": at.EscapedPath()}
	for name, service := range r.services {
		if _, ok := services[name]; ok {
			panic("rekisteri: Services contains " + name)
		}
		services[name] = service
	}
	doc, err := encodePage(services)
	if err != nil {
		panic("rekisteri: Services cannot be encoded: " + err.Error())
	}
	return doc
}

// listingDocument returns the document of a provider's versions. It drops values
// that clients fail on: Terraform before 1.13 and OpenTofu refuse a provider for
// one version that they cannot parse, and all clients panic at a number that
// overflows.
func (r *Registry) listingDocument(p Provider, l *Listing) (*listingDocument, error) {
	doc := &listingDocument{Versions: make([]versionDocument, 0, len(l.Versions)), Warnings: l.Warnings}
	seen := make(map[string]bool, len(l.Versions))
	for _, v := range l.Versions {
		switch {
		case !names.ValidVersion(v.Version):
			r.dropped(p, v.Version, "the version is not a full semantic version")
			continue
		case seen[v.Version]:
			r.dropped(p, v.Version, "the version is listed twice")
			continue
		}
		seen[v.Version] = true
		platforms := make([]platformDocument, 0, len(v.Platforms))
		for _, on := range v.Platforms {
			if !on.valid() {
				r.dropped(p, v.Version, "the platform is not in lower-case letters and digits", "platform", on.String())
				continue
			}
			platforms = append(platforms, platformDocument(on))
		}
		doc.Versions = append(doc.Versions, versionDocument{v.Version, r.protocols(p, v.Version, v.Protocols), platforms})
	}
	if len(doc.Versions) == 0 {
		return nil, notFound("the provider has no valid version")
	}
	slices.SortFunc(doc.Versions, func(a, b versionDocument) int {
		return cmp.Or(semver.Compare("v"+a.Version, "v"+b.Version), strings.Compare(a.Version, b.Version))
	})
	return doc, nil
}

// packageDocument returns the document of a release's package for a platform,
// with links that expire at the given Unix time.
func (r *Registry) packageDocument(p Provider, version string, rel *Release, on Platform, expires int64) (*packageDocument, error) {
	var pkg *Package
	for i := range rel.Packages {
		if rel.Packages[i].Platform == on {
			pkg = &rel.Packages[i]
			break
		}
	}
	if pkg == nil {
		return nil, notFound("the release has no package for " + on.String())
	}
	if err := pkg.check(r.opener != nil); err != nil {
		r.dropped(p, version, err.Error(), "platform", on.String())
		return nil, notFound("the package is not valid: " + err.Error())
	}
	root := rootFromPackage
	if r.externalURL != "" {
		root = r.externalURL + "/"
	}
	fileURL := func(u, name string) string {
		if u != "" {
			return u
		}
		return r.fileURL(root, p, version, name, expires)
	}
	signature := release.SignatureName(p.Type, version)
	doc := &packageDocument{
		Protocols: r.protocols(p, version, rel.Protocols), OS: on.OS, Arch: on.Arch, Filename: pkg.Filename,
		DownloadURL:         fileURL(pkg.URL, pkg.Filename),
		SHASumsURL:          fileURL(pkg.SHASumsURL, strings.TrimSuffix(signature, ".sig")),
		SHASumsSignatureURL: fileURL(pkg.SHASumsSignatureURL, signature),
		SHASum:              hex.EncodeToString(pkg.SHA256[:]),
	}
	keys := make([]keyDocument, 0, len(pkg.SigningKeys))
	for _, key := range pkg.SigningKeys {
		if !openpgp.Readable(key.ASCIIArmor) { // clients would not try the next key
			r.dropped(p, version, "clients cannot read the armor of the signing key", "key", key.KeyID)
			continue
		}
		keys = append(keys, keyDocument(key))
	}
	doc.SigningKeys.GPGPublicKeys = keys
	return doc, nil
}

// fileURL returns the URL of a file that the registry serves. The root is empty
// or ends in a slash.
func (r *Registry) fileURL(root string, p Provider, version, name string, expires int64) string {
	b := append(make([]byte, 0, 512), root...)
	b = append(b, filesPath...)
	for _, dir := range [...]string{p.Namespace, p.Type, version} {
		b = append(b, url.PathEscape(dir)...)
		b = append(b, '/')
	}
	b = append(b, url.PathEscape(name)...)
	if r.links != nil {
		b = r.links.appendQuery(b, p, version, name, expires)
	}
	return string(b)
}

// linkExpiry returns when a link that is made now expires, in Unix time. It is
// zero if links are not signed.
func (r *Registry) linkExpiry() int64 {
	if r.links == nil {
		return 0
	}
	return r.links.expiry(time.Now())
}

// check returns why clients cannot install the package. If held is true, the
// backend holds the files of empty URLs.
func (p *Package) check(held bool) error {
	if !p.valid() {
		return fmt.Errorf("the platform %q %q is not in lower-case letters and digits", p.OS, p.Arch)
	}
	if !names.ValidFilename(p.Filename) {
		return fmt.Errorf("the file name %q is empty, too long, or contains an invalid character", p.Filename)
	}
	for _, u := range [...]struct{ name, url string }{
		{"the zip", p.URL}, {"SHA256SUMS", p.SHASumsURL}, {"its signature", p.SHASumsSignatureURL},
	} {
		switch {
		case u.url == "" && held:
		case u.url == "":
			return fmt.Errorf("the URL of %s is missing", u.name)
		case !names.ValidURL(u.url):
			return fmt.Errorf("the URL of %s is not an http or https one", u.name)
		}
	}
	return nil
}

// protocols returns the protocol versions that clients can parse. They refuse a
// package for one that they cannot.
func (r *Registry) protocols(p Provider, version string, all []string) []string {
	valid := make([]string, 0, len(all))
	for _, protocol := range all {
		if !names.ValidProtocol(protocol) {
			r.dropped(p, version, "the protocol version does not parse", "protocol", protocol)
			continue
		}
		valid = append(valid, protocol)
	}
	return valid
}

// dropped logs that a value of the backend is not sent to clients.
func (r *Registry) dropped(p Provider, version, reason string, args ...any) {
	if r.reports.Allow(fmt.Sprint(p, version, reason, args)) {
		r.log.Warn("an invalid value is not served", append([]any{"provider", p.String(), "version", version, "reason", reason}, args...)...)
	}
}
