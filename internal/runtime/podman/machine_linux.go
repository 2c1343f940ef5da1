package podman

import (
	"bufio"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// thisMachine looks at the kernel's limits on this process.
func thisMachine() machine {
	m := machine{root: os.Geteuid() == 0, runc: findOCIRuntime("runc")}
	var fs unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &fs); err == nil {
		m.cgroupV1 = fs.Type != unix.CGROUP2_SUPER_MAGIC
	}
	caps, known := effectiveCaps("/proc/self/status")
	m.mayRaiseLimits = !known || caps&(1<<unix.CAP_SYS_RESOURCE) != 0
	m.maxFiles = hardLimit(unix.RLIMIT_NOFILE)
	m.maxProcesses = hardLimit(unix.RLIMIT_NPROC)
	// At its start podman lowers its own limit to the highest process ID,
	// and can't go back up any more than we can.
	if most, err := readNumber("/proc/sys/kernel/pid_max"); err == nil && most < m.maxProcesses {
		m.maxProcesses = most
	}
	return m
}

// effectiveCaps reads the effective capabilities from a status file of /proc.
func effectiveCaps(path string) (caps uint64, known bool) {
	file, err := os.Open(path)
	if err != nil {
		return 0, false
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if hex, ok := strings.CutPrefix(lines.Text(), "CapEff:"); ok {
			caps, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			return caps, err == nil
		}
	}
	return 0, false
}

// hardLimit returns the limit up to which this process may raise resource, 0
// where there is none.
func hardLimit(resource int) uint64 {
	var limit unix.Rlimit
	if err := unix.Getrlimit(resource, &limit); err != nil || limit.Max == unix.RLIM_INFINITY {
		return 0
	}
	return limit.Max
}

// readNumber reads a file of /proc that holds a number.
func readNumber(path string) (uint64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}
