package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/rekisteri/rekisteri"
)

// healthPath is the path of the health check. It is at the root of the host,
// whatever the prefix.
const healthPath = "/healthz"

// rereadEvery is the time between two reads of a tree that cannot be read, without
// requests.
const rereadEvery = 5 * time.Second

// reasonUnhealthy is the reason of a failed health check in events.
const reasonUnhealthy = "unhealthy"

// A health answers health checks. It reports what the last requests have found,
// and reads nothing itself, so it answers at once even if the disk hangs.
type health struct {
	stopping context.Context // done when the command shuts down
	backend  *rekisteri.FSBackend
	observe  func(*http.Request, rekisteri.Event) // nil: nobody observes
}

// healthJSON has no path and no cause, since everyone may read it. The log has
// both.
type healthJSON struct {
	Status     string    `json:"status"`                // "ok", "starting", "tree unreadable" or "shutting down"
	Looked     time.Time `json:"looked,omitzero"`       // when the tree was last read; omitted before the first read
	AgeSeconds *int64    `json:"age_seconds,omitempty"` // how long ago that was; the tree is not read without requests
	Problems   int       `json:"problems"`              // of what is in memory
}

// ServeHTTP answers with 200, or with 503 if requests should go elsewhere.
func (h *health) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	started := time.Now()
	e := rekisteri.Event{Route: routeHealth}
	body := []byte(`{"errors":["Method Not Allowed"]}`)
	if req.Method == http.MethodGet || req.Method == http.MethodHead {
		if e.Status, body, e.Err = h.report(); e.Err != nil {
			e.Reason = reasonUnhealthy
		}
	} else {
		e.Status, e.Err, e.Reason = http.StatusMethodNotAllowed, errors.New("the method is neither GET nor HEAD"), rekisteri.ReasonMethod
		w.Header().Set("Allow", "GET, HEAD")
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(e.Status)
	if req.Method != http.MethodHead {
		n, _ := w.Write(body)
		e.Bytes = int64(n)
	}
	if h.observe != nil {
		e.Duration = time.Since(started)
		h.observe(req, e)
	}
}

// report returns the health as a status and a document. The error is the cause
// of a bad status.
func (h *health) report() (status int, body []byte, err error) {
	tree := h.backend.Health()
	doc := healthJSON{Status: "ok", Looked: tree.Looked.UTC(), Problems: tree.Problems}
	if !tree.Looked.IsZero() {
		age := int64(time.Since(tree.Looked).Seconds())
		doc.AgeSeconds = &age
	}
	status = http.StatusOK
	switch {
	case h.stopping.Err() != nil:
		doc.Status = "shutting down"
		status, err = http.StatusServiceUnavailable, errors.New(doc.Status)
	case tree.Looked.IsZero():
		doc.Status = "starting"
		status, err = http.StatusServiceUnavailable, errors.New("the tree was not read yet")
	case tree.Err != nil:
		doc.Status = "tree unreadable"
		status, err = http.StatusServiceUnavailable, tree.Err
	}
	body, encodeErr := json.Marshal(doc)
	return status, append(body, '\n'), errors.Join(err, encodeErr)
}

// reread makes the backend read the tree again while that fails, until the command
// shuts down. Otherwise a load balancer that sends requests only to healthy servers
// would never see it recover.
func (h *health) reread() {
	tick := time.NewTicker(rereadEvery)
	defer tick.Stop()
	for {
		select {
		case <-h.stopping.Done():
			return
		case <-tick.C:
		}
		if tree := h.backend.Health(); tree.Err != nil || tree.Looked.IsZero() {
			readTree(h.stopping, h.backend)
		}
	}
}

// readTree makes the backend read the tree. It does not matter whether this provider
// exists: the backend reads the tree to find out.
func readTree(ctx context.Context, b *rekisteri.FSBackend) {
	b.Versions(ctx, rekisteri.Provider{Namespace: "healthz", Type: "healthz"})
}
