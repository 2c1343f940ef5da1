package render

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/charmbracelet/x/termios"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// asProgram is the variable that makes the test binary a program which draws on
// its terminal; its value is how that ends.
const asProgram = "RENDER_TEST_PROGRAM"

func init() {
	if end := os.Getenv(asProgram); end != "" {
		os.Exit(program(end))
	}
}

// program runs a TTY sink on the process's own terminal until it is told to end
// by a signal or has had each key.
func program(end string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	keys := make(chan string, 2)
	sink := NewTTY(os.Stderr, Style{Color: true}, TTYOptions{
		Keys:     os.Stdin,
		OnEnter:  func() { keys <- "enter" },
		OnEscape: func() { keys <- "escape" },
	})
	log := event.NewLog("run-1", nil, sink)
	log.Emit(plan)
	log.Emit(event.StepStarted{ID: "cluster"})
	defer func() {
		if err := errors.Join(log.Close(), sink.Close()); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			if end == "exit at once" {
				sink.Restore()
				os.Exit(0) //nolint:gocritic // nothing deferred runs, as in a process that is in a hurry
			}
			return 0
		case key := <-keys:
			if end == "panic" {
				panic("as told")
			}
			sink.Notice("got " + key)
		}
	}
}

// pty returns the two ends of a new terminal.
func pty(t *testing.T) (user, program *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = user.Close() })
	ioctl := func(request uintptr, value *int32) {
		if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, user.Fd(), request, uintptr(unsafe.Pointer(value))); errno != 0 {
			t.Fatal(errno)
		}
	}
	var unlock, number int32
	ioctl(syscall.TIOCSPTLCK, &unlock)
	ioctl(syscall.TIOCGPTN, &number)
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return user, program
}

// start runs the program on the terminal.
func start(t *testing.T, terminal *os.File, end string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), asProgram+"="+end)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // where a failed test has left it
	return cmd
}

// However a program ends, it leaves the terminal as it was, and it never
// touches the cursor's visibility or the alternate screen.
func TestTTYOnATerminal(t *testing.T) {
	for _, end := range []string{"close", "exit at once", "panic"} {
		t.Run(end, func(t *testing.T) {
			user, terminal := pty(t)
			before, err := termios.GetTermios(int(terminal.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			cmd := start(t, terminal, end)
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			out := watch(t, user)
			out.until(t, "~ running")
			during, err := termios.GetTermios(int(terminal.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			if changed := during.Lflag ^ before.Lflag; changed != syscall.ICANON|syscall.ECHO || during.Iflag != before.Iflag || during.Oflag != before.Oflag {
				t.Errorf("modes %#x differ, and %+v from %+v", changed, during, before)
			}
			send := func(keys string) {
				if _, err := user.WriteString(keys); err != nil {
					t.Fatal(err)
				}
			}
			send("\r")
			if end != "panic" {
				out.until(t, "got enter")
				send("\x1b")
				out.until(t, "got escape")
				if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
					t.Fatal(err)
				}
			}
			select {
			case err := <-ended:
				if (err != nil) != (end == "panic") {
					t.Errorf("the program ended with %v", err)
				}
			case <-time.After(20 * time.Second):
				t.Fatalf("the program goes on: %v\n%s", cmd.Process.Kill(), out.text.String())
			}
			after, err := termios.GetTermios(int(terminal.Fd()))
			if err != nil {
				t.Fatal(err)
			}
			if *after != *before {
				t.Errorf("the terminal is left as %+v, it was %+v", after, before)
			}
			for _, sequence := range []string{"\x1b[?25l", "\x1b[?1049h", "\x1b[?1h"} {
				if strings.Contains(out.text.String(), sequence) {
					t.Errorf("%q was sent", sequence)
				}
			}
		})
	}
}

// A program that is stopped from the keyboard gives the terminal back, and takes
// it again when it is continued.
func TestTTYStopped(t *testing.T) {
	user, terminal := pty(t)
	before, err := termios.GetTermios(int(terminal.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	cmd := start(t, terminal, "close")
	out := watch(t, user)
	out.until(t, "~ running")
	if _, err := user.WriteString("\x1a"); err != nil { // ctrl+z
		t.Fatal(err)
	}
	eventually(t, "the program is stopped", func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", cmd.Process.Pid))
		return err == nil && strings.Contains(string(stat), ") T ")
	})
	during, err := termios.GetTermios(int(terminal.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	if *during != *before {
		t.Errorf("the stopped program leaves the terminal as %+v, it was %+v", during, before)
	}
	for _, s := range []syscall.Signal{syscall.SIGCONT, syscall.SIGTERM} {
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		if s == syscall.SIGCONT {
			out.until(t, "~ running")
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("the program ended with %v", err)
	}
}

// eventually waits until the condition holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	again := time.NewTicker(10 * time.Millisecond)
	defer again.Stop()
	for !holds() {
		select {
		case <-again.C:
		case <-deadline:
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

// watcher reads what a program draws.
type watcher struct {
	from *os.File
	in   *bufio.Reader
	text strings.Builder
}

func watch(t *testing.T, f *os.File) *watcher {
	t.Helper()
	return &watcher{from: f, in: bufio.NewReader(f)}
}

// until reads until the text comes.
func (w *watcher) until(t *testing.T, text string) {
	t.Helper()
	if err := w.from.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	seen := w.text.Len()
	for !strings.Contains(w.text.String()[seen:], text) {
		b, err := w.in.ReadByte()
		if err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("%v before %q came:\n%s", err, text, w.text.String())
		}
		w.text.WriteByte(b)
	}
}
