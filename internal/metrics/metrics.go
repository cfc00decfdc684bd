// Package metrics writes metrics in the text format of Prometheus, version 0.0.4.
package metrics

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// ContentType is the content type of the format.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// The types of a metric.
const (
	TypeCounter   = "counter"
	TypeGauge     = "gauge"
	TypeHistogram = "histogram"
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

// A Histogram says how many durations were observed, by buckets.
type Histogram struct {
	Bounds []time.Duration // the upper bounds of the buckets, in ascending order
	Counts []int64         // of each bucket, and of what is beyond the last one
	Sum    time.Duration
}

// Histogram adds the samples of a histogram to the metric that began last.
func (w *Writer) Histogram(h Histogram, labels ...string) {
	var n int64
	for i, count := range h.Counts {
		n += count
		bound := "+Inf"
		if i < len(h.Bounds) {
			bound = number(h.Bounds[i].Seconds())
		}
		w.sample("_bucket", float64(n), append(slices.Clip(labels), "le", bound))
	}
	w.sample("_sum", h.Sum.Seconds(), labels)
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
