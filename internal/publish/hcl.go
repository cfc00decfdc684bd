package publish

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
)

// readCredentials returns the tokens by host that a CLI configuration of
// Terraform or OpenTofu holds, which is HCL or JSON.
func readCredentials(text string) (map[string]string, error) {
	if strings.HasPrefix(strings.TrimSpace(text), "{") {
		return readCredentialsJSON(text)
	}
	tokens := make(map[string]string)
	s := scanner{rest: text}
	for depth := 0; ; {
		switch word := s.next(); {
		case word.kind == end:
			return tokens, nil
		case word.is("{"):
			depth++
		case word.is("}"):
			depth--
		case depth == 0 && word.isName("credentials"):
			if host := s.next(); host.kind == quoted && s.next().is("{") {
				if token, ok := s.tokenOfBlock(); ok {
					tokens[host.text] = token
				}
			}
		}
	}
}

// readCredentialsJSON reads the form that "terraform login" writes.
func readCredentialsJSON(text string) (map[string]string, error) {
	var config struct {
		Credentials map[string]struct{ Token string }
	}
	if err := json.Unmarshal([]byte(text), &config); err != nil {
		return nil, errors.New("it is not valid JSON, or its credentials are not objects with a token")
	}
	tokens := make(map[string]string)
	for host, c := range config.Credentials {
		tokens[host] = c.Token
	}
	return tokens, nil
}

// A lexeme is a token of HCL; that word has another meaning here.
type lexeme struct {
	kind byte
	text string // without quotation marks
}

// The kinds of lexemes.
const (
	end    byte = iota
	name        // an identifier, or a number
	quoted      // a string
	mark        // any other character
)

func (l lexeme) is(char string) bool { return l.kind == mark && l.text == char }
func (l lexeme) isName(text string) bool {
	return (l.kind == name || l.kind == quoted) && l.text == text
}

// A scanner splits HCL into lexemes, as far as a CLI configuration needs: it
// does not know heredocs and interpolation.
type scanner struct{ rest string }

// tokenOfBlock reads a credentials block behind its brace.
func (s *scanner) tokenOfBlock() (token string, ok bool) {
	for depth := 1; depth > 0; {
		switch word := s.next(); {
		case word.kind == end:
			return "", false
		case word.is("{"):
			depth++
		case word.is("}"):
			depth--
		case depth == 1 && word.isName("token") && s.next().is("="):
			value := s.next()
			token, ok = value.text, value.kind == quoted
		}
	}
	return token, ok
}

// next returns the next lexeme. Comments and white space are none.
func (s *scanner) next() lexeme {
	for {
		s.rest = strings.TrimLeft(s.rest, " \t\r\n")
		switch {
		case s.rest == "":
			return lexeme{}
		case s.rest[0] == '#', strings.HasPrefix(s.rest, "//"):
			_, s.rest, _ = strings.Cut(s.rest, "\n")
		case strings.HasPrefix(s.rest, "/*"):
			_, s.rest, _ = strings.Cut(s.rest[2:], "*/")
		case s.rest[0] == '"':
			return s.quoted()
		default:
			n := strings.IndexFunc(s.rest, func(r rune) bool { return !isNameRune(r) })
			switch n {
			case -1:
				n = len(s.rest)
			case 0:
				l := lexeme{mark, s.rest[:1]}
				s.rest = s.rest[1:]
				return l
			}
			l := lexeme{name, s.rest[:n]}
			s.rest = s.rest[n:]
			return l
		}
	}
}

// quoted reads a string. One that does not end, or has an unknown escape, ends
// the text: what follows cannot be told from what is in it.
func (s *scanner) quoted() lexeme {
	prefix, err := strconv.QuotedPrefix(s.rest)
	if err != nil {
		s.rest = ""
		return lexeme{}
	}
	s.rest = s.rest[len(prefix):]
	text, _ := strconv.Unquote(prefix) // QuotedPrefix has checked it
	return lexeme{quoted, text}
}

func isNameRune(r rune) bool {
	return r == '_' || r == '-' || r == '.' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
}
