package packages

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sandbox-stack/sandbox/internal/event"
)

// heartbeat is the longest time a build stays silent.
const heartbeat = 5 * time.Second

// board shows the tasks that run at the same time as one line of progress.
// It speaks when a task starts or ends, and at least every heartbeat.
type board struct {
	reporter event.Reporter
	total    int

	mu       sync.Mutex
	finished int
	seq      int
	running  map[*task]int

	stop chan struct{}
	done chan struct{}
}

// task is one running piece of a build.
type task struct {
	board *board
	title string
	start time.Time

	mu      sync.Mutex
	note    string
	waiting bool
	ended   bool
}

// newBoard starts a board for the given number of tasks; close ends it.
func newBoard(reporter event.Reporter, total int) *board {
	b := &board{
		reporter: reporter, total: total, running: map[*task]int{},
		stop: make(chan struct{}), done: make(chan struct{}),
	}
	go b.beat()
	return b
}

func (b *board) beat() {
	defer close(b.done)
	ticker := time.NewTicker(heartbeat)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			b.show()
		case <-b.stop:
			return
		}
	}
}

func (b *board) close() {
	close(b.stop)
	<-b.done
}

// begin adds a task; its end must be called.
func (b *board) begin(title string) *task {
	t := &task{board: b, title: title, start: time.Now()}
	b.mu.Lock()
	b.seq++
	b.running[t] = b.seq
	b.mu.Unlock()
	b.show()
	return t
}

// end removes the task. Calling it again does nothing.
func (t *task) end() {
	t.mu.Lock()
	again := t.ended
	t.ended = true
	t.mu.Unlock()
	if again {
		return
	}
	t.board.mu.Lock()
	delete(t.board.running, t)
	t.board.finished++
	t.board.mu.Unlock()
	t.board.show()
}

// set replaces the note behind the task's title, such as a count. It is shown
// with the next heartbeat.
func (t *task) set(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.note = fmt.Sprintf(format, args...)
}

// wait says that the task waits for something else to be done, or no longer
// does. A board that has other things to show only counts waiting tasks.
func (t *task) wait(waiting bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting = waiting
	if !waiting {
		t.start = time.Now()
	}
}

func (t *task) isWaiting() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.waiting
}

func (t *task) log(source, line string) { t.board.reporter.Log(source, line) }

func (t *task) text() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	parts := []string{t.title}
	if t.note != "" {
		parts = append(parts, t.note)
	}
	if elapsed := time.Since(t.start).Round(time.Second); elapsed >= time.Second {
		parts = append(parts, elapsed.String())
	}
	return strings.Join(parts, ", ")
}

func (b *board) show() {
	b.mu.Lock()
	tasks := make([]*task, 0, len(b.running))
	for t := range b.running {
		tasks = append(tasks, t)
	}
	slices.SortFunc(tasks, func(x, y *task) int { return cmp.Compare(b.running[x], b.running[y]) })
	finished, total := b.finished, b.total
	b.mu.Unlock()
	if len(tasks) == 0 {
		return
	}
	var texts []string
	waiting := 0
	for _, t := range tasks {
		if t.isWaiting() {
			waiting++
			continue
		}
		texts = append(texts, t.text())
	}
	if waiting > 0 {
		texts = append(texts, fmt.Sprintf("%d waiting", waiting))
	}
	b.reporter.Progress(event.Progress{
		Text: strings.Join(texts, " · "), Done: int64(finished), Total: int64(max(total, finished+len(tasks))), Unit: "parts",
	})
}
