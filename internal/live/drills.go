package live

import (
	"context"
	"reflect"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// drillInterval is the time between two looks at the drills, which another process
// may run.
const drillInterval = time.Second

// drills returns a look that reports the drills that differ from the last look.
func (l *live) drills() func(context.Context) error {
	said := map[string]event.DrillChanged{}
	return func(context.Context) error {
		now, err := l.src.Drills()
		if err != nil {
			return err
		}
		for alert, d := range now {
			if before, known := said[alert]; known && reflect.DeepEqual(before, d) {
				continue
			}
			said[alert] = d
			l.emit(d)
		}
		return nil
	}
}
