package secretfile_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri/internal/secretfile"
)

func TestLines(t *testing.T) {
	name := filepath.Join(t.TempDir(), "secrets")
	text := "# all of them\n\none\n  two\tfields # the CI's #1\r\n#\nthree#last"
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := secretfile.Read(name)
	if err != nil || file.Exposed {
		t.Fatalf("%+v, %v", file, err)
	}
	var got []string
	for line := range file.Lines() {
		got = append(got, fmt.Sprintf("%d %q %q", line.Number, line.Fields, line.Comment))
	}
	want := []string{`3 ["one"] ""`, `4 ["two" "fields"] "the CI's #1"`, `6 ["three"] "last"`}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for range file.Lines() {
		break
	}
}
