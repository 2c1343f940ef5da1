package podman

import (
	"errors"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime/install"
)

// findBinary returns the path of the podman command.
func findBinary() (string, error) {
	path, err := exec.LookPath("podman")
	if err != nil {
		return "", &fault.Error{
			Code:  fault.Unavailable,
			What:  "Podman is not installed",
			Why:   "no podman command is on the PATH",
			Try:   install.Command("podman"),
			Cause: err,
		}
	}
	return path, nil
}

// explicitSocket returns the path of the socket that the caller or, failing
// that, CONTAINER_HOST names, or "" where neither does.
func explicitSocket(option string) (string, error) {
	if option != "" {
		return strings.TrimPrefix(option, "unix://"), nil
	}
	host := os.Getenv("CONTAINER_HOST")
	if host == "" {
		return "", nil
	}
	u, err := url.Parse(host)
	if err != nil {
		return "", fault.Wrap(fault.Unavailable, err, "unset CONTAINER_HOST", "CONTAINER_HOST %q is not a URL", host)
	}
	if u.Scheme != "unix" {
		return "", fault.New(fault.Unavailable,
			"CONTAINER_HOST points to another machine ("+u.Redacted()+")",
			"a sandbox publishes its ports on 127.0.0.1 and mounts local files, so its engine has to be local",
			"unset CONTAINER_HOST")
	}
	return u.Host + u.Path, nil
}

// defaultSockets lists where this user's service, or for root the system's,
// listens. Another user's service would keep its containers in another store
// than the podman command does.
func defaultSockets() []string {
	if os.Geteuid() == 0 {
		return []string{"/run/podman/podman.sock"}
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		return []string{filepath.Join(dir, "podman", "podman.sock")}
	}
	return nil
}

// unreachable says that the socket that the user chose does not answer.
func unreachable(socket string, err error) error {
	if errors.Is(err, errSilent) {
		return fault.Wrap(fault.Unavailable, err, "end the service behind it, or unset CONTAINER_HOST: sandbox starts one of its own",
			"Podman does not answer on %s", socket)
	}
	return fault.Wrap(fault.Unavailable, err,
		"podman system service --time=0 unix://"+socket,
		"Podman does not answer on %s", socket)
}
