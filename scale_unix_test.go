//go:build unix

package rekisteri_test

import (
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
)

// BenchmarkScale measures the directory backend on trees that are larger than
// its memory, or that many clients ask for. docs/performance.md says what it
// showed. Each part takes a fixed time and reports its own figures.
func BenchmarkScale(b *testing.B) {
	b.Run("random-downloads-200-clients", func(b *testing.B) { benchDownloads(b, 200) })
	b.Run("random-downloads-1-client", func(b *testing.B) { benchDownloads(b, 1) })
	b.Run("cold-burst", benchBurst)
	b.Run("looks-over-a-network", benchLooks)
	b.Run("looks-on-a-disk", benchDiskLooks)
	b.Run("charged-releases", benchChargedReleases)
	b.Run("charged-documents", benchChargedDocuments)
	b.Run("charged-indexes", benchChargedIndexes)
	b.Run("check", benchCheck)
}

func scaleRegistry(fsys fs.FS, cacheBytes int64) (*rekisteri.Registry, *rekisteri.FSBackend) {
	silent := slog.New(slog.DiscardHandler)
	backend := rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{Logger: silent, CacheBytes: cacheBytes})
	return rekisteri.New(backend, &rekisteri.Options{Logger: silent}), backend
}

// timed answers a request and returns how long that took.
func timed(h http.Handler, target string) (code int, took time.Duration) {
	begun := time.Now()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", target, nil))
	return w.Code, time.Since(begun)
}

// benchDownloads asks for random packages of 5,000 providers with 400 releases
// each, of which a small part fits into memory, over a file system whose every
// call takes a millisecond.
func benchDownloads(b *testing.B, clients int) {
	const length = 20 * time.Second
	v := newVirtualFS(b, 5000, 400, 14, time.Millisecond)
	for b.Loop() {
		reg, _ := scaleRegistry(v, 0)
		v.calls.Store(0)
		var mu sync.Mutex
		var all []time.Duration
		failed := 0
		var heap atomic.Uint64
		var group sync.WaitGroup
		end := time.Now().Add(length)
		for range clients {
			group.Go(func() {
				for time.Now().Before(end) {
					code, took := timed(reg, fmt.Sprintf("/v1/providers/acme/p%d/1.%d.0/download/os%d/amd64", rand.IntN(v.providers), rand.IntN(v.releases), rand.IntN(v.platforms)))
					mu.Lock()
					all = append(all, took)
					if code != 200 {
						failed++
					}
					mu.Unlock()
				}
			})
		}
		group.Go(func() {
			for time.Now().Before(end) {
				heap.Store(max(heap.Load(), liveHeap()))
				time.Sleep(time.Second)
			}
		})
		group.Wait()
		slices.Sort(all)
		b.ReportMetric(float64(len(all))/length.Seconds(), "answers/s")
		b.ReportMetric(float64(failed), "failed")
		b.ReportMetric(milliseconds(all[len(all)/2]), "ms-median")
		b.ReportMetric(milliseconds(all[len(all)*99/100]), "ms-99%")
		b.ReportMetric(float64(heap.Load())/(1<<20), "MiB-heap")
		b.ReportMetric(float64(v.calls.Load())/float64(len(all)), "calls/answer")
		b.ReportMetric(0, "ns/op")
	}
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func liveHeap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// benchBurst asks for 2,000 providers at once, none of which is in memory.
func benchBurst(b *testing.B) {
	for b.Loop() {
		v := newVirtualFS(b, 2000, 1, 14, time.Millisecond)
		reg, _ := scaleRegistry(v, 0)
		var failed atomic.Int64
		var group sync.WaitGroup
		begun := time.Now()
		for i := range v.providers {
			group.Go(func() {
				if code, _ := timed(reg, fmt.Sprintf("/v1/providers/acme/p%d/versions", i)); code != 200 {
					failed.Add(1)
				}
			})
		}
		group.Wait()
		b.ReportMetric(time.Since(begun).Seconds(), "s")
		b.ReportMetric(float64(failed.Load()), "failed")
		b.ReportMetric(0, "ns/op")
	}
}

// warmUp asks for each of n providers until it is in memory.
func warmUp(reg http.Handler, n int) {
	for p := range n {
		for code := 0; code != 200; {
			code, _ = timed(reg, fmt.Sprintf("/v1/providers/acme/p%d/versions", p))
		}
	}
}

// askAll asks once a second for each of n providers in memory, for some seconds.
func askAll(b *testing.B, reg http.Handler, n, seconds int) {
	for range seconds {
		next := time.Now().Add(time.Second)
		var group sync.WaitGroup
		for p := range n {
			group.Go(func() {
				if code, _ := timed(reg, fmt.Sprintf("/v1/providers/acme/p%d/versions", p)); code != 200 {
					b.Error(code)
				}
			})
		}
		group.Wait()
		time.Sleep(time.Until(next))
	}
}

// benchLooks counts the calls of refreshes of 300 unchanged providers with
// 100 releases each.
func benchLooks(b *testing.B) {
	const seconds = 15
	for b.Loop() {
		v := newVirtualFS(b, 300, 100, 14, time.Millisecond)
		reg, _ := scaleRegistry(v, 1<<30)
		warmUp(reg, v.providers)
		askAll(b, reg, v.providers, 3)
		v.calls.Store(0)
		askAll(b, reg, v.providers, seconds)
		b.ReportMetric(float64(v.calls.Load())/seconds, "calls/s")
		b.ReportMetric(0, "ns/op")
	}
}

// benchDiskLooks measures the CPU time of refreshes of 200 unchanged providers
// with 100 releases each, on a local disk.
func benchDiskLooks(b *testing.B) {
	const providers, releases, seconds = 200, 100, 15
	dir := b.TempDir()
	for p := range providers {
		copyVirtual(b, newVirtualFS(b, providers, releases, 14, 0), dir, fmt.Sprintf("acme/p%d", p))
	}
	copyVirtual(b, newVirtualFS(b, 0, 0, 0, 0), dir, "acme")
	for b.Loop() {
		reg, _ := scaleRegistry(rootFS(b, dir), 1<<30)
		warmUp(reg, providers)
		askAll(b, reg, providers, 3)
		before := cpuTime()
		askAll(b, reg, providers, seconds)
		b.ReportMetric((cpuTime()-before).Seconds()/seconds, "cores")
		b.ReportMetric(0, "ns/op")
	}
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// copyVirtual writes what is below a directory of a virtualFS, with its times.
func copyVirtual(b *testing.B, v *virtualFS, to, below string) {
	err := fs.WalkDir(v, below, func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		at := filepath.Join(to, filepath.FromSlash(name))
		if d.IsDir() {
			return os.MkdirAll(at, 0o777)
		}
		text, err := fs.ReadFile(v, name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(at, text, 0o666); err != nil {
			return err
		}
		return os.Chtimes(at, v.modTime, v.modTime)
	})
	if err != nil {
		b.Fatal(err)
	}
}

// benchCharged compares what a backend charges for providers in memory with what
// the heap grows by.
func benchCharged(b *testing.B, fsys fs.FS, cacheBytes int64, providers int) {
	for b.Loop() {
		_, backend := scaleRegistry(fsys, cacheBytes)
		before := liveHeap()
		for p := range providers {
			if _, err := backend.Versions(b.Context(), rekisteri.Provider{Namespace: "acme", Type: fmt.Sprint("p", p)}); err != nil {
				b.Fatal(err)
			}
		}
		runtime.GC()
		grown := liveHeap() - before
		charged := rekisteri.CacheSize(backend)
		b.ReportMetric(float64(grown)/1024, "KiB-grown")
		b.ReportMetric(float64(charged)/1024, "KiB-charged")
		b.ReportMetric(float64(charged)/float64(grown), "charged/grown")
		b.ReportMetric(0, "ns/op")
		runtime.KeepAlive(backend)
	}
}

func benchChargedReleases(b *testing.B) {
	benchCharged(b, newVirtualFS(b, 10, 400, 14, 0), 1<<30, 10)
}

// documents writes n metadata documents of many versions.
func documents(b *testing.B, n, versions, platforms int) fs.FS {
	dir := b.TempDir()
	tr := make(tree)
	for i := range n {
		tr[fmt.Sprintf("acme/p%d.json", i)] = strings.ReplaceAll(largeDocument(versions, platforms), "large", fmt.Sprint("p", i))
	}
	tr.write(b, dir)
	old := time.Now().Add(-time.Hour)
	for name := range tr {
		os.Chtimes(filepath.Join(dir, filepath.FromSlash(name)), old, old)
	}
	return rootFS(b, dir)
}

func benchChargedDocuments(b *testing.B) { benchCharged(b, documents(b, 10, 400, 14), 1<<30, 10) }

// benchChargedIndexes has room for the indexes of all documents, and for few of
// the documents.
func benchChargedIndexes(b *testing.B) { benchCharged(b, documents(b, 100, 400, 4), 32<<20, 100) }

// benchCheck checks 1,000 providers with one release each.
func benchCheck(b *testing.B) {
	for b.Loop() {
		v := newVirtualFS(b, 1000, 1, 14, time.Millisecond)
		_, backend := scaleRegistry(v, 0)
		begun, n := time.Now(), 0
		for range backend.Check(b.Context(), nil) {
			n++
		}
		b.ReportMetric(time.Since(begun).Seconds(), "s")
		b.ReportMetric(float64(n), "problems")
		b.ReportMetric(0, "ns/op")
	}
}
