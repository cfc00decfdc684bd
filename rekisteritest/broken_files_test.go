package rekisteritest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

var brokenFiles = map[string]broken{
	"opens paths": {
		breakIt: func(_ *testing.T, _ memory, b *fakeBackend) {
			b.open = func(_ context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
				content, err := fs.ReadFile(rekisteritest.Releases(), path.Join(p.String(), version, name))
				if err != nil {
					return nil, fs.ErrNotExist
				}
				return memoryFile{bytes.NewReader(content)}, nil
			}
		},
		rules: []string{names},
		fault: `Open(acme/foo, 1.0.0, "../9.0.0/terraform-provider-foo_9.0.0_linux_amd64.zip") succeeds`,
	},
	"opens the files of all versions": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.open = func(ctx context.Context, p rekisteri.Provider, _, name string) (io.ReadSeekCloser, error) {
				for version := range m[p].Files {
					if f, err := m.Open(ctx, p, version, name); err == nil {
						return f, nil
					}
				}
				return nil, fs.ErrNotExist
			}
		},
		rules: []string{names},
	},
	"another error for unknown files": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
				f, err := m.Open(ctx, p, version, name)
				if err != nil {
					return nil, errors.New("no such key")
				}
				return f, nil
			}
		},
		rules: []string{names},
	},
	"nil, nil for unknown files": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
				if f, err := m.Open(ctx, p, version, name); err == nil {
					return f, nil
				}
				return nil, nil
			}
		},
		rules: []string{noNil},
	},
	"the file of another version": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			b.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
				if p == acmeFoo && version == "9.0.0" {
					version, name = "10.0.0", strings.Replace(name, "9.0.0", "10.0.0", 1)
				}
				return m.Open(ctx, p, version, name)
			}
		},
		rules: []string{contents},
	},
	"truncated zip": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			files := m[acmeFoo].Files["1.0.0"]
			const name = "terraform-provider-foo_1.0.0_linux_amd64.zip"
			files[name] = files[name][:100]
		},
		rules: []string{contents},
		fault: `Open(acme/foo, 1.0.0, "terraform-provider-foo_1.0.0_linux_amd64.zip") has 100 bytes, want `,
	},
	"line ends of Windows": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			files := m[acmeFoo].Files["1.0.0"]
			const name = "terraform-provider-foo_1.0.0_SHA256SUMS"
			files[name] = bytes.ReplaceAll(files[name], []byte("\n"), []byte("\r\n"))
		},
		rules: []string{contents},
	},
	"changed byte": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			m[acmeFoo].Files["1.0.0"]["terraform-provider-foo_1.0.0_linux_amd64.zip"][50]++
		},
		rules: []string{contents},
		fault: "has other bytes: their SHA-256 is ",
	},
	"missing signature": {
		breakIt: func(_ *testing.T, m memory, _ *fakeBackend) {
			delete(m[acmeFoo].Files["1.0.0"], "terraform-provider-foo_1.0.0_SHA256SUMS.sig")
		},
		rules: []string{contents},
	},
	"does not seek": {
		breakIt: seekWith(func(io.Seeker, int64, int) (int64, error) { return 0, nil }),
		rules:   []string{parts},
		fault:   "seeking to the end returns 0, want ",
	},
	"refuses to seek": {
		breakIt: seekWith(func(io.Seeker, int64, int) (int64, error) { return 0, errors.ErrUnsupported }),
		rules:   []string{parts},
		fault:   "seeking to the end fails: unsupported operation",
	},
	"always seeks to the start": {
		breakIt: seekWith(func(f io.Seeker, offset int64, whence int) (int64, error) {
			if whence == io.SeekEnd {
				return f.Seek(offset, whence)
			}
			_, err := f.Seek(0, io.SeekStart)
			return offset, err
		}),
		rules: []string{parts},
	},
	"one handle for all readers": {
		breakIt: func(_ *testing.T, m memory, b *fakeBackend) {
			lock := make(chan struct{}, 1)
			opened := make(map[string]io.ReadSeekCloser)
			b.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
				lock <- struct{}{}
				defer func() { <-lock }()
				at := path.Join(p.String(), version) + "/" + name
				f := opened[at]
				if f == nil {
					var err error
					if f, err = m.Open(ctx, p, version, name); err != nil {
						return nil, err
					}
					opened[at] = f
				}
				_, err := f.Seek(0, io.SeekStart)
				return &fakeFile{
					ReadSeekCloser: f,
					read: func(p []byte) (int, error) {
						lock <- struct{}{}
						defer func() { <-lock }()
						time.Sleep(time.Millisecond) // lets others wait for the lock
						return f.Read(p)
					},
					seek: func(offset int64, whence int) (int64, error) {
						lock <- struct{}{}
						defer func() { <-lock }()
						return f.Seek(offset, whence)
					},
				}, err
			}
		},
		rules: []string{openTwice, concurrency},
		fault: "while it is open already, changes the bytes that the first reader gets",
	},
}

var brokenRedirects = map[string]broken{
	"relative URL": {
		breakIt: redirectWith(func(to *rekisteri.Redirect) error { to.URL = "/files"; return to }),
		rules:   []string{redirects},
		fault:   `redirects to "/files", which is not an absolute http or https URL`,
	},
	"wrong size": {
		breakIt: redirectWith(func(to *rekisteri.Redirect) error { to.Size++; return to }),
		rules:   []string{redirects},
		fault:   "redirects to a file of ",
	},
	"URL in the error": {
		breakIt: redirectWith(func(to *rekisteri.Redirect) error { return fmt.Errorf("it is at %s: %w", to.URL, to) }),
		rules:   []string{redirects},
		fault:   "redirects with an error that contains the URL",
	},
	"for names that do not exist": {
		breakIt: func(_ *testing.T, _ memory, b *fakeBackend) {
			b.open = func(_ context.Context, _ rekisteri.Provider, _, name string) (io.ReadSeekCloser, error) {
				return nil, &rekisteri.Redirect{URL: "https://store.example.com/" + url.PathEscape(name)}
			}
		},
		rules: []string{names, redirects},
	},
}

// redirectWith returns a function that makes the backend redirect to all zips,
// with the error that edit returns.
func redirectWith(edit func(*rekisteri.Redirect) error) func(*testing.T, memory, *fakeBackend) {
	return func(_ *testing.T, m memory, b *fakeBackend) {
		b.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
			content, ok := m[p].Files[version][name]
			if !ok || !strings.HasSuffix(name, ".zip") {
				return m.Open(ctx, p, version, name)
			}
			return nil, edit(&rekisteri.Redirect{URL: "https://store.example.com/" + name + "?signature=secret", Size: int64(len(content))})
		}
	}
}

// A fakeFile is a file whose methods can be replaced.
type fakeFile struct {
	io.ReadSeekCloser
	read func([]byte) (int, error)
	seek func(int64, int) (int64, error)
}

func (f *fakeFile) Read(p []byte) (int, error) {
	if f.read == nil {
		return f.ReadSeekCloser.Read(p)
	}
	return f.read(p)
}

func (f *fakeFile) Seek(offset int64, whence int) (int64, error) {
	if f.seek == nil {
		return f.ReadSeekCloser.Seek(offset, whence)
	}
	return f.seek(offset, whence)
}

// seekWith returns a function that replaces the Seek of all files.
func seekWith(seek func(f io.Seeker, offset int64, whence int) (int64, error)) func(*testing.T, memory, *fakeBackend) {
	return func(_ *testing.T, m memory, b *fakeBackend) {
		b.open = func(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
			f, err := m.Open(ctx, p, version, name)
			if err != nil {
				return nil, err
			}
			return &fakeFile{ReadSeekCloser: f, seek: func(offset int64, whence int) (int64, error) { return seek(f, offset, whence) }}, nil
		}
	}
}
