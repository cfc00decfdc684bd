// Package status tells what the errors of object stores have in common.
package status

import (
	"errors"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"google.golang.org/api/googleapi"
)

// Of returns the HTTP status of the answer that an error is about, or zero.
func Of(err error) int {
	if e, ok := errors.AsType[interface {
		error
		HTTPStatusCode() int // as the errors of the AWS SDK have
	}](err); ok {
		return e.HTTPStatusCode()
	}
	if e, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return e.StatusCode
	}
	if e, ok := errors.AsType[*googleapi.Error](err); ok {
		return e.Code
	}
	return 0
}
