package inject

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/stack"
)

// ErrGone says that what was to be broken, or mended, is not part of the sandbox
// any more: World.Exec and World.Apply say so of a component and of a module. What
// was broken of it went with it, so that its fault counts as undone.
var ErrGone = errors.New("it is not part of the sandbox")

// Gone makes an error one that is ErrGone, too. It reads as before.
func Gone(err error) error { return goneError{err} }

type goneError struct{ error }

// Is says so of ErrGone.
func (goneError) Is(target error) bool { return target == ErrGone }

// Unwrap returns the error itself.
func (e goneError) Unwrap() error { return e.error }

// execFault runs a command in a component, and another to mend what it broke.
type execFault struct {
	steady
	spec stack.ExecFault
	w    World
}

// commands is what is recorded of an execFault.
type commands struct {
	Component string   `json:"component"`
	Run       []string `json:"run"`
	Undo      []string `json:"undo"`
}

func newExec(spec stack.Inject, w World) Injector {
	f := execFault{w: w}
	if spec.Exec != nil {
		f.spec = *spec.Exec
	}
	return f
}

func (f execFault) Prepare(context.Context) (Record, error) {
	return newRecord("exec", "run "+quote(f.spec.Run)+" in "+f.spec.Component, LevelStack, commands(f.spec), "component "+f.spec.Component)
}

// Cleanup returns the record of a command that removes what a drill leaves besides
// its fault. Undo runs the command.
func Cleanup(c stack.Command) (Record, error) {
	return newRecord("exec", "what its requests leave", LevelStack, commands{Component: c.Component, Undo: c.Run})
}

func (f execFault) Inject(ctx context.Context, rec Record) error {
	var c commands
	if err := rec.read(&c); err != nil {
		return err
	}
	return runIn(ctx, f.w, c.Component, c.Run)
}

func (f execFault) Undo(ctx context.Context, rec Record) error {
	var c commands
	if err := rec.read(&c); err != nil {
		return err
	}
	// What was broken may take a moment until a command can do its work again.
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := runIn(ctx, f.w, c.Component, c.Undo)
		if errors.Is(err, ErrGone) {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithBackOff(backoff.NewConstantBackOff(undoPoll)), backoff.WithMaxElapsedTime(undoTimeout))
	return err
}

// The undo of a command is tried again every undoPoll, for undoTimeout. They are
// shorter in tests.
var (
	undoPoll    = 2 * time.Second
	undoTimeout = 30 * time.Second
)

// runIn runs a command in a component; it has to end well.
func runIn(ctx context.Context, w World, component string, command []string) error {
	var out tail
	exit, err := w.Exec(ctx, component, command, &out)
	if err != nil {
		return fmt.Errorf("run %s in %s: %w", quote(command), component, err)
	}
	if exit != 0 {
		return &fault.Error{
			Code: fault.Failed, What: "the command " + quote(command) + " failed in " + component,
			Why: fmt.Sprintf("it ended with exit code %d", exit), Try: "sandbox shell " + component, Log: out.lines(),
		}
	}
	return nil
}

// quote writes a command so that one sees where its arguments begin and end.
func quote(command []string) string {
	words := make([]string, len(command))
	for i, word := range command {
		words[i] = word
		if word == "" || strings.ContainsAny(word, " \t\n\"'`$\\") {
			words[i] = strconv.Quote(word)
		}
	}
	return strings.Join(words, " ")
}

// tail keeps the end of what is written to it, which may be by several at once:
// the two streams of a command in a pod.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// How much of a command's output an error shows.
const (
	tailBytes = 8 << 10
	tailLines = 10
)

// Write adds to the text.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if extra := len(t.text) - tailBytes; extra > 0 {
		t.text = append(t.text[:0], t.text[extra:]...)
	}
	return len(p), nil
}

// lines returns the last lines.
func (t *tail) lines() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := strings.TrimSpace(strings.ToValidUTF8(string(t.text), ""))
	if text == "" {
		return nil
	}
	all := strings.Split(text, "\n")
	return all[max(0, len(all)-tailLines):]
}
