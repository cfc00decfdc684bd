package rekisteri_test

import (
	"context"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/rekisteri/rekisteri"
)

// A publisherFunc is a Publisher of one function.
type publisherFunc func(content io.Reader) (*rekisteri.Receipt, error)

func (f publisherFunc) Publish(_ context.Context, _ rekisteri.Provider, _, _ string, content io.Reader) (*rekisteri.Receipt, error) {
	return f(content)
}

// TestEventReason causes each reason that an event can have.
func TestEventReason(t *testing.T) {
	const versions = "/v1/providers/acme/hello/versions"
	backend := newBackend(t, newTree(t, "1.0.0").mapFS())
	private := rekisteri.Options{Authorize: allowAll}
	link := func() string {
		return "/" + rekisteri.New(backend, &rekisteri.Options{Logger: silent, LinkKeys: [][32]byte{{1}}}).FileURL(acmeHello, "1.0.0", zip100)
	}
	expired := ""
	synctest.Test(t, func(*testing.T) { expired = link() }) // its clock begins in the year 2000
	refuse := func(err error) rekisteri.Options {
		return rekisteri.Options{Authorize: func(*http.Request, rekisteri.Provider) error { return err }}
	}
	publish := func(err error) rekisteri.Options {
		return rekisteri.Options{Publish: &rekisteri.PublishOptions{Authorize: allowAll, To: publisherFunc(func(content io.Reader) (*rekisteri.Receipt, error) {
			io.Copy(io.Discard, content)
			return &rekisteri.Receipt{State: rekisteri.StateStaged}, err
		})}}
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		name, method, target string
		opts                 rekisteri.Options
		backend              rekisteri.Backend
		body                 io.Reader
		ctx                  context.Context
		status               int
		want                 string
	}{
		{name: "success", target: versions, status: 200},
		{name: "upper case", target: "/v1/providers/Acme/hello/versions", status: 308, want: rekisteri.ReasonRedirect},
		{name: "no credentials", target: versions, opts: refuse(rekisteri.ErrUnauthenticated), status: 401, want: rekisteri.ReasonUnauthenticated},
		{name: "wrong namespace", target: versions, opts: refuse(fs.ErrPermission), status: 403, want: rekisteri.ReasonForbidden},
		{name: "hidden", target: versions, opts: refuse(fs.ErrNotExist), status: 404, want: rekisteri.ReasonNotFound},
		{name: "unsigned link", target: files + zip100, opts: private, status: 403, want: rekisteri.ReasonBadLink},
		{name: "link by another key", target: link(), opts: private, status: 403, want: rekisteri.ReasonBadLink},
		{name: "expired link", target: expired, opts: rekisteri.Options{LinkKeys: [][32]byte{{1}}}, status: 403, want: rekisteri.ReasonExpiredLink},
		{name: "method", method: "DELETE", target: versions, status: 405, want: rekisteri.ReasonMethod},
		{name: "publishing is off", method: "PUT", target: files + upZip, status: 405, want: rekisteri.ReasonMethod},
		{name: "backend fails", target: versions, backend: &fake{err: syscall.EIO}, status: 500, want: rekisteri.ReasonError},
		{name: "backend is slow", target: versions, backend: &fake{err: context.DeadlineExceeded}, status: 504, want: rekisteri.ReasonTimeout},
		{name: "client is gone", target: versions, backend: &fake{err: context.Canceled}, ctx: gone, status: 504, want: rekisteri.ReasonAborted},
		{name: "upload", method: "PUT", target: files + upZip, opts: publish(nil), body: strings.NewReader("zip"), status: 202},
		{name: "upload of another file", method: "PUT", target: files + "x.zip", opts: publish(nil), status: 422, want: rekisteri.ReasonInvalid},
		{name: "upload that conflicts", method: "PUT", target: files + upZip, opts: publish(fs.ErrExist), status: 409, want: rekisteri.ReasonConflict},
		{name: "upload to a full disk", method: "PUT", target: files + upZip, opts: publish(syscall.ENOSPC), status: 507, want: rekisteri.ReasonFull},
		{name: "upload that is cut off", method: "PUT", target: files + upZip, opts: publish(io.ErrUnexpectedEOF), body: errorReader{io.ErrUnexpectedEOF}, status: 400, want: rekisteri.ReasonAborted},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.method == "" {
				test.method = "GET"
			}
			if test.backend == nil {
				test.backend = backend
			}
			req := httptest.NewRequest(test.method, test.target, test.body)
			if test.ctx != nil {
				req = req.WithContext(test.ctx)
			}
			_, e, _ := observed(t, test.backend, test.opts, func(r *rekisteri.Registry) http.Handler { return r }, req)
			if e.Status != test.status || e.Reason != test.want || (e.Reason == "") != (e.Err == nil) {
				t.Errorf("status %d, reason %q, error %v, want %d, %q", e.Status, e.Reason, e.Err, test.status, test.want)
			}
			if test.name == "upload" && e.Received != 3 {
				t.Errorf("%d bytes were received, want 3", e.Received)
			}
		})
	}
}
