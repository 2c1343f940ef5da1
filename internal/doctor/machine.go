package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

var kernelChecks = []Check{
	{ID: "kernel/cgroup", Title: "cgroups and their controllers", cheap: true, run: checkCgroup},
	{ID: "kernel/capabilities", Title: "what root may do here", cheap: true, run: checkCapabilities},
	{ID: "kernel/modules", Title: "the folder of kernel modules", cheap: true, run: checkModules},
	{ID: "kernel/inotify", Title: "watches on files", cheap: true, run: checkInotify},
	{ID: "kernel/files", Title: "open files", cheap: true, run: checkFiles},
	{ID: "kernel/processes", Title: "processes", cheap: true, run: checkProcesses},
}

// cgroup2 reports whether the controllers are those of cgroup v2: a hybrid has
// them in v1.
func (h *Host) cgroup2() (bool, error) {
	_, there, err := h.stat("/sys/fs/cgroup/cgroup.controllers")
	return there, err
}

// lacking returns which of need are not in have.
func lacking(have, need []string) (missing []string) {
	for _, n := range need {
		if !slices.Contains(have, n) {
			missing = append(missing, n)
		}
	}
	return missing
}

func onlyLinux(what string) Finding {
	return skip(what+" of the engine's own machine", "this is known on Linux only")
}

func checkCgroup(_ context.Context, e *exam) Finding {
	if e.OS != "linux" {
		return onlyLinux("the cgroups")
	}
	driver := "cgroupfs"
	if e.there("/run/systemd/system") {
		driver = "systemd"
	}
	v2, err := e.cgroup2()
	if err != nil {
		return unknown("the version of cgroups", err)
	}
	if v2 {
		text, err := e.read("/sys/fs/cgroup/cgroup.controllers")
		if err != nil {
			return unknown("the cgroup controllers", err)
		}
		if missing := lacking(strings.Fields(text), []string{"cpu", "memory", "pids"}); len(missing) > 0 {
			return missingControllers(missing)
		}
		return ok("cgroup v2, driver %s", driver)
	}
	text, err := e.read("/proc/cgroups")
	if err != nil {
		return fail("this kernel has no cgroups", err.Error(), "use a kernel with CONFIG_CGROUPS")
	}
	if missing := lacking(e.mountedControllers(text), []string{"cpu", "cpuacct", "memory", "pids", "devices", "freezer"}); len(missing) > 0 {
		return missingControllers(missing)
	}
	return warn("cgroup v1, driver "+driver, "crun, systemd 256 and Kubernetes 1.35 refuse it; sandbox uses runc and tells the kubelet to accept it",
		"boot with systemd.unified_cgroup_hierarchy=1, where this machine is yours to boot")
}

func missingControllers(missing []string) Finding {
	names := strings.Join(missing, ", ")
	return fail("the cgroup controllers "+names+" are missing", "a Kubernetes node limits its pods by them",
		"boot with cgroup_enable="+strings.Join(missing, " cgroup_enable="))
}

// mountedControllers are the enabled ones of /proc/cgroups that are mounted in
// a hierarchy of cgroup v1.
func (h *Host) mountedControllers(table string) (enabled []string) {
	for line := range strings.Lines(table) {
		f := strings.Fields(line)
		if len(f) == 4 && f[3] == "1" && f[1] != "0" && h.there("/sys/fs/cgroup/"+f[0]) {
			enabled = append(enabled, f[0])
		}
	}
	return enabled
}

// The capabilities that matter, by their number in capabilities(7).
var capabilities = []struct {
	bit  uint
	name string
}{{12, "CAP_NET_ADMIN"}, {21, "CAP_SYS_ADMIN"}}

const capSysResource = 24

func checkCapabilities(_ context.Context, e *exam) Finding {
	if e.OS != "linux" {
		return onlyLinux("the capabilities")
	}
	if !e.root() {
		return skip("not root", "rootless containers get theirs from a user namespace")
	}
	text, err := e.read("/proc/self/status")
	if err != nil {
		return unknown("the capabilities of this process", err)
	}
	caps, known := effective(text)
	if !known {
		return skip("unknown: the capabilities of this process", "/proc/self/status does not say")
	}
	var missing []string
	for _, c := range capabilities {
		if caps&(1<<c.bit) == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		return fail("root lacks "+strings.Join(missing, " and "), "without, no container can be started; this is a container itself, it seems",
			"run sandbox on the host, or in a container with --privileged")
	}
	if caps&(1<<capSysResource) == 0 {
		return warn("root lacks CAP_SYS_RESOURCE", "limits can't be raised: sandbox keeps Podman's containers below this process's limits; "+
			"Docker can't start a node", "use Podman, or a machine that grants CAP_SYS_RESOURCE")
	}
	return ok("all that is needed")
}

// effective reads the effective capabilities from the text of a status file.
func effective(status string) (caps uint64, known bool) {
	for line := range strings.Lines(status) {
		if hex, found := strings.CutPrefix(line, "CapEff:"); found {
			caps, err := strconv.ParseUint(strings.TrimSpace(hex), 16, 64)
			return caps, err == nil
		}
	}
	return 0, false
}

func checkModules(_ context.Context, e *exam) Finding {
	const folder = "/lib/modules"
	if e.OS != "linux" {
		return onlyLinux("the kernel modules")
	}
	info, there, err := e.stat(folder)
	switch {
	case err != nil:
		return unknown(folder, err)
	case there && info.IsDir():
		return ok("%s is there", folder)
	case there:
		return fail(folder+" is not a folder", "nodes mount it, and the engine refuses to", "sudo mv "+folder+" "+folder+".old && sudo mkdir "+folder)
	}
	why := "nodes mount it, and the engine refuses to mount what is not there"
	if e.root() {
		return warn(folder+" is missing", why+"; sandbox up makes the empty folder", "").
			repaired(e.Host, Repair{Command: []string{"mkdir", "-p", folder}})
	}
	return fail(folder+" is missing", why, "").repaired(e.Host, Repair{Command: []string{"mkdir", "-p", folder}})
}

// Counted on running nodes: systemd 4, containerd 2, the kubelet 7 to 10,
// kube-proxy 1; the first node has the API server's 6 and the controller
// manager's 7 as well. Pods may use more.
const (
	inotifyFirst = 32
	inotifyMore  = 16
	watchesNeed  = 8192
)

func checkInotify(_ context.Context, e *exam) Finding {
	const dir = "/proc/sys/fs/inotify/"
	if e.OS != "linux" {
		return onlyLinux("the watches")
	}
	need, good := 1, 1
	if e.need.Nodes > 0 {
		need = inotifyFirst + (e.need.Nodes-1)*inotifyMore
		good = need + inotifyFirst
	}
	got, err := e.Kernel.Inotify(good)
	if err != nil && !errors.Is(err, syscall.EMFILE) {
		return unknown("how many instances of inotify there are", err)
	}
	watches, err := e.number(dir + "max_user_watches")
	if err != nil {
		return unknown("how many watches a user may have", err)
	}
	why := "the parts of a node watch files, and fail with \"too many open files\" where they can't; this lasts until the next boot"
	raise := func(name string, to int) Repair {
		return Repair{Command: []string{"tee", dir + name}, Input: strconv.Itoa(to) + "\n"}
	}
	switch {
	case got < need:
		return fail(fmt.Sprintf("only %s of inotify can be had, and %d are needed", count(got, "more instance"), need), why, "").
			repaired(e.Host, raise("max_user_instances", 512))
	case watches < watchesNeed:
		return fail(fmt.Sprintf("a user may watch %d files, and a node needs %d", watches, watchesNeed), why, "").
			repaired(e.Host, raise("max_user_watches", 524288))
	case got < good:
		return warn(fmt.Sprintf("only %s of inotify can be had: enough for one sandbox", count(got, "more instance")), why, "").
			repaired(e.Host, raise("max_user_instances", 512))
	case e.need.Nodes == 0:
		return ok("%d watches", watches)
	}
	return ok("%d watches, at least %d instances free", watches, good)
}

// What containers inherit where limits can't be raised: etcd and the API
// server keep a file open for each watch.
const (
	filesNeed     = 4096
	filesGood     = 16384
	processesNeed = 2048
	processesGood = 4096
)

func checkFiles(_ context.Context, e *exam) Finding {
	if e.OS != "linux" {
		return onlyLinux("the open files")
	}
	limit, err := e.Kernel.Limit(OpenFiles)
	if err != nil {
		return unknown("how many files may be open", err)
	}
	if f, bad := e.systemFiles(); bad {
		return f
	}
	return limited("open files", limit, filesNeed, filesGood, "ulimit -Hn "+strconv.Itoa(filesGood)+" as root before, or LimitNOFILE= of the service that runs this")
}

// systemFiles is about the files of all processes together.
func (e *exam) systemFiles() (Finding, bool) {
	text, err := e.read("/proc/sys/fs/file-nr")
	if err != nil {
		return unknown("how many files are open on this machine", err), true
	}
	var used, free, most uint64
	if _, err := fmt.Sscan(text, &used, &free, &most); err != nil {
		return unknown("how many files are open on this machine", err), true
	}
	if most-min(most, used) < filesGood {
		return fail(fmt.Sprintf("%d of %d files of this machine are open", used, most), "the kernel gives no more than that to all processes together", "").
			repaired(e.Host, Repair{Command: []string{"tee", "/proc/sys/fs/file-max"}, Input: strconv.FormatUint(most+8*filesGood, 10) + "\n"}), true
	}
	return Finding{}, false
}

func checkProcesses(_ context.Context, e *exam) Finding {
	if e.OS != "linux" {
		return onlyLinux("the processes")
	}
	limit, err := e.Kernel.Limit(Processes)
	if err != nil {
		return unknown("how many processes there may be", err)
	}
	for _, file := range []string{"/proc/sys/kernel/pid_max", "/proc/sys/kernel/threads-max"} {
		most, err := e.number(file)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return unknown("how many processes there may be", err)
		}
		limit = min(limit, most)
	}
	return limited("processes", limit, processesNeed, processesGood, "ulimit -Hu "+strconv.Itoa(processesGood)+" as root before, or TasksMax= of the service that runs this")
}

func limited(what string, limit, need, good uint64, fix string) Finding {
	why := "containers inherit the limit where it can't be raised, and a node with its pods needs more"
	switch {
	case limit < need:
		return fail(fmt.Sprintf("the limit is %d %s; %d are needed", limit, what, need), why, fix)
	case limit < good:
		return warn(fmt.Sprintf("the limit is %d %s; %d are better", limit, what, good), why, fix)
	case limit == Unlimited:
		return ok("unlimited")
	}
	return ok("up to %d", limit)
}
