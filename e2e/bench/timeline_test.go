//go:build bench

package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// stepTime is when a step ran, in seconds since the run began.
type stepTime struct {
	ID       string  `json:"id"`
	Start    float64 `json:"start"`
	Seconds  float64 `json:"seconds"`
	Outcome  string  `json:"outcome,omitempty"`
	Critical bool    `json:"critical"` // the run would have been shorter without it

	after []string
}

func (s stepTime) end() float64 { return s.Start + s.Seconds }

// timeline reads the steps of the last run in a stream of events, in the order
// in which they began, with the critical path marked.
func timeline(r io.Reader) ([]stepTime, error) {
	var began time.Time
	var order []string
	var byID map[string]*stepTime
	for e, err := range event.Read(r) {
		if err != nil {
			return nil, err
		}
		switch {
		case e.PlanReady != nil:
			began, order, byID = e.Time, nil, map[string]*stepTime{}
			for _, s := range e.PlanReady.Steps {
				byID[s.ID] = &stepTime{ID: s.ID, after: s.After}
			}
		case e.StepStarted != nil && byID[e.StepStarted.ID] != nil:
			byID[e.StepStarted.ID].Start = e.Time.Sub(began).Seconds()
			order = append(order, e.StepStarted.ID)
		case e.StepFinished != nil && byID[e.StepFinished.ID] != nil:
			s := byID[e.StepFinished.ID]
			s.Seconds, s.Outcome = e.Time.Sub(began).Seconds()-s.Start, string(e.StepFinished.Outcome)
		}
	}
	if len(order) == 0 {
		return nil, errors.New("no run in the events")
	}
	markCritical(byID, order)
	steps := make([]stepTime, len(order))
	for i, id := range order {
		steps[i] = *byID[id]
	}
	return steps, nil
}

// markCritical marks the step that ended last, the one that it waited for
// longest, and so on back to the start.
func markCritical(byID map[string]*stepTime, started []string) {
	latest := func(ids []string) *stepTime {
		var last *stepTime
		for _, id := range ids {
			if s := byID[id]; s != nil && (last == nil || s.end() > last.end()) {
				last = s
			}
		}
		return last
	}
	for s := latest(started); s != nil; s = latest(s.after) {
		s.Critical = true
	}
}

func TestTimelineMarksTheStepsThatTheRunWaitedFor(t *testing.T) {
	began := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	at := func(s int) time.Time { return began.Add(time.Duration(s) * time.Second) }
	var stream []event.Envelope
	add := func(e event.Envelope) {
		e.Schema, e.Run, e.Seq = event.SchemaVersion, "run", uint64(len(stream)+1)
		stream = append(stream, e)
	}
	step := func(id string, from, to int) {
		add(event.Envelope{Time: at(from), StepStarted: &event.StepStarted{ID: id}})
		add(event.Envelope{Time: at(to), StepFinished: &event.StepFinished{ID: id, Outcome: event.Done}})
	}
	// An earlier run in the same file does not count.
	add(event.Envelope{Time: at(-60), PlanReady: &event.PlanReady{Steps: []event.PlanStep{{ID: "old"}}}})
	step("old", -60, -1)
	add(event.Envelope{Time: at(0), PlanReady: &event.PlanReady{Steps: []event.PlanStep{
		{ID: "network"},
		{ID: "cluster", After: []string{"network"}},
		{ID: "aws", After: []string{"network"}},
		{ID: "release", After: []string{"cluster", "aws"}},
	}}})
	step("network", 0, 1)
	step("aws", 1, 5)
	step("cluster", 1, 9)
	step("release", 9, 12)

	var lines bytes.Buffer
	enc := json.NewEncoder(&lines)
	for _, e := range stream {
		if err := enc.Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	steps, err := timeline(&lines)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, s := range steps {
		got = append(got, fmt.Sprintf("%s %g+%g %t", s.ID, s.Start, s.Seconds, s.Critical))
	}
	want := []string{"network 0+1 true", "aws 1+4 false", "cluster 1+8 true", "release 9+3 true"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
