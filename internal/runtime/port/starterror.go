package port

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/runtime"
)

// takenTexts are what engines say when somebody else listens on a port.
var takenTexts = []string{"address already in use", "port is already allocated"}

// StartError explains why the container did not start. A port that somebody
// else listens on is a conflict that names the owner.
func StartError(container string, ports []runtime.Port, err error) error {
	taken := false
	for _, text := range takenTexts {
		taken = taken || strings.Contains(err.Error(), text)
	}
	if !taken {
		return err
	}
	for _, p := range ports {
		if Free(cmp.Or(p.HostIP, "127.0.0.1"), p.HostPort) {
			continue
		}
		why := "something on this host listens on it"
		if owner, found, ownerErr := Owner(p.HostPort); found && ownerErr == nil {
			why = owner.String() + " listens on it"
		}
		return &fault.Error{
			Code:  fault.Conflict,
			What:  fmt.Sprintf("port %d for container %s is taken", p.HostPort, container),
			Why:   why,
			Try:   "end that process, or choose another port",
			Cause: err,
		}
	}
	return err
}
