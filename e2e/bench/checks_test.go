//go:build bench

package bench

import (
	"fmt"
	"slices"
	"testing"
)

const (
	checksName   = "bench-checks"
	checksRuns   = 10
	targetChecks = 0.300 // seconds
)

// TestChecksBeforeUp measures what the checks before `up` cost: the same up of
// an unchanged stack with them and without, in turn, so that whatever else the
// machine does slows both.
func TestChecksBeforeUp(t *testing.T) {
	p := newProgram(t)
	remove := func() { p.must("down", "--name", checksName, "--progress", "quiet") }
	remove()
	t.Cleanup(remove)
	up := func(more ...string) float64 {
		args := append([]string{"up", "minimal", "--name", checksName, "--ports", "auto", "--progress", "plain"}, more...)
		return p.must(args...).wall.Seconds()
	}
	up() // makes it, and fills the caches
	busy := busyCPUs(t)
	var with, without, cost []float64
	for i := range checksRuns {
		var a, b float64
		if i%2 == 0 { // going first favours neither
			a, b = up(), up("--skip-checks")
		} else {
			b = up("--skip-checks")
			a = up()
		}
		with, without, cost = append(with, a), append(without, b), append(cost, a-b)
	}
	t.Logf("up of an unchanged stack, %d pairs; other work on the CPUs: %s\n"+
		"with the checks     %s\nwithout             %s\ndifference in pairs %s (at most %.0f ms wanted)",
		checksRuns, busy, spread(with), spread(without), spread(cost), targetChecks*1000)
}

// spread is the median and the range of times in seconds.
func spread(times []float64) string {
	sorted := slices.Sorted(slices.Values(times))
	return fmt.Sprintf("median %4.0f ms, %4.0f to %4.0f ms",
		(sorted[(len(sorted)-1)/2]+sorted[len(sorted)/2])/2*1000, sorted[0]*1000, sorted[len(sorted)-1]*1000)
}
