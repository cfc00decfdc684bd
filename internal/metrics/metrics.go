// Package metrics writes metrics in the text format of Prometheus, version 0.0.4.
package metrics

import (
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// ContentType is the content type of the format.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// The types of a metric.
const (
	Counter       = "counter"
	Gauge         = "gauge"
	HistogramType = "histogram"
)

// A Writer collects metrics as text. Its zero value is empty.
type Writer struct {
	text []byte
	name string // of the metric that began last
}

// Bytes returns the text.
func (w *Writer) Bytes() []byte { return w.text }

// Begin begins a metric. Its samples follow.
func (w *Writer) Begin(name, kind, help string) {
	w.name = name
	help = strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(help)
	w.text = append(w.text, "# HELP "+name+" "+help+"\n# TYPE "+name+" "+kind+"\n"...)
}

// Sample adds a sample of the metric that began last. The labels are names and
// values in turn.
func (w *Writer) Sample(value float64, labels ...string) { w.sample("", value, labels) }

// Histogram adds the samples of a histogram to the metric that began last.
func (w *Writer) Histogram(h *Histogram, labels ...string) {
	var n uint64
	for i := range h.counts {
		n += h.counts[i].Load()
		bound := "+Inf"
		if i < len(h.bounds) {
			bound = number(h.bounds[i].Seconds())
		}
		w.sample("_bucket", float64(n), append(slices.Clip(labels), "le", bound))
	}
	w.sample("_sum", time.Duration(h.sum.Load()).Seconds(), labels)
	w.sample("_count", float64(n), labels)
}

func (w *Writer) sample(suffix string, value float64, labels []string) {
	w.text = append(w.text, w.name+suffix...)
	if len(labels) > 0 {
		escape := strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`)
		var pairs []string
		for pair := range slices.Chunk(labels, 2) {
			pairs = append(pairs, pair[0]+`="`+escape.Replace(strings.ToValidUTF8(pair[1], "\uFFFD"))+`"`)
		}
		w.text = append(w.text, "{"+strings.Join(pairs, ",")+"}"...)
	}
	w.text = append(w.text, " "+number(value)+"\n"...)
}

func number(f float64) string { return strconv.FormatFloat(f, 'g', -1, 64) }

// A Histogram counts durations. It is safe for concurrent use.
type Histogram struct {
	bounds []time.Duration
	counts []atomic.Uint64 // of the durations up to each bound, and of the others
	sum    atomic.Int64
}

// NewHistogram returns a Histogram with the upper bounds of its buckets, in
// ascending order.
func NewHistogram(bounds ...time.Duration) *Histogram {
	return &Histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1)}
}

// Observe counts a duration.
func (h *Histogram) Observe(d time.Duration) {
	i := 0
	for i < len(h.bounds) && d > h.bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}
