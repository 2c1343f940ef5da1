package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/cli/browser"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/session"
)

// actions is what the dashboard can do to a sandbox, which other commands may
// have changed since it was opened.
type actions struct {
	s       *session.Session
	events  string // where the runs are recorded
	refresh chan<- string
}

// now is the sandbox as it is recorded now, with its engine.
func (a actions) now(ctx context.Context) (*session.Session, error) {
	if err := a.s.Connect(ctx); err != nil {
		return nil, err
	}
	return a.s.Reread()
}

// openURL opens a URL in the user's browser.
func openURL(url string) error {
	browser.Stdout, browser.Stderr = io.Discard, io.Discard // they would write into the screen
	if err := browser.OpenURL(url); err != nil {
		return fault.New(fault.Unavailable, "open "+url+" yourself", "no browser can be opened here", "sandbox open --print")
	}
	return nil
}

// OpenURL opens a URL in the user's browser.
func (a actions) OpenURL(_ context.Context, url string) error { return openURL(url) }

// ShellCommand is this program itself: it can pass a terminal on to pods and
// to containers.
func (a actions) ShellCommand(_ context.Context, component string) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	return []string{self, "shell", component, "--name", a.s.Name()}, nil
}

// Describe returns all there is to know of a component.
func (a actions) Describe(ctx context.Context, component string) (string, error) {
	now, err := a.now(ctx)
	if err != nil {
		return "", err
	}
	return now.Describe(ctx, component)
}

// PreviousLog returns what a component logged before its last restart.
func (a actions) PreviousLog(ctx context.Context, component string) (string, error) {
	now, err := a.now(ctx)
	if err != nil {
		return "", err
	}
	return now.PreviousLog(ctx, component)
}

// Restart restarts a component.
func (a actions) Restart(ctx context.Context, component string) error {
	now, err := a.now(ctx)
	if err != nil {
		return err
	}
	return now.Restart(ctx, component)
}

// RestartCost says what that costs beyond a moment.
func (a actions) RestartCost(component string) string { return session.RestartCost(component) }

// Refresh makes all sources look again.
func (a actions) Refresh(ctx context.Context) error { return a.look(ctx, "") }

func (a actions) look(ctx context.Context, what string) error {
	select {
	case a.refresh <- what:
		return nil
	case <-ctx.Done():
		return errors.New("an earlier look is still under way")
	}
}

// Plan says what Terraform would do to a module.
func (a actions) Plan(ctx context.Context, module string) (string, error) {
	now, err := a.now(ctx)
	if err != nil {
		return "", err
	}
	return now.Plan(ctx, module)
}

// Apply applies a module, and has it compared after that.
func (a actions) Apply(ctx context.Context, module string) error {
	now, err := a.now(ctx)
	if err != nil {
		return err
	}
	if _, err := now.Apply(ctx, module, event.Discard); err != nil {
		return err
	}
	return a.look(ctx, "terraform/"+module)
}

// Save writes a screen to a new file in the working directory.
func (a actions) Save(_ context.Context, screen, text string) (string, error) {
	name := fmt.Sprintf("sandbox-%s-%s-%s.txt", a.s.Name(), screen, time.Now().Format("20060102-150405"))
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", fault.Wrap(fault.Failed, err, "start the dashboard in a folder that can be written to", "the screen was not saved")
	}
	_, err = io.WriteString(f, strings.TrimRight(text, "\n")+"\n")
	return name, errors.Join(err, f.Close())
}

// CLICommand is the command that shows the same as a screen.
func (a actions) CLICommand(screen, subject string) string {
	name := " --name " + a.s.Name()
	switch screen {
	case "steps":
		return "sandbox replay " + a.events + " --speed 0"
	case "logs":
		if parts := strings.SplitN(subject, "/", 3); len(parts) == 3 {
			subject = parts[0] + "/" + parts[1] // logs are of whole releases
		}
		return strings.TrimRight("sandbox logs "+subject, " ") + " --follow" + name
	case "alerts":
		return "sandbox exec" + name + ` -- sh -c 'curl -s "$PROMETHEUS_URL/api/v1/alerts"'`
	case "events":
		return "sandbox exec" + name + " -- kubectl get events -A"
	case "terraform":
		return strings.TrimRight("sandbox tf drift "+subject, " ") + name
	}
	if subject != "" {
		return "sandbox describe " + subject + name
	}
	return "sandbox status" + name
}

// Drills returns what the drill of each alert breaks.
func (a actions) Drills() map[string]string { return a.s.Drills() }

// Drill drills alerts. What there is to see of it, the dashboard sees as it sees
// the drills of other commands.
func (a actions) Drill(ctx context.Context, alerts []string, all bool) error {
	now, err := a.now(ctx)
	if err != nil {
		return err
	}
	if all {
		alerts = nil
	}
	return now.Drill(ctx, session.DrillOptions{Alerts: alerts})
}

// UndoFaults undoes what earlier drills have left.
func (a actions) UndoFaults(ctx context.Context) (string, error) {
	now, err := a.now(ctx)
	if err != nil {
		return "", err
	}
	undone, err := now.UndoFaults(ctx, nil)
	if len(undone) == 0 {
		return "no fault of a drill is left", err
	}
	var what []string
	for _, rec := range undone {
		what = append(what, rec.What)
	}
	return "undone: " + strings.Join(what, ", "), err
}
