//go:build unix

package rekisteri_test

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
)

// publishDir is the variable that makes the test binary a process that publishes
// releases to a directory until it is killed.
const publishDir = "REKISTERI_PUBLISH_TO"

// publishForever publishes one release after the other, beginning with one that
// may be staged in part, and prints each version that was answered with 201.
func publishForever(dir string) {
	store, err := rekisteri.OpenDir(dir)
	if err != nil {
		panic(err)
	}
	t := new(testing.B) // for helpers, which fail only where a zip cannot be made
	backend := rekisteri.NewFSBackend(store, &rekisteri.FSOptions{Logger: silent, Store: store})
	p := &publishing{t: t, dir: dir, store: store, backend: backend, reg: rekisteri.New(backend, &rekisteri.Options{Logger: silent, Publish: &rekisteri.PublishOptions{
		To: backend.Publisher(), Authorize: allowAll,
	}})}
	for i := 0; ; i++ {
		version := fmt.Sprintf("1.0.%d", i)
		if w := httptest.NewRecorder(); true {
			p.reg.ServeHTTP(w, httptest.NewRequest("GET", "/v1/providers/acme/hello/"+version+"/download/linux/amd64", nil))
			if w.Code == 200 {
				continue
			}
		}
		files := make(map[string]string)
		for name, text := range releaseOf(t, "1.0.0", "killed") {
			if !strings.Contains(name, "SHA256SUMS") {
				files[strings.ReplaceAll(name, "1.0.0", version)] = text
			}
		}
		signFiles(version, files)
		if codes, answer := p.putAll(version, files); slices.Contains(codes, 201) {
			fmt.Println(version)
		} else if codes[len(codes)-1] >= 300 {
			fmt.Println("refused", version, codes, answer)
		}
	}
}

// A process that is killed while it publishes loses nothing that it has answered
// with 201, leaves nothing torn, and the next process completes the upload.
func TestKilledPublisher(t *testing.T) {
	if testing.Short() {
		t.Skip("it is long")
	}
	t.Parallel()
	const rounds = 20
	p := newPublishing(t, keyTree())
	promised := make(map[string]bool)
	for round := range rounds {
		child := exec.Command(os.Args[0])
		child.Env = append(os.Environ(), publishDir+"="+p.dir)
		child.Stderr = os.Stderr
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewReader(out)
		for n := 0; ; n++ {
			line, err := lines.ReadString('\n')
			if err != nil {
				break
			}
			version := strings.TrimSuffix(line, "\n")
			if strings.HasPrefix(version, "refused") {
				t.Errorf("round %d: %s", round, version)
				break
			}
			promised[version] = true
			if n == 0 { // it is at work
				time.AfterFunc(rand.N(100*time.Millisecond), func() { child.Process.Kill() })
			}
		}
		child.Process.Kill()
		child.Wait()
		next := p.restart()
		served := strings.Fields(next.versions())
		for version := range promised {
			if !slices.Contains(served, version) {
				t.Errorf("round %d: %s was answered with 201, and is not served", round, version)
			}
		}
		if text := checkText(t, next.backend, &rekisteri.CheckOptions{Hash: true}); text != "" && !strings.HasPrefix(text, ".: there is no provider") && !strings.Contains(text, "it has no release") {
			t.Errorf("round %d: Check says %s", round, text)
		}
	}
	if len(promised) < rounds {
		t.Errorf("only %d releases were published in %d rounds", len(promised), rounds)
	}
	t.Logf("%d releases were published by %d processes that were killed", len(promised), rounds)
}
