package otel_test

import (
	"cmp"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/examples/otel"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

// TestRoute compares http.route in spans and metrics with the route of the
// registry, at the root and below a prefix.
func TestRoute(t *testing.T) {
	quiet := slog.New(slog.DiscardHandler)
	for _, prefix := range []string{"", "/tf"} {
		for _, test := range []struct {
			name, path, route string
			span              string // its route, if that is another one
		}{
			{name: "discovery", path: "/.well-known/terraform.json", route: "/.well-known/terraform.json"},
			{name: "versions", path: prefix + "/v1/providers/acme/foo/versions", route: "/v1/providers/{namespace}/{type}/versions"},
			{name: "no such provider", path: prefix + "/v1/providers/acme/none/versions", route: "/v1/providers/{namespace}/{type}/versions"},
			{name: "download", path: prefix + "/v1/providers/acme/foo/9.0.0/download/linux/amd64", route: "/v1/providers/{namespace}/{type}/{version}/download/{os}/{arch}"},
			{name: "file", path: prefix + "/files/acme/foo/9.0.0/terraform-provider-foo_9.0.0_SHA256SUMS", route: "/files/{namespace}/{type}/{version}/{name}"},
			{name: "another path", path: prefix + "/v1/other/acme", span: prefix + "/"}, // that of the mux
		} {
			spans, reader := tracetest.NewSpanRecorder(), metric.NewManualReader()
			reg := rekisteri.New(rekisteri.NewFSBackend(rekisteritest.Releases(), &rekisteri.FSOptions{Logger: quiet}), &rekisteri.Options{Logger: quiet, Observe: otel.Observe})
			mux := http.NewServeMux()
			otel.Mount(mux, prefix, reg,
				otelhttp.WithTracerProvider(trace.NewTracerProvider(trace.WithSpanProcessor(spans))),
				otelhttp.WithMeterProvider(metric.NewMeterProvider(metric.WithReader(reader))))
			mux.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", test.path, nil))

			ended := spans.Ended()
			if len(ended) != 1 {
				t.Fatalf("%s below %q: %d spans", test.name, prefix, len(ended))
			}
			if got := route(attribute.NewSet(ended[0].Attributes()...)); got != cmp.Or(test.span, test.route) {
				t.Errorf("%s below %q: the span has the route %q, want %q", test.name, prefix, got, cmp.Or(test.span, test.route))
			}
			if want := "GET " + test.route; test.route != "" && ended[0].Name() != want {
				t.Errorf("%s below %q: the span is called %q, want %q", test.name, prefix, ended[0].Name(), want)
			}
			if got := measured(t, reader); got != test.route {
				t.Errorf("%s below %q: the metric has the route %q, want %q", test.name, prefix, got, test.route)
			}
		}
	}
}

func route(attributes attribute.Set) string {
	value, _ := attributes.Value("http.route")
	return value.AsString()
}

// measured returns the route of the durations of requests.
func measured(t *testing.T, reader metric.Reader) string {
	var all metricdata.ResourceMetrics
	if err := reader.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			if h, ok := m.Data.(metricdata.Histogram[float64]); ok && m.Name == "http.server.request.duration" {
				return route(h.DataPoints[0].Attributes)
			}
		}
	}
	t.Fatal("there is no http.server.request.duration")
	return ""
}
