// Package chromium drives a headless Chromium in tests, on Unix. It speaks the
// Chrome DevTools Protocol over a pipe. Nothing but tests imports it.
package chromium
