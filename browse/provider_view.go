package browse

import (
	"strconv"
	"strings"

	"github.com/rekisteri/rekisteri/internal/html"
)

// view returns the content of the page.
func (d *details) view() html.Node {
	return html.El("div", html.Class("rk"),
		html.El("nav", html.Class("rk-trail"), html.Attr("aria-label", "Breadcrumb"),
			html.El("ol",
				html.El("li", link(d.root, html.Text("Providers"))),
				html.El("li", link(d.namespaceURL, isolated(d.Namespace))))),
		html.El("h1",
			isolated(d.Namespace), html.Raw(`<span class="rk-slash">/</span>`), isolated(d.Type),
			html.If(d.Latest != "", html.Text(" "), html.El("span", html.Class("rk-version"), html.Text(d.Latest)))),
		html.Each(d.Warnings, func(text string) html.Node {
			return html.El("p", html.Class("rk-note rk-warn"), isolated(text))
		}),
		html.If(len(d.Problems) > 0 && d.usage.block != "",
			html.El("p", html.Class("rk-note rk-bad"),
				html.El("a", html.Attr("href", "#rk-problems"), html.Text(count(len(d.problemGroups), "problem")+" with this provider")))),
		html.If(d.usage.block != "", d.usage.view()),
		html.If(len(d.Versions) == 0,
			html.El("p", html.Class("rk-empty"), html.Text("No version of this provider can be installed at the moment."))),
		html.If(len(d.Problems) > 0, d.problemsView()),
		html.If(len(d.Versions) > 0, d.versionsView(), d.keysView()))
}

// view returns how to use the provider.
func (u usage) view() html.Node {
	return html.El("section", html.Attr("aria-labelledby", "rk-use"),
		html.Raw(`<h2 id="rk-use">Use this provider</h2>`),
		html.Raw(`<p>Add this to your configuration, and run <code>terraform init</code> or <code>tofu init</code>.</p>`),
		html.If(u.unknownHost,
			html.Raw(`<p class="rk-note">Replace <code>registry.example.com</code> with the host name of this registry.</p>`)),
		code("rk-block", "The required_providers block", u.block),
		html.If(u.services != "", html.El("details",
			html.Raw(`<summary>This registry has no TLS</summary>`),
			html.Raw(`<p>Terraform and OpenTofu require https. To try this registry on your machine, add this to <code>~/.terraformrc</code> or <code>~/.tofurc</code>.</p>`),
			code("rk-services", "The host block", u.services))),
		html.If(u.credentials != "", html.El("details",
			html.Raw(`<summary>This registry needs your token</summary>`),
			html.Raw(`<p>Add this to <code>~/.terraformrc</code> or <code>~/.tofurc</code>, with your token for this registry.</p>`),
			code("rk-credentials", "The credentials block", u.credentials))))
}

// code returns a text with a button that copies it. The button is hidden
// until script.js has run.
func code(id, label, text string) html.Node {
	return html.El("div", html.Class("rk-code"),
		html.El("button", html.Attr("type", "button"), html.Class("rk-copy"), html.Attr("data-rk-copy", id), html.Attr("hidden", ""), html.Text("Copy")),
		html.El("pre", html.Attr("tabindex", "0"), html.Attr("aria-label", label),
			html.El("code", html.Attr("id", id), html.Text(text))))
}

// problemsView returns what is wrong with the provider.
func (d *details) problemsView() html.Node {
	first, others := split(d.problemGroups, firstProblems)
	return html.El("section", html.Class("rk-problems"), html.Attr("aria-labelledby", "rk-problems"),
		html.Raw(`<h2 id="rk-problems">What is wrong</h2>`),
		html.El("ul", html.Each(first, problemGroup.view)),
		html.If(len(others) > 0, html.El("details",
			html.El("summary", html.Text(count(len(others), "more problem"))),
			html.El("ul", html.Each(others, problemGroup.view)))))
}

// view returns a problem and the files that have it.
func (g problemGroup) view() html.Node {
	return html.El("li",
		html.Each(g.paths, func(path string) html.Node {
			return html.El("p", html.Class("rk-mono rk-path"), isolated(path))
		}),
		html.If(g.more > 0, html.El("p", html.Class("rk-path"), html.Text("and "+strconv.Itoa(g.more)+" more"))),
		html.El("h3", isolated(g.What)),
		html.El("dl",
			html.Raw(`<dt>Effect</dt>`), html.El("dd", isolated(g.Effect)),
			html.Raw(`<dt>To fix it</dt>`), html.El("dd", isolated(g.Fix))))
}

// versionsView returns the versions of the provider.
func (d *details) versionsView() html.Node {
	newest, older := split(d.Versions, newestVersions)
	return html.El("section", html.Attr("aria-labelledby", "rk-versions"),
		html.El("h2", html.Attr("id", "rk-versions"), html.Text(count(len(d.Versions), "version"))),
		versionTable(newest),
		html.If(len(older) > 0, html.El("details",
			html.El("summary", html.Text(count(len(older), "older version"))),
			versionTable(older))))
}

// versionTable returns a table of versions.
func versionTable(versions []*version) html.Node {
	return html.El("table", html.Class("rk-versions"),
		html.Raw(`<thead><tr><th scope="col">Version</th><th scope="col">Protocol</th><th scope="col">Platforms</th></tr></thead>`),
		html.El("tbody", html.Each(versions, (*version).view)))
}

// view returns the row of a version.
func (v *version) view() html.Node {
	protocols, platforms := html.Text(strings.Join(v.Protocols, ", ")), html.Each(v.systems, system.view)
	if len(v.Protocols) == 0 {
		protocols = html.Raw(`<span class="rk-muted">not given</span>`)
	}
	if len(v.systems) == 0 {
		platforms = html.Raw(`<span class="rk-muted">none</span>`)
	}
	return html.El("tr",
		html.El("th", html.Attr("scope", "row"), isolated(v.Version),
			html.If(v.isLatest, html.Raw(` <span class="rk-tag rk-good">latest</span>`)),
			html.If(v.prerelease, html.Raw(` <span class="rk-tag">pre-release</span>`)),
			html.If(v.tooOld, html.Raw(` <span class="rk-tag rk-warn">cannot be installed</span>`))),
		html.El("td", html.Attr("data-label", "Protocol"), protocols),
		html.El("td", html.Attr("data-label", "Platforms"), platforms))
}

// view returns an operating system and its architectures.
func (s system) view() html.Node {
	return html.El("span", html.Class("rk-system"),
		html.El("b", html.Text(s.os)),
		html.Each(s.archs, func(arch string) html.Node { return html.Text(" " + arch) }))
}

// keysView returns the signing keys of the latest version.
func (d *details) keysView() html.Node {
	keys := html.Raw(`<p>There is no signing key, so Terraform and OpenTofu refuse to install this provider.</p>`)
	if len(d.Keys) > 0 {
		keys = html.Join(
			html.El("p", html.Text("Version "), isolated(d.Latest), html.Text(" is signed with one of these keys. Terraform and OpenTofu check the signature.")),
			html.El("ul", html.Class("rk-keys"), html.Each(d.Keys, signingKey.view)))
	}
	return html.El("section", html.Attr("aria-labelledby", "rk-keys"), html.Raw(`<h2 id="rk-keys">Signing keys</h2>`), keys)
}

// view returns a key, its state and its owner.
func (k signingKey) view() html.Node {
	id := k.ID
	if k.Fingerprint != "" {
		id = k.spaced()
	}
	return html.El("li",
		html.El("p", html.Class("rk-mono"), isolated(id)),
		html.El("p", k.stateView(), k.expiryView(), k.ownerView()))
}

// stateView returns whether clients accept the key.
func (k signingKey) stateView() html.Node {
	state := html.Text(string(k.State))
	switch k.State {
	case keyValid:
		return html.El("span", html.Class("rk-tag rk-good"), state)
	case keyExpiresSoon:
		return html.El("span", html.Class("rk-tag rk-warn"), state)
	case "":
		state = html.Text("cannot be read")
	}
	return html.El("span", html.Class("rk-tag rk-bad"), state)
}

// expiryView returns when the key expires, if that is known.
func (k signingKey) expiryView() html.Node {
	switch {
	case k.Expires != nil:
		verb := "Expires on "
		if k.State == keyExpired {
			verb = "Expired on "
		}
		return html.Join(html.Text(" "), html.El("span", html.Text(verb),
			html.El("time", html.Attr("datetime", k.Expires.Format("2006-01-02")), html.Text(k.Expires.Format("2 January 2006")))))
	case k.State != "":
		return html.Raw(` <span>Does not expire</span>`)
	}
	return html.Node{}
}

// ownerView returns whose key it is, if that is known.
func (k signingKey) ownerView() html.Node {
	owner := k.Owner
	if owner == "" {
		owner = k.OwnerURL
	}
	if owner == "" {
		return html.Node{}
	}
	name := isolated(owner)
	if k.OwnerURL != "" {
		name = html.El("a", html.Attr("href", k.OwnerURL), html.Attr("rel", "noopener noreferrer"), name)
	}
	return html.Join(html.Text(" "), html.El("span", name))
}

// count returns a number and a noun.
func count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + noun + "s"
}

// split returns the first n values, and the others.
func split[T any](all []T, n int) (first, others []T) {
	n = min(n, len(all))
	return all[:n], all[n:]
}
