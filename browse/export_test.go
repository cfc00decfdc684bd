package browse

import "net/http"

// Cached returns the number of pages in the cache of a handler, and their size.
func Cached(h http.Handler) (n int, size int64) { return h.(*handler).cache.Usage() }

// Pages returns the pages in the cache of a handler. A page that is made anew is
// another value.
func Pages(h http.Handler) (all []any) {
	h.(*handler).cache.Each(func(_ key, c *cached) { all = append(all, c) })
	return all
}
