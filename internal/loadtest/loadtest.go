// Package loadtest measures HTTP servers on this machine. It is for benchmarks:
// it works as little as it can, so that it is the servers that are compared.
package loadtest

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// A Server is an HTTP server that is measured.
type Server struct {
	// CPU returns the CPU time in nanoseconds that the server has used. Nil is
	// not measured.
	CPU func() float64

	// Rates are the requests per second in each round, and CPUs are the
	// nanoseconds of CPU time per request.
	Rates, CPUs []float64

	conns []*bufio.ReadWriter // that stay open
}

// Dial opens connections to a server. They are closed when the benchmark ends.
func Dial(tb testing.TB, addr string, conns int) *Server {
	tb.Helper()
	s := new(Server)
	for range conns {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(func() { conn.Close() })
		s.conns = append(s.conns, bufio.NewReadWriter(bufio.NewReaderSize(conn, 64<<10), bufio.NewWriter(conn)))
	}
	return s
}

// A Request is a kind of request.
type Request struct {
	Status string   // that is wanted, such as "200"
	Paths  []string // one of which is asked for
}

// Load sends requests on all connections for a time. It returns the number of
// answers, which is at least one, and the time that they took. It fails the
// benchmark if an answer has another status.
func (s *Server) Load(tb testing.TB, length time.Duration, r Request) (answers float64, took time.Duration) {
	tb.Helper()
	counts := make([]int, len(s.conns))
	begun := time.Now()
	end := begun.Add(length)
	var group sync.WaitGroup
	for i, conn := range s.conns {
		group.Go(func() {
			for time.Now().Before(end) {
				path := r.Paths[rand.IntN(len(r.Paths))]
				if err := get(conn, path, r.Status); err != nil {
					tb.Errorf("%s: %v", path, err)
					return
				}
				counts[i]++
			}
		})
	}
	group.Wait()
	took = time.Since(begun)
	n := 0
	for _, count := range counts {
		n += count
	}
	return float64(max(n, 1)), took
}

// get asks for a path, and wants a status.
func get(conn *bufio.ReadWriter, path, status string) error {
	conn.WriteString("GET ")
	conn.WriteString(path)
	conn.WriteString(" HTTP/1.1\r\nHost: registry.test\r\nAccept-Encoding: gzip\r\n\r\n")
	if err := conn.Flush(); err != nil {
		return err
	}
	return skipResponse(conn.Reader, status)
}

// skipResponse reads a response, which must have a Content-Length, and wants a
// status.
func skipResponse(in *bufio.Reader, status string) error {
	length := 0
	for first := true; ; first = false {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 "+status)) {
			return fmt.Errorf("%s", line)
		}
		if len(line) == 2 {
			_, err := in.Discard(length)
			return err
		}
		if rest, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(rest))); err != nil {
				return err
			}
		}
	}
}

// Compare loads servers with the same requests, in rounds in each of which it
// loads each server once, in random order. The rounds are short and many, so
// that whatever else the machine does affects all servers alike. The results
// are in the servers' Rates and CPUs.
func Compare(tb testing.TB, r Request, servers ...*Server) {
	tb.Helper()
	const length, atLeast, enough = 20 * time.Millisecond, 9, 10 * time.Second
	for _, s := range servers {
		s.Load(tb, length, r) // the server caches what it needs
		s.Rates, s.CPUs = nil, nil
	}
	for begun, rounds := time.Now(), 0; rounds < atLeast || time.Since(begun) < enough; rounds++ {
		for _, i := range rand.Perm(len(servers)) {
			s := servers[i]
			var before float64
			if s.CPU != nil {
				before = s.CPU()
			}
			n, took := s.Load(tb, length, r)
			if s.CPU != nil {
				s.CPUs = append(s.CPUs, (s.CPU()-before)/n)
			}
			s.Rates = append(s.Rates, n/took.Seconds())
		}
	}
}

// Ratio returns the median of the ratios of the rates of two servers in the same
// round.
func Ratio(s, floor *Server) float64 {
	all := make([]float64, len(s.Rates))
	for i := range all {
		all[i] = s.Rates[i] / floor.Rates[i]
	}
	return Median(all)
}

// Median returns the median of numbers, of which there has to be one.
func Median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}
