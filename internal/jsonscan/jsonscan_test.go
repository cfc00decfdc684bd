package jsonscan_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri/internal/jsonscan"
)

// read returns what a text says, a word for each value and bracket, and what is
// wrong with it.
func read(text string) (words []string, err error) {
	s := jsonscan.New([]byte(text))
	var value func()
	value = func() {
		at := s.Offset()
		if at == len(text) {
			s.Skip() // which fails
			return
		}
		switch text[at] {
		case '{':
			words = append(words, "{")
			s.Object(func(name []byte) {
				words = append(words, fmt.Sprintf("%q:", name))
				value()
			})
			words = append(words, "}")
		case '[':
			words = append(words, "[")
			s.Array(func(int) { value() })
			words = append(words, "]")
		case '"':
			words = append(words, fmt.Sprintf("%q", s.Bytes()))
		case 'n':
			words = append(words, fmt.Sprint(s.Null()))
		default:
			again := *s
			s.Skip()
			words = append(words, string(again.Raw()))
		}
		if err := s.Mismatch(); err != nil {
			panic(err)
		}
	}
	value()
	return words, s.End()
}

func TestRead(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{`{}`, `{ }`},
		{` { } `, `{ }`},
		{`[]`, `[ ]`},
		{`{"a":1}`, `{ "a": 1 }`},
		{`{"A" : "x" , "b":[1,{"c":"]}"}], "é\u0041":null}`, `{ "a": "x" "b": [ 1 { "c": "]}" } ] "éa": true }`},
		{`[1, "a\"b\\" ,{"a":"\\\""}, true]`, `[ 1 "a\"b\\" { "a": "\\\"" } true ]`},
		{`[""]`, `[ "" ]`},
		{"[\"\xff\"]", `[ "` + "\uFFFD" + `" ]`},
		{``, `unexpected end`},
		{`[1`, `unexpected end`},
		{`{`, `unexpected end`},
		{`{"a"`, `unexpected end`},
		{`{"a`, `unexpected end`},
		{`{"a":`, `unexpected end`},
		{`{"a":1`, `unexpected end`},
		{`["a\"]`, `unexpected end`},
		{`[1,]`, `there is no value at byte 3`},
		{`[,1]`, `there is no value at byte 1`},
		{`[}`, `there is no value at byte 1`},
		{`{"a":1,}`, `there is no name of a member at byte 7`},
		{`{a:1}`, `there is no name of a member at byte 1`},
		{`{"a":1 "b":2}`, `',' is missing at byte 7`},
		{`{"a" 1}`, `':' is missing at byte 5`},
		{`{"a":[1 2]}`, `',' is missing at byte 8`},
		{`{"a":1}{}`, `something after the end at byte 7`},
		{`[nul]`, `invalid character`},
		{`nul`, `invalid character`},
		{`[01]`, `invalid character`},
		{`["\x"]`, `invalid character`},
		{"[\"a\nb\"]", `invalid character`},
	} {
		words, err := read(test.text)
		if err != nil {
			words = []string{err.Error()}
		}
		if got := strings.Join(words, " "); got != test.want && (err == nil || !strings.Contains(got, test.want)) {
			t.Errorf("%s: got %s, want %s", test.text, got, test.want)
		}
	}
}

// TestMismatch asks for other kinds of values than there are: each is skipped,
// and the first is told.
func TestMismatch(t *testing.T) {
	s := jsonscan.New([]byte(`{"object": [1], "array": {"a":"]"}, "bytes": 1.5, "null": null, "empty": null, "skipped": [1, {"a": [null]}, "]"], "neither": {"a": "}"}, "last": "x"}`))
	var last string
	s.Object(func(name []byte) {
		switch string(name) {
		case "object":
			s.Object(func([]byte) { t.Error("a member") })
		case "array":
			if err := s.Mismatch(); err == nil || err.Error() != `"[1]" at byte 11 is not an object` {
				t.Error(err)
			}
			s.Array(func(int) { t.Error("an element") })
		case "bytes":
			if b := s.Bytes(); len(b) != 0 {
				t.Errorf("%q", b)
			}
			if err := s.Mismatch(); err == nil || !strings.HasSuffix(err.Error(), "is not a list") { // the first
				t.Error(err)
			}
		case "null":
			s.Object(func([]byte) { t.Error("a member") })
			if s.Null() {
				t.Error("two nulls")
			}
		case "empty":
			if b := s.Bytes(); b != nil {
				t.Errorf("%q", b)
			}
		case "skipped":
			s.Array(func(int) {})
		case "last":
			last = string(s.Bytes())
		}
	})
	if err := s.End(); err != nil || s.Mismatch() != nil || last != "x" {
		t.Error(err, s.Mismatch(), last)
	}
}

// FuzzRead compares with encoding/json: the same texts are valid, and say the
// same.
func FuzzRead(f *testing.F) {
	for _, seed := range []string{
		`{"a":[1,"b\\\"",{}],"a":2}`, `{"":[{"X":[[]]},"",-1e9]}`, `{"a":1}}`, `{"a":[1 2]}`, `{"a":"\u00e9\"}`, `{"a":{"b":"}"}}`, `{"a":[,]}`,
		`"\ud800\udc00"`, `[true,false,null,0]`, "\"\x7f\x01\"", `{"a":[}]}`, ` [ ] x`, "\"\"\x00",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := read(text)
		if valid := json.Valid([]byte(text)); (err == nil) != valid {
			t.Fatalf("%q: error %v, and to encoding/json it is valid: %t", text, err, valid)
		}
		if err != nil {
			return
		}
		if want := decode(text); !slices.Equal(got, want) {
			t.Errorf("%q says %q, to encoding/json %q", text, got, want)
		}
	})
}

// decode is read, by encoding/json.
func decode(text string) (words []string) {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var value func(name bool)
	value = func(name bool) {
		token, err := d.Token()
		if err != nil {
			panic(err)
		}
		switch token := token.(type) {
		case json.Delim:
			words = append(words, token.String())
			for d.More() {
				if token == '{' {
					value(true)
				}
				value(false)
			}
			end, _ := d.Token()
			words = append(words, fmt.Sprint(end))
		case string:
			if name {
				words = append(words, fmt.Sprintf("%q:", lower(token)))
				return
			}
			words = append(words, fmt.Sprintf("%q", token))
		case nil:
			words = append(words, "true")
		default:
			words = append(words, fmt.Sprint(token))
		}
	}
	value(false)
	return words
}

// lower lowers a name that has an upper-case letter of ASCII.
func lower(name string) string {
	if strings.ContainsAny(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") {
		return strings.ToLower(name)
	}
	return name
}
