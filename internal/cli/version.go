package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// version is set by the linker; a plain `go build` leaves it as it is.
var version = "dev"

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  sandbox version -o json",
		Args:    args(cobra.NoArgs),
		RunE: func(*cobra.Command, []string) error {
			info := struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				OS      string `json:"os"`
				Arch    string `json:"arch"`
			}{version, runtime.Version(), runtime.GOOS, runtime.GOARCH}
			if a.output != "table" {
				return a.data(info)
			}
			_, err := fmt.Fprintf(a.Out, "sandbox %s (%s %s/%s)\n", info.Version, info.Go, info.OS, info.Arch)
			return err
		},
	}
}
