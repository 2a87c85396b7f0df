package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/oauth2"
	"golang.org/x/sync/errgroup"

	"hubpg/hubapi"
	"hubpg/internal/budget"
	"hubpg/internal/config"
	"hubpg/internal/handover"
	"hubpg/internal/mirror"
	"hubpg/internal/status"
	"hubpg/internal/telemetry"
	"hubpg/internal/writeback"
	"hubpg/materialize"
	"hubpg/migrations"
	"hubpg/proxy"
)

// Bounds of starting up.
const (
	connectTimeout = 15 * time.Second // to Postgres
	accountTimeout = 20 * time.Second // to HubSpot, tries included
)

// Connections to Postgres, besides those of the proxy's clients.
const (
	materializeConns = 16
	proxyConns       = 6
	authConns        = 4
)

// App is hubpg serve: the roles of one process, wired together. Make it with newApp, which does everything that can
// fail for a reason the user can mend; then Run it; then Close it.
type App struct {
	cfg     *config.Config
	log     *slog.Logger
	pool    *pgxpool.Pool
	auth    *pgxpool.Pool // for the proxy's auth query; nil where that runs on pool, or not at all
	metrics *telemetry.Metrics
	http    *web // nil without http.listen
	budget  *budget.Budget
	hubspot *hubapi.Client // nil in a process that calls nobody
	engine  *materialize.Engine
	writer  *writeback.Writer // nil in a process that calls nobody
	proxy   *proxy.Server
	tuning  tuning

	receiver *materialize.Receiver // nil without an app's secret
}

// tuning is what a command may want to differ without asking the user.
type tuning struct {
	drain time.Duration    // how long a stopping proxy waits for transactions of its clients
	pace  materialize.Pace // of the lanes
}

// newApp checks the configuration, opens the sockets, sees to the database's schema and asks HubSpot whose token it is.
// An App that is not going to run must be closed.
func newApp(ctx context.Context, cfg *config.Config, log *slog.Logger, tune tuning) (_ *App, err error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	a := &App{cfg: cfg, log: log, tuning: tune}
	defer func() {
		if err != nil {
			a.Close()
		}
	}()
	starting, err := a.open(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.prepareSchema(ctx, starting); err != nil {
		return nil, err
	}
	a.metrics = telemetry.New(version(), telemetry.Sources{
		Proxy: a.proxyStats, Quota: a.quotaStats, Tables: a.tableStats, Feeds: a.feedStats, Webhooks: a.webhookStats,
	})
	if cfg.Role.Materializes() {
		if err := a.addEngine(ctx); err != nil {
			return nil, err
		}
	}
	if err := a.addReceiver(); err != nil {
		return nil, err
	}
	if cfg.Role.Proxies() {
		if err := a.addProxyWriter(ctx); err != nil {
			return nil, err
		}
		if err := a.addAuth(ctx); err != nil {
			return nil, err
		}
		if err := a.addProxy(); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// open opens the address of HTTP and the database, and answers whoever asks how the process does that it is starting.
func (a *App) open(ctx context.Context) (_ *status.Starting, err error) {
	var listener net.Listener
	if a.cfg.HTTP.Listen != "" {
		if listener, err = handover.TCP(ctx, a.cfg.HTTP.Listen, a.cfg.TakeOver); err != nil {
			return nil, listenError(err, "the status page", a.cfg.HTTP.Listen, "--http-listen")
		}
	}
	if a.pool, err = openPool(ctx, a.cfg); err != nil {
		if listener != nil {
			_ = listener.Close() // nothing was accepted yet
		}
		return nil, err
	}
	starting := status.NewStarting(status.Config{Database: a.pool, Logger: a.log})
	if listener != nil {
		a.http = openWeb(ctx, listener, starting)
	}
	return starting, nil
}

// Run serves until ctx ends or a part fails for good. Everything it started has ended when it returns.
func (a *App) Run(ctx context.Context) error {
	if a.http != nil {
		a.http.show(a.handler()) // before it is said that it is there
	}
	a.log.Info("serving", slog.String("role", string(a.cfg.Role)), slog.String("version", version()),
		slog.String("proxy", a.ProxyAddr()), slog.String("http", a.HTTPURL()))
	g, run := errgroup.WithContext(ctx)
	if a.http != nil {
		g.Go(func() error { return a.http.run(run) })
	}
	if a.budget != nil {
		g.Go(func() error { return a.budget.Run(run) })
	}
	if a.engine != nil {
		g.Go(func() error { return a.followUsage(run) })
		g.Go(func() error { return a.engine.Run(run) })
	}
	if a.writer != nil {
		g.Go(func() error { return a.writer.Run(run) })
	}
	if a.proxy != nil {
		server := a.proxy
		g.Go(func() error { return server.Run(run) })
	}
	err := g.Wait()
	a.log.Info("stopped")
	return endOf(ctx, err)
}

// Close releases what newApp opened and Run has not closed. It may be called at any time after Run, or instead of it.
func (a *App) Close() {
	if a.http != nil {
		_ = a.http.close() // Run has reported it
	}
	if a.proxy != nil {
		a.proxy.Close()
	}
	if a.writer != nil {
		a.writer.Close()
	}
	if a.auth != nil {
		a.auth.Close()
	}
	if a.pool != nil {
		a.pool.Close()
	}
}

// Reload reads the proxy's certificates again. One that cannot be used leaves the old one in force.
func (a *App) Reload() {
	if a.proxy == nil || a.cfg.Proxy.TLSCert == "" {
		a.log.Info("nothing to reload: the proxy has no certificate")
		return
	}
	if err := a.proxy.ReloadTLS(); err != nil {
		a.log.Error("certificates not reloaded, the old ones stay", slog.String("error", err.Error()))
		return
	}
	a.log.Info("certificates reloaded")
}

// HTTPURL is the address of the status page, "" without one. It is known before Run.
func (a *App) HTTPURL() string {
	if a.http == nil {
		return ""
	}
	return "http://" + reachable(a.http.address)
}

// ProxyAddr is the address of the proxy, "" without one. It is known before Run.
func (a *App) ProxyAddr() string {
	if a.proxy == nil {
		return ""
	}
	return reachable(a.proxy.Addr())
}

// Status reads the state of the tables.
func (a *App) Status(ctx context.Context) (*status.Report, error) { return status.Read(ctx, a.pool) }

func (a *App) handler() http.Handler {
	return a.withWebhooks(status.NewHandler(status.Config{
		Database: a.pool, Version: version(), Role: string(a.cfg.Role),
		Quota: a.quota, Awaits: a.awaits, Metrics: a.metrics.Handler(), Logger: a.log,
	}))
}

// openPool connects to the database and makes sure that it answers.
func openPool(ctx context.Context, cfg *config.Config) (*pgxpool.Pool, error) {
	pool, err := pgxpool.ParseConfig(cfg.Database.URL.Reveal())
	if err != nil {
		return nil, err
	}
	if !strings.Contains(cfg.Database.URL.Reveal(), "pool_max_conns") {
		pool.MaxConns = proxyConns
		if cfg.Role.Materializes() {
			pool.MaxConns = materializeConns
		}
	}
	if pool.ConnConfig.RuntimeParams["application_name"] == "" {
		pool.ConnConfig.RuntimeParams["application_name"] = "hubpg"
	}
	pool.ConnConfig.ConnectTimeout = connectTimeout
	p, err := pgxpool.NewWithConfig(ctx, pool)
	if err != nil {
		return nil, err
	}
	if err := p.Ping(ctx); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// prepareSchema brings schema hubpg up to date, or waits until a process that may do so has: a proxy leaves the schema
// to others, and processes that are started together come up in any order.
func (a *App) prepareSchema(ctx context.Context, starting *status.Starting) error {
	if a.cfg.Role.Materializes() {
		return migrate(ctx, a.pool)
	}
	return migrations.Await(ctx, a.pool, func(missing string) {
		const hint = "start hubpg serve of this version with another role than proxy against it"
		starting.Wait("waiting for the database: " + missing + "; " + hint)
		a.log.Warn("waiting for the database", slog.String("reason", missing), slog.String("hint", hint), slog.String("http", a.HTTPURL()))
	})
}

// migrate brings schema hubpg up to date on a connection of its own.
func migrate(ctx context.Context, pool *pgxpool.Pool) error {
	conn, err := pgx.ConnectConfig(ctx, pool.Config().ConnConfig.Copy())
	if err != nil {
		return err
	}
	err = migrations.Up(ctx, conn)
	return errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}

// addEngine builds the engine for the account that the token belongs to.
func (a *App) addEngine(ctx context.Context) error {
	client, account, err := a.client(ctx)
	if err != nil {
		return err
	}
	if err := a.addWriter(client, account); err != nil {
		return err
	}
	journal, err := a.journalClient()
	if err != nil {
		return err
	}
	keep, err := a.cfg.Keep()
	if err != nil {
		return err
	}
	a.engine, err = materialize.New(materialize.Config{
		Pool: a.pool, Client: client, Journal: journal, Schema: a.cfg.Schema, RowNotify: a.cfg.Notify == "rows",
		SoftDeletes: a.cfg.Deletes == "soft", Objects: a.cfg.ObjectNames(), IgnoreNewProperties: a.cfg.NewProperties == "ignore",
		KeepChanges: keep, BackfillEvents: a.cfg.BackfillEvents,
		Pace: a.tuning.pace, Meter: meter{a.metrics}, Logger: a.log,
	})
	return err
}

// addProxyWriter gives a process that only serves clients a writer, if it has been given what it needs to call HubSpot.
func (a *App) addProxyWriter(ctx context.Context) error {
	if a.writer != nil || a.cfg.HubSpot.Token == "" && !a.cfg.HubSpot.Connects() {
		return nil
	}
	client, account, err := a.client(ctx)
	if err != nil {
		return err
	}
	return a.addWriter(client, account)
}

// addWriter builds what sends the writes of the proxy's clients to HubSpot.
func (a *App) addWriter(client *hubapi.Client, account hubapi.Account) (err error) {
	notify := mirror.NotifyOff
	if a.cfg.Notify == "rows" {
		notify = mirror.NotifyRows
	}
	a.writer, err = writeback.New(writeback.Config{
		Pool: a.pool, Client: client, PortalID: account.PortalID, Notify: notify, Logger: a.log,
	})
	return err
}

// client makes the client of the account that the token belongs to, and the budget that its calls come out of.
func (a *App) client(ctx context.Context) (*hubapi.Client, hubapi.Account, error) {
	account, tokens, err := a.account(ctx)
	if err != nil {
		return nil, account, err
	}
	a.budget = budget.New(a.pool, budget.Config{
		PortalID: account.PortalID, Location: account.Location(), Share: a.cfg.HubSpot.Share,
		Unlimited: a.cfg.HubSpot.Limits == "off",
	})
	client, err := hubapi.New(a.cfg.HubSpot.URL, tokens,
		hubapi.WithLimiter(a.budget), hubapi.WithLogger(a.log), hubapi.WithProductVersion(version()),
		hubapi.WithObserver(a.observeCall))
	a.hubspot = client
	return client, account, err
}

// account asks HubSpot whose token it is. A HubSpot that cannot be reached is an error only when the database does not
// know the account yet: tables that are there are worth serving, and the lanes keep trying.
func (a *App) account(ctx context.Context) (account hubapi.Account, tokens oauth2.TokenSource, err error) {
	known, zone, err := a.knownAccount(ctx)
	if err != nil {
		return account, nil, err
	}
	if tokens, err = a.tokens(ctx, known); err != nil {
		return account, nil, err
	}
	client, err := hubapi.New(a.cfg.HubSpot.URL, tokens,
		hubapi.WithProductVersion(version()), hubapi.WithRetry(hubapi.RetryPolicy{Tries: 4, Elapsed: accountTimeout / 2}))
	if err != nil {
		return account, nil, fail(err, "leave hubspot.url out for HubSpot itself, or give the URL of a sandbox",
			"hubspot.url cannot be used: %s", cause(err))
	}
	probe, cancel := context.WithTimeout(ctx, accountTimeout)
	defer cancel()
	account, err = client.GetAccount(probe)
	if _, away := errors.AsType[*hubapi.UnavailableError](err); (away || probe.Err() != nil) && ctx.Err() == nil && known != 0 {
		a.log.Warn("hubspot is away, serving what is stored", slog.String("error", err.Error()))
		return hubapi.Account{PortalID: known, TimeZone: zone}, tokens, nil
	}
	if err != nil {
		return account, nil, fmt.Errorf("ask HubSpot for the account: %w", err)
	}
	if known != 0 && known != account.PortalID {
		return account, nil, fail(nil, "use another database, or another schema with --schema",
			"schema %s holds HubSpot account %d, but the token belongs to account %d", a.cfg.Schema, known, account.PortalID)
	}
	return account, tokens, nil
}

// knownAccount is the account whose tables are in the schema, 0 when there is none.
func (a *App) knownAccount(ctx context.Context) (portal int64, zone string, err error) {
	err = a.pool.QueryRow(ctx, "select portal_id, time_zone from hubpg.accounts where schema_name = $1", a.cfg.Schema).
		Scan(&portal, &zone)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, "", nil
	}
	return portal, zone, err
}

// addAuth opens what verifies clients with auth scram, and makes sure that it can.
func (a *App) addAuth(ctx context.Context) error {
	if a.cfg.Proxy.Auth != string(proxy.AuthSCRAM) {
		return nil
	}
	pool := a.pool
	if url := a.cfg.Proxy.AuthURL.Reveal(); url != "" {
		c, err := pgxpool.ParseConfig(url)
		if err != nil {
			return fail(err, "use postgres://user:password@host:5432/database; percent-encode special characters", "proxy.auth_url is not a URL")
		}
		c.MaxConns = authConns
		c.ConnConfig.ConnectTimeout = connectTimeout
		c.ConnConfig.RuntimeParams["application_name"] = "hubpg sign-in"
		if a.auth, err = pgxpool.NewWithConfig(ctx, c); err != nil {
			return err
		}
		pool = a.auth
	}
	probe, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if err := proxy.ProbeAuth(probe, pool, a.cfg.Proxy.AuthQuery); err != nil {
		return fail(err, "let proxy.auth_url name a role that may run proxy.auth_query, such as one with a function of a superuser's "+
			"that returns name and password, or use proxy.auth auto", "proxy.auth scram cannot read verifiers: %s", cause(err))
	}
	return nil
}

func (a *App) addProxy() (err error) {
	var write proxy.Writer // a process that calls nobody leaves writes to the guard in the database, which refuses them
	if a.writer != nil {
		write = writer{a.writer}
	}
	idle, err := a.cfg.Proxy.Idle()
	if err != nil {
		return err
	}
	expressAfter := 0 // the proxy's own default
	if !a.cfg.Proxy.EventLoop {
		expressAfter = -1
	}
	a.proxy, err = proxy.New(proxy.Config{
		Listen: a.cfg.Proxy.Listen, Socket: a.cfg.Proxy.Socket, TakeOver: a.cfg.TakeOver, Upstream: a.cfg.Database.URL.Reveal(),
		TLS: proxy.TLS{
			CertFile: a.cfg.Proxy.TLSCert, KeyFile: a.cfg.Proxy.TLSKey,
			ClientCAFile: a.cfg.Proxy.TLSClientCA, Required: a.cfg.Proxy.TLSRequired,
		},
		Auth: proxy.Auth(a.cfg.Proxy.Auth), AuthQuery: a.cfg.Proxy.AuthQuery, AuthPool: a.auth,
		Limits: proxy.Limits{
			Sessions: a.cfg.Proxy.MaxSessions, SessionsPerAddress: a.cfg.Proxy.MaxSessionsPerAddress,
			SessionsPerRole: a.cfg.Proxy.MaxSessionsPerRole, StatementMemory: int64(a.cfg.Proxy.StatementMemory) << 20,
			CopyDisk: int64(a.cfg.Proxy.CopyDisk) << 20, KeptBackends: a.cfg.Proxy.KeepBackends,
		},
		Changes: a.pool, Writer: write, Schemas: []string{a.cfg.Schema}, ListenerIdle: idle,
		ExpressAfter: expressAfter,
		DrainTimeout: a.tuning.drain, Logger: a.log,
	})
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "listen" {
		return listenError(err, "the proxy", a.cfg.Proxy.Listen, "--proxy-listen")
	}
	return err
}
