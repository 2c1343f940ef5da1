// Package port finds out which process listens on a TCP port of this host.
package port

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Process is a process of this host.
type Process struct {
	PID     int
	Command string // the command line, blank-separated
}

// String names the process for people.
func (p Process) String() string {
	if p.PID == 0 {
		return "another user's process"
	}
	if p.Command == "" {
		return fmt.Sprintf("process %d", p.PID)
	}
	if name := p.container(); name != "" {
		return fmt.Sprintf("container %s (process %d, conmon)", name, p.PID)
	}
	command := []rune(p.Command)
	if len(command) > maxCommand {
		command = append(command[:maxCommand], '…')
	}
	return fmt.Sprintf("process %d (%s)", p.PID, string(command))
}

// maxCommand is how much of a command line people need to recognize it.
const maxCommand = 100

// container is the name of the container whose ports the process holds, where
// it is Podman's monitor of one.
func (p Process) container() string {
	argv := strings.Fields(p.Command)
	if len(argv) == 0 || filepath.Base(argv[0]) != "conmon" {
		return ""
	}
	if i := slices.Index(argv, "-n"); i > 0 && i+1 < len(argv) {
		return argv[i+1]
	}
	return ""
}

// Free reports whether this process could listen on the address.
func Free(hostIP string, port int) bool {
	listener, err := net.Listen("tcp", net.JoinHostPort(hostIP, strconv.Itoa(port)))
	if err != nil {
		return false
	}
	return listener.Close() == nil
}

// Owner returns the process that listens on the TCP port, on whatever address,
// and false where none does. Of a process that this user may not look into, the
// Process is zero. It needs Linux's /proc; elsewhere it finds nothing.
func Owner(port int) (Process, bool, error) {
	return owner("/proc", port)
}

func owner(proc string, port int) (Process, bool, error) {
	sockets := map[string]bool{}
	for _, table := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(filepath.Join(proc, "net", table))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return Process{}, false, fmt.Errorf("list the sockets of this host: %w", err)
		}
		for _, inode := range listening(string(text), port) {
			sockets["socket:["+inode+"]"] = true
		}
	}
	if len(sockets) == 0 {
		return Process{}, false, nil
	}
	pid, err := holder(proc, sockets)
	if err != nil || pid == 0 {
		return Process{}, true, err
	}
	return Process{PID: pid, Command: command(proc, pid)}, true, nil
}

// listening returns the inodes of the sockets that listen on the port, from a
// table in the format of /proc/net/tcp.
func listening(table string, port int) []string {
	const (
		localAddress = 1 // address:port, in hex
		state        = 3
		inode        = 9
		listen       = "0A"
	)
	suffix := fmt.Sprintf(":%04X", port)
	var inodes []string
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) > inode && fields[state] == listen && strings.HasSuffix(fields[localAddress], suffix) {
			inodes = append(inodes, fields[inode])
		}
	}
	return inodes
}

// holder returns the first process that has one of the sockets open, or 0 where
// those that this user may look into do not.
func holder(proc string, sockets map[string]bool) (int, error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return 0, fmt.Errorf("list the processes of this host: %w", err)
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue // not a process
		}
		descriptors := filepath.Join(proc, e.Name(), "fd")
		open, err := os.ReadDir(descriptors)
		if err != nil {
			continue // another user's, or ended by now
		}
		for _, d := range open {
			target, err := os.Readlink(filepath.Join(descriptors, d.Name()))
			if err == nil && sockets[target] {
				return pid, nil
			}
		}
	}
	return 0, nil
}

// command returns the process's command line, or its name where it has none.
func command(proc string, pid int) string {
	dir := filepath.Join(proc, strconv.Itoa(pid))
	if line, err := os.ReadFile(filepath.Join(dir, "cmdline")); err == nil && len(line) > 0 {
		return strings.Join(strings.FieldsFunc(string(line), func(r rune) bool { return r == 0 }), " ")
	}
	name, err := os.ReadFile(filepath.Join(dir, "comm"))
	if err != nil {
		return "" // ended by now
	}
	return strings.TrimSpace(string(name))
}

// Pick returns a TCP port that was free on the address a moment ago.
func Pick(hostIP string) (int, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(hostIP, "0"))
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	picked := listener.Addr().(*net.TCPAddr).Port
	return picked, listener.Close()
}
