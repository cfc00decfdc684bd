// Package jsonsplit finds the members of a JSON object in a text, and the
// elements of those that are arrays, without decoding them. What encoding/json decodes it
// does not place, and a large document is decoded faster in parts, side by
// side.
//
// What a part holds is not validated: whoever decodes it does that.
package jsonsplit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// A Part is a value within a text.
type Part struct {
	Name       string // of a member of an object
	Start, End int    // where the value stands
	Elements   []Part // of a member that is an array
}

var errEnd = errors.New("unexpected end of JSON input")

// Object returns the members of the object that text is, in their order, and
// the elements of those that are arrays.
func Object(text []byte) ([]Part, error) {
	s := scanner{text: text}
	parts, err := s.split('{', '}')
	if err != nil {
		return nil, err
	}
	if _, err := s.peek(); err == nil {
		return nil, s.errorf("there is something behind the end")
	}
	return parts, nil
}

// split finds the parts of an object or an array.
func (s *scanner) split(opening, closing byte) ([]Part, error) {
	if err := s.expect(opening); err != nil {
		return nil, err
	}
	var parts []Part
	for first := true; ; first = false {
		c, err := s.peek()
		if err != nil {
			return nil, err
		}
		if c == closing && first {
			s.at++
			return parts, nil
		}
		part, err := s.part(opening == '{')
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
		if c, err = s.peek(); err != nil {
			return nil, err
		}
		if c == closing {
			s.at++
			return parts, nil
		}
		if err := s.expect(','); err != nil {
			return nil, err
		}
	}
}

// part finds an element of an array, or a member of an object.
func (s *scanner) part(member bool) (part Part, err error) {
	if member {
		if part.Name, err = s.name(); err != nil {
			return part, err
		}
		c, err := s.peek()
		if err != nil {
			return part, err
		}
		if c == '[' {
			part.Start = s.at
			part.Elements, err = s.split('[', ']')
			part.End = s.at
			return part, err
		}
	}
	part.Start, part.End, err = s.value()
	return part, err
}

type scanner struct {
	text []byte
	at   int
}

func (s *scanner) errorf(format string, args ...any) error {
	return fmt.Errorf(format+" at byte %d", append(args, s.at)...)
}

// peek returns the next byte that is no white space.
func (s *scanner) peek() (byte, error) {
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c, nil
		}
	}
	return 0, errEnd
}

func (s *scanner) expect(want byte) error {
	c, err := s.peek()
	if err != nil {
		return err
	}
	if c != want {
		return s.errorf("%q stands in the place of %q", c, want)
	}
	s.at++
	return nil
}

// name reads the name of a member and the colon behind it.
func (s *scanner) name() (name string, err error) {
	if err := s.expect('"'); err != nil {
		return "", err
	}
	start := s.at - 1
	if err := s.skipString(); err != nil {
		return "", err
	}
	if err := json.Unmarshal(s.text[start:s.at], &name); err != nil {
		return "", err
	}
	return name, s.expect(':')
}

// value finds the end of a value. Of an object or an array that is where its
// brackets match, whatever else is in it.
func (s *scanner) value() (start, end int, err error) {
	c, err := s.peek()
	if err != nil {
		return 0, 0, err
	}
	start = s.at
	switch c {
	case '"':
		s.at++
		err = s.skipString()
	case '{', '[':
		err = s.skipBrackets()
	default:
		for s.at < len(s.text) && !bytes.ContainsRune([]byte(" \t\r\n,]}:"), rune(s.text[s.at])) {
			s.at++
		}
		if s.at == start {
			err = s.errorf("%q stands in the place of a value", c)
		}
	}
	return start, s.at, err
}

// skipBrackets skips an object or an array.
func (s *scanner) skipBrackets() error {
	for depth := 0; s.at < len(s.text); {
		c := s.text[s.at]
		s.at++
		switch c {
		case '"':
			if err := s.skipString(); err != nil {
				return err
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return nil
			}
		}
	}
	return errEnd
}

// skipString skips the rest of a string.
func (s *scanner) skipString() error {
	for {
		i := bytes.IndexByte(s.text[s.at:], '"')
		if i < 0 {
			s.at = len(s.text)
			return errEnd
		}
		s.at += i + 1
		escapes := 0
		for s.text[s.at-2-escapes] == '\\' { // it ends at the opening quote
			escapes++
		}
		if escapes%2 == 0 {
			return nil
		}
	}
}
