package cli

import (
	"errors"
	"os"

	"github.com/charmbracelet/x/term"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/render"
)

// mode is the way progress is drawn.
func (a *app) mode() render.Mode {
	switch {
	case a.quiet:
		return render.ModeQuiet
	case a.accessible:
		return render.ModeAccessible
	}
	return render.Choose(render.Mode(a.progress), isTerminal(a.Err), os.Getenv)
}

// drawable says whether what is asked for, and the terminal, go with a screen that
// is drawn over and over.
func (a *app) drawable() bool {
	if a.accessible || a.quiet || a.output != "table" || os.Getenv("TERM") == "dumb" {
		return false
	}
	return a.progress == string(render.ModeAuto) || a.progress == string(render.ModeTTY)
}

func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(f.Fd())
}

// progressSink draws a run where its mode belongs: on standard error, or on
// standard output for GitHub, which reads its commands from there.
func (a *app) progressSink() (*progress, error) {
	sink, err := a.drawing()
	if err != nil {
		return nil, err
	}
	return &progress{Sink: sink}, nil
}

// progress draws a run and remembers whether it has drawn how the run failed.
type progress struct {
	render.Sink
	failure bool
}

// Handle draws the event.
func (p *progress) Handle(e event.Envelope) error {
	if e.RunFinished != nil {
		p.failure = e.RunFinished.Error != nil
	}
	return p.Sink.Handle(e)
}

// Pace tells the drawing how fast a replayed run goes.
func (p *progress) Pace(speed float64) { tee{p.Sink}.Pace(speed) }

// reported marks the error of a run that has ended as shown where it was: what
// failed before the run began, for example to take the lock, was not.
func (p *progress) reported(err error) error {
	if err == nil || !p.failure {
		return err
	}
	return &reported{err}
}

// drawing returns what draws in the mode that was asked for.
func (a *app) drawing() (render.Sink, error) {
	mode, w := a.mode(), a.Err
	if mode.Stdout() {
		w = a.Out
	}
	switch mode {
	case render.ModeTTY:
		opts := render.TTYOptions{Logs: a.verbose, OnEnter: a.onEnter, OnEscape: a.onEscape}
		if in, ok := a.In.(*os.File); ok {
			opts.Keys = in
		}
		tty := render.NewTTY(w, a.style(w), opts)
		a.tty.Store(tty)
		return tty, nil
	case render.ModeAccessible:
		accessible := render.NewAccessible(w)
		accessible.Logs = a.verbose
		return accessible, nil
	case render.ModePlain:
		plain := render.NewPlain(w, a.style(w))
		plain.Logs = a.verbose
		return plain, nil
	default:
		return render.New(mode, w, a.style(w))
	}
}

// sinks are the progress and, where a file is named, the JUnit report.
func (a *app) sinks(junit string) (list []render.Sink, drawn *progress, err error) {
	drawn, err = a.progressSink()
	if err != nil {
		return nil, nil, err
	}
	list = []render.Sink{drawn}
	if junit != "" {
		report, err := render.NewJUnit(junit)
		if err != nil {
			return nil, nil, errors.Join(
				fault.Wrap(fault.Invalid, err, "--junit with a path that can be written", "no JUnit report at %s", junit), drawn.Close())
		}
		list = append(list, report)
	}
	return list, drawn, nil
}

func eventSinks(sinks []render.Sink) []event.Sink {
	list := make([]event.Sink, len(sinks))
	for i, s := range sinks {
		list[i] = s
	}
	return list
}

func closeAll(sinks []render.Sink) error {
	var errs []error
	for _, s := range sinks {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

// tee hands a replayed run to several sinks at the same pace.
type tee []render.Sink

func (t tee) Handle(e event.Envelope) error {
	var errs []error
	for _, s := range t {
		errs = append(errs, s.Handle(e))
	}
	return errors.Join(errs...)
}

// Pace tells those that draw between events how fast the run goes.
func (t tee) Pace(speed float64) {
	for _, s := range t {
		if p, ok := s.(interface{ Pace(speed float64) }); ok {
			p.Pace(speed)
		}
	}
}

func (t tee) Close() error { return closeAll(t) }
