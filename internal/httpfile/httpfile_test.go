package httpfile_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri/internal/httpfile"
)

// A file fails at an offset, with an error.
type file struct {
	io.ReadSeeker
	at   int64
	err  error
	seek error
}

func (f *file) Seek(offset int64, whence int) (int64, error) {
	if f.seek != nil {
		return 0, f.seek
	}
	return f.ReadSeeker.Seek(offset, whence)
}

func (f *file) Read(b []byte) (int, error) {
	at, _ := f.ReadSeeker.Seek(0, io.SeekCurrent)
	if f.err != nil && at >= f.at {
		return 0, f.err
	}
	if f.err != nil {
		b = b[:min(int64(len(b)), f.at-at)]
	}
	return f.ReadSeeker.Read(b)
}

// A closing ResponseWriter fails to write.
type closing struct{ http.ResponseWriter }

var errClosed = errors.New("the connection is closed")

func (closing) Write([]byte) (int, error) { return 0, errClosed }

// A slow file takes a second for each read. It notices reads after it was closed.
type slow struct {
	io.ReadSeeker
	closed, late atomic.Bool
}

func (s *slow) Read(b []byte) (int, error) {
	time.Sleep(time.Second)
	if s.closed.Load() {
		s.late.Store(true)
	}
	return s.ReadSeeker.Read(b)
}

// A hangingUp ResponseWriter fails to write after half a second.
type hangingUp struct{ http.ResponseWriter }

func (hangingUp) Write([]byte) (int, error) {
	time.Sleep(time.Second / 2)
	return 0, errClosed
}

// The caller closes a file as soon as Serve returns, so nothing must read it any
// more. For several ranges, net/http reads it in a goroutine of its own.
func TestServeEndsReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		req := httptest.NewRequest("GET", "/", nil)
		req.Header.Set("Range", "bytes=0-1,4-5")
		rec := httptest.NewRecorder()
		rec.Header().Set("Content-Type", "application/zip")
		content := &slow{ReadSeeker: strings.NewReader("0123456789")}
		var sent httpfile.Sent
		err := httpfile.Serve(hangingUp{rec}, req, content, &sent)
		if _, ok := errors.AsType[*httpfile.HungUpError](err); !ok {
			t.Errorf("error %v", err)
		}
		content.closed.Store(true)
		time.Sleep(time.Minute)
		if content.late.Load() {
			t.Error("the file is read after Serve has returned")
		}
	})
}

// A panicking file panics when it is read.
type panicking struct{ io.ReadSeeker }

func (panicking) Read([]byte) (int, error) { panic("a bug") }

// A panic in a goroutine of net/http would end the process.
func TestPanicInRanges(t *testing.T) {
	req := httptest.NewRequest("GET", "/", nil)
	req.Header.Set("Range", "bytes=0-1,4-5")
	rec := httptest.NewRecorder()
	rec.Header().Set("Content-Type", "application/zip")
	var sent httpfile.Sent
	err := httpfile.Serve(rec, req, panicking{strings.NewReader("0123456789")}, &sent)
	if err == nil || !strings.Contains(err.Error(), "panic: a bug") {
		t.Errorf("error %v", err)
	}
}

func TestServe(t *testing.T) {
	const text = "0123456789"
	errDisk := errors.New("input/output error")
	for _, test := range []struct {
		name   string
		file   file
		header [2]string
		closed bool // the connection
		status int
		bytes  int64
		body   string
		err    string
		hungUp bool
	}{
		{name: "whole", status: 200, bytes: 10, body: text},
		{name: "range", header: [2]string{"Range", "bytes=2-4"}, status: 206, bytes: 3, body: "234"},
		{name: "range after the end", header: [2]string{"Range", "bytes=20-"}, err: "range of the request does not hold"},
		{name: "unchanged", header: [2]string{"If-None-Match", `"etag"`}, status: 304},
		{name: "condition", header: [2]string{"If-Match", `"other"`}, err: "condition or range"},
		{name: "read error", file: file{at: 5, err: errDisk}, status: 200, bytes: 5, body: "01234", err: "cannot be read after 5 bytes: input/output error"},
		{name: "read error in a range", header: [2]string{"Range", "bytes=2-8"}, file: file{at: 5, err: errDisk}, status: 206, bytes: 3, body: "234", err: "cannot be read after 3 bytes: input/output error"},
		{name: "read error at the start", file: file{at: 0, err: errDisk}, err: "cannot be read after 0 bytes: input/output error"},
		{name: "read error at the start of a range", header: [2]string{"Range", "bytes=5-8"}, file: file{at: 5, err: errDisk}, err: "cannot be read after 0 bytes: input/output error"},
		{name: "shorter than its size", file: file{at: 5, err: io.EOF}, status: 200, bytes: 5, body: "01234", err: "cannot be read after 5 bytes: unexpected EOF"},
		{name: "no size", file: file{seek: errDisk}, err: "input/output error"},
		{name: "closed connection", closed: true, status: 200, err: "the client hung up after 0 bytes: the connection is closed", hungUp: true},
	} {
		t.Run(test.name, func(t *testing.T) {
			req := httptest.NewRequest("GET", "/", nil)
			if test.header[0] != "" {
				req.Header.Set(test.header[0], test.header[1])
			}
			rec := httptest.NewRecorder()
			rec.Header().Set("Content-Type", "application/zip")
			rec.Header().Set("ETag", `"etag"`)
			var w http.ResponseWriter = rec
			if test.closed {
				w = closing{rec}
			}
			test.file.ReadSeeker = strings.NewReader(text)
			var sent httpfile.Sent
			err := httpfile.Serve(w, req, &test.file, &sent)
			if (err != nil) != (test.err != "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("error %v, want %q", err, test.err)
			}
			if hungUp, ok := errors.AsType[*httpfile.HungUpError](err); ok != test.hungUp || ok && !errors.Is(hungUp, errClosed) {
				t.Errorf("error %#v", err)
			}
			if sent.Status != test.status || sent.Bytes != test.bytes || rec.Body.String() != test.body {
				t.Errorf("%+v, body %q", sent, rec.Body)
			}
		})
	}
}
