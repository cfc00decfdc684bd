// Package jsonscan reads a JSON text in the order in which it stands there, and
// tells where that is. What is asked for is read at once, without reflection
// and without looking at it twice, which is several times as fast as
// encoding/json; what is rare, such as an escape, is left to that.
//
// What was read without an error is valid, and means, what it is and means to
// encoding/json. Of several members of one name the reader decides.
package jsonscan

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

// A Scanner reads a text, value by value. A copy of it reads the same values
// again. After an error it reads nothing any more.
type Scanner struct {
	text     []byte
	at       int
	err      error
	mismatch error
}

// New returns a Scanner of the value that text is.
func New(text []byte) *Scanner { return &Scanner{text: text} }

var errEnd = errors.New("unexpected end of JSON input")

// Offset returns where the next value begins, or where the last one ends if
// none follows.
func (s *Scanner) Offset() int {
	s.peek()
	return s.at
}

// Err returns the first error.
func (s *Scanner) Err() error { return s.err }

// End returns the first error, or one if something follows the value.
func (s *Scanner) End() error {
	if s.Offset() < len(s.text) {
		s.fail("there is something after the end")
	}
	return s.err
}

// Mismatch returns an error for the first value since the last call that was
// of another kind than was asked for, if there was one. It was skipped.
func (s *Scanner) Mismatch() error {
	err := s.mismatch
	s.mismatch = nil
	return err
}

// Object reads an object. It calls member with the name of each, in lower case
// since encoding/json takes either, to read the value; what member does not
// read is skipped. The name is valid during the call. Object reports whether
// there is an object; a null is none.
func (s *Scanner) Object(member func(name []byte)) bool {
	if !s.open('{', "an object") {
		return false
	}
	for first := true; s.more('}', first); first = false {
		if s.peek() != '"' {
			s.fail("there is no name of a member")
			break
		}
		name := s.Bytes()
		s.expect(':')
		at := s.Offset()
		if member(lower(name)); s.at == at {
			s.Skip()
		}
	}
	return true
}

// lower returns a name that has upper-case letters of ASCII in lower case.
func lower(name []byte) []byte {
	for _, c := range name {
		if 'A' <= c && c <= 'Z' {
			return bytes.ToLower(name)
		}
	}
	return name
}

// Array reads an array. It calls element with the index of each, to read it;
// what element does not read is skipped. Array reports whether there is an
// array; a null is none.
func (s *Scanner) Array(element func(i int)) bool {
	if !s.open('[', "a list") {
		return false
	}
	for i := 0; s.more(']', i == 0); i++ {
		at := s.Offset()
		if element(i); s.at == at {
			s.Skip()
		}
	}
	return true
}

// Bytes reads a string. The result is part of the text, or of a copy. A null is
// empty.
func (s *Scanner) Bytes() []byte {
	if s.peek() != '"' {
		s.mistake("a string")
		return nil
	}
	for i, c := range s.text[s.at+1:] {
		switch {
		case c == '"':
			value := s.text[s.at+1:][:i]
			s.at += i + 2
			return value
		case c < ' ', c == '\\', c >= utf8.RuneSelf:
			var value string
			if raw := s.Raw(); s.err == nil {
				s.err = json.Unmarshal(raw, &value)
			}
			return []byte(value)
		}
	}
	s.at = len(s.text)
	s.err = errEnd
	return nil
}

// Null reads a null, and reports whether there is one.
func (s *Scanner) Null() bool {
	if s.peek() != 'n' {
		return false
	}
	s.Skip()
	return true
}

// Skip reads any value.
func (s *Scanner) Skip() {
	if raw := s.Raw(); s.err == nil {
		s.err = json.Unmarshal(raw, new(json.RawMessage))
	}
}

// Raw reads any value, and returns its text, which is not known to be valid: an
// object or an array ends where its brackets match.
func (s *Scanner) Raw() []byte {
	c := s.peek()
	start := s.at
	switch c {
	case '"':
		s.at++
		s.skipString()
	case '{', '[':
		s.skipBrackets()
	default:
		for s.at < len(s.text) && bytes.IndexByte([]byte(" \t\r\n,:]}"), s.text[s.at]) < 0 {
			s.at++
		}
		if s.at == start {
			s.fail("there is no value")
		}
	}
	if s.err != nil {
		return nil
	}
	return s.text[start:s.at]
}

// peek returns the next byte that is no white space: 0, which begins nothing, at
// the end and after an error.
func (s *Scanner) peek() byte {
	if s.err != nil {
		return 0
	}
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

func (s *Scanner) fail(what string) {
	switch {
	case s.err != nil:
	case s.at == len(s.text):
		s.err = errEnd
	default:
		s.err = fmt.Errorf("%s at byte %d", what, s.at)
	}
}

func (s *Scanner) expect(want byte) {
	if s.peek() != want {
		s.fail(fmt.Sprintf("%q is missing", want))
		return
	}
	s.at++
}

// open reads the bracket that begins a value, unless it is another one.
func (s *Scanner) open(bracket byte, what string) bool {
	if s.peek() != bracket {
		s.mistake(what)
		return false
	}
	s.at++
	return true
}

// more reports whether a value goes on, and reads what is before the next part
// of it, or its end.
func (s *Scanner) more(end byte, first bool) bool {
	if s.peek() == end {
		s.at++
		return false
	}
	if !first {
		s.expect(',')
	}
	return s.err == nil
}

// mistake skips a value that is not what was asked for.
func (s *Scanner) mistake(want string) {
	at := s.Offset()
	s.Skip()
	if s.err == nil && s.mismatch == nil && string(s.text[at:s.at]) != "null" {
		s.mismatch = fmt.Errorf("%.20q at byte %d is not %s", s.text[at:s.at], at, want)
	}
}

func (s *Scanner) skipBrackets() {
	for depth := 0; s.at < len(s.text); {
		c := s.text[s.at]
		s.at++
		switch c {
		case '"':
			s.skipString()
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return
			}
		}
	}
	s.err = errEnd
}

// skipString skips the rest of a string.
func (s *Scanner) skipString() {
	for {
		i := bytes.IndexByte(s.text[s.at:], '"')
		if i < 0 {
			s.at = len(s.text)
			s.err = errEnd
			return
		}
		s.at += i + 1
		escapes := 0
		for s.text[s.at-2-escapes] == '\\' { // it ends at the opening quote
			escapes++
		}
		if escapes%2 == 0 {
			return
		}
	}
}
