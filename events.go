package rekisteri

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// An Event describes how a request was answered. Its strings may share memory
// with the request: clone a string to keep it.
type Event struct {
	// Route is the kind of request, one of the Route constants.
	Route string

	// Provider and Version are the names in the request's path. They are empty
	// unless the names are valid. The provider or version need not exist, so do
	// not use them as metric labels.
	Provider Provider
	Version  string

	// Status is the status code of the answer. It is 302 for a [Redirect]. If the
	// backend or a hook panics before anything is written, Status is 500, although
	// the client gets no answer: the server closes the connection.
	Status int

	// Bytes is the number of bytes of the body. It is zero for HEAD.
	Bytes int64

	// Received is the number of bytes of an upload's body that were read.
	Received int64

	// Duration is how long the handler ran.
	Duration time.Duration

	// Err is the cause of an error status, of a redirect to another spelling of
	// the path (308), or of an incomplete body. The log has its text; clients do
	// not get it. Nil means success. The answer 302 of a [Redirect] is a success.
	Err error

	// Reason is the kind of Err, one of the Reason constants. It is empty if Err
	// is nil.
	Reason string
}

// The routes of an [Event]. Only package browse reports RoutePage.
const (
	RouteDiscovery = "discovery" // the discovery document
	RouteVersions  = "versions"  // the versions of a provider
	RouteDownload  = "download"  // the package of a release for one platform
	RouteFile      = "file"      // a file of a release
	RouteUpload    = "upload"    // a file of a release that is being published
	RoutePage      = "page"      // a page for people, of package browse
	RouteOther     = "other"     // any other path
)

// The reasons of an [Event].
const (
	ReasonRedirect        = "redirect"        // the path is redirected to another spelling, such as the one in lower case
	ReasonUnauthenticated = "unauthenticated" // there are no credentials, or wrong ones
	ReasonForbidden       = "forbidden"       // the credentials do not allow it
	ReasonBadLink         = "bad_link"        // a file's link is not signed, is signed with an unknown key, or was altered
	ReasonExpiredLink     = "expired_link"    // a file's link has expired
	ReasonNotFound        = "not_found"       // there is no such route, provider, version or file
	ReasonMethod          = "method"          // the method is not allowed
	ReasonCondition       = "condition"       // a condition or range of the request cannot be met
	ReasonConflict        = "conflict"        // an upload would change a published version
	ReasonInvalid         = "invalid"         // an upload is not valid, or is too large
	ReasonAborted         = "aborted"         // the client hung up, or stopped sending
	ReasonTimeout         = "timeout"         // the backend did not answer in time
	ReasonFull            = "full"            // there is no space left for an upload
	ReasonError           = "error"           // any other failure of the server
)

// StatusReason returns the reason of an error status. It is for handlers that you
// serve next to a [Registry], and that report their own events. If the client has
// hung up, the reason of a server error is [ReasonAborted].
func StatusReason(req *http.Request, status int) string {
	if status >= 500 && errors.Is(req.Context().Err(), context.Canceled) {
		return ReasonAborted
	}
	switch status {
	case http.StatusPermanentRedirect:
		return ReasonRedirect
	case http.StatusUnauthorized:
		return ReasonUnauthenticated
	case http.StatusForbidden:
		return ReasonForbidden
	case http.StatusNotFound:
		return ReasonNotFound
	case http.StatusMethodNotAllowed:
		return ReasonMethod
	case http.StatusPreconditionFailed, http.StatusRequestedRangeNotSatisfiable:
		return ReasonCondition
	case http.StatusConflict:
		return ReasonConflict
	case http.StatusUnprocessableEntity, http.StatusRequestEntityTooLarge:
		return ReasonInvalid
	case http.StatusBadRequest, http.StatusRequestTimeout, statusHungUp:
		return ReasonAborted
	case http.StatusGatewayTimeout:
		return ReasonTimeout
	case http.StatusInsufficientStorage:
		return ReasonFull
	}
	return ReasonError
}

// reasonOf returns the reason of an error that has a status.
func reasonOf(req *http.Request, err error, status int) string {
	refused, isRefusal := errors.AsType[*refusal](err)
	switch {
	case isRefusal && refused.expired:
		return ReasonExpiredLink
	case isRefusal && status == http.StatusForbidden:
		return ReasonBadLink
	}
	return StatusReason(req, status)
}
