package tree_test

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An objectFS is a fakeFS over an object store.
type objectFS struct{ *fakeFS }

func (objectFS) URL(context.Context, string) (string, error) { return "", errors.ErrUnsupported }

// TestReadObjects tests what is read of a release in an object store.
func TestReadObjects(t *testing.T) {
	opens := []string{"open 1.0.0/" + sums, "open 1.0.0/" + signature, "open 1.0.0/" + manifest}
	slices.Sort(opens)
	all := append(slices.Clone(opens), "readdir 1.0.0")
	tests := map[string]struct {
		before func(*fakeFS) // the second read
		calls  []string      // of the second read
		proven bool          // afterwards
		sums   string
	}{
		"unchanged": {before: func(*fakeFS) {}, calls: []string{"readdir 1.0.0"}, proven: true, sums: "sums"},
		"SHA256SUMS of now": {
			before: func(f *fakeFS) { f.write("1.0.0/"+sums, "SUMS", time.Now()) },
			calls:  []string{"open 1.0.0/" + sums, "readdir 1.0.0"}, proven: true, sums: "SUMS",
		},
		"zip replaced": {
			before: func(f *fakeFS) { f.write("1.0.0/"+linuxZip, "", time.Now()) },
			calls:  []string{"readdir 1.0.0"}, proven: true, sums: "sums",
		},
		"SHA256SUMS replaced after it was listed": {
			before: func(f *fakeFS) {
				f.write("1.0.0/"+sums, "SUMS", time.Now().Add(-time.Minute))
				f.wrap = func(name string, file fs.File) fs.File {
					if !strings.HasSuffix(name, sums) {
						return file
					}
					now := fakeInfo{info(t, f.files, name), 4, time.Now()}
					return &fakeFile{File: file, stats: []any{now, now}}
				}
			},
			calls: []string{"open 1.0.0/" + sums, "readdir 1.0.0"}, sums: "SUMS",
		},
		"no answer": {
			before: func(f *fakeFS) {
				f.write("1.0.0/"+sums, "SUMS", time.Now())
				f.fail["open 1.0.0/"+sums] = syscall.ECONNRESET
			},
			calls: []string{"open 1.0.0/" + sums, "readdir 1.0.0"}, proven: true,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			f := releaseFS(t)
			f.write("1.0.0/"+linuxZip, "not a zip, and nobody looks", time.Now())
			fsys := objectFS{f}
			first, err := readRelease(fsys, nil)
			if err != nil || !first.Proven() || first.Files[linuxZip].Cut {
				t.Fatalf("%+v, %v", first, err)
			}
			if calls := f.takeCalls(); !slices.Equal(calls, all) {
				t.Errorf("first calls are %q, want %q", calls, all)
			}
			test.before(f)
			second, err := readRelease(fsys, first)
			if err != nil {
				t.Fatal(err)
			}
			if calls := f.takeCalls(); !slices.Equal(calls, test.calls) {
				t.Errorf("calls are %q, want %q", calls, test.calls)
			}
			if second.Proven() != test.proven || second.Files[sums].Content != test.sums || (second.Files[sums].Err != nil) != (test.sums == "") {
				t.Errorf("proven: %v, SHA256SUMS is %+v", second.Proven(), second.Files[sums])
			}
		})
	}
}
