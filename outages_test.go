package rekisteri_test

import (
	"bytes"
	"log/slog"
	"math"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri"
)

// TestHeadersOfOthers keeps what is not the registry's, and nothing of an
// answer that is not sent.
func TestHeadersOfOthers(t *testing.T) {
	reg := newRegistry(t, newBackend(t, newTree(t, "1.0.0", "2.0.0", "3.0.0").mapFS()))
	req := httptest.NewRequest("GET", "/v1/providers/acme/hello/versions", nil)
	req.Header.Set("Accept-Encoding", "gzip")
	rec := httptest.NewRecorder()
	everyones := append(make([]string, 0, 2), "Origin") // as a middleware may have one for all requests
	rec.Header()["Vary"] = everyones
	reg.ServeHTTP(rec, req)
	if vary := strings.Join(rec.Header().Values("Vary"), ", "); vary != "Origin, Accept-Encoding" || everyones[:2][1] != "" {
		t.Errorf("Vary: %s; everyone's: %q", vary, everyones[:2])
	}
	req.Header.Set("If-Match", `"other"`)
	rec = httptest.NewRecorder()
	reg.ServeHTTP(rec, req)
	if rec.Code != 412 || rec.Header().Get("Content-Encoding") != "" || rec.Body.String() != `{"errors":["Precondition Failed"]}` {
		t.Errorf("%d %v %s", rec.Code, rec.Header(), rec.Body)
	}
}

// TestEncodedQuery keeps a link's signature out of the log where something on
// its way has encoded the question mark.
func TestEncodedQuery(t *testing.T) {
	var log bytes.Buffer
	reg := rekisteri.New(newBackend(t, newTree(t, "1.0.0").mapFS()), &rekisteri.Options{
		Logger:   slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		LinkKeys: [][32]byte{linkKey(1)},
	})
	get(reg, "GET", strings.Replace(linksOf(t, reg, download100)[0], "?", "%3F", 1))
	if s := log.String(); !strings.Contains(s, "status=403") || strings.Contains(s, "signature") {
		t.Errorf("the log says %s", s)
	}
}

// TestLongLinkTTL has links that last for ever, or as good as that.
func TestLongLinkTTL(t *testing.T) {
	reg := rekisteri.New(newBackend(t, newTree(t, "1.0.0").mapFS()), &rekisteri.Options{Logger: silent, LinkKeys: [][32]byte{linkKey(1)}, LinkTTL: math.MaxInt64})
	if got := get(reg, "GET", linksOf(t, reg, download100)[0]).StatusCode; got != 200 {
		t.Errorf("%d", got)
	}
}
