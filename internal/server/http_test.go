package server

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

// body is what the handlers of these tests answer with.
var body = strings.Repeat("whole", 2000)

const getRequest = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

func answerBody(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, body) }

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// A pipeListener accepts connections in memory, so that a server can be tested
// in a synctest bubble.
type pipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
	errs   []error // that Accept returns before it accepts connections
}

func newPipeListener() *pipeListener {
	ln := &pipeListener{conns: make(chan net.Conn), closed: make(chan struct{})}
	ln.close = sync.OnceFunc(func() { close(ln.closed) })
	return ln
}

func (ln *pipeListener) Accept() (net.Conn, error) {
	if len(ln.errs) > 0 {
		err := ln.errs[0]
		ln.errs = ln.errs[1:]
		return nil, err
	}
	select {
	case conn := <-ln.conns:
		return conn, nil
	case <-ln.closed:
		return nil, net.ErrClosed
	}
}

func (ln *pipeListener) Close() error {
	ln.close()
	return nil
}

func (ln *pipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

// A client is one end of a connection to a server.
type client struct {
	net.Conn
	r *bufio.Reader
}

func (ln *pipeListener) dial(t *testing.T) *client {
	t.Helper()
	ours, theirs := net.Pipe()
	select {
	case ln.conns <- theirs:
	case <-ln.closed:
		t.Fatal("the server does not accept connections")
	}
	t.Cleanup(func() { ours.Close() })
	return &client{ours, bufio.NewReader(ours)}
}

func (c *client) send(t *testing.T, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

// receive returns the next response and its body.
func (c *client) receive() (*http.Response, string, error) {
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return nil, "", err
	}
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

// TestShutdownAnswersLateRequests has clients send a request, or the rest of
// it, over an open connection when the listener is closed already.
func TestShutdownAnswersLateRequests(t *testing.T) {
	for _, test := range []struct {
		name          string
		before, after string        // what a client sends
		takes         time.Duration // the server to end, at most
	}{
		{name: "a new connection", after: getRequest, takes: time.Second},
		{name: "half a request", before: getRequest[:10], after: getRequest[10:], takes: time.Second},
		{name: "an idle connection", before: getRequest, after: getRequest, takes: time.Second},
		{name: "an idle connection and half a request", before: getRequest + getRequest[:10], after: getRequest[10:], takes: time.Second},
		{name: "an idle connection without a request", before: getRequest, takes: time.Second},
		{name: "a new connection without a request", takes: 7 * time.Second},
		{name: "half a request that never ends", before: getRequest[:10], takes: 7 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				ln := newPipeListener()
				srv := &server{log: discard(), grace: time.Minute, handler: http.HandlerFunc(answerBody)}
				ended := make(chan error, 1)
				go func() { ended <- srv.serve(ctx, ln) }()
				c := ln.dial(t)
				go io.WriteString(c, test.before)
				if strings.HasPrefix(test.before, getRequest) {
					if _, got, err := c.receive(); err != nil || got != body {
						t.Fatalf("the first answer: %d bytes, %v", len(got), err)
					}
				}
				synctest.Wait()
				stopped := time.Now()
				cancel()
				<-ln.closed
				time.Sleep(linger - time.Millisecond)
				if test.after != "" {
					go io.WriteString(c, test.after)
					resp, got, err := c.receive()
					if err != nil || got != body || !resp.Close {
						t.Errorf("the late answer: %d bytes, %v; the connection has to be closed", len(got), err)
					}
				}
				if err := <-ended; err != nil {
					t.Errorf("serve: %v", err)
				}
				if took := time.Since(stopped); took > test.takes {
					t.Errorf("the server ended after %v, want %v at most", took, test.takes)
				}
			})
		})
	}
}

// TestShutdownGrace stops a server during a download.
func TestShutdownGrace(t *testing.T) {
	for _, test := range []struct {
		name         string
		lasts, grace time.Duration
		err          string
		log          []string
	}{
		{name: "it ends in time", lasts: 9 * time.Second, grace: 10 * time.Second, log: []string{"shutting down", "running=1", "all requests have ended"}},
		{name: "it takes too long", lasts: 11 * time.Second, grace: 10 * time.Second, err: "after a grace of 10s, 1 running request cut off", log: []string{"shutting down", "running=1"}},
		{name: "no grace", lasts: time.Second, grace: 0, err: "after a grace of 0s, 1 running request cut off", log: []string{"shutting down", "running=1"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				ln := newPipeListener()
				var log servertest.Buffer
				srv := &server{log: newLogger(&log), grace: test.grace, handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
					w.Header().Set("Content-Length", fmt.Sprint(2*len(body)))
					io.WriteString(w, body)
					http.NewResponseController(w).Flush()
					cancel()
					select {
					case <-req.Context().Done():
					case <-time.After(test.lasts):
					}
					io.WriteString(w, body)
				})}
				ended := make(chan error, 1)
				go func() { ended <- srv.serve(ctx, ln) }()
				c := ln.dial(t)
				go io.WriteString(c, getRequest)
				_, got, err := c.receive()
				if test.err == "" && (err != nil || len(got) != 2*len(body)) {
					t.Errorf("the download has %d bytes: %v", len(got), err)
				}
				if test.err != "" && err == nil {
					t.Error("the download was not cut off")
				}
				if err := <-ended; fmt.Sprint(err) != test.err && (test.err != "" || err != nil) {
					t.Errorf("serve: %v, want %q", err, test.err)
				}
				for _, want := range test.log {
					if !strings.Contains(log.String(), want) {
						t.Errorf("the log does not have %q:\n%s", want, log.String())
					}
				}
			})
		})
	}
}

// TestDrain goes on answering after the server is told to stop.
func TestDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ln := newPipeListener()
		srv := &server{log: discard(), drain: 10 * time.Second, grace: time.Second, handler: http.HandlerFunc(answerBody)}
		ended := make(chan error, 1)
		go func() { ended <- srv.serve(ctx, ln) }()
		kept := ln.dial(t)
		kept.send(t, getRequest)
		if resp, _, err := kept.receive(); err != nil || resp.Close {
			t.Fatalf("before the stop: %v, %v", resp, err)
		}
		begun := time.Now()
		cancel()
		time.Sleep(9 * time.Second)
		for _, c := range []*client{kept, ln.dial(t)} {
			c.send(t, getRequest)
			if resp, got, err := c.receive(); err != nil || got != body || !resp.Close {
				t.Errorf("during the drain: %d bytes, %v; the connection has to be closed", len(got), err)
			}
		}
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
		if took := time.Since(begun); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("the server ended after %v", took)
		}
	})
}

// A countingListener knows whose connections it has accepted, and when it was
// closed.
type countingListener struct {
	net.Listener
	accepted sync.Map // by the client's address
	closed   atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Store(conn.RemoteAddr().String(), true)
	}
	return conn, err
}

func (l *countingListener) Close() error {
	l.closed.CompareAndSwap(0, time.Now().UnixNano())
	return l.Listener.Close()
}

// has reports whether a client's connection was accepted.
func (l *countingListener) has(addr string) bool {
	_, ok := l.accepted.Load(addr)
	return ok
}

// TestShutdownUnderLoad stops a server while clients send one request after the
// other over TCP. A client whose connection was accepted gets all answers.
func TestShutdownUnderLoad(t *testing.T) {
	cert, key := servertest.Certificate(t, t.TempDir(), time.Now().Add(time.Hour))
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	newConnections := func(t *testing.T, ln *countingListener, answers *atomic.Int64) { askHTTP1(t, ln, false, answers) }
	keptAlive := func(t *testing.T, ln *countingListener, answers *atomic.Int64) { askHTTP1(t, ln, true, answers) }
	for _, test := range []struct {
		name  string
		long  bool // not with -short
		tls   bool
		drain time.Duration
		ask   func(t *testing.T, ln *countingListener, answers *atomic.Int64)
	}{
		{name: "new connections", long: true, ask: newConnections},
		{name: "new connections and a drain", long: true, drain: 200 * time.Millisecond, ask: newConnections},
		{name: "kept alive", long: true, ask: keptAlive},
		{name: "kept alive and a drain", long: true, drain: 200 * time.Millisecond, ask: keptAlive},
		{name: "HTTP2", tls: true, ask: askHTTP2},
		{name: "HTTP2 and a drain", long: true, tls: true, drain: 200 * time.Millisecond, ask: askHTTP2},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.long && testing.Short() {
				t.Skip("it takes a second")
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			tcp, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			ln := &countingListener{Listener: tcp}
			var requests atomic.Int64
			srv := &server{log: discard(), drain: test.drain, grace: 20 * time.Second}
			srv.handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				time.Sleep(time.Duration(requests.Add(1)%7) * time.Millisecond)
				io.WriteString(w, body)
			})
			if test.tls {
				srv.tls = &tls.Config{Certificates: []tls.Certificate{pair}}
			}
			ended := make(chan error, 1)
			go func() { ended <- srv.serve(ctx, ln) }()
			var answers atomic.Int64
			var clients sync.WaitGroup
			for range 24 {
				clients.Go(func() { test.ask(t, ln, &answers) })
			}
			servertest.Within(t, 20*time.Second, func() bool { return answers.Load() > 200 })
			before := answers.Load()
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("serve: %v", err)
			}
			clients.Wait()
			if answers.Load() == before {
				t.Error("there was no load")
			}
		})
	}
}

// askHTTP1 sends one request after the other until the server accepts no more
// connections. It does so by hand: an [http.Client] would ask again if it has
// lost an answer.
func askHTTP1(t *testing.T, ln *countingListener, keepAlive bool, answers *atomic.Int64) {
	for {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			if ln.closed.Load() == 0 {
				t.Error(err)
			}
			return
		}
		for c, again := (&client{conn, bufio.NewReader(conn)}), true; again; {
			asked := time.Now()
			_, err := io.WriteString(c, getRequest)
			var resp *http.Response
			got := ""
			if err == nil {
				resp, got, err = c.receive()
			}
			if err != nil || got != body {
				closed := time.Unix(0, ln.closed.Load())
				late := ln.closed.Load() != 0 && asked.Sub(closed) > linger/2 // this client slept
				if ln.has(conn.LocalAddr().String()) && !late {
					t.Errorf("an answer was lost: %d bytes, %v", len(got), err)
				}
				conn.Close()
				return
			}
			answers.Add(1)
			again = keepAlive && !resp.Close
		}
		conn.Close()
	}
}

// askHTTP2 sends one request after the other until the server accepts no more
// connections.
func askHTTP2(t *testing.T, ln *countingListener, answers *atomic.Int64) {
	var last atomic.Pointer[string] // the local address of the last connection
	transport := &http.Transport{
		ForceAttemptHTTP2: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			none := ""
			last.Store(&none)
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				local := conn.LocalAddr().String()
				last.Store(&local)
			}
			return conn, err
		},
	}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	for {
		resp, err := client.Get("https://" + ln.Addr().String())
		var b []byte
		if err == nil {
			b, err = io.ReadAll(resp.Body)
			resp.Body.Close()
		}
		if err != nil || string(b) != body {
			if addr := last.Load(); ln.closed.Load() == 0 || ln.has(*addr) {
				t.Errorf("an answer was lost: %d bytes, %v", len(b), err)
			}
			return
		}
		if resp.ProtoMajor != 2 {
			t.Errorf("the answer is one of %s", resp.Proto)
		}
		answers.Add(1)
	}
}

// serveOne starts a server in a bubble, and returns its listener and a function
// that stops it.
func serveOne(t *testing.T, log *slog.Logger, ln *pipeListener, handler http.HandlerFunc) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	srv := &server{log: log, grace: time.Minute, handler: handler}
	ended := make(chan error, 1)
	go func() { ended <- srv.serve(ctx, ln) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("serve: %v", err)
		}
	}
}

// TestAcceptErrors has accepting fail for some time, which is logged once a
// minute.
func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log servertest.Buffer
		ln := newPipeListener()
		for range 100 { // net/http waits a second between them
			ln.errs = append(ln.errs, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE})
		}
		stop := serveOne(t, newLogger(&log), ln, answerBody)
		time.Sleep(2 * time.Minute)
		c := ln.dial(t)
		c.send(t, getRequest)
		if _, got, err := c.receive(); err != nil || got != body {
			t.Errorf("afterwards: %d bytes, %v", len(got), err)
		}
		stop()
		lines := 0
		for line := range strings.Lines(log.String()) {
			if strings.Contains(line, "level=ERROR") && strings.Contains(line, "cannot accept connections") && strings.Contains(line, "too many open files") {
				lines++
			}
		}
		if lines != 2 {
			t.Errorf("100 seconds without connections are logged %d times, want 2:\n%s", lines, log.String())
		}
	})
}

func TestPanics(t *testing.T) {
	for _, test := range []struct {
		name  string
		value any
		log   bool
	}{
		{name: "a bug", value: errors.New("a bug"), log: true},
		{name: "an aborted handler", value: http.ErrAbortHandler},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log servertest.Buffer
				ln := newPipeListener()
				stop := serveOne(t, newLogger(&log), ln, func(http.ResponseWriter, *http.Request) { panic(test.value) })
				c := ln.dial(t)
				c.send(t, strings.Replace(getRequest, "/", "/path?secret", 1))
				if _, _, err := c.receive(); err == nil {
					t.Error("there is an answer")
				}
				stop()
				logged := strings.Contains(log.String(), "level=ERROR")
				if logged && (!strings.Contains(log.String(), `path=/path panic="a bug"`) || !strings.Contains(log.String(), "http_test.go")) {
					t.Errorf("the log lacks the request or the stack:\n%s", log.String())
				}
				if logged != test.log || strings.Contains(log.String(), "secret") {
					t.Errorf("the log has:\n%s", log.String())
				}
			})
		})
	}
}

// TestClientGarbage sends what is neither HTTP nor TLS. The log has it at debug
// level only, so that port scanners do not fill it.
func TestClientGarbage(t *testing.T) {
	cert, key := servertest.Certificate(t, t.TempDir(), time.Now().Add(time.Hour))
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		tls   *tls.Config
		send  string
		debug string // in the log at debug level
	}{
		{name: "garbage", send: "garbage\r\n\r\n"},
		{name: "huge headers", send: "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 100<<10)},
		{name: "HTTP instead of TLS", tls: &tls.Config{Certificates: []tls.Certificate{pair}}, send: getRequest, debug: "TLS handshake error"},
		{name: "garbage instead of TLS", tls: &tls.Config{Certificates: []tls.Certificate{pair}}, send: "garbage\r\n\r\n", debug: "TLS handshake error"},
	} {
		for _, level := range []slog.Level{slog.LevelInfo, slog.LevelDebug} {
			t.Run(fmt.Sprint(test.name, " at level ", level), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var log servertest.Buffer
					ctx, cancel := context.WithCancel(t.Context())
					ln := newPipeListener()
					srv := &server{
						log:     slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level})),
						handler: http.HandlerFunc(answerBody), tls: test.tls, grace: time.Minute,
					}
					ended := make(chan error, 1)
					go func() { ended <- srv.serve(ctx, ln) }()
					c := ln.dial(t)
					go io.WriteString(c, test.send)
					io.ReadAll(c)
					synctest.Wait() // net/http closes a connection before it logs why
					if log.String() != "" && level != slog.LevelDebug || !strings.Contains(log.String(), test.debug) && level == slog.LevelDebug {
						t.Errorf("the log has %q, want %q at debug level", log.String(), test.debug)
					}
					c.Close()
					cancel()
					if err := <-ended; err != nil {
						t.Errorf("serve: %v", err)
					}
				})
			})
		}
	}
}

// TestUnsentBody answers a request whose body never comes, and closes its
// connection.
func TestUnsentBody(t *testing.T) {
	for name, request := range map[string]string{
		"GET with a length":  "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
		"POST with a length": "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
		"PUT in chunks":      "PUT / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newPipeListener()
				stop := serveOne(t, discard(), ln, answerBody)
				c := ln.dial(t)
				begun := time.Now()
				c.send(t, request)
				if b, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 200 ") {
					t.Errorf("%d bytes, %v", len(b), err)
				}
				if took := time.Since(begun); took > 3*time.Second {
					t.Errorf("the connection was closed after %v", took)
				}
				stop()
			})
		})
	}
}

// TestHeaderLimits refuses headers that are too large or take too long.
func TestHeaderLimits(t *testing.T) {
	for _, test := range []struct {
		name, headers, want string
	}{
		{name: "a megabyte", headers: "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 1<<20), want: "HTTP/1.1 431 "},
		{name: "no end", headers: "GET / HTTP/1.1\r\nHost: x\r\n", want: ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newPipeListener()
				stop := serveOne(t, discard(), ln, answerBody)
				c := ln.dial(t)
				begun := time.Now()
				go io.WriteString(c, test.headers)
				line, _ := c.r.ReadString('\n')
				if !strings.HasPrefix(line, test.want) || time.Since(begun) > 10*time.Second {
					t.Errorf("%q after %v, want %q", line, time.Since(begun), test.want)
				}
				c.Close()
				stop()
			})
		})
	}
}
