package doctor

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Recorded on a Debian 12 machine with cgroup v1, as root in a virtual machine
// that grants no CAP_SYS_RESOURCE.
const (
	recordedCgroups = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpuset\t3\t97\t1\ncpu\t1\t117\t1\ncpuacct\t2\t97\t1\n" +
		"blkio\t7\t111\t1\nmemory\t4\t165\t1\ndevices\t5\t117\t1\nfreezer\t6\t97\t1\npids\t8\t117\t1\n"
	recordedCapEff  = "Name:\tsandbox\nCapEff:\t000001fffeffffff\nCapBnd:\t000001fffeffffff\n"
	recordedMeminfo = "MemTotal:       24684084 kB\nMemFree:        19432448 kB\nMemAvailable:   22704128 kB\n"
)

// v1 is the recorded machine, with some of its files replaced.
func v1(files map[string]string, programs ...string) *Host {
	all := map[string]string{"/proc/cgroups": recordedCgroups, "/proc/self/status": recordedCapEff, "/proc/meminfo": recordedMeminfo}
	for _, c := range []string{"cpuset", "cpu", "cpuacct", "blkio", "memory", "devices", "freezer", "pids"} {
		all["/sys/fs/cgroup/"+c+"/tasks"] = ""
	}
	for name, text := range files {
		all[name] = text
	}
	return recorded(all, programs...)
}

var kernelProvocations = []provocation{
	{"kernel/cgroup", fromRecord, Warn, `^cgroup v1, driver cgroupfs$`, func(t *testing.T) Result {
		return check(t, v1(nil), Need{}, "kernel/cgroup")
	}},
	{"kernel/cgroup", fromRecord, Fail, `^the cgroup controllers memory are missing$`, func(t *testing.T) Result {
		off := strings.Replace(recordedCgroups, "memory\t4\t165\t1", "memory\t0\t165\t0", 1)
		return check(t, v1(map[string]string{"/proc/cgroups": off}), Need{}, "kernel/cgroup")
	}},
	{"kernel/cgroup", fromRecord, Fail, `^the cgroup controllers memory are missing$`, func(t *testing.T) Result {
		return check(t, recorded(map[string]string{"/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io pids\n"}), Need{}, "kernel/cgroup")
	}},
	{"kernel/cgroup", fromRecord, Fail, `^this kernel has no cgroups$`, func(t *testing.T) Result {
		return check(t, recorded(nil), Need{}, "kernel/cgroup")
	}},
	{"kernel/capabilities", forReal, Fail, `^root lacks CAP_NET_ADMIN and CAP_SYS_ADMIN$`, func(t *testing.T) Result {
		asOther(t)
		return inChild(t, "kernel/capabilities", condition{wrap: []string{"setpriv", "--bounding-set", "-sys_admin,-net_admin", "--inh-caps", "-all"}})
	}},
	{"kernel/capabilities", fromRecord, Warn, `^root lacks CAP_SYS_RESOURCE$`, func(t *testing.T) Result {
		return check(t, v1(nil), Need{}, "kernel/capabilities")
	}},
	{"kernel/modules", forReal, Warn, `^/lib/modules is missing$`, func(t *testing.T) Result {
		// The test's program is static, so it runs without the libraries.
		return inChild(t, "kernel/modules", condition{wrap: []string{
			"unshare", "-Urm", "sh", "-c", `mount -t tmpfs none /lib && exec "$TEST_PROGRAM"`,
		}})
	}},
	{"kernel/modules", fromRecord, Fail, `^/lib/modules is missing$`, func(t *testing.T) Result {
		h := recorded(nil, "sudo")
		h.User = User{UID: 1000, Name: "ann"}
		return check(t, h, Need{}, "kernel/modules")
	}},
	{"kernel/inotify", forReal, Fail, `^only 3 more instances of inotify can be had, and 48 are needed$`, func(t *testing.T) Result {
		return inChild(t, "kernel/inotify", condition{need: Need{Nodes: 2}, wrap: []string{
			"unshare", "-Ur", "sh", "-c", `echo 3 >/proc/sys/user/max_inotify_instances && exec "$TEST_PROGRAM"`,
		}})
	}},
	{"kernel/inotify", forReal, Warn, `^only 40 more instances of inotify can be had: enough`, func(t *testing.T) Result {
		return inChild(t, "kernel/inotify", condition{need: Need{Nodes: 1}, wrap: []string{
			"unshare", "-Ur", "sh", "-c", `echo 40 >/proc/sys/user/max_inotify_instances && exec "$TEST_PROGRAM"`,
		}})
	}},
	{"kernel/inotify", fromRecord, Fail, `^a user may watch 4096 files, and a node needs 8192$`, func(t *testing.T) Result {
		return check(t, recorded(map[string]string{"/proc/sys/fs/inotify/max_user_watches": "4096\n"}), Need{}, "kernel/inotify")
	}},
	{"kernel/files", forReal, Fail, `^the limit is 1000 open files; 4096 are needed$`, func(t *testing.T) Result {
		return inChild(t, "kernel/files", condition{wrap: []string{"prlimit", "--nofile=1000:1000"}})
	}},
	{"kernel/files", forReal, Warn, `^the limit is 5000 open files; 16384 are better$`, func(t *testing.T) Result {
		return inChild(t, "kernel/files", condition{wrap: []string{"prlimit", "--nofile=5000:5000"}})
	}},
	{"kernel/files", fromRecord, Fail, `^99000 of 100000 files of this machine are open$`, func(t *testing.T) Result {
		return check(t, recorded(map[string]string{"/proc/sys/fs/file-nr": "99000\t0\t100000\n"}), Need{}, "kernel/files")
	}},
	{"kernel/processes", forReal, Fail, `^the limit is 1000 processes; 2048 are needed$`, func(t *testing.T) Result {
		return inChild(t, "kernel/processes", condition{wrap: []string{"prlimit", "--nproc=1000:1000"}})
	}},
	{"kernel/processes", fromRecord, Warn, `^the limit is 3000 processes; 4096 are better$`, func(t *testing.T) Result {
		return check(t, recorded(map[string]string{"/proc/sys/kernel/pid_max": "3000\n"}), Need{}, "kernel/processes")
	}},
}

var resourceProvocations = []provocation{
	{"resources/memory", forReal, Fail, `free, about 1048576\.0 GB needed$`, func(t *testing.T) Result {
		return check(t, ThisHost(), Need{Memory: 1 << 50}, "resources/memory") // more than any machine has
	}},
	{"resources/memory", fromRecord, Warn, `^21\.7 GB free, about 20\.0 GB needed$`, func(t *testing.T) Result {
		return check(t, v1(nil), Need{Memory: 20 * GB}, "resources/memory")
	}},
	{"resources/memory", fromRecord, Fail, `^1\.0 GB free within the limit of this control group, about 2\.0 GB needed$`, func(t *testing.T) Result {
		return check(t, v1(map[string]string{
			"/sys/fs/cgroup/memory.max": "4294967296\n", "/sys/fs/cgroup/memory.current": "3221225472\n",
		}), Need{Memory: 2 * GB}, "resources/memory")
	}},
	{"resources/cores", forReal, Warn, `^this process may use 1 processor$`, func(t *testing.T) Result {
		return inChild(t, "resources/cores", condition{wrap: []string{"taskset", "-c", "0"}, need: Need{Cores: 2}})
	}},
	{"resources/disk", forReal, Fail, `^0 MB free for .*/full/cache, about 1 MB needed$`, func(t *testing.T) Result {
		dir := filepath.Join(t.TempDir(), "full")
		return inChild(t, "resources/disk", condition{
			cache: dir + "/cache", need: Need{Cache: MB},
			wrap: []string{
				"unshare", "-Urm", "sh", "-c",
				`mkdir ` + dir + ` && mount -t tmpfs -o size=1m none ` + dir + ` && head -c 1048576 /dev/zero >` + dir + `/filler; exec "$TEST_PROGRAM"`,
			},
		})
	}},
	{"resources/disk", forReal, Fail, `^\d+ inodes free for .*/small/cache, about 100000 needed$`, func(t *testing.T) Result {
		dir := filepath.Join(t.TempDir(), "small")
		return inChild(t, "resources/disk", condition{
			cache: dir + "/cache", need: Need{Cache: MB},
			wrap: []string{
				"unshare", "-Urm", "sh", "-c",
				`mkdir ` + dir + ` && mount -t tmpfs -o size=64m,nr_inodes=100 none ` + dir + ` && exec "$TEST_PROGRAM"`,
			},
		})
	}},
	{"resources/disk", fromRecord, Warn, `^3\.0 GB free for /var/lib/containers/storage, /cache, about 1\.0 GB needed, and 10\.0 GB more where images are built here$`, func(t *testing.T) Result {
		h := recorded(nil, "podman")
		h.Kernel, h.CacheDir = sized{3 * GB}, "/cache"
		return check(t, h, Need{Cache: GB, Build: 10 * GB}, "resources/disk")
	}},
}

// sized is a kernel whose file systems have that much free, each path its own.
type sized struct{ free uint64 }

func (s sized) Disk(path string) (Disk, error) {
	return Disk{Device: uint64(len(path)), Free: s.free, Total: s.free, Inodes: Unlimited}, nil
}
func (sized) Cores() int                         { return 2 }
func (sized) Limit(Resource) (uint64, error)     { return Unlimited, nil }
func (sized) Inotify(n int) (int, error)         { return n, nil }
func (sized) Dial(context.Context, string) error { return syscall.ENOENT }

// What a healthy machine says must not worry anybody.
func TestHealthyMachine(t *testing.T) {
	h := recorded(map[string]string{
		"/sys/fs/cgroup/cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma misc\n", "/run/systemd/system/a": "",
		"/proc/self/status": "CapEff:\t000001ffffffffff\n", "/lib/modules/6.1.0/modules.dep": "",
		"/proc/sys/fs/inotify/max_user_watches": "524288\n", "/proc/sys/fs/file-nr": "2196\t0\t9223372036854775807\n",
		"/proc/sys/kernel/pid_max": "4194304\n", "/proc/meminfo": recordedMeminfo,
		"/usr/bin/crun": "", "/usr/lib/podman/netavark": "", "/usr/lib/podman/aardvark-dns": "", "/usr/bin/conmon": "", "/usr/sbin/iptables": "",
	}, "podman")
	h.Kernel = sized{100 * GB}
	h.Output = func(context.Context, string, ...string) (string, error) { return "podman version 5.4.2", nil }
	report, err := Run(t.Context(), h, Need{Memory: 4 * GB, Cores: 2, Store: 3 * GB}, Cheap(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range report.Checks {
		if c.State == Warn || c.State == Fail {
			t.Errorf("%s: %s %s (%s)", c.ID, c.State, c.What, c.Why)
		}
	}
	if report.State != OK {
		t.Errorf("state %s", report.State)
	}
}

// The disk of several folders is counted once where they share it.
func TestDiskIsSharedByWhatLiesOnIt(t *testing.T) {
	dir := t.TempDir()
	h := ThisHost()
	h.Env = func(string) string { return dir }
	h.Find = func(string) (string, error) { return "", os.ErrNotExist }
	h.CacheDir, h.StateDir = dir+"/a/b", dir+"/c"
	disk, err := h.Kernel.Disk(dir)
	if err != nil {
		t.Fatal(err)
	}
	half := disk.Free/2 + GB
	r := check(t, h, Need{Cache: half, State: half}, "resources/disk")
	if r.State != Fail || !strings.Contains(r.What, dir+"/a/b, "+dir+"/c") {
		t.Errorf("half of what is free (%s), twice: %s %s", strconv.FormatUint(disk.Free, 10), r.State, r.What)
	}
}
