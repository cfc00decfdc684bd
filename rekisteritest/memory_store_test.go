package rekisteritest_test

import (
	"archive/zip"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"sync"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/openpgp"
	releases "github.com/rekisteri/rekisteri/internal/release"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

// A memoryStore is a backend and a publisher in memory. It keeps one content of
// each file.
type memoryStore struct {
	checkFile func(p rekisteri.Provider, name string, content []byte) error
	verify    func(p rekisteri.Provider, sums, signature []byte) error

	mu     sync.Mutex
	staged map[string]map[string][]byte // content, by release and name
	files  map[string]map[string][]byte // the same of published releases
	served memory
}

func newMemoryStore() *memoryStore {
	return &memoryStore{
		checkFile: checkFile, verify: verify,
		staged: make(map[string]map[string][]byte), files: make(map[string]map[string][]byte), served: make(memory),
	}
}

// publishers returns a backend and some publishers that share the store.
func (s *memoryStore) publishers(n int) (b *fakeBackend, all []rekisteri.Publisher) {
	for range n {
		all = append(all, &fakePublisher{s.Publish})
	}
	return &fakeBackend{versions: s.Versions, release: s.Release, open: s.Open}, all
}

func (s *memoryStore) Versions(ctx context.Context, p rekisteri.Provider) (*rekisteri.Listing, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served.Versions(ctx, p)
}

func (s *memoryStore) Release(ctx context.Context, p rekisteri.Provider, version string) (*rekisteri.Release, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served.Release(ctx, p, version)
}

func (s *memoryStore) Open(ctx context.Context, p rekisteri.Provider, version, name string) (io.ReadSeekCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served.Open(ctx, p, version, name)
}

func (s *memoryStore) Publish(ctx context.Context, p rekisteri.Provider, version, name string, content io.Reader) (*rekisteri.Receipt, error) {
	return s.publish(ctx, p.String()+"/"+version, p, version, name, content)
}

// publish is Publish with the name of a stage.
func (s *memoryStore) publish(ctx context.Context, stage string, p rekisteri.Provider, version, name string, body io.Reader) (*rekisteri.Receipt, error) {
	content, err := io.ReadAll(body)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	id := p.String() + "/" + version
	if files, ok := s.files[id]; ok {
		if bytes.Equal(files[name], content) {
			return &rekisteri.Receipt{State: rekisteri.StateUnchanged}, nil
		}
		return nil, &rekisteri.UploadError{Detail: "the version is published", Err: fs.ErrExist}
	}
	if err := s.checkFile(p, name, content); err != nil {
		return nil, err
	}
	files := maps.Clone(s.staged[stage])
	if files == nil {
		files = make(map[string][]byte)
	}
	files[name] = content
	sums, signature := files[releases.SumsName(p.Type, version)], files[releases.SignatureName(p.Type, version)]
	if sums != nil && signature != nil {
		if err := s.verify(p, sums, signature); err != nil {
			return nil, err
		}
	}
	s.staged[stage] = files
	if missing := lacks(p, version, files); len(missing) > 0 {
		return &rekisteri.Receipt{State: rekisteri.StateStaged, Missing: missing}, nil
	}
	s.serve(p, version, files)
	return &rekisteri.Receipt{State: rekisteri.StatePublished}, nil
}

// serve publishes a release. It changes no value that was returned before.
func (s *memoryStore) serve(p rekisteri.Provider, version string, files map[string][]byte) {
	s.files[p.String()+"/"+version] = files
	rel := load()[p].Releases[version]
	for i := range rel.Packages {
		rel.Packages[i].SHA256 = sha256.Sum256(files[rel.Packages[i].Filename])
	}
	c := s.served[p]
	if c.Listing == nil {
		c = rekisteritest.Content{Releases: make(map[string]*rekisteri.Release), Files: make(map[string]map[string][]byte)}
	}
	c.Releases[version], c.Files[version] = rel, files
	listing := load()[p].Listing
	listing.Versions = slices.DeleteFunc(listing.Versions, func(v rekisteri.Version) bool { return c.Releases[v.Version] == nil })
	c.Listing = listing
	s.served[p] = c
}

// lacks returns the names of the files that a release lacks.
func lacks(p rekisteri.Provider, version string, files map[string][]byte) (missing []string) {
	for _, name := range []string{releases.SumsName(p.Type, version), releases.SignatureName(p.Type, version)} {
		if files[name] == nil {
			missing = append(missing, name)
		}
	}
	sums, err := releases.ParseSums(string(files[releases.SumsName(p.Type, version)]))
	if err != nil {
		return missing // SHA256SUMS, too, or it was accepted by mistake
	}
	for _, sum := range sums.Files {
		if content, ok := files[sum.Name]; !ok || sha256.Sum256(content) != sum.SHA256 {
			missing = append(missing, sum.Name)
		}
	}
	return missing
}

// checkFile returns nil if a file can belong to a release.
func checkFile(_ rekisteri.Provider, name string, content []byte) error {
	var err error
	switch {
	case releases.IsZip(name):
		_, err = zip.NewReader(bytes.NewReader(content), int64(len(content)))
	case name[len(name)-len("SHA256SUMS"):] == "SHA256SUMS":
		_, err = releases.ParseSums(string(content))
	}
	if err != nil {
		return &rekisteri.UploadError{Detail: name + " is refused", Err: err}
	}
	return nil
}

// verify returns nil if a signature is that of SHA256SUMS.
func verify(p rekisteri.Provider, sums, signature []byte) error {
	refusal := &rekisteri.UploadError{Detail: fmt.Sprintf("the signature does not match SHA256SUMS of %v", p)}
	signed, err := openpgp.ReadSignatures(signature)
	if err != nil {
		return refusal
	}
	c := load()[p]
	for _, key := range c.Releases[c.Listing.Versions[0].Version].Packages[0].SigningKeys {
		keys, err := openpgp.ReadKeys([]byte(key.ASCIIArmor))
		if err != nil {
			return err
		}
		ring := openpgp.NewKeyring([]openpgp.KeyFile{{Keys: keys}})
		if _, err := ring.Verify(sums, signature, signed[0].Created); err == nil {
			return nil
		}
	}
	return refusal
}
