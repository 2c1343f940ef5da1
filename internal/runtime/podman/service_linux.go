package podman

import "syscall"

// childAttr puts the service into a process group of its own and has the
// kernel end it with the thread that started it.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
}
