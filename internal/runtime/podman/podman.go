// Package podman serves runtime.Runtime through Podman's REST API.
//
// The connection, its versioning and its errors come from Podman's own
// bindings. The answers are read into small structs of this package: they name
// the few fields that sandbox needs, so that servers from 4.3 on, whose other
// fields changed type over time, are read alike; and the packages below
// pkg/bindings with their several hundred dependencies stay out of the program.
package podman

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"syscall"

	"go.podman.io/podman/v6/pkg/bindings"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// Options configure Open.
type Options struct {
	// StateDir is a private directory (0700) for the adapted containers.conf,
	// the private socket and the log of the private service.
	StateDir string
	// Socket is the path of the API socket to use; empty finds one.
	Socket string
	// Log takes notes on what Open decided; nil discards them.
	Log *slog.Logger
}

// Runtime is Podman.
type Runtime struct {
	binary  string // the podman command
	conn    *bindings.Connection
	socket  string
	chosen  bool // the user chose the socket; its store may not be the command's
	version string
	service *service     // nil where somebody else's service is used
	restore func() error // undoes the adaptation; nil where there is none

	mu      sync.Mutex
	samples map[string]sample // the last Stats of each container ID
}

var _ runtime.Runtime = (*Runtime)(nil)

// Open connects to Podman: to opt.Socket, to the socket that CONTAINER_HOST
// names, or to the user's or the system's socket. Where none of these answers,
// or where this machine needs settings that a running service does not have,
// it starts an API service of its own, which ends with Close and at the latest
// with this process.
//
// Needed settings are written to a private containers.conf, and the environment
// variable CONTAINERS_CONF of this process is pointed to it, because other
// libraries (kind) run the podman command. Close undoes it; Runtimes that are open
// at the same time are to be closed in the opposite order.
func Open(ctx context.Context, opt Options) (*Runtime, error) {
	if opt.Log == nil {
		opt.Log = slog.New(slog.DiscardHandler)
	}
	binary, err := findBinary()
	if err != nil {
		return nil, err
	}
	restore, err := adapt(opt.StateDir, thisMachine(), opt.Log)
	if err != nil {
		return nil, err
	}
	r, err := open(ctx, binary, restore != nil, opt)
	if err != nil {
		if restore != nil {
			err = errors.Join(err, restore())
		}
		return nil, err
	}
	r.restore = restore
	return r, nil
}

// open finds a service that answers, or starts one.
func open(ctx context.Context, binary string, adapted bool, opt Options) (*Runtime, error) {
	socket, err := explicitSocket(opt.Socket)
	if err != nil {
		return nil, err
	}
	if socket != "" {
		r, err := connect(ctx, binary, socket)
		if err != nil {
			return nil, unreachable(socket, err)
		}
		r.chosen = true
		opt.Log.Debug("podman: using the given socket", "socket", socket)
		return r, nil
	}
	if !adapted {
		for _, socket := range defaultSockets() {
			if _, err := os.Stat(socket); err != nil {
				continue // the bindings would retry for a while
			}
			r, err := connect(ctx, binary, socket)
			if err == nil {
				opt.Log.Debug("podman: using a running service", "socket", socket)
				return r, nil
			}
			opt.Log.Debug("podman: no service", "socket", socket, "error", err)
		}
	}
	svc, err := startService(ctx, binary, opt.StateDir)
	if err != nil {
		return nil, err
	}
	r, err := connect(ctx, binary, svc.socket)
	if err != nil {
		return nil, fmt.Errorf("connect to the Podman service just started: %w", errors.Join(err, svc.close()))
	}
	r.service = svc
	opt.Log.Debug("podman: started a private service", "socket", svc.socket, "pid", svc.PID())
	return r, nil
}

// connect opens a connection to the service behind socket and asks for its
// version.
func connect(ctx context.Context, binary, socket string) (*Runtime, error) {
	conn, version, err := dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	return &Runtime{binary: binary, conn: conn, socket: socket, version: version, samples: map[string]sample{}}, nil
}

// Close ends the private service, where there is one, and gives CONTAINERS_CONF
// back its value. What was created stays.
func (r *Runtime) Close() error {
	r.conn.Client.CloseIdleConnections()
	var errs []error
	if r.service != nil {
		errs = append(errs, r.service.close())
	}
	if r.restore != nil {
		errs = append(errs, r.restore())
	}
	return errors.Join(errs...)
}

// Info describes the engine. It does not ask for Podman's own description,
// whose making takes half a second: it has the package manager look up the
// versions of all parts.
func (r *Runtime) Info(ctx context.Context) (runtime.Info, error) {
	if err := r.get(ctx, "/_ping", nil, nil); err != nil {
		return runtime.Info{}, fmt.Errorf("describe the engine: %w", err)
	}
	// The socket belongs to the user whose containers these are.
	socket, err := os.Stat(r.socket)
	if err != nil {
		return runtime.Info{}, fmt.Errorf("describe the engine: %w", err)
	}
	owner, known := socket.Sys().(*syscall.Stat_t)
	info := runtime.Info{
		Engine:        "podman",
		Version:       r.version,
		Rootless:      known && owner.Uid != 0,
		CgroupVersion: 2,
		Socket:        r.socket,
	}
	if thisMachine().cgroupV1 {
		info.CgroupVersion = 1
	}
	return info, nil
}
