package rekisteri

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/rekisteri/rekisteri/internal/names"
	"github.com/rekisteri/rekisteri/internal/release"
)

// PublishOptions let releases be published through a [Registry], by one PUT
// request for each file:
//
//	PUT /files/<namespace>/<type>/<version>/<file name>
//
// docs/publishing.md describes the answers.
type PublishOptions struct {
	// To stores the files. It must not be nil.
	To Publisher

	// Authorize decides whether a request may publish releases of a provider. It
	// must not be nil. Its errors are those of [Options.Authorize], which is not
	// called: the right to publish neither needs nor implies the right to read.
	Authorize func(*http.Request, Provider) error

	// Label returns who sent a request, such as [TokenFile.Label]. The log names
	// it beside the client's address when a release is published. Nil means the
	// address alone.
	Label func(*http.Request) string
}

// A Publisher stores the files of releases, one by one and in any order, and
// publishes a release when it is complete. Its method may be called
// concurrently, also by several processes for the same release.
type Publisher interface {
	// Publish stores a file of a release. The arguments are valid: name is that
	// of a zip of this provider and version, of its SHA256SUMS, of the signature
	// of that, or of the manifest.
	//
	// A published release never changes. If the release is complete with this
	// file, Publish publishes it, all files at once. If the publisher cannot
	// accept the file, the error is an [*UploadError]. If content returns an
	// error, Publish stores nothing and returns that error. Errors that match
	// [fs.ErrExist] are answered with 409, and a full disk with 507.
	Publish(ctx context.Context, p Provider, version, name string, content io.Reader) (*Receipt, error)
}

// A Receipt says what became of an uploaded file.
type Receipt struct {
	// State is StateStaged, StatePublished or StateUnchanged.
	State string `json:"state"`

	// Missing names the files that a staged release still lacks.
	Missing []string `json:"missing,omitempty"`
}

// The states of a [Receipt].
const (
	StateStaged    = "staged"    // the file is stored, and the release is not complete yet
	StatePublished = "published" // the file completed the release, which is published
	StateUnchanged = "unchanged" // the release has this file already, or another valid signature
)

// An UploadError says why a file is refused. Sending the file again does not help
// until the cause is fixed. It is answered with 422, or with 409 if Err matches
// [fs.ErrExist].
type UploadError struct {
	// Detail is sent to the client: what is wrong, and how to fix it. It must not
	// hold secrets or paths of the server.
	Detail string

	// Err is the cause, which is only logged. It may be nil.
	Err error
}

func (e *UploadError) Error() string {
	if e.Err != nil {
		return e.Detail + " (" + e.Err.Error() + ")"
	}
	return e.Detail
}

// Unwrap returns the cause.
func (e *UploadError) Unwrap() error { return e.Err }

const (
	maxZip       = 4 << 30 // bytes
	maxOtherFile = 4 << 20 // bytes in a SHA256SUMS file, a signature or a manifest
	maxFileName  = 180     // bytes; a staged file has a longer name, and file systems allow 255

	// An upload must make progress within this time.
	uploadTimeout = time.Minute

	// A refused body is read to its end, within these bounds: a proxy in front
	// would otherwise answer with an error of its own.
	maxDrain     = 256 << 20
	drainTimeout = 30 * time.Second
)

// upload answers a request that publishes a file.
func (r *Registry) upload(w http.ResponseWriter, req *http.Request, path []string, e *Event) error {
	body := &uploadBody{Reader: req.Body, control: http.NewResponseController(w), left: uploadLimit(path[4])}
	receipt, err := r.receive(req, path, body, e)
	e.Received = uploadLimit(path[4]) - body.left
	body.control.SetWriteDeadline(time.Now().Add(uploadTimeout))
	if err != nil {
		if body.err != nil && !errors.Is(err, context.Canceled) {
			err = body.err
		}
		body.drain(req)
		return err
	}
	text, err := encode(receipt)
	if err != nil {
		return err
	}
	status := map[string]int{StateStaged: http.StatusAccepted, StatePublished: http.StatusCreated, StateUnchanged: http.StatusOK}[receipt.State]
	if status == 0 {
		return fmt.Errorf("the publisher returned the unknown state %q", receipt.State)
	}
	h := w.Header()
	h["Content-Type"], h["Cache-Control"] = r.headers.json, r.headers.noStore
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(status)
	e.Status = status
	n, _ := w.Write(text)
	e.Bytes = int64(n)
	return nil
}

// receive checks a request and passes its body to the publisher.
func (r *Registry) receive(req *http.Request, path []string, body *uploadBody, e *Event) (*Receipt, error) {
	p, version, name := Provider{path[1], path[2]}, path[3], path[4]
	if !p.valid() {
		return nil, &UploadError{Detail: "the namespace and the type must be in lower-case letters, digits, - and _"}
	}
	e.Provider = p
	if err := r.crossOrigin.Check(req); err != nil {
		return nil, &denial{p, fmt.Errorf("%w: %w", err, fs.ErrPermission)}
	}
	if err := r.publish.Authorize(req, p); err != nil {
		return nil, &denial{p, err}
	}
	if !names.ValidVersion(version) {
		return nil, &UploadError{Detail: "the version must be a full semantic version without a v, such as 1.2.3"}
	}
	e.Version = version
	if err := checkUploadName(p, version, name); err != nil {
		return nil, err
	}
	if req.ContentLength > body.left {
		return nil, tooLarge(name)
	}
	if req.Header.Get("Content-Encoding") != "" {
		return nil, &UploadError{Detail: "send the file as it is, without a Content-Encoding"}
	}
	if checksum := req.Header.Get("X-Checksum-Sha256"); checksum != "" {
		body.want, body.hash = checksum, sha256.New()
	}
	body.name = name
	from := uploader{remote: req.RemoteAddr}
	if r.publish.Label != nil {
		from.label = r.publish.Label(req)
	}
	ctx := context.WithValue(req.Context(), uploaderKey{}, from)
	receipt, err := r.publish.To.Publish(ctx, p, version, name, body)
	if err == nil && receipt == nil {
		err = errors.New("the publisher returned neither a receipt nor an error")
	}
	return receipt, err
}

// An uploader is who sent an upload. The registry passes it to the publisher in
// the context, for the log.
type uploader struct{ remote, label string }

type uploaderKey struct{}

// checkUploadName returns nil if a release of a provider can have a file of that
// name.
func checkUploadName(p Provider, version, name string) error {
	if len(name) > maxFileName {
		return &UploadError{Detail: fmt.Sprintf("the file's name is longer than %d bytes", maxFileName)}
	}
	zip, isZip := release.ParseZip(name)
	switch {
	case name == release.SumsName(p.Type, version), name == release.SignatureName(p.Type, version), name == release.ManifestName(p.Type, version):
		return nil
	case isZip && zip.Type == p.Type && zip.Version == version && names.ValidPlatform(zip.OS) && names.ValidPlatform(zip.Arch):
		return nil
	}
	return &UploadError{Detail: fmt.Sprintf("%q is not a file of %v %s: expected %s, its .sig, %s, or a zip such as %s", name, p, version,
		release.SumsName(p.Type, version), release.ManifestName(p.Type, version), "terraform-provider-"+p.Type+"_"+version+"_linux_amd64.zip")}
}

// uploadLimit returns the largest size of a file, in bytes.
func uploadLimit(name string) int64 {
	if release.IsZip(name) {
		return maxZip
	}
	return maxOtherFile
}

func tooLarge(name string) error {
	return &refusal{status: http.StatusRequestEntityTooLarge, reason: fmt.Sprintf("%s is larger than %d MiB", name, uploadLimit(name)>>20)}
}

// An uploadBody is the body of an upload. Its reads extend the deadlines of the
// connection, so that an upload has no time limit while it makes
// progress.
type uploadBody struct {
	io.Reader
	control  *http.ResponseController
	name     string
	extended time.Time // when the deadlines were last extended
	left     int64     // bytes that may still come
	want     string    // the sum that the client sent
	hash     hash.Hash // of what was read; nil: the client sent no sum
	err      error     // what ended the body, other than io.EOF
}

// Read implements [io.Reader].
func (b *uploadBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	if now := time.Now(); now.Sub(b.extended) > time.Second {
		b.extended = now
		b.control.SetReadDeadline(now.Add(uploadTimeout))
		b.control.SetWriteDeadline(now.Add(2 * uploadTimeout))
	}
	n, err := b.Reader.Read(p)
	b.left -= int64(n)
	if b.hash != nil {
		b.hash.Write(p[:n])
	}
	switch {
	case b.left < 0:
		b.err = tooLarge(b.name)
	case err == io.EOF && b.hash != nil && subtle.ConstantTimeCompare([]byte(hex.EncodeToString(b.hash.Sum(nil))), bytes.ToLower([]byte(b.want))) == 0:
		b.err = &UploadError{Detail: "the body does not have the sum in X-Checksum-Sha256: it was damaged in transit, or the header is wrong"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.err = &refusal{status: http.StatusRequestTimeout, reason: "the body made no progress"}
	case errors.As(err, new(*http.MaxBytesError)): // of a handler around the registry
		b.err = &refusal{status: http.StatusRequestEntityTooLarge, reason: b.name + " is larger than the server allows"}
	case err != nil && err != io.EOF:
		b.err = &refusal{status: http.StatusBadRequest, reason: "the body is shorter than its Content-Length, or was cut off: " + err.Error()}
	default:
		return n, err
	}
	return 0, b.err
}

// drain reads what is left of a refused body.
func (b *uploadBody) drain(req *http.Request) {
	if req.Header.Get("Expect") != "" && b.left == uploadLimit(b.name) {
		return // the client waits for "100 Continue", and sends nothing
	}
	b.control.SetReadDeadline(time.Now().Add(drainTimeout))
	io.CopyN(io.Discard, b.Reader, maxDrain)
}

// isFull reports whether an error says that a disk or a quota is full.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// uploadDetail returns what the client of an upload is told about an error.
func uploadDetail(err error) string {
	if upload, ok := errors.AsType[*UploadError](err); ok {
		return upload.Detail
	}
	if refused, ok := errors.AsType[*refusal](err); ok {
		return refused.reason
	}
	if isFull(err) {
		return "there is no space left where the registry stores releases"
	}
	return ""
}
