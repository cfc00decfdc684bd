package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

const publishToken = "tok-for-publishing-acme"

// buildCommand builds the command, and returns the directory that it is in.
func buildCommand(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", dir+string(filepath.Separator), ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return dir
}

// A process is a registry that accepts releases of acme, in a process of its own.
type process struct {
	url string
	dir string // the tree
	log servertest.Buffer
}

// startProcess starts the command in a directory until the test ends.
func startProcess(t *testing.T, bin, publicKey string) *process {
	t.Helper()
	p := &process{dir: t.TempDir()}
	secrets := t.TempDir()
	servertest.WriteFile(t, filepath.Join(p.dir, "acme", "acme.asc"), publicKey)
	servertest.WriteFile(t, filepath.Join(secrets, "tokens"), fmt.Sprintf("%x acme:publish # the CI\n", sha256.Sum256([]byte(publishToken))))
	servertest.WriteFile(t, filepath.Join(secrets, "link-key"), strings.Repeat("0a", 32)+"\n")
	cmd := exec.CommandContext(t.Context(), filepath.Join(bin, "rekisteri"), "-addr", "127.0.0.1:0", "-dir", p.dir,
		"-tokens", filepath.Join(secrets, "tokens"), "-link-key", filepath.Join(secrets, "link-key"))
	cmd.Stderr = &p.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // the test's context has ended
		cmd.Wait()
		if t.Failed() {
			t.Logf("the log of the registry:\n%s", p.log.String())
		}
		if strings.Contains(p.log.String(), publishToken) {
			t.Error("the token is in the log of the registry")
		}
	})
	listening := regexp.MustCompile(`msg=listening url=(\S+)`)
	servertest.Within(t, 10*time.Second, func() bool {
		if m := listening.FindStringSubmatch(p.log.String()); m != nil {
			p.url = m[1]
		}
		return p.url != ""
	})
	return p
}

// wantInit has clients install acme/foo, whose only version has just been
// published.
func (p *process) wantInit(t *testing.T, version string) {
	t.Helper()
	for _, name := range servertest.Clients() {
		t.Run(name, func(t *testing.T) {
			dir := newModule(t, host+"/acme/foo")
			out, err := runInit(t, servertest.LookClient(t, name), dir, cleanEnv(t, clientConfig(t, p.url, publishToken)))
			if err != nil || !strings.Contains(out, "v"+version+" (signed, key ID ") && !strings.Contains(out, "v"+version+" (self-signed, key ID ") {
				t.Fatalf("init: %v\n%s", err, out)
			}
			lock, err := os.ReadFile(filepath.Join(dir, ".terraform.lock.hcl"))
			if n := bytes.Count(lock, []byte("zh:")); err != nil || n < 2 {
				t.Errorf("the lock file has %d hashes, %v", n, err)
			}
		})
	}
}

// run runs a command in a directory with more variables, and returns its output.
func run(t *testing.T, dir string, env []string, name string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env = dir, append(append(os.Environ(), "CI="), env...) // with CI, GoReleaser colors its output
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), publishToken) {
		t.Errorf("%s prints the token", name)
	}
	return string(out), err
}

func mustRun(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	out, err := run(t, dir, env, name, args...)
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return out
}

// lookTool returns the path of a tool, or skips the test.
func lookTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("there is no %s on this machine", name)
	}
	return path
}

// lookGoReleaser returns the path of GoReleaser, from the variable GORELEASER or
// the PATH, or skips the test.
func lookGoReleaser(t *testing.T) string {
	t.Helper()
	path := os.Getenv("GORELEASER")
	if path == "" {
		path = lookTool(t, "goreleaser")
	}
	if out := mustRun(t, "", nil, path, "--version"); !strings.Contains(out, "v2.") && !strings.Contains(out, " 2.") {
		t.Skipf("%s is not GoReleaser 2:\n%s", path, out)
	}
	return path
}

// docBlocks returns the blocks of a language in docs/publishing.md.
func docBlocks(t *testing.T, language string) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/publishing.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?s)```"+language+"\n(.*?)```").FindAllStringSubmatch(string(text), -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

// docBlock returns the block of a language in docs/publishing.md that begins
// with a text.
func docBlock(t *testing.T, language, begin string) string {
	t.Helper()
	blocks := docBlocks(t, language)
	i := slices.IndexFunc(blocks, func(b string) bool { return strings.HasPrefix(b, begin) })
	if i < 0 {
		t.Fatalf("docs/publishing.md has no block of %s that begins with %q", language, begin)
	}
	return blocks[i]
}

// A provider is the repository of a provider, whose releases GoReleaser signs.
type provider struct {
	dir       string
	publicKey string
	env       []string
}

// newProvider returns the repository of terraform-provider-foo with a tag.
func newProvider(t *testing.T) *provider {
	t.Helper()
	gpg := lookTool(t, "gpg")
	lookTool(t, "git")
	home, err := os.MkdirTemp("", "gpg") // short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	p := &provider{dir: t.TempDir(), env: []string{"GNUPGHOME=" + home, "GIT_CONFIG_GLOBAL=" + os.DevNull, "GIT_CONFIG_NOSYSTEM=1",
		"GITHUB_TOKEN=", "GITLAB_TOKEN=", "GITEA_TOKEN=", "REKISTERI_TOKEN=" + publishToken}}
	t.Cleanup(func() {
		exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		os.RemoveAll(home)
	})
	mustRun(t, p.dir, p.env, gpg, "--batch", "--passphrase", "", "--quick-generate-key", "Acme <releases@acme.example>", "rsa3072", "sign", "never")
	keys := mustRun(t, p.dir, p.env, gpg, "--batch", "--list-secret-keys", "--with-colons")
	fingerprint := regexp.MustCompile(`(?m)^fpr:+([0-9A-F]{40}):`).FindStringSubmatch(keys)
	if fingerprint == nil {
		t.Fatalf("gpg lists\n%s", keys)
	}
	p.env = append(p.env, "GPG_FINGERPRINT="+fingerprint[1])
	p.publicKey = mustRun(t, p.dir, p.env, gpg, "--batch", "--armor", "--export", fingerprint[1])

	for name, text := range map[string]string{
		"go.mod":                           "module acme.example/terraform-provider-foo\n\ngo 1.21\n",
		"main.go":                          "package main\n\nvar version string\n\nfunc main() { println(version) }\n",
		"LICENSE":                          "MIT\n",
		"README.md":                        "# foo\n",
		"terraform-registry-manifest.json": `{"version": 1, "metadata": {"protocol_versions": ["6.0"]}}` + "\n",
		".gitignore":                       "dist/\n.goreleaser.yaml\n",
	} {
		servertest.WriteFile(t, filepath.Join(p.dir, name), text)
	}
	for _, args := range []string{"init -q", "remote add origin https://git.acme.example/acme/foo.git", "add .", "-c user.name=acme -c user.email=releases@acme.example commit -q -m first", "tag v1.2.3"} {
		mustRun(t, p.dir, p.env, "git", strings.Fields(args)...)
	}
	return p
}

// configure writes the configuration of GoReleaser: the first block of
// docs/publishing.md, for one operating system, and more blocks of it.
func (p *provider) configure(t *testing.T, registry string, more ...string) {
	t.Helper()
	const oses = "goos: [linux, darwin, windows]"
	text := docBlock(t, "yaml", "version: 2\n") + strings.Join(more, "\n")
	if !strings.Contains(text, oses) {
		t.Fatal("the operating systems in docs/publishing.md have changed")
	}
	text = strings.ReplaceAll(text, oses, "goos: ["+runtime.GOOS+"]")
	servertest.WriteFile(t, filepath.Join(p.dir, ".goreleaser.yaml"), strings.ReplaceAll(text, "https://registry.acme.example", registry))
}

// TestGoReleaser publishes what GoReleaser has built in each way that
// docs/publishing.md shows, and has clients install it at once.
func TestGoReleaser(t *testing.T) {
	skipLong(t)
	t.Parallel()
	goreleaser := lookGoReleaser(t)
	p := newProvider(t)
	bin := buildCommand(t)
	release := func(t *testing.T, env ...string) (string, error) {
		t.Helper()
		return run(t, p.dir, append(slices.Clip(p.env), env...), goreleaser, "release", "--clean")
	}
	uploads := docBlock(t, "yaml", "uploads:\n")

	t.Run("uploads", func(t *testing.T) {
		r := startProcess(t, bin, p.publicKey)
		p.configure(t, r.url, uploads)
		if out, err := release(t); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		r.wantInit(t, "1.2.3")

		// A run after another checkout gives the same bytes, and another signature.
		later := time.Now().Add(time.Hour)
		if err := os.Chtimes(filepath.Join(p.dir, "LICENSE"), later, later); err != nil {
			t.Fatal(err)
		}
		if out, err := release(t); err != nil {
			t.Errorf("a second run: %v\n%s", err, out)
		}
	})
	t.Run("failures of uploads", func(t *testing.T) {
		r := startProcess(t, bin, p.publicKey)
		p.configure(t, r.url, uploads)
		if out, err := release(t, "REKISTERI_TOKEN=wrong"); err == nil || !strings.Contains(out, "401 Unauthorized") {
			t.Errorf("with a wrong token: %v\n%s", err, out)
		}
		if out, err := release(t, "REKISTERI_TOKEN="); err == nil || !strings.Contains(out, "401 Unauthorized") {
			t.Errorf("with an empty token: %v\n%s", err, out)
		}
		p.configure(t, r.url, strings.ReplaceAll(uploads, "REKISTERI_TOKEN", "REKISTERI_UNSET"))
		if out, err := release(t); err == nil || !strings.Contains(out, "REKISTERI_UNSET") {
			t.Errorf("without a token: %v\n%s", err, out)
		}
		if entries, err := os.ReadDir(filepath.Join(r.dir, "acme", "foo")); err == nil {
			t.Errorf("the tree has %v", entries)
		}
	})
	t.Run("filters of uploads", func(t *testing.T) {
		r := startProcess(t, bin, p.publicKey)
		published := func() bool {
			_, err := os.Stat(filepath.Join(r.dir, "acme", "foo", "1.2.3"))
			return err == nil
		}
		for _, filter := range []struct {
			line      string
			published bool
		}{
			{line: "exts: [zip]"}, // the trap that docs/publishing.md warns of: the run is green
			{line: "ids: [default]", published: true},
		} {
			p.configure(t, r.url, strings.Replace(uploads, "    mode: archive\n", "    mode: archive\n    "+filter.line+"\n", 1))
			if out, err := release(t); err != nil || published() != filter.published {
				t.Errorf("%s: published: %v, %v\n%s", filter.line, published(), err, out)
			}
		}
	})
	t.Run("publishers", func(t *testing.T) {
		r := startProcess(t, bin, p.publicKey)
		p.configure(t, r.url, docBlock(t, "yaml", "publishers:\n"))
		path := "PATH=" + bin + string(filepath.ListSeparator) + os.Getenv("PATH")
		if out, err := release(t, path, "REKISTERI_TOKEN=wrong"); err == nil || !strings.Contains(out, "the registry does not know the token") {
			t.Errorf("with a wrong token: %v\n%s", err, out)
		}
		if out, err := release(t, path); err != nil || strings.Count(out, "cmd=rekisteri") != 1 { // it prints no more of a success
			t.Fatalf("%v\n%s", err, out)
		}
		r.wantInit(t, "1.2.3")
	})

	// What is in dist is now published without GoReleaser.
	if _, err := os.Stat(filepath.Join(p.dir, "dist")); err != nil { // only some of the tests run
		p.configure(t, "https://registry.acme.example")
		if out, err := release(t); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	publish := func(t *testing.T, r *process, env ...string) (string, error) {
		t.Helper()
		return run(t, p.dir, append(slices.Clip(p.env), env...), filepath.Join(bin, "rekisteri"), "publish", "-to", r.url, "-provider", "acme/foo", "dist")
	}
	t.Run("publish", func(t *testing.T) {
		r := startProcess(t, bin, p.publicKey)
		if out, err := publish(t, r, "REKISTERI_TOKEN=wrong"); err == nil || !strings.Contains(out, "the registry does not know the token") {
			t.Errorf("with a wrong token: %v\n%s", err, out)
		}
		out, err := publish(t, r)
		if err != nil || !strings.HasSuffix(out, "\npublished acme/foo 1.2.3\n") {
			t.Fatalf("%v\n%s", err, out)
		}
		r.wantInit(t, "1.2.3")
		if out, err = publish(t, r); err != nil || out != "uploaded terraform-provider-foo_1.2.3_SHA256SUMS (0.3 kB)\nacme/foo 1.2.3 was published already, with these files\n" {
			t.Errorf("again: %v\n%s", err, out)
		}
	})
	t.Run("curl", func(t *testing.T) {
		lookTool(t, "curl")
		script := docBlock(t, "sh", "set -eu\nversion=1.2.3\n")
		r := startProcess(t, bin, p.publicKey)
		script = strings.ReplaceAll(script, "https://registry.acme.example", r.url)
		if out, err := run(t, p.dir, append(slices.Clip(p.env), "REKISTERI_TOKEN=wrong"), "sh", "-c", script); err == nil || !strings.Contains(out, "Unauthorized") {
			t.Errorf("with a wrong token: %v\n%s", err, out)
		}
		unsigned := strings.Replace(script, ` "dist/${name}_SHA256SUMS.sig"`, "", 1)
		if out, err := run(t, p.dir, p.env, "sh", "-c", unsigned); err == nil || !strings.Contains(out, "the release is not complete") {
			t.Errorf("without the signature: %v\n%s", err, out)
		}
		if out, err := run(t, p.dir, p.env, "sh", "-c", script); err != nil || !strings.Contains(out, `"state":"published"`) {
			t.Fatalf("%v\n%s", err, out)
		}
		r.wantInit(t, "1.2.3")
		if _, err := exec.LookPath("jq"); err == nil {
			check := strings.ReplaceAll(docBlock(t, "sh", "printf 'Authorization"), "https://registry.acme.example", r.url)
			mustRun(t, p.dir, p.env, "bash", "-o", "pipefail", "-c", check)
			if out, err := run(t, p.dir, p.env, "bash", "-o", "pipefail", "-c", strings.Replace(check, "1.2.3", "1.2.4", 1)); err == nil {
				t.Errorf("a version that is not there is found:\n%s", out)
			}
		}
	})
	t.Run("copy", func(t *testing.T) {
		work := t.TempDir()
		servertest.WriteFile(t, filepath.Join(work, "providers", "acme", "acme.asc"), p.publicKey)
		servertest.WriteFile(t, filepath.Join(work, "acme.asc"), p.publicKey)
		for _, name := range []string{"dist", "terraform-registry-manifest.json"} {
			symlink(t, filepath.Join(p.dir, name), filepath.Join(work, name))
		}
		mustRun(t, work, nil, "sh", "-ec", docBlock(t, "sh", "mkdir -p providers/acme/foo/1.2.3\n"))
		s := start(t, "-dir", filepath.Join(work, "providers"))
		(&process{url: s.URL}).wantInit(t, "1.2.3")
		check := docBlock(t, "sh", "mkdir -p staging/")
		mustRun(t, work, []string{"PATH=" + bin + string(filepath.ListSeparator) + os.Getenv("PATH")}, "sh", "-ec", check)
	})
}
