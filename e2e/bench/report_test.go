//go:build bench

package bench

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// report is what one benchmark measured. Durations are in seconds.
type report struct {
	At      time.Time `json:"at"`
	CPUs    int       `json:"cpus"`
	Figures []figure  `json:"figures"`

	FirstUp   float64    `json:"firstUp"`
	ByHand    []float64  `json:"byHand"`
	Up        []float64  `json:"up"`
	Pairs     []pairInfo `json:"pairs"` // of byHand and up each
	Unchanged []float64  `json:"upUnchanged"`
	Down      []float64  `json:"down"`
	Version   []float64  `json:"version"`
	PeakMB    []float64  `json:"peakMB"` // of the process in up, without its children

	ByHandSteps []stepTime `json:"byHandSteps"` // of the last run
	UpSteps     []stepTime `json:"upSteps"`     // of the last run
}

// pairInfo is under what conditions a pair was measured: how many CPUs
// something else kept busy just before each side, and which side came first.
// Where something else was at work, the pair says little.
type pairInfo struct {
	BusyByHand string `json:"busyByHand"`
	BusyUp     string `json:"busyUp"`
	UpFirst    bool   `json:"upFirst"`
}

// figure is one measured value beside its target; a target of 0 means none.
type figure struct {
	Name     string  `json:"name"`
	Measured float64 `json:"measured"`
	Target   float64 `json:"target,omitempty"`
	Unit     string  `json:"unit"`
	Of       string  `json:"of"` // how the value comes from what was measured
}

func (r *report) summarize() {
	byHand, up := median(r.ByHand), median(r.Up)
	of := func(values []float64) string { return fmt.Sprintf("median of %d", len(values)) }
	r.Figures = []figure{
		{Name: "by hand", Measured: byHand, Unit: "s", Of: of(r.ByHand)},
		{Name: "sandbox up", Measured: up, Unit: "s", Of: of(r.Up)},
		{Name: "sandbox up / by hand", Measured: up / byHand, Target: targetRatio, Of: "ratio of the two"},
		{Name: "sandbox up, unchanged", Measured: median(r.Unchanged), Target: targetAgain, Unit: "s", Of: of(r.Unchanged)},
		{Name: "sandbox down", Measured: median(r.Down), Target: targetDown, Unit: "s", Of: of(r.Down)},
		{Name: "sandbox version", Measured: median(r.Version), Target: targetVersion, Unit: "s", Of: of(r.Version)},
	}
	if peak := slices.Max(r.PeakMB); peak > 0 {
		r.Figures = append(r.Figures, figure{
			Name: "memory of sandbox up", Measured: peak, Target: targetMemoryMB, Unit: "MB", Of: fmt.Sprintf("highest peak of %d", len(r.PeakMB)),
		})
	}
}

// table draws the figures, and where the time went on both sides.
func (r *report) table() string {
	var out strings.Builder
	fmt.Fprintf(&out, "%d CPUs\n", r.CPUs)
	for i, p := range r.Pairs {
		first := "by hand"
		if p.UpFirst {
			first = "sandbox up"
		}
		fmt.Fprintf(&out, "pair %d: %.1f s by hand (CPUs busy before it %s), %.1f s sandbox up (%s), ratio %.2f, first %s\n",
			i+1, r.ByHand[i], p.BusyByHand, r.Up[i], p.BusyUp, r.Up[i]/r.ByHand[i], first)
	}
	fmt.Fprintln(&out)
	w := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "WHAT\tMEASURED\tTARGET\tMET\t")
	for _, f := range r.Figures {
		target, met := "", ""
		if f.Target > 0 {
			target, met = strings.TrimSpace(fmt.Sprintf("≤ %g %s", f.Target, f.Unit)), "no"
			if f.Measured <= f.Target {
				met = "yes"
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", f.Name, strings.TrimSpace(fmt.Sprintf("%.3g %s", f.Measured, f.Unit)), target, met, f.Of)
	}
	fmt.Fprintln(w, "\nBY HAND\tBEGAN\tTOOK\t\t")
	for _, s := range r.ByHandSteps {
		fmt.Fprintf(w, "%s\t%.1f s\t%.1f s\t\t\n", s.ID, s.Start, s.Seconds)
	}
	fmt.Fprintln(w, "\nSANDBOX UP\tBEGAN\tTOOK\tCRITICAL PATH\t")
	for _, s := range r.UpSteps {
		critical := ""
		if s.Critical {
			critical = "yes"
		}
		fmt.Fprintf(w, "%s\t%.1f s\t%.1f s\t%s\t%s\n", s.ID, s.Start, s.Seconds, critical, s.Outcome)
	}
	_ = w.Flush() // a strings.Builder takes everything
	return out.String()
}

// median is the middle of the values, or the mean of the two in the middle.
func median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	return (v[(n-1)/2] + v[n/2]) / 2
}

func TestReportPutsTargetsBesideWhatWasMeasured(t *testing.T) {
	r := report{
		ByHand: []float64{100, 300, 200}, Up: []float64{90, 110}, Unchanged: []float64{2.5}, Down: []float64{9},
		Version: []float64{0.02, 0.04}, PeakMB: []float64{80, 120}, Pairs: []pairInfo{{BusyByHand: "0.50", BusyUp: "1.75"}, {BusyByHand: "?", BusyUp: "0.00", UpFirst: true}},
	}
	r.summarize()
	got := strings.Join(strings.Fields(r.table()), " ")
	for _, want := range []string{
		"pair 1: 100.0 s by hand (CPUs busy before it 0.50), 90.0 s sandbox up (1.75), ratio 0.90, first by hand",
		"pair 2: 300.0 s by hand (CPUs busy before it ?), 110.0 s sandbox up (0.00), ratio 0.37, first sandbox up",
		"by hand 200 s median of 3",
		"sandbox up / by hand 0.5 ≤ 0.6 yes",
		"sandbox up, unchanged 2.5 s ≤ 2 s no",
		"sandbox version 0.03 s ≤ 0.05 s yes",
		"memory of sandbox up 120 MB ≤ 150 MB yes",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in:\n%s", want, r.table())
		}
	}
}
