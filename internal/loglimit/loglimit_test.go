package loglimit_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rekisteri/rekisteri/internal/loglimit"
)

func TestLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l loglimit.Limit
		allowed := func(n int) (allowed int) {
			for i := range n {
				if l.Allow(fmt.Sprint("report ", i)) {
					allowed++
				}
			}
			return allowed
		}
		for _, test := range []struct {
			name    string
			after   time.Duration
			reports int
			want    int
		}{
			{name: "first", reports: 3, want: 3},
			{name: "again", after: 59 * time.Minute, reports: 3, want: 0},
			{name: "another one", reports: 4, want: 1},
			{name: "an hour after the first", after: time.Minute, reports: 4, want: 4},
			{name: "too many", reports: 20_000, want: 9_996},
			{name: "too many again", reports: 20_000, want: 0},
			{name: "an hour later", after: time.Hour, reports: 20_000, want: 10_000},
		} {
			time.Sleep(test.after)
			if got := allowed(test.reports); got != test.want {
				t.Errorf("%s: %d reports of %d, want %d", test.name, got, test.reports, test.want)
			}
		}
	})
}
