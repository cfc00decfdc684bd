package browse

import "net/http"

// Cached returns the number of pages in the cache of a handler, and their size.
func Cached(h http.Handler) (n int, size int64) { return h.(*handler).cache.Usage() }
