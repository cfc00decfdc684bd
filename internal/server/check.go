package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"

	"github.com/rekisteri/rekisteri"
)

// Check returns the command that checks a tree. It fails if the tree has a
// problem.
func Check(src Source) Command {
	return Command{
		Name:    "check",
		Args:    "[namespace/type ...]",
		Summary: "check the tree, or the providers that are named; exit with 1 if there is a problem",
		Setup: func(flags *flag.FlagSet) Run {
			c := &checker{src: src}
			src.Flags(flags)
			flags.BoolVar(&c.hash, "hash", false, "read every zip too: compare it with its SHA-256, and look for the provider's binary in it")
			return c.run
		},
	}
}

// A checker is the check command.
type checker struct {
	src  Source
	hash bool
}

// run writes a line to stdout for each problem, and a summary.
func (c *checker) run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	var providers []rekisteri.Provider // nil: all
	for _, arg := range args {
		namespace, providerType, ok := strings.Cut(arg, "/")
		if !ok || strings.HasPrefix(arg, "-") {
			return Usagef("%q is not the name of a provider, such as acme/foo; flags come before the names", arg)
		}
		providers = append(providers, rekisteri.Provider{Namespace: namespace, Type: providerType})
	}
	tree, err := c.src.Open(ctx, new(rekisteri.FSOptions))
	if err != nil {
		return err
	}
	progress := io.Discard
	if IsTerminal(stderr) {
		progress = stderr
	}
	const clearLine = "\r\x1b[K"
	checked, problems := 0, 0
	opts := &rekisteri.CheckOptions{Providers: providers, Hash: c.hash, Progress: func(p rekisteri.Provider) {
		checked++
		fmt.Fprintf(progress, "%s%d: %v", clearLine, checked, p)
	}}
	for problem := range tree.Backend.Check(ctx, opts) {
		fmt.Fprint(progress, clearLine)
		fmt.Fprintln(stdout, problem)
		problems++
	}
	fmt.Fprint(progress, clearLine)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("the check was interrupted: %w", err)
	}
	fmt.Fprintf(stdout, "%s checked, %s\n", count(checked, "provider"), count(problems, "problem"))
	if problems > 0 {
		return errors.New("the tree has problems")
	}
	return nil
}

// count returns a number of things in words, such as "1 problem".
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprint(n, " ", thing)
}
