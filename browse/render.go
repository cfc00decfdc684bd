package browse

import (
	"bytes"
	"cmp"
	"encoding/json"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"weak"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/html"
	"github.com/rekisteri/rekisteri/internal/page"
)

const (
	htmlType = "text/html; charset=utf-8"
	jsonType = "application/json"
)

// A key names a page in the cache.
type key struct {
	provider rekisteri.Provider // zero: the page is a list
	sum      [32]byte           // of what is in the list
	host     string
	services string
	json     bool
	problems bool // the page shows some
	code     int  // for the listing; 200 unless there is none
}

// A cached is a page and what it was made from. The pointers are weak, so that a
// page does not keep a whole release in memory. It is immutable.
type cached struct {
	code    int
	page    *page.Page // nil: each request makes a document of content
	title   string
	content html.Node // empty if page is set

	latest     string // the version of release
	listing    weak.Pointer[rekisteri.Listing]
	release    weak.Pointer[rekisteri.Release]
	hasRelease bool
	problems   []rekisteri.Problem
	until      time.Time // when it is out of date even if nothing changes; zero: never
}

// isOf reports whether a page is up to date with what the backend has.
func (c *cached) isOf(l *rekisteri.Listing, rel *rekisteri.Release, problems []rekisteri.Problem) bool {
	return c.listing.Value() == l && c.release.Value() == rel && c.hasRelease == (rel != nil) &&
		slices.Equal(c.problems, problems) && (c.until.IsZero() || time.Now().Before(c.until))
}

// A viewer is data that is shown as JSON, or as HTML.
type viewer interface{ view() html.Node }

// make fills in a page that shows data. old is what is in the cache for the key,
// or nil.
func (v *visit) make(k key, old, c *cached, data viewer) error {
	var err error
	switch {
	case k.json:
		var body []byte
		body, err = encode(data)
		c.page = page.New(body)
	case v.frame == nil:
		c.page, err = v.framed(c.title, data.view())
	default:
		c.content = data.view()
	}
	if err != nil {
		return err
	}
	size := int64(len(c.content.String())) + cacheOverhead
	if c.page != nil {
		if old != nil && old.page != nil && bytes.Equal(old.page.Body(), c.page.Body()) {
			c.page = old.page // it is compressed already
		} else {
			v.gzip.Compress(c.page)
		}
		size += c.page.Size()
	}
	for _, p := range c.problems {
		size += int64(len(p.Path) + len(p.What) + len(p.Effect) + len(p.Fix))
	}
	if size <= v.cacheBytes {
		k.provider = rekisteri.Provider{Namespace: strings.Clone(k.provider.Namespace), Type: strings.Clone(k.provider.Type)}
		k.host, k.services = strings.Clone(k.host), strings.Clone(k.services)
		v.cache.Put(k, c, size)
	} else {
		v.cache.Delete(k)
	}
	return nil
}

// cacheOverhead is about what the cache needs for a page beside its body.
const cacheOverhead = 800

// show answers with a page. failure says why the page has an error status.
func (v *visit) show(k key, c *cached, failure error) error {
	p, contentType := c.page, htmlType
	if k.json {
		contentType = jsonType
	}
	if p == nil {
		var err error
		if p, err = v.framed(c.title, c.content); err != nil {
			return err
		}
	}
	if failure != nil {
		v.report(failure, c.code)
	}
	return v.send(c.code, p, contentType, "private, no-cache")
}

// encode returns a value as JSON.
func encode(value any) ([]byte, error) {
	body, err := json.Marshal(value)
	return append(body, '\n'), err
}

// errorPage returns the page for an error status.
func (v *visit) errorPage(code int) (*page.Page, error) {
	title, text := http.StatusText(code), "Try again in a moment. If it stays like this, tell those who run this registry."
	switch code {
	case http.StatusUnauthorized:
		title, text = "Please sign in", "This registry is private. Use your registry token as the password; the user name does not matter."
		if !strings.HasPrefix(v.challenge, "Basic ") {
			text = "This registry is private, and you are not signed in."
		}
	case http.StatusForbidden:
		title, text = "No access", "You may not see this provider. Ask those who run this registry for access to its namespace."
	case http.StatusNotFound:
		title, text = "Not found", "There is no such page, or no such provider. Check the spelling of the address."
	case http.StatusMethodNotAllowed:
		text = "Pages can only be read."
	case http.StatusGatewayTimeout:
		title = "This takes too long"
	case http.StatusInternalServerError:
		title = "The registry cannot read this"
	}
	return v.framed(title, html.El("div", html.Class("rk rk-error"),
		html.El("h1", html.Text(title)),
		html.El("p", html.Text(text)),
		html.El("p", link(v.root, html.Text("All providers")))))
}

// errorJSON is the body of an error, as the registry writes it.
func errorJSON(code int) []byte {
	return []byte(`{"errors":["` + http.StatusText(code) + `"]}`)
}

// wantsJSON reports whether the request prefers JSON to HTML.
func wantsJSON(req *http.Request) bool { return preference(req) < 0 }

// preference returns whether the request prefers HTML, by its Accept header: a
// positive number, or a negative one if it prefers JSON, or zero. Of two with the
// same weight, it prefers the one that is named.
func preference(req *http.Request) int {
	var htmlWeight, jsonWeight float64
	var htmlRank, jsonRank int // of the range that decides: an exact one outranks others
	for _, line := range req.Header["Accept"] {
		for part := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(part, ";")
			q := 1.0
			for param := range strings.SplitSeq(params, ";") {
				if weight, ok := strings.CutPrefix(strings.ToLower(strings.TrimSpace(param)), "q="); ok {
					if parsed, err := strconv.ParseFloat(weight, 64); err == nil {
						q = parsed
					}
				}
			}
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "*/*":
				htmlWeight, htmlRank = prefer(htmlWeight, htmlRank, q, 1)
				jsonWeight, jsonRank = prefer(jsonWeight, jsonRank, q, 1)
			case "text/*":
				htmlWeight, htmlRank = prefer(htmlWeight, htmlRank, q, 2)
			case "application/*":
				jsonWeight, jsonRank = prefer(jsonWeight, jsonRank, q, 2)
			case "text/html", "application/xhtml+xml":
				htmlWeight, htmlRank = prefer(htmlWeight, htmlRank, q, 3)
			case "application/json":
				jsonWeight, jsonRank = prefer(jsonWeight, jsonRank, q, 3)
			}
		}
	}
	return cmp.Or(cmp.Compare(htmlWeight, jsonWeight), cmp.Compare(htmlRank, jsonRank))
}

// prefer returns the weight of the range with the higher rank.
func prefer(weight float64, rank int, other float64, otherRank int) (float64, int) {
	if otherRank >= rank {
		return other, otherRank
	}
	return weight, rank
}

// short returns a text that is not too long to show, without control characters.
func short(s string) string {
	const limit = 2000
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
}
