package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sandbox-stack/sandbox/internal/fault"
)

// confirm asks a person at the terminal whether to go on with what is said,
// for example "--all removes web-app". Where nobody can be asked, or the answer
// is not yes, it fails: try is the command that does not ask.
func (a *app) confirm(ctx context.Context, what, try string) error {
	if !isTerminal(a.In) || !isTerminal(a.Err) {
		return fault.New(fault.Confirm, what, "it needs to be confirmed, and there is no terminal to ask on", try)
	}
	yes, err := ask(ctx, a.In, a.Err, what+". Go on? [y/N] ")
	if err != nil {
		return err
	}
	if !yes {
		return fault.New(fault.Confirm, "nothing was changed", "it was not confirmed", try)
	}
	return nil
}

// ask writes the question and reads one line. Anything but "y" or "yes" means
// no, the end of the input too.
func ask(ctx context.Context, in io.Reader, out io.Writer, question string) (bool, error) {
	if _, err := fmt.Fprint(out, question); err != nil {
		return false, fmt.Errorf("ask for confirmation: %w", err)
	}
	type answer struct {
		line string
		err  error
	}
	answers := make(chan answer, 1) // a read cannot be called off: the reader is left to the end of the program
	go func() {
		line, err := bufio.NewReader(in).ReadString('\n')
		answers <- answer{line, err}
	}()
	select {
	case <-ctx.Done():
		return false, context.Cause(ctx)
	case got := <-answers:
		if got.err != nil && !errors.Is(got.err, io.EOF) {
			return false, fmt.Errorf("read the answer: %w", got.err)
		}
		switch strings.ToLower(strings.TrimSpace(got.line)) {
		case "y", "yes":
			return true, nil
		}
		return false, nil
	}
}
