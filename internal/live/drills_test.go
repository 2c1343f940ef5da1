package live

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/sandbox-stack/sandbox/internal/event"
)

func TestDrillsAreToldWhenTheyChange(t *testing.T) {
	now := map[string]event.DrillChanged{"Down": {Alert: "Down", State: event.DrillRunning}}
	var failure error
	var told []event.DrillState
	l := newLive(Sources{Drills: func() (map[string]event.DrillChanged, error) { return now, failure }}, func(p event.Payload) {
		told = append(told, p.(event.DrillChanged).State)
	})
	look := l.drills()
	require.NoError(t, look(t.Context()))
	require.NoError(t, look(t.Context()))
	assert.Equal(t, []event.DrillState{event.DrillRunning}, told, "what is as it was is not told again")

	now = map[string]event.DrillChanged{"Down": {Alert: "Down", State: event.DrillPassed}}
	require.NoError(t, look(t.Context()))
	assert.Equal(t, []event.DrillState{event.DrillRunning, event.DrillPassed}, told)

	failure = errors.New("torn")
	assert.Error(t, look(t.Context()))
}
