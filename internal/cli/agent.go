package cli

import (
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sandbox-stack/sandbox/internal/agent"
	"github.com/sandbox-stack/sandbox/internal/agent/exporter"
	"github.com/sandbox-stack/sandbox/internal/agent/proxy"
	"github.com/sandbox-stack/sandbox/internal/agent/receiver"
)

// agentCommand is what this program does in containers of a sandbox. It is not
// for people: package agent/box starts it.
func (a *app) agentCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:    "agent",
		Short:  "What runs in the containers of a sandbox",
		Hidden: true,
		Args:   knownCommand,
		RunE:   func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.receiverCommand(), a.proxyCommand(), a.exporterCommand())
	return cmd
}

func (a *app) receiverCommand() *cobra.Command {
	var listen string
	cmd := &cobra.Command{
		Use:   "receiver",
		Short: "Take Alertmanager's notifications and hand them out",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return agent.Serve(cmd.Context(), listen, receiver.NewServer(a.Err).Handler(), a.Err)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", fmt.Sprintf(":%d", agent.PortReceiver), "where to answer")
	return cmd
}

func (a *app) proxyCommand() *cobra.Command {
	var health string
	cmd := &cobra.Command{
		Use:   "proxy",
		Short: "Break what passes, as " + proxy.Variable + " says",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			spec, err := proxy.Parse(os.Getenv(proxy.Variable))
			if err != nil {
				return err
			}
			return proxy.Run(cmd.Context(), spec, health, a.Err)
		},
	}
	cmd.Flags().StringVar(&health, "health", fmt.Sprintf(":%d", agent.PortProxy), "where to say that it is ready")
	return cmd
}

func (a *app) exporterCommand() *cobra.Command {
	var (
		listen  string
		modules []string
		cfg     exporter.Config
	)
	cmd := &cobra.Command{
		Use:   "exporter",
		Short: "Show Prometheus what it can't see by itself",
		Args:  args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg.Modules = map[string]string{}
			for _, m := range modules {
				name, file, ok := strings.Cut(m, "=")
				if !ok {
					return fmt.Errorf("--module %q is not NAME=FILE", m)
				}
				cfg.Modules[name] = file
			}
			return agent.Serve(cmd.Context(), listen, exporter.Handler(cfg, a.Err), a.Err)
		},
	}
	f := cmd.Flags()
	f.StringVar(&listen, "listen", fmt.Sprintf(":%d", agent.PortExporter), "where to answer")
	f.StringVar(&cfg.Emulator, "emulator", "", "URL of the AWS emulator")
	f.StringVar(&cfg.Cluster, "cluster", "", "URL of the cluster's API")
	f.StringArrayVar(&modules, "module", nil, "Terraform module and its state file: NAME=FILE")
	f.StringVar(&cfg.Region, "region", "", "AWS region")
	f.StringVar(&cfg.AccessKey, "access-key", "", "what the emulator takes for its default account")
	f.StringVar(&cfg.SecretKey, "secret-key", "", "belongs to --access-key")
	return cmd
}
