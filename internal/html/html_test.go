package html_test

import (
	"encoding/xml"
	"io"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rekisteri/rekisteri/internal/html"
)

func TestNode(t *testing.T) {
	for _, test := range []struct {
		name string
		node html.Node
		want string
	}{
		{name: "zero"},
		{name: "text", node: html.Text(`a <b> & "c" 'd'`), want: `a &lt;b&gt; &amp; &#34;c&#34; &#39;d&#39;`},
		{name: "text that is not UTF-8", node: html.Text("a\xffb\x00c"), want: "a\uFFFDb\uFFFDc"},
		{name: "element", node: html.El("p"), want: `<p></p>`},
		{name: "attributes and content in any order", node: html.El("p", html.Text("a"), html.Class("x y"), html.El("b", html.Text("<"))), want: `<p class="x y">a<b>&lt;</b></p>`},
		{name: "element without an end", node: html.El("input", html.Attr("value", `"><script>`)), want: `<input value="&#34;&gt;&lt;script&gt;">`},
		{name: "constant", node: html.Raw("<br>"), want: `<br>`},
		{name: "several", node: html.Join(html.Text("a"), html.Text("b")), want: `ab`},
		{name: "if true", node: html.If(true, html.Text("a"), html.Text("b")), want: `ab`},
		{name: "if false", node: html.If(false, html.Text("a"))},
		{name: "each", node: html.Each([]string{"a", "<"}, html.Text), want: `a&lt;`},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := test.node.String(); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

func TestAttrURL(t *testing.T) {
	for _, test := range []struct{ url, want string }{
		{url: "", want: ""},
		{url: "../a/b?q=a:b", want: "../a/b?q=a:b"},
		{url: "?q=a%3Ab&x=1", want: "?q=a%3Ab&amp;x=1"},
		{url: "#a:b", want: "#a:b"},
		{url: "https://example.com/a", want: "https://example.com/a"},
		{url: "HTTP://example.com/a", want: "HTTP://example.com/a"},
		{url: "javascript:alert(1)", want: "#"},
		{url: " javascript:alert(1)", want: "#"},
		{url: "java\nscript:alert(1)", want: "#"},
		{url: "JavaScript:alert(1)//https://", want: "#"},
		{url: "data:text/html,x", want: "#"},
		{url: "vbscript:x", want: "#"},
		{url: ":", want: "#"},
	} {
		for _, node := range []html.Node{html.El("a", html.Attr("href", test.url)), html.El("a", html.Attr("src", test.url)), html.El("a", html.Attr("action", test.url))} {
			if got := node.String(); !strings.HasSuffix(got, `="`+test.want+`"></a>`) {
				t.Errorf("%q becomes %s, want %s", test.url, got, test.want)
			}
		}
	}
}

// TestPanics makes what the package does not allow.
func TestPanics(t *testing.T) {
	for name, make := range map[string]func(){
		"onclick":             func() { html.Attr("onclick", "x") },
		"style":               func() { html.Attr("style", "x") },
		"srcdoc":              func() { html.Attr("srcdoc", "x") },
		"formaction":          func() { html.Attr("formaction", "x") },
		"script":              func() { html.El("script", html.Text("x")) },
		"element style":       func() { html.El("style", html.Text("x")) },
		"content of an input": func() { html.El("input", html.Text("x")) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			make()
		})
	}
}

// FuzzNode writes any texts as content and as values of attributes, and reads
// them with another parser: they stay where they are.
func FuzzNode(f *testing.F) {
	for _, s := range []string{"a", `"><script>alert(1)</script>`, `'`, "&lt;&#x3C;", "<!-- ]]>", "\x00\xff", "\u202E", "</b></a>"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		page := html.El("a", html.Attr("title", s), html.Attr("href", s), html.El("b", html.Text(s))).String()
		if !utf8.ValidString(page) || strings.ContainsRune(page, 0) {
			t.Errorf("%q has bytes that are not text", page)
		}
		// XML has no control characters.
		d := xml.NewDecoder(strings.NewReader(strings.Map(func(r rune) rune {
			if r < ' ' || r == 0xFFFE || r == 0xFFFF {
				return ' '
			}
			return r
		}, page)))
		var tags []string
		for {
			token, err := d.Token()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%q: %v", page, err)
			}
			if start, ok := token.(xml.StartElement); ok {
				tags = append(tags, start.Name.Local)
				for _, a := range start.Attr {
					tags = append(tags, a.Name.Local)
				}
			}
		}
		if got := strings.Join(tags, " "); got != "a title href b" {
			t.Errorf("%q has the elements and attributes %s", page, got)
		}
	})
}
