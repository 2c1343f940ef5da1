package cli

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/sandbox-stack/sandbox/internal/fault"
	"github.com/sandbox-stack/sandbox/internal/state"
)

// completeNames completes the names of the sandboxes that are there.
func completeNames(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	names, err := state.List()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// withTimeout bounds ctx; 0 means no limit. The cause tells the user whose
// limit it was.
func withTimeout(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeoutCause(ctx, limit, fault.New(fault.Timeout,
		"not up within "+limit.String(), "the time given with --timeout is over; what is there was kept", "the same command again, to go on from here"))
}
