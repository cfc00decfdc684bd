package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode"
)

// eachClient runs a test with every client on this machine. Where CI is set,
// Terraform has to be there.
func eachClient(t *testing.T, test func(t *testing.T, client string)) {
	for _, name := range []string{"terraform", "tofu"} {
		t.Run(name, func(t *testing.T) {
			client, err := exec.LookPath(name)
			switch {
			case err == nil:
				test(t, client)
			case name == "terraform" && os.Getenv("CI") != "":
				t.Fatal("there is no terraform on this machine")
			default:
				t.Skipf("there is no %s on this machine", name)
			}
		})
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

// A module is a fresh folder with a main.tf that requires a provider.
func newModule(t *testing.T, source string) string {
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "main.tf"), fmt.Sprintf("terraform {\n  required_providers {\n    it = { source = %q }\n  }\n}\n", source))
	return dir
}

// hostBlock writes a client's configuration that leads a made-up host to a
// registry, and returns the variable that names the file.
func hostBlock(t *testing.T, registry string) string {
	file := filepath.Join(t.TempDir(), "terraform.rc")
	writeFile(t, file, fmt.Sprintf("host %q {\n  services = { \"providers.v1\" = %q }\n}\n", trialHost, registry+"/v1/providers/"))
	return "TF_CLI_CONFIG_FILE=" + file
}

func writeFile(t *testing.T, name, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
}

// clientInit runs init in a module, and returns what the client says.
func clientInit(t *testing.T, client, dir string, env []string) (string, error) {
	cmd := exec.CommandContext(t.Context(), client, "init", "-no-color", "-input=false")
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// wantInstalled runs init in a module, and wants the sample's release in it,
// signed, with every platform's hash in the lock file.
func wantInstalled(t *testing.T, client, dir string, env []string) {
	t.Helper()
	out, err := clientInit(t, client, dir, env)
	if err != nil || !strings.Contains(out, "signed, key ID 3C91E2DDC757EE2B") {
		t.Fatalf("init: %v\n%s", err, out)
	}
	checkLock(t, dir)
}

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
			t.Errorf("the lock file has no %s:\n%s", sum, lock)
		}
	}
}

// TestClientInit has real clients install the sample's release.
func TestClientInit(t *testing.T) {
	eachClient(t, func(t *testing.T, client string) {
		t.Run("http", func(t *testing.T) {
			s := start(t)
			wantInstalled(t, client, newModule(t, trialHost+"/demo/hello"), cleanEnv(t, hostBlock(t, s.url)))
		})
		t.Run("subpath", func(t *testing.T) {
			s := start(t, "-prefix", "/portal/tf")
			wantInstalled(t, client, newModule(t, trialHost+"/demo/hello"), cleanEnv(t, hostBlock(t, s.url)))
		})
		t.Run("absolute URLs", func(t *testing.T) {
			addr := freeAddr(t)
			s := start(t, "-prefix", "/tf", "-addr", addr, "-external-url", "http://"+addr+"/tf/")
			wantInstalled(t, client, newModule(t, trialHost+"/demo/hello"), cleanEnv(t, hostBlock(t, s.url)))
		})
		for _, prefix := range []string{"", "/tf"} {
			t.Run("https"+strings.ReplaceAll(prefix, "/", " "), func(t *testing.T) {
				if runtime.GOOS != "linux" {
					t.Skip("the client's trust can be set for one process on Linux only")
				}
				cert, key := newCertificate(t, t.TempDir())
				s := start(t, "-prefix", prefix, "-tls-cert", cert, "-tls-key", key)
				source := "localhost:" + s.port + "/Demo/Hello" // clients lower the case
				wantInstalled(t, client, newModule(t, source), cleanEnv(t, "SSL_CERT_FILE="+cert))
			})
		}
	})
}

// TestTrial pastes what the command prints into a shell.
func TestTrial(t *testing.T) {
	eachClient(t, func(t *testing.T, client string) {
		s := start(t)
		_, script, ok := strings.Cut(s.stdout.String(), "from here:\n")
		if !ok {
			t.Fatalf("the command printed %q", s.stdout.String())
		}
		tmp := t.TempDir()
		bin := filepath.Join(t.TempDir(), "terraform") // whichever client it is
		if err := os.Symlink(client, bin); err != nil {
			t.Skip(err)
		}
		cmd := exec.CommandContext(t.Context(), "sh")
		cmd.Stdin = strings.NewReader(script)
		cmd.Env = cleanEnv(t, "TMPDIR="+tmp, "TF_CLI_ARGS=-no-color")
		cmd.Env[0] = "PATH=" + filepath.Dir(bin) + string(filepath.ListSeparator) + os.Getenv("PATH")
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("signed, key ID 3C91E2DDC757EE2B")) {
			t.Fatalf("%v\n%s", err, out)
		}
		dirs, err := filepath.Glob(filepath.Join(tmp, "*", ".terraform.lock.hcl"))
		if err != nil || len(dirs) != 1 {
			t.Fatalf("lock files: %v %v", dirs, err)
		}
		checkLock(t, filepath.Dir(dirs[0]))
	})
}

// newCertificate writes a certificate for localhost that is its own authority.
func newCertificate(t *testing.T, dir string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	writeFile(t, certFile, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})))
	writeFile(t, keyFile, string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})))
	return certFile, keyFile
}

func portOf(t *testing.T, raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return u.Port()
}

// TestDist copies what the release tool writes, clutter and all and without
// the manifest that SHA256SUMS names, and adds a key.
func TestDist(t *testing.T) {
	eachClient(t, func(t *testing.T, client string) {
		dir := t.TempDir()
		release := filepath.Join(dir, "acme", "hello", "1.0.0")
		files, err := fs.Sub(sample, "sample/demo")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.CopyFS(filepath.Join(dir, "acme"), files); err != nil { // demo.asc comes along
			t.Fatal(err)
		}
		for name, text := range map[string]string{
			"CHANGELOG.md": "", "artifacts.json": "[]", "config.yaml": "version: 2", "digests.txt": "", "metadata.json": "{}",
			"terraform-provider-hello_linux_amd64_v1/terraform-provider-hello_v1.0.0": "\x7fELF",
		} {
			writeFile(t, filepath.Join(release, name), text)
		}
		s := start(t, "-dir", dir)
		wantInstalled(t, client, newModule(t, trialHost+"/acme/hello"), cleanEnv(t, hostBlock(t, s.url)))
		for _, name := range []string{"artifacts.json", "metadata.json", "config.yaml", "terraform-provider-hello_1.0.0_manifest.json"} {
			if code, _ := fetch(t, s.url+"/files/acme/hello/1.0.0/"+name); code != 404 {
				t.Errorf("%s is served: %d", name, code)
			}
		}

		// A mirror asks for each zip with HEAD before GET.
		mirror := t.TempDir()
		module := newModule(t, trialHost+"/acme/hello")
		cmd := exec.CommandContext(t.Context(), client, "providers", "mirror", "-platform=windows_arm64", "-platform=linux_amd64", mirror)
		cmd.Dir, cmd.Env = module, cleanEnv(t, hostBlock(t, s.url))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("providers mirror: %v\n%s", err, out)
		}
		if zips, _ := filepath.Glob(filepath.Join(mirror, trialHost, "acme", "hello", "*.zip")); len(zips) != 2 {
			t.Errorf("the mirror has %q", zips)
		}

		// A zip with other bytes than its sum is the client's to refuse.
		tampered := "terraform-provider-hello_1.0.0_" + runtime.GOOS + "_" + runtime.GOARCH + ".zip"
		other := "terraform-provider-hello_1.0.0_windows_386.zip"
		if err := os.Rename(filepath.Join(release, tampered), filepath.Join(release, other)); err != nil {
			t.Fatal(err)
		}
		b, err := sample.ReadFile("sample/demo/hello/1.0.0/terraform-provider-hello_1.0.0_windows_amd64.zip")
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(release, tampered), string(b))
		s = start(t, "-dir", dir)
		if out, err := clientInit(t, client, newModule(t, trialHost+"/acme/hello"), cleanEnv(t, hostBlock(t, s.url))); err == nil || !strings.Contains(out, "checksum") {
			t.Errorf("a tampered zip: %v\n%s", err, out)
		}
	})
}

// TestPrivate has clients with and without credentials ask a private registry.
func TestPrivate(t *testing.T) {
	const good, other = "tok-for-demo", "tok-for-others"
	tokens := filepath.Join(t.TempDir(), "tokens")
	writeFile(t, tokens, fmt.Sprintf("%x demo\n%x others # not demo\n", sha256.Sum256([]byte(good)), sha256.Sum256([]byte(other))))
	linkKey := filepath.Join(t.TempDir(), "link-key")
	writeFile(t, linkKey, strings.Repeat("0a", 32)+"\n")
	for _, name := range []string{tokens, linkKey} {
		if err := os.Chmod(name, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	eachClient(t, func(t *testing.T, client string) {
		s := start(t, "-tokens", tokens, "-link-key", linkKey, "-debug")
		source := trialHost + "/demo/hello"
		credentials := hostBlock(t, s.url)
		rc, err := os.ReadFile(strings.TrimPrefix(credentials, "TF_CLI_CONFIG_FILE="))
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, strings.TrimPrefix(credentials, "TF_CLI_CONFIG_FILE="), fmt.Sprintf("%s\ncredentials %q {\n  token = %q\n}\n", rc, trialHost, good))
		wantInstalled(t, client, newModule(t, source), cleanEnv(t, credentials))
		host := hostBlock(t, s.url)
		token := "TF_TOKEN_" + strings.ReplaceAll(trialHost, ".", "_") + "="
		wantInstalled(t, client, newModule(t, source), cleanEnv(t, host, token+good))

		for extra, want := range map[string]string{
			"":              "requires authentication credentials",
			token + "wrong": "rejected the given authentication credentials",
			token + other:   "rejected the given authentication credentials",
		} {
			out, err := clientInit(t, client, newModule(t, source), cleanEnv(t, host, extra))
			if words := strings.Join(strings.FieldsFunc(out, func(r rune) bool { return r == '│' || unicode.IsSpace(r) }), " "); err == nil || !strings.Contains(words, want) {
				t.Errorf("with %q: %v\n%s\nwant %q", extra, err, out, want)
			}
		}
		for authorization, want := range map[string]int{"": 401, "Bearer wrong": 401, "Bearer " + other: 403, "Bearer " + good: 200} {
			req, err := http.NewRequest("GET", s.url+"/v1/providers/demo/hello/versions", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", authorization)
			resp, err := httpClient().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != want {
				t.Errorf("with %q: %s, want %d", authorization, resp.Status, want)
			}
		}
		if code, _ := fetch(t, s.url+"/.well-known/terraform.json"); code != 200 {
			t.Errorf("discovery: %d", code)
		}
		if code, _ := fetch(t, s.url+"/files/demo/hello/1.0.0/terraform-provider-hello_1.0.0_linux_amd64.zip"); code != 403 {
			t.Errorf("a file without a link: %d", code)
		}

		mirror := t.TempDir()
		cmd := exec.CommandContext(t.Context(), client, "providers", "mirror", "-platform=linux_amd64", mirror)
		cmd.Dir, cmd.Env = newModule(t, source), cleanEnv(t, host, token+good)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("providers mirror: %v\n%s", err, out)
		}

		// A refusal is explained, and no secret is in what the command wrote.
		log := s.stderr.String() + s.stdout.String()
		for _, reason := range []string{"there is no bearer token", "the bearer token is not known", "the token in line 2 may not read the namespace demo", "is not signed"} {
			if !strings.Contains(log, reason) {
				t.Errorf("the log does not say %q:\n%s", reason, log)
			}
		}
		for _, secret := range []string{good, other, "wrong", "signature=", "expires=", strings.Repeat("0a", 32)} {
			if strings.Contains(log, secret) {
				t.Errorf("the log has %q", secret)
			}
		}
	})
}
