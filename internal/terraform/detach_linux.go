package terraform

import (
	"os/exec"
	"syscall"
)

// detach keeps a terminal's Ctrl-C from reaching the tool beside the interrupt
// that it gets from us, and ends it with this process.
func detach(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
