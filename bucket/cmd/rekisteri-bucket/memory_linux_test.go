package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri/bucket/internal/storetest"
)

// peakMiB returns the most memory that a replica's process has had, in MiB.
func (r *replica) peakMiB(t testing.TB) int {
	t.Helper()
	f, err := os.Open(filepath.Join("/proc", fmt.Sprint(r.cmd.Process.Pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			kib := 0
			fmt.Sscan(value, &kib)
			return kib >> 10
		}
	}
	t.Fatal("there is no VmHWM")
	return 0
}

// TestMemory sends zips through the registry, up and down, many at once. The
// process must hold none of them in memory.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("it moves 5 GB")
	}
	t.Parallel()
	const atOnce = 16
	s := storetest.S3(t)
	bin := filepath.Join(t.TempDir(), "command") // the test binary may have the race detector
	buildCommand(t, bin, ".")
	r := startReplicaOf(t, bin, s, s.URL(newAcme(t, s), s.Addr), "-stream")
	start := r.peakMiB(t)
	publishLarge(t, r.url, "1.0.0")
	published := r.peakMiB(t)
	link := r.links(t, "1.0.0", runtime.GOOS+"_"+runtime.GOARCH)[0]
	each(atOnce, func(int) {
		resp, err := http.Get(link)
		if err != nil {
			t.Error(err)
			return
		}
		defer resp.Body.Close()
		if n, err := io.Copy(io.Discard, resp.Body); err != nil || n < largeSize {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
	sent := r.peakMiB(t)
	each(atOnce, func(i int) {
		const size = 32 << 20
		reader, writer := io.Pipe()
		go func() {
			writeZip(t, writer, "foo", "2.0.0", io.LimitReader(rand.NewChaCha8([32]byte{byte(i)}), size))
			writer.Close()
		}()
		a, err := ask(t, "PUT", r.url+"/files/acme/foo/2.0.0/"+zipName("foo", "2.0.0", fmt.Sprintf("os%d_amd64", i)), publishToken, reader)
		if err != nil || a.status != http.StatusAccepted {
			t.Errorf("%v, %v", a, err)
		}
	})
	t.Logf("the most MiB at the start: %d, after an upload: %d, after %d downloads at once: %d, after %d uploads at once: %d", start, published, atOnce, sent, atOnce, r.peakMiB(t))
	if published > 150 || sent > 190 {
		t.Errorf("the process has held a zip of %d MiB in memory", largeSize>>20)
	}
}
