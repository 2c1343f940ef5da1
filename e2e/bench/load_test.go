//go:build bench

package bench

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/tui"
)

// loadVariable makes this test program show a dashboard under load.
const loadVariable = "SANDBOX_BENCH_LOAD"

// showLoad shows a dashboard into which 1,000 events and 5,000 log lines come
// each second, until its user quits.
func showLoad() int {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	feed := tui.NewFeed()
	log := event.NewLog("load", nil, feed)
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			for i := range 10 {
				component := fmt.Sprintf("release/web/Deployment/d%d", (n+i)%20)
				switch i % 3 {
				case 0:
					state := []event.State{event.StateOK, event.StateDegraded}[n/20%2]
					log.Emit(event.HealthChanged{Health: event.Health{Component: component, State: state, Reason: fmt.Sprint("look ", n)}})
				case 1:
					log.Emit(event.ResourceSample{Component: component, CPU: float64(n%100) / 100, Memory: int64(n) << 10})
				case 2:
					log.Emit(event.ObjectEvent{Type: event.Normal, Source: "kubelet", Object: "pod/" + component, Reason: "Started"})
				}
				for range 5 {
					log.Emit(event.LogLine{Component: component, Source: "pod", Line: "GET /orders 200 4ms, the usual length of a line of an access log"})
				}
			}
		}
	}()
	err := tui.Run(ctx, tui.Options{In: os.Stdin, Out: os.Stdout, Name: "load", Feed: feed, Color: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
