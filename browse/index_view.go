package browse

import "github.com/rekisteri/rekisteri/internal/html"

// view returns the content of the page.
func (l *list) view() html.Node {
	var found html.Node
	switch {
	case len(l.Providers) > 0:
		found = html.Join(
			html.El("p", html.Class("rk-count"),
				html.Text(l.summary()),
				html.If(l.query != "", html.Text(" · "), link(l.root, html.Text("Show all")))),
			html.Each(l.groups, group.view),
			html.If(l.first != "" || l.Next != "",
				html.El("nav", html.Class("rk-pages"), html.Attr("aria-label", "Pages"),
					html.If(l.first != "", link(l.first, html.Text("First page"))),
					html.If(l.Next != "",
						html.El("a", html.Class("rk-next"), html.Attr("href", l.Next), html.Attr("rel", "next"), html.Text("Next page"))))),
		)
	case l.query != "":
		found = html.El("p", html.Class("rk-empty"),
			html.Text("No provider matches "), html.El("q", isolated(l.query)), html.Text(". "),
			link(l.root, html.Text("Show all providers")))
	default:
		found = html.El("p", html.Class("rk-empty"),
			html.Text("There is no provider to show. Either none has been published yet, or you may not see any of them."))
	}
	return html.El("div", html.Class("rk"),
		html.El("h1", html.Text("Providers")),
		html.El("form", html.Class("rk-filter"), html.Attr("action", l.root), html.Attr("method", "get"), html.Attr("role", "search"),
			html.Raw(`<label class="rk-hidden" for="rk-q">Filter by name</label>`),
			html.El("input", html.Attr("id", "rk-q"), html.Attr("type", "search"), html.Attr("name", "q"), html.Attr("value", short(l.query)),
				html.Attr("placeholder", "Name or namespace/"), html.Attr("autocomplete", "off"), html.Attr("autocapitalize", "none"),
				html.Attr("spellcheck", "false"), html.Attr("maxlength", "260")),
			html.Raw(`<button type="submit">Filter</button>`)),
		html.If(l.Incomplete,
			html.El("p", html.Class("rk-note rk-warn"), html.Attr("role", "status"),
				html.Text("Some providers are missing from this list: the registry cannot read all of them at the moment."))),
		found)
}

// view returns a namespace and its providers.
func (g group) view() html.Node {
	return html.El("section", html.Class("rk-group"),
		html.El("h2", link(g.url, isolated(g.namespace))),
		html.El("ul", html.Each(g.providers, func(p listed) html.Node {
			return html.El("li", link(p.URL, isolated(p.Type)))
		})))
}

// link returns a link with a content.
func link(url string, content html.Node) html.Node {
	return html.El("a", html.Attr("href", url), content)
}

// isolated returns a text that does not change the direction of others.
func isolated(s string) html.Node { return html.El("bdi", html.Text(short(s))) }
