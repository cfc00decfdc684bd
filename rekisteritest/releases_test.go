package rekisteritest_test

import (
	"bytes"
	"io/fs"
	"path"
	"reflect"
	"testing"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

// TestReleases tests that the tree is good, and that Contents has the same
// releases.
func TestReleases(t *testing.T) {
	b := rekisteri.NewFSBackend(rekisteritest.Releases(), nil)
	for problem := range b.Check(t.Context(), &rekisteri.CheckOptions{Hash: true}) {
		t.Error(problem)
	}
	all := rekisteritest.Contents()
	for p, err := range b.Providers(t.Context()) {
		if _, ok := all[p]; err != nil || !ok {
			t.Errorf("the tree has %v (%v), Contents does not", p, err)
		}
	}
	for p, content := range all {
		for version, want := range content.Releases {
			got, err := b.Release(t.Context(), p, version)
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%v %s: FSBackend has %+v (%v), Contents has %+v", p, version, got, err, want)
			}
			for name, want := range content.Files[version] {
				got, err := fs.ReadFile(rekisteritest.Releases(), path.Join(p.String(), version, name))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%v %s: the content of %s differs (%v)", p, version, name, err)
				}
			}
		}
	}
}

// TestReleasesSize tests that Contents has all files of the tree, and that the
// tree is small: it is a part of every program that imports the package.
func TestReleasesSize(t *testing.T) {
	files, size := 0, int64(0)
	for _, content := range rekisteritest.Contents() {
		for _, named := range content.Files {
			files += len(named)
		}
	}
	err := fs.WalkDir(rekisteritest.Releases(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		size += info.Size()
		if ext := path.Ext(name); ext != ".json" && ext != ".asc" {
			files--
		}
		return nil
	})
	if err != nil || files != 0 {
		t.Errorf("Contents has %d files more than the tree (%v)", files, err)
	}
	if size > 32<<10 {
		t.Errorf("the tree has %d bytes", size)
	}
}

// TestContentsCopies tests that the values of one call are independent of those
// of another.
func TestContentsCopies(t *testing.T) {
	want := load()
	m := load()
	link(m, true)
	for _, c := range m {
		c.Listing.Versions[0].Platforms[0].OS = "plan9"
		c.Listing.Versions[0].Protocols[0] = "4.0"
		for version, rel := range c.Releases {
			rel.Protocols[0] = "4.0"
			rel.Packages[0].SigningKeys[0].KeyID = ""
			for _, content := range c.Files[version] {
				clear(content)
			}
		}
	}
	m[acmeFooBar].Listing.Warnings[0] = ""
	if !reflect.DeepEqual(load(), want) {
		t.Error("the values of the next call have changed")
	}
}
