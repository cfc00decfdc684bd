package storetest_test

import (
	"fmt"
	"strings"
	"testing"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/azureblob"
	_ "gocloud.dev/blob/gcsblob"
	_ "gocloud.dev/blob/s3blob"
	"gocloud.dev/gcerrors"

	"github.com/rekisteri/rekisteri/bucket/internal/storetest"
)

// TestEach writes an object twice to each store, of which the second time must
// fail: what the library relies on.
func TestEach(t *testing.T) {
	storetest.Each(t, func(t *testing.T, s *storetest.Store) {
		s.Setenv(t)
		b, err := blob.OpenBucket(t.Context(), s.URL(s.NewBucket(t), s.Addr))
		if err != nil {
			t.Fatal(err)
		}
		defer b.Close()
		// WriteAll panics if Azure refuses to write.
		once := &blob.WriterOptions{IfNotExist: true, ContentType: "text/plain"}
		if err := b.Upload(t.Context(), "a/b", strings.NewReader("first"), once); err != nil {
			t.Fatal(err)
		}
		if err := b.Upload(t.Context(), "a/b", strings.NewReader("second"), once); gcerrors.Code(err) != gcerrors.FailedPrecondition {
			t.Errorf("the second time: %v", err)
		}
		if got, err := b.ReadAll(t.Context(), "a/b"); err != nil || string(got) != "first" {
			t.Errorf("%q, %v", got, err)
		}
	})
}

func TestProxy(t *testing.T) {
	s := storetest.S3(t)
	s.Setenv(t)
	p := storetest.NewProxy(t, s.Addr)
	b, err := blob.OpenBucket(t.Context(), s.URL(s.NewBucket(t), p.Addr))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := b.WriteAll(t.Context(), "a", nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := b.Copy(t.Context(), "b", "a", nil); err != nil {
		t.Fatal(err)
	}
	if _, _, err := b.ListPage(t.Context(), blob.FirstPageToken, 10, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Attributes(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	requests := p.Requests()
	if got, want := fmt.Sprint(requests), "[{PUT a} {COPY b} {LIST } {HEAD b}]"; got != want {
		t.Errorf("the proxy has seen %s, want %s", got, want)
	}
	if got := storetest.Count(append(requests, requests[0])); got != "COPY 1, HEAD 1, LIST 1, PUT 2" {
		t.Errorf("these are %s", got)
	}
	if got := p.Requests(); len(got) > 0 {
		t.Errorf("the proxy has seen %v since", got)
	}
}
