package tree_test

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri/internal/tree"
)

// zipOf returns a zip with a comment.
func zipOf(t testing.TB, comment string) string {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create("terraform-provider-foo_v1.0.0")
	if err == nil {
		_, err = f.Write([]byte("binary"))
	}
	if err == nil {
		err = w.SetComment(comment)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// zip64Of returns a zip without a comment as one with 64-bit offsets.
func zip64Of(plain string) string {
	const endSize = 22
	end := []byte(plain[len(plain)-endSize:])
	count := uint64(binary.LittleEndian.Uint16(end[10:]))
	size, offset := uint64(binary.LittleEndian.Uint32(end[12:])), uint64(binary.LittleEndian.Uint32(end[16:]))
	le := binary.LittleEndian

	at := uint64(len(plain) - endSize)
	b := []byte(plain[:at])
	b = append(b, "PK\x06\x06"...) // the end record with 64 bits
	b = le.AppendUint64(b, 44)     // of which so many bytes follow
	b = append(b, 45, 0, 45, 0)    // versions
	b = append(b, make([]byte, 8)...)
	for _, n := range []uint64{count, count, size, offset} {
		b = le.AppendUint64(b, n)
	}
	b = append(b, "PK\x06\x07\x00\x00\x00\x00"...) // its locator
	b = le.AppendUint64(b, at)
	b = le.AppendUint32(b, 1)
	for i := 8; i < 20; i++ {
		end[i] = 0xFF
	}
	return string(append(b, end...))
}

func TestReadReleaseZip(t *testing.T) {
	t.Setenv("GODEBUG", "zipinsecurepath=0") // for one of the zips
	plain := zipOf(t, "")
	insecure := bytes.ReplaceAll([]byte(zipOf(t, "a comment")), []byte("terraform-provider"), []byte("../../../../../../"))
	tests := map[string]struct {
		zip  string
		want string
	}{
		"plain":            {zip: plain, want: "whole"},
		"with a comment":   {zip: zipOf(t, "a comment"), want: "whole"},
		"long comment":     {zip: zipOf(t, string(bytes.Repeat([]byte("a"), 1<<16-1))), want: "whole"},
		"64-bit offsets":   {zip: zip64Of(plain), want: "whole"},
		"data before":      {zip: "#!/bin/sh\n" + plain, want: "whole"},
		"data after":       {zip: plain + "\n", want: "whole"},
		"no files":         {zip: "PK\x05\x06" + string(make([]byte, 18)), want: "whole"},
		"insecure path":    {zip: string(insecure), want: "whole"},
		"empty":            {zip: "", want: "cut"},
		"not a zip":        {zip: "<html>please log in</html>", want: "cut"},
		"only zeros":       {zip: string(make([]byte, 100)), want: "cut"},
		"zeros at the end": {zip: plain[:50] + string(make([]byte, len(plain)-50)), want: "cut"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			fsys := newFakeFS(map[string]string{"1.0.0/" + linuxZip: test.zip})
			rel, err := readRelease(fsys, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got, want := describe(rel), map[string]string{linuxZip: test.want}; !maps.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			if got := rel.Files[linuxZip].Size; got != int64(len(test.zip)) {
				t.Errorf("size is %d, want %d", got, len(test.zip))
			}
		})
	}
}

// TestReadReleaseGrowingZip reads zips at each size that they have while they
// are copied.
func TestReadReleaseGrowingZip(t *testing.T) {
	plain := zipOf(t, "")
	for name, zip := range map[string]string{
		"plain": plain, "with a comment": zipOf(t, "a comment"), "64-bit offsets": zip64Of(plain),
	} {
		t.Run(name, func(t *testing.T) {
			fsys := newFakeFS(nil)
			var prev *tree.Release
			var whole []int
			for size := range len(zip) + 1 {
				fsys.write("1.0.0/"+linuxZip, zip[:size], time.Now().Add(-time.Hour))
				rel, err := readRelease(fsys, prev)
				if err != nil {
					t.Fatal(err)
				}
				if describe(rel)[linuxZip] == "whole" {
					whole = append(whole, size)
				}
				prev = rel
			}
			if !slices.Equal(whole, []int{len(zip)}) {
				t.Errorf("zip is whole at the sizes %v, want only %d", whole, len(zip))
			}
		})
	}
}
