// Package server has the parts of the project's commands: subcommands, flags and
// environment variables, the listener, TLS, the access log, health checks and
// graceful shutdown. A command adds its [Source] of providers.
package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
)

// envPrefix begins the names of the environment variables that set flags.
const envPrefix = "REKISTERI_"

// A Program is an executable with subcommands.
type Program struct {
	Name    string // of the executable
	Summary string // what it does, in a sentence

	// Commands are the subcommands. The first one runs if none is named.
	Commands []Command
}

// A Command is a subcommand of a [Program].
type Command struct {
	Name    string
	Args    string // its arguments after the flags, for the help text; empty: it takes none
	Summary string // what it does, in a few words
	Notes   string // more for the help text, after the flags; may be empty

	// Setup defines the command's flags, and returns the function that runs
	// the command after they are set.
	Setup func(*flag.FlagSet) Run
}

// Run runs a command. The command's result goes to stdout, the log and
// everything else to stderr.
type Run func(ctx context.Context, args []string, stdout, stderr io.Writer) error

// A usageError is a wrong command line.
type usageError struct{ error }

// Usagef returns an error that says what is wrong with a command line.
func Usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// Main runs the program with the arguments of the process, and ends the
// process: with status 0, 1 if the command fails, and 2 if the command line is
// wrong. SIGINT and SIGTERM end the command's context. A second signal ends the
// process at once.
func (p *Program) Main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	err := p.Run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	if err == nil {
		return
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", p.Name, err)
	if _, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintf(os.Stderr, "Run '%s help' to see the commands and flags.\n", p.Name)
		os.Exit(2)
	}
	os.Exit(1)
}

// Run runs the command that args name, until it ends or ctx is done.
func (p *Program) Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	name := ""
	if len(args) > 0 && (!strings.HasPrefix(args[0], "-") || isVersion(args[0])) {
		name, args = args[0], args[1:]
	}
	if isVersion(name) {
		fmt.Fprintln(stdout, p.Name, version())
		return nil
	}
	if name == "help" {
		name = ""
		if len(args) > 0 {
			name = args[0]
		}
		args = []string{"-help"}
	}
	for i, cmd := range p.Commands {
		if cmd.Name == name || name == "" && i == 0 {
			return p.run(ctx, &cmd, args, stdout, stderr)
		}
	}
	return Usagef("unknown command %q", name)
}

// run sets a command's flags and runs it.
func (p *Program) run(ctx context.Context, cmd *Command, args []string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet(cmd.Name, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // the error says enough
	run := cmd.Setup(flags)
	err := flags.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		p.help(stdout, cmd, flags)
		return nil
	}
	if err != nil {
		return usageError{err}
	}
	if err := setFromEnv(flags); err != nil {
		return usageError{err}
	}
	if cmd.Args == "" && flags.NArg() > 0 {
		return Usagef("unexpected argument %q", flags.Arg(0))
	}
	return run(ctx, flags.Args(), stdout, stderr)
}

// setFromEnv sets the flags that the command line has not set from the
// environment. It ignores other variables with the prefix: Kubernetes sets some
// for a service of this name.
func setFromEnv(flags *flag.FlagSet) error {
	set := make(map[string]bool)
	flags.Visit(func(f *flag.Flag) { set[f.Name] = true })
	var errs []error
	flags.VisitAll(func(f *flag.Flag) {
		name := envName(f.Name)
		value := os.Getenv(name)
		if set[f.Name] || value == "" {
			return
		}
		if err := f.Value.Set(value); err != nil {
			errs = append(errs, fmt.Errorf("invalid value %q of the variable %s: %w", value, name, err))
		}
	})
	return errors.Join(errs...)
}

// envName returns the name of the environment variable that sets a flag.
func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// help writes the help text of a command.
func (p *Program) help(w io.Writer, cmd *Command, flags *flag.FlagSet) {
	fmt.Fprintf(w, "%s\n\nUsage:\n\n", p.Summary)
	for i, c := range p.Commands {
		name := c.Name
		if i == 0 {
			name = "[" + name + "]"
		}
		line := strings.TrimSuffix(fmt.Sprintf("%s %s [flags] %s", p.Name, name, c.Args), " ")
		fmt.Fprintf(w, "  %s\n    \t%s\n", line, c.Summary)
	}
	fmt.Fprintf(w, "  %s help [command]\n    \tprint the flags of a command\n", p.Name)
	fmt.Fprintf(w, "  %s -version\n    \tprint the version\n", p.Name)
	fmt.Fprintf(w, "\nFlags of %s %s:\n\n", p.Name, cmd.Name)
	flags.SetOutput(w)
	flags.PrintDefaults()
	if cmd.Notes != "" {
		fmt.Fprintf(w, "\n%s\n", cmd.Notes)
	}
	var examples []string
	flags.VisitAll(func(f *flag.Flag) { examples = append(examples, envName(f.Name)+" sets -"+f.Name) })
	fmt.Fprintf(w, "\nAn environment variable sets a flag too: %s.\nThe command line wins.\n", strings.Join(examples[:min(2, len(examples))], ", "))
}

func isVersion(arg string) bool { return arg == "-version" || arg == "--version" }

// version returns the version that the go command wrote into the executable.
func version() string {
	return fmt.Sprintf("%s (%s %s/%s)", mainVersion(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// mainVersion returns the version alone.
func mainVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		return info.Main.Version
	}
	return "unknown"
}
