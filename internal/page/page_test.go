package page_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri/internal/page"
)

func TestBegin(t *testing.T) {
	long := strings.Repeat("a long body ", 100)
	for _, test := range []struct {
		name        string
		body        string
		request     http.Header
		vary        string // that was set before
		zipped      bool
		conditional bool
		wantVary    string
	}{
		{name: "a client without gzip", body: long, wantVary: "Accept-Encoding"},
		{name: "gzip", body: long, request: http.Header{"Accept-Encoding": {"gzip"}}, zipped: true, wantVary: "Accept-Encoding"},
		{name: "gzip among others", body: long, request: http.Header{"Accept-Encoding": {"br, GZIP;q=0.5"}}, zipped: true, wantVary: "Accept-Encoding"},
		{name: "gzip refused", body: long, request: http.Header{"Accept-Encoding": {"gzip;q=0"}}, wantVary: "Accept-Encoding"},
		{name: "a short body", body: "x", request: http.Header{"Accept-Encoding": {"gzip"}}},
		{name: "a range", body: long, request: http.Header{"Accept-Encoding": {"gzip"}, "Range": {"bytes=0-1"}}, conditional: true, wantVary: "Accept-Encoding"},
		{name: "a condition", body: long, request: http.Header{"If-None-Match": {`"x"`}}, conditional: true, wantVary: "Accept-Encoding"},
		{name: "another Vary", body: long, vary: "Cookie", wantVary: "Cookie, Accept-Encoding"},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := page.New([]byte(test.body))
			new(page.Compressor).Compress(p)
			h := http.Header{}
			if test.vary != "" {
				h.Set("Vary", test.vary)
			}
			req := httptest.NewRequest("GET", "/", nil)
			req.Header = test.request
			body, conditional := p.Begin(h, req, []string{"text/plain"}, []string{"no-cache"})
			if zipped := h.Get("Content-Encoding") == "gzip"; zipped != test.zipped || conditional != test.conditional {
				t.Errorf("zipped %t, conditional %t", zipped, conditional)
			}
			if test.zipped {
				r, err := gzip.NewReader(bytes.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				if body, err = io.ReadAll(r); err != nil {
					t.Fatal(err)
				}
			}
			if string(body) != test.body || h.Get("Content-Type") != "text/plain" || h.Get("Cache-Control") != "no-cache" {
				t.Errorf("%v\n%s", h, body)
			}
			if vary := strings.Join(h["Vary"], ", "); vary != test.wantVary {
				t.Errorf("Vary is %q, want %q", vary, test.wantVary)
			}
		})
	}
}
