//go:build !linux

package child

import "syscall"

// attr puts the process into a process group of its own.
func attr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
