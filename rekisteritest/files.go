package rekisteritest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"slices"
	"strings"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/release"
)

// A storedFile is a file that the backend stores.
type storedFile struct {
	provider      rekisteri.Provider
	version, name string
	content       []byte // as it was loaded
}

// String returns the call that opens the file.
func (f storedFile) String() string {
	return fmt.Sprintf("Open(%v, %s, %q)", f.provider, f.version, f.name)
}

// filesOf returns the files of a release that the backend stores: those without
// a URL.
func (t *tester) filesOf(p rekisteri.Provider, version string) []storedFile {
	if t.opener == nil {
		return nil
	}
	rel, err := t.release(t.ctx, p, version)
	if err != nil {
		return nil // checkRelease reports it
	}
	var files []storedFile
	add := func(url, name, loadedName string) {
		if url == "" && !slices.ContainsFunc(files, func(f storedFile) bool { return f.name == name }) {
			files = append(files, storedFile{p, version, name, t.want[p].Files[version][loadedName]})
		}
	}
	sums, signature := release.SumsName(p.Type, version), release.SignatureName(p.Type, version)
	for _, pkg := range rel.Packages {
		if want := packageFor(t.want[p].Releases[version], pkg.Platform); want != nil {
			add(pkg.URL, pkg.Filename, want.Filename)
			add(pkg.SHASumsURL, sums, sums)
			add(pkg.SHASumsSignatureURL, signature, signature)
		}
	}
	return files
}

// files yields all files that the backend stores.
func (t *tester) files() iter.Seq[storedFile] {
	return func(yield func(storedFile) bool) {
		for p, version := range t.loaded() {
			for _, f := range t.filesOf(p, version) {
				if !yield(f) {
					return
				}
			}
		}
	}
}

// checkNames opens files by names that are not files of the release.
func checkNames(t *tester) {
	refuse := func(p rekisteri.Provider, version, name string) {
		f := storedFile{provider: p, version: version, name: name}
		if fault := notFoundFault(t.open(t.ctx, f, func(io.ReadSeeker) {})); fault != "" {
			t.failf("%v %s", f, fault)
		}
	}
	foo := rekisteri.Provider{Namespace: "acme", Type: "foo"}
	const own, other = "terraform-provider-foo_1.0.0_linux_amd64.zip", "terraform-provider-foo_9.0.0_linux_amd64.zip"
	for _, name := range []string{
		"", ".", "..", "/", "./" + own, own + "/", own + "/.", "x/../" + own, "/" + own, `.\` + own, `\` + own,
		"nothing.zip", "terraform-provider-foo_1.0.0_plan9_386.zip",
		other, "terraform-provider-foo_9.0.0_SHA256SUMS", "terraform-provider-foo_9.0.0_SHA256SUMS.sig",
		"../9.0.0/" + other, "../../foo/9.0.0/" + other, `..\9.0.0\` + other, "..%2f9.0.0%2f" + other,
		"../../../acme-labs/foo/1.0.0/" + own, "../../foo-bar/1.1.0/terraform-provider-foo-bar_1.1.0_linux_amd64.zip",
		"../../acme.asc", "../../../../../../../../../../etc/passwd", "/etc/passwd", `C:\Windows\win.ini`,
		"NUL", "\x00", own + "\x00", own + "\x00.sig",
	} {
		refuse(foo, "1.0.0", name)
	}
	refuse(foo, "99.0.0", own)
	refuse(foo, "9.0.0", own)
	for _, u := range unknownProviders {
		refuse(u.provider, "1.0.0", own)
	}
}

func checkContents(t *tester) {
	for f := range t.files() {
		if fault := t.contentFault(t.ctx, f); fault != "" {
			t.failf("%v %s", f, fault)
		}
	}
}

// contentFault opens a file and describes what is wrong with its content.
func (t *tester) contentFault(ctx context.Context, f storedFile) string {
	content, err := t.read(ctx, f)
	switch {
	case err != nil:
		return failure(err)
	case len(content) < len(f.content):
		return fmt.Sprintf("has %d bytes, want %d", len(content), len(f.content))
	case len(content) > len(f.content):
		return fmt.Sprintf("has more than %d bytes", len(f.content))
	case !bytes.Equal(content, f.content):
		return fmt.Sprintf("has other bytes: their SHA-256 is %x, want %x", sha256.Sum256(content), sha256.Sum256(f.content))
	}
	return ""
}

func checkRedirects(t *tester) {
	for f := range t.files() {
		err := t.open(t.ctx, f, func(io.ReadSeeker) {})
		to, ok := errors.AsType[*rekisteri.Redirect](err)
		if !ok {
			continue
		}
		u, parseErr := url.Parse(to.URL)
		switch {
		case parseErr != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
			t.failf("%v redirects to %q, which is not an absolute http or https URL", f, to.URL)
		case to.Size != int64(len(f.content)):
			t.failf("%v redirects to a file of %d bytes, want %d", f, to.Size, len(f.content))
		case strings.Contains(err.Error(), to.URL):
			t.failf("%v redirects with an error that contains the URL", f)
		}
	}
}

func checkSeeking(t *tester) {
	for f := range t.files() {
		if t.contentFault(t.ctx, f) != "" {
			continue // checkContents reports it
		}
		t.open(t.ctx, f, func(r io.ReadSeeker) {
			if err := readInParts(r, f.content); err != nil {
				t.failf("%v: %v", f, err)
			}
		})
	}
}

// readInParts seeks and reads as the registry does for range requests.
func readInParts(r io.ReadSeeker, content []byte) error {
	size := len(content)
	for _, part := range [][2]int{{0, size}, {size / 2, size}, {1, size / 2}, {size - 1, size}, {0, 1}} {
		if end, err := r.Seek(0, io.SeekEnd); err != nil {
			return fmt.Errorf("seeking to the end fails: %w", err)
		} else if end != int64(size) {
			return fmt.Errorf("seeking to the end returns %d, want %d", end, size)
		}
		from, to := part[0], part[1]
		if at, err := r.Seek(int64(from), io.SeekStart); err != nil {
			return fmt.Errorf("seeking to %d fails: %w", from, err)
		} else if at != int64(from) {
			return fmt.Errorf("seeking to %d returns %d", from, at)
		}
		got := make([]byte, to-from)
		if _, err := io.ReadFull(r, got); err != nil {
			return fmt.Errorf("reading the bytes from %d to %d fails: %w", from, to, err)
		}
		if !bytes.Equal(got, content[from:to]) {
			return fmt.Errorf("reading the bytes from %d to %d returns other bytes", from, to)
		}
	}
	return nil
}

// checkOpenTwice reads a file of each release while it is already being read.
func checkOpenTwice(t *tester) {
	for p, version := range t.loaded() {
		files := t.filesOf(p, version)
		if len(files) == 0 {
			continue
		}
		f := files[0]
		alone, err := t.read(t.ctx, f)
		if err != nil {
			continue // checkContents reports it
		}
		t.open(t.ctx, f, func(r io.ReadSeeker) {
			if fault := t.secondReaderFault(f, r, alone); fault != "" {
				t.failf("%v, while it is open already, %s", f, fault)
			}
		})
	}
}

// secondReaderFault reads a file again in the middle of reading it from r, and
// describes how the two readers disturb each other. alone is what a single
// reader gets.
func (t *tester) secondReaderFault(f storedFile, r io.Reader, alone []byte) string {
	first := make([]byte, len(alone)/2)
	if _, err := io.ReadFull(r, first); err != nil {
		return "" // checkContents reports it
	}
	second, err := t.read(t.ctx, f)
	if err != nil {
		return failure(err)
	}
	rest, err := io.ReadAll(io.LimitReader(r, int64(len(f.content))+1-int64(len(first))))
	switch {
	case err != nil:
		return fmt.Sprintf("breaks the first reader: %v", err)
	case !bytes.Equal(second, alone):
		return "has other bytes"
	case !bytes.Equal(append(first, rest...), alone):
		return "changes the bytes that the first reader gets"
	}
	return ""
}
