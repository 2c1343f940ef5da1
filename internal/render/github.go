package render

import (
	"crypto/rand"
	"fmt"
	"io"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

const (
	// githubHeartbeat is the longest that GitHub is silent while a step runs.
	githubHeartbeat = 30 * time.Second
	// githubLog is how many of a step's last log lines its group holds.
	githubLog = 2000
	// githubAnnotations is how many errors, and how many warnings, GitHub
	// shows of one step of a workflow. More would be lost.
	githubAnnotations = 10
)

// GitHub draws a run for the log of GitHub Actions. Steps run in parallel and
// groups don't nest, so the log of each is kept until it has finished and then
// drawn as one group. Failures become annotations. What tools and applications
// have to say is fenced, so that it can't give commands to the workflow.
type GitHub struct {
	w     io.Writer
	style Style
	token func() string // ends a fence: not to be guessed by what is inside

	mu sync.Mutex
	stream
	err       error     // of the first write that failed
	printed   time.Time // by this process's clock: the last output
	pulse     *pulse
	closed    bool
	logs      map[string]*backlog // of the steps that have not finished
	problems  map[string]bool     // problems that were drawn, by what happened
	annotated map[string]int      // annotations by their kind
}

// backlog is what a step has logged.
type backlog struct {
	lines   []string
	leftOut int // older lines
}

func (b *backlog) add(line string) {
	if len(b.lines) >= 2*githubLog {
		b.leftOut += len(b.lines) - githubLog
		b.lines = append(b.lines[:0], b.lines[len(b.lines)-githubLog:]...)
	}
	b.lines = append(b.lines, line)
}

// NewGitHub returns a GitHub sink on w, which is to be standard output. It must
// be closed.
func NewGitHub(w io.Writer, style Style) *GitHub {
	style.Width = 0 // the page wraps
	return &GitHub{
		w: w, style: style, token: rand.Text, stream: newStream(),
		logs: map[string]*backlog{}, problems: map[string]bool{}, annotated: map[string]int{},
	}
}

// Handle draws what the envelope ends.
func (g *GitHub) Handle(e event.Envelope) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.apply(e) {
		clear(g.logs)
		clear(g.problems)
	}
	if g.pulse == nil && !g.closed {
		g.printed = g.seen
		g.pulse = startPulse(tick, g.due)
	}
	switch {
	case e.PlanReady != nil:
		g.print(g.plain(planHead(*e.PlanReady, g.style)))
	case e.StepLog != nil:
		g.keep(*e.StepLog)
	case e.DrillChanged != nil:
		g.keepStages(*e.DrillChanged)
	case e.StepFinished != nil:
		g.finished(*e.StepFinished)
	case e.RunFinished != nil:
		g.runFinished(*e.RunFinished)
	}
	return g.err
}

// Close draws the log of what has not finished, and ends the heartbeat.
func (g *GitHub) Close() error {
	g.mu.Lock()
	running := g.pulse
	g.pulse, g.closed = nil, true
	g.mu.Unlock()
	running.end()
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, s := range g.running() {
		g.group(g.title(signRunning, s.ID, duration(g.now().Sub(s.Started)), "not finished"), g.fenced(s.ID))
	}
	clear(g.logs)
	return g.err
}

// Pace sets how many seconds of the run pass in one second, for a replay.
func (g *GitHub) Pace(speed float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pace = speed
}

// due says what runs and what it waits for, when nothing was said for a while.
func (g *GitHub) due() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.over() || time.Since(g.printed) <= githubHeartbeat-tick {
		return
	}
	var lines []string
	for _, s := range g.running() {
		text := fmt.Sprintf("%s running %s", seconds(g.now().Sub(s.Started)), s.ID)
		if s.Progress != nil {
			text += ": " + doing(*s.Progress)
		}
		lines = append(lines, " "+g.plain(g.style.text(text)))
	}
	if len(lines) > 0 {
		g.print(lines...)
	}
}

func (g *GitHub) keep(l event.StepLog) {
	if g.logs[l.ID] == nil {
		g.logs[l.ID] = &backlog{}
	}
	text := l.Line
	if l.Source != "" {
		text = l.Source + ": " + text
	}
	g.logs[l.ID].add(g.style.text(text))
}

func (g *GitHub) finished(f event.StepFinished) {
	took := duration(f.Elapsed)
	if f.Outcome == event.Off || f.Outcome == event.Skipped {
		took = ""
	}
	title := g.title(outcomeSign(f.Outcome), f.ID, took, f.Note)
	log := g.fenced(f.ID)
	delete(g.logs, f.ID)
	g.group(title, log)
	if f.Error != nil { // not in the group: a page shows groups closed
		g.problem(g.explain(*f.Error, f.ID), f.ID)
	}
}

// title is "✓ done cluster 38.2s: 1 node".
func (g *GitHub) title(mark sign, id, took, note string) string {
	text := strings.TrimRight(mark.word+" "+id+" "+took, " ")
	if note != "" {
		text += ": " + note
	}
	return g.style.glyph(mark) + " " + g.style.text(text)
}

// group draws lines as a group, and a title without lines as a line.
func (g *GitHub) group(title string, lines []string) {
	if len(lines) == 0 {
		g.print(g.plain(title))
		return
	}
	g.print(append(append([]string{"::group::" + escapeData(title)}, lines...), "::endgroup::")...)
}

// fenced returns what a step has logged.
func (g *GitHub) fenced(id string) []string {
	log := g.logs[id]
	if log == nil {
		return nil
	}
	lines := log.lines[max(0, len(log.lines)-githubLog):]
	leftOut := log.leftOut + len(log.lines) - len(lines)
	if leftOut > 0 {
		lines = append([]string{fmt.Sprintf("(%s before this left out)", count(leftOut, "line"))}, lines...)
	}
	return g.fence(lines)
}

// fence wraps foreign lines so that none of them is taken for a command.
func (g *GitHub) fence(lines []string) []string {
	if len(lines) == 0 {
		return nil
	}
	token := g.token()
	out := append([]string{"::stop-commands::" + token}, lines...)
	return append(out, "::"+token+"::")
}

// problem draws an error and annotates the run with it: what failed, with the
// object that blocks it.
func (g *GitHub) problem(p event.Problem, id string) {
	g.problems[p.What] = true
	head := g.style.glyph(signFailed) + " " + g.style.paint(toneBold, g.style.text(p.What))
	g.print(append([]string{g.plain(head)}, g.fence(problemDetail(p, g.style, "  "))...)...)
	message := orElse(p.Why, p.What)
	if p.Try != "" {
		message += "\nTry: " + p.Try
	}
	title := p.What
	if id != "" && !strings.Contains(title, path.Base(id)) {
		title = id + ": " + title
	}
	g.annotate("error", title, message)
}

// annotate attaches a message to the workflow's run.
func (g *GitHub) annotate(kind, title, message string) {
	if g.annotated[kind]++; g.annotated[kind] > githubAnnotations {
		return
	}
	g.print(fmt.Sprintf("::%s title=%s::%s", kind, escapeProperty(title), escapeData(message)))
}

// runFinished annotates what is not well, and sums up.
func (g *GitHub) runFinished(r event.RunFinished) {
	if r.Error != nil && !g.problems[r.Error.What] {
		g.problem(*r.Error, "")
	}
	for _, h := range g.view.Components() {
		if !trouble(h.State) {
			continue
		}
		kind := "warning"
		if h.State == event.StateFailed {
			kind = "error"
		}
		message := cause(h)
		if h.Try != "" {
			message += "\nTry: " + h.Try
		}
		g.annotate(kind, h.Component+" is "+string(h.State), message)
	}
	for _, a := range firing(&g.view) {
		g.annotate("warning", "alert "+a.Rule+" is firing", orElse(labels(a), a.Rule))
	}
	mark, text := ending(&g.view)
	g.print("", g.plain(g.style.glyph(mark)+" "+g.style.text(text)))
}

// plain returns a line of output that is no command. The runner takes a line
// that begins with "::" for one and, in its old form, "##[" anywhere.
func (g *GitHub) plain(line string) string {
	line = strings.ReplaceAll(line, "##[", "## [")
	if strings.HasPrefix(strings.TrimLeft(line, " \t"), "::") {
		return "." + line
	}
	return line
}

// print writes the lines in one go.
func (g *GitHub) print(lines ...string) {
	g.printed = time.Now()
	if g.err != nil {
		return
	}
	if _, err := io.WriteString(g.w, strings.Join(lines, "\n")+"\n"); err != nil {
		g.err = fmt.Errorf("draw progress: %w", err)
	}
}

var (
	dataEscapes     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	propertyEscapes = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)

// escapeData escapes the text of a command.
func escapeData(s string) string { return dataEscapes.Replace(s) }

// escapeProperty escapes the value of a command's property.
func escapeProperty(s string) string { return propertyEscapes.Replace(s) }
