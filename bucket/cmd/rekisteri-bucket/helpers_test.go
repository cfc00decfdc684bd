package main

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gocloud.dev/blob"

	"github.com/rekisteri/rekisteri/bucket/internal/storetest"
	"github.com/rekisteri/rekisteri/internal/pgptest"
	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

// commandVar is the variable that makes the test binary the command.
const commandVar = "REKISTERI_BUCKET_TEST_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(commandVar) != "" {
		main()
		return
	}
	for _, e := range storetest.S3Env() {
		name, value, _ := strings.Cut(e, "=")
		os.Setenv(name, value)
	}
	os.Exit(m.Run())
}

const (
	readToken    = "tok-that-reads-acme"
	publishToken = "tok-that-publishes-acme"
	linkKey      = "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b"
)

func testKey() *pgptest.Key { return pgptest.NewKey("releases@acme.example") }

// openBucket opens a bucket of a store, for a test to look into.
func openBucket(t testing.TB, s *storetest.Store, name string) *blob.Bucket {
	t.Helper()
	s.Setenv(t)
	b, err := blob.OpenBucket(t.Context(), s.URL(name, s.Addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// put writes an object.
func put(t testing.TB, b *blob.Bucket, key, content string) {
	t.Helper()
	if err := b.Upload(t.Context(), key, strings.NewReader(content), &blob.WriterOptions{ContentType: "application/octet-stream"}); err != nil {
		t.Fatal(err)
	}
}

// newAcme makes a bucket in which the namespace acme has a signing key, and
// returns its name.
func newAcme(t testing.TB, s *storetest.Store) string {
	t.Helper()
	name := s.NewBucket(t)
	put(t, openBucket(t, s, name), "acme/acme.asc", testKey().Armor())
	return name
}

// A replica is a registry in a process of its own.
type replica struct {
	url    string
	stderr servertest.Buffer
	cmd    *exec.Cmd
	ended  chan struct{}
}

// startReplica starts the command on a bucket until the test ends. Its log must
// not have a secret.
func startReplica(t testing.TB, s *storetest.Store, bucketURL string, flags ...string) *replica {
	t.Helper()
	return startReplicaOf(t, os.Args[0], s, bucketURL, flags...)
}

// startReplicaOf starts an executable with the command.
func startReplicaOf(t testing.TB, bin string, s *storetest.Store, bucketURL string, flags ...string) *replica {
	t.Helper()
	dir := t.TempDir()
	tokens, link := filepath.Join(dir, "tokens"), filepath.Join(dir, "link-key")
	servertest.WriteFile(t, tokens, fmt.Sprintf("%x acme\n%x acme:publish\n", sha256.Sum256([]byte(readToken)), sha256.Sum256([]byte(publishToken))))
	servertest.WriteFile(t, link, linkKey+"\n")
	r := startCommand(t, bin, append(s.Env, commandVar+"=1"), append([]string{
		"-bucket", bucketURL, "-tokens", tokens, "-link-key", link, "-debug", "-access-log"}, flags...)...)
	t.Cleanup(func() {
		r.kill()
		for _, secret := range append([]string{readToken, publishToken, linkKey, "signature=", "Signature="}, s.Secrets...) {
			if strings.Contains(r.stderr.String(), secret) {
				t.Errorf("the log of a replica has %q", secret)
			}
		}
	})
	return r
}

// startCommand starts a command that serves until the test ends.
func startCommand(t testing.TB, bin string, env []string, args ...string) *replica {
	t.Helper()
	r := &replica{cmd: exec.Command(bin, append([]string{"-addr", "127.0.0.1:0"}, args...)...), ended: make(chan struct{})}
	r.cmd.Env = append(os.Environ(), env...)
	r.cmd.Stdout, r.cmd.Stderr = &r.stderr, &r.stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		r.cmd.Wait()
		close(r.ended)
	}()
	t.Cleanup(func() {
		r.kill()
		if t.Failed() {
			lines := strings.SplitAfter(r.stderr.String(), "\n")
			t.Logf("the end of the log of a replica:\n%s", strings.Join(lines[max(0, len(lines)-20):], ""))
		}
	})
	listening := regexp.MustCompile(`msg=listening url=(\S+)`)
	for {
		if m := listening.FindStringSubmatch(r.stderr.String()); m != nil {
			r.url = m[1]
			return r
		}
		select {
		case <-r.ended:
			t.Fatal("the replica ended")
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// buildCommand builds a command as it is shipped.
func buildCommand(t testing.TB, bin, pkg string) {
	t.Helper()
	if out, err := exec.Command("go", "build", "-trimpath", "-o", bin, pkg).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
}

// kill ends the replica as kill -9 does.
func (r *replica) kill() {
	r.cmd.Process.Kill()
	<-r.ended
}

// roundRobin starts a proxy that sends each request to the next of some
// registries, and returns its URL.
func roundRobin(t testing.TB, registries ...string) string {
	var next atomic.Int64
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		u, err := url.Parse(registries[int(next.Add(1))%len(registries)])
		if err != nil {
			panic(err)
		}
		r.SetURL(u)
	}}
	srv := httptest.NewServer(proxy)
	t.Cleanup(srv.Close)
	return srv.URL
}

// A release is the files of a release, by name.
type release map[string]string

// platforms that every release of a test has.
var platforms = []string{"linux_amd64", "darwin_arm64"}

func zipName(typ, version, platform string) string {
	return "terraform-provider-" + typ + "_" + version + "_" + platform + ".zip"
}

func sumsName(typ, version string) string {
	return "terraform-provider-" + typ + "_" + version + "_SHA256SUMS"
}

// newRelease returns a signed release, whose binaries differ from those of other
// builds.
func newRelease(t testing.TB, typ, version, build string) release {
	t.Helper()
	files := make(release)
	for _, platform := range platforms {
		var b bytes.Buffer
		writeZip(t, &b, typ, version, strings.NewReader("\x7fELF "+build+" "+platform))
		files[zipName(typ, version, platform)] = b.String()
	}
	files.sign(typ, version)
	return files
}

// writeZip writes a zip with a provider's binary.
func writeZip(t testing.TB, out io.Writer, typ, version string, binary io.Reader) {
	t.Helper()
	w := zip.NewWriter(out)
	f, err := w.CreateHeader(&zip.FileHeader{Name: "terraform-provider-" + typ + "_v" + version, Method: zip.Store})
	if err == nil {
		_, err = io.Copy(f, binary)
	}
	if err = errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
}

// sign adds the sums of all files, and their signature.
func (r release) sign(typ, version string) {
	var sums strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r)) {
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256([]byte(r[name])), name)
	}
	r[sumsName(typ, version)] = sums.String()
	r[sumsName(typ, version)+".sig"] = testKey().Sign(sums.String(), time.Time{})
}

// An answer is what a registry answers to a request.
type answer struct {
	status int
	body   string
}

// ask sends a request with a token, follows redirects, and wants no secret in
// the answer.
func ask(t testing.TB, method, target, token string, body io.Reader) (answer, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return answer{}, err
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	for _, secret := range []string{readToken, publishToken, linkKey, storetest.S3Secret, "X-Amz-Signature"} {
		if bytes.Contains(text, []byte(secret)) {
			t.Errorf("the answer to %s %s has %q: %s", method, req.URL.Path, secret, text)
		}
	}
	return answer{resp.StatusCode, string(text)}, err
}

// upload sends a file of acme/foo.
func (r *replica) upload(t testing.TB, version, name, content string) (answer, error) {
	return ask(t, "PUT", r.url+"/files/acme/foo/"+version+"/"+name, publishToken, strings.NewReader(content))
}

// publish sends the files of a release of acme/foo in the order of GoReleaser,
// the signature last, and returns the last answer. It stops at an error.
func (r *replica) publish(t testing.TB, version string, files release) (last answer, err error) {
	for _, name := range slices.SortedFunc(maps.Keys(files), func(a, b string) int {
		return strings.Compare(strings.Replace(a, "_SHA256SUMS", "~", 1), strings.Replace(b, "_SHA256SUMS", "~", 1))
	}) {
		if last, err = r.upload(t, version, name, files[name]); err != nil || last.status > 299 {
			return last, err
		}
	}
	return last, nil
}

// versions returns the versions of acme/foo that the replica lists.
func (r *replica) versions(t testing.TB) string {
	t.Helper()
	a, err := ask(t, "GET", r.url+"/v1/providers/acme/foo/versions", readToken, nil)
	if err != nil {
		t.Fatal(err)
	}
	var versions []string
	for _, m := range regexp.MustCompile(`"version":"([^"]+)"`).FindAllStringSubmatch(a.body, -1) {
		versions = append(versions, m[1])
	}
	if a.status != http.StatusOK {
		return fmt.Sprint(a.status)
	}
	return strings.Join(versions, " ")
}

// links returns the links to the zip, the sums and the signature of a package.
func (r *replica) links(t testing.TB, version, platform string) []string {
	t.Helper()
	base := r.url + "/v1/providers/acme/foo/" + version + "/download/" + strings.Replace(platform, "_", "/", 1)
	a, err := ask(t, "GET", base, readToken, nil)
	if err != nil || a.status != http.StatusOK {
		t.Fatalf("%s: %v, %v", base, a, err)
	}
	from, err := url.Parse(base)
	if err != nil {
		t.Fatal(err)
	}
	var links []string
	for _, field := range []string{"download_url", "shasums_url", "shasums_signature_url"} {
		m := regexp.MustCompile(`"` + field + `":"([^"]+)"`).FindStringSubmatch(a.body)
		if m == nil {
			t.Fatalf("no %s in %s", field, a.body)
		}
		to, err := from.Parse(strings.ReplaceAll(m[1], `\u0026`, "&"))
		if err != nil {
			t.Fatal(err)
		}
		links = append(links, to.String())
	}
	return links
}

// wantServed wants the replica to serve exactly the files of a release of
// acme/foo.
func (r *replica) wantServed(t testing.TB, version string, files release) {
	t.Helper()
	for _, platform := range platforms {
		links := r.links(t, version, platform)
		for i, name := range []string{zipName("foo", version, platform), sumsName("foo", version), sumsName("foo", version) + ".sig"} {
			if a, err := ask(t, "GET", links[i], "", nil); err != nil || a.status != http.StatusOK || a.body != files[name] {
				t.Errorf("%s: %d, %d bytes, %v, want %d bytes", name, a.status, len(a.body), err, len(files[name]))
			}
		}
	}
}

// each runs a function for each number below n, all at once.
func each(n int, do func(int)) {
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() { do(i) })
	}
	group.Wait()
}
