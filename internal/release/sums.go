package release

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// Sums is what a SHA256SUMS file says.
type Sums struct {
	Files []Sum

	// Comment is a line that is not a sum, empty if there is none. Because of
	// such a line, clients write only the hash of their own platform into a lock
	// file.
	Comment string
}

// A Sum is a line of SHA256SUMS. Its name is a part of the file's text.
type Sum struct {
	Name   string
	SHA256 [sha256.Size]byte
}

// ParseSums reads a SHA256SUMS file as clients do: lines end with LF or CRLF,
// and white space separates the fields. A blank line is an error, since clients
// panic on it, and so is a "*" before a name, which clients take for a part of
// the name.
func ParseSums(text string) (*Sums, error) {
	sums := new(Sums)
	seen := make(map[string][sha256.Size]byte)
	n := 0
	for line := range strings.Lines(text) {
		n++
		fields := strings.Fields(line)
		if len(fields) == 0 {
			return nil, fmt.Errorf("line %d is blank", n)
		}
		sum, ok := parseSum(fields)
		if !ok {
			sums.Comment = strings.TrimSpace(line)
			continue
		}
		if strings.HasPrefix(sum.Name, "*") {
			return nil, fmt.Errorf("line %d has a star before the name, as sha256sum -b writes it", n)
		}
		if other, ok := seen[sum.Name]; ok {
			if other != sum.SHA256 {
				return nil, fmt.Errorf("line %d has another sum for %s than an earlier line", n, sum.Name)
			}
			continue
		}
		seen[sum.Name] = sum.SHA256
		sums.Files = append(sums.Files, sum)
	}
	if len(sums.Files) == 0 {
		return nil, errors.New("the file has no sums")
	}
	return sums, nil
}

// Of returns the sum of a file, and whether there is one.
func (s *Sums) Of(name string) (sum [sha256.Size]byte, ok bool) {
	for i := range s.Files {
		if s.Files[i].Name == name {
			return s.Files[i].SHA256, true
		}
	}
	return sum, false
}

func parseSum(fields []string) (Sum, bool) {
	var s Sum
	if len(fields) != 2 || len(fields[0]) != hex.EncodedLen(len(s.SHA256)) {
		return s, false
	}
	if _, err := hex.Decode(s.SHA256[:], []byte(fields[0])); err != nil {
		return s, false
	}
	s.Name = fields[1]
	return s, true
}
