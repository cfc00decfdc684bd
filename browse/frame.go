package browse

import (
	"bytes"
	"fmt"

	"github.com/rekisteri/rekisteri/internal/html"
	"github.com/rekisteri/rekisteri/internal/page"
)

// A Page is what [Options.Frame] makes a document of. Title is a plain text:
// escape it. The other fields need no escaping. The URLs are relative.
type Page struct {
	Title   string // such as "acme/foo"
	Content string // HTML: a div element with the content of the page
	Root    string // the URL of the list of providers
	Style   string // the URL of the style sheet for Content
	Script  string // the URL of the script, which adds copy buttons
}

// framed puts content into a document.
func (v *visit) framed(title string, content html.Node) (*page.Page, error) {
	if v.frame == nil {
		return page.New([]byte(v.document(title, content).String())), nil
	}
	var body bytes.Buffer
	err := v.frame(&body, v.req, Page{
		Title: title, Content: content.String(),
		Root: v.root, Style: v.root + v.style.url, Script: v.root + v.script.url,
	})
	if err != nil {
		v.frameFailed = true
		return nil, fmt.Errorf("Options.Frame: %w", err)
	}
	return page.New(body.Bytes()), nil
}

// document returns the document for content if there is no Options.Frame.
func (v *visit) document(title string, content html.Node) html.Node {
	return html.Join(
		html.Raw("<!DOCTYPE html>\n"),
		html.El("html", html.Attr("lang", "en"), html.Class("rk-document"),
			html.El("head",
				html.Raw(`<meta charset="utf-8">`),
				html.Raw(`<meta name="viewport" content="width=device-width, initial-scale=1">`),
				html.Raw(`<meta name="color-scheme" content="light dark">`),
				html.El("title", html.Text(title+" · Provider registry")),
				html.Raw(`<link rel="icon" href="data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect width='16' height='16' rx='4' fill='%235b4bd6'/%3E%3Cpath d='M4.5 5h7M4.5 8h7M4.5 11h4' stroke='white' stroke-width='1.6' stroke-linecap='round'/%3E%3C/svg%3E">`),
				html.El("link", html.Attr("rel", "stylesheet"), html.Attr("href", v.root+v.style.url)),
				html.El("script", html.Attr("src", v.root+v.script.url), html.Attr("defer", ""))),
			html.El("body",
				html.El("header", html.Class("rk-header"), link(v.root, html.Raw(`<svg viewBox="0 0 16 16" width="24" height="24" aria-hidden="true"><rect width="16" height="16" rx="4"/><path d="M4.5 5h7M4.5 8h7M4.5 11h4"/></svg>Provider registry`))),
				html.El("main", content),
				html.Raw(`<footer class="rk-footer">A provider registry for Terraform and OpenTofu</footer>`))),
		html.Raw("\n"))
}
