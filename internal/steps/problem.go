package steps

import (
	"errors"

	"github.com/sandbox-stack/sandbox/internal/event"
	"github.com/sandbox-stack/sandbox/internal/fault"
)

// Problem is the error as it appears in events, nil for nil. The first
// *fault.Error in its chain gives the three lines; any other error gives its
// text.
func Problem(err error) *event.Problem {
	if err == nil {
		return nil
	}
	var f *fault.Error
	if !errors.As(err, &f) {
		return &event.Problem{Code: string(fault.Failed), What: err.Error()}
	}
	what := f.What
	if f.Pos != "" {
		what = f.Pos + ": " + what
	}
	return &event.Problem{Code: string(f.Code), What: what, Why: f.Reason(), Try: f.Try, Log: f.Log}
}
