package server

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A duration is the value of a flag. It must not be negative.
type duration struct{ time.Duration }

// Set implements [flag.Value].
func (d *duration) Set(s string) error {
	v, err := time.ParseDuration(s)
	switch {
	case err != nil:
		if _, isNumber := strconv.ParseFloat(s, 64); isNumber == nil {
			return fmt.Errorf("it needs a unit, such as %ss", s)
		}
		return errors.New("it is not a duration, such as 5s or 2m")
	case v < 0:
		return errors.New("it is negative")
	}
	d.Duration = v
	return nil
}

// String implements [flag.Value]. It leaves out the zeros of 1h0m0s.
func (d *duration) String() string {
	s := d.Duration.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
