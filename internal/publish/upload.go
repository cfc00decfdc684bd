package publish

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/rekisteri/rekisteri"
)

// A target is a provider version at a registry.
type target struct {
	*client
	base     *url.URL
	provider rekisteri.Provider
	version  string
}

// put uploads a file.
func (t *target) put(ctx context.Context, f file) (*rekisteri.Receipt, error) {
	u := t.base.JoinPath(filesPath, t.provider.Namespace, t.provider.Type, t.version, f.name)
	return t.client.put(ctx, u, f)
}

// upload uploads a release. It reports whether the release was published before.
//
// SHA256SUMS and its signature come first. A wrong token or key is then found
// before the zips are sent, and the answers say which files the registry has
// already.
func (t *target) upload(ctx context.Context, d *dist) (before bool, _ error) {
	receipt, err := t.send(ctx, d.sums)
	if err == nil && receipt.State == rekisteri.StateUnchanged {
		return true, nil
	}
	isStaged := func() bool { return err == nil && receipt.State == rekisteri.StateStaged }
	if isStaged() {
		if receipt, err = t.send(ctx, d.signature); err != nil {
			return false, err
		}
	}
	if isStaged() {
		receipt, err = t.sendAll(ctx, t.lacking(d, receipt), nil)
	}
	if isRefused(err) {
		// Files of an incomplete upload of another build may contradict these.
		// Sending all files replaces them, though some may be refused again.
		t.progress.printf("%v", err)
		t.progress.printf("sending all files, in case the error is about files of an earlier upload")
		receipt, err = t.sendAll(ctx, d.others, isRefused)
		if isStaged() {
			receipt, err = t.send(ctx, d.sums)
		}
		if isStaged() {
			receipt, err = t.send(ctx, d.signature)
		}
	}
	if isStaged() {
		receipt, err = t.send(ctx, d.sums) // another publisher may have completed the release
	}
	if isStaged() {
		err = fmt.Errorf("all files were sent, but the registry still lacks %s: run the command again", printable(strings.Join(receipt.Missing, ", ")))
	}
	return false, err
}

// lacking returns the files that a registry lacks, by its receipt for the
// signature.
func (t *target) lacking(d *dist, receipt *rekisteri.Receipt) []file {
	if len(receipt.Missing) == 0 { // it does not say
		return d.others
	}
	lacking := slices.DeleteFunc(slices.Clone(d.others), func(f file) bool { return !slices.Contains(receipt.Missing, f.name) })
	if n := len(d.others) - len(lacking); n > 0 {
		t.progress.printf("%s uploaded before", count(n, "file"))
	}
	return lacking
}

// isRefused reports whether a registry has refused a file because of its content.
func isRefused(err error) bool {
	answer, ok := errors.AsType[*statusError](err)
	return ok && answer.status == http.StatusUnprocessableEntity
}

// send uploads a file.
func (t *target) send(ctx context.Context, f file) (*rekisteri.Receipt, error) {
	return t.sendAll(ctx, []file{f}, nil)
}

// sendAll uploads files, some at a time, until one fails with an error that
// ignore does not accept. A nil ignore accepts none. The receipt is the last
// one, or one that says that the release is published.
func (t *target) sendAll(ctx context.Context, files []file, ignore func(error) bool) (*rekisteri.Receipt, error) {
	t.progress.expect(files)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	last := &rekisteri.Receipt{State: rekisteri.StateStaged}
	queue := make(chan file)
	var group sync.WaitGroup
	for range min(parallel, len(files)) {
		group.Go(func() {
			for f := range queue {
				receipt, err := t.put(ctx, f)
				switch {
				case err == nil:
					t.progress.printf("uploaded %s (%s)", f.name, size(f.size))
					mu.Lock()
					if last.State == rekisteri.StateStaged {
						last = receipt
					}
					mu.Unlock()
				case ignore == nil || !ignore(err):
					cancel(err)
				}
				t.progress.done()
			}
		})
	}
	for _, f := range files {
		select {
		case queue <- f:
		case <-ctx.Done():
		}
	}
	close(queue)
	group.Wait()
	return last, context.Cause(ctx)
}
