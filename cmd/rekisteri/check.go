package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/rekisteri/rekisteri"
)

// check writes a line to stdout for each problem of the tree, and a summary.
// It returns an error if there is a problem.
func check(ctx context.Context, c *config, fsys fs.FS, stdout, stderr io.Writer) error {
	backend := rekisteri.NewFSBackend(fsys, nil) // Check logs nothing
	providers, problems := 0, 0
	const clear = "\r\x1b[K"
	tty := isTerminal(stderr)
	opts := &rekisteri.CheckOptions{Providers: c.providers, Hash: c.hash, Progress: func(p rekisteri.Provider) {
		providers++
		if tty {
			fmt.Fprintf(stderr, "%s%d: %v", clear, providers, p)
		}
	}}
	for problem := range backend.Check(ctx, opts) {
		if tty {
			fmt.Fprint(stderr, clear)
		}
		fmt.Fprintln(stdout, problem)
		problems++
	}
	if tty {
		fmt.Fprint(stderr, clear)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("the check was cut short: %w", err)
	}
	fmt.Fprintf(stdout, "%d providers checked, %d problems\n", providers, problems)
	if problems > 0 {
		return errors.New("the tree has problems")
	}
	return nil
}
