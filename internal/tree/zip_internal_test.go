package tree

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"testing"
)

// A readerLog logs the sizes of reads, and may fail.
type readerLog struct {
	io.ReaderAt
	reads []int
	err   error
}

func (r *readerLog) ReadAt(p []byte, at int64) (int, error) {
	r.reads = append(r.reads, len(p))
	if r.err != nil {
		return 0, r.err
	}
	return r.ReaderAt.ReadAt(p, at)
}

// newZip returns a zip with files in its root.
func newZip(t testing.TB, comment string, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	for _, name := range files {
		if _, err := w.Create(name); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.SetComment(comment), w.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestHasEndReads(t *testing.T) {
	disk := errors.New("broken disk")
	tests := map[string]struct {
		zip   []byte
		err   error
		want  bool
		reads int
	}{
		"common zip":       {zip: newZip(t, "", "a", "b"), want: true, reads: 1},
		"no files":         {zip: newZip(t, ""), want: true, reads: 1},
		"broken disk":      {zip: newZip(t, "", "a"), err: disk, reads: 1},
		"zip with comment": {zip: newZip(t, "comment", "a"), want: true, reads: 3},
		"large zip, cut":   {zip: bytes.Repeat([]byte("a"), 1<<20), reads: 3},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			r := &readerLog{ReaderAt: bytes.NewReader(test.zip), err: test.err}
			got, err := hasEnd(r, int64(len(test.zip)))
			if got != test.want || err != test.err {
				t.Errorf("got %t, %v, want %t, %v", got, err, test.want, test.err)
			}
			if len(r.reads) != test.reads {
				t.Errorf("reads are %v, want %d", r.reads, test.reads)
			}
		})
	}
}

// FuzzHasEnd compares hasEnd with a reader of zips. It may accept more: the
// directory behind a plain end record is not read.
func FuzzHasEnd(f *testing.F) {
	for _, comment := range []string{"", "comment", "PK\x05\x06", strings.Repeat("a", 2000)} {
		whole := newZip(f, comment, "a", "b/c")
		f.Add(whole)
		f.Add(whole[:len(whole)-1])
		f.Add(append([]byte("data before"), whole...))
		f.Add(append(whole, "data after"...))
		f.Add(append(newZip(f, "", "x"), whole...))
	}
	f.Add([]byte(nil))
	f.Add([]byte("PK\x05\x06"))
	f.Fuzz(func(t *testing.T, data []byte) {
		size := int64(len(data))
		got, err := hasEnd(bytes.NewReader(data), size)
		if err != nil {
			t.Fatalf("error without a failed read: %v", err)
		}
		_, zipErr := zip.NewReader(bytes.NewReader(data), size)
		if want := zipErr == nil || plainEnd(data); got != want {
			t.Fatalf("got %t, want %t; error of the reader: %v", got, want, zipErr)
		}
	})
}

// plainEnd reports whether data ends with an end record without a comment that
// directly follows the directory that it describes.
func plainEnd(data []byte) bool {
	const endSize = 22
	if len(data) < endSize {
		return false
	}
	directory, end := data[:len(data)-endSize], data[len(data)-endSize:]
	var record struct {
		Signature    [4]byte
		_            [8]byte
		Size, Offset uint32
		CommentLen   uint16
	}
	if err := binary.Read(bytes.NewReader(end), binary.LittleEndian, &record); err != nil {
		return false
	}
	return string(record.Signature[:]) == "PK\x05\x06" && record.CommentLen == 0 &&
		uint64(record.Size)+uint64(record.Offset) == uint64(len(directory))
}
