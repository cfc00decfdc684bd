package rekisteri_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rekisteri/rekisteri"
)

// docs/performance.md says how to run the benchmarks, and what they showed.

// largeDocument returns a metadata document as one of the largest providers of
// the public registry has it.
func largeDocument(releases, platforms int) string {
	var doc strings.Builder
	doc.WriteString(`{"signing_keys":{"gpg_public_keys":[]},"versions":[`)
	for i := range releases {
		if i > 0 {
			doc.WriteByte(',')
		}
		version := benchVersion(i)
		base := "https://downloads.acme.example/" + version + "/large_" + version
		fmt.Fprintf(&doc, `{"version":%q,"protocols":["5.0"],"shasums_url":"%s_SHA256SUMS","shasums_signature_url":"%s_SHA256SUMS.sig","platforms":[`, version, base, base)
		for j := range platforms {
			if j > 0 {
				doc.WriteByte(',')
			}
			on := benchPlatform(j)
			fmt.Fprintf(&doc, `{"os":%q,"arch":%q,"filename":"large_%s_%s_%s.zip","download_url":"%s_%s_%s.zip","shasum":"%064x"}`,
				on.OS, on.Arch, version, on.OS, on.Arch, base, on.OS, on.Arch, i*100+j)
		}
		doc.WriteString("]}")
	}
	doc.WriteString("]}")
	return doc.String()
}

func benchVersion(i int) string { return fmt.Sprintf("%d.%d.%d", i/100, i/10%10, i%10) }

func benchPlatform(i int) rekisteri.Platform {
	return rekisteri.Platform{
		OS:   [...]string{"darwin", "freebsd", "linux", "windows"}[i%4],
		Arch: [...]string{"386", "amd64", "arm", "arm64"}[i/4],
	}
}

// A nowhere is a ResponseWriter without a connection.
type nowhere struct {
	header http.Header
	code   int
	n      int
}

func (w *nowhere) Header() http.Header         { return w.header }
func (w *nowhere) WriteHeader(code int)        { w.code = code }
func (w *nowhere) Write(b []byte) (int, error) { w.n += len(b); return len(b), nil }

// floorOf returns a handler that answers every request as h answers the first:
// what no handler can do with less.
func floorOf(h http.Handler, req *http.Request) http.Handler {
	rec := &recording{nowhere: nowhere{header: make(http.Header), code: 200}}
	h.ServeHTTP(rec, req)
	type header struct {
		key    string
		values []string
	}
	var headers []header
	for key, values := range rec.header {
		headers = append(headers, header{key, values})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		h := w.Header()
		for i := range headers {
			h[headers[i].key] = headers[i].values
		}
		w.WriteHeader(rec.code)
		w.Write(rec.body)
	})
}

type recording struct {
	nowhere
	body []byte
}

func (w *recording) Write(b []byte) (int, error) { w.body = append(w.body, b...); return len(b), nil }

// A route is what the benchmarks ask for.
type route struct {
	name, target string
	handler      http.Handler
}

func routes(b testing.TB) []route {
	silent := slog.New(slog.DiscardHandler)
	fsys := fstest.MapFS{
		"acme/small.json": file(strings.ReplaceAll(largeDocument(20, 14), "large", "small")),
		"acme/large.json": file(largeDocument(425, 14)),
	}
	for name, f := range newTree(b, "1.0.0").mapFS() {
		fsys[name] = f
	}
	for _, f := range fsys {
		f.ModTime = time.Now().Add(-time.Hour)
	}
	backend := rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{Logger: silent})
	reg := rekisteri.New(backend, &rekisteri.Options{Logger: silent})
	private := rekisteri.New(backend, &rekisteri.Options{Logger: silent, LinkKeys: [][32]byte{linkKey(1)}})
	const plain = "/v1/providers/acme/large/1.0.0/download/linux/amd64"
	return []route{
		{"discovery", "/.well-known/terraform.json", reg},
		{"versions of 20", "/v1/providers/acme/small/versions", reg},
		{"versions of 425", "/v1/providers/acme/large/versions", reg},
		{"versions below a prefix", "/tf/v1/providers/acme/large/versions", http.StripPrefix("/tf", reg)},
		{"download", plain, reg},
		{"download with links", download100, private},
		{"not found", "/v1/providers/acme/nothing/versions", reg},
	}
}

func (r route) request() *http.Request {
	req, err := http.NewRequest("GET", r.target, nil)
	if err != nil {
		panic(err)
	}
	req.Header.Set("Accept-Encoding", "gzip")
	return req
}

// BenchmarkInProcess compares each route with a bare handler that writes the
// same.
func BenchmarkInProcess(b *testing.B) {
	for _, r := range routes(b) {
		req := r.request()
		for _, h := range []struct {
			name    string
			handler http.Handler
		}{{"floor", floorOf(r.handler, req)}, {"registry", r.handler}} {
			b.Run(strings.ReplaceAll(r.name, " ", "-")+"/"+h.name, func(b *testing.B) {
				b.ReportAllocs()
				w := &nowhere{header: make(http.Header)}
				for b.Loop() {
					clear(w.header)
					h.handler.ServeHTTP(w, req)
				}
			})
		}
	}
}

// BenchmarkFirstDownload makes documents with signed links, each for the first
// time: there are many times as many packages as pages are held.
func BenchmarkFirstDownload(b *testing.B) {
	const releases = 400
	tr := newTree(b)
	var requests []*http.Request
	for i := range releases {
		var platforms []string
		for j := range 14 {
			on := benchPlatform(j)
			platforms = append(platforms, on.String())
			requests = append(requests, route{target: fmt.Sprintf("/v1/providers/acme/hello/%s/download/%s/%s", benchVersion(i), on.OS, on.Arch)}.request())
		}
		tr.addRelease(b, "acme/hello/"+benchVersion(i), benchVersion(i), platforms...)
	}
	fsys := tr.mapFS()
	for _, f := range fsys {
		f.ModTime = time.Now().Add(-time.Hour)
	}
	silent := slog.New(slog.DiscardHandler)
	reg := rekisteri.New(rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{Logger: silent}),
		&rekisteri.Options{Logger: silent, LinkKeys: [][32]byte{linkKey(1)}, PageBytes: 1 << 20})
	w := &nowhere{header: make(http.Header)}
	reg.ServeHTTP(w, requests[0]) // the provider is held then
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		clear(w.header)
		reg.ServeHTTP(w, requests[i%len(requests)])
		if w.code != http.StatusOK {
			b.Fatal(w.code)
		}
	}
}

// BenchmarkCold answers the first request for a large provider.
func BenchmarkCold(b *testing.B) {
	silent := slog.New(slog.DiscardHandler)
	ask := func(b *testing.B, fsys fs.FS, target string) {
		reg := rekisteri.New(rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{Logger: silent}), &rekisteri.Options{Logger: silent})
		w := &nowhere{header: make(http.Header)}
		reg.ServeHTTP(w, route{target: target}.request())
		if w.code != 200 {
			b.Fatal(w.code)
		}
	}
	b.Run("document", func(b *testing.B) {
		dir := b.TempDir()
		tree{"acme/large.json": largeDocument(425, 14)}.write(b, dir)
		fsys := rootFS(b, dir)
		for b.Loop() {
			ask(b, fsys, "/v1/providers/acme/large/versions")
		}
	})
	b.Run("document-decoded", func(b *testing.B) { // as encoding/json alone would
		text := []byte(largeDocument(425, 14))
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			var doc struct {
				Versions []struct {
					Version             string
					Protocols           []string
					SHASumsURL          string `json:"shasums_url"`
					SHASumsSignatureURL string `json:"shasums_signature_url"`
					Platforms           []struct {
						OS, Arch, Filename, SHASum string
						DownloadURL                string `json:"download_url"`
					}
				}
			}
			if err := json.Unmarshal(text, &doc); err != nil {
				b.Fatal(err)
			}
		}
	})
	dir := b.TempDir()
	writeReleases(b, dir, 400)
	fsys := rootFS(b, dir)
	b.Run("releases", func(b *testing.B) {
		for b.Loop() {
			ask(b, fsys, "/v1/providers/acme/hello/versions")
		}
	})
	b.Run("releases-unchanged", func(b *testing.B) {
		backend := rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{Logger: silent})
		if _, err := backend.Versions(context.Background(), acmeHello); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			if err := rekisteri.Refresh(backend, acmeHello); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// writeReleases writes releases of 14 platforms below a directory.
func writeReleases(b testing.TB, dir string, n int) {
	tr := newTree(b)
	var platforms []string
	for i := range 14 {
		platforms = append(platforms, fmt.Sprintf("os%d_amd64", i))
	}
	for i := range n {
		tr.addRelease(b, fmt.Sprintf("acme/hello/1.%d.0", i), fmt.Sprintf("1.%d.0", i), platforms...)
	}
	tr.write(b, dir)
	old := time.Now().Add(-time.Hour)
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(path, old, old)
	})
	if err != nil {
		b.Fatal(err)
	}
}
