package podman

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime/port"
)

// startError explains why a container did not start. A port that somebody else
// listens on is a conflict that names the owner.
func startError(c inspected, err error) error {
	err = fmt.Errorf("start container %q: %w", c.Name, err)
	if !strings.Contains(err.Error(), "address already in use") {
		return err
	}
	for _, p := range c.ports() {
		if port.Free(cmp.Or(p.HostIP, "127.0.0.1"), p.HostPort) {
			continue
		}
		why := "something on this host listens on it"
		if owner, found, ownerErr := port.Owner(p.HostPort); found && ownerErr == nil {
			why = owner.String() + " listens on it"
		}
		return &fault.Error{
			Code:  fault.Conflict,
			What:  fmt.Sprintf("port %d for container %s is taken", p.HostPort, c.Name),
			Why:   why,
			Try:   "end that process, or choose another port",
			Cause: err,
		}
	}
	return err
}
