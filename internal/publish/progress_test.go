package publish

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// On a terminal there is a bar below the lines. It goes back if a file has to be
// sent again.
func TestProgressOnTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := &progress{w: &out, terminal: true}
		step := func(want string, f func()) {
			t.Helper()
			out.Reset()
			time.Sleep(redrawAfter)
			f()
			if got := out.String(); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		bar := func(full int, text string) string {
			return clearLine + "[" + strings.Repeat("=", full) + strings.Repeat(" ", barWidth-full) + "] " + text
		}
		step("", func() { p.expect([]file{{size: 2e6}, {size: 1e6}}) })
		body := &sending{ReadCloser: io.NopCloser(strings.NewReader(strings.Repeat("x", 1500))), progress: p, onRead: func() {}}
		step(bar(0, "1.5 kB of 3.0 MB, 0 of 2 files"), func() { body.Read(make([]byte, 2000)) })
		step(bar(0, "0.0 kB of 3.0 MB, 0 of 2 files"), func() { body.fail() })
		step("", func() { body.Read(make([]byte, 2000)) }) // the transport reads on
		step(bar(10, "1.0 MB of 3.0 MB, 0 of 2 files"), func() { p.add(1e6) })
		step("", func() {
			p.drawn = time.Now()
			p.add(1)
		}) // not at every read
		step(clearLine+"a line\n", func() { p.printf("a %s", "line") })
		step(bar(10, "1.0 MB of 3.0 MB, 1 of 2 files"), func() { p.done() })
		step(bar(30, "3.0 MB of 3.0 MB, 2 of 2 files"), func() { p.add(2e6 - 1); p.drawn = time.Time{}; out.Reset(); p.done() })
		step(clearLine, func() { p.finish() })
		step("", func() { p.finish() })
	})
}

// Elsewhere there are lines only.
func TestProgressInLog(t *testing.T) {
	var out bytes.Buffer
	p := &progress{w: &out}
	p.expect([]file{{size: 10}})
	p.add(10)
	p.printf("%v\x1b[2J\r\n", errors.New("a\tb"))
	p.done()
	p.finish()
	if got := out.String(); got != "a b [2J  \n" {
		t.Errorf("%q", got)
	}
}
