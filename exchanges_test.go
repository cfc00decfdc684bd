package rekisteri_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/pgptest"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata/exchanges")

// TestExchanges replays the exchanges in testdata/exchanges. Lines with ">" are
// sent, lines with "<" are the answer. "> @name" sends the file of that name, see
// exchangeBodies.
func TestExchanges(t *testing.T) {
	files, err := filepath.Glob("testdata/exchanges/*.http")
	if err != nil || len(files) == 0 {
		t.Fatalf("no exchanges: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".http"), func(t *testing.T) {
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var got string
			run := func(t *testing.T) { got = replay(t, exchangeHandler(t, filepath.Base(file)), string(want)) }
			if filepath.Base(file) == "publish.http" { // signatures are of our time
				run(t)
			} else {
				synctest.Test(t, run) // links have the same time at each run
			}
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o666); err != nil {
					t.Fatal(err)
				}
			} else if got != string(want) {
				t.Errorf("answers have changed; go test -run Exchanges -update rewrites them:\n%s", firstDifference(got, string(want)))
			}
		})
	}
}

// exchangeHandler returns the handler for a file of exchanges.
func exchangeHandler(t *testing.T, file string) http.Handler {
	backend := rekisteri.NewFSBackend(sampleTree(), &rekisteri.FSOptions{Logger: quiet(t)})
	switch file {
	case "private.http": // alice may read demo
		return rekisteri.New(backend, &rekisteri.Options{Logger: quiet(t), LinkKeys: [][32]byte{linkKey(1), linkKey(2)},
			Authorize: func(req *http.Request, p rekisteri.Provider) error {
				switch {
				case req.Header.Get("Authorization") != "Bearer alice":
					return rekisteri.ErrUnauthenticated
				case p.Namespace != "demo":
					return fs.ErrPermission
				}
				return nil
			}})
	case "subpath.http":
		mux := http.NewServeMux()
		reg := newRegistry(t, backend)
		mux.Handle("/tf/", http.StripPrefix("/tf", reg))
		mux.Handle("/.well-known/terraform.json", reg.Discovery("/tf"))
		return mux
	case "absolute.http":
		return rekisteri.New(backend, &rekisteri.Options{Logger: quiet(t), ExternalURL: "https://registry.test/tf/",
			Services: map[string]any{"modules.v1": "https://modules.test/v1/"}})
	case "failing.http":
		return newRegistry(t, &fake{err: errors.New("the disk is on fire")})
	case "hanging.http":
		return newRegistry(t, &fake{err: context.DeadlineExceeded})
	case "odd.http":
		return newRegistry(t, oddBackend())
	case "publish.http":
		expired := pgptest.NewKey("expired")
		expired.Expires = expired.Created.AddDate(1, 0, 0)
		tr := keyTree()
		tr["acme/expired.asc"] = expired.Armor()
		return newPublishing(t, tr).reg
	}
	return newRegistry(t, backend)
}

// exchangeBodies returns the bodies that exchanges send: the files of a release,
// and bad ones.
func exchangeBodies(t *testing.T) map[string]string {
	bodies := releaseOf(t, "1.0.0", "first")
	expired := pgptest.NewKey("expired")
	bodies["unknown.sig"] = pgptest.NewKey("unknown").Sign(bodies[upSums], time.Time{})
	bodies["expired.sig"] = expired.Sign(bodies[upSums], time.Time{})
	bodies["other.sig"] = testKey().Sign("something else", time.Time{})
	bodies["again.sig"] = testKey().Sign(bodies[upSums], time.Date(2025, 1, 1, 0, 0, 0, 0, time.UTC))
	bodies["other.zip"] = zipOf(t, "terraform-provider-hello_v1.0.0", "another build")
	bodies["half.zip"] = bodies[upZip][:100]
	return bodies
}

// replay returns the exchanges in text with the answers of h.
func replay(t *testing.T, h http.Handler, text string) string {
	var out, request strings.Builder
	content, bodies := "", exchangeBodies(t)
	flush := func() {
		if request.Len() == 0 {
			return
		}
		req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request.String() + "\r\n")))
		if err != nil {
			t.Fatalf("%v in the request\n%s", err, request.String())
		}
		request.Reset()
		if content != "" {
			req.Body, req.ContentLength = io.NopCloser(strings.NewReader(bodies[content])), int64(len(bodies[content]))
			content = ""
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, req)
		resp := rec.Result()
		fmt.Fprintf(&out, "< %s\n", resp.Status)
		for _, key := range slices.Sorted(maps.Keys(resp.Header)) {
			fmt.Fprintf(&out, "< %s: %s\n", key, strings.Join(resp.Header[key], ", "))
		}
		if b := strings.TrimSuffix(body(t, resp), "\n"); b != "" {
			fmt.Fprintf(&out, "<\n< %s\n", strings.ReplaceAll(b, "\n", "\n< "))
		}
	}
	for line := range strings.Lines(text) {
		switch {
		case strings.HasPrefix(line, "> @"):
			content = strings.TrimSpace(line[3:])
		case strings.HasPrefix(line, "> "):
			request.WriteString(strings.TrimSpace(line[2:]))
			if !strings.Contains(request.String(), "\r\n") {
				request.WriteString(" HTTP/1.1\r\nHost: registry.test")
			}
			request.WriteString("\r\n")
		case strings.HasPrefix(line, "<"):
			continue
		default:
			flush()
		}
		out.WriteString(line)
	}
	flush()
	return out.String()
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d: got\n%s\nwant\n%s", i+1, g[i], w[i])
		}
	}
	return fmt.Sprintf("got %d lines, want %d", len(g), len(w))
}
