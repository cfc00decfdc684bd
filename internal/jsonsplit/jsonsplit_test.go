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
		{`[1`, `stands in the place of ','`}, // behind which is the member's object
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
		{`{"a":[1 2]}`, `stands in the place of ','`},
		{`[}`, `stands in the place of a value`},
		{"{\"\\x\":1}", `invalid character`},
	} {
		// The elements of an array are found as those of a member.
		array := strings.HasPrefix(strings.TrimSpace(test.text), "[")
		text := test.text
		if array {
			text = `{"":` + text + `}`
		}
		parts, err := jsonsplit.Object([]byte(text))
		if array && err == nil {
			parts = parts[0].Elements
		}
		if err != nil {
			if !strings.Contains(err.Error(), test.want) || test.want == "" {
				t.Errorf("%s: error %v, want %q", test.text, err, test.want)
			}
			continue
		}
		var got []string
		for _, p := range parts {
			s := text[p.Start:p.End]
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
	for _, seed := range []string{`{"a":[1,"b\\\"",{}],"a":2}`, `{"":[{"x":[[]]},"",-1e9]}`, `{"a":1}}`, `{"a":[1 2]}`, `{"a":"\u00e9\"}`, `{"a":{"b":"}"}}`, `{"a":[,]}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		parts, err := jsonsplit.Object([]byte(text))
		if err != nil {
			if strings.HasPrefix(strings.TrimLeft(text, " \t\r\n"), "{") && json.Valid([]byte(text)) {
				t.Errorf("Object(%q): %v, and it is valid", text, err)
			}
			return
		}
		got, ok := map[string]any{}, true
		decode := func(p jsonsplit.Part) (v any) {
			ok = ok && json.Unmarshal([]byte(text[p.Start:p.End]), &v) == nil
			return v
		}
		for _, p := range parts {
			got[p.Name] = decode(p)
			if all, isArray := got[p.Name].([]any); isArray {
				elements := []any{}
				for _, e := range p.Elements {
					elements = append(elements, decode(e))
				}
				if !reflect.DeepEqual(elements, all) {
					t.Errorf("the elements of %q in %q: %v, encoding/json: %v", p.Name, text, elements, all)
				}
			}
		}
		var want map[string]any
		if wantErr := json.Unmarshal([]byte(text), &want); ok != (wantErr == nil) || ok && !reflect.DeepEqual(got, want) {
			t.Errorf("Object(%q): %v, encoding/json: %v, %v", text, got, want, wantErr)
		}
	})
}
