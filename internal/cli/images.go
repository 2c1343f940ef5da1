package cli

import (
	"errors"
	"fmt"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sandbox-stack/sandbox/internal/session"
)

func (a *app) imagesCommand() *cobra.Command {
	var mode string
	cmd := &cobra.Command{
		Use:   "images",
		Args:  knownCommand,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		Short: "Platform images: where each comes from, and building them",
		Long: `A sandbox needs images of the platform: the cluster's node, the AWS emulator,
Prometheus and so on. They come from the engine's store, from a registry, or are
built from packages where no registry can be reached.`,
	}
	list := &cobra.Command{
		Use:     "list",
		Short:   "List the platform images, where each comes from and whether it is there",
		Example: "  sandbox images list -o json",
		Args:    args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf(cmd, "images", mode, "auto", "packages", "registry"); err != nil {
				return err
			}
			all, err := session.Images(cmd.Context(), mode)
			if err != nil {
				return err
			}
			if a.output != "table" {
				return a.data(all)
			}
			w := tabwriter.NewWriter(a.Out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "NAME\tVERSION\tSOURCE\tTHERE\tSIZE\tNOTE")
			for _, i := range all {
				there, size := "no", ""
				if i.Present {
					there = "yes"
				}
				if i.Size > 0 {
					size = fmt.Sprintf("%d MB", i.Size/1e6)
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", i.Name, i.Version, i.Source, there, size, i.Reason)
			}
			return w.Flush()
		},
	}
	build := &cobra.Command{
		Use:   "build [NAME...]",
		Short: "Build platform images from packages, all of them by default",
		Long: `Builds what is missing in the cache; what is there is left alone. It can be
interrupted anywhere and goes on from the last finished part.`,
		Example: `  sandbox images build
  sandbox images build node localstack
  sandbox images build terraform-provider-aws -o json | jq -r '.[].path'`,
		Args: cobra.ArbitraryArgs,
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return session.Recipes(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, names []string) error {
			out, err := a.progressSink()
			if err != nil {
				return err
			}
			built, err := session.BuildImages(cmd.Context(), names, out)
			if err := errors.Join(out.Close(), out.reported(err)); err != nil {
				return err
			}
			if a.output != "table" {
				return a.data(built)
			}
			return nil
		},
	}
	cmd.PersistentFlags().StringVar(&mode, "images", "auto", "where platform images come from: auto, packages, registry")
	cmd.AddCommand(list, build, a.pruneCommand())
	return cmd
}

// pruneCommand frees the disk of what builds from packages no longer need.
func (a *app) pruneCommand() *cobra.Command {
	var older time.Duration
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Remove from the cache what no build has used for long",
		Long: `Removes from the cache of what was built from packages the artifacts of earlier
versions and the parts that no build has used for the time given by --older. What
this version builds stays, and so do the images in the engine's store.`,
		Example: `  sandbox images prune
  sandbox images prune --older 24h`,
		Args: args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if older < 0 {
				return negative(cmd, "older")
			}
			removed, err := session.PruneImages(cmd.Context(), older)
			if err != nil {
				return err
			}
			if a.output != "table" {
				return a.data(map[string]int{"removed": removed})
			}
			noun := "folders"
			if removed == 1 {
				noun = "folder"
			}
			_, err = fmt.Fprintf(a.Out, "%d %s removed from the cache\n", removed, noun)
			return err
		},
	}
	cmd.Flags().DurationVar(&older, "older", 30*24*time.Hour, "how long something has to be unused, for example 168h")
	return cmd
}
