package tui

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// logDash is a dashboard on its logs: a hundred lines with numbers, every tenth
// from another component.
func logDash(t *testing.T) *dash {
	d := newDash(t)
	for i := range 100 {
		component := "aws"
		if i%10 == 0 {
			component = "release/web/Deployment/web"
		}
		d.log(component, fmt.Sprintf("line %02d", i))
	}
	d.look()
	d.want(goLogs)
	return d
}

var numbered = regexp.MustCompile(`line ([0-9a-z]{2})\b`)

// visible are the numbers of the lines on the screen.
func (d *dash) visible() []string {
	var out []string
	for l := range strings.SplitSeq(d.screenText(), "\n") {
		if found := numbered.FindStringSubmatch(l); found != nil {
			out = append(out, found[1])
		}
	}
	return out
}

func TestLogsFollow(t *testing.T) {
	d := logDash(t)
	v := d.visible()
	assert.Equal(t, "99", v[len(v)-1])
	d.want(moveUp)
	up := d.visible()
	assert.Equal(t, "98", up[len(up)-1])

	d.log("aws", "line aa", "line bb")
	d.look()
	assert.Equal(t, up, d.visible(), "the window stays where it is")
	assert.Contains(t, d.screenText(), "2 new, G shows them")
	d.want(moveBottom)
	assert.Contains(t, d.visible(), "bb")
	assert.Contains(t, d.screenText(), "FOLLOW")

	d.want(moveTop)
	assert.Equal(t, "00", d.visible()[0])
	d.want(pageDown)
	assert.NotEqual(t, "00", d.visible()[0])
	for range 10 {
		d.want(pageDown)
	}
	assert.True(t, d.logs.follow, "scrolling to the end follows again")
	d.want(follow)
	assert.False(t, d.logs.follow)
}

func TestLogsOfOneSource(t *testing.T) {
	d := logDash(t)
	d.types("S<down><down><down><enter>")
	assert.Equal(t, "release/web/Deployment/web", d.logs.source)
	assert.Equal(t, []string{"00", "10", "20", "30", "40", "50", "60", "70", "80", "90"}, d.visible())
	d.logs.show("release")
	d.dirty = true
	assert.Len(t, d.visible(), 10, "a component includes what is below it")
	d.want(back)
	assert.Greater(t, len(d.visible()), 10)
}

func TestLogsSearch(t *testing.T) {
	d := logDash(t)
	d.types("/LINE .5<enter>")
	assert.Empty(t, d.logs.hits, "capitals are meant")
	d.types("/line .5<enter>")
	require.Len(t, d.logs.hits, 10)
	at := func() string { return d.logs.lines[d.logs.hit-d.logs.first].Line }
	assert.Equal(t, "line 95", at(), "the latest first")
	d.want(previousHit)
	assert.Equal(t, "line 85", at())
	d.want(nextHit, nextHit)
	assert.Equal(t, "line 05", at(), "around the end")
	assert.Contains(t, d.visible(), "05")

	d.want(onlyHits)
	assert.Equal(t, []string{"05", "15", "25", "35", "45", "55", "65", "75", "85", "95"}, d.visible())
	d.want(invertHits)
	assert.NotContains(t, d.visible(), "95")
	assert.Len(t, d.logs.rows, 90)
	d.log("aws", "line x5", "line x6")
	d.look()
	assert.Len(t, d.logs.rows, 91, "lines are filtered as they come")
	d.want(back)
	assert.Len(t, d.logs.rows, 102)
	d.types("/!line 9<enter>")
	assert.Len(t, d.logs.rows, 92)
	d.want(back, nextHit)
	assert.Contains(t, d.screenText(), "nothing is searched for")
}

func TestLogsWrapAndShift(t *testing.T) {
	d := newDash(t)
	d.log("aws", strings.Repeat("0123456789", 20)+"end")
	d.look()
	d.want(goLogs, wrapLines)
	assert.NotContains(t, d.screenText(), "end")
	for range 7 {
		d.want(foldOut)
	}
	assert.Contains(t, d.screenText(), "end")
	assert.Contains(t, d.screenText(), "column 141")
	d.want(foldIn)
	assert.Contains(t, d.screenText(), "column 121")
	d.want(wrapLines)
	text := d.screenText()
	assert.Contains(t, text, "end")
	assert.NotContains(t, text, "column")
	d.want(showTimes)
	assert.NotContains(t, d.screenText(), "06:00:00")
}

func TestLogsScrollWithinALongLine(t *testing.T) {
	d := newDash(t)
	d.log("aws", "first", strings.Repeat("x", 8000)+"END", "last")
	d.look()
	d.want(goLogs, moveTop)
	assert.Contains(t, d.screenText(), "first")
	assert.NotContains(t, d.screenText(), "END")
	seen := 0
	for range 400 {
		d.want(moveDown)
		if strings.Contains(d.screenText(), "END") {
			seen++
		}
	}
	assert.NotZero(t, seen)
	assert.True(t, d.logs.follow)
	d.want(moveUp)
	assert.Contains(t, d.screenText(), "END")
}

func TestLogsMark(t *testing.T) {
	d := logDash(t)
	d.clock = time.Date(2026, 1, 2, 7, 8, 9, 0, time.UTC)
	d.update(tickMsg{})
	d.want(mark)
	d.log("aws", "line zz")
	d.look()
	text := d.screenText()
	mark, after := strings.Index(text, "mark 07:08:09"), strings.Index(text, "line zz")
	require.Positive(t, mark)
	assert.Less(t, strings.Index(text, "line 99"), mark)
	assert.Less(t, mark, after)
}

// What is found and where the window is survive that old lines are dropped.
func TestLogsOutliveTheirOldLines(t *testing.T) {
	d := logDash(t)
	d.types("/line 9<enter>")
	d.want(moveUp)
	for i := range event.LogTail {
		d.log("aws", fmt.Sprintf("more %d", i))
		if i%1000 == 0 {
			d.look()
		}
	}
	d.look()
	assert.Len(t, d.logs.rows, event.LogTail)
	assert.Empty(t, d.logs.hits)
	assert.Equal(t, d.logs.first, d.logs.rows[0])
	assert.Contains(t, d.screenText(), "more 0", "the window is at the first line that is left")
	d.want(moveBottom)
	assert.Contains(t, d.screenText(), fmt.Sprintf("more %d", event.LogTail-1))
}

func TestLogsOfAComponentAreNotFiltered(t *testing.T) {
	d := logDash(t)
	d.types("/nothing like this<enter>")
	d.want(onlyHits)
	assert.Contains(t, d.screenText(), "no line matches")
	d.want(goOverview, showLogs)
	assert.Len(t, d.visible(), 10)
}

func TestLogsOfALevelAndATime(t *testing.T) {
	d := newDash(t)
	d.log("aws", "an ERROR", "a WARNING", "all is well")
	d.look()
	d.want(goLogs, cycleLevel)
	assert.Contains(t, d.screenText(), "2 lines, warnings")
	d.want(cycleLevel)
	assert.Contains(t, d.screenText(), "an ERROR")
	assert.NotContains(t, d.screenText(), "a WARNING")
	d.want(cycleLevel)
	assert.Contains(t, d.screenText(), "all is well")

	d.clock = d.clock.Add(10 * time.Minute)
	d.log("aws", "ten minutes later")
	d.look()
	d.update(tickMsg{})
	d.want(narrowSpan, narrowSpan)
	assert.Contains(t, d.screenText(), "1 lines, last 5m")
	assert.NotContains(t, d.screenText(), "all is well")
	d.want(widenSpan, widenSpan, widenSpan)
	assert.Contains(t, d.screenText(), "all is well")
}

func TestLogsOfAPodAreItsReleases(t *testing.T) {
	d := newDash(t)
	d.log("release/web/Deployment/web/Pod/web-1", "of the one")
	d.log("release/web/Deployment/web/Pod/web-2", "of the other")
	d.look()
	d.want(goLogs)
	d.logs.show("release/web")
	assert.Contains(t, d.screenText(), "of the one")
	assert.Contains(t, d.screenText(), "of the other")
	d.logs.show("release/web/Deployment/web/Pod/web-2")
	assert.NotContains(t, d.screenText(), "of the one")
	assert.Contains(t, d.screenText(), "of the other")
	var keys []string
	for _, s := range d.logs.sources() {
		keys = append(keys, s.key)
	}
	assert.Contains(t, keys, "release/web")
}
