// Package install names the commands with which this system installs software.
package install

import (
	"os"
	"os/exec"
)

// Command is the command that installs the packages, which may differ between
// Debian's package manager and others.
func Command(packages string) string {
	for _, manager := range []struct{ binary, command string }{
		{"apt-get", "apt-get install -y "},
		{"dnf", "dnf install -y "},
		{"yum", "yum install -y "},
		{"zypper", "zypper install -y "},
		{"pacman", "pacman -S "},
		{"apk", "apk add "},
	} {
		if _, err := exec.LookPath(manager.binary); err == nil {
			return Sudo(manager.command + packages)
		}
	}
	if _, err := exec.LookPath("brew"); err == nil {
		return "brew install " + packages
	}
	return "install " + packages + " with your system's package manager"
}

// Sudo is the command as this user has to give it for it to run as root.
func Sudo(command string) string {
	if os.Geteuid() == 0 {
		return command
	}
	return "sudo " + command
}
