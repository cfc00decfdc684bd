package rekisteri

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A Dir stages files in <namespace>/.upload, in a directory for each release:
//
//	<namespace>/.upload/<type>/<version>/<SHA-256>-<name>
//
// A file is first written to <namespace>/.upload, and then renamed into that
// directory. To commit a release, its files are linked into a directory of
// .upload, which is then renamed to <namespace>/<type>/<version>. Names that
// begin with a dot are not served.
const (
	stageName    = ".upload"
	partPrefix   = ".part-"   // a file that is still being written
	commitPrefix = ".commit-" // a release before its rename
	trashPrefix  = ".trash-"  // a stage that is being removed

	copyBuffer = 256 << 10 // bytes; fewer system calls than io.Copy makes
)

var _ Store = (*Dir)(nil)

// splitDir splits the path of a release's directory into the namespace and the
// rest, which is empty if dir is a namespace.
func splitDir(dir string) (namespace, rest string) {
	namespace, rest, _ = strings.Cut(dir, "/")
	return namespace, rest
}

// stageOf returns the path of the stage of a release, or of a namespace.
func stageOf(dir string) string {
	namespace, rest := splitDir(dir)
	return path.Join(namespace, stageName, rest)
}

// A dirWriter writes to the root of a Dir. A crash may happen before or after
// each of its steps.
type dirWriter struct {
	root *os.Root
	step func(op, name string) error // called before each step; for tests
}

// writer returns a dirWriter for the directory as it is now.
func (d *Dir) writer() dirWriter {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := dirWriter{root: d.root, step: d.step}
	if w.step == nil {
		w.step = func(string, string) error { return nil }
	}
	return w
}

// mkdirs makes a directory and its parents, durably.
func (w dirWriter) mkdirs(name string) error {
	for i := range len(name) + 1 {
		if i < len(name) && name[i] != '/' {
			continue
		}
		dir := name[:i]
		if info, err := w.root.Stat(dir); err == nil && info.IsDir() {
			continue
		}
		if err := w.step("mkdir", dir); err != nil {
			return err
		}
		if err := w.root.Mkdir(dir, 0o777); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := w.sync(path.Dir(dir)); err != nil {
			return err
		}
	}
	return nil
}

// sync makes the entries of a directory durable.
func (w dirWriter) sync(dir string) error {
	if err := w.step("sync", dir); err != nil || runtime.GOOS == "windows" { // where directories cannot be synced
		return err
	}
	f, err := w.root.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (w dirWriter) rename(from, to string) error {
	if err := w.step("rename", to); err != nil {
		return err
	}
	return w.root.Rename(from, to)
}

func (w dirWriter) removeAll(name string) error {
	if err := w.step("remove", name); err != nil {
		return err
	}
	return w.root.RemoveAll(name)
}

// create writes a new file, durably.
func (w dirWriter) create(name string, content io.Reader) (*writtenFile, error) {
	if err := w.step("create", name); err != nil {
		return nil, err
	}
	f, err := w.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666)
	if err != nil {
		return nil, err
	}
	h := sha256.New()
	n, err := io.CopyBuffer(io.MultiWriter(f, h), content, make([]byte, copyBuffer))
	if err == nil {
		err = w.step("sync", name)
	}
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return &writtenFile{f, n, [sha256.Size]byte(h.Sum(nil))}, nil
}

// A writtenFile is a file that was just written.
type writtenFile struct {
	*os.File
	size int64
	sum  [sha256.Size]byte
}

// Written implements [StagedFile].
func (f *writtenFile) Written() (int64, [sha256.Size]byte) { return f.size, f.sum }

// Stage implements [Store].
func (d *Dir) Stage(ctx context.Context, dir, name string, content io.Reader, check func(StagedFile) error) (Staged, error) {
	w, stage := d.writer(), stageOf(dir)
	namespace, _ := splitDir(dir)
	upload := path.Join(namespace, stageName)
	if err := w.mkdirs(upload); err != nil {
		return Staged{}, err
	}
	part := upload + "/" + partPrefix + rand.Text()
	f, err := w.create(part, contextReader{ctx, content})
	if err != nil {
		w.removeAll(part)
		return Staged{}, err
	}
	s := Staged{Name: name, Path: stage + "/" + hex.EncodeToString(f.sum[:]) + "-" + name, Size: f.size, SHA256: f.sum}
	if err := errors.Join(check(f), f.Close()); err != nil {
		w.removeAll(part)
		return Staged{}, err
	}
	for range 5 { // Discard may remove the stage at any time
		if err = w.mkdirs(stage); err == nil {
			err = w.rename(part, s.Path)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	if err != nil {
		w.removeAll(part)
		return Staged{}, err
	}
	if err := w.sync(stage); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Staged{}, err
	}
	s.Time = time.Now()
	return s, nil
}

// Staged implements [Store].
func (d *Dir) Staged(ctx context.Context, dir string) ([]Staged, error) {
	var all []Staged
	err := fs.WalkDir(d.writer().root.FS(), stageOf(dir), func(name string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it was removed meanwhile, or is not there yet
		}
		if err := cmp.Or(err, ctx.Err()); err != nil {
			return err
		}
		if strings.HasPrefix(entry.Name(), ".") && entry.Name() != stageName {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		s, ok := parseStaged(name)
		if !ok || !entry.Type().IsRegular() {
			return nil
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		s.Size, s.Time = info.Size(), info.ModTime()
		all = append(all, s)
		return nil
	})
	slices.SortStableFunc(all, func(a, b Staged) int { return a.Time.Compare(b.Time) })
	return all, err
}

// parseStaged reads the path of a staged file.
func parseStaged(name string) (Staged, bool) {
	s := Staged{Path: name}
	sum, name, ok := strings.Cut(path.Base(name), "-")
	n, err := hex.Decode(s.SHA256[:], []byte(sum[:min(len(sum), 2*sha256.Size)]))
	s.Name = name
	return s, ok && err == nil && n == sha256.Size && len(sum) == 2*sha256.Size
}

// Claim implements [Store]. Commits are atomic.
func (d *Dir) Claim(_ context.Context, dir string) (*Staged, error) {
	_, err := d.writer().root.Lstat(dir)
	switch {
	case err == nil, errors.Is(err, syscall.ENOTDIR): // even if it is empty: a copy may be about to fill it
		return nil, fmt.Errorf("%s: %w", dir, fs.ErrExist)
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	}
	return nil, err
}

// Commit implements [Store].
func (d *Dir) Commit(ctx context.Context, dir string, files []Staged) error {
	w := d.writer()
	namespace, _ := splitDir(dir)
	commit := path.Join(namespace, stageName, commitPrefix+rand.Text())
	if _, err := d.Claim(ctx, dir); err != nil {
		return err
	}
	err := w.mkdirs(commit)
	for _, f := range files {
		if err == nil {
			err = cmp.Or(ctx.Err(), w.link(f.Path, commit+"/"+f.Name))
		}
	}
	if err == nil {
		err = w.sync(commit)
	}
	if err == nil {
		err = w.mkdirs(path.Dir(dir))
	}
	if err == nil {
		err = w.rename(commit, dir)
	}
	if err == nil {
		return w.sync(path.Dir(dir))
	}
	w.removeAll(commit)
	if errors.Is(err, syscall.ENOTDIR) { // a file is in the place of the directory
		return fmt.Errorf("%s: %w", dir, fs.ErrExist)
	}
	return err
}

// link gives a file another name, or copies it if the file system has no links.
// It does not move the file: after a crash, the file must still be staged.
func (w dirWriter) link(from, to string) error {
	if err := w.step("link", to); err != nil {
		return err
	}
	if err := w.root.Link(from, to); err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := w.root.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	copied, err := w.create(to, f)
	if err != nil {
		return err
	}
	return copied.Close()
}

// Discard implements [Store].
func (d *Dir) Discard(ctx context.Context, dir string, before time.Time) error {
	w := d.writer()
	namespace, rest := splitDir(dir)
	if rest != "" {
		return w.discard(namespace, stageOf(dir), before)
	}
	root := stageOf(namespace)
	types, err := fs.ReadDir(w.root.FS(), root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, typ := range types {
		if err := cmp.Or(err, ctx.Err()); err != nil {
			return err
		}
		at := root + "/" + typ.Name()
		if strings.HasPrefix(typ.Name(), ".") { // left behind by a crash
			err = w.discard(namespace, at, before)
			continue
		}
		versions, readErr := fs.ReadDir(w.root.FS(), at)
		err = readErr
		for _, version := range versions {
			if err == nil {
				err = w.discard(namespace, at+"/"+version.Name(), before)
			}
		}
	}
	return err
}

// discard removes a directory if everything in it was modified before the time
// before. It renames the directory first, so that no file is added while it is
// removed.
func (w dirWriter) discard(namespace, dir string, before time.Time) error {
	if young, err := w.hasYounger(dir, before); young || err != nil {
		return err
	}
	trash := path.Join(namespace, stageName, trashPrefix+rand.Text())
	if err := w.rename(dir, trash); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	if young, err := w.hasYounger(trash, before); young && err == nil {
		if err := w.rename(trash, dir); err == nil {
			return nil
		}
		// A new stage is in its place by now: move the files there.
		entries, err := fs.ReadDir(w.root.FS(), trash)
		for _, entry := range entries {
			err = errors.Join(err, w.rename(trash+"/"+entry.Name(), dir+"/"+entry.Name()))
		}
		if err != nil {
			return err
		}
	}
	return w.removeAll(trash)
}

// hasYounger reports whether something in a directory was modified at the time
// before or later, or the directory is gone.
func (w dirWriter) hasYounger(dir string, before time.Time) (bool, error) {
	young, any := false, false
	err := fs.WalkDir(w.root.FS(), dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		any = true
		young = young || !info.ModTime().Before(before)
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return !any, nil
	}
	return young, err
}
