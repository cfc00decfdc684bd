package tree_test

import (
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rekisteri/rekisteri/internal/release"
	"github.com/rekisteri/rekisteri/internal/tree"
)

// The names of the files of a release.
const (
	sums      = "terraform-provider-foo_1.0.0_SHA256SUMS"
	signature = "terraform-provider-foo_1.0.0_SHA256SUMS.sig"
	manifest  = "terraform-provider-foo_1.0.0_manifest.json"
	linuxZip  = "terraform-provider-foo_1.0.0_linux_amd64.zip"
	darwinZip = "terraform-provider-foo_1.0.0_darwin_arm64.zip"
)

// releaseFS returns a file system with a release in the directory 1.0.0.
func releaseFS(t *testing.T) *fakeFS {
	return newFakeFS(map[string]string{
		"1.0.0/" + sums:      "sums",
		"1.0.0/" + signature: "signature",
		"1.0.0/" + manifest:  "manifest",
		"1.0.0/" + linuxZip:  zipOf(t, ""),
		"1.0.0/" + darwinZip: zipOf(t, ""),
	})
}

// readRelease reads the directory 1.0.0.
func readRelease(fsys fs.FS, prev *tree.Release) (*tree.Release, error) {
	return tree.ReadRelease(fsys, tree.NewPool(4), "1.0.0", true, prev)
}

// describe describes the files of a release, by name.
func describe(rel *tree.Release) map[string]string {
	files := make(map[string]string)
	for name, f := range rel.Files {
		_, stamped := rel.Stamps[name]
		switch {
		case f.Err != nil && stamped:
			files[name] = "stamped error"
		case f.Err != nil:
			files[name] = "error: " + f.Err.Error()
		case !stamped:
			files[name] = "without a stamp"
		case release.IsZip(name) && f.Cut:
			files[name] = "cut"
		case release.IsZip(name):
			files[name] = "whole"
		default:
			files[name] = f.Content
		}
	}
	return files
}

func TestReadRelease(t *testing.T) {
	whole := map[string]string{
		sums: "sums", signature: "signature", manifest: "manifest", linuxZip: "whole", darwinZip: "whole",
	}
	hour := time.Now().Add(-time.Hour)
	tests := map[string]struct {
		edit     func(*fakeFS)
		change   map[string]string // of whole; empty: the file is not there
		vanished bool
	}{
		"whole": {},
		"other files": {edit: func(f *fakeFS) {
			f.write("1.0.0/README.md", "text", hour)
			f.write("1.0.0/.terraform-provider-foo_1.0.0_SHA256SUMS.swp", "text", hour)
			f.write("1.0.0/metadata.json", "{}", hour)
			f.fail["open 1.0.0/README.md"] = errors.New("opened")
		}},
		"manifest of the repository": {
			edit:   func(f *fakeFS) { f.write("1.0.0/"+release.Manifest, "other", hour) },
			change: map[string]string{release.Manifest: "other"},
		},
		"sums of another project": {
			edit:   func(f *fakeFS) { f.write("1.0.0/random_1.0.0_SHA256SUMS", "other", hour) },
			change: map[string]string{"random_1.0.0_SHA256SUMS": "other"},
		},
		"zip that is half copied": {
			edit: func(f *fakeFS) {
				zip := zipOf(t, "")
				f.write("1.0.0/"+linuxZip, zip[:len(zip)-1], hour)
			},
			change: map[string]string{linuxZip: "cut"},
		},
		"empty files": {
			edit: func(f *fakeFS) {
				f.write("1.0.0/"+linuxZip, "", hour)
				f.write("1.0.0/"+sums, "", hour)
			},
			change: map[string]string{linuxZip: "cut", sums: ""},
		},
		"large file": {
			edit: func(f *fakeFS) {
				f.write("1.0.0/"+manifest, strings.Repeat(" ", tree.MaxSmallFile+1), hour)
			},
			change: map[string]string{manifest: "error: it is larger than 4 MiB"},
		},
		"link": {
			edit: func(f *fakeFS) {
				f.write("store/zip", zipOf(t, ""), hour)
				f.link("1.0.0/"+linuxZip, "../store/zip")
			},
		},
		"link to a directory": {
			edit: func(f *fakeFS) {
				f.write("store/zip", "", hour)
				f.link("1.0.0/"+linuxZip, "../store")
			},
			change: map[string]string{linuxZip: gone},
		},
		"link to nothing": {
			edit:   func(f *fakeFS) { f.link("1.0.0/"+linuxZip, "nothing") },
			change: map[string]string{linuxZip: gone}, vanished: true,
		},
		"directory": {
			edit: func(f *fakeFS) {
				delete(f.files, "1.0.0/"+linuxZip)
				f.write("1.0.0/"+linuxZip+"/x", "", hour)
			},
			change: map[string]string{linuxZip: gone},
		},
		"pipe": {
			edit: func(f *fakeFS) {
				f.files["1.0.0/"+linuxZip] = &fstest.MapFile{Mode: fs.ModeNamedPipe | 0o644}
				f.fail["open 1.0.0/"+linuxZip] = errors.New("opened")
			},
			change: map[string]string{linuxZip: gone},
		},
		"link to a pipe": {
			edit: func(f *fakeFS) {
				f.files["pipe"] = &fstest.MapFile{Mode: fs.ModeNamedPipe | 0o644}
				f.link("1.0.0/"+linuxZip, "../pipe")
				f.fail["open 1.0.0/"+linuxZip] = errors.New("opened")
			},
			change: map[string]string{linuxZip: gone},
		},
		"files that vanish": {
			edit: func(f *fakeFS) {
				f.fail["open 1.0.0/"+linuxZip] = fs.ErrNotExist
				f.fail["open 1.0.0/"+sums] = fs.ErrNotExist
			},
			change: map[string]string{linuxZip: gone, sums: gone}, vanished: true,
		},
		"files that cannot be opened": {
			edit: func(f *fakeFS) {
				f.fail["open 1.0.0/"+linuxZip] = fs.ErrPermission
				f.fail["open 1.0.0/"+sums] = syscall.EIO
			},
			change: map[string]string{
				linuxZip: "error: open 1.0.0/" + linuxZip + ": permission denied",
				sums:     "error: open 1.0.0/" + sums + ": " + syscall.EIO.Error(),
			},
		},
		"zip without seeking": {
			edit: func(f *fakeFS) {
				f.wrap = func(name string, file fs.File) fs.File {
					if name == "1.0.0/"+linuxZip {
						return &fakeFile{File: file}
					}
					return file
				}
			},
			change: map[string]string{linuxZip: "error: the file system does not support seeking: its files need Seek and ReadAt"},
		},
		"zip that cannot be read": {
			edit: func(f *fakeFS) {
				f.wrap = func(name string, file fs.File) fs.File {
					if name == "1.0.0/"+linuxZip {
						return seekingFile{file}
					}
					return file
				}
			},
			change: map[string]string{linuxZip: "error: " + errors.ErrUnsupported.Error()},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			fsys := releaseFS(t)
			if test.edit != nil {
				test.edit(fsys)
			}
			want := maps.Clone(whole)
			for name, file := range test.change {
				if want[name] = file; file == gone {
					delete(want, name)
				}
			}
			rel, err := readRelease(fsys, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := describe(rel); !maps.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			if rel.Vanished != test.vanished {
				t.Errorf("Vanished is %t, want %t", rel.Vanished, test.vanished)
			}
		})
	}
}

// gone is what a test wants of a file that is not there.
const gone = "-"

func TestReadReleaseBadLink(t *testing.T) {
	fsys := openRoot(t, diskTree(t, map[string]string{"1.0.0/" + sums: "sums"}, map[string]string{"1.0.0/" + linuxZip: "../../zip"}))
	rel, err := readRelease(fsys, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{sums: "sums", linuxZip: "error: the link 1.0.0/" + linuxZip + " leads out of the tree"}
	if got := describe(rel); !maps.Equal(got, want) || rel.Vanished {
		t.Errorf("got %q, vanished %t, want %q", got, rel.Vanished, want)
	}
}

func TestReadReleaseErrors(t *testing.T) {
	tests := map[string]struct {
		dir    string
		isDir  bool
		edit   func(*fakeFS)
		absent bool
	}{
		"missing":        {dir: "2.0.0", absent: true},
		"vanished":       {dir: "2.0.0", isDir: true, absent: true},
		"file":           {dir: "1.0.0/" + sums, absent: true},
		"cannot be read": {dir: "1.0.0", isDir: true, edit: func(f *fakeFS) { f.fail["readdir 1.0.0"] = syscall.EIO }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			fsys := releaseFS(t)
			if test.edit != nil {
				test.edit(fsys)
			}
			rel, err := tree.ReadRelease(fsys, tree.NewPool(4), test.dir, test.isDir, nil)
			if rel != nil || err == nil || errors.Is(err, fs.ErrNotExist) != test.absent {
				t.Errorf("got %v, %v, want an error that matches ErrNotExist: %t", rel, err, test.absent)
			}
		})
	}
}

// TestReadReleaseAgain tests which files are read again, and which are taken
// from the previous result.
func TestReadReleaseAgain(t *testing.T) {
	hour := time.Now().Add(-time.Hour)
	tests := map[string]struct {
		before func(*fakeFS)
		edit   func(*fakeFS)
		opened []string // again
		change map[string]string
		same   bool
	}{
		"nothing changed": {same: true},
		"another size": {
			edit:   func(f *fakeFS) { f.write("1.0.0/"+sums, "other sums", f.files["1.0.0/"+sums].ModTime) },
			opened: []string{sums}, change: map[string]string{sums: "other sums"},
		},
		"another time": {
			edit:   func(f *fakeFS) { f.write("1.0.0/"+sums, "SUMS", hour.Add(time.Minute)) },
			opened: []string{sums}, change: map[string]string{sums: "SUMS"},
		},
		"zip that is completed": {
			before: func(f *fakeFS) { f.write("1.0.0/"+linuxZip, zipOf(t, "")[:50], hour) },
			edit:   func(f *fakeFS) { f.write("1.0.0/"+linuxZip, zipOf(t, ""), hour) },
			opened: []string{linuxZip},
		},
		"young files": {
			before: func(f *fakeFS) {
				f.write("1.0.0/"+linuxZip, zipOf(t, ""), time.Now())
				f.write("1.0.0/"+sums, "sums", time.Now().Add(time.Hour))
			},
			opened: []string{linuxZip, sums}, same: true,
		},
		"files without times": {
			before: func(f *fakeFS) { f.write("1.0.0/"+sums, "sums", time.Time{}) },
			opened: []string{sums}, same: true,
		},
		"file that could not be read": {
			before: func(f *fakeFS) { f.fail["open 1.0.0/"+sums] = syscall.EIO },
			edit:   func(f *fakeFS) { clear(f.fail) },
			opened: []string{sums},
		},
		"file that cannot be examined": {
			edit:   func(f *fakeFS) { f.fail["stat 1.0.0/"+sums] = syscall.EIO },
			change: map[string]string{sums: "error: stat 1.0.0/" + sums + ": " + syscall.EIO.Error()},
		},
		"new file": {
			before: func(f *fakeFS) { delete(f.files, "1.0.0/"+manifest) },
			edit:   func(f *fakeFS) { f.write("1.0.0/"+manifest, "manifest", hour) },
			opened: []string{manifest},
		},
		"deleted file": {
			edit:   func(f *fakeFS) { delete(f.files, "1.0.0/"+manifest) },
			change: map[string]string{manifest: gone},
		},
		"file that becomes a directory": {
			edit: func(f *fakeFS) {
				delete(f.files, "1.0.0/"+manifest)
				f.write("1.0.0/"+manifest+"/x", "", hour)
			},
			change: map[string]string{manifest: gone},
		},
		"unchanged link": {
			before: func(f *fakeFS) {
				f.write("store", "sums", hour)
				f.link("1.0.0/"+sums, "../store")
			},
			same: true,
		},
		"link to another file": {
			before: func(f *fakeFS) {
				f.write("store", "old sums", hour)
				f.link("1.0.0/"+sums, "../store")
			},
			edit: func(f *fakeFS) {
				f.write("new", "sums", hour)
				f.link("1.0.0/"+sums, "../new")
			},
			opened: []string{sums},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			fsys := releaseFS(t)
			if test.before != nil {
				test.before(fsys)
			}
			before, err := readRelease(fsys, nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.edit != nil {
				test.edit(fsys)
			}
			fsys.takeCalls()
			after, err := readRelease(fsys, before)
			if err != nil {
				t.Fatal(err)
			}
			var opened []string
			for _, call := range fsys.takeCalls() {
				if name, ok := strings.CutPrefix(call, "open 1.0.0/"); ok {
					opened = append(opened, name)
				}
			}
			if want := slices.Sorted(slices.Values(test.opened)); !slices.Equal(opened, want) {
				t.Errorf("opened %q again, want %q", opened, want)
			}
			want := map[string]string{sums: "sums", signature: "signature", manifest: "manifest", linuxZip: "whole", darwinZip: "whole"}
			for name, file := range test.change {
				if want[name] = file; file == gone {
					delete(want, name)
				}
			}
			if got := describe(after); !maps.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			if got := before.Same(after); got != test.same {
				t.Errorf("Same is %t, want %t", got, test.same)
			}
		})
	}
}

func TestReleaseSame(t *testing.T) {
	stamp := tree.Stamp{Size: 4, ModTime: 1}
	newRelease := func() *tree.Release {
		return &tree.Release{
			Files: map[string]*release.File{
				sums:     {Size: 4, Content: "sums"},
				linuxZip: {Size: 100},
				manifest: {Err: syscall.EIO},
			},
			Stamps: map[string]tree.Stamp{sums: stamp, linuxZip: {Size: 100, ModTime: 1}},
		}
	}
	tests := map[string]struct {
		edit func(*tree.Release)
		want bool
	}{
		"equal":           {edit: func(*tree.Release) {}, want: true},
		"youth":           {edit: func(r *tree.Release) { r.Stamps[sums] = tree.Stamp{Size: 4, ModTime: 1, Young: true} }, want: true},
		"another error":   {edit: func(r *tree.Release) { r.Files[manifest].Err = syscall.EACCES }, want: true},
		"another time":    {edit: func(r *tree.Release) { r.Stamps[sums] = tree.Stamp{Size: 4, ModTime: 2} }},
		"another content": {edit: func(r *tree.Release) { r.Files[sums].Content = "SUMS" }},
		"another size":    {edit: func(r *tree.Release) { r.Files[linuxZip].Size = 101 }},
		"cut zip":         {edit: func(r *tree.Release) { r.Files[linuxZip].Cut = true }},
		"no error":        {edit: func(r *tree.Release) { r.Files[manifest].Err = nil }},
		"new error":       {edit: func(r *tree.Release) { r.Files[sums].Err = syscall.EIO }},
		"missing file":    {edit: func(r *tree.Release) { delete(r.Files, manifest) }},
		"missing stamp":   {edit: func(r *tree.Release) { delete(r.Stamps, sums) }},
		"extra file":      {edit: func(r *tree.Release) { r.Files[signature] = &release.File{Err: syscall.EIO} }},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r, o := newRelease(), newRelease()
			test.edit(o)
			if r.Same(o) != test.want || o.Same(r) != test.want {
				t.Errorf("Same is %t and %t, want %t", r.Same(o), o.Same(r), test.want)
			}
		})
	}
}
