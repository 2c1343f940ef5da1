package child

import "syscall"

// attr puts the process into a process group of its own and has the
// kernel end it with the thread that started it.
func attr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
