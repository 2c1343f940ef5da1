//go:build !linux

package podman

import "syscall"

// childAttr puts the service into a process group of its own.
func childAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}
