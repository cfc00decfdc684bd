package server

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	runtimemetrics "runtime/metrics"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/metrics"
)

// metricsPath is the path of the metrics, on their own listener.
const metricsPath = "/metrics"

// The values of labels. Each list ends with the one for all other values.
var (
	metricRoutes = []string{rekisteri.RouteDiscovery, rekisteri.RouteVersions, rekisteri.RouteDownload, rekisteri.RouteFile,
		rekisteri.RouteUpload, rekisteri.RoutePage, routeHealth, rekisteri.RouteOther}
	metricMethods = []string{http.MethodGet, http.MethodHead, http.MethodPut, "other"}
	metricCodes   = []int{200, 201, 202, 206, 302, 304, 308, 400, 401, 403, 404, 405, 408, 409, 412, 413, 416, 422, 499, 500, 503, 504, 507, 0}
	metricReasons = []string{rekisteri.ReasonRedirect, rekisteri.ReasonUnauthenticated, rekisteri.ReasonForbidden, rekisteri.ReasonBadLink,
		rekisteri.ReasonExpiredLink, rekisteri.ReasonNotFound, rekisteri.ReasonMethod, rekisteri.ReasonCondition, rekisteri.ReasonConflict,
		rekisteri.ReasonInvalid, rekisteri.ReasonAborted, rekisteri.ReasonTimeout, rekisteri.ReasonFull, reasonUnhealthy, rekisteri.ReasonError}
	metricResults = []string{rekisteri.StateStaged, rekisteri.StatePublished, rekisteri.StateUnchanged, "denied", "conflict", "invalid", "aborted", "error"}
)

// durationBounds are the upper bounds of the buckets of durations.
var durationBounds = [...]time.Duration{time.Millisecond, 5 * time.Millisecond, 25 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond,
	2500 * time.Millisecond, 10 * time.Second, time.Minute, 5 * time.Minute}

// A requestCounter counts requests. Requests do not wait for each other. All
// requests count, so it neither hashes labels nor follows pointers.
type requestCounter struct {
	requests []requestCount // by route, method and code
	failures []atomic.Int64 // by reason
	uploads  []atomic.Int64 // by result
	received atomic.Int64   // bytes of uploads
}

// A requestCount counts the requests with the same labels. The fields that most
// requests change are adjacent, so that they share a cache line.
type requestCount struct {
	sent    atomic.Int64 // bytes
	nanos   atomic.Int64 // the sum of the durations
	buckets [len(durationBounds) + 1]atomic.Int64
}

func newRequestCounter() *requestCounter {
	return &requestCounter{
		requests: make([]requestCount, len(metricRoutes)*len(metricMethods)*len(metricCodes)),
		failures: make([]atomic.Int64, len(metricReasons)),
		uploads:  make([]atomic.Int64, len(metricResults)),
	}
}

// count returns the counts of requests with labels.
func (c *requestCounter) count(route, method string, code int) *requestCount {
	i := index(metricRoutes, route)
	i = i*len(metricMethods) + index(metricMethods, method)
	i = i*len(metricCodes) + index(metricCodes, code)
	return &c.requests[i]
}

// index returns where v is in values. It is the last place if v is not there.
func index[T comparable](values []T, v T) int {
	if i := slices.Index(values, v); i >= 0 {
		return i
	}
	return len(values) - 1
}

// observe counts a request. It is a [rekisteri.Options.Observe] function.
func (c *requestCounter) observe(req *http.Request, e rekisteri.Event) {
	count := c.count(e.Route, req.Method, e.Status)
	bucket := 0
	for bucket < len(durationBounds) && e.Duration > durationBounds[bucket] {
		bucket++
	}
	count.buckets[bucket].Add(1)
	count.nanos.Add(int64(e.Duration))
	count.sent.Add(e.Bytes)
	if e.Err != nil {
		c.failures[index(metricReasons, e.Reason)].Add(1)
	}
	if e.Route == rekisteri.RouteUpload {
		c.received.Add(e.Received)
		c.uploads[index(metricResults, uploadResult(e))].Add(1)
	}
}

// uploadResult returns what became of an upload. If it is not in metricResults, it
// is an error.
func uploadResult(e rekisteri.Event) string {
	switch e.Status {
	case http.StatusOK:
		return rekisteri.StateUnchanged
	case http.StatusCreated:
		return rekisteri.StatePublished
	case http.StatusAccepted:
		return rekisteri.StateStaged
	}
	switch e.Reason {
	case rekisteri.ReasonUnauthenticated, rekisteri.ReasonForbidden, rekisteri.ReasonNotFound:
		return "denied"
	}
	return e.Reason
}

// An exporter answers with the metrics of the command.
type exporter struct {
	*requestCounter
	backend  *rekisteri.FSBackend
	registry *rekisteri.Registry
	cert     *certificate // nil: no TLS
	running  *atomic.Int64
	started  time.Time
}

// listen serves the metrics at an address until stop is called.
func (x *exporter) listen(addr string, log *slog.Logger) (stop func(), err error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("%w; set -metrics-addr to another address", err)
	}
	srv := NewHTTPServer(x)
	srv.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	go srv.Serve(ln)
	log.Info("serving metrics", "url", "http://"+ln.Addr().String()+metricsPath)
	return func() { srv.Close() }, nil
}

// ServeHTTP implements [http.Handler].
func (x *exporter) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	switch {
	case req.URL.Path != metricsPath:
		http.NotFound(w, req)
	case req.Method != http.MethodGet && req.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "the method is neither GET nor HEAD", http.StatusMethodNotAllowed)
	default:
		w.Header().Set("Content-Type", metrics.ContentType)
		w.Write(x.text(req.Context()))
	}
}

// text returns the metrics.
func (x *exporter) text(ctx context.Context) []byte {
	w := new(metrics.Writer)
	x.writeRequests(w)
	x.writeTree(w)
	if x.cert != nil {
		// Get reads the certificate again if that is due.
		if pair, err := x.cert.pair.Get(ctx); err == nil {
			w.Begin("rekisteri_tls_certificate_expiry_timestamp_seconds", metrics.TypeGauge, "When the TLS certificate expires.")
			w.Sample(unixSeconds(pair.cert.Leaf.NotAfter))
		}
	}
	x.writeProcess(w)
	return w.Bytes()
}

// writeRequests writes what was counted of requests.
func (x *exporter) writeRequests(w *metrics.Writer) {
	w.Begin("rekisteri_http_requests_total", metrics.TypeCounter, "Requests that were answered, by route, method and status code.")
	durations, sent := make(map[string]metrics.Histogram), make(map[string]int64) // by route
	for _, route := range metricRoutes {
		all := metrics.Histogram{Bounds: durationBounds[:], Counts: make([]int64, len(durationBounds)+1)}
		for _, method := range metricMethods {
			for _, code := range metricCodes {
				count, n := x.count(route, method, code), int64(0)
				for i := range count.buckets {
					in := count.buckets[i].Load()
					all.Counts[i] += in
					n += in
				}
				all.Sum += time.Duration(count.nanos.Load())
				sent[route] += count.sent.Load()
				label := "other"
				if code != 0 {
					label = strconv.Itoa(code)
				}
				if n > 0 {
					w.Sample(float64(n), "route", route, "method", method, "code", label)
				}
			}
		}
		durations[route] = all
	}
	w.Begin("rekisteri_http_request_duration_seconds", metrics.TypeHistogram, "How long requests took, the transfer included, by route.")
	for _, route := range metricRoutes {
		w.Histogram(durations[route], "route", route)
	}
	w.Begin("rekisteri_http_response_bytes_total", metrics.TypeCounter, "Bytes of bodies that were sent, by route.")
	for _, route := range metricRoutes {
		w.Sample(float64(sent[route]), "route", route)
	}
	writeCounters(w, "rekisteri_http_failures_total", "Requests that were refused or failed, by reason.", "reason", metricReasons, x.failures)
	w.Begin("rekisteri_http_requests_in_flight", metrics.TypeGauge, "Requests that are being answered.")
	w.Sample(float64(x.running.Load()))
	writeCounters(w, "rekisteri_uploads_total", "Uploads of files, by result.", "result", metricResults, x.uploads)
	w.Begin("rekisteri_upload_received_bytes_total", metrics.TypeCounter, "Bytes of uploads that were received.")
	w.Sample(float64(x.received.Load()))
}

// writeCounters writes a metric with one label.
func writeCounters(w *metrics.Writer, name, help, label string, values []string, counters []atomic.Int64) {
	w.Begin(name, metrics.TypeCounter, help)
	for i, value := range values {
		w.Sample(float64(counters[i].Load()), label, value)
	}
}

// writeTree writes what is known of the tree, without reading it.
func (x *exporter) writeTree(w *metrics.Writer) {
	h := x.backend.Health()
	w.Begin("rekisteri_tree_readable", metrics.TypeGauge, "Whether the last read of the tree succeeded: 1 or 0.")
	readable := 0.0
	if !h.Looked.IsZero() && h.Err == nil {
		readable = 1
	}
	w.Sample(readable)
	if !h.LastGood.IsZero() {
		w.Begin("rekisteri_tree_last_read_timestamp_seconds", metrics.TypeGauge, "When the tree was last read without an error. It is read only when requests need it.")
		w.Sample(unixSeconds(h.LastGood))
	}
	w.Begin("rekisteri_tree_problems", metrics.TypeGauge, "Problems in the part of the tree that is in memory.")
	w.Sample(float64(h.Problems))
	if !h.KeyExpires.IsZero() {
		w.Begin("rekisteri_signing_key_expiry_timestamp_seconds", metrics.TypeGauge, "When the next signing key in memory expires. Keys that have expired do not count.")
		w.Sample(unixSeconds(h.KeyExpires))
	}
	w.Begin("rekisteri_cache_bytes", metrics.TypeGauge, "Memory that the caches take.")
	w.Sample(float64(h.CachedBytes), "cache", "tree")
	w.Sample(float64(x.registry.CachedBytes()), "cache", "documents")
}

// writeProcess writes what is known of the process.
func (x *exporter) writeProcess(w *metrics.Writer) {
	w.Begin("rekisteri_build_info", metrics.TypeGauge, "The version of the command and of Go; always 1.")
	w.Sample(1, "version", mainVersion(), "goversion", runtime.Version())
	w.Begin("process_start_time_seconds", metrics.TypeGauge, "When the process started.")
	w.Sample(unixSeconds(x.started))
	for _, m := range []struct{ name, source, help string }{
		{name: "go_goroutines", source: "/sched/goroutines:goroutines", help: "Goroutines that exist."},
		{name: "go_memstats_heap_alloc_bytes", source: "/memory/classes/heap/objects:bytes", help: "Memory of objects on the heap."},
		{name: "go_memstats_sys_bytes", source: "/memory/classes/total:bytes", help: "Memory that Go has from the operating system."},
	} {
		sample := []runtimemetrics.Sample{{Name: m.source}}
		runtimemetrics.Read(sample)
		w.Begin(m.name, metrics.TypeGauge, m.help)
		w.Sample(float64(sample[0].Value.Uint64()))
	}
}

func unixSeconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// observeAll returns a function that calls all observers. It returns nil if there
// is none, since then nobody needs events.
func observeAll(observers []func(*http.Request, rekisteri.Event)) func(*http.Request, rekisteri.Event) {
	switch len(observers) {
	case 0:
		return nil
	case 1:
		return observers[0]
	}
	return func(req *http.Request, e rekisteri.Event) {
		for _, observe := range observers {
			observe(req, e)
		}
	}
}
