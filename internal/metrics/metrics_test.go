package metrics_test

import (
	"testing"
	"time"

	"github.com/rekisteri/rekisteri/internal/metrics"
)

func TestWriter(t *testing.T) {
	h := metrics.Histogram{Bounds: []time.Duration{time.Millisecond, time.Second}, Counts: []int64{2, 2, 1}, Sum: 61003 * time.Millisecond}
	var w metrics.Writer
	w.Begin("a_total", metrics.TypeCounter, "Counts a.")
	w.Sample(12345678901)
	w.Begin("b_seconds", metrics.TypeHistogram, `A \ and`+"\na new line.")
	w.Histogram(h, "route", "x")
	w.Begin("c", metrics.TypeGauge, "Is c.")
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
