//go:build bench

package bench

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"testing"
	"time"
)

const (
	upName         = "bench-up"
	upStack        = "web-app"
	unchangedRuns  = 5
	versionRuns    = 20
	targetRatio    = 0.6
	targetAgain    = 2.0   // seconds
	targetDown     = 15.0  // seconds
	targetVersion  = 0.050 // seconds
	targetMemoryMB = 150.0
)

func TestSpeed(t *testing.T) {
	p := newProgram(t)
	removeSandbox := func() { p.must("down", "--name", upName, "--images", "--progress", "quiet") }
	removeSandbox()
	removeByHand(t)
	t.Cleanup(func() {
		removeSandbox()
		removeByHand(t)
	})

	rep := report{CPUs: runtime.NumCPU(), At: time.Now().UTC()}
	up := func() run {
		return p.must("up", upStack, "--name", upName, "--ports", "auto", "--progress", "plain")
	}

	t.Log("first up, which fills the caches of both sides")
	rep.FirstUp = up().wall.Seconds()
	script := newByHand(t, p, upName)
	removeSandbox()

	byHandSide := func() (busy string) {
		busy = busyCPUs(t)
		byHand, steps := script.run()
		script.remove()
		rep.ByHand, rep.ByHandSteps = append(rep.ByHand, byHand.wall.Seconds()), steps
		return busy
	}
	upSide := func() (busy string) {
		busy = busyCPUs(t)
		made := up()
		rep.Up, rep.PeakMB = append(rep.Up, made.wall.Seconds()), append(rep.PeakMB, float64(made.peak)/1e6)
		rep.UpSteps = recordedSteps(t, filepath.Join(p.state, "sandbox", upName, "events.jsonl"))
		for range unchangedRuns {
			rep.Unchanged = append(rep.Unchanged, up().wall.Seconds())
		}
		rep.Down = append(rep.Down, p.must("down", "--name", upName, "--progress", "quiet").wall.Seconds())
		removeSandbox() // the image of the app as well: the script has to build it, too
		return busy
	}
	for i := range pairs(t) {
		pair := pairInfo{UpFirst: i%2 == 1} // in turn, so that going first favours neither
		t.Logf("pair %d of the script and sandbox up", i+1)
		if pair.UpFirst {
			pair.BusyUp = upSide()
			pair.BusyByHand = byHandSide()
		} else {
			pair.BusyByHand = byHandSide()
			pair.BusyUp = upSide()
		}
		rep.Pairs = append(rep.Pairs, pair)
	}
	for range versionRuns {
		rep.Version = append(rep.Version, p.must("version").wall.Seconds())
	}

	rep.summarize()
	t.Log("\n" + rep.table())
	writeReport(t, rep)
}

func pairs(t *testing.T) int {
	t.Helper()
	text := os.Getenv("BENCH_RUNS")
	if text == "" {
		return 1
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		t.Fatalf("BENCH_RUNS=%q is not a number from 1 on", text)
	}
	return n
}

// recordedSteps reads the timeline of the last run of a sandbox.
func recordedSteps(t *testing.T, file string) []stepTime {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() // only read from
	steps, err := timeline(f)
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

func writeReport(t *testing.T, rep report) {
	t.Helper()
	text, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(repo, "artifacts")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bench.json"), append(text, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}
