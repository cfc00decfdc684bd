package rekisteri

import (
	"context"
	"errors"
	"net/http"
)

// The reasons of an [Event].
const (
	ReasonRedirect        = "redirect"        // the name is not in lower case, or a page has another path
	ReasonUnauthenticated = "unauthenticated" // there are no credentials, or wrong ones
	ReasonForbidden       = "forbidden"       // the credentials do not allow it
	ReasonBadLink         = "bad_link"        // a file's link is not signed, or by another key, or altered
	ReasonExpiredLink     = "expired_link"    // a file's link has expired
	ReasonNotFound        = "not_found"       // there is no such route, provider, version or file
	ReasonMethod          = "method"          // the method is not allowed
	ReasonCondition       = "condition"       // a condition or range of the request does not hold
	ReasonConflict        = "conflict"        // an upload would change a published version
	ReasonInvalid         = "invalid"         // an upload is not what it has to be, or too large
	ReasonAborted         = "aborted"         // the client hung up, or stopped sending
	ReasonTimeout         = "timeout"         // the backend did not answer in time
	ReasonFull            = "full"            // there is no space left for an upload
	ReasonError           = "error"           // any other failure of the server
)

// reasonOf returns the reason of an error that has a status.
func reasonOf(req *http.Request, err error, status int) string {
	refused, isRefusal := errors.AsType[*refusal](err)
	if status >= 500 && errors.Is(req.Context().Err(), context.Canceled) {
		return ReasonAborted
	}
	switch status {
	case http.StatusPermanentRedirect:
		return ReasonRedirect
	case http.StatusUnauthorized:
		return ReasonUnauthenticated
	case http.StatusForbidden:
		switch {
		case !isRefusal:
			return ReasonForbidden
		case refused.expired:
			return ReasonExpiredLink
		}
		return ReasonBadLink
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
