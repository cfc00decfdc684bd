package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A noted listener knows whose connections it has accepted, and when it was
// closed.
type noted struct {
	net.Listener
	accepted sync.Map // by the client's address
	closed   atomic.Int64
}

func listen(t *testing.T) *noted {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &noted{Listener: ln}
}

func (l *noted) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.accepted.Store(conn.RemoteAddr().String(), true)
	}
	return conn, err
}

func (l *noted) Close() error {
	l.closed.CompareAndSwap(0, time.Now().UnixNano())
	return l.Listener.Close()
}

// has reports whether a client's connection was accepted.
func (l *noted) has(addr string) bool {
	_, ok := l.accepted.Load(addr)
	return ok
}

// body is what the handlers of these tests answer with.
var body = strings.Repeat("whole", 2000)

// TestShutdownUnderLoad stops a server while clients ask for one thing after
// the other. Whoever has got a connection gets all answers.
func TestShutdownUnderLoad(t *testing.T) {
	cert, key := newCertificate(t, t.TempDir())
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		tls   bool
		drain time.Duration
		ask   func(t *testing.T, ln *noted, answers *atomic.Int64)
	}{
		{"new connections", false, 0, func(t *testing.T, ln *noted, answers *atomic.Int64) { askHTTP1(t, ln, false, answers) }},
		{"new connections and a drain", false, 200 * time.Millisecond, func(t *testing.T, ln *noted, answers *atomic.Int64) { askHTTP1(t, ln, false, answers) }},
		{"kept alive", false, 0, func(t *testing.T, ln *noted, answers *atomic.Int64) { askHTTP1(t, ln, true, answers) }},
		{"kept alive and a drain", false, 200 * time.Millisecond, func(t *testing.T, ln *noted, answers *atomic.Int64) { askHTTP1(t, ln, true, answers) }},
		{"HTTP/2", true, 0, askHTTP2},
		{"HTTP/2 and a drain", true, 200 * time.Millisecond, askHTTP2},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ln := listen(t)
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
			within(t, 20*time.Second, func() bool { return answers.Load() > 200 })
			before := answers.Load()
			cancel()
			if err := <-ended; err != nil {
				t.Errorf("serve: %v", err)
			}
			clients.Wait()
			if answers.Load() == before {
				t.Error("there was no load")
			}
			within(t, 5*time.Second, func() bool { // the server's goroutines see that theirs are closed
				srv.mu.Lock()
				defer srv.mu.Unlock()
				return len(srv.conns) == 0
			})
		})
	}
}

// askHTTP1 asks for one thing after the other until the server takes no more
// connections, by hand: an [http.Client] would ask again where it has lost an
// answer.
func askHTTP1(t *testing.T, ln *noted, keepAlive bool, answers *atomic.Int64) {
	for {
		conn, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			if ln.closed.Load() == 0 {
				t.Error(err)
			}
			return
		}
		for r, again := bufio.NewReader(conn), true; again; {
			asked := time.Now()
			got := ""
			_, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
			var resp *http.Response
			if err == nil {
				resp, err = http.ReadResponse(r, nil)
			}
			if err == nil {
				var b []byte
				b, err = io.ReadAll(resp.Body)
				got = string(b)
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

// askHTTP2 asks for one thing after the other until the server takes no more
// connections.
func askHTTP2(t *testing.T, ln *noted, answers *atomic.Int64) {
	var last atomic.Pointer[string] // the address of the last connection
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

// TestShutdownOwes has clients that have a connection send their requests, or
// the rest of them, when the listener is closed already.
func TestShutdownOwes(t *testing.T) {
	const request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
	for _, test := range []struct {
		name          string
		before, after string // what a client sends
	}{
		{"a new connection", "", request},
		{"half a request", request[:10], request[10:]},
		{"an idle connection", request, request},
		{"an idle connection and half a request", request + request[:10], request[10:]},
		{"a connection that nothing comes from", "", ""},
		{"an idle connection that nothing comes from", request, ""},
		{"half a request that never ends", request[:10], ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ln := listen(t)
			srv := &server{log: discard(), grace: time.Minute, handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				io.WriteString(w, body)
			})}
			ended := make(chan error, 1)
			go func() { ended <- srv.serve(ctx, ln) }()
			conn, err := net.Dial("tcp", ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			r := bufio.NewReader(conn)
			answered := func() (*http.Response, error) {
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					return nil, err
				}
				b, err := io.ReadAll(resp.Body)
				if err == nil && string(b) != body {
					err = fmt.Errorf("the answer is %q", b)
				}
				return resp, err
			}
			if _, err := io.WriteString(conn, test.before); err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(test.before, request) {
				if _, err := answered(); err != nil {
					t.Fatal(err)
				}
			}
			within(t, 5*time.Second, func() bool { return ln.has(conn.LocalAddr().String()) })
			cancel()
			for ln.closed.Load() == 0 {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(20 * time.Millisecond)
			if test.after != "" {
				if _, err := io.WriteString(conn, test.after); err != nil {
					t.Fatal(err)
				}
				if resp, err := answered(); err != nil || !resp.Close {
					t.Errorf("the answer was lost, or the connection kept: %v", err)
				}
			}
			select {
			case err := <-ended:
				if err != nil {
					t.Errorf("serve: %v", err)
				}
			case <-time.After(9 * time.Second): // before the server gives up on headers
				t.Error("the server waits for a client that asks for nothing")
			}
		})
	}
}

// TestShutdown stops a server under a download that ends before the grace
// does, and under one that does not.
func TestShutdown(t *testing.T) {
	for _, test := range []struct {
		name         string
		lasts, grace time.Duration
		want         string // of the error; empty: there is none
	}{
		{"in time", 300 * time.Millisecond, 10 * time.Second, ""},
		{"too long", 20 * time.Second, 300 * time.Millisecond, "after a grace of 300ms, requests were cut off: 1"},
		{"no grace", 20 * time.Second, 0, "after a grace of 0s, requests were cut off: 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ln := listen(t)
			var stderr buffer
			log := newLogger(&stderr)
			srv := &server{log: log, grace: test.grace, handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
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
			begun := time.Now()
			go func() { ended <- srv.serve(ctx, ln) }()
			resp, err := httpClient().Get("http://" + ln.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			if test.want == "" && (err != nil || len(b) != 2*len(body)) {
				t.Errorf("the download has %d bytes: %v", len(b), err)
			}
			if test.want != "" && err == nil {
				t.Error("the download was not cut off")
			}
			err = <-ended
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("serve: %v, want %q", err, test.want)
			}
			if conn, err := net.Dial("tcp", ln.Addr().String()); err == nil {
				conn.Close()
				t.Error("the server still listens")
			}
			phases := []string{"shutting down", "no connection is taken any more", "running=1"}
			if test.want == "" {
				phases = append(phases, "all requests have ended")
			}
			for _, phase := range phases {
				if !strings.Contains(stderr.String(), phase) {
					t.Errorf("the log does not say %q:\n%s", phase, stderr.String())
				}
			}
		})
	}
}

// TestDrain serves on after it was told to stop, while its health fails.
func TestDrain(t *testing.T) {
	s := start(t, "-drain", "2s")
	versions := s.url + "/v1/providers/hashicorp/random/versions"
	if code, _ := fetch(t, s.url+"/healthz"); code != 200 {
		t.Errorf("health: %d", code)
	}
	begun := time.Now()
	ended := make(chan error, 1)
	go func() { ended <- s.stop() }()
	within(t, time.Second, func() bool { return strings.Contains(s.stderr.String(), "shutting down") })
	for range 3 {
		if code, body := fetch(t, s.url+"/healthz"); code != 503 || !strings.Contains(body, `"shutting down"`) {
			t.Errorf("health: %d %s", code, body)
		}
		resp, err := httpClient().Get(versions)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 || !resp.Close {
			t.Errorf("%s, and the connection is closed: %t", resp.Status, resp.Close)
		}
	}
	err := <-ended
	if took := time.Since(begun); err != nil || took < 2*time.Second || took > 10*time.Second {
		t.Errorf("it ended after %v with %v", took, err)
	}
	if _, err := httpClient().Get(versions); err == nil {
		t.Error("the server still answers")
	}
}

// TestSignals sends the command a signal, and another one.
func TestSignals(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("a process cannot be sent a signal on Windows")
	}
	const child = "REKISTERI_TEST_SIGNALS"
	if os.Getenv(child) != "" {
		os.Args = []string{os.Args[0], "-addr", "127.0.0.1:0", "-drain", "1m"}
		signal.Reset()
		main()
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSignals$")
	cmd.Env = append(os.Environ(), child+"=1")
	var stderr buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	for _, said := range []string{"msg=listening", "shutting down"} {
		within(t, 10*time.Second, func() bool { return strings.Contains(stderr.String(), said) })
		if said == "shutting down" {
			time.Sleep(200 * time.Millisecond) // so that the second is no part of the first
		}
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
	}
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(fmt.Sprint(err), "terminated") {
			t.Errorf("the command ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		cmd.Process.Kill()
		t.Error("a second signal does not end the command")
	}
}

// TestUnsentBody answers a request whose body never comes, and lets go of its
// connection.
func TestUnsentBody(t *testing.T) {
	s := start(t)
	for _, request := range []string{
		"GET /.well-known/terraform.json HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
		"POST /v1/providers/demo/hello/versions HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n",
		"PUT /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
	} {
		conn, err := net.Dial("tcp", "127.0.0.1:"+s.port)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		io.WriteString(conn, request)
		if b, err := io.ReadAll(conn); err != nil || !strings.HasPrefix(string(b), "HTTP/1.1 ") {
			t.Errorf("%q: %q, %v", request, b, err)
		}
	}
}

// TestHugeHeaders refuses a megabyte of headers.
func TestHugeHeaders(t *testing.T) {
	s := start(t)
	conn, err := net.Dial("tcp", "127.0.0.1:"+s.port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	go io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nX: "+strings.Repeat("x", 1<<20))
	if line, err := bufio.NewReader(conn).ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 431 ") {
		t.Errorf("%q, %v", line, err)
	}
}
