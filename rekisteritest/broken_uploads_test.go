package rekisteritest_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

var brokenComplete = map[string]brokenPublisher{
	"serves a part": {
		breakIt: func(_ *testing.T, s *memoryStore, b *fakeBackend, _ []*fakePublisher) {
			b.release = func(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
				s.mu.Lock()
				staged := len(s.staged["acme/foo/9.0.0"])
				s.mu.Unlock()
				if p == acmeFoo && version == "9.0.0" && staged == 4 {
					return load()[p].Releases[version], nil
				}
				return s.Release(ctx, p, version)
			}
		},
		rules: []string{complete},
		fault: "Release(acme/foo, 9.0.0) succeeds before the release is complete: after terraform-provider-foo_9.0.0_linux_amd64.zip",
	},
	"lists a part": {
		breakIt: func(_ *testing.T, s *memoryStore, b *fakeBackend, _ []*fakePublisher) {
			b.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
				l, err := s.Versions(ctx, p)
				if _, notYet := s.Release(ctx, p, "1.2.0"); p == labsFoo && err != nil && notYet != nil {
					return &rekisteri.Listing{Versions: []rekisteri.Version{{Version: "1.2.0"}}}, nil
				}
				return l, err
			}
		},
		rules: []string{complete},
		fault: "Versions(acme-labs/foo) lists 1.2.0 before",
	},
	"does not list the release": {
		breakIt: func(_ *testing.T, s *memoryStore, b *fakeBackend, _ []*fakePublisher) {
			b.versions = func(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
				l, err := s.Versions(ctx, p)
				if err == nil {
					l = rekisteritest.CloneListing(l)
					for i := range l.Versions {
						l.Versions[i].Version = strings.Replace(l.Versions[i].Version, "10.0.0", "11.0.0", 1)
					}
				}
				return l, err
			}
		},
		rules: []string{complete},
		fault: "Versions(acme/foo) does not list 10.0.0 after the release was published",
	},
	"says that nothing is missing": {
		breakIt: publishWith(acmeFoo, "9.0.0", func(u *upload) (*rekisteri.Receipt, error) {
			receipt, err := u.good()
			if err == nil {
				receipt.Missing = nil
			}
			return receipt, err
		}),
		rules: []string{complete},
		fault: `says that [] are missing, want ["terraform-provider-foo_9.0.0_SHA256SUMS.sig" `,
	},
	"never says that it is published": {
		breakIt: publishWith(acmeFoo, "10.0.0", func(u *upload) (*rekisteri.Receipt, error) {
			receipt, err := u.good()
			if err == nil {
				receipt.State = rekisteri.StateStaged
			}
			return receipt, err
		}),
		rules: []string{complete},
		fault: `SHA256SUMS.sig"), the last file, returns the state "staged", want published`,
	},
	"serves another zip": {
		breakIt: publishWith(acmeFoo, "10.0.0", func(u *upload) (*rekisteri.Receipt, error) {
			receipt, err := u.good()
			if err == nil && receipt.State == rekisteri.StatePublished {
				u.replace("terraform-provider-foo_10.0.0_linux_amd64.zip", []byte("another"))
			}
			return receipt, err
		}),
		rules: []string{complete},
	},
}

// replace changes a file of a published release.
func (u *upload) replace(name string, content []byte) {
	u.store.mu.Lock()
	defer u.store.mu.Unlock()
	files := u.store.files[u.p.String()+"/"+u.version]
	files[name] = content
	u.store.serve(u.p, u.version, files)
}

var brokenNeverChanges = map[string]brokenPublisher{
	"replaces files": {
		breakIt: publishWith(labsFoo, "1.2.0", func(u *upload) (*rekisteri.Receipt, error) {
			if !u.published() {
				return u.good()
			}
			content, err := io.ReadAll(u.content)
			if err != nil {
				return nil, err
			}
			u.replace(u.name, content)
			return &rekisteri.Receipt{State: rekisteri.StateUnchanged}, nil
		}),
		rules: []string{neverChanges},
		fault: "Release(acme-labs/foo, 1.2.0) has the wrong package for darwin_arm64 after other files were sent for the published release",
	},
	"ignores other files": {
		breakIt: publishWith(labsFoo, "1.2.0", func(u *upload) (*rekisteri.Receipt, error) {
			if !u.published() {
				return u.good()
			}
			return &rekisteri.Receipt{State: rekisteri.StateUnchanged}, nil
		}),
		rules: []string{neverChanges},
		fault: "succeeds for another content than the published one",
	},
	"refuses the same files": {
		breakIt: publishWith(labsFoo, "1.2.0", func(u *upload) (*rekisteri.Receipt, error) {
			if !u.published() {
				return u.good()
			}
			return nil, fs.ErrExist
		}),
		rules: []string{neverChanges},
		fault: "with the content that is published, fails: file already exists",
	},
	"publishes twice": {
		breakIt: publishWith(labsFoo, "1.2.0", func(u *upload) (*rekisteri.Receipt, error) {
			receipt, err := u.good()
			if err == nil && receipt.State == rekisteri.StateUnchanged {
				receipt.State = rekisteri.StatePublished
			}
			return receipt, err
		}),
		rules: []string{neverChanges},
	},
	"another error for other files": {
		breakIt: publishWith(labsFoo, "1.2.0", func(u *upload) (*rekisteri.Receipt, error) {
			receipt, err := u.good()
			if errors.Is(err, fs.ErrExist) {
				return nil, &rekisteri.UploadError{Detail: "the version is published"}
			}
			return receipt, err
		}),
		rules: []string{neverChanges},
		fault: "fails with an error that does not match fs.ErrExist: the version is published",
	},
}

var brokenInterrupted = map[string]brokenPublisher{
	"takes a half for the whole": {
		breakIt: publishWith(acmeFooBar, "1.1.0", func(u *upload) (*rekisteri.Receipt, error) {
			content, _ := io.ReadAll(u.content)
			return u.store.Publish(u.ctx, u.p, u.version, u.name, bytes.NewReader(content))
		}),
		rules: []string{interrupted},
	},
	"another error": {
		breakIt: publishWith(acmeFooBar, "1.1.0", func(u *upload) (*rekisteri.Receipt, error) {
			receipt, err := u.good()
			if err != nil {
				err = fmt.Errorf("cannot read: %v", err)
			}
			return receipt, err
		}),
		rules: []string{interrupted},
		fault: "does not return the error of its content, but cannot read: the upload was cut off",
	},
	"stores half of a file": {
		breakIt: func(t *testing.T, s *memoryStore, b *fakeBackend, publishers []*fakePublisher) {
			there := make(map[string]bool)
			publishWith(acmeFooBar, "1.1.0", func(u *upload) (*rekisteri.Receipt, error) {
				receipt, err := u.good()
				if err != nil {
					there[u.name] = true
					return nil, err
				}
				var missing []string
				for _, name := range receipt.Missing {
					if !there[name] {
						missing = append(missing, name)
					}
				}
				receipt.Missing = missing
				return receipt, nil
			})(t, s, b, publishers)
		},
		rules: []string{interrupted},
		fault: "was interrupted, and the file is not missing any more",
	},
	"keeps a lock": {
		breakIt: func(t *testing.T, s *memoryStore, b *fakeBackend, publishers []*fakePublisher) {
			locked := make(map[string]bool)
			publishWith(acmeFooBar, "1.1.0", func(u *upload) (*rekisteri.Receipt, error) {
				if locked[u.name] {
					return nil, errors.New("another upload is in progress")
				}
				receipt, err := u.good()
				locked[u.name] = err != nil
				return receipt, err
			})(t, s, b, publishers)
		},
		rules: []string{interrupted},
		fault: ", after it was interrupted, fails: another upload is in progress",
	},
}

var brokenResumed = map[string]brokenPublisher{
	"a stage for each publisher": {
		breakIt: func(_ *testing.T, s *memoryStore, _ *fakeBackend, publishers []*fakePublisher) {
			for i, f := range publishers {
				f.publish = func(ctx context.Context, p rekisteri.Provider, version, name string, content io.Reader) (*rekisteri.Receipt, error) {
					return s.publish(ctx, fmt.Sprint(i, p, version), p, version, name, content)
				}
			}
		},
		rules: []string{resumed},
		fault: `by the publisher that resumes, returns the state "staged", want published`,
	},
	"keeps the first file": {
		breakIt: publishWith(acmeFoo, "1.0.0", func(u *upload) (*rekisteri.Receipt, error) {
			u.store.mu.Lock()
			first := u.store.staged["acme/foo/1.0.0"][u.name]
			u.store.mu.Unlock()
			if first == nil {
				return u.good()
			}
			return u.store.Publish(u.ctx, u.p, u.version, u.name, bytes.NewReader(first))
		}),
		rules: []string{resumed},
	},
	"another error for a zip that comes again": {
		breakIt: publishWith(acmeFoo, "1.0.0", func(u *upload) (*rekisteri.Receipt, error) {
			u.store.mu.Lock()
			_, again := u.store.staged["acme/foo/1.0.0"][u.name]
			u.store.mu.Unlock()
			if again {
				return nil, fs.ErrExist
			}
			return u.good()
		}),
		rules: []string{resumed},
		fault: "by the publisher that resumes, fails: file already exists",
	},
}
