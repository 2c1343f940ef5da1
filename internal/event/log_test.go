package event_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/sandbox-stack/sandbox/internal/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock ticks one second per reading.
func clock() func() time.Time {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return func() time.Time {
		now = now.Add(time.Second)
		return now
	}
}

type keep struct{ got []event.Envelope }

func (k *keep) Handle(e event.Envelope) error {
	k.got = append(k.got, e)
	return nil
}

func TestLogStampsEveryEventOnceAndInOrder(t *testing.T) {
	var one, two keep
	log := event.NewLog("run-1", clock(), &one, &two)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := range 100 {
				log.Emit(event.StepStarted{ID: fmt.Sprint(worker, "/", i)})
			}
		})
	}
	wg.Wait()
	require.NoError(t, log.Close())

	require.Len(t, one.got, 800)
	assert.Equal(t, one.got, two.got)
	next := map[string]int{}
	for i, e := range one.got {
		assert.Equal(t, uint64(i+1), e.Seq)
		assert.Equal(t, "run-1", e.Run)
		assert.Equal(t, event.SchemaVersion, e.Schema)
		worker, n, _ := strings.Cut(e.StepStarted.ID, "/")
		assert.Equal(t, fmt.Sprint(next[worker]), n, "events of one goroutine keep their order")
		next[worker]++
	}
	assert.True(t, one.got[1].Time.After(one.got[0].Time))
}

func TestLogSparesASlowSinkProgressAndLogsOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fast, slow keep
		open := make(chan struct{})
		log := event.NewLog("r", nil, &fast, event.SinkFunc(func(e event.Envelope) error {
			<-open
			return slow.Handle(e)
		}))
		const rounds = 3000
		for i := range rounds {
			log.Emit(event.StepStarted{ID: fmt.Sprint("step", i)})
			log.Emit(event.StepProgress{ID: "a", Progress: event.Progress{Text: fmt.Sprint(i)}})
			log.Emit(event.StepLog{ID: "a", Line: fmt.Sprint(i)})
			synctest.Wait()
		}
		close(open)
		require.NoError(t, log.Close())

		assert.Len(t, fast.got, 3*rounds, "one slow sink costs the others nothing")
		count := map[string]int{}
		var lastProgress, lastLog string
		var seq uint64
		for _, e := range slow.got {
			assert.Greater(t, e.Seq, seq)
			seq = e.Seq
			switch {
			case e.StepStarted != nil:
				count["started"]++
			case e.StepProgress != nil:
				count["progress"]++
				lastProgress = e.StepProgress.Text
			case e.StepLog != nil:
				count["log"]++
				lastLog = e.StepLog.Line
			}
		}
		assert.Equal(t, rounds, count["started"], "lifecycle events are never dropped")
		assert.Less(t, count["progress"]+count["log"], 1100)
		assert.Equal(t, fmt.Sprint(rounds-1), lastProgress)
		assert.Equal(t, fmt.Sprint(rounds-1), lastLog)
	})
}

func TestLogDropsASinkThatFails(t *testing.T) {
	var good keep
	calls := 0
	log := event.NewLog("r", nil, &good, event.SinkFunc(func(event.Envelope) error {
		calls++
		return syscall.ENOSPC
	}))
	for range 10 {
		log.Emit(event.StepStarted{ID: "a"})
	}
	require.ErrorIs(t, log.Close(), syscall.ENOSPC)
	assert.Equal(t, 1, calls)
	assert.Len(t, good.got, 10)

	log.Emit(event.StepStarted{ID: "after the end"})
	assert.Len(t, good.got, 10)
}

func TestLogCleansForeignText(t *testing.T) {
	var sink keep
	log := event.NewLog("r", clock(), &sink)
	const evil = "\x1b[2Jred\x1b]0;owned\x07"
	blockers := []string{evil}
	log.Emit(event.PlanReady{Stack: "s", Steps: []event.PlanStep{{ID: "a", Title: evil}}})
	log.Emit(event.StepProgress{ID: "a", Progress: event.Progress{Text: evil, Blockers: blockers}})
	log.Emit(event.StepLog{ID: "a", Source: evil, Line: evil + "\nsecond\r\n"})
	log.Emit(event.StepFinished{ID: "a", Note: evil, Error: &event.Problem{What: evil, Why: evil + "\nmore", Try: evil, Log: []string{evil}}})
	log.Emit(event.HealthChanged{Health: event.Health{Component: "c", Reason: evil, Try: evil}})
	log.Emit(event.AlertChanged{Rule: evil, Value: evil, Labels: map[string]string{evil: evil}})
	log.Emit(event.RunFinished{Error: &event.Problem{What: evil}})
	require.NoError(t, log.Close())

	j, err := json.Marshal(sink.got)
	require.NoError(t, err)
	assert.NotContains(t, string(j), `\u001b`)
	assert.NotContains(t, string(j), "owned")
	assert.Equal(t, evil, blockers[0], "what the caller passed in stays as it is")
	require.Len(t, sink.got, 8, "a text of two lines is two events")
	assert.Equal(t, "red", sink.got[2].StepLog.Line)
	assert.Equal(t, "second", sink.got[3].StepLog.Line)
	assert.Equal(t, "red\nmore", sink.got[4].StepFinished.Error.Why)
}

func TestFileRoundTrip(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0))
	path := filepath.Join(t.TempDir(), "events.jsonl")
	require.NoError(t, os.WriteFile(path, []byte(`{"schema":1,"run":"killed","seq":1,"stepSt`), 0o644))
	file, err := event.OpenFile(path)
	require.NoError(t, err)
	var sink keep
	log := event.NewLog("r", clock(), file, &sink)
	log.Emit(event.StepStarted{ID: "a"})
	log.Emit(event.StepFinished{ID: "a", Outcome: event.Done, Elapsed: time.Second})
	require.NoError(t, errors.Join(log.Close(), file.Close()))

	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	raw, err := os.ReadFile(path)
	require.NoError(t, err)

	var got []event.Envelope
	var errs []error
	for e, err := range event.Read(bytes.NewReader(raw)) {
		if err != nil {
			errs = append(errs, err)
			continue
		}
		got = append(got, e)
	}
	assert.Equal(t, sink.got, got)
	require.Len(t, errs, 1, "only the torn line is lost")
	assert.ErrorContains(t, errs[0], "event line 1")
}

func TestReadRefusesANewerSchema(t *testing.T) {
	for _, err := range event.Read(strings.NewReader(`{"schema":99,"seq":1}`)) {
		require.EqualError(t, err, "event line 1: schema 99 is not known (this version knows up to 1)")
		return
	}
	t.Fatal("nothing was read")
}

func TestReadPassesOnTheReadersError(t *testing.T) {
	broken := errors.New("disk on fire")
	for _, err := range event.Read(readerFunc(func([]byte) (int, error) { return 0, broken })) {
		require.ErrorIs(t, err, broken)
		return
	}
	t.Fatal("the error was swallowed")
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
