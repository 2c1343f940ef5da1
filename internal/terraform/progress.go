package terraform

import (
	"fmt"
	"sync"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// reportEvery is how often work that says nothing itself is reported.
const reportEvery = 5 * time.Second

// report says what is going on, now and every few seconds with the time it has
// taken, until the returned function is called.
func report(rep event.Reporter, text string) (stop func()) {
	start := time.Now()
	rep.Progress(event.Progress{Text: text})
	return every(reportEvery, func() {
		rep.Progress(event.Progress{Text: text + " " + seconds(time.Since(start))})
	})
}

// every calls f at an interval until the returned function is called, which
// waits for a running call.
func every(interval time.Duration, f func()) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(interval)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				f()
			case <-done:
				return
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

func seconds(d time.Duration) string { return fmt.Sprintf("%ds", int(d.Seconds())) }
