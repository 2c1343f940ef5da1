package child

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// Lines runs the command to its end and passes each line of its output to
// log. When ctx ends first, the command is asked to end, and killed when it
// does not within grace.
func Lines(ctx context.Context, cmd *exec.Cmd, grace time.Duration, log func(line string)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	output, feed, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("open a pipe: %w", err)
	}
	cmd.Stdout, cmd.Stderr = feed, feed
	started, err := Start(cmd)
	_ = feed.Close() // the child has a descriptor of its own
	if err != nil {
		return errors.Join(err, output.Close())
	}
	copied := make(chan error, 1)
	go func() { copied <- eachLine(output, log) }()

	select {
	case <-started.done:
	case <-ctx.Done():
		if err := started.Stop(grace); err != nil {
			return errors.Join(ctx.Err(), err)
		}
		// A process that it left behind may hold the pipe.
		return errors.Join(ctx.Err(), output.Close())
	}
	err = <-copied
	if closeErr := output.Close(); err == nil {
		err = closeErr
	}
	if started.err != nil {
		return started.err
	}
	if err != nil {
		return fmt.Errorf("read the output: %w", err)
	}
	return nil
}

// eachLine passes each non-empty line of r to log.
func eachLine(r io.Reader, log func(line string)) error {
	reader := bufio.NewReader(r)
	for {
		line, err := reader.ReadString('\n')
		if line = strings.TrimRight(line, "\r\n"); line != "" {
			log(line)
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}
