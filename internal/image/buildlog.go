package image

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// keptLines is how much of a build's output an error shows.
const keptLines = 20

// stepLine matches how Podman and Docker announce an instruction, such as
// "[2/2] STEP 3/9: RUN npm ci" and "Step 3/9 : RUN npm ci".
var stepLine = regexp.MustCompile(`^(?:\[\d+/\d+\] )?(?i:step) (\d+)/(\d+) ?: (.*)`)

// buildLog follows a build's output: it passes each line on, and keeps the
// instruction at work and the last lines.
type buildLog struct {
	rep event.Reporter

	mu          sync.Mutex
	instruction string
	step, total int64
	began       time.Time // of the instruction
	lines       []string
}

func newBuildLog(rep event.Reporter) *buildLog {
	return &buildLog{rep: rep, instruction: "sending the build context", began: time.Now()}
}

// line takes one line of output.
func (l *buildLog) line(text string) {
	l.rep.Log("build", text)
	l.mu.Lock()
	l.lines = append(l.lines[max(0, len(l.lines)+1-keptLines):], text)
	match := stepLine.FindStringSubmatch(text)
	if match == nil {
		l.mu.Unlock()
		return
	}
	l.step, _ = strconv.ParseInt(match[1], 10, 64) // digits; 0 if there are absurdly many
	l.total, _ = strconv.ParseInt(match[2], 10, 64)
	l.instruction, l.began = match[3], time.Now()
	l.mu.Unlock()
	l.rep.Progress(l.progress(0))
}

// progress says which instruction is at work and, after a while, for how long.
func (l *buildLog) progress(time.Duration) event.Progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	text := l.instruction
	if elapsed := time.Since(l.began).Truncate(time.Second); elapsed >= heartbeat {
		text += fmt.Sprintf(" (%s)", elapsed)
	}
	return event.Progress{Text: text, Done: l.step, Total: l.total, Unit: "steps"}
}

// last returns the last lines.
func (l *buildLog) last() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lines
}

// why is the instruction that failed and the last line that speaks of an error.
func (l *buildLog) why() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	why := "at step " + l.instruction
	for i := len(l.lines) - 1; i >= 0; i-- {
		if strings.Contains(strings.ToLower(l.lines[i]), "error") {
			return why + ": " + strings.TrimSpace(l.lines[i])
		}
	}
	return why
}
