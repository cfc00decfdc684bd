package rekisteritest_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

var brokenRefused = map[string]brokenPublisher{
	"does not verify the signature": {
		breakIt: func(_ *testing.T, s *memoryStore, _ *fakeBackend, _ []*fakePublisher) {
			s.verify = func(rekisteri.Provider, []byte, []byte) error { return nil }
		},
		rules: []string{refused},
		fault: `Publish(acme/foo, 2.0.0-rc.1, "terraform-provider-foo_2.0.0-rc.1_SHA256SUMS.sig") accepts the signature of another release`,
	},
	"does not read zips": {
		breakIt: func(_ *testing.T, s *memoryStore, _ *fakeBackend, _ []*fakePublisher) {
			s.checkFile = func(p rekisteri.Provider, name string, content []byte) error {
				if strings.HasSuffix(name, ".zip") {
					return nil
				}
				return checkFile(p, name, content)
			}
		},
		rules: []string{refused},
		fault: "accepts a zip without its end",
	},
	"does not read SHA256SUMS": {
		breakIt: func(_ *testing.T, s *memoryStore, _ *fakeBackend, _ []*fakePublisher) {
			s.checkFile = func(p rekisteri.Provider, name string, content []byte) error {
				if strings.HasSuffix(name, ".zip") {
					return checkFile(p, name, content)
				}
				return nil
			}
		},
		rules: []string{refused},
		fault: "accepts a SHA256SUMS with a blank line",
	},
	"does not compare zips with SHA256SUMS": {
		breakIt: publishWith(acmeFoo, "2.0.0-rc.1", func(u *upload) (*rekisteri.Receipt, error) {
			receipt, err := u.good()
			if err == nil && slices.Equal(receipt.Missing, []string{u.name}) { // although it was stored
				u.store.mu.Lock()
				defer u.store.mu.Unlock()
				u.store.serve(u.p, u.version, u.store.staged["acme/foo/2.0.0-rc.1"])
				return &rekisteri.Receipt{State: rekisteri.StatePublished}, nil
			}
			return receipt, err
		}),
		rules: []string{refused},
		fault: "publishes a zip of another build",
	},
	"an outage": {
		breakIt: publishWith(acmeFoo, "2.0.0-rc.1", func(u *upload) (*rekisteri.Receipt, error) {
			receipt, err := u.good()
			if err != nil {
				return nil, errors.New("bad file")
			}
			return receipt, nil
		}),
		rules: []string{refused},
		fault: "with a zip without its end, fails with an error that is not an UploadError: bad file",
	},
	"refuses a name for ever": {
		breakIt: func(t *testing.T, s *memoryStore, b *fakeBackend, publishers []*fakePublisher) {
			bad := make(map[string]error)
			publishWith(acmeFoo, "2.0.0-rc.1", func(u *upload) (*rekisteri.Receipt, error) {
				if bad[u.name] != nil {
					return nil, bad[u.name]
				}
				receipt, err := u.good()
				bad[u.name] = err
				return receipt, err
			})(t, s, b, publishers)
		},
		rules: []string{refused},
	},
}

var brokenRace = map[string]brokenPublisher{
	"several say that they published": {
		breakIt: publishWith(acmeFooBar, "1.0.0+build", func(u *upload) (*rekisteri.Receipt, error) {
			receipt, err := u.good()
			if err == nil && receipt.State == rekisteri.StateUnchanged {
				receipt.State = rekisteri.StatePublished
			}
			return receipt, err
		}),
		rules: []string{race},
		fault: `of the concurrent uploads of acme/foo-bar 1.0.0+build have a receipt with the state "published", want 1`,
	},
	"fails while it is busy": {
		breakIt: func(t *testing.T, s *memoryStore, b *fakeBackend, publishers []*fakePublisher) {
			var busy sync.Mutex
			publishWith(acmeFooBar, "1.0.0+build", func(u *upload) (*rekisteri.Receipt, error) {
				if !busy.TryLock() {
					return nil, errors.New("busy")
				}
				defer busy.Unlock()
				time.Sleep(time.Millisecond)
				return u.good()
			})(t, s, b, publishers)
		},
		rules: []string{race},
		fault: "among concurrent uploads, fails: busy",
	},
	"a conflict for the same file": {
		breakIt: publishWith(acmeFooBar, "1.0.0+build", func(u *upload) (*rekisteri.Receipt, error) {
			receipt, err := u.good()
			if err == nil && receipt.State == rekisteri.StateUnchanged {
				return nil, fs.ErrExist
			}
			return receipt, err
		}),
		rules: []string{race},
	},
	"serves a release file by file": {
		breakIt: func(t *testing.T, s *memoryStore, b *fakeBackend, publishers []*fakePublisher) {
			var calls atomic.Int64
			publishWith(acmeFooBar, "1.0.0+build", func(u *upload) (*rekisteri.Receipt, error) {
				time.Sleep(time.Duration(calls.Add(1)) * 10 * time.Millisecond)
				return u.good()
			})(t, s, b, publishers)
			b.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
				rel, err := s.Release(ctx, p, version)
				if err != nil && p == acmeFooBar && version == "1.0.0+build" {
					rel = load()[p].Releases[version]
					rel.Packages = rel.Packages[:1]
					return rel, nil
				}
				return rel, err
			}
		},
		rules: []string{race},
		fault: "during concurrent uploads, has packages for [freebsd_386], want [freebsd_386 linux_amd64]",
	},
	"serves the wrong zip": {
		breakIt: publishWith(acmeFooBar, "1.0.0+build", func(u *upload) (*rekisteri.Receipt, error) {
			content, err := io.ReadAll(u.content)
			if err != nil {
				return nil, err
			}
			if want, ok := load()[u.p].Files[u.version][u.name]; ok && !bytes.Equal(content, want) {
				time.Sleep(time.Second)
				u.replace(u.name, content)
				return &rekisteri.Receipt{State: rekisteri.StateUnchanged}, nil
			}
			return u.store.Publish(u.ctx, u.p, u.version, u.name, bytes.NewReader(content))
		}),
		rules: []string{race},
	},
	"a release that vanishes": {
		breakIt: func(t *testing.T, s *memoryStore, b *fakeBackend, publishers []*fakePublisher) {
			var calls atomic.Int64
			publishWith(acmeFooBar, "1.0.0+build", func(u *upload) (*rekisteri.Receipt, error) {
				time.Sleep(time.Duration(calls.Add(1)) * 10 * time.Millisecond)
				return u.good()
			})(t, s, b, publishers)
			var asked atomic.Int64
			b.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
				if p == acmeFooBar && version == "1.0.0+build" && asked.Add(1)%5 == 0 {
					return nil, fs.ErrNotExist
				}
				return s.Release(ctx, p, version)
			}
		},
		rules: []string{race},
		fault: "during concurrent uploads, finds the release and then does not",
	},
}

var brokenCanceled = map[string]brokenPublisher{
	"an UploadError": {
		breakIt: publishWith(labsFoo, "1.0.0", func(u *upload) (*rekisteri.Receipt, error) {
			receipt, err := u.good()
			if err != nil {
				return nil, &rekisteri.UploadError{Detail: "bad file", Err: err}
			}
			return receipt, nil
		}),
		rules: []string{canceled},
		fault: "with a canceled context refuses the file: bad file",
	},
	"not found": {
		breakIt: publishWith(labsFoo, "1.0.0", func(u *upload) (*rekisteri.Receipt, error) {
			receipt, err := u.good()
			if u.ctx.Err() != nil {
				return nil, fs.ErrNotExist
			}
			return receipt, err
		}),
		rules: []string{canceled},
		fault: "with a context that expires during the call reports that something does not exist",
	},
	"a lasting error": {
		breakIt: func(t *testing.T, s *memoryStore, b *fakeBackend, publishers []*fakePublisher) {
			var failed error
			publishWith(labsFoo, "1.0.0", func(u *upload) (*rekisteri.Receipt, error) {
				if failed != nil {
					return nil, failed
				}
				receipt, err := u.good()
				failed = err
				return receipt, err
			})(t, s, b, publishers)
		},
		rules: []string{canceled},
		fault: "after calls with a done context, fails: context canceled",
	},
}

var brokenPublishCalls = map[string]brokenPublisher{
	"nil, nil": {
		breakIt: publishWith(acmeFoo, "9.0.0", func(u *upload) (*rekisteri.Receipt, error) {
			u.good()
			return nil, nil
		}),
		rules: []string{noNil},
		fault: `Publish(acme/foo, 9.0.0, "terraform-provider-foo_9.0.0_SHA256SUMS") returns nil, nil`,
	},
	"panics": {
		breakIt: publishWith(acmeFoo, "9.0.0", func(u *upload) (*rekisteri.Receipt, error) {
			receipt, _ := u.good()
			panic(receipt.State)
		}),
		rules: []string{noPanic},
	},
	"hangs": {
		breakIt: func(t *testing.T, s *memoryStore, b *fakeBackend, publishers []*fakePublisher) {
			publishWith(acmeFooBar, "1.0.0+build", func(u *upload) (*rekisteri.Receipt, error) {
				u.good()
				<-t.Context().Done()
				return nil, t.Context().Err()
			})(t, s, b, publishers)
		},
		rules: []string{inTime},
	},
	"returns one receipt for all calls": {
		breakIt: func(t *testing.T, s *memoryStore, b *fakeBackend, publishers []*fakePublisher) {
			var last rekisteri.Receipt
			publishWith(acmeFoo, "9.0.0", func(u *upload) (*rekisteri.Receipt, error) {
				receipt, err := u.good()
				if err == nil {
					last, receipt = *rekisteritest.CloneReceipt(receipt), &last
				}
				return receipt, err
			})(t, s, b, publishers)
		},
		rules: []string{unchanged},
	},
}
