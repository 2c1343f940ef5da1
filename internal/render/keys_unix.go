//go:build darwin || freebsd || linux || netbsd || openbsd

package render

import (
	"os"
	"os/signal"
	"syscall"
	"unsafe"

	uv "github.com/charmbracelet/ultraviolet"
	"github.com/charmbracelet/x/term"
	"github.com/charmbracelet/x/termios"
)

// terminalMode is how a terminal was found.
type terminalMode interface{ restore(*os.File) }

type termState struct{ *term.State }

// restore puts the mode back, unless the terminal has gone to another job, which
// has set it up for itself.
func (s termState) restore(f *os.File) {
	if foreground(f) {
		_ = term.Restore(f.Fd(), s.State) // a terminal that refuses is gone
	}
}

// openKeyboard reads keys from the terminal f. It returns nil where f is no
// terminal of this job: to set up a terminal from the background would stop the
// process.
func openKeyboard(f *os.File, press func(key)) *keyboard {
	if !foreground(f) {
		return nil
	}
	reader, err := uv.NewCancelReader(f)
	if err != nil {
		return nil // no keys is better than no run
	}
	k := &keyboard{file: f, reader: reader, press: press, done: make(chan struct{})}
	k.take()
	go k.read()
	return k
}

// singleKeys switches off echo and the wait for a line's end. It returns how
// the terminal was, or nil where it is as it was.
func singleKeys(f *os.File) terminalMode {
	if !foreground(f) {
		return nil
	}
	state, err := term.GetState(f.Fd())
	if err != nil {
		return nil
	}
	now, err := termios.GetTermios(int(f.Fd()))
	if err != nil {
		return nil
	}
	off := map[termios.L]bool{termios.ICANON: false, termios.ECHO: false}
	in, out := uint32(now.Ispeed), uint32(now.Ospeed) //nolint:unconvert // elsewhere they have 64 bits
	if err := termios.SetTermios(int(f.Fd()), in, out, nil, nil, nil, nil, off); err != nil {
		return nil
	}
	return termState{state}
}

// foreground says whether f is a terminal whose foreground job this process is
// part of.
func foreground(f *os.File) bool {
	group, ok := foregroundGroup(f)
	return ok && group == syscall.Getpgrp()
}

// background says whether f is a terminal that belongs to another job.
func background(f *os.File) bool {
	group, ok := foregroundGroup(f)
	return ok && group != syscall.Getpgrp()
}

// foregroundGroup returns the process group that has the terminal f; false
// where f is not the terminal that controls this process.
func foregroundGroup(f *os.File) (int, bool) {
	var group int32
	_, _, errno := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), syscall.TIOCGPGRP, uintptr(unsafe.Pointer(&group)))
	return int(group), errno == 0
}

// onStop calls stop before the process is stopped from the keyboard and resume
// after it was continued, however it was stopped, if out is a terminal. The
// function it returns ends that.
func onStop(out *os.File, stop, resume func()) (end func()) {
	if !term.IsTerminal(out.Fd()) {
		return nil
	}
	signals := make(chan os.Signal, 2)
	done := make(chan struct{})
	signal.Notify(signals, syscall.SIGTSTP, syscall.SIGCONT)
	go func() {
		defer close(done)
		for s := range signals {
			if s == syscall.SIGCONT {
				resume()
				continue
			}
			stop()
			if err := syscall.Kill(syscall.Getpid(), syscall.SIGSTOP); err != nil {
				resume() // there is no stop
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-done
	}
}
