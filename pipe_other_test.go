//go:build !unix

package rekisteri_test

import "errors"

func makePipe(string) error { return errors.ErrUnsupported }

func maxFiles() int { return 1 << 20 }
