//go:build bench

package bench

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// busyInterval is how long the machine is watched before each side of a pair.
const busyInterval = 5 * time.Second

// busyCPUs watches the machine while the benchmark itself does nothing, and
// returns how many CPUs something else kept busy, or "?" where the system
// doesn't tell.
//
// The load average would not do: it remembers the last minutes, so it counts
// what the benchmark itself did just before.
func busyCPUs(t *testing.T) string {
	t.Helper()
	before, err := readCPUTime()
	if err == nil {
		<-time.After(busyInterval)
		var after cpuTime
		if after, err = readCPUTime(); err == nil {
			return fmt.Sprintf("%.2f", after.busySince(before))
		}
	}
	t.Logf("how busy the machine is can't be told: %v", err)
	return "?"
}

// cpuTime is what the CPUs did since the system started, in clock ticks.
type cpuTime struct {
	cpus       int
	idle, full int64 // idle, and all of it
}

func (c cpuTime) busySince(before cpuTime) float64 {
	full := c.full - before.full
	if full <= 0 {
		return 0
	}
	return float64(c.cpus) * (1 - float64(c.idle-before.idle)/float64(full))
}

func readCPUTime() (cpuTime, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return cpuTime{}, err
	}
	return parseCPUTime(string(text))
}

// parseCPUTime reads the format of /proc/stat: the line "cpu" sums up those of
// "cpu0" and so on. Its columns are user, nice, system, idle, iowait, irq,
// softirq and steal; the guests' that follow are counted in user already.
func parseCPUTime(stat string) (cpuTime, error) {
	var c cpuTime
	for line := range strings.Lines(stat) {
		fields := strings.Fields(line)
		switch {
		case len(fields) < 9 || !strings.HasPrefix(fields[0], "cpu"):
		case fields[0] != "cpu":
			c.cpus++
		default:
			for i, field := range fields[1:9] {
				ticks, err := strconv.ParseInt(field, 10, 64)
				if err != nil {
					return cpuTime{}, fmt.Errorf("CPU time %q: %w", strings.TrimSpace(line), err)
				}
				c.full += ticks
				if i == 3 || i == 4 { // waiting for a disk leaves the CPU free
					c.idle += ticks
				}
			}
		}
	}
	if c.cpus == 0 || c.full == 0 {
		return cpuTime{}, fmt.Errorf("no CPU time in %q", stat)
	}
	return c, nil
}

func TestBusyCPUsLeaveOutIdleTime(t *testing.T) {
	read := func(sum string) cpuTime {
		t.Helper()
		c, err := parseCPUTime(sum + "\ncpu0 1 1 1 1 1 1 1 1 0 0\ncpu1 1 1 1 1 1 1 1 1 0 0\nintr 5 0 0\n")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := read("cpu  100 0 100 700 100 0 0 0 50 0")
	// 200 ticks later: 40 user, 10 system, 120 idle, 30 iowait; the guest's don't count twice.
	if got := read("cpu  140 0 110 820 130 0 0 0 90 0").busySince(before); got < 0.499 || got > 0.501 {
		t.Errorf("busy CPUs %g, want 0.5 of 2", got)
	}
	if got := before.busySince(before); got != 0 {
		t.Errorf("busy CPUs in no time %g, want 0", got)
	}
	if c, err := parseCPUTime("intr 5 0 0\n"); err == nil {
		t.Errorf("no error for a text without CPU times, but %+v", c)
	}
}
