package main

import (
	"github.com/spf13/cobra"

	"hubpg/internal/config"
)

func (p *Program) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Print the settings in force and where each comes from",
		Long: "Print the settings in force as YAML, each with where it comes from. Secrets are masked.\n" +
			"Flags win over the environment, the environment over the file, the file over the defaults.",
		Example: "  hubpg config\n  hubpg config --config hubpg.yaml --role proxy",
		Args:    noArguments,
	}
	loader := config.NewLoader(cmd.Flags())
	cmd.RunE = func(*cobra.Command, []string) error {
		c, err := loader.Load(p.LookupEnv)
		if err != nil {
			return err
		}
		return c.Print(p.Stdout)
	}
	return cmd
}
