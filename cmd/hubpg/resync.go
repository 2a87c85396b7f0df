package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"hubpg/internal/config"
	"hubpg/materialize"
)

func (p *Program) resyncCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resync TABLE",
		Short: "Read a whole table again, without downtime",
		Long: "Read everything that HubSpot has for a table and store it in the same table. Readers see every row all the\n" +
			"time, as it was or as HubSpot has it; hubpg serve may go on. The change log gets what was different. The calls\n" +
			"come out of the same quota as those of serve.",
		Example: "  hubpg resync contacts --config hubpg.yaml",
		Args:    exactArguments(1),
	}
	loader := config.NewLoader(cmd.Flags(), "hubspot.", "database.", "schema", "log.level")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := loader.Load(p.LookupEnv)
		if err != nil {
			return err
		}
		if err := c.ValidateDatabase(); err != nil {
			return err
		}
		if err := c.ValidateHubSpot(); err != nil {
			return err
		}
		var report *materialize.ResyncReport
		cfg := materialize.VerifyConfig{RowNotify: c.Notify == "rows"}
		err = p.compare(cmd.Context(), c, cfg, func(ctx context.Context, cfg materialize.VerifyConfig) (err error) {
			report, err = materialize.Resync(ctx, cfg, args[0])
			return err
		})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(p.Stdout, "%s: %d read in %s, %d rows were different\n",
			report.Table, report.Read, report.Took.Round(100*time.Millisecond), report.Changed)
		return err
	}
	return cmd
}
