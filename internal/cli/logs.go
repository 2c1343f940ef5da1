package cli

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/sandbox-stack/sandbox/internal/session"
)

func (a *app) logsCommand() *cobra.Command {
	var opt session.LogOptions
	cmd := &cobra.Command{
		Use:   "logs [COMPONENT]",
		Short: "Print the logs of a component, or of all of them",
		Long: `Prints the logs of the component as status names it: aws, cluster,
observe/prometheus, release/NAME (all its pods) … Without one, the logs of every
component, each line led by its source. Escape sequences are removed.`,
		Example: `  sandbox logs release/web-app -f
  sandbox logs aws --tail 50
  sandbox logs --since 5m`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, argv []string) error {
			ctx := cmd.Context()
			switch {
			case opt.Tail < 0:
				return negative(cmd, "tail")
			case opt.Since < 0:
				return negative(cmd, "since")
			}
			component := ""
			if len(argv) == 1 {
				component = argv[0]
			}
			return a.open(ctx, func(s *session.Session) error { return s.Logs(ctx, component, opt, a.Out) })
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&opt.Follow, "follow", "f", false, "go on with new lines until interrupted")
	f.IntVar(&opt.Tail, "tail", 0, "only the last lines of each source (default: all)")
	f.DurationVar(&opt.Since, "since", time.Duration(0), "only lines newer than this, for example 10m")
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return session.LogComponents(a.name), cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}
