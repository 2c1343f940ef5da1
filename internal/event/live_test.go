package event_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/event"
)

var noon = time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)

// feed applies payloads as a Log would stamp them, a second apart.
func feed(v *event.View, payloads ...event.Payload) {
	at := noon
	log := event.NewLog("live", func() time.Time { at = at.Add(time.Second); return at }, event.SinkFunc(func(e event.Envelope) error {
		v.Apply(e)
		return nil
	}))
	for _, p := range payloads {
		log.Emit(p)
	}
	if err := log.Close(); err != nil {
		panic(err)
	}
}

func TestLivePayloadsAreCleanedAndSurviveJSON(t *testing.T) {
	const evil = "a\x1b]0;owned\x07b"
	var got []event.Envelope
	log := event.NewLog("r", func() time.Time { return noon }, event.SinkFunc(func(e event.Envelope) error {
		got = append(got, e)
		return nil
	}))
	log.Emit(event.ResourceSample{Component: evil, CPU: 0.25, Memory: 7})
	log.Emit(event.ObjectEvent{Type: event.Warning, Source: evil, Object: evil, Namespace: evil, Reason: evil, Message: evil})
	log.Emit(event.LogLine{Component: evil, Source: evil, Line: "one\n" + evil + "\n"})
	log.Emit(event.ModuleChanged{Module: evil, Tool: evil, Provider: evil, Resources: []event.Resource{{Address: evil, Type: evil, Detail: "x\n" + evil}}})
	log.Emit(event.AlertmanagerChanged{Receivers: []string{evil}})
	require.NoError(t, log.Close())

	require.Len(t, got, 6, "a log text of two lines is two events")
	for _, e := range got {
		line, err := json.Marshal(e)
		require.NoError(t, err)
		assert.NotContains(t, string(line), "owned")
		var back event.Envelope
		require.NoError(t, json.Unmarshal(line, &back))
		assert.Equal(t, e, back)
	}
	assert.Equal(t, "x\nab", got[4].ModuleChanged.Resources[0].Detail)
}

func TestLiveKeepsTheLastSamples(t *testing.T) {
	var v event.View
	for i := range 100 {
		applyNth(&v, i, event.Envelope{ResourceSample: &event.ResourceSample{Component: "aws", Memory: int64(i)}})
	}
	kept := v.Samples["aws"]
	require.Len(t, kept, event.SampleTail)
	assert.Equal(t, int64(40), kept[0].Memory)
	assert.Equal(t, int64(99), kept[59].Memory)
}

// applyNth applies one envelope as number i of a run.
func applyNth(v *event.View, i int, e event.Envelope) {
	e.Run, e.Seq, e.Time = "live", uint64(i)+1, noon.Add(time.Duration(i)*time.Second)
	v.Apply(e)
}

func TestLiveKeepsTheLastLogLines(t *testing.T) {
	var v event.View
	const n = event.LogTail + 2500
	for i := range n {
		e := event.Envelope{LogLine: &event.LogLine{Component: "aws", Line: fmt.Sprint(i)}}
		if i%2 == 1 {
			e = event.Envelope{StepLog: &event.StepLog{ID: "cluster", Source: "kind", Line: fmt.Sprint(i)}}
		}
		applyNth(&v, i, e)
	}
	require.Len(t, v.Logs, event.LogTail)
	assert.Equal(t, 2500, v.LogsDropped)
	assert.Equal(t, "2500", v.Logs[0].Line)
	last := v.Logs[event.LogTail-1]
	assert.Equal(t, event.LogLine{Component: "cluster", Source: "kind", Line: fmt.Sprint(n - 1)}, last.LogLine)
	assert.True(t, last.Step)
}

func TestLiveGroupsEvents(t *testing.T) {
	var v event.View
	back := event.ObjectEvent{Type: event.Warning, Source: "kubelet", Object: "pod/web", Reason: "BackOff", Message: "back-off"}
	feed(&v, back, event.ObjectEvent{Source: "kubelet", Object: "pod/web", Reason: "Pulled"}, back)
	got := v.EventsByTime()
	require.Len(t, got, 2)
	assert.Equal(t, "BackOff", got[0].Reason, "what happened last comes first")
	assert.Equal(t, 2, got[0].Count)
	assert.Equal(t, 2*time.Second, got[0].Last.Sub(got[0].First))

	back.Count = 9
	v = event.View{}
	feed(&v, back)
	assert.Equal(t, 9, v.EventsByTime()[0].Count, "a count of the source's own holds")
}

func TestLiveForgetsTheOldestEvents(t *testing.T) {
	var v event.View
	for i := range event.EventTail + 3 {
		applyNth(&v, i, event.Envelope{ObjectEvent: &event.ObjectEvent{Object: fmt.Sprintf("pod/%d", i)}})
	}
	got := v.EventsByTime()
	require.Len(t, got, event.EventTail)
	assert.Equal(t, "pod/3", got[event.EventTail-1].Object)
}

func TestLiveTellsWhatSandboxSaw(t *testing.T) {
	health := func(s event.State, why string) event.HealthChanged {
		return event.HealthChanged{Health: event.Health{Component: "aws", State: s, Reason: why}}
	}
	var v event.View
	feed(&v,
		health(event.StateOK, ""),
		health(event.StateFailed, "gone"), health(event.StateFailed, "still gone"),
		event.AlertChanged{Rule: "Quiet", State: "inactive"},
		event.AlertChanged{Rule: "Down", State: "pending"}, event.AlertChanged{Rule: "Down", State: "firing"},
		event.StepFinished{ID: "a", Outcome: event.Unchanged},
		event.StepFinished{ID: "b", Outcome: event.Failed, Error: &event.Problem{What: "no b"}},
	)
	var got []string
	for _, e := range v.EventsByTime() {
		got = append(got, fmt.Sprintf("%s %s %s", e.Type, e.Object, e.Message))
	}
	assert.Equal(t, []string{
		"Warning step/b no b",
		"Warning rule/Down pending → firing",
		"Normal rule/Down pending",
		"Warning aws ok → failed: gone",
	}, got)
}

func TestLiveSnapshotStandsStill(t *testing.T) {
	var v event.View
	feed(&v, event.LogLine{Line: "1"}, event.ResourceSample{Component: "aws"}, event.ObjectEvent{Object: "a"},
		event.ModuleChanged{Module: "infra"}, event.AlertmanagerChanged{Active: 1})
	snap := v.Snapshot()
	before, err := json.Marshal(snap)
	require.NoError(t, err)

	more := func(v *event.View, line string) {
		for i := range 300 {
			applyNth(v, 100+4*i, event.Envelope{LogLine: &event.LogLine{Line: line}})
			applyNth(v, 101+4*i, event.Envelope{ResourceSample: &event.ResourceSample{Component: "aws", CPU: 1}})
			applyNth(v, 102+4*i, event.Envelope{ModuleChanged: &event.ModuleChanged{Module: "infra", Drift: 1}})
			applyNth(v, 103+4*i, event.Envelope{AlertmanagerChanged: &event.AlertmanagerChanged{Active: 2}})
		}
	}
	more(&v, "live")
	after, err := json.Marshal(snap)
	require.NoError(t, err)
	assert.JSONEq(t, string(before), string(after))

	more(&snap, "copy")
	assert.Equal(t, "live", v.Logs[1].Line, "a copy that goes on does not write into the original")
	assert.Equal(t, "copy", snap.Logs[1].Line)
}

func TestLiveOutlivesTheRun(t *testing.T) {
	var v event.View
	feed(&v, event.LogLine{Line: "1"}, event.AlertmanagerChanged{Active: 1})
	v.Apply(event.Envelope{Run: "next", Seq: 1})
	assert.Len(t, v.Logs, 1)
	assert.NotNil(t, v.Alertmanager)
}
