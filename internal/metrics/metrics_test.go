package metrics_test

import (
	"testing"
	"time"

	"github.com/rekisteri/rekisteri/internal/metrics"
)

func TestWriter(t *testing.T) {
	h := metrics.NewHistogram(time.Millisecond, time.Second)
	for _, d := range []time.Duration{0, time.Millisecond, 2 * time.Millisecond, time.Second, time.Minute} {
		h.Observe(d)
	}
	var w metrics.Writer
	w.Begin("a_total", metrics.Counter, "Counts a.")
	w.Sample(12345678901)
	w.Begin("b_seconds", metrics.HistogramType, `A \ and`+"\na new line.")
	w.Histogram(h, "route", "x")
	w.Begin("c", metrics.Gauge, "Is c.")
	w.Sample(0.5, "name", `a\b"c`+"\n\xff", "other", "")
	const want = `# HELP a_total Counts a.
# TYPE a_total counter
a_total 1.2345678901e+10
# HELP b_seconds A \\ and\na new line.
# TYPE b_seconds histogram
b_seconds_bucket{route="x",le="0.001"} 2
b_seconds_bucket{route="x",le="1"} 4
b_seconds_bucket{route="x",le="+Inf"} 5
b_seconds_sum{route="x"} 61.003
b_seconds_count{route="x"} 5
# HELP c Is c.
# TYPE c gauge
c{name="a\\b\"c\n` + "\uFFFD" + `",other=""} 0.5
`
	if got := string(w.Bytes()); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
