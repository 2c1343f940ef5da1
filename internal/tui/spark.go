package tui

import (
	"strings"

	"github.com/sandbox-stack/sandbox/internal/event"
)

var (
	sparkLevels = []rune("▁▂▃▄▅▆▇█")
	asciiLevels = []rune("_.:-=+*#")
)

// spark draws the last w values as a line of bars. The scale goes from 0 to
// the largest value, but at least to floor, so that the noise of something
// idle does not look like work. Where values are few the line starts with
// spaces: the newest is always at the right.
func (t theme) spark(values []float64, w int, floor float64) string {
	if w <= 0 {
		return ""
	}
	values = values[max(0, len(values)-w):]
	top := floor
	for _, v := range values {
		top = max(top, v)
	}
	levels := sparkLevels
	if t.ascii {
		levels = asciiLevels
	}
	var b strings.Builder
	b.WriteString(strings.Repeat(" ", w-len(values)))
	for _, v := range values {
		i := 0
		if top > 0 && v > 0 {
			i = min(len(levels)-1, int(v/top*float64(len(levels)-1)+0.5))
		}
		b.WriteRune(levels[i])
	}
	return b.String()
}

// The least tops of the scales: a twentieth of a core, and 32 MiB.
const (
	cpuFloor    = 0.05
	memoryFloor = 32 << 20
)

func (t theme) cpuSpark(s []event.Sample, w int) string {
	values := make([]float64, len(s))
	for i := range s {
		values[i] = s[i].CPU
	}
	return t.spark(values, w, cpuFloor)
}

func (t theme) memorySpark(s []event.Sample, w int) string {
	values := make([]float64, len(s))
	for i := range s {
		values[i] = float64(s[i].Memory)
	}
	return t.spark(values, w, memoryFloor)
}

// bar draws the part done of total as a bar of w columns.
func (t theme) bar(done, total int64, w int) string {
	if total <= 0 || w <= 0 {
		return ""
	}
	n := int(min(done, total) * int64(w) / total)
	return strings.Repeat(t.pick("█", "#"), n) + strings.Repeat(t.pick("░", "."), w-n)
}
