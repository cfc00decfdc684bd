package loadtest_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri/internal/loadtest"
)

func TestLoad(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path != "/a" && req.URL.Path != "/b" {
			http.NotFound(w, req)
			return
		}
		w.Header().Set("Content-Length", "10000")
		w.Write(make([]byte, 10000))
	}))
	defer srv.Close()
	s := loadtest.Dial(t, srv.Listener.Addr().String(), 4)
	if n, took := s.Load(t, 20*time.Millisecond, loadtest.Request{Status: "200", Paths: []string{"/a", "/b"}}); n < 2 || took < 20*time.Millisecond {
		t.Errorf("%v answers in %v", n, took)
	}
	s.Load(t, time.Millisecond, loadtest.Request{Status: "404", Paths: []string{"/c"}})
	failing := &countingTB{TB: t}
	loadtest.Dial(t, srv.Listener.Addr().String(), 1).Load(failing, time.Millisecond, loadtest.Request{Status: "200", Paths: []string{"/c"}})
	if failing.errors != 1 {
		t.Errorf("an answer with another status gives %d errors, want 1", failing.errors)
	}
}

// A countingTB counts errors, and does not fail.
type countingTB struct {
	testing.TB
	errors int
}

func (c *countingTB) Errorf(string, ...any) { c.errors++ }

func TestMedian(t *testing.T) {
	for _, test := range []struct {
		all  []float64
		want float64
	}{
		{all: []float64{1}, want: 1},
		{all: []float64{3, 1, 2}, want: 2},
		{all: []float64{1, 2, 3, 100}, want: 3},
	} {
		if got := loadtest.Median(test.all); got != test.want {
			t.Errorf("Median(%v) = %v, want %v", test.all, got, test.want)
		}
	}
}

func TestRatio(t *testing.T) {
	s, floor := &loadtest.Server{Rates: []float64{9, 10, 30}}, &loadtest.Server{Rates: []float64{10, 20, 30}}
	if got := loadtest.Ratio(s, floor); got != 0.9 {
		t.Errorf("Ratio = %v, want 0.9", got)
	}
}
