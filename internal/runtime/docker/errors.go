package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/client"
	"github.com/moby/moby/client/pkg/versions"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
	"github.com/sandbox-stack/sandbox/internal/runtime/install"
)

const (
	// patience is how long a daemon may take to say that it is there.
	patience = 5 * time.Second
	// oldestAPI is that of Docker 20.10: before it, the builder knows no mounts.
	oldestAPI = "1.41"
)

// ErrPodman says that Podman answers where Docker was looked for.
var ErrPodman = errors.New("it is Podman")

// greet asks the daemon who it is, agrees on a version of the API with it, and
// returns the daemon's version.
func greet(ctx context.Context, api *client.Client, opt Options) (string, error) {
	host, limit := opt.Host, cmp.Or(opt.Patience, patience)
	asked, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := knock(asked, host); err != nil {
		return "", cannotReach(ctx, host, limit, err)
	}
	ping, err := api.Ping(asked, client.PingOptions{})
	if err != nil {
		return "", cannotReach(ctx, host, limit, err)
	}
	if ping.APIVersion != "" && versions.LessThan(ping.APIVersion, oldestAPI) {
		return "", fault.New(fault.Unavailable, "Docker is too old",
			fmt.Sprintf("it serves API %s, and sandbox needs %s, which is Docker 20.10, or newer", ping.APIVersion, oldestAPI),
			"update Docker, or use Podman: sandbox up --runtime podman")
	}
	if ping.OSType != "" && ping.OSType != "linux" {
		return "", fault.New(fault.Unavailable, "Docker runs "+ping.OSType+" containers",
			"a sandbox consists of Linux containers", "switch Docker to Linux containers")
	}
	server, err := api.ServerVersion(asked, client.ServerVersionOptions{})
	if err != nil {
		return "", cannotReach(ctx, host, limit, err)
	}
	for _, c := range server.Components {
		if c.Name == "Podman Engine" {
			return "", &fault.Error{
				Code: fault.Unavailable, What: "what answers as Docker on " + redacted(host) + " is Podman",
				Why: "sandbox speaks with Podman in Podman's own way", Try: "sandbox up --runtime podman", Cause: ErrPodman,
			}
		}
	}
	return server.Version, nil
}

// knock opens and closes a connection: unlike the client's, its error tells why
// that fails.
func knock(ctx context.Context, host string) error {
	path, local := strings.CutPrefix(host, "unix://")
	if !local {
		return nil
	}
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "unix", path)
	if err != nil {
		return err
	}
	return conn.Close()
}

// cannotReach explains why the daemon could not be spoken to.
func cannotReach(ctx context.Context, host string, limit time.Duration, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	where := redacted(host)
	start := install.Sudo("systemctl start docker")
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return &fault.Error{
			Code: fault.Unavailable, What: "Docker does not answer on " + where,
			Why: fmt.Sprintf("it took the connection and said nothing for %s", limit),
			Try: install.Sudo("systemctl restart docker"), Cause: err,
		}
	case errors.Is(err, fs.ErrPermission):
		return &fault.Error{
			Code: fault.Unavailable, What: "no permission to use Docker on " + where,
			Why: "its socket is for root and the group docker", Cause: err,
			Try: "sudo usermod -aG docker \"$USER\", then log in again",
		}
	case errors.Is(err, fs.ErrNotExist):
		if _, lookErr := exec.LookPath("dockerd"); lookErr != nil && host == DefaultHost {
			return &fault.Error{
				Code: fault.Unavailable, What: "Docker is not installed, or does not run",
				Why: "there is no socket " + where + " and no dockerd command", Cause: err,
				Try: install.Command("docker.io"),
			}
		}
		return &fault.Error{
			Code: fault.Unavailable, What: "Docker does not run", Why: "there is no socket " + where, Try: start, Cause: err,
		}
	case errors.Is(err, syscall.ECONNREFUSED):
		return &fault.Error{
			Code: fault.Unavailable, What: "Docker does not run",
			Why: "its socket " + where + " is there, but nothing listens on it", Try: start, Cause: err,
		}
	}
	return fault.Wrap(fault.Unavailable, err, start, "Docker can't be reached on %s", where)
}

func badHost(host string, err error) error {
	return fault.Wrap(fault.Invalid, err, "unset DOCKER_HOST", "Docker's address %q can't be used", redacted(host))
}

// redacted is the address for people: a path, or a URL without a password.
func redacted(host string) string {
	if path, local := strings.CutPrefix(host, "unix://"); local {
		return path
	}
	u, err := url.Parse(host)
	if err != nil {
		return "its address"
	}
	return u.Redacted()
}

// apiError makes what the API says recognizable: what is not there is
// runtime.ErrNotFound, and a call that was given up is why it was.
func apiError(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err()
	case errdefs.IsNotFound(err):
		return fmt.Errorf("%w: %s", runtime.ErrNotFound, said(err))
	case client.IsErrConnectionFailed(err):
		return fault.Wrap(fault.Unavailable, err, "docker info", "the connection to Docker is lost")
	}
	return errors.New(said(err))
}

// said is the daemon's text without what the client puts before it.
func said(err error) string {
	return strings.TrimPrefix(err.Error(), "Error response from daemon: ")
}

// byName sorts by the name that f returns.
func byName[T any](items []T, f func(T) string) {
	slices.SortFunc(items, func(a, b T) int { return cmp.Compare(f(a), f(b)) })
}
