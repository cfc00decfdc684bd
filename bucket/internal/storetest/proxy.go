package storetest

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Proxy is between a store and its clients. It counts requests, and can delay
// and refuse them.
type Proxy struct {
	Addr string

	// Close stops the proxy, so that the store is gone for its clients.
	Close func()

	forward *httputil.ReverseProxy

	mu    sync.Mutex
	seen  []Request
	delay time.Duration
	hook  func(http.ResponseWriter, *http.Request) bool
}

// NewProxy starts a proxy for a server at an address. It runs until the test
// ends.
func NewProxy(tb testing.TB, addr string) *Proxy {
	p := new(Proxy)
	p.forward = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: addr})
			r.Out.Host = r.In.Host // which is signed
		},
		Transport:    &http.Transport{MaxIdleConnsPerHost: 256},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		p.mu.Lock()
		p.seen = append(p.seen, newRequest(req))
		delay, hook := p.delay, p.hook
		p.mu.Unlock()
		time.Sleep(delay)
		if hook == nil || !hook(w, req) {
			p.Forward(w, req)
		}
	}))
	tb.Cleanup(srv.Close)
	p.Close = func() {
		srv.CloseClientConnections()
		srv.Close()
	}
	p.Addr = srv.Listener.Addr().String()
	return p
}

// Forward passes a request on.
func (p *Proxy) Forward(w http.ResponseWriter, req *http.Request) { p.forward.ServeHTTP(w, req) }

// A Request is what a request to an S3 server asks for.
type Request struct {
	Kind string // LIST, COPY, or the method
	Name string // the prefix, or the key
}

func newRequest(req *http.Request) Request {
	_, key, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	switch query := req.URL.Query(); {
	case req.Method == http.MethodGet && query.Has("list-type"):
		return Request{"LIST", query.Get("prefix")}
	case req.Method == http.MethodPut && req.Header.Get("X-Amz-Copy-Source") != "":
		return Request{"COPY", key}
	}
	return Request{req.Method, key}
}

// Delay has the proxy wait before it passes a request on.
func (p *Proxy) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Hook has the proxy call a function before it passes a request on, and not pass
// it on if that returns true.
func (p *Proxy) Hook(hook func(http.ResponseWriter, *http.Request) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.hook = hook
}

// Requests returns the requests since the last call, in their order.
func (p *Proxy) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	seen := p.seen
	p.seen = nil
	return seen
}

// Count returns the number of requests of each kind, such as "GET 3, LIST 1".
func Count(requests []Request) string {
	counts := make(map[string]int)
	for _, r := range requests {
		counts[r.Kind]++
	}
	var kinds []string
	for _, k := range slices.Sorted(maps.Keys(counts)) {
		kinds = append(kinds, fmt.Sprint(k, " ", counts[k]))
	}
	return strings.Join(kinds, ", ")
}
