package publish

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
	"unicode"
)

// A progress tells the user what happens, in lines. On a terminal, a bar below
// them shows how much was sent.
type progress struct {
	mu       sync.Mutex
	w        io.Writer
	terminal bool

	files, filesDone int
	bytes, bytesSent int64
	drawn            time.Time // when the bar was last drawn; zero: it is not on the screen
}

const (
	clearLine   = "\r\x1b[K"
	redrawAfter = 100 * time.Millisecond
	barWidth    = 30
)

// printf writes a line.
func (p *progress) printf(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
	fmt.Fprintln(p.w, printable(fmt.Sprintf(format, args...)))
}

// printable returns a line without the characters by which a registry's answer
// could control a terminal.
func printable(line string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, line)
}

// expect adds files that are to be sent.
func (p *progress) expect(files []file) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.files += len(files)
	for _, f := range files {
		p.bytes += f.size
	}
}

// done counts a file that was sent.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.filesDone++
	p.draw()
}

// finish removes the bar.
func (p *progress) finish() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clear()
}

// add counts bytes that were sent, or, if n is negative, that have to be sent
// again.
func (p *progress) add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.bytesSent += n
	p.draw()
}

func (p *progress) draw() {
	now := time.Now()
	if !p.terminal || p.bytes == 0 || now.Sub(p.drawn) < redrawAfter {
		return
	}
	p.drawn = now
	full := int(barWidth * p.bytesSent / p.bytes)
	full = min(max(full, 0), barWidth)
	fmt.Fprintf(p.w, "%s[%s%s] %s of %s, %d of %s", clearLine, strings.Repeat("=", full), strings.Repeat(" ", barWidth-full),
		size(p.bytesSent), size(p.bytes), p.filesDone, count(p.files, "file"))
}

func (p *progress) clear() {
	if !p.drawn.IsZero() {
		p.drawn = time.Time{}
		fmt.Fprint(p.w, clearLine)
	}
}

// size returns a number of bytes in words.
func size(n int64) string {
	if n < 1e6 {
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	}
	return fmt.Sprintf("%.1f MB", float64(n)/1e6)
}

// count returns a number of things in words, such as "1 file".
func count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprint(n, " ", thing)
}

// A sending is an attempt to send a file. It counts what is read of the file.
type sending struct {
	io.ReadCloser
	progress *progress
	onRead   func()

	mu   sync.Mutex
	n    int64
	over bool  // the attempt has failed
	err  error // of reading the file
}

// Read implements [io.Reader]. The HTTP transport may still call it when the
// attempt is over.
func (s *sending) Read(b []byte) (int, error) {
	n, err := s.ReadCloser.Read(b)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over {
		return n, err
	}
	if err != nil && err != io.EOF {
		s.err = err
	}
	s.n += int64(n)
	s.onRead()
	s.progress.add(int64(n))
	return n, err
}

// fail takes back what was counted. It returns the error of reading the file, if
// that is why the attempt has failed.
func (s *sending) fail() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
	s.progress.add(-s.n)
	return s.err
}
