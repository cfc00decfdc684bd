package rekisteritest

import (
	"archive/zip"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rekisteri/rekisteri"
)

var (
	acmeFoo    = rekisteri.Provider{Namespace: "acme", Type: "foo"}
	acmeFooBar = rekisteri.Provider{Namespace: "acme", Type: "foo-bar"}
	labsFoo    = rekisteri.Provider{Namespace: "acme-labs", Type: "foo"}
)

func checkComplete(t *tester) {
	r := t.toPublish(labsFoo, "1.2.0", 0)
	r.publishInOrder(slices.Concat([]string{r.sig}, r.zips, r.manifest, []string{r.sums}))
	r = t.toPublish(acmeFoo, "9.0.0", 1)
	r.publishInOrder(slices.Concat([]string{r.sums, r.sig}, r.manifest, r.zips))
	r = t.toPublish(acmeFoo, "10.0.0", 2)
	r.publishInOrder(slices.Concat(r.zips, r.manifest, []string{r.sums, r.sig})) // as GoReleaser does
}

// publishInOrder publishes the files. The last one completes the release.
func (r *toPublish) publishInOrder(order []string) {
	for i, name := range order {
		left := order[i+1:]
		if len(left) == 0 {
			r.mustPut(name, ", the last file,", rekisteri.StatePublished)
			break
		}
		how := fmt.Sprintf(", with %d more files to come,", len(left))
		receipt := r.mustPut(name, how, rekisteri.StateStaged)
		if receipt != nil && !slices.Contains(left, r.sums) && !sameElements(receipt.Missing, left) {
			r.failf("%s%s says that %q are missing, want %q", r.publishCall(name), how, receipt.Missing, left)
		}
		if !r.mustNotBeServed("before the release is complete: after " + name) {
			return
		}
	}
	r.mustBeServed("after the release was published")
}

func checkNeverChanges(t *tester) {
	r, other := t.toPublish(labsFoo, "1.2.0", 1), t.toPublish(labsFoo, "1.0.0", 1)
	names := slices.Concat(r.zips, r.manifest, []string{r.sums, r.sig})
	for _, name := range names {
		r.put(name) // checkComplete may have published it
	}
	if r.servedSoon() != "" {
		return // checkComplete reports it
	}
	for _, name := range names {
		r.mustPut(name, ", with the content that is published,", rekisteri.StateUnchanged)
	}
	changed := map[string][]byte{
		r.zips[0]:     r.wrongZip(),
		r.manifest[0]: []byte(`{"version":1,"metadata":{"protocol_versions":["5.0"]}}`),
		r.sums:        bytes.ReplaceAll(r.files[r.sums], []byte("a"), []byte("b")),
		r.sig:         other.files[other.sig],
	}
	for _, name := range names {
		content, ok := changed[name]
		if !ok {
			continue
		}
		_, err := r.send(t.ctx, r.publisher, name, bytes.NewReader(content))
		switch {
		case err == nil:
			t.failf("%s succeeds for another content than the published one", r.publishCall(name))
		case err != errReported && !errors.Is(err, fs.ErrExist):
			t.failf("%s, with another content than the published one, fails with an error that does not match fs.ErrExist: %v", r.publishCall(name), err)
		}
	}
	if fault := r.served(); fault != "" {
		t.failf("%s after other files were sent for the published release", fault)
	}
}

// wrongZip returns a zip that clients could install, but whose sum is not in
// SHA256SUMS.
func (r *toPublish) wrongZip() []byte {
	var b bytes.Buffer
	w := zip.NewWriter(&b)
	f, err := w.Create("terraform-provider-" + r.provider.Type + "_v" + r.version)
	if err == nil {
		_, err = io.WriteString(f, "another build\n")
	}
	if err := errors.Join(err, w.Close()); err != nil {
		panic(err) // a buffer does not fail
	}
	return b.Bytes()
}

var errCutOff = errors.New("the upload was cut off")

// A cutOff is the end of an upload that was cut off.
type cutOff struct{}

func (cutOff) Read([]byte) (int, error) { return 0, errCutOff }

func checkInterrupted(t *tester) {
	r := t.toPublish(acmeFooBar, "1.1.0", 0)
	var before *rekisteri.Receipt
	for i, name := range slices.Concat([]string{r.sums, r.sig}, r.manifest, r.zips) {
		content := r.files[name]
		_, err := r.send(t.ctx, r.publisher, name, io.MultiReader(bytes.NewReader(content[:len(content)/2]), cutOff{}))
		switch {
		case err == nil:
			t.failf("%s succeeds, although reading the content fails", r.publishCall(name))
		case err != errReported && !errors.Is(err, errCutOff):
			t.failf("%s does not return the error of its content, but %v", r.publishCall(name), err)
		}
		if i > 0 && before != nil {
			again := r.mustPut(r.sums, ", after an interrupted upload of "+name+",", rekisteri.StateStaged)
			if again != nil && slices.Contains(before.Missing, name) && !slices.Contains(again.Missing, name) {
				t.failf("%s was interrupted, and the file is not missing any more", r.publishCall(name))
			}
		}
		before = r.mustPut(name, ", after it was interrupted,", rekisteri.StateStaged, rekisteri.StatePublished)
	}
	r.mustBeServed("after interrupted uploads and good ones")
}

func checkResumed(t *tester) {
	r := t.toPublish(acmeFoo, "1.0.0", 0)
	_, err := r.send(t.ctx, r.publisher, r.zips[0], bytes.NewReader(r.wrongZip()))
	if err != nil && err != errReported && !isRefused(err) {
		t.failf("%s, with a zip of another build, fails with an error that is not an UploadError: %v", r.publishCall(r.zips[0]), err)
	}
	for _, name := range []string{r.zips[1], r.sums} {
		r.mustPut(name, "", rekisteri.StateStaged)
	}
	r.publisher = t.publishers[len(t.publishers)-1]
	const how = ", by the publisher that resumes,"
	for _, name := range []string{r.zips[0], r.sig} {
		r.mustPut(name, how, rekisteri.StateStaged)
	}
	r.mustPut(r.zips[2], how, rekisteri.StatePublished)
	r.mustBeServed("after a resumed upload")
}

func checkRefused(t *tester) {
	r, other := t.toPublish(acmeFoo, "2.0.0-rc.1", 1), t.toPublish(acmeFoo, "1.0.0", 1)
	refuse := func(what, name string, content []byte) {
		_, err := r.send(t.ctx, r.publisher, name, bytes.NewReader(content))
		switch {
		case err == nil:
			t.failf("%s accepts %s", r.publishCall(name), what)
		case err != errReported && !isRefused(err):
			t.failf("%s, with %s, fails with an error that is not an UploadError: %v", r.publishCall(name), what, err)
		}
	}
	zip := r.zips[0]
	refuse("a zip without its end", zip, r.files[zip][:len(r.files[zip])-10])
	refuse("a SHA256SUMS with a blank line", r.sums, append([]byte("\n"), r.files[r.sums]...))
	r.mustPut(r.sums, "", rekisteri.StateStaged)
	refuse("the signature of another release", r.sig, other.files[other.sig])
	r.mustNotBeServed("after bad files")
	for _, name := range slices.Concat([]string{r.sig}, r.manifest) {
		r.mustPut(name, ", after bad files,", rekisteri.StateStaged)
	}
	receipt, err := r.send(t.ctx, r.publisher, zip, bytes.NewReader(r.wrongZip()))
	switch {
	case err == nil && receipt.State != rekisteri.StateStaged: // a publisher may also wait for the right one
		t.failf("%s publishes a zip of another build than SHA256SUMS", r.publishCall(zip))
	case err != nil && err != errReported && !isRefused(err):
		t.failf("%s, with a zip of another build than SHA256SUMS, fails with an error that is not an UploadError: %v", r.publishCall(zip), err)
	}
	r.mustNotBeServed("after a zip of another build")
	r.mustPut(zip, ", after bad files,", rekisteri.StatePublished)
	r.mustBeServed("after bad files and good ones")
}

func checkRace(t *tester) {
	const rounds = 3
	r := t.toPublish(acmeFooBar, "1.0.0+build", 0)
	wrong := r.wrongZip()
	var mu sync.Mutex
	published, wrongExists := 0, false // wrongExists: a wrong zip arrived after the release was published
	start, done := make(chan struct{}), make(chan struct{})
	send := func(by rekisteri.Publisher, name, what string, content []byte) {
		<-start
		receipt, err := r.send(t.ctx, by, name, bytes.NewReader(content))
		isWrong := what != ""
		exists := errors.Is(err, fs.ErrExist)
		switch {
		case err == nil:
		case err == errReported, isRefused(err) && !exists, isWrong && exists:
			// A good file may be refused while a wrong one is there.
		default:
			t.failf("%s%s, among concurrent uploads, fails: %v", r.publishCall(name), what, err)
		}
		mu.Lock()
		defer mu.Unlock()
		if receipt != nil && receipt.State == rekisteri.StatePublished {
			published++
		}
		wrongExists = wrongExists || isWrong && exists
	}
	var uploads, readers sync.WaitGroup
	for range rounds {
		for _, by := range t.publishers {
			uploads.Go(func() { send(by, r.zips[0], ", with a zip of another build", wrong) })
			for name, content := range r.files {
				uploads.Go(func() { send(by, name, "", content) })
			}
		}
	}
	readers.Go(func() { r.watch(done) })
	close(start)
	uploads.Wait()
	close(done)
	readers.Wait()
	for name, content := range r.files { // a wrong zip may have come last
		send(r.publisher, name, "", content)
	}
	if t.isStopped() {
		return
	}
	// The upload that completed the release may be that of a wrong zip, which is
	// refused.
	if published > 1 || published == 0 && !wrongExists {
		t.failf("%d of the concurrent uploads of %v have a receipt with the state %q, want 1", published, r, rekisteri.StatePublished)
	}
	r.mustBeServed("after concurrent uploads")
}

// watch reads the release until done is closed. It fails the rule if only a
// part of the release is served, or if the release vanishes.
func (r *toPublish) watch(done <-chan struct{}) {
	call := releaseCall(r.provider, r.version)
	seen := false
	for {
		rel, err := r.release(r.ctx, r.provider, r.version)
		switch {
		case err == nil:
			seen = true
			if faults := packageFaults(rel, r.want[r.provider].Releases[r.version]); len(faults) > 0 {
				r.failf("%s, during concurrent uploads, %s", call, strings.Join(faults, "; "))
			}
		case err == errReported:
		case !errors.Is(err, fs.ErrNotExist):
			r.failf("%s, during concurrent uploads, fails: %v", call, err)
		case seen:
			r.failf("%s, during concurrent uploads, finds the release and then does not", call)
		}
		select {
		case <-done:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// A pausedReader waits in the middle of its content until a context is done.
type pausedReader struct {
	ctx    context.Context
	before io.Reader
	after  io.Reader
}

func (p *pausedReader) Read(b []byte) (int, error) {
	if n, err := p.before.Read(b); err == nil {
		return n, nil
	}
	<-p.ctx.Done()
	return p.after.Read(b)
}

func checkCanceled(t *tester) {
	r := t.toPublish(labsFoo, "1.0.0", 0)
	for _, name := range slices.Concat([]string{r.sums, r.sig}, r.zips) {
		content := r.files[name]
		half := len(content) / 2
		t.eachDoneContext(func(ctx context.Context, how string) {
			_, err := r.send(ctx, r.publisher, name, &pausedReader{ctx, bytes.NewReader(content[:half]), bytes.NewReader(content[half:])})
			switch {
			case isRefused(err):
				t.failf("%s %s refuses the file: %v", r.publishCall(name), how, err)
			case errors.Is(err, fs.ErrNotExist):
				t.failf("%s %s reports that something does not exist: %v", r.publishCall(name), how, err)
			}
		})
		r.mustPut(name, ", after calls with a done context,", rekisteri.StateStaged, rekisteri.StatePublished, rekisteri.StateUnchanged)
	}
	r.mustBeServed("after calls with a done context")
}
