package main

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/rekisteri/rekisteri"
)

// healthPath is where the health stands at the root of the host, whatever the
// prefix, for whoever asks.
const healthPath = "/healthz"

// relookEvery is how often a tree that could not be read is looked at without
// a request for it.
const relookEvery = 5 * time.Second

// A health tells how the command is. It knows what the last requests have had
// the backend find out, and looks at nothing itself: however often it is
// asked, and even if the disk hangs.
type health struct {
	stopping context.Context // done when the command shuts down
	backend  *rekisteri.FSBackend
}

// healthJSON says no path and no cause: everyone may ask. Those are in the log.
type healthJSON struct {
	Status     string    `json:"status"`               // "ok", "tree unreadable" or "shutting down"
	Looked     time.Time `json:"looked,omitzero"`      // when the last look at the tree ended; nothing has been asked for before the first
	AgeSeconds *int64    `json:"age_seconds,omitzero"` // how long ago that was: a process that nobody asks for anything does not look
	Problems   int       `json:"problems"`             // in what is held of the tree
}

// mount returns a handler that answers /healthz, and leaves the rest to next.
func (h *health) mount(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == healthPath {
			h.ServeHTTP(w, req)
			return
		}
		next.ServeHTTP(w, req)
	})
}

// ServeHTTP answers with 200, or with 503 where requests had better go
// elsewhere.
func (h *health) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	if req.Method != http.MethodGet && req.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		w.Write([]byte(`{"errors":["Method Not Allowed"]}`))
		return
	}
	tree := h.backend.Health()
	doc := healthJSON{Status: "ok", Looked: tree.Looked.UTC(), Problems: tree.Problems}
	if !tree.Looked.IsZero() {
		age := int64(time.Since(tree.Looked).Seconds())
		doc.AgeSeconds = &age
	}
	code := http.StatusServiceUnavailable
	switch {
	case h.stopping.Err() != nil:
		doc.Status = "shutting down"
	case tree.Err != nil:
		doc.Status = "tree unreadable"
	default:
		code = http.StatusOK
	}
	w.WriteHeader(code)
	json.NewEncoder(w).Encode(doc)
}

// relook has the backend look at a tree that could not be read, until the
// command shuts down. Who balances load by the health sends no request that
// would, and the failure would stand for ever.
func (h *health) relook(every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-h.stopping.Done():
			return
		case <-tick.C:
		}
		if h.backend.Health().Err != nil {
			// Whether there is such a provider does not matter: to tell, the
			// backend has to read the tree.
			h.backend.Versions(h.stopping, rekisteri.Provider{Namespace: "healthz", Type: "healthz"})
		}
	}
}
