package podman

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// inspected is the part of an inspect answer that sandbox reads. Names and
// types are the same in Podman 4, 5 and 6.
type inspected struct {
	ID        string    `json:"Id"`
	Name      string    `json:"Name"`
	Image     string    `json:"Image"`
	ImageName string    `json:"ImageName"`
	Created   time.Time `json:"Created"`
	State     struct {
		Status     string    `json:"Status"`
		PID        int       `json:"Pid"`
		MonitorPID int       `json:"ConmonPid"`
		ExitCode   int       `json:"ExitCode"`
		OOMKilled  bool      `json:"OOMKilled"`
		StartedAt  time.Time `json:"StartedAt"`
		FinishedAt time.Time `json:"FinishedAt"`
		Health     *struct {
			Status string `json:"Status"`
		} `json:"Health"`
	} `json:"State"`
	Config struct {
		Labels map[string]string `json:"Labels"`
	} `json:"Config"`
	HostConfig struct {
		PortBindings map[string][]struct {
			HostIP   string `json:"HostIp"`
			HostPort string `json:"HostPort"`
		} `json:"PortBindings"`
	} `json:"HostConfig"`
	NetworkSettings struct {
		Networks map[string]struct {
			IPAddress string   `json:"IPAddress"`
			MAC       string   `json:"MacAddress"`
			Aliases   []string `json:"Aliases"`
		} `json:"Networks"`
	} `json:"NetworkSettings"`
}

// container is the answer in the runtime's terms.
func (c inspected) container() runtime.Container {
	out := runtime.Container{
		ID:       c.ID,
		Name:     c.Name,
		Image:    c.ImageName,
		ImageID:  imageID(c.Image),
		Labels:   c.Config.Labels,
		State:    c.State.Status,
		ExitCode: c.State.ExitCode,
		PID:      c.State.PID,
		OOM:      c.State.OOMKilled,
		Created:  c.Created,
		Started:  knownTime(c.State.StartedAt),
		Finished: knownTime(c.State.FinishedAt),
		Ports:    c.ports(),
		IPs:      map[string]string{},
		MACs:     map[string]string{},
		Aliases:  map[string][]string{},
	}
	if c.State.Health != nil {
		out.Health = c.State.Health.Status
	}
	for name, network := range c.NetworkSettings.Networks {
		if network.IPAddress != "" {
			out.IPs[name] = network.IPAddress
		}
		if network.MAC != "" {
			out.MACs[name] = network.MAC
		}
		out.Aliases[name] = out.FurtherNames(network.Aliases)
	}
	switch {
	case c.State.Status == "stopped": // ended, and its network not yet cleaned up
		out.State = "exited"
	case c.stale():
		out.State, out.PID = "exited", 0
	}
	return out
}

// ports lists the published TCP ports in the order of the container's ports.
func (c inspected) ports() []runtime.Port {
	var ports []runtime.Port
	for key, bindings := range c.HostConfig.PortBindings {
		text, protocol, _ := strings.Cut(key, "/")
		inside, err := strconv.Atoi(text)
		if err != nil || protocol != "tcp" {
			continue
		}
		for _, b := range bindings {
			if outside, err := strconv.Atoi(b.HostPort); err == nil {
				ports = append(ports, runtime.Port{HostIP: b.HostIP, HostPort: outside, Container: inside})
			}
		}
	}
	slices.SortFunc(ports, func(a, b runtime.Port) int {
		return cmp.Or(cmp.Compare(a.Container, b.Container), cmp.Compare(a.HostPort, b.HostPort))
	})
	return ports
}

// stale reports whether Podman takes the container for running though its
// process is gone. Podman learns of an end from the container's monitor and
// after a reboot; when monitor and process die together, it learns nothing.
func (c inspected) stale() bool {
	switch c.State.Status {
	case "running", "paused", "stopping":
	default:
		return false
	}
	return !alive(c.State.PID) && !alive(c.State.MonitorPID)
}

// alive reports whether the process runs. One that has ended and waits for its
// parent to notice does not.
func alive(pid int) bool {
	if pid <= 0 || errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
		return false
	}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !errors.Is(err, os.ErrNotExist)
	}
	// "PID (command) state …", where the command may hold anything.
	_, rest, _ := strings.Cut(string(stat[bytes.LastIndexByte(stat, ')')+1:]), " ")
	return !strings.HasPrefix(rest, "Z")
}

// knownTime maps the API's "never" (year 1) to the zero time.
func knownTime(t time.Time) time.Time {
	if t.Year() <= 1 {
		return time.Time{}
	}
	return t
}

// imageID is the ID with its algorithm, which Podman leaves out.
func imageID(id string) string {
	if id == "" || strings.Contains(id, ":") {
		return id
	}
	return "sha256:" + id
}
