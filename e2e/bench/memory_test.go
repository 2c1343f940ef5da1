//go:build bench

package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// memoryInterval is how often a running process is asked for its peak. The
// kernel keeps the peak, so only what comes after the last look is missed.
const memoryInterval = 50 * time.Millisecond

// watchPeak follows the peak resident memory of a process until the returned
// function is called, which gives it in bytes, or 0 where it can't be had.
//
// The resource usage that wait gives would not do: on Linux its maximum takes
// in the children that the process waited for, Terraform and its provider among them.
func watchPeak(pid int) (stop func() int64) {
	done, peak := make(chan struct{}), make(chan int64)
	go func() {
		tick := time.NewTicker(memoryInterval)
		defer tick.Stop()
		var highest int64
		for {
			if now, err := peakMemory(pid); err == nil {
				highest = max(highest, now)
			}
			select {
			case <-done:
				peak <- highest
				return
			case <-tick.C:
			}
		}
	}()
	return func() int64 {
		close(done)
		return <-peak
	}
}

// peakMemory is the most memory that a running process had so far, in bytes.
func peakMemory(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(string(status), "VmHWM:")
	if !found {
		return 0, fmt.Errorf("process %d has no memory of its own any more", pid)
	}
	line, _, _ := strings.Cut(rest, "\n")
	kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(line), " kB"), 10, 64)
	return kb * 1024, err
}
