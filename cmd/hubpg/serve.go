package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"hubpg/internal/config"
)

// drainTimeout is how long a stopping process waits for transactions of its clients.
const drainTimeout = 30 * time.Second

func (p *Program) serveCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Keep an account's tables true and serve them",
		Long: "Keep the tables of a HubSpot account true, serve them over the Postgres protocol and wake LISTENing\n" +
			"clients when a row changes. The database needs a role that owns it, nothing more.\n" +
			"`hubpg config` shows every setting, the rare ones too.",
		Example: "  HUBPG_HUBSPOT_TOKEN_FILE=token HUBPG_DATABASE_URL=postgres://hubpg@db/crm hubpg serve\n" +
			"  hubpg serve --config hubpg.yaml --role proxy --proxy-listen :6543\n" +
			"  hubpg serve --config hubpg.yaml --take-over   # then stop the one that runs",
		Args: noArguments,
	}
	loader := config.NewLoader(cmd.Flags())
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := loader.Load(p.LookupEnv)
		if err != nil {
			return err
		}
		return p.serve(cmd.Context(), c)
	}
	return cmd
}

func (p *Program) serve(ctx context.Context, c *config.Config) error {
	if err := c.Validate(); err != nil {
		return err
	}
	log, err := p.logger(c.Log)
	if err != nil {
		return err
	}
	idle := func() {}
	p.reload.Store(&idle) // a hangup from now on is no reason to end
	app, err := newApp(ctx, c, log, tuning{drain: drainTimeout})
	if err != nil {
		return endOf(ctx, err)
	}
	defer app.Close()
	reload := app.Reload
	p.reload.Store(&reload)
	return app.Run(ctx)
}
