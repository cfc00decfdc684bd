package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri/internal/server/servertest"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

// TestAudit uploads a release, and a file that is not in it. The log and the
// metrics say what became of them. The log says who it was, without the token.
func TestAudit(t *testing.T) {
	t.Parallel()
	dir, tokens := t.TempDir(), filepath.Join(t.TempDir(), "tokens")
	key, err := fs.ReadFile(rekisteritest.Releases(), "acme/acme.asc")
	if err != nil {
		t.Fatal(err)
	}
	servertest.WriteFile(t, filepath.Join(dir, "acme", "acme.asc"), string(key))
	servertest.WriteFile(t, tokens, fmt.Sprintf("%x acme:publish # the CI\n", sha256.Sum256([]byte(publishToken))))
	s := start(t, "-dir", dir, "-tokens", tokens, "-access-log", "-metrics-addr", "127.0.0.1:0")
	put := func(name string, content []byte) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "PUT", s.URL+"/files/acme/foo/9.0.0/"+name, bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+publishToken)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
	}
	const release = "acme/foo/9.0.0"
	entries, err := fs.ReadDir(rekisteritest.Releases(), release)
	if err != nil {
		t.Fatal(err)
	}
	size := 0
	for _, entry := range entries {
		content, err := fs.ReadFile(rekisteritest.Releases(), release+"/"+entry.Name())
		if err != nil {
			t.Fatal(err)
		}
		put(entry.Name(), content)
		size += len(content)
	}
	put("other.zip", nil)

	const who = ` remote=127\.0\.0\.1:\d+ by="the CI"`
	for _, want := range []string{
		`msg="a release was published" provider=acme/foo version=9\.0\.0` + who + "\n",
		`msg=request method=PUT route=upload .* status=201 .*` + who + "\n",
		`msg=request method=PUT route=upload .* status=422 .*` + who + ` reason=".*other\.zip`,
	} {
		servertest.Within(t, 5*time.Second, func() bool { return regexp.MustCompile(want).MatchString(s.Stderr.String()) })
	}
	if strings.Contains(s.Stderr.String(), publishToken) {
		t.Error("the token is in the log")
	}
	url := regexp.MustCompile(`msg="serving metrics" url=(\S+)`).FindStringSubmatch(s.Stderr.String())
	_, metrics := get(t, url[1])
	for _, want := range []string{
		fmt.Sprintf(`rekisteri_uploads_total{result="staged"} %d`, len(entries)-1),
		`rekisteri_uploads_total{result="published"} 1`,
		`rekisteri_uploads_total{result="invalid"} 1`,
		fmt.Sprintf(`rekisteri_upload_received_bytes_total %d`, size),
	} {
		if !strings.Contains(metrics, want+"\n") {
			t.Errorf("the metrics have no %s:\n%s", want, metrics)
		}
	}
}
