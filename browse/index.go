package browse

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/rekisteri/rekisteri"
	"github.com/rekisteri/rekisteri/internal/names"
)

// perPage is the number of providers on a page of the list.
const perPage = 200

// A list is a page of the list of providers.
type list struct {
	Providers  []listed `json:"providers"`
	Next       string   `json:"next,omitempty"`       // the URL of the next page, relative to this one
	Incomplete bool     `json:"incomplete,omitempty"` // some providers could not be listed

	root   string
	query  string
	first  string // the URL of the first page; empty: this is it
	groups []group
}

// A listed is a provider in the list.
type listed struct {
	Namespace string `json:"namespace"`
	Type      string `json:"type"`
	URL       string `json:"url"` // relative to the list
}

// A group is the providers of a namespace on a page.
type group struct {
	namespace string
	url       string // of the list of this namespace
	providers []listed
}

// summary says how many providers the page has.
func (l *list) summary() string {
	n := strconv.Itoa(len(l.Providers))
	switch {
	case l.first != "":
		return n + " more"
	case l.Next != "":
		return "The first " + n
	}
	return count(len(l.Providers), "provider")
}

// index answers with the list of providers.
func (v *visit) index() error {
	query := v.req.URL.Query()
	filter, after := strings.TrimSpace(query.Get("q")), query.Get("after")
	shown, more, incomplete, err := v.visible(names.Lower(filter), after)
	if err != nil {
		return err
	}
	k := key{json: wantsJSON(v.req), sum: sumOf(shown, filter, after, more, incomplete)}
	c, ok := v.cache.Get(k)
	if !ok {
		c = &cached{code: http.StatusOK, title: "Providers"}
		if err := v.make(k, nil, c, v.newList(shown, filter, after, more, incomplete)); err != nil {
			return err
		}
	}
	return v.show(k, c, nil)
}

// visible returns the providers on a page of the list: those that match a filter,
// come after another one, and may be seen. more says that others follow, and
// incomplete that some could not be listed.
func (v *visit) visible(filter, after string) (shown []rekisteri.Provider, more, incomplete bool, err error) {
	// Whether somebody is asked to sign in must not reveal which providers exist,
	// so the first question is about one that may not exist.
	denied := v.authorize(v.req, rekisteri.Provider{Namespace: "providers", Type: "all"})
	if errors.Is(denied, rekisteri.ErrUnauthenticated) || denied != nil && !isRefused(denied) {
		return nil, false, false, &denial{"the list", denied}
	}
	candidates, listErr := v.candidates(filter, after)
	for _, p := range candidates {
		switch err := v.authorize(v.req, p); {
		case err == nil && len(shown) == perPage:
			return shown, true, listErr != nil, nil
		case err == nil:
			shown = append(shown, p)
		case !isRefused(err):
			return nil, false, false, &denial{p.String(), err}
		}
	}
	if len(shown) == 0 && listErr != nil { // not candidates, which may be hidden
		return nil, false, false, listErr
	}
	return shown, false, listErr != nil, nil
}

// candidates returns the providers that match a filter and come after another
// one, in order. An error is about a part of the providers.
func (v *visit) candidates(filter, after string) (all []rekisteri.Provider, err error) {
	if v.lister == nil {
		return nil, nil
	}
	namespace, typ, hasSlash := strings.Cut(filter, "/")
	afterNamespace, afterType, _ := strings.Cut(after, "/")
	start := rekisteri.Provider{Namespace: afterNamespace, Type: afterType}
	for p, listErr := range v.lister.Providers(v.req.Context()) {
		switch {
		case listErr != nil:
			err = errors.Join(err, listErr)
		case after != "" && compare(p, start) <= 0, !names.Valid(p.Namespace), !names.Valid(p.Type):
		case hasSlash && (p.Namespace != namespace || !strings.Contains(p.Type, typ)):
		case !hasSlash && !strings.Contains(p.Namespace, filter) && !strings.Contains(p.Type, filter):
		default:
			all = append(all, p)
		}
	}
	if err != nil && v.req.Context().Err() == nil && v.reports.Allow(err.Error()) {
		v.log.Error("some providers cannot be listed, so the list on the pages lacks them", "error", err)
	}
	slices.SortFunc(all, compare)
	return slices.Compact(all), err
}

func compare(a, b rekisteri.Provider) int {
	return cmp.Or(strings.Compare(a.Namespace, b.Namespace), strings.Compare(a.Type, b.Type))
}

// sumOf returns a digest of the content of a list.
func sumOf(shown []rekisteri.Provider, filter, after string, more, incomplete bool) [32]byte {
	// Quoted, since a filter may have any bytes. Of after, only whether the page
	// is the first one matters.
	return sha256.Sum256(fmt.Appendf(nil, "%q %q %t %t %t", shown, filter, after != "", more, incomplete))
}

// newList returns a page of the list.
func (v *visit) newList(shown []rekisteri.Provider, filter, after string, more, incomplete bool) *list {
	l := &list{root: v.root, query: filter, Incomplete: incomplete, Providers: make([]listed, 0, len(shown))}
	address := func(q, after string) string {
		values := make(url.Values)
		if q != "" {
			values.Set("q", q)
		}
		if after != "" {
			values.Set("after", after)
		}
		if len(values) == 0 {
			return v.root
		}
		return v.root + "?" + values.Encode()
	}
	for _, p := range shown {
		at := listed{p.Namespace, p.Type, "providers/" + url.PathEscape(p.Namespace) + "/" + url.PathEscape(p.Type)}
		l.Providers = append(l.Providers, at)
		if n := len(l.groups); n == 0 || l.groups[n-1].namespace != p.Namespace {
			l.groups = append(l.groups, group{namespace: p.Namespace, url: address(p.Namespace+"/", "")})
		}
		last := &l.groups[len(l.groups)-1]
		last.providers = append(last.providers, at)
	}
	if more {
		l.Next = address(filter, shown[len(shown)-1].String())
	}
	if after != "" {
		l.first = address(filter, "")
	}
	return l
}
