package live

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

const (
	alertInterval        = 5 * time.Second
	alertmanagerInterval = 10 * time.Second
)

// inactive is Prometheus' word for a rule without an alert.
const inactive = "inactive"

// alerts returns a look that reports the alerts that differ from the last look:
// in state, value or since when. One that is over is reported as inactive.
func (l *live) alerts() func(context.Context) error {
	said := map[string]event.AlertChanged{}
	return func(ctx context.Context) error {
		now, err := l.src.Prometheus.Alerts(ctx)
		if err != nil {
			l.wake("prometheus")
			return err
		}
		present := map[string]bool{}
		fired := false // whether a state changed, and not only a value
		for _, a := range now {
			// fmt sorts the labels of a map.
			key := fmt.Sprint(a.Rule, a.Labels)
			present[key] = true
			before, known := said[key]
			if known && reflect.DeepEqual(before, a) {
				continue
			}
			fired = fired || before.State != a.State
			said[key] = a
			l.emit(a)
		}
		for key, a := range said {
			if present[key] {
				continue
			}
			delete(said, key)
			if a.State != inactive {
				fired = true
				a.State, a.Value, a.Since = inactive, "", time.Now()
				l.emit(a)
			}
		}
		if fired {
			l.wake("prometheus") // the health of the rules names those that fire
		}
		return nil
	}
}

// alertmanager returns a look that reports what Alertmanager makes of the
// alerts where that differs from the last look.
func (l *live) alertmanager() func(context.Context) error {
	var said *event.AlertmanagerChanged
	return func(ctx context.Context) error {
		base, err := l.src.Alertmanager(ctx)
		if err != nil {
			return err
		}
		now, err := askAlertmanager(ctx, base)
		if err != nil {
			l.wake("alertmanager")
			return err
		}
		if said == nil || !sameAlertmanager(*said, now) {
			said = &now
			l.emit(now)
		}
		return nil
	}
}

func sameAlertmanager(a, b event.AlertmanagerChanged) bool {
	return a.Active == b.Active && a.Silences == b.Silences && a.Inhibited == b.Inhibited && slices.Equal(a.Receivers, b.Receivers)
}
