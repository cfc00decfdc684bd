// Command rekisteri serves a private provider registry for Terraform and
// OpenTofu from a directory.
//
// Without -dir it serves a sample, and prints shell commands that install a
// provider from it.
package main

import (
	"context"
	"embed"
	"flag"
	"io/fs"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/publish"
	"github.com/rekisteri/rekisteri/internal/server"
)

//go:embed sample
var sample embed.FS

func main() { newProgram().Main() }

func newProgram() *server.Program {
	src := new(directory)
	return &server.Program{
		Name:     "rekisteri",
		Summary:  "Rekisteri is a private provider registry for Terraform and OpenTofu.",
		Commands: []server.Command{server.Serve(src), server.Check(src), publish.Command()},
	}
}

// A directory is the source of the providers: a directory, or the sample.
type directory struct{ path string }

// Flags implements [server.Source].
func (d *directory) Flags(flags *flag.FlagSet) {
	flags.StringVar(&d.path, "dir", "", "`directory` with the providers (default: an embedded sample)")
}

// Open implements [server.Source].
func (d *directory) Open(_ context.Context, opts *rekisteri.FSOptions) (*server.Tree, error) {
	if d.path == "" {
		fsys, err := fs.Sub(sample, "sample")
		if err != nil {
			return nil, err
		}
		return &server.Tree{Backend: rekisteri.NewFSBackend(fsys, opts), Name: "the embedded sample", Sample: true}, nil
	}
	fsys, err := rekisteri.OpenDir(d.path)
	if err != nil {
		return nil, err
	}
	opts.Store = fsys // nothing is written to it unless somebody may publish
	return &server.Tree{Backend: rekisteri.NewFSBackend(fsys, opts), Name: d.path}, nil
}
