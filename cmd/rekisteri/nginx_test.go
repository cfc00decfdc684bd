package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

// startNginx runs nginx in front of a registry until the test ends, with more
// lines in its configuration, and returns its URL.
func startNginx(t *testing.T, nginx, registry, more string) string {
	t.Helper()
	dir, addr := t.TempDir(), freeAddr(t)
	temporary := ""
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		temporary += fmt.Sprintf("%s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	config, log := filepath.Join(dir, "nginx.conf"), filepath.Join(dir, "error.log")
	servertest.WriteFile(t, config, fmt.Sprintf(`
		daemon off;
		master_process off;
		pid %s;
		events {}
		http {
			access_log off;
			%s
			server {
				listen %s;
				location / {
					proxy_pass %s;
					client_max_body_size 0;
					%s
				}
			}
		}`, filepath.Join(dir, "nginx.pid"), temporary, addr, registry, more))
	cmd := exec.CommandContext(t.Context(), nginx, "-p", dir, "-e", log, "-c", config)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // the test's context has ended
		cmd.Wait()
		if text, err := os.ReadFile(log); err == nil && t.Failed() {
			t.Logf("the log of nginx:\n%s", text)
		}
	})
	servertest.Within(t, 10*time.Second, func() bool {
		conn, err := net.Dial("tcp", addr)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return "http://" + addr
}

// TestBehindNginx uploads through nginx. A refusal of a large file must arrive as
// what it is: a registry that answers before it has read the body gets its answer
// replaced by 502.
func TestBehindNginx(t *testing.T) {
	skipLong(t)
	t.Parallel()
	nginx := lookTool(t, "nginx")
	curl, _ := exec.LookPath("curl") // which sends Expect: 100-continue
	bin := buildCommand(t)
	const zip = "terraform-provider-hello_1.0.0_linux_amd64.zip"
	large := bytes.Repeat([]byte("not a zip"), 20<<20/9)
	largeFile := filepath.Join(t.TempDir(), zip)
	servertest.WriteFile(t, largeFile, string(large))

	for name, more := range map[string]string{"buffering": "", "no buffering": "proxy_http_version 1.1; proxy_request_buffering off;"} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tree, tokens := filepath.Join(dir, "providers"), filepath.Join(dir, "tokens")
			copySample(t, "demo", filepath.Join(tree, "acme"))
			copySample(t, "demo", filepath.Join(tree, "new"))
			if err := os.RemoveAll(filepath.Join(tree, "new", "hello")); err != nil { // but the key
				t.Fatal(err)
			}
			servertest.WriteFile(t, tokens, fmt.Sprintf("%x acme:publish new:publish\n", sha256.Sum256([]byte(publishToken))))
			s := start(t, "-dir", tree, "-tokens", tokens)
			proxy := startNginx(t, nginx, s.URL, more)
			for _, test := range []struct {
				name, path, token string
				want              int
			}{
				{name: "wrong token", path: "/files/new/hello/1.0.0/", token: "wrong", want: 401},
				{name: "another namespace", path: "/files/demo/hello/1.0.0/", token: publishToken, want: 403},
				{name: "published with other bytes", path: "/files/acme/hello/1.0.0/", token: publishToken, want: 409},
				{name: "wrong file", path: "/files/new/hello/1.0.0/", token: publishToken, want: 422},
				{name: "wrong name", path: "/files/new/hello/2.0.0/", token: publishToken, want: 422},
			} {
				for range 3 {
					req, err := http.NewRequestWithContext(t.Context(), "PUT", proxy+test.path+zip, bytes.NewReader(large))
					if err != nil {
						t.Fatal(err)
					}
					req.Header.Set("Authorization", "Bearer "+test.token)
					resp, err := http.DefaultClient.Do(req)
					if err != nil {
						t.Errorf("%s: %v", test.name, err)
						continue
					}
					body, err := io.ReadAll(resp.Body)
					resp.Body.Close()
					if err != nil || resp.StatusCode != test.want || !strings.HasPrefix(string(body), `{"errors":[`) {
						t.Errorf("%s: %s %s, %v", test.name, resp.Status, body, err)
					}
				}
				if curl == "" {
					continue
				}
				out := mustRun(t, dir, nil, curl, "-sS", "-o", os.DevNull, "-w", "%{http_code}", "-H", "Authorization: Bearer "+test.token, "-T", largeFile, proxy+test.path)
				if out != fmt.Sprint(test.want) {
					t.Errorf("%s with curl: %s", test.name, out)
				}
			}

			copySample(t, "demo/hello/1.0.0", filepath.Join(dir, "dist"))
			servertest.WriteFile(t, filepath.Join(dir, "terraform-registry-manifest.json"), `{"version": 1, "metadata": {"protocol_versions": ["5.0"]}}`+"\n")
			env := []string{"REKISTERI_TOKEN=" + publishToken}
			if out, err := run(t, dir, env, filepath.Join(bin, "rekisteri"), "publish", "-to", proxy, "-provider", "new/hello", "dist"); err != nil || !strings.HasSuffix(out, "\npublished new/hello 1.0.0\n") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
