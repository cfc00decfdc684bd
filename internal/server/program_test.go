package server

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// newTestProgram returns a program whose commands write what they got to
// stdout.
func newTestProgram() *Program {
	command := func(name, args, notes string) Command {
		return Command{Name: name, Args: args, Summary: name + " things", Notes: notes, Setup: func(flags *flag.FlagSet) Run {
			addr := flags.String("addr", "none", "an `address`")
			linkKey := flags.String("link-key", "", "a `file`")
			verbose := flags.Bool("verbose", false, "say more")
			wait := duration{time.Second}
			flags.Var(&wait, "wait", "a `duration`")
			return func(_ context.Context, args []string, stdout, _ io.Writer) error {
				fmt.Fprint(stdout, name, " ", *addr, " ", *linkKey, " ", *verbose, " ", wait.String(), " ", args)
				return nil
			}
		}}
	}
	return &Program{Name: "prog", Summary: "Prog is a program.", Commands: []Command{command("first", "", ""), command("second", "[thing ...]", "Things are words.")}}
}

func TestProgramRun(t *testing.T) {
	for _, test := range []struct {
		name string
		args []string
		env  map[string]string
		want string
		err  string
	}{
		{name: "the first command by default", want: "first none  false 1s []"},
		{name: "flags without a command", args: []string{"-addr", "a"}, want: "first a  false 1s []"},
		{name: "the first command by name", args: []string{"first", "-verbose"}, want: "first none  true 1s []"},
		{name: "another command", args: []string{"second", "-wait=2m", "x", "y"}, want: "second none  false 2m [x y]"},
		{name: "an unknown command", args: []string{"third"}, err: `unknown command "third"`},
		{name: "an argument too many", args: []string{"first", "x"}, err: `unexpected argument "x"`},
		{name: "an unknown flag", args: []string{"-what"}, err: "flag provided but not defined: -what"},
		{name: "a number for a duration", args: []string{"-wait", "5"}, err: `invalid value "5" for flag -wait: it needs a unit, such as 5s`},

		{name: "a variable", env: map[string]string{"REKISTERI_ADDR": "env"}, want: "first env  false 1s []"},
		{name: "the command line wins", args: []string{"-addr", "arg"}, env: map[string]string{"REKISTERI_ADDR": "env"}, want: "first arg  false 1s []"},
		{name: "a default on the command line wins", args: []string{"-addr", "none"}, env: map[string]string{"REKISTERI_ADDR": "env"}, want: "first none  false 1s []"},
		{name: "a variable for a flag with a dash", env: map[string]string{"REKISTERI_LINK_KEY": "k"}, want: "first none k false 1s []"},
		{name: "a variable for a boolean", env: map[string]string{"REKISTERI_VERBOSE": "1"}, want: "first none  true 1s []"},
		{name: "an empty variable", env: map[string]string{"REKISTERI_ADDR": "", "REKISTERI_WAIT": ""}, want: "first none  false 1s []"},
		{name: "a variable for another command", args: []string{"second"}, env: map[string]string{"REKISTERI_WAIT": "3s"}, want: "second none  false 3s []"},
		{name: "a malformed variable", env: map[string]string{"REKISTERI_WAIT": "5"}, err: `invalid value "5" of the variable REKISTERI_WAIT: it needs a unit, such as 5s`},
		{name: "a malformed variable that is not used", args: []string{"-wait", "5s"}, env: map[string]string{"REKISTERI_WAIT": "5"}, want: "first none  false 5s []"},
		{
			name: "the variables of Kubernetes",
			env: map[string]string{
				"REKISTERI_PORT": "tcp://10.0.0.1:80", "REKISTERI_SERVICE_HOST": "10.0.0.1", "REKISTERI_PORT_80_TCP_ADDR": "10.0.0.1",
				"REKISTERI_VERSION": "1.2.3", "REKISTERI_HELP": "yes", "REKISTERI_NOTHING": "x",
			},
			want: "first none  false 1s []",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			var out strings.Builder
			err := newTestProgram().Run(t.Context(), test.args, &out, io.Discard)
			if test.err == "" {
				if err != nil || out.String() != test.want {
					t.Errorf("%q, %v, want %q", out.String(), err, test.want)
				}
				return
			}
			if _, ok := errors.AsType[usageError](err); !ok || err.Error() != test.err {
				t.Errorf("error %q, want the usage error %q", err, test.err)
			}
		})
	}
}

func TestHelp(t *testing.T) {
	const first = `Prog is a program.

Usage:

  prog [first] [flags]
    	first things
  prog second [flags] [thing ...]
    	second things
  prog help [command]
    	print the flags of a command
  prog -version
    	print the version

Flags of prog first:

  -addr address
    	an address (default "none")
  -link-key file
    	a file
  -verbose
    	say more
  -wait duration
    	a duration (default 1s)

An environment variable sets a flag too: REKISTERI_ADDR sets -addr, REKISTERI_LINK_KEY sets -link-key.
The command line wins.
`
	for _, args := range []string{"help", "-help", "-h", "--help", "help first", "first -h", "second -h", "help second"} {
		t.Run(args, func(t *testing.T) {
			var out strings.Builder
			if err := newTestProgram().Run(t.Context(), strings.Fields(args), &out, io.Discard); err != nil {
				t.Fatal(err)
			}
			want := first
			if strings.Contains(args, "second") {
				want = strings.Replace(want, "Flags of prog first", "Flags of prog second", 1)
				want = strings.Replace(want, "\nAn environment", "\nThings are words.\n\nAn environment", 1)
			}
			if out.String() != want {
				t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
			}
		})
	}
	if err := newTestProgram().Run(t.Context(), []string{"help", "third"}, io.Discard, io.Discard); err == nil {
		t.Error("there is help for an unknown command")
	}
}

// TestServeHelp checks that each flag of the real commands names its value.
func TestServeHelp(t *testing.T) {
	for _, args := range [][]string{{"help", "serve"}, {"help", "check"}} {
		var out strings.Builder
		if err := run(t.Context(), args, &out, io.Discard); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(out.String()) {
			fields := strings.Fields(line)
			if len(fields) == 0 || !strings.HasPrefix(fields[0], "-") {
				continue
			}
			if placeholder := strings.Join(fields[1:], " "); strings.Contains(placeholder, "value") || strings.Contains(placeholder, "string") || strings.Contains(placeholder, "int") {
				t.Errorf("%v: the placeholder of %s is %q", args, fields[0], placeholder)
			}
		}
	}
}

func TestVersion(t *testing.T) {
	for _, arg := range []string{"-version", "--version"} {
		var out strings.Builder
		if err := newTestProgram().Run(t.Context(), []string{arg}, &out, io.Discard); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(out.String(), "prog ") || !strings.Contains(out.String(), "(go") {
			t.Errorf("%s: %q", arg, out.String())
		}
	}
}
