package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sandbox-stack/sandbox/internal/session"
)

func (a *app) downCommand() *cobra.Command {
	var all, yes, images bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Remove a sandbox and leave nothing behind",
		Long: `Removes the containers, networks and volumes that carry the sandbox's label, and
its state folder. Nothing else is touched. The images that were built for it stay,
so that the next up is quick; --images removes them as well.`,
		Example: `  sandbox down
  sandbox down --name review
  sandbox down --all --yes`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx := cmd.Context()
			var names []string
			var err error
			switch {
			case all:
				if names, err = session.All(ctx); err != nil {
					return err
				}
				if len(names) > 0 && !yes {
					if err := a.confirm(ctx, "--all removes "+strings.Join(names, ", "), cmd.CommandPath()+" --all --yes"); err != nil {
						return err
					}
				}
			case a.name != "":
				names = []string{a.name}
			default:
				name, err := session.One("")
				if err != nil {
					return err
				}
				names = []string{name}
			}
			var errs []error
			for _, name := range names {
				out, err := a.progressSink()
				if err != nil {
					return err
				}
				err = session.Down(ctx, name, images, out)
				errs = append(errs, out.Close(), out.reported(err))
			}
			if len(names) == 0 {
				_, err := fmt.Fprintln(a.Err, "no sandbox is there")
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "every sandbox of this user")
	cmd.Flags().BoolVar(&images, "images", false, "the images that were built for it as well")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}
