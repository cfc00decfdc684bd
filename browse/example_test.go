package browse_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/browse"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

// This serves a registry, and pages beside it.
func ExampleNew() {
	backend := rekisteri.NewFSBackend(rekisteritest.Releases(), nil)
	reg := rekisteri.New(backend, nil)
	pages := browse.New(reg, &browse.Options{
		Host: "registry.example.com",
		Problems: func(req *http.Request, p rekisteri.Provider) ([]rekisteri.Problem, error) {
			return backend.Problems(req.Context(), p)
		},
	})
	mux := http.NewServeMux()
	mux.Handle("/v1/", reg)
	mux.Handle("/files/", reg)
	mux.Handle("/.well-known/", reg)
	mux.Handle("/", pages)

	req := httptest.NewRequest("GET", "/?q=acme-labs/", nil)
	req.Header.Set("Accept", "application/json")
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, req)
	fmt.Print(w.Body)
	// Output: {"providers":[{"namespace":"acme-labs","type":"foo","url":"providers/acme-labs/foo"}]}
}
