package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"hubpg/internal/config"
	"hubpg/internal/pgtest"
	"hubpg/internal/sandbox"
	"hubpg/materialize"
)

// demoOptions are the flags of hubpg demo.
type demoOptions struct {
	proxy, http   string
	data          string
	contacts      int
	contactsGiven bool
	quiet         bool
	exitWhenReady bool
	logLevel      string
}

// demoTuning lets a stranger see at once what an account with limits would show in its own time: the sandbox has none.
func demoTuning() tuning {
	return tuning{drain: 3 * time.Second, pace: materialize.Pace{
		Idle: 5 * time.Second, Trailing: time.Minute, Schema: 30 * time.Second,
		Archived: 5 * time.Second, IDs: 30 * time.Second, Pairs: 30 * time.Second,
		Calculated: time.Minute, Counts: 15 * time.Second, Lookups: 30 * time.Second,
	}}
}

func (p *Program) demoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run everything on this machine with a simulated HubSpot",
		Long: "Start a private Postgres, a simulated HubSpot account in which records keep changing, and hubpg serve\n" +
			"against both. It prints, one line each: sandbox URL (its token is sandbox), direct URL (the database\n" +
			"itself) and, once the first backfill is complete, ready URL (through the proxy). Ctrl-C stops all of\n" +
			"it; the next run goes on with the same data.",
		Example: "  hubpg demo\n  psql postgres://hubpg@127.0.0.1:6543/hubpg -c 'select count(*) from hubspot.contacts'",
		Args:    noArguments,
	}
	flags := cmd.Flags()
	flags.StringVar(&o.proxy, "proxy", config.DefaultProxyListen, "address of the proxy")
	flags.StringVar(&o.http, "http", config.DefaultHTTPListen, "address of the status page, health checks and metrics")
	flags.StringVar(&o.data, "data", "", "directory of the data (default: a cache directory that is used again)")
	flags.IntVar(&o.contacts, "contacts", sandbox.DefaultContacts, "number of contacts; the other objects grow with it")
	flags.BoolVar(&o.quiet, "quiet-sandbox", false, "no record changes by itself")
	flags.BoolVar(&o.exitWhenReady, "exit-when-ready", false, "stop once the first backfill is complete")
	flags.StringVar(&o.logLevel, "log-level", "warn", "debug, info, warn or error")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.contactsGiven = flags.Changed("contacts")
		if problem := o.problem(); problem != "" {
			return usageError{problem: problem, command: cmd.CommandPath()}
		}
		return p.runDemo(cmd.Context(), o)
	}
	return cmd
}

// problem says which flag cannot be used, "" if none.
func (o *demoOptions) problem() string {
	if o.contacts < 1 {
		return "--contacts must be at least 1"
	}
	for _, a := range []struct{ flag, address string }{{"--proxy", o.proxy}, {"--http", o.http}} {
		if _, _, err := net.SplitHostPort(a.address); err != nil && (a.address != "" || a.flag == "--proxy") {
			return fmt.Sprintf("%s %q is not host:port", a.flag, a.address)
		}
	}
	if _, err := (config.Log{Level: o.logLevel}).SlogLevel(); err != nil {
		return fmt.Sprintf("--log-level %q: use debug, info, warn or error", o.logLevel)
	}
	return ""
}

// runDemo starts the parts from the ground up and stops them from the top down.
func (p *Program) runDemo(ctx context.Context, o demoOptions) (err error) {
	release, err := reserve(ctx, o)
	if err != nil {
		return err
	}
	defer release()
	scr := newScreen(p.Stderr)
	defer scr.close()
	h, err := openHome(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	db, err := startDatabase(ctx, h, scr)
	if err != nil {
		return err
	}
	defer func() {
		scr.say("stopping Postgres")
		err = errors.Join(err, db.Stop())
	}()
	url, err := prepareDatabase(ctx, db, h)
	if err != nil {
		return err
	}
	return p.withSandbox(ctx, o, h, scr, func(ctx context.Context, sandboxURL string) error {
		if _, err := fmt.Fprintf(p.Stdout, "sandbox %s\ndirect %s\n", sandboxURL, url); err != nil {
			return err
		}
		release()
		return p.demoServe(ctx, o, db, scr, sandboxURL, url)
	})
}

// reserve takes the ports that the user has chosen before the sandbox and Postgres choose theirs. One that is in use is
// found early, by the demo's own flag. release, which may be called again, leaves them to serve.
func reserve(ctx context.Context, o demoOptions) (release func(), err error) {
	var held []net.Listener
	release = func() {
		for _, listener := range held {
			_ = listener.Close() // nothing was accepted
		}
	}
	for _, a := range []struct{ what, address, flag string }{
		{"the proxy", o.proxy, "--proxy"}, {"the status page", o.http, "--http"},
	} {
		if a.address == "" {
			continue
		}
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.address)
		if err != nil {
			release()
			return nil, listenError(err, a.what, a.address, a.flag)
		}
		held = append(held, listener)
	}
	return release, nil
}

// withSandbox runs the simulated account around work, and keeps its state when work has ended: what the mirror holds
// by then, the kept state holds too.
func (p *Program) withSandbox(ctx context.Context, o demoOptions, h *home, scr *screen,
	work func(ctx context.Context, url string) error,
) (err error) {
	account, err := h.account(o)
	if err != nil {
		return err
	}
	listener, err := listenPreferring(ctx, defaultSandboxListen)
	if err != nil {
		return listenError(err, "the sandbox", "127.0.0.1", "--data")
	}
	around, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	g, around := errgroup.WithContext(around)
	g.Go(func() error { return account.Run(around) })
	g.Go(func() error { return serveHTTP(around, listener, account) })

	inner, cancel := context.WithCancelCause(ctx)
	defer context.AfterFunc(around, func() { cancel(errors.New("the sandbox has stopped")) })()
	err = work(inner, httpURL(listener))
	cancel(nil)
	stop()
	err = errors.Join(err, endOf(around, g.Wait()))
	scr.say("keeping the sandbox's data")
	return errors.Join(err, h.keep(account))
}

// listenPreferring listens on address, or on any free port of its host when that one is taken.
func listenPreferring(ctx context.Context, address string) (net.Listener, error) {
	var lc net.ListenConfig
	if listener, err := lc.Listen(ctx, "tcp", address); err == nil {
		return listener, nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	return lc.Listen(ctx, "tcp", net.JoinHostPort(host, "0"))
}

// demoServe runs hubpg serve against the sandbox and the private database until ctx ends.
func (p *Program) demoServe(ctx context.Context, o demoOptions, db *pgtest.Cluster, scr *screen, sandboxURL, url string) error {
	c := config.Default()
	c.HubSpot.URL, c.HubSpot.Token, c.HubSpot.Share = sandboxURL, sandbox.DefaultToken, 1
	c.HubSpot.Limits = "off"
	c.Database.URL = config.Secret(url)
	c.Proxy.Listen, c.HTTP.Listen = o.proxy, o.http
	c.Log.Level = o.logLevel
	if err := c.Validate(); err != nil {
		return err
	}
	level, err := c.Log.SlogLevel()
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(scr, &slog.HandlerOptions{Level: level}))
	app, err := newApp(ctx, c, log, demoTuning())
	if err != nil {
		return err
	}
	defer app.Close()
	if page := app.HTTPURL(); page != "" {
		scr.say("status page %s", page)
	}
	ready := proxyURL(app.ProxyAddr())

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return app.Run(ctx) })
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-db.Done():
			return fail(nil, "see the end of "+db.LogFile(), "the private Postgres has stopped")
		}
	})
	g.Go(func() error {
		if err := scr.follow(ctx, app); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return nil
		}
		if _, err := fmt.Fprintf(p.Stdout, "ready %s\n", ready); err != nil {
			return err
		}
		if o.exitWhenReady {
			cancel()
			return nil
		}
		scr.say("Ctrl-C stops it; the next run goes on with the same data")
		return nil
	})
	err = g.Wait()
	scr.say("stopped")
	return endOf(ctx, err)
}

// proxyURL is the address of the demo's database through the proxy.
func proxyURL(address string) string {
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", demoRole, address, demoDatabase)
}
