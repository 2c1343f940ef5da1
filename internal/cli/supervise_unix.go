//go:build unix

package cli

import "syscall"

// newSession takes this process out of the session of its terminal, whose
// signals and end it does not get from then on.
func newSession() error {
	_, err := syscall.Setsid()
	return err
}
