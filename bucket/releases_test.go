package bucket_test

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/bucket"
	"github.com/rekisteri/rekisteri/internal/pgptest"
	"gocloud.dev/blob"
)

var acmeFoo = rekisteri.Provider{Namespace: "acme", Type: "foo"}

// testKey is the key that builds are signed with.
func testKey() *pgptest.Key { return pgptest.NewKey("releases@acme.example") }

// build returns the files of a release of acme/foo. Builds with other seeds have
// other zips.
func build(version, seed string) map[string]string {
	prefix := "terraform-provider-foo_" + version + "_"
	files := map[string]string{
		prefix + "manifest.json": `{"version":1,"metadata":{"protocol_versions":["6.0"]}}`,
	}
	for _, platform := range []string{"darwin_arm64", "linux_amd64"} {
		var content bytes.Buffer
		z := zip.NewWriter(&content)
		w, _ := z.Create("terraform-provider-foo_v" + version)
		fmt.Fprintf(w, "%s for %s, build %s", version, platform, seed)
		z.Close()
		files[prefix+platform+".zip"] = content.String()
	}
	var sums strings.Builder
	for _, name := range slices.Sorted(maps.Keys(files)) {
		fmt.Fprintf(&sums, "%x  %s\n", sha256.Sum256([]byte(files[name])), name)
	}
	files[prefix+"SHA256SUMS"] = sums.String()
	files[prefix+"SHA256SUMS.sig"] = testKey().Sign(sums.String(), time.Time{})
	return files
}

// sumsOf and sigOf return the names of files of a release of acme/foo.
func sumsOf(version string) string { return "terraform-provider-foo_" + version + "_SHA256SUMS" }
func sigOf(version string) string  { return sumsOf(version) + ".sig" }
func zipOf(version string) string {
	return "terraform-provider-foo_" + version + "_linux_amd64.zip"
}

// addRelease writes a build to a bucket.
func addRelease(t testing.TB, b *blob.Bucket, version string) {
	t.Helper()
	for name, content := range build(version, "") {
		addObject(t, b, "acme/foo/"+version+"/"+name, content)
	}
}

func addObject(t testing.TB, b *blob.Bucket, key, content string) {
	t.Helper()
	if err := b.WriteAll(t.Context(), key, []byte(content), nil); err != nil {
		t.Fatal(err)
	}
}

// A replica is a registry over a bucket.
type replica struct {
	*rekisteri.FSBackend
	fs        *bucket.FS
	publisher rekisteri.Publisher
}

func newReplica(t *testing.T, b *blob.Bucket, opts *bucket.Options) replica {
	fsys := bucket.New(b, opts)
	backend := rekisteri.NewFSBackend(fsys, &rekisteri.FSOptions{Logger: quiet(t), Store: fsys, RefreshEvery: 10 * time.Second})
	return replica{backend, fsys, backend.Publisher()}
}

// upload uploads files of a release of acme/foo, and returns the last receipt.
func (r replica) upload(t *testing.T, version string, files map[string]string, names ...string) (receipt *rekisteri.Receipt, err error) {
	for _, name := range names {
		receipt, err = r.publisher.Publish(t.Context(), acmeFoo, version, name, strings.NewReader(files[name]))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return receipt, nil
}

// names returns the names of the files of a build, in an order in which
// SHA256SUMS and its signature come last.
func names(files map[string]string) []string {
	return slices.SortedFunc(maps.Keys(files), func(a, b string) int {
		rank := func(name string) string { return fmt.Sprint(strings.Contains(name, "SHA256SUMS"), name) }
		return strings.Compare(rank(a), rank(b))
	})
}

// mustHold checks that a version in a bucket is a build, and nothing else.
func mustHold(t *testing.T, b *blob.Bucket, version string, files map[string]string) {
	t.Helper()
	dir := "acme/foo/" + version + "/"
	if got, want := keys(t, b, dir), slices.Sorted(maps.Keys(files)); !slices.Equal(got, want) {
		t.Errorf("%s has %q, want %q", dir, got, want)
	}
	for name, want := range files {
		if got, err := b.ReadAll(t.Context(), dir+name); err != nil || string(got) != want {
			t.Errorf("%s: other content, or %v", name, err)
		}
	}
}
