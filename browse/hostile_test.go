package browse_test

import (
	"fmt"
	"html"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/browse"
	"github.com/rekisteri/rekisteri/internal/pgptest"
)

// texts are what a tree or a request may have where a page shows text.
func texts() map[string]string {
	return map[string]string{
		"script":        `<script>alert(1)</script>`,
		"attribute":     `"><img src=x onerror=alert(1)>`,
		"quote":         `' onmouseover='alert(1)`,
		"javascript":    `javascript:alert(1)`,
		"entity":        `&lt;script&gt;&#x3C;`,
		"template":      `{{.Root}}${7*7}`,
		"right to left": "\u202Egnp.exe\u2066\u200F",
		"long":          strings.Repeat("A", 10<<10),
		"long letters":  strings.Repeat("ä", 5<<10) + "€",
		"comment":       `<!-- --><![CDATA[ ]]>`,
		"no UTF-8":      "\xff\xfe<b>",
		"control":       "\x00\x1b[31m\r\n\r\n",
		"end":           `</code></pre></div></main></body></html><h1>x`,
	}
}

// tags returns the tags of a page, with the names of their attributes.
func tags(page string) (tags []string) {
	attributes := regexp.MustCompile(`\s([a-z-]+)(?:="[^"]*")?`)
	for _, tag := range regexp.MustCompile(`<(?:[!/a-zA-Z?])[^>]*>`).FindAllString(page, -1) {
		name := strings.TrimRight(strings.Fields(tag)[0], ">")
		for _, m := range attributes.FindAllStringSubmatch(tag, -1) {
			name += " " + m[1]
		}
		tags = append(tags, name)
	}
	return tags
}

// TestHostile shows texts that must not become a part of the page. Its tags and
// attributes are those of a page with a harmless text.
func TestHostile(t *testing.T) {
	page := func(t *testing.T, text, url string, headers ...string) string {
		m := newMemory("acme/foo")
		m.listings[foo] = &rekisteri.Listing{
			Versions: []rekisteri.Version{{Version: "1.0.0", Protocols: []string{"5.0", text}, Platforms: []rekisteri.Platform{{OS: "linux", Arch: "amd64"}, {OS: text, Arch: text}}}, versionOf(text)},
			Warnings: []string{text},
		}
		m.releases[foo] = &rekisteri.Release{Packages: []rekisteri.Package{{SigningKeys: []rekisteri.SigningKey{
			{KeyID: text, ASCIIArmor: text, Source: text, SourceURL: text},
			{KeyID: text, ASCIIArmor: pgptest.NewKey(text).Armor(), Source: text, SourceURL: text},
		}}}}
		h := newPages(t, m, &browse.Options{Problems: problemsOf(rekisteri.Problem{Path: text, What: text, Effect: text, Fix: text})})
		w := get(h, url, headers...)
		csp := w.Header().Get("Content-Security-Policy")
		if !strings.HasPrefix(csp, "default-src 'none';") || strings.Contains(csp, "unsafe") || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("headers %v", w.Header())
		}
		if strings.ContainsAny(w.Header().Get("Location"), "\r\n<>") {
			t.Errorf("Location: %q", w.Header().Get("Location"))
		}
		return w.Body.String()
	}
	escape := func(text string) string {
		return strings.NewReplacer("%", "%25", " ", "%20", ";", "%3B", "/", "%2F", "&", "%26", "#", "%23", "+", "%2B", "\x00", "%00", "\r", "%0D", "\n", "%0A", "\x1b", "%1B", "\xff", "%FF", "\xfe", "%FE", `"`, "%22", "<", "%3C", ">", "%3E").Replace(text)
	}
	for name, text := range texts() {
		t.Run(name, func(t *testing.T) {
			for _, url := range []string{"/providers/acme/foo", "/?q=%s", "/?q=nothing&after=%s", "/%s", "/providers/%s/%s", "/providers/acme/foo?%s"} {
				n := strings.Count(url, "%s")
				at := func(text string) string {
					return fmt.Sprintf(url, slices.Repeat([]any{escape(text)}, n)...)
				}
				got, want := page(t, text, at(text)), page(t, "harmless text!", at("harmless text!"))
				if got, want := tags(got), tags(want); !slices.Equal(got, want) {
					t.Errorf("GET %s has the tags\n%q\nwant\n%q", url, got, want)
				}
				if len(got) > 60_000 {
					t.Errorf("GET %s has %d bytes", url, len(got))
				}
				for _, m := range regexp.MustCompile(`(?:href|src|action)="([^"]*)"`).FindAllStringSubmatch(got, -1) {
					if link := html.UnescapeString(m[1]); !regexp.MustCompile(`^(?:[.?/#a-z]|data:image/svg)`).MatchString(link) || strings.HasPrefix(link, "javascript") || strings.HasPrefix(link, "//") {
						t.Errorf("GET %s links %q", url, link)
					}
				}
				if strings.ContainsAny(strings.ReplaceAll(got, "\n", ""), "\x00\x1b") {
					t.Errorf("GET %s has control characters", url)
				}
			}
			for _, accept := range []string{browserAccept, "application/json"} {
				got := page(t, text, "/providers/acme/foo", "Accept: "+accept)
				if strings.Contains(got, `_url":"javascript`) {
					t.Errorf("the page has a link that is not one:\n%s", got)
				}
			}
			page(t, "x", "/providers/acme/foo", "Host: "+text)
			page(t, "x", "/", "Accept: "+text)
		})
	}
}

// A text that a reader could take for another direction is isolated.
func TestIsolated(t *testing.T) {
	m := newMemory("acme/foo")
	m.listings[foo] = &rekisteri.Listing{Versions: []rekisteri.Version{versionOf("1.0.0")}, Warnings: []string{"\u202Ewarning"}}
	h := newPages(t, m, &browse.Options{Problems: problemsOf(rekisteri.Problem{Path: "\u202Epath", What: "\u202Ewhat", Effect: "\u202Eeffect", Fix: "\u202Efix"})})
	body := get(h, "/providers/acme/foo").Body.String()
	for _, text := range []string{"warning", "path", "what", "effect", "fix"} {
		if !strings.Contains(body, "<bdi>\u202E"+text+"</bdi>") {
			t.Errorf("%s is not in a bdi element:\n%s", text, body)
		}
	}
}

// TestOwnerURL links the owner of a key, whose URL a tree has.
func TestOwnerURL(t *testing.T) {
	for _, test := range []struct{ name, source, url, want string }{
		{name: "name and URL", source: "Acme", url: "https://example.com/?a=b&c=d", want: `<a href="https://example.com/?a=b&amp;c=d" rel="noopener noreferrer"><bdi>Acme</bdi></a>`},
		{name: "URL only", url: "https://example.com/", want: `<a href="https://example.com/" rel="noopener noreferrer"><bdi>https://example.com/</bdi></a>`},
		{name: "name only", source: "<Acme>", want: `<span><bdi>&lt;Acme&gt;</bdi></span>`},
		{name: "tag in the URL", source: "Acme", url: `https://example.com/"><img src=x onerror=alert(1)>`,
			want: `<a href="https://example.com/&#34;&gt;&lt;img src=x onerror=alert(1)&gt;" rel="noopener noreferrer">`},
		{name: "script with a host", source: "Acme", url: "javascript://example.com/%0aalert(1)", want: `<span><bdi>Acme</bdi></span>`},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := newMemory("acme/foo")
			m.releases[foo] = &rekisteri.Release{Packages: []rekisteri.Package{{SigningKeys: []rekisteri.SigningKey{
				{KeyID: "A", ASCIIArmor: pgptest.NewKey("a").Armor(), Source: test.source, SourceURL: test.url},
			}}}}
			body := get(newPages(t, m, nil), "/providers/acme/foo").Body.String()
			if !strings.Contains(body, test.want) || strings.Contains(body, "javascript:") {
				t.Errorf("there is no %s in\n%s", test.want, body)
			}
		})
	}
}
