//go:build e2e

package e2e

import (
	"context"
	"errors"
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

// terminal is the program on a terminal, with what a person would see on it.
type terminal struct {
	t    *testing.T
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

// onTerminal starts the program on a terminal of w columns and h lines.
func (w *world) onTerminal(width, height int, args ...string) *terminal {
	w.t.Helper()
	return w.startOnTerminal(width, height, w.command(context.WithoutCancel(w.t.Context()), args...))
}

// fromShell starts the program on a terminal from a shell, which says with what
// code it has ended and stays there until a line is typed.
func (w *world) fromShell(width, height int, args ...string) *terminal {
	w.t.Helper()
	cmd := w.command(context.WithoutCancel(w.t.Context()))
	cmd.Path, cmd.Args = "/bin/sh", append([]string{"sh", "-c", `"$@"; echo "ended with $?"; read line`, "sh", w.bin}, args...)
	return w.startOnTerminal(width, height, cmd)
}

func (w *world) startOnTerminal(width, height int, cmd *exec.Cmd) *terminal {
	w.t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		w.t.Fatalf("these tests need pseudo-terminals: %v", err)
	}
	p := &terminal{t: w.t, file: master, slave: slave, screen: vt.NewEmulator(width, height), ended: make(chan struct{})}
	p.resize(width, height)
	if p.modes, err = unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS); err != nil {
		w.t.Fatal(err)
	}
	p.cmd = cmd
	p.cmd.Env = append(p.cmd.Env, "TERM=xterm-256color", "CI=", "GITHUB_ACTIONS=")
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := p.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	go p.read()
	go func() { p.err = p.cmd.Wait(); close(p.ended) }()
	// What the terminal itself answers, such as where its cursor is.
	go func() { _, _ = io.Copy(master, p.screen) }()
	w.t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // it has ended unless the test failed
		<-p.ended
		_, _ = slave.Close(), master.Close()
	})
	return p
}

func (p *terminal) read() {
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

func (p *terminal) resize(width, height int) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.screen.Resize(width, height)
	if err := pty.Setsize(p.file, &pty.Winsize{Cols: uint16(width), Rows: uint16(height)}); err != nil {
		p.t.Fatal(err)
	}
}

// text is what is on the screen now, without colours.
func (p *terminal) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := strings.Split(p.screen.String(), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(l, " \r")
	}
	return strings.Join(lines, "\n")
}

func (p *terminal) types(keys string) {
	p.t.Helper()
	if _, err := p.file.WriteString(keys); err != nil {
		p.t.Fatal(err)
	}
}

// until waits until what is on the screen fits, and returns how long that took.
func (p *terminal) until(within time.Duration, what string, fits func(screen string) bool) time.Duration {
	p.t.Helper()
	began := time.Now()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Since(began) < within {
		if fits(p.text()) {
			return time.Since(began)
		}
		select {
		case <-tick.C:
		case <-p.ended:
			if fits(p.text()) {
				return time.Since(began)
			}
			p.t.Fatalf("the program has ended (%v) before %s:\n%s", p.err, what, p.text())
		}
	}
	p.t.Fatalf("no %s within %s; the screen:\n%s", what, within, p.text())
	return 0
}

// shows waits until a text is on the screen.
func (p *terminal) shows(text string) time.Duration {
	p.t.Helper()
	return p.until(15*time.Second, "“"+text+"”", func(s string) bool { return strings.Contains(s, text) })
}

// row waits until one line of the screen holds all the texts.
func (p *terminal) row(within time.Duration, texts ...string) time.Duration {
	p.t.Helper()
	return p.until(within, "row with "+strings.Join(texts, ", "), func(s string) bool {
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

// endsWith waits for the program's end and checks its exit code.
func (p *terminal) endsWith(code int) {
	p.t.Helper()
	select {
	case <-p.ended:
	case <-time.After(30 * time.Second):
		p.t.Fatalf("the program does not end; the screen:\n%s", p.text())
	}
	var exit *exec.ExitError
	got := 0
	if errors.As(p.err, &exit) {
		got = exit.ExitCode()
	} else if p.err != nil {
		p.t.Fatal(p.err)
	}
	if got != code {
		p.t.Errorf("exit %d, want %d; the screen:\n%s", got, code, p.text())
	}
}

// isClean checks that the terminal is as it was before the program.
func (p *terminal) isClean() {
	p.t.Helper()
	after, err := unix.IoctlGetTermios(int(p.slave.Fd()), unix.TCGETS)
	if err != nil {
		p.t.Fatal(err)
	}
	if *after != *p.modes {
		p.t.Errorf("the terminal's modes: %+v, want %+v", after, p.modes)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.screen.IsAltScreen() {
		p.t.Error("the alternate screen is left on")
	}
	if p.screen.CursorHidden() {
		p.t.Error("the cursor is left hidden")
	}
	all := p.all.String()
	for _, mode := range []string{"?1049", "?2004", "?1000", "?1002", "?1003", "?1006"} {
		if on, off := strings.LastIndex(all, "\x1b["+mode+"h"), strings.LastIndex(all, "\x1b["+mode+"l"); on > off {
			p.t.Errorf("mode %s is left on", mode)
		}
	}
}

// capture keeps what is on the screen, where captures are wanted: as text, and
// as the terminal was told to draw it.
func (p *terminal) capture(name string) {
	p.t.Helper()
	dir := os.Getenv("SANDBOX_CAPTURES")
	if dir == "" {
		return
	}
	text := p.text()
	p.mu.Lock()
	painted := p.screen.Render()
	p.mu.Unlock()
	for ext, content := range map[string]string{".txt": text + "\n", ".ansi": painted + "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name+ext), []byte(content), 0o644); err != nil {
			p.t.Fatal(err)
		}
	}
}
