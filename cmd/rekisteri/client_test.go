package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

// host is the host name of the registry in the clients' configuration.
const host = "rekisteri.test"

// skipLong skips a test that runs a client more often than -short allows.
func skipLong(t *testing.T) {
	if testing.Short() {
		t.Skip("it runs a client")
	}
}

// cleanEnv returns an environment with a home of its own.
func cleanEnv(t *testing.T, extra ...string) []string {
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "CHECKPOINT_DISABLE=1"}
	if runtime.GOOS == "windows" {
		env = append(env, "SYSTEMROOT="+os.Getenv("SYSTEMROOT"), "APPDATA="+t.TempDir())
	}
	return append(env, extra...)
}

// newModule returns a directory with a main.tf that requires a provider.
func newModule(t *testing.T, source string) string {
	dir := t.TempDir()
	servertest.WriteFile(t, filepath.Join(dir, "main.tf"), fmt.Sprintf("terraform {\n  required_providers {\n    it = { source = %q }\n  }\n}\n", source))
	return dir
}

// clientConfig writes a client's configuration, in which the registry has the
// name host, and returns the variable that names the file. An empty token is
// none.
func clientConfig(t *testing.T, registry, token string) string {
	text := fmt.Sprintf("host %q {\n  services = { \"providers.v1\" = %q }\n}\n", host, registry+"/v1/providers/")
	if token != "" {
		text += fmt.Sprintf("credentials %q {\n  token = %q\n}\n", host, token)
	}
	file := filepath.Join(t.TempDir(), "terraform.rc")
	servertest.WriteFile(t, file, text)
	return "TF_CLI_CONFIG_FILE=" + file
}

// runClient runs a client in a directory, and returns what it prints.
func runClient(t *testing.T, client, dir string, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(t.Context(), client, args...)
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func runInit(t *testing.T, client, dir string, env []string) (string, error) {
	return runClient(t, client, dir, env, "init", "-no-color", "-input=false")
}

// words returns what a client prints in one line, without its frame.
func words(out string) string {
	return strings.Join(strings.FieldsFunc(out, func(r rune) bool { return r == '│' || unicode.IsSpace(r) }), " ")
}

const signed = "signed, key ID 3C91E2DDC757EE2B" // in the output of init

// wantInstalled runs init in a module, and wants the sample's release to be
// installed, its signature verified, and the hashes of all platforms in the lock
// file.
func wantInstalled(t *testing.T, client, dir string, env []string) {
	t.Helper()
	if out, err := runInit(t, client, dir, env); err != nil || !strings.Contains(out, signed) {
		t.Fatalf("init: %v\n%s", err, out)
	}
	checkLock(t, dir)
}

// checkLock wants each sum of the sample's release in a lock file.
func checkLock(t *testing.T, dir string) {
	t.Helper()
	lock, err := os.ReadFile(filepath.Join(dir, ".terraform.lock.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	sums, err := sample.ReadFile("sample/demo/hello/1.0.0/terraform-provider-hello_1.0.0_SHA256SUMS")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(sums)) {
		if sum := "zh:" + strings.Fields(line)[0]; !strings.Contains(string(lock), sum) {
			t.Errorf("the lock file does not have %s:\n%s", sum, lock)
		}
	}
}

// TestInit has clients install the sample's release from registries at several
// kinds of URLs.
func TestInit(t *testing.T) {
	t.Parallel()
	certFile, keyFile := servertest.Certificate(t, t.TempDir(), time.Now().Add(time.Hour))
	for _, test := range []struct {
		name  string
		flags []string // ADDR is a free address
		tls   bool
		short bool // it runs with -short as well
	}{
		{name: "http", short: true},
		{name: "subpath", flags: []string{"-prefix", "/portal/tf"}},
		{name: "absolute URLs", flags: []string{"-prefix", "/tf", "-addr", "ADDR", "-external-url", "http://ADDR/tf/"}},
		{name: "https", flags: []string{"-tls-cert", certFile, "-tls-key", keyFile}, tls: true},
		{name: "https subpath", flags: []string{"-prefix", "/tf", "-tls-cert", certFile, "-tls-key", keyFile}, tls: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if !test.short {
				skipLong(t)
			}
			if test.tls && runtime.GOOS != "linux" {
				t.Skip("the certificates that a client trusts can be set for one process on Linux only")
			}
			servertest.EachClient(t, func(t *testing.T, client string) {
				addr, flags := freeAddr(t), slices.Clone(test.flags)
				for i := range flags {
					flags[i] = strings.ReplaceAll(flags[i], "ADDR", addr)
				}
				s := start(t, flags...)
				source, env := host+"/demo/hello", clientConfig(t, s.URL, "")
				if test.tls {
					source, env = "localhost:"+s.Port+"/Demo/Hello", "SSL_CERT_FILE="+certFile // clients lower the case
				}
				wantInstalled(t, client, newModule(t, source), cleanEnv(t, env))
			})
		})
	}
}

// freeAddr returns an address that nothing listens on.
func freeAddr(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}

// TestTrial pastes what the command prints into a shell.
func TestTrial(t *testing.T) {
	skipLong(t)
	t.Parallel()
	servertest.EachClient(t, func(t *testing.T, client string) {
		s := start(t)
		servertest.Within(t, 5*time.Second, func() bool { return strings.Contains(s.Stdout.String(), "\nfi\n") })
		_, script, ok := strings.Cut(s.Stdout.String(), "from here:\n")
		if !ok {
			t.Fatalf("the command printed %q", s.Stdout.String())
		}
		tmp, bin := t.TempDir(), t.TempDir() // with nothing but what the script needs
		for _, tool := range []string{"cat", "mktemp"} {
			symlink(t, lookTool(t, tool), filepath.Join(bin, tool))
		}
		symlink(t, client, filepath.Join(bin, path.Base(t.Name())))
		cmd := exec.CommandContext(t.Context(), lookTool(t, "sh"))
		cmd.Stdin = strings.NewReader(script)
		cmd.Env = cleanEnv(t, "TMPDIR="+tmp, "TF_CLI_ARGS=-no-color")
		cmd.Env[0] = "PATH=" + bin
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte(signed)) {
			t.Fatalf("%v\n%s", err, out)
		}
		locks, err := filepath.Glob(filepath.Join(tmp, "*", ".terraform.lock.hcl"))
		if err != nil || len(locks) != 1 {
			t.Fatalf("lock files: %v %v", locks, err)
		}
		checkLock(t, filepath.Dir(locks[0]))
	})
}

// symlink makes a link, or skips the test where that is not allowed.
func symlink(t *testing.T, target, link string) {
	t.Helper()
	if err := os.Symlink(target, link); err != nil {
		t.Skip(err)
	}
}

// copySample copies a directory of the sample.
func copySample(t *testing.T, name, dir string) {
	t.Helper()
	files, err := fs.Sub(sample, path.Join("sample", name))
	if err == nil {
		err = os.CopyFS(dir, files)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestReleaseDirectory serves what the release tool writes: with other files,
// and without the manifest that SHA256SUMS names.
func TestReleaseDirectory(t *testing.T) {
	skipLong(t)
	t.Parallel()
	servertest.EachClient(t, func(t *testing.T, client string) {
		dir := t.TempDir()
		release := filepath.Join(dir, "acme", "hello", "1.0.0")
		copySample(t, "demo", filepath.Join(dir, "acme")) // with the key, demo.asc
		for name, text := range map[string]string{
			"CHANGELOG.md": "", "artifacts.json": "[]", "config.yaml": "version: 2", "digests.txt": "", "metadata.json": "{}",
			"terraform-provider-hello_linux_amd64_v1/terraform-provider-hello_v1.0.0": "\x7fELF",
		} {
			servertest.WriteFile(t, filepath.Join(release, name), text)
		}
		s := start(t, "-dir", dir)
		env := cleanEnv(t, clientConfig(t, s.URL, ""))
		wantInstalled(t, client, newModule(t, host+"/acme/hello"), env)
		for _, name := range []string{"artifacts.json", "metadata.json", "config.yaml", "terraform-provider-hello_1.0.0_manifest.json"} {
			if code, _ := get(t, s.URL+"/files/acme/hello/1.0.0/"+name); code != 404 {
				t.Errorf("%s is served: %d", name, code)
			}
		}

		// A mirror asks for each zip with HEAD before GET.
		mirror := t.TempDir()
		if out, err := runClient(t, client, newModule(t, host+"/acme/hello"), env, "providers", "mirror", "-platform=windows_arm64", "-platform=linux_amd64", mirror); err != nil {
			t.Errorf("providers mirror: %v\n%s", err, out)
		}
		if zips, _ := filepath.Glob(filepath.Join(mirror, host, "acme", "hello", "*.zip")); len(zips) != 2 {
			t.Errorf("the mirror has %q", zips)
		}
	})
}

// TestDamagedZip has clients refuse a zip that does not have its sum.
func TestDamagedZip(t *testing.T) {
	skipLong(t)
	t.Parallel()
	servertest.EachClient(t, func(t *testing.T, client string) {
		dir := t.TempDir()
		copySample(t, "", dir)
		release := filepath.Join(dir, "demo", "hello", "1.0.0")
		damaged := filepath.Join(release, "terraform-provider-hello_1.0.0_"+runtime.GOOS+"_"+runtime.GOARCH+".zip")
		zip, err := os.ReadFile(damaged)
		if err == nil {
			err = os.Remove(damaged) // a copy of an embedded file is read-only
		}
		if err != nil {
			t.Fatal(err)
		}
		zip[len(zip)/2] ^= 1
		servertest.WriteFile(t, damaged, string(zip))
		s := start(t, "-dir", dir)
		if out, err := runInit(t, client, newModule(t, host+"/demo/hello"), cleanEnv(t, clientConfig(t, s.URL, ""))); err == nil || !strings.Contains(out, "checksum") {
			t.Errorf("init: %v\n%s", err, out)
		}
	})
}

// TestPrivate has clients with and without a token ask a private registry.
func TestPrivate(t *testing.T) {
	skipLong(t)
	t.Parallel()
	const good, other, key = "tok-for-demo", "tok-for-others", "0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a"
	dir := t.TempDir()
	tokens, linkKey := filepath.Join(dir, "tokens"), filepath.Join(dir, "link-key")
	servertest.WriteFile(t, tokens, fmt.Sprintf("%x demo\n%x others # not demo\n", sha256.Sum256([]byte(good)), sha256.Sum256([]byte(other))))
	servertest.WriteFile(t, linkKey, key+"\n")
	releases := filepath.Join(dir, "providers")
	copySample(t, "", releases)
	servertest.EachClient(t, func(t *testing.T, client string) {
		s := start(t, "-dir", releases, "-tokens", tokens, "-link-key", linkKey, "-debug")
		const source = host + "/demo/hello"
		config := clientConfig(t, s.URL, "")
		variable := "TF_TOKEN_" + strings.ReplaceAll(host, ".", "_") + "="
		wantInstalled(t, client, newModule(t, source), cleanEnv(t, clientConfig(t, s.URL, good)))
		wantInstalled(t, client, newModule(t, source), cleanEnv(t, config, variable+good))
		for _, test := range []struct {
			name, env, want string
		}{
			{name: "no token", want: "requires authentication credentials"},
			{name: "a wrong token", env: variable + "wrong", want: "rejected the given authentication credentials"},
			{name: "a token for another namespace", env: variable + other, want: "rejected the given authentication credentials"},
		} {
			out, err := runInit(t, client, newModule(t, source), cleanEnv(t, config, test.env))
			if err == nil || !strings.Contains(words(out), test.want) {
				t.Errorf("%s: %v\n%s\nwant %q", test.name, err, out, test.want)
			}
		}
		if out, err := runClient(t, client, newModule(t, source), cleanEnv(t, config, variable+good), "providers", "mirror", "-platform=linux_amd64", t.TempDir()); err != nil {
			t.Errorf("providers mirror: %v\n%s", err, out)
		}

		for _, test := range []struct {
			path, authorization string
			want                int
		}{
			{path: "/v1/providers/demo/hello/versions", want: 401},
			{path: "/v1/providers/demo/hello/versions", authorization: "Bearer wrong", want: 401},
			{path: "/v1/providers/demo/hello/versions", authorization: "Bearer " + other, want: 403},
			{path: "/v1/providers/demo/hello/versions", authorization: "Bearer " + good, want: 200},
			{path: "/.well-known/terraform.json", want: 200},
			{path: "/files/demo/hello/1.0.0/terraform-provider-hello_1.0.0_linux_amd64.zip", want: 403},
		} {
			req, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", test.authorization)
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != test.want {
				t.Errorf("%s with %q: %s, want %d", test.path, test.authorization, resp.Status, test.want)
			}
		}

		// The log has the reason of each refusal, and no secret.
		log := s.Stderr.String() + s.Stdout.String()
		for _, reason := range []string{"there is no bearer token", "the bearer token is not known", "the token in line 2 may not read the namespace demo", "is not signed"} {
			if !strings.Contains(log, reason) {
				t.Errorf("the log does not have %q:\n%s", reason, log)
			}
		}
		for _, secret := range []string{good, other, "wrong", "signature=", "expires=", key} {
			if strings.Contains(log, secret) {
				t.Errorf("the log has %q", secret)
			}
		}
	})
}
