package main

import (
	"context"
	"fmt"
	"log/slog"
	"os/exec"
	"runtime"
	"time"

	"hubpg/internal/config"

	"github.com/spf13/cobra"
)

// consentTimeout is how long connect waits for the browser.
const consentTimeout = 15 * time.Minute

func (p *Program) connectCommand() *cobra.Command {
	var open bool
	cmd := &cobra.Command{
		Use:   "connect",
		Short: "Sign in to an account through an app of yours",
		Long: "Print the address where a user of the HubSpot account consents, wait for the browser to come back, and\n" +
			"store the account's tokens in the database, sealed with the key in HUBPG_SECRET_KEY or in a file that is\n" +
			"made on first use. Not needed with the token of a service key or private app.\n\n" +
			"The app is given by HUBPG_HUBSPOT_CLIENT_ID and HUBPG_HUBSPOT_CLIENT_SECRET; " + config.DefaultRedirectURL + "\n" +
			"must be among its redirect URLs. On a server without a browser, forward the port: ssh -L 8098:localhost:8098.",
		Example: "  hubpg connect --config hubpg.yaml\n  hubpg connect --open",
		Args:    noArguments,
	}
	loader := config.NewLoader(cmd.Flags(), "hubspot.url", "database.", "log.level")
	cmd.Flags().BoolVar(&open, "open", false, "open the address in this machine's browser")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := loader.Load(p.LookupEnv)
		if err != nil {
			return err
		}
		if err := c.ValidateDatabase(); err != nil {
			return err
		}
		if err := c.ValidateConnect(); err != nil {
			return err
		}
		return p.connect(cmd.Context(), c, open)
	}
	return cmd
}

func (p *Program) connect(ctx context.Context, c *config.Config, open bool) error {
	log, err := p.logger(c.Log)
	if err != nil {
		return err
	}
	pool, err := openPool(ctx, c)
	if err != nil {
		return err
	}
	defer pool.Close()
	if err := migrate(ctx, pool); err != nil {
		return err
	}
	store, err := signInStore(c, pool)
	if err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(ctx, consentTimeout)
	defer cancel()
	grant, err := hubspotApp(c).Connect(wait, func(address string) {
		fmt.Fprintf(p.Stdout, "Open this address and approve:\n\n  %s\n\n", address)
		if open {
			if err := browse(wait, address); err != nil {
				log.Warn("browser not opened", slog.String("error", err.Error()))
			}
		}
	})
	if err != nil {
		return connectFailure(ctx, wait, err)
	}
	if err := store.Save(ctx, c.HubSpot.ClientID, grant); err != nil {
		return err
	}
	_, err = fmt.Fprintf(p.Stdout, "Connected HubSpot account %d with %d scopes. Start hubpg serve with the same settings.\n",
		grant.PortalID, len(grant.Scopes))
	return err
}

// connectFailure says what to do about a sign-in that did not happen.
func connectFailure(ctx, wait context.Context, err error) error {
	if wait.Err() != nil && ctx.Err() == nil {
		return fail(err, "run hubpg connect again", "nobody approved within %s", consentTimeout)
	}
	return err
}

// browse opens an address in the user's browser.
func browse(ctx context.Context, address string) error {
	name, args := "xdg-open", []string{address}
	switch runtime.GOOS {
	case "darwin":
		name = "open"
	case "windows":
		name, args = "rundll32", []string{"url.dll,FileProtocolHandler", address}
	}
	return exec.CommandContext(ctx, name, args...).Run()
}
