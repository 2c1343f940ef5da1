//go:build unix

package cli

import (
	"os"

	"golang.org/x/sys/unix"
)

// leadsSession says whether the terminal's session ends with this process, as it
// does where no shell has started it. All that runs then ends with it too.
func leadsSession() bool {
	leader, err := unix.Getsid(0)
	return err == nil && leader == os.Getpid()
}

func closeOnExec(fd int) { unix.CloseOnExec(fd) }

// newSession takes this process out of the session of its terminal, whose
// signals and end it does not get from then on.
func newSession() error {
	_, err := unix.Setsid()
	return err
}
