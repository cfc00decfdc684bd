package jsonsplit_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri/internal/jsonsplit"
)

func TestSplit(t *testing.T) {
	for _, test := range []struct {
		text string
		want string // the parts, with their names before a colon; or a part of the error
	}{
		{`{}`, ``},
		{` { } `, ``},
		{`[]`, ``},
		{`{"a":1}`, `a:1`},
		{`{"a" : "x" , "b":[1,{"c":"]}"}], "é\u0041":null}`, `a:"x" b:[1,{"c":"]}"}] éA:null`},
		{`[1, "a\"b\\" ,{"a":"\\\""}, true]`, `1 "a\"b\\" {"a":"\\\""} true`},
		{`[""]`, `""`},
		{``, `unexpected end`},
		{`{`, `unexpected end`},
		{`{"a"`, `unexpected end`},
		{`{"a`, `unexpected end`},
		{`{"a":`, `unexpected end`},
		{`{"a":1`, `unexpected end`},
		{`["a\"]`, `unexpected end`},
		{`[1,]`, `stands in the place of a value`},
		{`[,1]`, `stands in the place of a value`},
		{`{"a":1,}`, `stands in the place of '"'`},
		{`{"a":1 "b":2}`, `stands in the place of ','`},
		{`{a:1}`, `stands in the place of '"'`},
		{`{"a" 1}`, `stands in the place of ':'`},
		{`{"a":1}{}`, `something behind the end`},
		{`null`, `stands in the place of`},
		{`[}`, `stands in the place of a value`},
		{"{\"\\x\":1}", `invalid character`},
	} {
		split := jsonsplit.Object
		if strings.HasPrefix(strings.TrimSpace(test.text), "[") {
			split = jsonsplit.Array
		}
		parts, err := split([]byte(test.text))
		if err != nil {
			if !strings.Contains(err.Error(), test.want) || test.want == "" {
				t.Errorf("%s: error %v, want %q", test.text, err, test.want)
			}
			continue
		}
		var got []string
		for _, p := range parts {
			s := test.text[p.Start:p.End]
			if p.Name != "" {
				s = p.Name + ":" + s
			}
			got = append(got, s)
		}
		if g := strings.Join(got, " "); g != test.want {
			t.Errorf("%s: got %q, want %q", test.text, g, test.want)
		}
	}
}

// FuzzSplit compares with encoding/json: whose parts all decode is valid, and
// decodes to the same; and what is valid is split.
func FuzzSplit(f *testing.F) {
	for _, seed := range []string{`{"a":[1,"b\\\"",{}],"a":2}`, `[{"x":[[]]},"",-1e9]`, `{"a":1}}`, `[1 2]`, `["\u00e9\"]`, `{"a":{"b":"}"}}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if parts, err := jsonsplit.Array([]byte(text)); err == nil {
			got, ok := []any{}, true
			for _, p := range parts {
				var v any
				ok = ok && json.Unmarshal([]byte(text[p.Start:p.End]), &v) == nil
				got = append(got, v)
			}
			var want []any
			if wantErr := json.Unmarshal([]byte(text), &want); ok != (wantErr == nil) || ok && !reflect.DeepEqual(got, want) {
				t.Errorf("Array(%q): %v, encoding/json: %v, %v", text, got, want, wantErr)
			}
		} else if strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "[") && json.Valid([]byte(text)) {
			t.Errorf("Array(%q): %v, and it is valid", text, err)
		}
		if parts, err := jsonsplit.Object([]byte(text)); err == nil {
			got, ok := map[string]any{}, true
			for _, p := range parts {
				var v any
				ok = ok && json.Unmarshal([]byte(text[p.Start:p.End]), &v) == nil
				got[p.Name] = v
			}
			var want map[string]any
			if wantErr := json.Unmarshal([]byte(text), &want); ok != (wantErr == nil) || ok && !reflect.DeepEqual(got, want) {
				t.Errorf("Object(%q): %v, encoding/json: %v, %v", text, got, want, wantErr)
			}
		} else if strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{") && json.Valid([]byte(text)) {
			t.Errorf("Object(%q): %v, and it is valid", text, err)
		}
	})
}
