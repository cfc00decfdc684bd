package rekisteri

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/rekisteri/rekisteri/internal/httpfile"
	"github.com/rekisteri/rekisteri/internal/names"
	"github.com/rekisteri/rekisteri/internal/page"
	"github.com/rekisteri/rekisteri/internal/release"
)

// servePage answers a request with a page.
func (r *Registry) servePage(w http.ResponseWriter, req *http.Request, p *page.Page, cacheControl headerValue, e *Event) error {
	body, conditional := p.Begin(w.Header(), req, r.headers.json, cacheControl)
	if conditional {
		return r.serveContent(w, req, bytes.NewReader(body), e)
	}
	w.WriteHeader(http.StatusOK)
	e.Status = http.StatusOK
	if req.Method != http.MethodHead {
		n, _ := w.Write(body)
		e.Bytes = int64(n)
	}
	return nil
}

// statusHungUp is nginx's status for a client that hung up. It is never sent.
const statusHungUp = 499

// serveContent answers a request with a body, as http.ServeContent does. The
// headers that describe it are already set.
func (r *Registry) serveContent(w http.ResponseWriter, req *http.Request, body io.ReadSeeker, e *Event) error {
	var sent httpfile.Sent
	defer func() { e.Status, e.Bytes = sent.Status, sent.Bytes }() // even if body panics
	err := httpfile.Serve(w, req, body, &sent)
	switch err := err.(type) {
	case *httpfile.RefusedError:
		return &refusal{status: err.Status, reason: err.Error()}
	case *httpfile.HungUpError:
		return &refusal{status: statusHungUp, reason: err.Error()}
	}
	return err
}

// A servedFile describes a file of a release.
type servedFile struct {
	contentType string
	sha256      [sha256.Size]byte // of a zip
}

const zipType = "application/zip"

// findFile returns the file of a release that has a name, if the backend holds
// that file.
func findFile(rel *Release, p Provider, version, name string) (servedFile, error) {
	sums := release.SumsName(p.Type, version)
	for i := range rel.Packages {
		pkg := &rel.Packages[i]
		switch {
		case pkg.URL == "" && name == pkg.Filename:
			return servedFile{zipType, pkg.SHA256}, nil
		case pkg.SHASumsURL == "" && name == sums:
			return servedFile{contentType: "text/plain; charset=utf-8"}, nil
		case pkg.SHASumsSignatureURL == "" && name == sums+".sig":
			return servedFile{contentType: "application/octet-stream"}, nil
		}
	}
	return servedFile{}, notFound("the release has no such file")
}

// serveFile answers a request with an open file.
func (r *Registry) serveFile(w http.ResponseWriter, req *http.Request, f io.ReadSeeker, file servedFile, e *Event) error {
	digest := file.sha256[:]
	if file.contentType != zipType { // it is small, and the release has no digest of it
		hash := sha256.New()
		if _, err := io.Copy(hash, f); err != nil {
			return err
		}
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return err
		}
		digest = hash.Sum(nil)
	}
	h := w.Header()
	h.Set("Content-Type", file.contentType)
	h["Cache-Control"] = r.headers.files
	h.Set("ETag", `"`+hex.EncodeToString(digest)+`"`)
	return r.serveContent(w, req, f, e)
}

// serveRedirect answers a request with the URL of a file. A HEAD request is
// answered here: object stores refuse it at a URL that was signed for GET.
func (r *Registry) serveRedirect(w http.ResponseWriter, req *http.Request, to *Redirect, file servedFile, e *Event) error {
	isAbsolute := strings.HasPrefix(to.URL, "https://") || strings.HasPrefix(to.URL, "http://")
	if !isAbsolute || !names.ValidURL(to.URL) {
		return errors.New("the backend redirects to a URL that is not an absolute http or https URL")
	}
	h := w.Header()
	if req.Method == http.MethodHead {
		h.Set("Content-Type", file.contentType)
		h.Set("Content-Length", strconv.FormatInt(to.Size, 10))
		h.Set("Accept-Ranges", "bytes")
		h["Cache-Control"] = r.headers.files
		if file.contentType == zipType { // the release has no digest of the others
			h.Set("ETag", `"`+hex.EncodeToString(file.sha256[:])+`"`)
		}
		e.Status = http.StatusOK
	} else {
		h.Set("Location", to.URL)
		h["Cache-Control"] = r.headers.noStore
		e.Status = http.StatusFound
	}
	w.WriteHeader(e.Status)
	return nil
}
