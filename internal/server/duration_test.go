package server

import (
	"testing"
	"time"
)

func TestDurationSet(t *testing.T) {
	for _, test := range []struct {
		value string
		want  time.Duration
		err   string
	}{
		{value: "5s", want: 5 * time.Second},
		{value: "1h30m", want: 90 * time.Minute},
		{value: "0", want: 0},
		{value: "0s", want: 0},
		{value: "5", err: "it needs a unit, such as 5s"},
		{value: "2.5", err: "it needs a unit, such as 2.5s"},
		{value: "-5s", err: "it is negative"},
		{value: "", err: "it is not a duration, such as 5s or 2m"},
		{value: "soon", err: "it is not a duration, such as 5s or 2m"},
		{value: "5 s", err: "it is not a duration, such as 5s or 2m"},
	} {
		d := duration{time.Hour}
		err := d.Set(test.value)
		if test.err != "" {
			if err == nil || err.Error() != test.err || d.Duration != time.Hour {
				t.Errorf("Set(%q) = %v, and the value is %v; want the error %q", test.value, err, d.Duration, test.err)
			}
			continue
		}
		if err != nil || d.Duration != test.want {
			t.Errorf("Set(%q) gives %v, %v, want %v", test.value, d.Duration, err, test.want)
		}
	}
}

func TestDurationString(t *testing.T) {
	for want, d := range map[string]time.Duration{
		"0s": 0, "30s": 30 * time.Second, "1m": time.Minute, "1h": time.Hour, "1h30m": 90 * time.Minute, "10m": 10 * time.Minute, "20h": 20 * time.Hour,
		"1h0m1s": time.Hour + time.Second, "250ms": 250 * time.Millisecond,
	} {
		v := duration{d}
		if got := v.String(); got != want {
			t.Errorf("String of %v = %q, want %q", d, got, want)
		}
	}
}
