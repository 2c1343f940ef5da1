//go:build bench

// Package bench measures `sandbox up` beside the same work done by hand, in one
// run on one machine. It reports what it measured next to what is aimed at; it
// fails only where something does not work.
package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	kindVersion = "v0.33.0"
	helmVersion = "v3.22.0"
	name        = "bench"
	handName    = "bench-hand"
)

// figures is what is written to artifacts/bench.json. Times are in seconds.
type figures struct {
	ByHand      []float64          `json:"byHand"`
	Up          []float64          `json:"up"`
	Unchanged   []float64          `json:"unchanged"`
	Down        []float64          `json:"down"`
	Version     []float64          `json:"version"`
	PeakMB      float64            `json:"upPeakMB"`
	HandSteps   map[string]float64 `json:"byHandSteps"`
	UpSteps     map[string]float64 `json:"upSteps"`
	LoadAverage string             `json:"loadAverageBefore"`
}

type bench struct {
	t     *testing.T
	bin   string
	tools string
	state string
	conf  string // the engine's adaptation to this machine, for the script
}

func TestSideBySide(t *testing.T) {
	b := &bench{t: t, state: t.TempDir()}
	b.setUp()
	b.cleanUp()
	t.Cleanup(b.cleanUp)

	var f figures
	load, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		t.Fatal(err)
	}
	f.LoadAverage = strings.TrimSpace(string(load))

	// Both sides once beforehand, so that both find their layers cached.
	b.up()
	b.sandbox("down", "--name", name)
	b.byHand(&f)
	b.cleanUpHand(false)
	f.ByHand, f.HandSteps = nil, nil

	for range runs() {
		b.byHand(&f)
		b.cleanUpHand(false)
		took, peak := b.up()
		f.Up = append(f.Up, took)
		f.PeakMB = max(f.PeakMB, peak)
		f.UpSteps = b.steps()
		for range 5 {
			took, _ := b.up()
			f.Unchanged = append(f.Unchanged, took)
		}
		took, _ = b.sandbox("down", "--name", name)
		f.Down = append(f.Down, took)
	}
	for range 20 {
		took, _ := b.sandbox("version")
		f.Version = append(f.Version, took)
	}
	report(t, f)
}

// runs is how many pairs are measured.
func runs() int {
	if n, err := strconv.Atoi(os.Getenv("BENCH_RUNS")); err == nil && n > 0 {
		return n
	}
	return 1
}

// setUp builds the program and the tools of the other side.
func (b *bench) setUp() {
	b.t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		b.t.Fatal(err)
	}
	b.tools = filepath.Join(cache, "sandbox", "tools", "bench-"+kindVersion+"-"+helmVersion)
	for tool, module := range map[string]string{
		"kind": "sigs.k8s.io/kind@" + kindVersion, "helm": "helm.sh/helm/v3/cmd/helm@" + helmVersion,
	} {
		if _, err := os.Stat(filepath.Join(b.tools, tool)); err == nil {
			continue
		}
		cmd := exec.Command("go", "install", module)
		cmd.Env = append(os.Environ(), "GOBIN="+b.tools)
		b.t.Logf("building %s", module)
		b.must(cmd)
	}
	if b.bin, err = filepath.Abs("../../bin/sandbox"); err != nil {
		b.t.Fatal(err)
	}
	if _, err := os.Stat(b.bin); err != nil {
		b.t.Fatalf("%v (make build)", err)
	}
}

func (b *bench) must(cmd *exec.Cmd) string {
	b.t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		b.t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

func (b *bench) command(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(b.t.Context(), b.bin, args...)
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+b.state)
	return cmd
}

// sandbox runs the program and returns the seconds it took and the most memory
// its process used, in MB, without its children.
func (b *bench) sandbox(args ...string) (seconds, peakMB float64) {
	b.t.Helper()
	cmd := b.command(args...)
	began := time.Now()
	b.must(cmd)
	took := time.Since(began)
	usage := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	return took.Seconds(), float64(usage.Maxrss) / 1024 // Linux counts in KiB
}

func (b *bench) up() (seconds, peakMB float64) {
	b.t.Helper()
	return b.sandbox("up", "web-app", "--name", name, "--ports", "auto", "--progress", "plain")
}

// byHand runs the script.
func (b *bench) byHand(f *figures) {
	b.t.Helper()
	work := b.t.TempDir()
	if b.conf == "" {
		b.conf = b.adaptation()
	}
	repo, err := filepath.Abs("../..")
	if err != nil {
		b.t.Fatal(err)
	}
	env := append(os.Environ(), "NAME="+handName, "WORK="+work, "REPO="+repo, "PATH="+b.tools+":"+os.Getenv("PATH"),
		"HOME="+work, "PROVIDERS="+b.providers())
	if b.conf != "" {
		env = append(env, "CONTAINERS_CONF="+b.conf)
	}
	for variable, image := range map[string]string{
		"NODE_IMAGE": "node", "LOCALSTACK_IMAGE": "localstack", "PROMETHEUS_IMAGE": "prometheus",
		"ALERTMANAGER_IMAGE": "alertmanager", "BASE_IMAGE": "nodejs",
	} {
		env = append(env, variable+"="+b.image(image))
	}
	for _, variable := range []string{"AWS_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT"} {
		env = append(env, fmt.Sprintf("%s=%d", variable, freePort(b.t)))
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "./by-hand.sh")
	cmd.Env = env
	began := time.Now()
	b.must(cmd)
	f.ByHand = append(f.ByHand, time.Since(began).Seconds())
	f.HandSteps = handSteps(b.t, filepath.Join(work, "steps"))
}

// adaptation returns the private containers.conf that sandbox wrote for this
// machine, so that both sides run on the same engine. Empty where none is needed.
func (b *bench) adaptation() string {
	path := filepath.Join(b.state, "containers.conf")
	found, err := filepath.Glob(filepath.Join(b.state, "sandbox", name, "engine", "containers.conf"))
	if err != nil {
		b.t.Fatal(err)
	}
	if len(found) == 0 { // the sandbox is down: make one again
		b.up()
		defer b.sandbox("down", "--name", name)
		if found, err = filepath.Glob(filepath.Join(b.state, "sandbox", name, "engine", "containers.conf")); err != nil {
			b.t.Fatal(err)
		}
		if len(found) == 0 {
			return ""
		}
	}
	data, err := os.ReadFile(found[0])
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		b.t.Fatal(err)
	}
	return path
}

// image is the reference of a platform image in the engine's store.
func (b *bench) image(of string) string {
	b.t.Helper()
	var list []struct{ Name, Ref string }
	if err := json.Unmarshal([]byte(b.must(b.command("images", "list", "-o", "json"))), &list); err != nil {
		b.t.Fatal(err)
	}
	for _, i := range list {
		if i.Name == of {
			return i.Ref
		}
	}
	b.t.Fatalf("no platform image %s", of)
	return ""
}

func (b *bench) providers() string {
	b.t.Helper()
	var list []struct{ Path string }
	out := b.must(b.command("images", "build", "terraform-provider-aws", "-q", "-o", "json"))
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
		b.t.Fatalf("path of the providers: %v\n%s", err, out)
	}
	return list[0].Path
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// handSteps reads the begin of each step of the script.
func handSteps(t *testing.T, path string) map[string]float64 {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	took := map[string]float64{}
	var last string
	var since float64
	for line := range strings.Lines(string(data)) {
		at, step, _ := strings.Cut(strings.TrimSpace(line), " ")
		now, err := strconv.ParseFloat(at, 64)
		if err != nil {
			t.Fatal(err)
		}
		if last != "" {
			took[last] = now - since
		}
		last, since = step, now
	}
	return took
}

// steps reads how long each step of the last recorded run took.
func (b *bench) steps() map[string]float64 {
	b.t.Helper()
	f, err := os.Open(filepath.Join(b.state, "sandbox", name, "events.jsonl"))
	if err != nil {
		b.t.Fatal(err)
	}
	defer f.Close()
	took := map[string]float64{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e struct {
			StepFinished *struct {
				ID      string
				Elapsed time.Duration `json:"elapsedNs"`
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			b.t.Fatal(err)
		}
		if e.StepFinished != nil {
			took[e.StepFinished.ID] = e.StepFinished.Elapsed.Seconds()
		}
	}
	if err := lines.Err(); err != nil {
		b.t.Fatal(err)
	}
	return took
}

// cleanUp removes what either side has left, by label.
func (b *bench) cleanUp() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, n := range []string{name, handName} {
		cmd := exec.CommandContext(ctx, b.bin, "down", "--name", n, "--images")
		cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+b.state)
		if out, err := cmd.CombinedOutput(); err != nil {
			b.t.Errorf("down %s: %v\n%s", n, err, out)
		}
	}
	b.cleanUpHand(true)
}

// cleanUpHand removes what the script made. Its cluster has a name of kind's.
func (b *bench) cleanUpHand(images bool) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	script := `podman ps -aq --filter label=sandbox.name=` + handName + ` --filter label=io.x-k8s.kind.cluster=` + handName + `
podman ps -aq --filter label=sandbox.name=` + handName + ` | xargs -r podman rm -f -v -t 0
podman ps -aq --filter label=io.x-k8s.kind.cluster=` + handName + ` | xargs -r podman rm -f -v -t 0
podman network ls -q --filter label=sandbox.name=` + handName + ` | xargs -r podman network rm`
	if images {
		script += "\npodman images -q --filter label=sandbox.name=" + handName + " | xargs -r podman rmi -f"
	}
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Env = os.Environ()
	if b.conf != "" {
		cmd.Env = append(cmd.Env, "CONTAINERS_CONF="+b.conf)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		b.t.Errorf("clean up: %v\n%s", err, out)
	}
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// report prints the table and keeps the figures.
func report(t *testing.T, f figures) {
	t.Helper()
	hand, up := median(f.ByHand), median(f.Up)
	t.Logf("%d pairs; load average before: %s", len(f.Up), f.LoadAverage)
	for _, row := range []struct{ what, measured, aim string }{
		{"by hand, in sequence", fmt.Sprintf("%.1f s", hand), ""},
		{"sandbox up", fmt.Sprintf("%.1f s", up), ""},
		{"ratio", fmt.Sprintf("%.2f", up/hand), "≤ 0.60"},
		{"up, unchanged", fmt.Sprintf("%.2f s", median(f.Unchanged)), "≤ 2 s"},
		{"down", fmt.Sprintf("%.1f s", median(f.Down)), "≤ 15 s"},
		{"version", fmt.Sprintf("%.0f ms", 1000*median(f.Version)), "≤ 50 ms"},
		{"peak memory of up", fmt.Sprintf("%.0f MB", f.PeakMB), "≤ 150 MB"},
	} {
		t.Logf("%-22s %10s   %s", row.what, row.measured, row.aim)
	}
	t.Logf("steps by hand: %s", formatSteps(f.HandSteps))
	t.Logf("steps of up:   %s", formatSteps(f.UpSteps))
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join("..", "..", "artifacts")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bench.json"), data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func formatSteps(steps map[string]float64) string {
	names := make([]string, 0, len(steps))
	for n := range steps {
		names = append(names, n)
	}
	slices.SortFunc(names, func(a, b string) int { return int(1000 * (steps[b] - steps[a])) })
	var out []string
	for _, n := range names {
		if steps[n] >= 0.5 {
			out = append(out, fmt.Sprintf("%s %.1f", n, steps[n]))
		}
	}
	return strings.Join(out, ", ")
}
