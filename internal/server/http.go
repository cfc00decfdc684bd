package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"
)

// A server answers requests until its context is done, and for the duration drain
// after that, so that load balancers notice /healthz and send requests elsewhere.
// Then it accepts no more connections. Running requests have the duration grace
// to end.
type server struct {
	handler      http.Handler
	tls          *tls.Config // nil: plain http
	log          *slog.Logger
	drain, grace time.Duration
	connState    func(net.Conn, http.ConnState) // nil: not called

	stopping atomic.Bool
	running  atomic.Int64 // requests
}

const (
	// linger is how long requests are still read after the listener is closed.
	// Some may be on their way, over new or idle connections.
	linger = 250 * time.Millisecond

	// bodyTimeout is how long the client may take to send a body that nobody
	// reads. The registry moves the deadline while it reads an upload.
	bodyTimeout = time.Second
)

// NewHTTPServer returns a server with the timeouts that all connections have.
func NewHTTPServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		// Of a response. The registry moves the deadline while a zip makes
		// progress.
		WriteTimeout: 2 * time.Minute,
	}
}

// serve answers the requests that arrive at ln until ctx is done, and then
// shuts down. It closes ln. It returns an error if requests were cut off.
func (s *server) serve(ctx context.Context, ln net.Listener) error {
	srv := NewHTTPServer(http.HandlerFunc(s.answer))
	srv.TLSConfig, srv.ConnState = s.tls, s.connState
	// The server's own log is about single clients: failed handshakes, malformed
	// frames. This package logs accept errors and panics itself.
	srv.ErrorLog = slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)
	ln = &listener{Listener: ln, log: s.log}
	failed := make(chan error, 1)
	go func() {
		if s.tls != nil {
			failed <- srv.ServeTLS(ln, "", "")
		} else {
			failed <- srv.Serve(ln)
		}
	}()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}

	s.log.Info("shutting down: /healthz fails, requests are still answered", "drain", s.drain)
	s.stopping.Store(true)
	select {
	case err := <-failed:
		return err
	case <-time.After(s.drain):
	}

	ln.Close()
	<-failed
	s.log.Info("accepting no more connections, waiting for running requests", "running", s.running.Load(), "grace", s.grace)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.grace)
	defer cancel()
	// Shutdown closes idle connections at once, and drops the request that it
	// finds on a new one.
	select {
	case <-grace.Done():
	case <-time.After(linger):
	}
	err := srv.Shutdown(grace)
	cut := s.running.Load()
	if err != nil {
		srv.Close()
	}
	if cut > 0 {
		return fmt.Errorf("after a grace of %v, %s cut off", s.grace, count(int(cut), "running request"))
	}
	s.log.Info("all requests have ended")
	return nil
}

// answer calls the handler. While the server is stopping, it tells clients not to
// use the connection again.
func (s *server) answer(w http.ResponseWriter, req *http.Request) {
	s.running.Add(1)
	defer func() {
		s.running.Add(-1)
		if v := recover(); v != nil {
			if v != http.ErrAbortHandler {
				s.log.Error("a bug: the handler panicked, and the client got no answer; report it with this stack",
					"method", req.Method, "path", req.URL.Path, "panic", v, "stack", string(debug.Stack()))
			}
			panic(http.ErrAbortHandler) // closes the connection
		}
	}()
	isUpload := req.Method == http.MethodPut
	if s.stopping.Load() || req.ContentLength != 0 && !isUpload {
		w.Header().Set("Connection", "close")
	}
	if req.ContentLength != 0 {
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout))
	}
	s.handler.ServeHTTP(w, req)
}

// A listener logs why it cannot accept connections. The server that uses it
// tries again, at least every second.
type listener struct {
	net.Listener
	log    *slog.Logger
	logged time.Time
}

// remindEvery is how often an error that persists is logged.
const remindEvery = time.Minute

// Accept implements [net.Listener].
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil && !errors.Is(err, net.ErrClosed) && (l.logged.IsZero() || time.Since(l.logged) >= remindEvery) {
		l.logged = time.Now()
		l.log.Error("cannot accept connections, so clients wait: if too many files are open, raise the limit (ulimit -n, LimitNOFILE=)", "error", err)
	}
	return conn, err
}
