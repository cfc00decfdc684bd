package rekisteri_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestDocsCompile compiles the Go of the README, docs/embedding.md and
// docs/browse.md, and runs the tests of docs/backends.md, in a new module outside
// the tree, as a newcomer would.
func TestDocsCompile(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds a module")
	}
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		at := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(at), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(at, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	gomod := strings.Replace(readFile(t, "go.mod"), "module github.com/rekisteri/rekisteri", "module newcomer.example/registry", 1)
	write("go.mod", gomod+fmt.Sprintf("\nrequire github.com/rekisteri/rekisteri v0.0.0\n\nreplace github.com/rekisteri/rekisteri => %q\n", filepath.ToSlash(root)))
	write("go.sum", readFile(t, "go.sum"))

	blocks := goBlocks(t, "README.md")
	if len(blocks) != 3 {
		t.Fatalf("README.md has %d blocks of Go", len(blocks))
	}
	write("embed/main.go", `package main

import (
	"log"
	"net/http"
	"os"

	"github.com/rekisteri/rekisteri"
)

func main() {
	if len(os.Args) > 1 {
		mount(http.NewServeMux(), nil)
	}
`+blocks[0]+`}

func mount(mux *http.ServeMux, reg *rekisteri.Registry) {
`+blocks[1]+`}
`)
	write("embed/main_test.go", `package main

import (
	"testing"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

func TestBackend(t *testing.T) {
	backend := rekisteri.NewFSBackend(rekisteritest.Releases(), nil)
`+blocks[2]+`}
`)
	write("portal/portal.go", `package portal

import (
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"net/http"
	"slices"
	"strings"

	"github.com/rekisteri/rekisteri"
)

`+strings.Join(goBlocks(t, "docs/embedding.md"), "\n"))
	write("portal/pages.go", `package portal

import (
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"slices"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/browse"
)

`+strings.Join(goBlocks(t, "docs/browse.md"), "\n"))
	for i, block := range goBlocks(t, "docs/backends.md") {
		if !strings.Contains("\n"+block, "\npackage store\n") { // a test to add to the others
			block = `package store

import (
	"slices"
	"testing"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/rekisteritest"
)

` + block
		}
		name := fmt.Sprintf("store/file%d.go", i)
		if strings.Contains(block, `"testing"`) {
			name = fmt.Sprintf("store/file%d_test.go", i)
		}
		write(name, block)
	}
	for _, args := range [][]string{{"vet", "./..."}, {"test", "./..."}} {
		cmd := exec.Command("go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// goBlocks returns the blocks of Go in a document.
func goBlocks(t *testing.T, name string) (blocks []string) {
	for _, m := range regexp.MustCompile("(?s)```go\n(.*?)```").FindAllStringSubmatch(readFile(t, name), -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}
