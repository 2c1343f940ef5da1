package doctor

import (
	"errors"

	"golang.org/x/sys/unix"
)

// Cores honours the CPUs that this process was bound to.
func (thisKernel) Cores() int {
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return goCores()
	}
	return set.Count()
}

// Inotify counts by trying: the limit is the user's, and who uses it up is not
// to be seen from one process.
func (thisKernel) Inotify(n int) (got int, err error) {
	var open []int
	for len(open) < n {
		fd, createErr := unix.InotifyInit1(unix.IN_CLOEXEC)
		if createErr != nil {
			err = createErr
			break
		}
		open = append(open, fd)
	}
	for _, fd := range open {
		err = errors.Join(err, unix.Close(fd))
	}
	return len(open), err
}

var rlimits = map[Resource]int{OpenFiles: unix.RLIMIT_NOFILE, Processes: unix.RLIMIT_NPROC}

func (thisKernel) Limit(r Resource) (uint64, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(rlimits[r], &limit); err != nil {
		return 0, err
	}
	return limit.Max, nil // RLIM_INFINITY is Unlimited
}

func (thisKernel) Disk(path string) (Disk, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return Disk{}, err
	}
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return Disk{}, err
	}
	size := uint64(fs.Bsize)
	d := Disk{Device: st.Dev, Free: fs.Bavail * size, Total: fs.Blocks * size, Inodes: fs.Ffree}
	if fs.Files == 0 {
		d.Inodes = Unlimited
	}
	return d, nil
}
