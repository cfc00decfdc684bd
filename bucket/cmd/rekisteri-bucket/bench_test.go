package main

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gocloud.dev/blob"

	"github.com/rekisteri/rekisteri/bucket/internal/storetest"
	"github.com/rekisteri/rekisteri/internal/loadtest"
	"github.com/rekisteri/rekisteri/internal/server/servertest"
)

// build builds a command, and returns its path.
func build(b *testing.B, pkg string) string {
	b.Helper()
	bin := filepath.Join(b.TempDir(), "command")
	buildCommand(b, bin, pkg)
	return bin
}

// benchPlatforms are those of a large provider.
func benchPlatforms(n int) (all []string) {
	for i := range n {
		all = append(all, [...]string{"darwin", "freebsd", "linux", "windows"}[i%4]+"_"+[...]string{"386", "amd64", "arm", "arm64"}[i/4])
	}
	return all
}

// fillReleases writes releases of acme/foo, with small zips, to a bucket and to a
// directory.
func fillReleases(b *testing.B, bucket *blob.Bucket, dir string, releases, platforms int) {
	b.Helper()
	write := func(name, content string) {
		put(b, bucket, name, content)
		if dir != "" {
			servertest.WriteFile(b, filepath.Join(dir, filepath.FromSlash(name)), content)
		}
	}
	write("acme/acme.asc", testKey().Armor())
	versions := make(chan string, releases)
	for i := range releases {
		versions <- fmt.Sprintf("%d.%d.%d", i/100, i/10%10, i%10)
	}
	close(versions)
	each(16, func(int) {
		for version := range versions {
			files := make(release)
			for _, platform := range benchPlatforms(platforms) {
				var zip strings.Builder
				writeZip(b, &zip, "foo", version, strings.NewReader(platform))
				files[zipName("foo", version, platform)] = zip.String()
			}
			files.sign("foo", version)
			for name, content := range files {
				write("acme/foo/"+version+"/"+name, content)
			}
		}
	})
}

// BenchmarkCommand compares this command over an S3 server with the command
// rekisteri over a directory with the same files. Both are as they are shipped,
// each in a process of its own. The latter is measured twice in each round: its
// two rates differ by noise.
func BenchmarkCommand(b *testing.B) {
	const conns = 32
	s := storetest.S3(b)
	name, dir := s.NewBucket(b), b.TempDir()
	fillReleases(b, openBucket(b, s, name), dir, 650, 14)
	directory := startCommand(b, build(b, "github.com/rekisteri/rekisteri/cmd/rekisteri"), nil, "-dir", dir)
	bucket := startCommand(b, build(b, "."), s.Env, "-bucket", s.URL(name, s.Addr))
	addr := func(r *replica) string { return strings.TrimPrefix(r.url, "http://") }
	base, again, ours := loadtest.Dial(b, addr(directory), conns), loadtest.Dial(b, addr(directory), conns), loadtest.Dial(b, addr(bucket), conns)
	for _, r := range []struct{ name, path string }{
		{name: "versions of 650", path: "/v1/providers/acme/foo/versions"},
		{name: "download", path: "/v1/providers/acme/foo/6.2.0/download/linux/amd64"},
	} {
		b.Run(r.name, func(b *testing.B) {
			for b.Loop() {
				loadtest.Compare(b, loadtest.Request{Status: "200", Paths: []string{r.path}}, base, again, ours)
			}
			b.ReportMetric(loadtest.Median(ours.Rates), "requests/s")
			b.ReportMetric(loadtest.Ratio(ours, base), "of-directory")
			b.ReportMetric(loadtest.Ratio(again, base), "directory-of-directory")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkCold measures the first answer about a provider with 400 releases of
// 14 zips, each request to the object store taking 10 ms.
func BenchmarkCold(b *testing.B) {
	s := storetest.S3(b)
	name := s.NewBucket(b)
	fillReleases(b, openBucket(b, s, name), "", 400, 14)
	p := storetest.NewProxy(b, s.Addr)
	p.Delay(10 * time.Millisecond)
	bin := build(b, ".")
	var versions, download time.Duration
	for b.Loop() {
		for _, request := range []struct {
			path string
			took *time.Duration
		}{
			{path: "/v1/providers/acme/foo/versions", took: &versions},
			{path: "/v1/providers/acme/foo/3.2.0/download/linux/amd64", took: &download},
		} {
			r := startCommand(b, bin, s.Env, "-bucket", s.URL(name, p.Addr))
			begun := time.Now()
			if a, err := ask(b, "GET", r.url+request.path, "", nil); err != nil || a.status != 200 {
				b.Fatal(a, err)
			}
			*request.took += time.Since(begun)
			r.kill()
		}
	}
	b.ReportMetric(float64(versions.Milliseconds())/float64(b.N), "ms/versions")
	b.ReportMetric(float64(download.Milliseconds())/float64(b.N), "ms/download")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkRequests asks for each of some providers every second, and reports
// how many requests a registry makes in an hour of that.
func BenchmarkRequests(b *testing.B) {
	const length = time.Minute
	for _, providers := range []int{1, 10, 100} {
		b.Run(fmt.Sprint("providers=", providers), func(b *testing.B) {
			s := storetest.S3(b)
			name := s.NewBucket(b)
			bucket := openBucket(b, s, name)
			put(b, bucket, "acme/acme.asc", testKey().Armor())
			for i := range providers {
				for file, content := range newRelease(b, fmt.Sprint("p", i), "1.0.0", "first") {
					put(b, bucket, fmt.Sprintf("acme/p%d/1.0.0/%s", i, file), content)
				}
			}
			p := storetest.NewProxy(b, s.Addr)
			r := startCommand(b, build(b, "."), s.Env, "-bucket", s.URL(name, p.Addr))
			round := func() {
				for i := range providers {
					if a, err := ask(b, "GET", fmt.Sprintf("%s/v1/providers/acme/p%d/versions", r.url, i), "", nil); err != nil || a.status != 200 {
						b.Fatal(a, err)
					}
				}
			}
			round()
			var lists, others float64
			for b.Loop() {
				p.Requests()
				tick := time.NewTicker(time.Second)
				for begun := time.Now(); time.Since(begun) < length; <-tick.C {
					round()
				}
				for _, r := range p.Requests() {
					if r.Kind == "LIST" {
						lists++
					} else {
						others++
					}
				}
			}
			hours := length.Hours() * float64(b.N)
			b.ReportMetric(lists/hours, "LIST/h")
			b.ReportMetric(others/hours, "other-requests/h")
			b.ReportMetric(0, "ns/op")
		})
	}
}
