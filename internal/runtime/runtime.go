// Package runtime is the small part of a container engine that sandbox needs,
// as one interface that Podman and Docker both serve. Both implementations
// pass the suite in runtimetest; adapters and tests depend on the interface.
package runtime

import (
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The labels that everything sandbox creates carries. Deletion goes by
// LabelName and by nothing else.
const (
	LabelName      = "sandbox.name"
	LabelComponent = "sandbox.component"
	LabelRun       = "sandbox.run"
)

// ErrNotFound says that the named container, image, network or volume is not
// there. Implementations wrap it.
var ErrNotFound = errors.New("not found")

// ErrLost says that the engine has lost track of a container, whose state is
// then "exited": it can't be started again, only removed and created anew.
var ErrLost = errors.New("the engine has lost track of the container")

// Runtime is a container engine. All methods are safe for concurrent use. To
// remove what is gone already is not an error, nor is to start what runs, to
// stop what has stopped or to pause what is paused.
// "labels" filters are matched exactly, all of them; an empty value matches
// any value of that key.
type Runtime interface {
	Info(ctx context.Context) (Info, error)
	Close() error

	Image(ctx context.Context, ref string) (Image, error)
	Images(ctx context.Context, labels map[string]string) ([]Image, error)
	// LoadImage reads a docker or OCI archive and returns the names in it.
	LoadImage(ctx context.Context, archive io.Reader) ([]string, error)
	// SaveImage writes a docker archive of the image.
	SaveImage(ctx context.Context, ref string, w io.Writer) error
	// PullImage fetches ref from its registry, reporting each line of the
	// engine's progress to log.
	PullImage(ctx context.Context, ref string, log func(line string)) (Image, error)
	BuildImage(ctx context.Context, spec BuildSpec, log func(line string)) (Image, error)
	RemoveImage(ctx context.Context, ref string) error

	// CreateNetwork creates a bridge network with name resolution between
	// its containers; a network of that name with the same labels is reused.
	CreateNetwork(ctx context.Context, name string, labels map[string]string) (Network, error)
	Networks(ctx context.Context, labels map[string]string) ([]Network, error)
	RemoveNetwork(ctx context.Context, name string) error

	// DisconnectNetwork takes a running container off a network; one that is
	// not on it is left alone.
	DisconnectNetwork(ctx context.Context, network, id string) error
	// ConnectNetwork puts a container on a network, under the names and with
	// the address of the endpoint; one that is on it like that is left alone.
	ConnectNetwork(ctx context.Context, network, id string, opt Endpoint) error

	// CreateContainer creates, without starting it.
	CreateContainer(ctx context.Context, spec ContainerSpec) (Container, error)
	// StartContainer starts the container, or goes on with a paused one.
	StartContainer(ctx context.Context, id string) error
	// PauseContainer freezes a running container.
	PauseContainer(ctx context.Context, id string) error
	// UnpauseContainer goes on with a paused container; any other is left alone.
	UnpauseContainer(ctx context.Context, id string) error
	// StopContainer asks the container to stop and kills it after grace. A
	// paused one goes on for that.
	StopContainer(ctx context.Context, id string, grace time.Duration) error
	// RemoveContainer kills and removes the container with its anonymous
	// volumes.
	RemoveContainer(ctx context.Context, id string) error
	// Container inspects by name or ID; ErrNotFound where there is none.
	Container(ctx context.Context, nameOrID string) (Container, error)
	Containers(ctx context.Context, labels map[string]string) ([]Container, error)
	// Logs writes the container's output to w, both streams merged, until
	// the end of the log or, with Follow, until ctx ends.
	Logs(ctx context.Context, id string, opt LogOptions, w io.Writer) error
	// Exec runs a command in the container and returns its exit code. The
	// command is killed when ctx ends first.
	Exec(ctx context.Context, id string, spec ExecSpec) (int, error)
	// Stats returns one sample of the running containers' resource use.
	Stats(ctx context.Context, ids []string) ([]Stats, error)
	// Events delivers container events (start, die, remove, health) until
	// ctx ends or the engine goes away; then the channel is closed.
	Events(ctx context.Context, labels map[string]string) (<-chan Event, error)

	Volumes(ctx context.Context, labels map[string]string) ([]Volume, error)
	RemoveVolume(ctx context.Context, name string) error
}

// Info describes the engine.
type Info struct {
	Engine        string // "podman" or "docker"
	Version       string
	Rootless      bool
	CgroupVersion int
	Socket        string
}

// Owner returns the container user, as UID:GID, that owns the files of the user who
// runs sandbox, as seen from the host: under a rootless engine that is user 0.
func (i Info) Owner() string {
	if i.Rootless {
		return "0:0"
	}
	return strconv.Itoa(os.Getuid()) + ":" + strconv.Itoa(os.Getgid())
}

// Image is an image in the engine's store.
type Image struct {
	ID     string // sha256:…
	Names  []string
	Labels map[string]string
	Size   int64 // bytes
}

// BuildSpec describes an image build.
type BuildSpec struct {
	Context    string // directory; .dockerignore is respected
	Dockerfile string // path; relative ones are below Context
	Tag        string
	Target     string
	Args       map[string]string
	Labels     map[string]string
	// CPUShares is the weight of RUN steps, as in ContainerSpec.
	CPUShares uint64
	// Volumes are "host:container:ro" mounts for RUN steps, for host CA
	// certificates; not part of the image.
	Volumes []string
}

// Network is an engine network.
type Network struct {
	Name    string
	ID      string
	Labels  map[string]string
	Subnets []string
	Gateway string
}

// Endpoint is what a container has on a network.
type Endpoint struct {
	Aliases []string // further names
	// IP is a fixed address, which has to be free. The container keeps it from
	// then on, unless it is another's by the time of a start. Empty takes a free
	// one.
	IP string
	// MAC is the hardware address. To come back with an IP and another MAC is
	// to be unreachable for a minute, for those who remember the old one.
	MAC string
}

// ContainerSpec describes a container to create.
type ContainerSpec struct {
	Name       string
	Image      string
	Entrypoint []string
	Cmd        []string
	Env        map[string]string
	User       string
	Labels     map[string]string
	Network    string
	Aliases    []string // further names on the network
	Ports      []Port
	Mounts     []Mount
	// Memory is the limit in bytes; 0 means none.
	Memory int64
	// CPUShares is the weight among containers that want the CPU at the same
	// time; 1024 is usual, 0 leaves it to the engine. It needs a rootful engine
	// or a delegated cpu controller.
	CPUShares uint64
	Restart   bool // restart unless stopped
}

// Port publishes a container's TCP port on the host. HostIP defaults to
// 127.0.0.1; HostPort 0 takes a free one.
type Port struct {
	HostIP    string `json:"hostIP"`
	HostPort  int    `json:"hostPort"`
	Container int    `json:"container"`
}

// Mount binds a host path into a container.
type Mount struct {
	Source   string
	Target   string
	ReadOnly bool
}

// Container is a container as the engine sees it.
type Container struct {
	ID       string
	Name     string
	Image    string
	ImageID  string
	Labels   map[string]string
	State    string // created, running, paused, exited, …
	Health   string // healthy, unhealthy, starting, or empty
	ExitCode int
	PID      int
	OOM      bool // killed for its memory; hosts with cgroup v1 may not tell
	Created  time.Time
	Started  time.Time
	Finished time.Time
	Ports    []Port
	IPs      map[string]string // network name → address
	MACs     map[string]string // network name → hardware address
	// Aliases are the container's further names on each of its networks, also
	// while it does not run, without those that the engine gives by itself.
	Aliases map[string][]string
}

// Endpoint is what the container has on the network at present.
func (c Container) Endpoint(network string) Endpoint {
	return Endpoint{Aliases: c.Aliases[network], IP: c.IPs[network], MAC: c.MACs[network]}
}

// Attached reports whether the container is on the network as the endpoint says.
// Addresses count
// while there are any.
func (c Container) Attached(network string, want Endpoint) bool {
	aliases, ok := c.Aliases[network]
	if !ok {
		return false
	}
	for _, alias := range want.Aliases {
		if !slices.Contains(aliases, alias) {
			return false
		}
	}
	same := func(is, want string) bool { return is == "" || want == "" || is == want }
	return same(c.IPs[network], want.IP) && same(c.MACs[network], want.MAC)
}

// FurtherNames are the aliases on a network without those that the engine gives
// by itself: the short ID, and the container's name.
func (c Container) FurtherNames(aliases []string) []string {
	return slices.DeleteFunc(slices.Clone(aliases), func(alias string) bool {
		return alias == c.Name || (len(alias) == shortID && strings.HasPrefix(c.ID, alias))
	})
}

// shortID is the length of the IDs that engines show.
const shortID = 12

// Running reports whether the container runs. A paused one does not.
func (c Container) Running() bool { return c.State == "running" }

// Paused reports whether the container is frozen. It keeps its ports.
func (c Container) Paused() bool { return c.State == "paused" }

// LogOptions selects what Logs writes.
type LogOptions struct {
	Follow     bool
	Tail       int // lines from the end; 0 means all, negative none
	Since      time.Time
	Timestamps bool
}

// ExecSpec describes a command in a running container.
type ExecSpec struct {
	Cmd    []string
	Env    map[string]string
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// Environ writes variables as engines take them, "NAME=value", sorted.
func Environ(env map[string]string) []string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

// Stats is one sample of a container's resource use.
type Stats struct {
	ID     string
	Name   string
	CPU    float64 // cores
	Memory int64   // bytes
	Limit  int64   // bytes
}

// Event is something that happened to a container.
type Event struct {
	Time     time.Time
	Action   string // start, die, remove, health_status, …
	ID       string
	Name     string
	Labels   map[string]string
	ExitCode int
}

// Volume is a named or anonymous volume.
type Volume struct {
	Name   string
	Labels map[string]string
}

// MatchLabels reports whether labels hold every one of want; an empty value
// wanted matches any value.
func MatchLabels(labels, want map[string]string) bool {
	for key, value := range want {
		got, ok := labels[key]
		if !ok || (value != "" && value != got) {
			return false
		}
	}
	return true
}
