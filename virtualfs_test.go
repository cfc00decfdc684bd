package rekisteri_test

import (
	"crypto/sha256"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A virtualFS is a large tree that exists only while it is read: providers
// acme/p0, acme/p1, ... with the releases 1.0.0, 1.1.0, ... for the platforms
// os0_amd64, os1_amd64, .... It counts the calls that a file system over a
// network would have to make, and each of them takes a while.
type virtualFS struct {
	providers, releases, platforms int
	latency                        time.Duration
	calls                          atomic.Int64

	zip, signature, key string
	zipSum              [sha256.Size]byte
	modTime             time.Time
}

func newVirtualFS(t testing.TB, providers, releases, platforms int, latency time.Duration) *virtualFS {
	const release = "demo/hello/1.0.0/terraform-provider-hello_1.0.0_"
	zip := sampleFile(t, release+"linux_amd64.zip")
	return &virtualFS{
		providers: providers, releases: releases, platforms: platforms, latency: latency,
		zip: zip, zipSum: sha256.Sum256([]byte(zip)), signature: sampleFile(t, release+"SHA256SUMS.sig"), key: sampleFile(t, "demo/demo.asc"),
		modTime: time.Now().Add(-time.Hour),
	}
}

func (v *virtualFS) call() {
	v.calls.Add(1)
	if v.latency > 0 {
		time.Sleep(v.latency)
	}
}

// A virtualFile is a file or a directory of a virtualFS.
type virtualFile struct {
	fs    *virtualFS
	name  string
	text  string
	isDir bool
	list  func() []*virtualFile // of a directory
}

func (f *virtualFile) Name() string               { return f.name }
func (f *virtualFile) Size() int64                { return int64(len(f.text)) }
func (f *virtualFile) ModTime() time.Time         { return f.fs.modTime }
func (f *virtualFile) IsDir() bool                { return f.isDir }
func (f *virtualFile) Sys() any                   { return nil }
func (f *virtualFile) Type() fs.FileMode          { return f.Mode().Type() }
func (f *virtualFile) Info() (fs.FileInfo, error) { f.fs.call(); return f, nil }
func (f *virtualFile) Mode() fs.FileMode {
	if f.isDir {
		return fs.ModeDir | 0o755
	}
	return 0o644
}

// number returns the number in a name between a prefix and a suffix, or -1 if it
// is not less than n.
func number(name, prefix, suffix string, n int) int {
	name, hasPrefix := strings.CutPrefix(name, prefix)
	name, hasSuffix := strings.CutSuffix(name, suffix)
	i, err := strconv.Atoi(name)
	if !hasPrefix || !hasSuffix || err != nil || i < 0 || i >= n {
		return -1
	}
	return i
}

// find returns the file or directory of a name, or nil.
func (v *virtualFS) find(name string) *virtualFile {
	dir := func(list func() []*virtualFile) *virtualFile {
		return &virtualFile{fs: v, name: path.Base(name), isDir: true, list: list}
	}
	numbered := func(n int, format string) (all []*virtualFile) {
		for i := range n {
			all = append(all, &virtualFile{fs: v, name: fmt.Sprintf(format, i), isDir: true})
		}
		return all
	}
	parts := strings.Split(name, "/")
	key := &virtualFile{fs: v, name: "key.asc", text: v.key}
	switch {
	case name == ".":
		return dir(func() []*virtualFile { return []*virtualFile{{fs: v, name: "acme", isDir: true}} })
	case parts[0] != "acme":
		return nil
	case len(parts) == 1:
		return dir(func() []*virtualFile { return append(numbered(v.providers, "p%d"), key) })
	case name == "acme/key.asc":
		return key
	case number(parts[1], "p", "", v.providers) < 0:
		return nil
	case len(parts) == 2:
		return dir(func() []*virtualFile { return numbered(v.releases, "1.%d.0") })
	case number(parts[2], "1.", ".0", v.releases) < 0:
		return nil
	}
	prefix := "terraform-provider-" + parts[1] + "_" + parts[2] + "_"
	if len(parts) == 3 {
		return dir(func() []*virtualFile { return v.release(prefix) })
	}
	if number(parts[3], prefix+"os", "_amd64.zip", v.platforms) >= 0 {
		return &virtualFile{fs: v, name: parts[3], text: v.zip}
	}
	for _, f := range v.release(prefix) {
		if f.name == parts[3] {
			return f
		}
	}
	return nil
}

// release returns the files of a release, whose names begin with prefix.
func (v *virtualFS) release(prefix string) []*virtualFile {
	var sums strings.Builder
	var files []*virtualFile
	for i := range v.platforms {
		name := fmt.Sprintf("%sos%d_amd64.zip", prefix, i)
		fmt.Fprintf(&sums, "%x  %s\n", v.zipSum, name)
		files = append(files, &virtualFile{fs: v, name: name, text: v.zip})
	}
	return append(files, &virtualFile{fs: v, name: prefix + "SHA256SUMS", text: sums.String()}, &virtualFile{fs: v, name: prefix + "SHA256SUMS.sig", text: v.signature})
}

func (v *virtualFS) Stat(name string) (fs.FileInfo, error) {
	v.call()
	if f := v.find(name); f != nil {
		return f, nil
	}
	return nil, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
}

func (v *virtualFS) ReadDir(name string) ([]fs.DirEntry, error) {
	v.call()
	f := v.find(name)
	if f == nil || !f.isDir {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: fs.ErrNotExist}
	}
	var entries []fs.DirEntry
	for _, entry := range f.list() {
		entries = append(entries, entry)
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

func (v *virtualFS) Open(name string) (fs.File, error) {
	v.call()
	f := v.find(name)
	if f == nil || f.isDir {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &openVirtualFile{strings.NewReader(f.text), f}, nil
}

// An openVirtualFile has its attributes from when it was opened, as over NFS.
type openVirtualFile struct {
	*strings.Reader
	file *virtualFile
}

func (f *openVirtualFile) Stat() (fs.FileInfo, error) { return f.file, nil }
func (f *openVirtualFile) Close() error               { return nil }
func (f *openVirtualFile) Read(b []byte) (int, error) { f.file.fs.call(); return f.Reader.Read(b) }
func (f *openVirtualFile) ReadAt(b []byte, at int64) (int, error) {
	f.file.fs.call()
	return f.Reader.ReadAt(b, at)
}
