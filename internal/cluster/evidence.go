package cluster

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/sandbox-stack/sandbox/internal/runtime"
)

const (
	// evidenceLines is how much of each log goes into a fault.
	evidenceLines = 15
	// evidenceTimeout bounds the collection on a node that hangs.
	evidenceTimeout = 10 * time.Second
	// killed is the exit code after SIGKILL. Engines on cgroup v1 do not tell
	// whether that was for want of memory.
	killed = 137
)

// evidence returns, for each node, the end of what its kubelet logged or,
// where the node does not run, of what the container itself wrote. It is
// collected for an error that is being reported already, so what cannot be
// collected is said in place of the lines.
func (c *Cluster) evidence(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, evidenceTimeout)
	defer cancel()
	nodes, err := c.nodes(ctx)
	if err != nil {
		return []string{err.Error()}
	}
	var lines []string
	for _, n := range nodes {
		source, logs := c.nodeLog(ctx, n)
		for _, l := range logs {
			lines = append(lines, fmt.Sprintf("%s %s: %s", n.Name, source, l))
		}
	}
	return lines
}

// nodeLog is the end of the log that tells most about the node's state.
func (c *Cluster) nodeLog(ctx context.Context, n runtime.Container) (source string, lines []string) {
	var out bytes.Buffer
	if n.Running() {
		code, err := c.rt.Exec(ctx, n.ID, runtime.ExecSpec{
			Cmd:    []string{"journalctl", "--no-pager", "--output=cat", "-u", "kubelet", "-n", fmt.Sprint(evidenceLines)},
			Stdout: &out, Stderr: &out,
		})
		if err == nil && code == 0 && out.Len() > 0 {
			return "kubelet", tail(out.String(), evidenceLines)
		}
		out.Reset()
	}
	if err := c.rt.Logs(ctx, n.ID, runtime.LogOptions{Tail: evidenceLines}, &out); err != nil {
		return "log", []string{"could not be read: " + err.Error()}
	}
	if !n.Running() {
		fmt.Fprintf(&out, "\n%s", exitReason(n))
	}
	return "log", tail(out.String(), evidenceLines+1)
}

// exitReason says how a container that does not run came to be so.
func exitReason(n runtime.Container) string {
	switch {
	case n.OOM:
		return fmt.Sprintf("node container is %s: it ran out of memory", n.State)
	case n.State == "exited" && n.ExitCode == killed:
		return "node container was killed, perhaps for want of memory"
	case n.State == "exited":
		return fmt.Sprintf("node container exited with code %d", n.ExitCode)
	}
	return "node container is " + n.State
}
