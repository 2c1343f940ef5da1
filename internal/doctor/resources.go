package doctor

import (
	"context"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"github.com/BurntSushi/toml"
)

var resourceChecks = []Check{
	{ID: "resources/memory", Title: "free memory", cheap: true, run: checkMemory},
	{ID: "resources/cores", Title: "processors", cheap: true, run: checkCores},
	{ID: "resources/disk", Title: "free disk", cheap: true, run: checkDisk},
}

// Sizes in bytes.
const (
	MB = 1 << 20
	GB = 1 << 30
)

// Need is what a stack takes from the machine.
type Need struct {
	Stack string // its name
	// Name is the sandbox's: what it holds already counts as had.
	Name   string
	Memory uint64
	Cores  int
	Nodes  int // that are to be created
	// Store, Cache and State are needed where the engine keeps images and
	// containers, in the cache and in the state folder.
	Store, Cache, State uint64
	Ports               []Port
	// Strict makes a taken port a failure: a stack was named that has it.
	Strict bool
	// Registries are where images come from.
	Registries []string
	// Build is needed in the cache as well where images are built from packages.
	Build uint64
	// Images is where platform images come from: auto, packages, registry.
	Images string
	// Terraform: the stack has modules.
	Terraform bool
}

// Port is a port that the stack publishes on 127.0.0.1.
type Port struct {
	Number    int
	Component string // the label of its container
	Key       string // in the stack file, below spec.ports
}

// available is the memory that this process may still take, and what limits it.
func (h *Host) available() (bytes uint64, by string, err error) {
	text, err := h.read("/proc/meminfo")
	if err != nil {
		return 0, "", err
	}
	found := false
	for line := range strings.Lines(text) {
		var kb uint64
		if _, err := fmt.Sscanf(line, "MemAvailable: %d kB", &kb); err == nil {
			bytes, by, found = kb<<10, "free", true
		}
	}
	if !found {
		return 0, "", fmt.Errorf("/proc/meminfo has no MemAvailable")
	}
	for _, group := range []struct{ limit, used string }{
		{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"},
		{"/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"},
	} {
		limit, err := h.number(group.limit)
		if err != nil {
			continue // no such group, or "max"
		}
		used, err := h.number(group.used)
		if err != nil {
			return 0, "", err
		}
		if free := limit - min(limit, used); free < bytes {
			bytes, by = free, "free within the limit of this control group"
		}
	}
	return bytes, by, nil
}

func checkMemory(_ context.Context, e *exam) Finding {
	if e.need.Memory == 0 {
		return skip("nothing more is needed", "the sandbox has what it needs already")
	}
	if e.OS != "linux" {
		return onlyLinux("the memory")
	}
	free, by, err := e.available()
	if err != nil {
		return unknown("how much memory is free", err)
	}
	what := fmt.Sprintf("%s %s, about %s needed", size(free), by, size(e.need.Memory))
	fix := "end what needs much memory (ps aux --sort=-rss | head), or sandbox down --name of another sandbox"
	switch {
	case free < e.need.Memory:
		return fail(what, "the kernel would end processes of the sandbox for lack of memory", fix)
	case free < e.need.Memory*3/2:
		return warn(what, "that is close: pods of your own need some as well", fix)
	}
	return ok("%s", what)
}

func checkCores(_ context.Context, e *exam) Finding {
	cores := e.Kernel.Cores()
	if cores < e.need.Cores {
		return warn("this process may use "+count(cores, "processor"),
			fmt.Sprintf("%d are needed to come up in the usual time; Kubernetes itself asks for 2", e.need.Cores),
			"give this machine, or this process (taskset, --cpus), more of them")
	}
	return ok("%d", cores)
}

// store is where the engine keeps its images and containers.
func (e *exam) store() string {
	if e.uses("docker") {
		return "/var/lib/docker"
	}
	var conf struct {
		Storage struct {
			GraphRoot string `toml:"graphroot"`
		} `toml:"storage"`
	}
	for _, file := range []string{"/etc/containers/storage.conf", "/usr/share/containers/storage.conf"} {
		text, err := e.read(file)
		if err != nil || !e.root() {
			continue
		}
		if _, err := toml.Decode(text, &conf); err == nil && conf.Storage.GraphRoot != "" {
			return conf.Storage.GraphRoot
		}
	}
	if e.root() {
		return "/var/lib/containers/storage"
	}
	return e.Env("HOME") + "/.local/share/containers/storage"
}

func checkDisk(_ context.Context, e *exam) Finding {
	type place struct {
		paths      []string
		need, more uint64
		disk       Disk
	}
	byDevice := map[uint64]*place{}
	for _, p := range []struct {
		path       string
		need, more uint64
	}{{e.store(), e.need.Store, 0}, {e.CacheDir, e.need.Cache, e.need.Build}, {e.StateDir, e.need.State, 0}} {
		if p.path == "" {
			continue
		}
		at := e.existing(p.path)
		disk, err := e.Kernel.Disk(at)
		if err != nil {
			return unknown("how much of the disk is free", err)
		}
		known := byDevice[disk.Device]
		if known == nil {
			known = &place{disk: disk}
			byDevice[disk.Device] = known
		}
		known.need += p.need
		known.more += p.more
		known.paths = append(known.paths, p.path)
	}
	places := make([]*place, 0, len(byDevice))
	for _, p := range byDevice {
		places = append(places, p)
	}
	sort.Slice(places, func(i, j int) bool { return places[i].paths[0] < places[j].paths[0] })
	worst := ok("nothing is written to disk")
	for i, p := range places {
		found := p.disk.enough(p.paths, p.need, p.more)
		if i == 0 || found.State.severity() > worst.State.severity() {
			worst = found
		}
	}
	return worst
}

// enough compares what is free with what is needed, and with what is needed in
// addition where images are built here.
func (d Disk) enough(paths []string, need, more uint64) Finding {
	where := strings.Join(paths, ", ")
	what := fmt.Sprintf("%s free for %s, about %s needed", size(d.Free), where, size(need))
	why := "images and containers fill the disk, and the engine and the cluster stop where it is full"
	fix := "sandbox images prune, podman system prune, or free space on the disk of " + paths[0]
	const inodesNeed = 100_000
	switch {
	case d.Free < need:
		return fail(what, why, fix)
	case d.Inodes < inodesNeed:
		return fail(fmt.Sprintf("%d inodes free for %s, about %d needed", d.Inodes, where, inodesNeed),
			"images consist of many small files", fix)
	case d.Free < need+more:
		return warn(fmt.Sprintf("%s, and %s more where images are built here", what, size(more)), why, fix)
	case d.Free < need*3/2:
		return warn(what, why, fix)
	}
	return ok("%s", what)
}

// size writes bytes for people.
func size(bytes uint64) string {
	if bytes < GB {
		return strconv.FormatUint(bytes/MB, 10) + " MB"
	}
	return strconv.FormatFloat(float64(bytes)/GB, 'f', 1, 64) + " GB"
}
