package render

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/term"

	"github.com/sandbox-stack/sandbox/internal/event"
)

const (
	// redraw is the shortest time between two drawings.
	redraw = 100 * time.Millisecond
	// The size that is taken where it can't be asked for.
	fallbackWidth, fallbackHeight = 80, 24
)

// TTYOptions are what TTY can do besides drawing.
type TTYOptions struct {
	// Logs draws every line that a step logs.
	Logs bool
	// Keys is the terminal to read keys from, nil to read none. It must be
	// the terminal of the user, such as os.Stdin; a file that is no terminal,
	// or that of another job, is left alone. Signals stay what they are:
	// ctrl+c interrupts.
	Keys *os.File
	// OnEnter and OnEscape are called for their key, from a goroutine of the
	// sink. Meanwhile nothing is drawn, no key is read and the terminal is as
	// it was found, so that they may use it; what happened is drawn after.
	OnEnter, OnEscape func()
	// Size returns the terminal's columns and rows; nil asks the terminal.
	Size func() (width, height int)
}

// TTY draws a run on a terminal: what is finished as lines that stay, and below
// them a small region that is redrawn with what runs and what it waits for.
//
// It keeps to the terminal's normal screen and never hides the cursor, so a
// process that dies leaves nothing to be restored on the screen; see Restore
// for the keyboard. It is drawn at most ten times a second, and not at all
// while it would show the same.
type TTY struct {
	w     io.Writer
	style Style
	opts  TTYOptions
	keys  atomic.Pointer[keyboard] // nil where keys are not read

	mu sync.Mutex
	stream
	err      error // of the first write that failed
	pulse    *pulse
	unwatch  func() // ends the watch for the process being stopped
	closed   bool
	left     bool // the terminal is somebody else's for good
	hooked   bool // OnEnter or OnEscape has the terminal
	stopped  bool // the process is stopped, or about to be
	away     bool // the process is in the background
	problems map[string]bool
	logged   map[string]time.Time // by the run's clock: the last log line of each step

	pending []string // lines that stay, not yet written
	dirty   bool     // an event came since the last drawing
	drawn   []string // the region on the screen
	width   int      // of the terminal, when it was last looked at
	height  int
	second  time.Time // what the region's clock showed
}

// NewTTY returns a TTY sink on w. It must be closed.
func NewTTY(w io.Writer, style Style, opts TTYOptions) *TTY {
	t := &TTY{
		w: w, style: style, opts: opts, stream: newStream(),
		problems: map[string]bool{}, logged: map[string]time.Time{},
	}
	if t.opts.Size == nil {
		t.opts.Size = func() (int, int) { return terminalSize(w, style.Width) }
	}
	t.width, t.height = t.opts.Size()
	if f, ok := w.(*os.File); ok {
		t.unwatch = onStop(f, t.stop, t.resume)
	}
	t.listen()
	return t
}

// listen reads keys, where something is to happen on them.
func (t *TTY) listen() {
	if t.opts.Keys != nil && (t.opts.OnEnter != nil || t.opts.OnEscape != nil) {
		t.keys.Store(openKeyboard(t.opts.Keys, t.key))
	}
}

// terminalSize asks the terminal that w is. The width of the style is for a
// terminal that does not know its own.
func terminalSize(w io.Writer, width int) (int, int) {
	if f, ok := w.(*os.File); ok {
		if w, h, err := term.GetSize(f.Fd()); err == nil && w > 0 && h > 0 {
			return w, h
		}
	}
	if width == 0 {
		width = fallbackWidth
	}
	return width, fallbackHeight
}

// Handle takes in the envelope. It is drawn soon after.
func (t *TTY) Handle(e event.Envelope) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.apply(e) {
		clear(t.problems)
		clear(t.logged)
	}
	t.dirty = true
	if t.pulse == nil && !t.closed {
		t.pulse = startPulse(redraw, t.due)
	}
	switch {
	case e.PlanReady != nil:
		t.stay(planHead(*e.PlanReady, t.style), "")
	case e.StepLog != nil && !t.opts.Logs:
		t.logged[e.StepLog.ID] = e.Time
	case e.StepLog != nil:
		t.stay("  " + logEntry(*e.StepLog, t.style))
	case e.StepFinished != nil:
		t.finished(*e.StepFinished)
	case e.RunFinished != nil:
		t.runFinished(*e.RunFinished)
	}
	if t.closed {
		t.draw()
	}
	return t.err
}

// Notice draws lines that are not part of the run above the region, such as
// the answer to an interrupt. Whoever writes to the terminal past the sink
// would write into the region.
func (t *TTY) Notice(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for line := range strings.SplitSeq(text, "\n") {
		t.stay(t.style.text(line))
	}
	t.draw()
}

// Pace sets how many seconds of the run pass in one second, for a replay.
func (t *TTY) Pace(speed float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pace = speed
}

// Close draws what is left, takes the region away and gives the keyboard back.
// It waits for OnEnter and OnEscape.
func (t *TTY) Close() error {
	t.mu.Lock()
	running, unwatch := t.pulse, t.unwatch
	t.pulse, t.unwatch, t.closed = nil, nil, true
	t.mu.Unlock()
	running.end()
	if unwatch != nil {
		unwatch()
	}
	t.keys.Load().close()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.draw()
	return t.err
}

// Restore gives the keyboard back at once, for a process that is about to end
// without Close. It never waits and may be called at any time.
func (t *TTY) Restore() { t.keys.Load().restore() }

// Leave gives the terminal up for good: nothing is drawn and no key is read from
// now on. It may be called by OnEnter and OnEscape.
func (t *TTY) Leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.erase()
	t.left = true
	t.keys.Load().leave()
}

// key calls the hook of a key, with the terminal given back.
func (t *TTY) key(k key) {
	hook := t.opts.OnEnter
	if k == keyEscape {
		hook = t.opts.OnEscape
	}
	if hook == nil {
		return
	}
	t.mu.Lock()
	t.erase()
	t.hooked = true
	t.mu.Unlock()
	t.keys.Load().restore()
	hook()
	t.keys.Load().take()
	t.mu.Lock()
	t.hooked, t.dirty = false, true
	t.mu.Unlock()
}

// stop gives the terminal back before the process is stopped.
func (t *TTY) stop() {
	t.mu.Lock()
	hooked := t.hooked
	t.erase()
	t.stopped = true
	t.mu.Unlock()
	if !hooked { // else whoever has the terminal sees to it
		t.keys.Load().restore()
	}
}

// resume follows the process out of a stop: into the foreground, where it has
// the terminal again, or into the background, where it must not touch it.
func (t *TTY) resume() {
	t.mu.Lock()
	hooked := t.hooked
	t.drawn, t.stopped, t.dirty = nil, false, true
	t.mu.Unlock()
	if !hooked {
		t.keys.Load().close()
		t.listen()
	}
}

// due draws if there is something new to see.
func (t *TTY) due() {
	t.mu.Lock()
	defer t.mu.Unlock()
	width, height := t.opts.Size()
	if t.dirty || width != t.width || height != t.height || !t.onTheSecond().Equal(t.second) {
		t.draw()
	}
}

// onTheSecond is the time of the run in whole seconds since it started, so
// that everything that counts seconds changes at once.
func (t *TTY) onTheSecond() time.Time {
	if t.over() {
		return t.view.Now
	}
	return t.view.Started.Add(t.now().Sub(t.view.Started).Truncate(time.Second))
}

// draw writes the lines that stay and the region below them, if there is a
// change.
func (t *TTY) draw() {
	if t.hooked || t.stopped || t.left {
		return
	}
	if f, ok := t.w.(*os.File); ok && !t.closed && background(f) {
		t.drawn, t.away = nil, true // whoever has the terminal has moved it
		return
	}
	if t.away {
		t.away = false
		if t.keys.Load() == nil { // a shell sends no signal with this
			t.listen()
		}
	}
	t.width, t.height = t.opts.Size()
	t.second, t.dirty = t.onTheSecond(), false
	var region []string
	if !t.closed && !t.over() {
		region = t.region().fit(t.width-1, t.height)
	}
	if len(t.pending) == 0 && slices.Equal(region, t.drawn) {
		return
	}
	var b strings.Builder
	b.WriteString(ansi.SetModeSynchronizedOutput)
	b.WriteString(t.home())
	if len(t.pending) > 0 {
		b.WriteString(ansi.EraseScreenBelow)
		for _, line := range t.pending {
			b.WriteString(line + "\n")
		}
	}
	// Each line takes the place of an old one, which does not flicker even
	// where the terminal shows half of it. The whole old line goes first:
	// terminals remember how far a line that is overwritten once went, and
	// wrap that too when they are made narrower.
	for _, line := range region {
		b.WriteString(ansi.EraseEntireLine + line + "\n")
	}
	b.WriteString(ansi.EraseScreenBelow)
	b.WriteString(ansi.ResetModeSynchronizedOutput)
	t.pending, t.drawn = nil, region
	t.write(b.String())
}

// erase takes the region from the screen.
func (t *TTY) erase() {
	if len(t.drawn) > 0 {
		t.write(t.home() + ansi.EraseScreenBelow)
	}
	t.drawn = nil
}

// home moves the cursor to where the region begins. After the terminal was
// made narrower, its lines take more rows than they did.
func (t *TTY) home() string {
	rows := 0
	for _, line := range t.drawn {
		rows += max(1, (ansi.StringWidth(line)+t.width-1)/max(1, t.width))
	}
	rows = min(rows, t.height-1)
	if rows <= 0 {
		return "\r"
	}
	return "\r" + ansi.CursorUp(rows)
}

// write keeps the first error; after that nothing is written.
func (t *TTY) write(s string) {
	if t.err != nil || s == "" {
		return
	}
	if _, err := io.WriteString(t.w, s); err != nil {
		t.err = fmt.Errorf("draw progress: %w", err)
	}
}

func (t *TTY) stay(lines ...string) { t.pending = append(t.pending, lines...) }

// finished draws the line of a finished step, and why it failed.
func (t *TTY) finished(f event.StepFinished) {
	took := duration(f.Elapsed)
	if f.Outcome == event.Off || f.Outcome == event.Skipped {
		took = ""
	}
	t.stay(t.line(outcomeSign(f.Outcome), f.ID, took, f.Note)...)
	if f.Error != nil {
		t.problem(*f.Error, f.ID)
	}
}

func (t *TTY) problem(p event.Problem, id string) {
	t.problems[p.What] = true
	t.stay(problemBlock(t.explain(p, id), t.style, "  ")...)
}

// line is a finished step: how, what, how long, and a note that wraps below
// itself or, where there is little room, below the line.
func (t *TTY) line(g sign, id, took, note string) []string {
	idWidth := idColumn(t.view.Steps, t.width)
	id = t.style.text(id)
	head := t.style.sign(g) + " " + id + pad(id, idWidth) + "  " +
		pad(took, tookWidth) + t.style.paint(toneDim, took) + "  "
	column := ansi.StringWidth(head)
	note = t.style.text(note)
	switch room := t.width - 1 - column; {
	case note == "":
		return []string{strings.TrimRight(head, " ")}
	case ansi.StringWidth(note) <= room:
		return []string{head + note}
	case room < noteRoom:
		return append([]string{strings.TrimRight(head, " ")}, indent(wrap(note, t.width-1-signWidth-1), signWidth+1)...)
	default:
		lines := wrap(note, room)
		return append([]string{head + lines[0]}, indent(lines[1:], column)...)
	}
}

// runFinished sums up.
func (t *TTY) runFinished(r event.RunFinished) {
	t.stay("")
	if lines := timeline(&t.view, t.style, t.width-1); len(lines) > 0 {
		t.stay(append(lines, "")...)
	}
	if !r.OK {
		t.stay(troubles(&t.view, t.style)...)
	}
	mark, text := ending(&t.view)
	lines := wrap(t.style.text(text), t.width-1-2)
	t.stay(t.style.glyph(mark) + " " + lines[0])
	t.stay(indent(lines[1:], 2)...)
	if r.Error != nil && !t.problems[r.Error.What] {
		t.problem(*r.Error, "")
	}
}

// indent returns the lines, each behind that many spaces.
func indent(lines []string, by int) []string {
	out := make([]string, len(lines))
	for i, line := range lines {
		out[i] = strings.Repeat(" ", by) + line
	}
	return out
}

// region is what is to be seen of the run now.
func (t *TTY) region() region {
	return region{view: &t.view, now: t.onTheSecond(), style: t.style, keys: t.keyHints(), logged: t.logged}
}

// keyHints names the keys that do something.
func (t *TTY) keyHints() string {
	if t.keys.Load() == nil {
		return ""
	}
	var hints []string
	if t.opts.OnEnter != nil {
		hints = append(hints, "enter dashboard")
	}
	if t.opts.OnEscape != nil {
		hints = append(hints, "esc leave it running")
	}
	return strings.Join(append(hints, "ctrl+c stop"), " · ")
}
