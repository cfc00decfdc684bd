//go:build unix

package rekisteri_test

import (
	"archive/zip"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// BenchmarkUpload publishes a release of 14 zips of 100 MB over four connections,
// beside a bare handler that writes the same bodies to files, hashes them and
// syncs them. The rounds alternate.
func BenchmarkUpload(b *testing.B) {
	const zips, size, connections, rounds = 14, 100 << 20, 4, 3
	source := b.TempDir()
	zipFile := filepath.Join(source, "zip")
	sum := writeLargeZip(b, zipFile, size)
	ratios := make([]float64, 0, rounds)
	for b.Loop() {
		for round := range rounds {
			bare := timeUpload(b, bareUpload(b.TempDir()), round, zips, connections, zipFile, sum)
			dir := b.TempDir()
			p := &publishing{t: b, dir: dir}
			keyTree().write(b, dir)
			ours := timeUpload(b, p.restart().reg, round, zips, connections, zipFile, sum)
			ratios = append(ratios, bare.Seconds()/ours.Seconds())
			b.Logf("bare %v, registry %v", bare.Round(time.Millisecond), ours.Round(time.Millisecond))
			os.RemoveAll(dir)
		}
		slices.Sort(ratios)
		b.ReportMetric(ratios[len(ratios)/2], "of-bare")
		b.ReportMetric(0, "ns/op")
	}
}

// writeLargeZip writes a zip with a provider's binary of a size, and returns its
// digest.
func writeLargeZip(b *testing.B, name string, size int64) (sum [sha256.Size]byte) {
	f, err := os.Create(name)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	w := zip.NewWriter(io.MultiWriter(f, h))
	entry, err := w.CreateHeader(&zip.FileHeader{Name: "terraform-provider-hello_v1.0.0", Method: zip.Store})
	if err == nil {
		_, err = io.CopyN(entry, zeros{}, size)
	}
	if err != nil || w.Close() != nil {
		b.Fatal(err)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// bareUpload returns a handler that does with a body what cannot be left out.
func bareUpload(dir string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		f, err := os.Create(filepath.Join(dir, path.Base(req.URL.Path)))
		if err == nil {
			h := sha256.New()
			_, err = io.Copy(io.MultiWriter(f, h), req.Body)
			h.Sum(nil)
		}
		if err == nil {
			err = f.Sync()
		}
		if err != nil || f.Close() != nil {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusCreated)
	})
}

// timeUpload uploads a release to a handler.
func timeUpload(b *testing.B, h http.Handler, round, zips, connections int, zipFile string, sum [sha256.Size]byte) time.Duration {
	srv := httptest.NewServer(h)
	defer srv.Close()
	version := fmt.Sprintf("1.0.%d", round)
	prefix := "terraform-provider-hello_" + version + "_"
	sums := ""
	names := make(chan string, zips)
	for i := range zips {
		name := fmt.Sprintf("%sos%d_amd64.zip", prefix, i)
		sums += fmt.Sprintf("%x  %s\n", sum, name)
		names <- name
	}
	close(names)
	put := func(name string, body io.Reader) {
		req, err := http.NewRequest("PUT", srv.URL+"/files/acme/hello/"+version+"/"+name, body)
		if err != nil {
			b.Error(err)
			return
		}
		req.Header.Set("Authorization", "Bearer publish")
		if f, ok := body.(*os.File); ok {
			info, _ := f.Stat()
			req.ContentLength = info.Size()
		}
		resp, err := srv.Client().Do(req)
		if err != nil {
			b.Error(err)
			return
		}
		resp.Body.Close()
		if resp.StatusCode > 299 {
			b.Errorf("%s: %s", name, resp.Status)
		}
	}
	begun := time.Now()
	var group sync.WaitGroup
	for range connections {
		group.Go(func() {
			for name := range names {
				f, err := os.Open(zipFile)
				if err != nil {
					b.Error(err)
					return
				}
				put(name, f)
			}
		})
	}
	group.Wait()
	put(prefix+"SHA256SUMS", strings.NewReader(sums))
	put(prefix+"SHA256SUMS.sig", strings.NewReader(testKey().Sign(sums, time.Time{})))
	return time.Since(begun)
}
