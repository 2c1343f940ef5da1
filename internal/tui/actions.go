package tui

import (
	"context"
	"fmt"
	"os/exec"
	"time"

	tea "charm.land/bubbletea/v2"
)

// Actions is what the dashboard can do beyond showing: the only way in which
// it reaches outside. Methods that are given a context may take their time; they are
// called outside of the drawing, with a context that has a deadline. An error
// is shown to the user as it is. Actions that are a Driller too can drill alerts.
type Actions interface {
	// OpenURL opens a URL in the user's browser.
	OpenURL(ctx context.Context, url string) error
	// ShellCommand returns the program and arguments that give a shell in the
	// component. The dashboard steps aside while it runs.
	ShellCommand(ctx context.Context, component string) ([]string, error)
	// Describe returns all there is to know of a component, as text.
	Describe(ctx context.Context, component string) (string, error)
	// PreviousLog returns what a component's containers logged before their last
	// restart.
	PreviousLog(ctx context.Context, component string) (string, error)
	// Restart restarts a component. The user has been asked.
	Restart(ctx context.Context, component string) error
	// RestartCost says what that costs beyond a moment, or "". It must return
	// at once.
	RestartCost(component string) string
	// Refresh makes all sources look again, without waiting for what they find.
	Refresh(ctx context.Context) error
	// Plan returns what Terraform would do to a module, as text.
	Plan(ctx context.Context, module string) (string, error)
	// Apply applies a Terraform module. The user has been asked.
	Apply(ctx context.Context, module string) error
	// Save writes text to a file of its choice, named after the screen, and
	// returns its path.
	Save(ctx context.Context, screen, text string) (string, error)
	// CLICommand returns the command line that shows the same as a screen
	// ("overview", "steps", "logs", "alerts", "events", "terraform"). The
	// subject is what is selected there: a component, a step, an alerting rule,
	// a module, or "". It must return at once.
	CLICommand(screen, subject string) string
}

// How long an action may take.
const (
	quickly  = 15 * time.Second
	patience = 2 * time.Minute
	applying = 30 * time.Minute
	// undoPatience is for faults: some take a restart, or Terraform.
	undoPatience = 10 * time.Minute
)

type (
	// textMsg is the text for the page of that number.
	textMsg struct {
		page int
		text string
		err  error
	}
	// doneMsg says how an action without a text ended.
	doneMsg struct {
		doing string // as it is among what is busy
		text  string
		err   error
	}
	// shellMsg is the shell to run.
	shellMsg struct {
		component string
		argv      []string
		err       error
	}
)

// within runs an action with a deadline, outside of Update.
func (m *model) within(limit time.Duration, do func(ctx context.Context) tea.Msg) tea.Cmd {
	parent := m.ctx
	return func() tea.Msg {
		ctx, stop := context.WithTimeout(parent, limit)
		defer stop()
		return do(ctx)
	}
}

// act runs an action that ends in one line.
func (m *model) act(limit time.Duration, doing, done string, do func(ctx context.Context) error) tea.Cmd {
	doing += m.theme.pick(" …", " ...")
	m.busy = append(m.busy, doing)
	return m.within(limit, func(ctx context.Context) tea.Msg {
		return doneMsg{doing: doing, text: done, err: do(ctx)}
	})
}

// read opens a page and fills it with what an action returns.
func (m *model) read(limit time.Duration, title string, do func(ctx context.Context) (string, error)) tea.Cmd {
	number := m.openPage(title, "")
	return m.within(limit, func(ctx context.Context) tea.Msg {
		text, err := do(ctx)
		return textMsg{page: number, text: text, err: err}
	})
}

func (m *model) shell(component string) tea.Cmd {
	m.say(toneBusy, "opening a shell in "+component)
	return m.within(quickly, func(ctx context.Context) tea.Msg {
		argv, err := m.actions.ShellCommand(ctx, component)
		return shellMsg{component: component, argv: argv, err: err}
	})
}

// runShell hands the terminal to a shell.
func (m *model) runShell(msg shellMsg) tea.Cmd {
	if msg.err != nil || len(msg.argv) == 0 {
		m.fail(fmt.Errorf("no shell in %s: %w", msg.component, orNone(msg.err)))
		return nil
	}
	done := "the shell in " + msg.component + " has ended"
	return tea.ExecProcess(exec.CommandContext(m.ctx, msg.argv[0], msg.argv[1:]...), func(err error) tea.Msg {
		return doneMsg{text: done, err: err}
	})
}
