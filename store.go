package rekisteri

import (
	"context"
	"crypto/sha256"
	"io"
	"io/fs"
	"time"
)

// A Store is the writable file system to which an [FSBackend] publishes
// releases. Its methods may be called concurrently, also by several processes.
//
// Files are first staged, where the backend does not serve them, and then
// committed together. A release's directory is <namespace>/<type>/<version>.
type Store interface {
	// An FS reads the tree, and what is staged.
	fs.FS

	// Stage stores a file for the release with a directory dir. Once check has
	// accepted what was written, the file is listed by Staged, and survives a
	// crash. If content or check returns an error, Stage stores nothing and
	// returns that error. Stage may be called for the same name with
	// different content; all files are kept.
	Stage(ctx context.Context, dir, name string, content io.Reader, check func(StagedFile) error) (Staged, error)

	// Staged returns the files that are staged for a release, in the order of
	// their arrival. If dir is a namespace, it returns those of all its
	// releases.
	Staged(ctx context.Context, dir string) ([]Staged, error)

	// Claim returns the SHA256SUMS of a release at dir whose commit has begun and
	// is not complete. No other release can be committed there, ever. Claim
	// returns nil if there is nothing at dir. If there is anything else, its error
	// matches [fs.ErrExist]. In a store whose commits are atomic, there are no
	// such releases.
	Claim(ctx context.Context, dir string) (*Staged, error)

	// Commit makes a directory of staged files. It appears with all of them or
	// not at all, and survives a crash. files has SHA256SUMS first and its
	// signature last. Commit also completes the commit of a release that Claim
	// returns the SHA256SUMS of. If there is anything else at dir, Commit changes
	// nothing, and its error matches [fs.ErrExist].
	Commit(ctx context.Context, dir string, files []Staged) error

	// Discard removes the files that are staged for a release, unless one of them
	// arrived at the time before or later, or the release's commit has begun and
	// is not complete. If dir is a namespace, it does so for each of its releases.
	Discard(ctx context.Context, dir string, before time.Time) error
}

// A Staged is a file that was staged.
type Staged struct {
	Name   string // in the release
	Path   string // where the [Store] has it
	Size   int64
	SHA256 [sha256.Size]byte
	Time   time.Time // when it arrived, by the clock of the store
}

// A StagedFile is a file that was written and is not staged yet.
type StagedFile interface {
	io.ReaderAt

	// Written returns the file's size and digest.
	Written() (size int64, sum [sha256.Size]byte)
}
