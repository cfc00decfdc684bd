// Package otel shows how to trace and measure a registry with OpenTelemetry.
package otel

import (
	"net/http"
	"strings"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/rekisteri/rekisteri"
)

// Mount adds a registry to a mux, below a prefix such as "/tf" or at the root if
// it is empty. Metrics and the names of spans have the route of a request, such as
// "/v1/providers/{namespace}/{type}/versions".
//
// The registry sets the route in the request that it gets. [http.StripPrefix]
// passes a copy of the request on, so otelhttp goes inside it.
func Mount(mux *http.ServeMux, prefix string, reg *rekisteri.Registry, opts ...otelhttp.Option) {
	mux.Handle(prefix+"/", http.StripPrefix(prefix, otelhttp.NewHandler(reg, "registry", opts...)))
	if prefix != "" {
		mux.Handle("/.well-known/terraform.json", otelhttp.NewHandler(reg.Discovery(prefix), "registry", opts...))
	}
}

// Observe sets the route of a span. It is the [rekisteri.Options.Observe] of the
// registry. otelhttp itself sets that attribute earlier, when the registry does not yet
// have the request.
func Observe(req *http.Request, _ rekisteri.Event) {
	if _, route, ok := strings.Cut(req.Pattern, " "); ok {
		trace.SpanFromContext(req.Context()).SetAttributes(attribute.String("http.route", route))
	}
}
