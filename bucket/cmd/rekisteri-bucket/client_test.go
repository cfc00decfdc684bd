package main

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri/bucket/internal/storetest"
	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

const largeSize = 200 << 20 // bytes of the large zip

// publishLarge publishes acme/foo with the publish command, through registries
// at a URL. The zip for the platform of this machine is large.
func publishLarge(t *testing.T, registry, version string) {
	t.Helper()
	dir := t.TempDir()
	here := runtime.GOOS + "_" + runtime.GOARCH
	sums := ""
	for platform, size := range map[string]int64{here: largeSize, "plan9_mips": 1000} {
		name := zipName("foo", version, platform)
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		h := sha256.New()
		binary := io.LimitReader(rand.NewChaCha8([32]byte{1}), size) // which does not compress
		writeZip(t, io.MultiWriter(f, h), "foo", version, binary)
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
		sums += fmt.Sprintf("%x  %s\n", h.Sum(nil), name)
	}
	files := release{sumsName("foo", version): sums}
	files[sumsName("foo", version)+".sig"] = testKey().Sign(sums, testKey().Created.AddDate(1, 0, 0))
	for name, text := range files {
		servertest.WriteFile(t, filepath.Join(dir, name), text)
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "publish", "-to", registry, "-provider", "acme/foo", dir)
	cmd.Env = append(os.Environ(), commandVar+"=1", "REKISTERI_TOKEN="+publishToken)
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "published acme/foo "+version) {
		t.Fatalf("publish: %v\n%s", err, out)
	}
}

// runClient runs a client with a token in a new directory whose module requires
// acme/foo, and returns the directory.
func runClient(t *testing.T, client, registry string, args ...string) string {
	t.Helper()
	dir, home := t.TempDir(), t.TempDir()
	servertest.WriteFile(t, filepath.Join(dir, "main.tf"), "terraform {\n  required_providers {\n    foo = { source = \"rekisteri.test/acme/foo\" }\n  }\n}\n")
	config := filepath.Join(home, "terraform.rc")
	servertest.WriteFile(t, config, fmt.Sprintf("host \"rekisteri.test\" {\n  services = { \"providers.v1\" = %q }\n}\n", registry+"/v1/providers/"))
	cmd := exec.CommandContext(t.Context(), client, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "CHECKPOINT_DISABLE=1", "TF_CLI_CONFIG_FILE=" + config, "TF_TOKEN_rekisteri_test=" + readToken}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s %q: %v\n%s", client, args, err, out)
	}
	return dir
}

// modes are the flags for the ways that a zip takes to a client.
var modes = []struct {
	name   string
	flags  []string
	status int // of a GET for a zip
}{
	{name: "redirects", status: http.StatusFound},
	{name: "streaming", flags: []string{"-stream"}, status: http.StatusOK},
}

// TestClients has real clients install a private provider with a large zip from
// two replicas. Each request of a client goes to the other replica.
func TestClients(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs clients")
	}
	t.Parallel()
	s := storetest.S3(t)
	for _, mode := range modes {
		t.Run(mode.name, func(t *testing.T) {
			bucketURL := s.URL(newAcme(t, s), s.Addr)
			a := startReplica(t, s, bucketURL, append([]string{"-refresh-every", "1s"}, mode.flags...)...)
			b := startReplica(t, s, bucketURL, append([]string{"-refresh-every", "1s"}, mode.flags...)...)
			both := roundRobin(t, a.url, b.url)
			publishLarge(t, both, "1.0.0")
			servertest.EachClient(t, func(t *testing.T, client string) {
				dir := runClient(t, client, both, "init", "-no-color", "-input=false")
				lock, err := os.ReadFile(filepath.Join(dir, ".terraform.lock.hcl"))
				if n := strings.Count(string(lock), `"zh:`); err != nil || n != 2 {
					t.Errorf("the lock file has %d hashes of zips, %v:\n%s", n, err, lock)
				}
				mirror := filepath.Join(t.TempDir(), "mirror")
				runClient(t, client, both, "providers", "mirror", "-platform="+runtime.GOOS+"_"+runtime.GOARCH, "-platform=plan9_mips", mirror)
				if zips, _ := filepath.Glob(filepath.Join(mirror, "rekisteri.test", "acme", "foo", "*.zip")); len(zips) != 2 {
					t.Errorf("the mirror has %q", zips)
				}
			})
			checkDownload(t, a, runtime.GOOS+"_"+runtime.GOARCH, mode.status)
		})
	}
}

// checkDownload asks for a zip as clients do: with HEAD, in parts, and without a
// valid link.
func checkDownload(t *testing.T, r *replica, platform string, status int) {
	t.Helper()
	link := r.links(t, "1.0.0", platform)[0]
	do := func(client *http.Client, method, link, ranges string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, link, nil)
		if err != nil {
			t.Fatal(err)
		}
		if ranges != "" {
			req.Header.Set("Range", ranges)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(body)
	}
	direct := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	head, _ := do(direct, "HEAD", link, "")
	if head.StatusCode != http.StatusOK || head.ContentLength < largeSize || head.Header.Get("Accept-Ranges") != "bytes" {
		t.Errorf("HEAD: %s, %v", head.Status, head.Header)
	}
	if got, body := do(direct, "GET", link, "bytes=0-9"); got.StatusCode != status && got.StatusCode != http.StatusPartialContent {
		t.Errorf("GET: %s", got.Status)
	} else if strings.Contains(body, "Signature") {
		t.Errorf("the body of the answer has a presigned URL: %s", body)
	}
	size := head.ContentLength
	for _, test := range []struct {
		ranges, want string
		length       int
	}{
		{ranges: "bytes=0-3", want: fmt.Sprintf("bytes 0-3/%d", size), length: 4},
		{ranges: "bytes=104857600-104857699", want: fmt.Sprintf("bytes 104857600-104857699/%d", size), length: 100},
		{ranges: "bytes=-22", want: fmt.Sprintf("bytes %d-%d/%d", size-22, size-1, size), length: 22},
	} {
		got, body := do(http.DefaultClient, "GET", link, test.ranges)
		if got.StatusCode != http.StatusPartialContent || got.Header.Get("Content-Range") != test.want || len(body) != test.length {
			t.Errorf("%s: %s, %s, %d bytes", test.ranges, got.Status, got.Header.Get("Content-Range"), len(body))
		}
	}
	u, err := url.Parse(link)
	if err != nil {
		t.Fatal(err)
	}
	u.RawQuery = ""
	if got, _ := do(direct, "GET", u.String(), ""); got.StatusCode != http.StatusForbidden {
		t.Errorf("without a signature: %s", got.Status)
	}
}
