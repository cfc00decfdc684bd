// Package html builds HTML that is escaped by construction. The names of elements
// and attributes are constants in the program's source; all other strings are
// escaped. A [Node] is therefore well-formed, whatever texts it is made of.
//
// The pages of the registry use it in place of html/template. A template calls
// methods by name, so the linker keeps every exported method of a program that
// has one: 2 MB of 11.
package html

import (
	"strings"
	"unicode/utf8"
)

// A constant is a string in the source of the program. Its type is not exported,
// so a variable of type string does not compile in its place.
type constant string

// A Node is a piece of HTML: text, elements, or nothing. The zero value is
// nothing.
type Node struct{ html string }

// String returns the HTML.
func (n Node) String() string { return n.html }

// A Part is a part of an element: an attribute or a [Node].
type Part interface{ addTo(*element) }

type element struct{ attributes, content strings.Builder }

func (n Node) addTo(e *element) { e.content.WriteString(n.html) }

// An attribute is an attribute of an element, with a space before it.
type attribute string

func (a attribute) addTo(e *element) { e.attributes.WriteString(string(a)) }

// El returns an element. It panics if a script or a style has content, which
// would be code, and if an element has content that cannot have any.
func El(name constant, parts ...Part) Node {
	var e element
	for _, p := range parts {
		p.addTo(&e)
	}
	begin, content := "<"+string(name)+e.attributes.String()+">", e.content.String()
	switch name {
	case "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "source", "track", "wbr":
		if content == "" {
			return Node{begin}
		}
		panic("html: the element " + string(name) + " has content")
	case "script", "style":
		if content != "" {
			panic("html: the content of the element " + string(name) + " is code")
		}
	}
	return Node{begin + content + "</" + string(name) + ">"}
}

// Attr returns an attribute. The URL of a href, src or action must be relative,
// or have the scheme http or https: any other one is replaced by "#". Attr panics
// for other attributes that have a URL or code.
func Attr(name constant, value string) Part {
	switch name {
	case "href", "src", "action":
		if !isLink(value) {
			value = "#"
		}
	case "background", "cite", "data", "formaction", "ping", "poster", "srcdoc", "srcset", "style", "xlink:href":
		panic("html: the attribute " + string(name) + " is not supported")
	}
	if strings.HasPrefix(string(name), "on") {
		panic("html: the value of the attribute " + string(name) + " is code")
	}
	return attribute(" " + string(name) + `="` + escape(value) + `"`)
}

// isLink reports whether a URL is relative, or has the scheme http or https.
func isLink(url string) bool {
	scheme, _, ok := strings.Cut(url, ":")
	return !ok || strings.ContainsAny(scheme, "/?#") || strings.EqualFold(scheme, "http") || strings.EqualFold(scheme, "https")
}

// Class returns the attribute class.
func Class(names constant) Part { return Attr("class", string(names)) }

// Text returns a text.
func Text(s string) Node { return Node{escape(s)} }

// escape escapes a text for the content of elements and for quoted attributes.
// The package html of the standard library would do, but for its table of entities
// in the binary.
func escape(s string) string {
	if !strings.ContainsAny(s, "&<>\"'\x00") && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s) + 16)
	for _, r := range s { // bytes that are not UTF-8 become U+FFFD
		switch r {
		case '&':
			b.WriteString("&amp;")
		case '<':
			b.WriteString("&lt;")
		case '>':
			b.WriteString("&gt;")
		case '"':
			b.WriteString("&#34;")
		case '\'':
			b.WriteString("&#39;")
		case 0:
			b.WriteRune('\uFFFD')
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Raw returns HTML that is in the source of the program. It must be well-formed.
func Raw(html constant) Node { return Node{string(html)} }

// Join returns nodes after each other.
func Join(nodes ...Node) Node {
	var b strings.Builder
	for _, n := range nodes {
		b.WriteString(n.html)
	}
	return Node{b.String()}
}

// If returns nodes after each other if ok is true, and otherwise nothing. The
// nodes are made in any case, so ok does not guard what makes them.
func If(ok bool, nodes ...Node) Node {
	if !ok {
		return Node{}
	}
	return Join(nodes...)
}

// Each returns the nodes that a function makes of values, after each other.
func Each[T any](values []T, node func(T) Node) Node {
	nodes := make([]Node, len(values))
	for i, v := range values {
		nodes[i] = node(v)
	}
	return Join(nodes...)
}
