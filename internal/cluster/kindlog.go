package cluster

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"sigs.k8s.io/kind/pkg/log"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// The formats by which kind announces its phases. They are not part of its
// documented interface; TestKindFormats pins them against the library.
const (
	kindPhaseStart = " • %s  ...\n"
	kindPhaseDone  = " ✓ %s\n"
	kindPhaseFail  = " ✗ %s\n"
)

// noise is in warnings of kind about what sandbox does on purpose; they would
// only worry the user.
var noise = []string{"KIND_EXPERIMENTAL_", "Here be dragons", "enabling experimental podman provider"}

// kindLogger turns kind's log into progress and log lines. It remembers the
// current phase, for the heartbeat and for the error of a failed create.
type kindLogger struct {
	rep   event.Reporter
	now   func() time.Time
	mu    sync.Mutex
	phase string
	since time.Time
}

var _ log.Logger = (*kindLogger)(nil)

func newKindLogger(rep event.Reporter) *kindLogger {
	return &kindLogger{rep: rep, now: time.Now}
}

// Phase is what kind is doing.
func (l *kindLogger) Phase() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.phase
}

// Heartbeat repeats the current phase with how long it has taken, since some
// phases are silent for a minute on a slow machine.
func (l *kindLogger) Heartbeat() {
	l.mu.Lock()
	phase, since := l.phase, l.since
	l.mu.Unlock()
	if phase == "" {
		return
	}
	l.rep.Progress(event.Progress{Text: fmt.Sprintf("%s (%s)", phase, l.now().Sub(since).Round(time.Second))})
}

func (l *kindLogger) enter(phase string) {
	l.mu.Lock()
	l.phase, l.since = phase, l.now()
	l.mu.Unlock()
	l.rep.Progress(event.Progress{Text: phase})
}

func (l *kindLogger) leave(phase, how string) {
	l.mu.Lock()
	took := l.now().Sub(l.since)
	l.mu.Unlock()
	l.rep.Log("kind", fmt.Sprintf("%s: %s after %s", phase, how, took.Round(100*time.Millisecond)))
}

func (l *kindLogger) line(text string) {
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		line = strings.TrimSpace(line)
		noisy := slices.ContainsFunc(noise, func(n string) bool { return strings.Contains(line, n) })
		if line != "" && !noisy {
			l.rep.Log("kind", line)
		}
	}
}

func (l *kindLogger) info(format string, args ...any) {
	var phase string
	if len(args) == 1 {
		if s, ok := args[0].(string); ok {
			phase = plainPhase(s)
		}
	}
	switch {
	case format == kindPhaseStart && phase != "":
		l.enter(phase)
	case format == kindPhaseDone && phase != "":
		l.leave(phase, "done")
	case format == kindPhaseFail && phase != "":
		l.leave(phase, "failed")
	default:
		l.line(fmt.Sprintf(format, args...))
	}
}

// plainPhase strips the pictures from the name of a phase and starts it in
// lower case, as our own progress lines do, unless it is an abbreviation.
func plainPhase(s string) string {
	fields := strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r > 0x7e })
	if len(fields) > 0 {
		fields[0] = strings.ToLower(fields[0][:1]) + fields[0][1:]
	}
	return strings.Join(fields, " ")
}

// Warn implements log.Logger.
func (l *kindLogger) Warn(message string) { l.line(message) }

// Warnf implements log.Logger.
func (l *kindLogger) Warnf(format string, args ...any) { l.line(fmt.Sprintf(format, args...)) }

// Error implements log.Logger.
func (l *kindLogger) Error(message string) { l.line(message) }

// Errorf implements log.Logger.
func (l *kindLogger) Errorf(format string, args ...any) { l.line(fmt.Sprintf(format, args...)) }

// V implements log.Logger: level 0 is what kind shows its users by default.
func (l *kindLogger) V(level log.Level) log.InfoLogger {
	if level > 0 {
		return log.NoopInfoLogger{}
	}
	return kindInfo{l}
}

type kindInfo struct{ l *kindLogger }

func (i kindInfo) Info(message string)           { i.l.line(message) }
func (i kindInfo) Infof(format string, a ...any) { i.l.info(format, a...) }
func (i kindInfo) Enabled() bool                 { return true }
