//go:build e2e || bench

// Package terminal runs a program on a pseudo-terminal and knows what a person
// would see on it.
package terminal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
	"golang.org/x/sys/unix"
)

// Captures is the variable that names the folder for captures, where they are
// wanted.
const Captures = "SANDBOX_CAPTURES"

// Terminal is a program on a terminal of its own.
type Terminal struct {
	// T is told what goes wrong; a subtest may put itself here.
	T testing.TB

	cmd  *exec.Cmd
	file *os.File // the terminal's other end
	// slave keeps the terminal open after the program has ended, so that its
	// modes can be looked at.
	slave *os.File
	modes *unix.Termios // as they were before

	mu     sync.Mutex
	screen *vt.Emulator
	all    strings.Builder
	ended  chan struct{}
	err    error
}

// Start starts the command on a terminal of so many columns and lines. The
// command leads the terminal's session.
func Start(t testing.TB, width, height int, cmd *exec.Cmd) *Terminal {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatalf("these tests need pseudo-terminals: %v", err)
	}
	p := &Terminal{T: t, cmd: cmd, file: master, slave: slave, screen: vt.NewEmulator(width, height), ended: make(chan struct{})}
	p.Resize(width, height)
	if p.modes, err = unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS); err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(cmd.Env, "TERM=xterm-256color", "CI=", "GITHUB_ACTIONS=")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go p.read()
	go func() { p.err = cmd.Wait(); close(p.ended) }()
	// What the terminal itself answers, such as where its cursor is.
	go func() { _, _ = io.Copy(master, p.screen) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has ended unless the test failed
		<-p.ended
		_, _ = slave.Close(), master.Close()
	})
	return p
}

func (p *Terminal) read() {
	buf := make([]byte, 1<<16)
	for {
		n, err := p.file.Read(buf)
		p.mu.Lock()
		_, _ = p.screen.Write(buf[:n]) // never fails
		p.all.Write(buf[:n])
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Resize makes the terminal larger or smaller.
func (p *Terminal) Resize(width, height int) {
	p.T.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.screen.Resize(width, height)
	if err := pty.Setsize(p.file, &pty.Winsize{Cols: uint16(width), Rows: uint16(height)}); err != nil {
		p.T.Fatal(err)
	}
}

// Text is what is on the screen now, without colours.
func (p *Terminal) Text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := strings.Split(p.screen.String(), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " \r")
	}
	return strings.Join(lines, "\n")
}

// Type types keys, as a terminal sends them.
func (p *Terminal) Type(keys string) {
	p.T.Helper()
	if _, err := p.file.WriteString(keys); err != nil {
		p.T.Fatal(err)
	}
}

// Until waits until what is on the screen fits, and returns how long that took.
func (p *Terminal) Until(within time.Duration, what string, fits func(screen string) bool) time.Duration {
	p.T.Helper()
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Since(began) < within {
		if fits(p.Text()) {
			return time.Since(began)
		}
		select {
		case <-tick.C:
		case <-p.ended:
			if fits(p.Text()) {
				return time.Since(began)
			}
			p.T.Fatalf("the program has ended (%v) before %s:\n%s", p.err, what, p.Text())
		}
	}
	p.T.Fatalf("no %s within %s; the screen:\n%s", what, within, p.Text())
	return 0
}

// Shows waits until a text is on the screen.
func (p *Terminal) Shows(text string) time.Duration {
	p.T.Helper()
	return p.Until(time.Minute, "“"+text+"”", func(s string) bool { return strings.Contains(s, text) })
}

// Row waits until one line of the screen holds all the texts.
func (p *Terminal) Row(within time.Duration, texts ...string) time.Duration {
	p.T.Helper()
	return p.Until(within, "row with "+strings.Join(texts, ", "), func(s string) bool {
		for line := range strings.Lines(s) {
			if containsAll(line, texts) {
				return true
			}
		}
		return false
	})
}

func containsAll(line string, texts []string) bool {
	for _, t := range texts {
		if !strings.Contains(line, t) {
			return false
		}
	}
	return true
}

// EndsWith waits for the program's end and checks its exit code.
func (p *Terminal) EndsWith(code int) {
	p.T.Helper()
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		p.T.Fatalf("the program does not end; the screen:\n%s", p.Text())
	}
	var exit *exec.ExitError
	got := 0
	if errors.As(p.err, &exit) {
		got = exit.ExitCode()
	} else if p.err != nil {
		p.T.Fatal(p.err)
	}
	if got != code {
		p.T.Errorf("exit %d, want %d; the screen:\n%s", got, code, p.Text())
	}
}

// IsClean checks that the terminal is as it was before the program, once what
// the program has written last has come through.
func (p *Terminal) IsClean() {
	p.T.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		left := p.left()
		if left == "" {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			p.T.Error(left)
			return
		}
	}
}

// left says what the program has left as it was not before.
func (p *Terminal) left() string {
	p.T.Helper()
	after, err := unix.IoctlGetTermios(int(p.slave.Fd()), unix.TCGETS)
	if err != nil {
		p.T.Fatal(err)
	}
	if *after != *p.modes {
		return fmt.Sprintf("the terminal's modes: %+v, want %+v", after, p.modes)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.screen.IsAltScreen() {
		return "the alternate screen is left on"
	}
	if p.screen.CursorHidden() {
		return "the cursor is left hidden"
	}
	all := p.all.String()
	for _, mode := range []string{"?1049", "?2004", "?1000", "?1002", "?1003", "?1006"} {
		if on, off := strings.LastIndex(all, "\x1b["+mode+"h"), strings.LastIndex(all, "\x1b["+mode+"l"); on > off {
			return "mode " + mode + " is left on"
		}
	}
	return ""
}

// Capture keeps what is on the screen, where captures are wanted: as text, and
// as the terminal was told to draw it.
func (p *Terminal) Capture(name string) {
	p.T.Helper()
	dir := os.Getenv(Captures)
	if dir == "" {
		return
	}
	text := p.Text()
	p.mu.Lock()
	painted := p.screen.Render()
	p.mu.Unlock()
	for ext, content := range map[string]string{".txt": text + "\n", ".ansi": painted + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name+ext), []byte(content), 0o644); err != nil {
			p.T.Fatal(err)
		}
	}
}

// Signal sends the program a signal.
func (p *Terminal) Signal(s syscall.Signal) {
	p.T.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.T.Fatal(err)
	}
}

// PID is the program's.
func (p *Terminal) PID() int { return p.cmd.Process.Pid }
