//go:build bench

package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/e2e/terminal"
)

const (
	dashboardName = "bench-dashboard"
	firstFrames   = 10
	faults        = 5
	idleTime      = time.Minute
	// settling is left to the informers and the first looks before it counts as
	// idle.
	settling   = 20 * time.Second
	allWell    = "all components are well"
	loadTime   = 10 * time.Second
	keyPresses = 40
)

// dashboardReport is what the dashboard costs and how fast it is.
type dashboardReport struct {
	At         time.Time `json:"at"`
	Busy       string    `json:"busy"` // what else used the CPUs, before
	FirstFrame []float64 `json:"firstFrame"`
	IdleCPU    float64   `json:"idleCPU"`    // percent of a core
	EngineCPU  float64   `json:"engineCPU"`  // of the engine's service that it has started
	IdleMB     float64   `json:"idleMB"`     // resident, at the end of the idle time
	Faults     []float64 `json:"faults"`     // from the fault to the first frame that shows it
	Keys       []float64 `json:"keysOnLoad"` // from a key to its effect, under load
}

// TestDashboard measures the dashboard on a real stack.
func TestDashboard(t *testing.T) {
	p := newProgram(t)
	down := func() { p.must("down", "--name", dashboardName, "--images", "--progress", "quiet") }
	down()
	t.Cleanup(down)
	p.must("up", upStack, "--name", dashboardName, "--ports", "auto", "--progress", "plain")
	rep := dashboardReport{At: time.Now().UTC(), Busy: busyCPUs(t)}

	for range firstFrames {
		began := time.Now()
		d := p.dashboard()
		d.Shows("Components")
		rep.FirstFrame = append(rep.FirstFrame, time.Since(began).Seconds())
		d.Type("q")
		d.EndsWith(0)
	}

	d := p.dashboard()
	d.Until(2*time.Minute, "a stack that is well", func(s string) bool { return strings.Contains(s, allWell) })
	<-time.After(settling)
	service := children(t, d.PID())
	before, engineBefore := usedCPU(t, d.PID()), usedCPU(t, service...)
	<-time.After(idleTime)
	rep.IdleCPU = 100 * (usedCPU(t, d.PID()) - before).Seconds() / idleTime.Seconds()
	rep.EngineCPU = 100 * (usedCPU(t, service...) - engineBefore).Seconds() / idleTime.Seconds()
	rep.IdleMB = residentMB(t, d.PID())

	for range faults {
		// The newest: one that was deleted before may still be on its way out.
		pods := strings.Fields(p.must("exec", "--name", dashboardName, "--", "kubectl", "-n", "production", "get", "pods",
			"-l", "app.kubernetes.io/instance=web-app", "--sort-by", ".metadata.creationTimestamp", "-o", "name").stdout)
		pod := pods[len(pods)-1]
		// In the background, as a new pod may be ready before kubectl returns. So
		// its start counts as well.
		began := time.Now()
		deletion := exec.CommandContext(t.Context(), binary, "exec", "--name", dashboardName, "--",
			"kubectl", "-n", "production", "delete", pod, "--wait=false")
		deletion.Env = p.env
		if err := deletion.Start(); err != nil {
			t.Fatal(err)
		}
		d.Until(30*time.Second, "the fault", func(s string) bool { return !strings.Contains(s, allWell) })
		rep.Faults = append(rep.Faults, time.Since(began).Seconds())
		if err := deletion.Wait(); err != nil {
			t.Fatal(err)
		}
		d.Until(2*time.Minute, "recovery", func(s string) bool { return strings.Contains(s, allWell) })
	}
	d.Type("q")
	d.EndsWith(0)
	rep.Keys = keysOnLoad(t)

	t.Log("\n" + rep.table())
	text, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(repo, "artifacts")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bench-dashboard.json"), append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (p *program) dashboard() *terminal.Terminal {
	p.t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(p.t.Context()), binary, "--name", dashboardName)
	cmd.Env = p.env
	return terminal.Start(p.t, 120, 40, cmd)
}

// keysOnLoad measures how long the dashboard takes to follow a key while 1,000
// events and 5,000 log lines come in each second: this test program itself,
// started again, is the source.
func keysOnLoad(t *testing.T) []float64 {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), self)
	cmd.Env = append(os.Environ(), loadVariable+"=1")
	d := terminal.Start(t, 120, 40, cmd)
	d.Shows("Components")
	var took []float64
	for i := range keyPresses {
		key, want := "3", "[3 Logs]"
		if i%2 == 1 {
			key, want = "1", "[1 Overview]"
		}
		began := time.Now()
		d.Type(key)
		d.Shows(want)
		took = append(took, time.Since(began).Seconds())
		<-time.After(loadTime / keyPresses)
	}
	d.Type("\x03")
	d.EndsWith(0)
	return took
}

func (r dashboardReport) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "other load before: %s\n", r.Busy)
	fmt.Fprintf(&b, "%-46s %8.0f ms   (aim 200)\n", "first frame after start, median", 1000*median(r.FirstFrame))
	fmt.Fprintf(&b, "%-46s %8.2f %%    (aim 1)\n", "idle on a healthy stack, of a core", r.IdleCPU)
	fmt.Fprintf(&b, "%-46s %8.2f %%\n", "the engine's service meanwhile", r.EngineCPU)
	fmt.Fprintf(&b, "%-46s %8.0f MB   (aim 80)\n", "memory", r.IdleMB)
	fmt.Fprintf(&b, "%-46s %8.2f s    (aim 2), longest %.2f\n", "fault to the first frame that shows it, median", median(r.Faults), slices.Max(r.Faults))
	fmt.Fprintf(&b, "%-46s %8.0f ms   (aim 100), longest %.0f\n", "key to its effect under load, median", 1000*median(r.Keys), 1000*slices.Max(r.Keys))
	return b.String()
}

// ticks of the kernel's clock in a second, USER_HZ.
const ticks = 100

// usedCPU is what processes have used so far.
func usedCPU(t *testing.T, pids ...int) time.Duration {
	t.Helper()
	var sum time.Duration
	for _, pid := range pids {
		fields := statFields(t, pid)
		for _, i := range []int{11, 12} { // utime, stime, counted from the state
			n, err := strconv.ParseInt(fields[i], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			sum += time.Duration(n) * time.Second / ticks
		}
	}
	return sum
}

// statFields are the fields of a process' stat behind its name.
func statFields(t *testing.T, pid int) []string {
	t.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Fields(string(data[strings.LastIndexByte(string(data), ')')+1:]))
}

// children are the processes that a process has started.
func children(t *testing.T, pid int) []int {
	t.Helper()
	data, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	if err != nil {
		t.Fatal(err)
	}
	var list []int
	for _, file := range data {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		for _, f := range strings.Fields(string(text)) {
			n, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			list = append(list, n)
		}
	}
	return list
}

// residentMB is the memory of a process, in MB.
func residentMB(t *testing.T, pid int) float64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmRSS:")
	kb, err := strconv.ParseFloat(strings.Fields(rest)[0], 64)
	if err != nil {
		t.Fatal(err)
	}
	return kb * 1024 / 1e6
}
