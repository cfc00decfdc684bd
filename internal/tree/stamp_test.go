package tree_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rekisteri/rekisteri/internal/tree"
)

// at returns the FileInfo of a file.
func at(t *testing.T, size int64, modTime time.Time) fs.FileInfo {
	t.Helper()
	fsys := fstest.MapFS{"file": {}}
	return fakeInfo{info(t, fsys, "file"), size, modTime}
}

func TestStamp(t *testing.T) {
	modified := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	tests := map[string]struct {
		modified time.Time // when the file was read
		read     time.Time
		size     int64 // of the file later; it was 5
		later    time.Time
		young    bool
		matches  bool
		proves   bool
	}{
		"old": {
			modified: modified, read: modified.Add(time.Hour),
			size: 5, later: modified, matches: true, proves: true,
		},
		"just old enough": {
			modified: modified, read: modified.Add(2*time.Second + 1),
			size: 5, later: modified, matches: true, proves: true,
		},
		"young": {
			modified: modified, read: modified.Add(2 * time.Second),
			size: 5, later: modified, young: true, matches: true,
		},
		"from the future": {
			modified: modified, read: modified.Add(-time.Hour),
			size: 5, later: modified, young: true, matches: true,
		},
		"without times": {
			read: modified,
			size: 5, matches: true,
		},
		"other size": {
			modified: modified, read: modified.Add(time.Hour),
			size: 6, later: modified,
		},
		"later time": {
			modified: modified, read: modified.Add(time.Hour),
			size: 5, later: modified.Add(1),
		},
		"earlier time": {
			modified: modified, read: modified.Add(time.Hour),
			size: 5, later: modified.Add(-time.Hour),
		},
		"same time in another zone": {
			modified: modified, read: modified.Add(time.Hour),
			size: 5, later: modified.In(time.FixedZone("", 3600)), matches: true, proves: true,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			stamp := tree.StampOf(at(t, 5, test.modified), test.read)
			later := at(t, test.size, test.later)
			if stamp.Young != test.young {
				t.Errorf("Young is %t, want %t", stamp.Young, test.young)
			}
			if got := stamp.Matches(later); got != test.matches {
				t.Errorf("Matches is %t, want %t", got, test.matches)
			}
			if got := stamp.Proves(later); got != test.proves {
				t.Errorf("Proves is %t, want %t", got, test.proves)
			}
			if got := tree.VersionOf(at(t, 5, test.modified), test.read).Proves(later); got != test.proves {
				t.Errorf("Version.Proves is %t, want %t", got, test.proves)
			}
		})
	}
}

// TestVersionOfReplacedFile tests a file that is replaced by another one with
// the same size and time.
func TestVersionOfReplacedFile(t *testing.T) {
	dir := t.TempDir()
	modified := time.Now().Add(-time.Hour)
	file, other := filepath.Join(dir, "file"), filepath.Join(dir, "other")
	for _, name := range []string{file, other} {
		if err := os.WriteFile(name, []byte("01234"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(name, modified, modified); err != nil {
			t.Fatal(err)
		}
	}
	fsys := os.DirFS(dir)
	before := info(t, fsys, "file")
	stamp, version := tree.StampOf(before, time.Now()), tree.VersionOf(before, time.Now())
	if again := info(t, fsys, "file"); !stamp.Proves(again) || !version.Proves(again) {
		t.Error("the same file seems to have changed")
	}
	if err := os.Rename(other, file); err != nil {
		t.Fatal(err)
	}
	after := info(t, fsys, "file")
	if !stamp.Proves(after) {
		t.Error("Stamp.Proves is false for a file with the same size and time")
	}
	if version.Proves(after) {
		t.Error("Version.Proves is true for another file")
	}
	if (tree.Version{}).Proves(after) {
		t.Error("the zero Version proves something")
	}
}
