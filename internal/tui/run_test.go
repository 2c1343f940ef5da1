//go:build linux

package tui

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// terminal is a pseudo-terminal with a dashboard on it.
type terminal struct {
	t      *testing.T
	master *os.File
	slave  *os.File
	before *unix.Termios

	mu  sync.Mutex
	out strings.Builder
}

func openTerminal(t *testing.T, w, h int) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatalf("these tests need pseudo-terminals: %v", err)
	}
	require.NoError(t, unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0))
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	require.NoError(t, err)
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	term := &terminal{t: t, master: master, slave: slave}
	term.resize(w, h)
	term.before, err = unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	require.NoError(t, err)
	read := make(chan struct{})
	go func() {
		defer close(read)
		buf := make([]byte, 1<<16)
		for {
			n, err := master.Read(buf)
			term.mu.Lock()
			term.out.Write(buf[:n])
			term.mu.Unlock()
			if err != nil {
				return // the slave is closed
			}
		}
	}()
	t.Cleanup(func() {
		assert.NoError(t, slave.Close())
		<-read
		assert.NoError(t, master.Close())
	})
	return term
}

func (p *terminal) resize(w, h int) {
	p.t.Helper()
	require.NoError(p.t, unix.IoctlSetWinsize(int(p.slave.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(h), Col: uint16(w)}))
}

func (p *terminal) written() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// shows waits until the terminal was sent a text, after what was sent before.
func (p *terminal) shows(text string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool { return strings.Contains(p.written(), text) }, 10*time.Second, 5*time.Millisecond, "%q in %q", text, p.written())
	p.mu.Lock()
	defer p.mu.Unlock()
	_, rest, _ := strings.Cut(p.out.String(), text)
	p.out.Reset()
	p.out.WriteString(rest)
}

func (p *terminal) types(keys string) {
	p.t.Helper()
	_, err := p.master.WriteString(keys)
	require.NoError(p.t, err)
}

// requireClean checks that the terminal is as it was before.
func (p *terminal) requireClean(all string) {
	p.t.Helper()
	after, err := unix.IoctlGetTermios(int(p.slave.Fd()), unix.TCGETS)
	require.NoError(p.t, err)
	assert.Equal(p.t, p.before, after, "its modes")
	for _, mode := range []string{"?1049", "?2004", "?1002", "?1006"} {
		assert.Equal(p.t, strings.Count(all, "\x1b["+mode+"h"), strings.Count(all, "\x1b["+mode+"l"), "mode %s is switched off as often as on", mode)
	}
	assert.Greater(p.t, strings.LastIndex(all, "\x1b[?25h"), strings.LastIndex(all, "\x1b[?25l"), "the cursor is shown again")
}

// running is a dashboard that runs.
type running struct {
	*terminal
	done chan error
	all  func() string
}

func start(ctx context.Context, t *testing.T, w, h int, change func(*Options)) *running {
	t.Helper()
	p := openTerminal(t, w, h)
	feed := replay(t, recording)
	o := Options{In: p.slave, Out: p.slave, Name: "web-app", Feed: feed, Now: feed.Now, Actions: &fakeActions{}, Color: true, Farewell: "web-app stays up"}
	if change != nil {
		change(&o)
	}
	rec := &recorder{File: p.slave}
	o.Out = rec
	r := &running{terminal: p, done: make(chan error, 1), all: rec.String}
	go func() { r.done <- Run(ctx, o) }()
	r.shows("Overview")
	return r
}

// skipUnderRace skips what ends in a panic: Bubble Tea then closes its reader
// while that still reads, which the race detector takes amiss.
func skipUnderRace(t *testing.T) {
	t.Helper()
	if raceDetector {
		t.Skip("Bubble Tea does not wait for its reader after a panic")
	}
}

// recorder remembers all that is written to a terminal.
type recorder struct {
	*os.File
	mu  sync.Mutex
	all strings.Builder
}

func (r *recorder) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all.Write(b)
	return r.File.Write(b)
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all.String()
}

// ends waits for the end of the dashboard.
func (r *running) ends() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(10 * time.Second):
		require.Fail(r.t, "the dashboard does not end", r.written())
		return nil
	}
}

func TestRunInATerminal(t *testing.T) {
	r := start(t.Context(), t, 80, 24, nil)
	r.shows("release/web-app")
	r.types("/sqs\r")
	r.shows("sqs: ") // how many match, and not what is being typed: only what is drawn is drawn over
	r.types("\x1b")
	r.shows("nodes ready") // an escape with a key right after it is another key
	r.types("3")
	r.shows("FOLLOW")
	r.resize(120, 40)
	require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGWINCH))
	r.shows("[3 Logs]")
	r.types("l?")
	r.shows("EVERYWHERE")
	r.types("\x1b")
	r.shows("QueueDoesNotExist")
	r.types("1")
	r.shows("WHY")
	r.types("\x1bOQ") // F2
	r.shows("mouse on")
	r.types("s")
	r.shows("a-shell")
	r.shows("has ended")
	r.types("C")
	r.shows("\x1b]52;c;")
	r.types("q")
	require.NoError(t, r.ends())
	r.shows("web-app stays up")
	r.requireClean(r.all())
}

// Whoever leaves in the middle of a drill waits, on a terminal as it was before,
// until its fault is undone.
func TestLeavingWhileADrillRuns(t *testing.T) {
	for name, leave := range map[string]func(*running, context.CancelCauseFunc){
		"by q":              func(r *running, _ context.CancelCauseFunc) { r.types("q") },
		"by ctrl+c":         func(r *running, _ context.CancelCauseFunc) { r.types("\x03") },
		"its context ends":  func(_ *running, stop context.CancelCauseFunc) { stop(assert.AnError) },
		"while it is asked": func(r *running, _ context.CancelCauseFunc) { r.types(":"); r.types("\x03") },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, stop := context.WithCancelCause(t.Context())
			defer stop(nil)
			undone := make(chan struct{})
			r := start(ctx, t, 100, 30, func(o *Options) {
				o.Actions = &drillActions{
					declared: map[string]string{"OrdersDependencyDown": "delete the queue"},
					drilling: func(ctx context.Context) error {
						<-ctx.Done()
						close(undone)
						return context.Cause(ctx)
					},
				}
			})
			r.types("4D")
			r.shows("It breaks: delete the queue")
			r.types("y")
			r.shows("begins")
			leave(r, stop)
			err := r.ends()
			after := r.all()[strings.LastIndex(r.all(), "\x1b[?1049l"):]
			if name == "its context ends" { // which ends the drill as well
				require.ErrorIs(t, err, assert.AnError)
			} else {
				require.NoError(t, err)
				assert.Regexp(t, `(?s)undoing the fault of the drill …\n.*web-app stays up`, after)
			}
			select {
			case <-undone:
			default:
				assert.Fail(t, "it did not wait for the drill")
			}
			r.requireClean(r.all())
		})
	}
}

func TestRunLeavesTheTerminalClean(t *testing.T) {
	t.Run("on ctrl+c", func(t *testing.T) {
		r := start(t.Context(), t, 80, 24, nil)
		r.types("\x03")
		require.NoError(t, r.ends())
		r.shows("web-app stays up")
		r.requireClean(r.all())
	})
	t.Run("on SIGTERM", func(t *testing.T) {
		r := start(t.Context(), t, 80, 24, nil)
		require.NoError(t, syscall.Kill(os.Getpid(), syscall.SIGTERM))
		require.NoError(t, r.ends())
		r.requireClean(r.all())
	})
	t.Run("when its context ends", func(t *testing.T) {
		ctx, stop := context.WithCancelCause(t.Context())
		r := start(ctx, t, 80, 24, nil)
		stop(assert.AnError)
		require.ErrorIs(t, r.ends(), assert.AnError)
		r.requireClean(r.all())
	})
	t.Run("on a panic in an action", func(t *testing.T) {
		skipUnderRace(t)
		r := start(t.Context(), t, 80, 24, func(o *Options) { o.Actions = &fakeActions{boom: true} })
		r.types("d")
		require.ErrorIs(t, r.ends(), tea.ErrProgramPanic)
		r.requireClean(r.all())
	})
	t.Run("on a panic while drawing", func(t *testing.T) {
		skipUnderRace(t)
		var r *running
		boom := make(chan struct{})
		r = start(t.Context(), t, 80, 24, func(o *Options) {
			now := o.Now
			o.Now = func() time.Time {
				select {
				case <-boom:
					panic("a clock that panics")
				default:
					return now()
				}
			}
		})
		close(boom)
		require.ErrorIs(t, r.ends(), tea.ErrProgramPanic)
		r.requireClean(r.all())
	})
}
