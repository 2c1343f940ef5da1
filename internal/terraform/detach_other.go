//go:build !linux

package terraform

import "os/exec"

// detach does nothing where a process cannot be tied to its parent.
func detach(*exec.Cmd) {}
