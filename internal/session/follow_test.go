package session

import (
	"context"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/state"
)

// following follows the record of a sandbox in the background. What it returns
// waits for the next envelope, or for the word that no run is under way: then
// the envelope is empty.
func following(t *testing.T, dir *state.Dir) (next func() event.Envelope, ended <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	said := make(chan event.Envelope)
	end := make(chan error, 1)
	go func() {
		end <- follow(ctx, dir, func(e event.Envelope) error {
			select {
			case said <- e:
			case <-ctx.Done():
			}
			return nil
		}, func() {
			select {
			case said <- event.Envelope{}:
			case <-ctx.Done():
			}
		})
	}()
	t.Cleanup(cancel)
	return func() event.Envelope {
		t.Helper()
		select {
		case e := <-said:
			return e
		case <-time.After(10 * time.Second):
			t.Fatal("nothing came")
		}
		return event.Envelope{}
	}, end
}

func recordOf(t *testing.T, dir *state.Dir) *event.File {
	t.Helper()
	f, err := event.OpenFile(dir.Events())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// names are the payloads of what a follower brings, "idle" where no run is
// under way.
func name(e event.Envelope) string {
	switch {
	case e.PlanReady != nil:
		return "plan " + e.Run
	case e.StepStarted != nil:
		return "step " + e.StepStarted.ID
	case e.RunFinished != nil:
		return "finished " + e.Run
	}
	return "idle"
}

func TestFollowTakesUpWhatIsRecorded(t *testing.T) {
	dir, err := state.OpenIn(t.TempDir(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	file := recordOf(t, dir)
	write := func(run string, p ...event.Payload) {
		t.Helper()
		log := event.NewLog(run, nil, file)
		for _, one := range p {
			log.Emit(one)
		}
		if err := log.Close(); err != nil {
			t.Fatal(err)
		}
	}
	lock, err := dir.Lock("sandbox up")
	if err != nil {
		t.Fatal(err)
	}
	write("1", event.PlanReady{}, event.StepStarted{ID: "old"}, event.RunFinished{})
	write("2", event.PlanReady{}, event.StepStarted{ID: "a"})
	next, ended := following(t, dir)
	expect := func(want ...string) {
		t.Helper()
		var got []string
		for range want {
			got = append(got, name(next()))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("got %q, want %q", got, want)
		}
	}
	expect("plan 2", "step a")
	write("2", event.StepStarted{ID: "b"})
	expect("step b")
	if err := lock.Unlock(); err != nil { // as when the run is killed
		t.Fatal(err)
	}
	expect("idle")
	write("3", event.PlanReady{}, event.RunFinished{OK: true})
	expect("plan 3", "finished 3", "idle")

	if err := os.RemoveAll(dir.Path()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil || !strings.Contains(err.Error(), "was removed") {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it goes on following a sandbox that was removed")
	}
}

// A reader must not see half a line, nor lose it.
func TestFollowWaitsForTheEndOfALine(t *testing.T) {
	dir, err := state.OpenIn(t.TempDir(), "demo")
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(dir.Events())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var r record
	read := func(write string) []event.Envelope {
		t.Helper()
		if _, err := f.WriteString(write); err != nil {
			t.Fatal(err)
		}
		list, err := r.more(dir.Events())
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	if got := read(`{"schema": 1, "run": "x", "seq": 1, "stepStar`); len(got) != 0 {
		t.Errorf("half a line gives %+v", got)
	}
	if got := read("ted\": {\"id\": \"a\"}}\ntorn\n"); len(got) != 1 || got[0].StepStarted == nil {
		t.Errorf("got %+v, want the step", got)
	}
}
