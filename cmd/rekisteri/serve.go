package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// A server answers requests until it is told to stop, and loses none of them
// then: for the time of drain it takes new connections as before, so that who
// balances load learns from /healthz to go elsewhere. Then it takes no more,
// and the requests that run have the time of grace to end.
//
// [http.Server.Shutdown] alone would drop a request that it is just reading,
// and those on their way over a connection that is kept alive. It comes last,
// when no answer is owed.
type server struct {
	handler      http.Handler
	tls          *tls.Config // nil: plain http
	log          *slog.Logger
	drain, grace time.Duration

	stopping atomic.Bool
	running  atomic.Int64 // requests

	mu    sync.Mutex
	conns map[net.Conn]connState // that are open
}

// A connState is what a connection does, and since when.
type connState struct {
	state http.ConnState
	since time.Time
}

const (
	linger      = 250 * time.Millisecond // a request may be on its way over an idle connection for so long
	helloFor    = 5 * time.Second        // a new connection that has sent no request by then owes one no more
	settleEvery = 10 * time.Millisecond
	bodyFor     = time.Second // net/http reads what is left of a body for so long
)

// serve answers the requests that come to ln until ctx is done, and shuts down
// then. It closes ln. It returns an error if requests were cut off.
func (s *server) serve(ctx context.Context, ln net.Listener) error {
	s.conns = make(map[net.Conn]connState)
	srv := &http.Server{
		Handler:           http.HandlerFunc(s.answer),
		TLSConfig:         s.tls,
		ConnState:         s.track,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
		// Of an answer; the registry puts it off while a zip makes progress.
		WriteTimeout: 2 * time.Minute,
	}
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

	s.log.Info("shutting down: /healthz fails, and requests are still answered", "drain", s.drain)
	s.stopping.Store(true)
	select {
	case err := <-failed:
		return err
	case <-time.After(s.drain):
	}

	ln.Close()
	<-failed // then all that was accepted is in s.conns
	s.log.Info("no connection is taken any more, and running requests may end", "running", s.running.Load(), "grace", s.grace)
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.grace)
	defer cancel()
	s.settle(grace)
	err := srv.Shutdown(grace)
	cut := s.running.Load()
	if err != nil {
		srv.Close()
	}
	if cut > 0 {
		return fmt.Errorf("after a grace of %v, requests were cut off: %d", s.grace, cut)
	}
	s.log.Info("all requests have ended")
	return nil
}

// answer has the handler answer a request. Clients that hear so while the
// server is stopping don't use the connection again.
func (s *server) answer(w http.ResponseWriter, req *http.Request) {
	s.running.Add(1)
	defer s.running.Add(-1)
	if s.stopping.Load() || req.ContentLength != 0 {
		w.Header().Set("Connection", "close")
	}
	if req.ContentLength != 0 { // a body, which nobody reads, and which may never come
		http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyFor))
	}
	s.handler.ServeHTTP(w, req)
}

// track notes what a connection does. It is the ConnState of the http.Server.
func (s *server) track(conn net.Conn, state http.ConnState) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if state == http.StateClosed || state == http.StateHijacked {
		delete(s.conns, conn)
		return
	}
	s.conns[conn] = connState{state, time.Now()}
}

// settle waits until no answer is owed, or ctx is done.
func (s *server) settle(ctx context.Context) {
	poll := time.NewTicker(settleEvery)
	defer poll.Stop()
	for closed := time.Now(); s.owes(closed); {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		}
	}
}

// owes reports whether an answer may be owed to someone, when the listener was
// closed at a time.
func (s *server) owes(closed time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		switch {
		case c.state == http.StateActive,
			c.state == http.StateNew && time.Since(c.since) < helloFor,
			c.state == http.StateIdle && min(time.Since(c.since), time.Since(closed)) < linger:
			return true
		}
	}
	return false
}
