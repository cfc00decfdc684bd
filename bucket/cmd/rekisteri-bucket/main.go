// Command rekisteri-bucket serves a private provider registry for Terraform and
// OpenTofu from a bucket of an object store: S3 or a compatible store, Google
// Cloud Storage, or Azure Blob Storage.
package main

import (
	"github.com/rekisteri/rekisteri/internal/publish"
	"github.com/rekisteri/rekisteri/internal/server"
)

func main() { newProgram().Main() }

func newProgram() *server.Program {
	src := new(source)
	return &server.Program{
		Name:     "rekisteri-bucket",
		Summary:  "Rekisteri-bucket is a private provider registry for Terraform and OpenTofu, over an object store.",
		Commands: []server.Command{server.Serve(src), server.Check(src), publish.Command()},
	}
}
