package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"hubpg/internal/config"
)

// Pauses before a lost connection is made again.
const (
	firstRetry = 100 * time.Millisecond
	lastRetry  = 10 * time.Second
)

func (p *Program) listenCommand() *cobra.Command {
	var l listening
	var address string
	cmd := &cobra.Command{
		Use:   "listen [channel...]",
		Short: "Print changes as they happen",
		Long: "Connect to hubpg's proxy, listen, and print each change as one line. Channels are those of LISTEN: hubspot,\n" +
			"hubspot_deals, hubspot_deals.dealstage; without any, all changes. A connection that is lost is made again, and\n" +
			"what happened meanwhile is replayed: no change is left out or printed twice. Ends with Ctrl-C.",
		Example: "  hubpg listen hubspot_deals.dealstage\n" +
			"  hubpg listen --url postgres://me@crm:6543/crm --since 0 --json | jq .after",
	}
	loader := config.NewLoader(cmd.Flags(), "database.", "proxy.listen", "proxy.tls_cert", "schema", "log.")
	cmd.Flags().StringVar(&address, "url", "", "address of the proxy; by default that of the settings, as the database's role")
	cmd.Flags().BoolVar(&l.json, "json", false, "print the notifications as they are, in JSON")
	cmd.Flags().Int64Var(&l.since, "since", -1, "begin with the change after this number; 0 is all that is kept")
	cmd.RunE = func(cmd *cobra.Command, channels []string) error {
		c, err := loader.Load(p.LookupEnv)
		if err != nil {
			return err
		}
		if l.log, err = p.logger(c.Log); err != nil {
			return err
		}
		if l.since < -1 {
			return usageError{problem: "--since is the number of a change, 0 or more", command: cmd.CommandPath()}
		}
		if l.conn, err = proxyConfig(c, address); err != nil {
			return err
		}
		if len(channels) == 0 {
			channels = []string{c.Schema}
		}
		for _, name := range channels {
			if strings.Contains(name, "@") {
				return usageError{problem: fmt.Sprintf("channel %q has a replay mark: use --since", name), command: cmd.CommandPath()}
			}
		}
		l.out = p.Stdout
		return l.run(cmd.Context(), channels)
	}
	return cmd
}

// proxyConfig says how to connect to the proxy: by its address, or by the settings of the process that serves it.
func proxyConfig(c *config.Config, address string) (*pgx.ConnConfig, error) {
	if address != "" {
		return pgx.ParseConfig(address)
	}
	if err := c.ValidateDatabase(); err != nil {
		return nil, err
	}
	conn, err := pgx.ParseConfig(c.Database.URL.Reveal())
	if err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(c.Proxy.Listen)
	if err != nil {
		return nil, fail(err, "give the proxy's address with --url", "proxy.listen %q is no address", c.Proxy.Listen)
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fail(err, "give the proxy's address with --url", "proxy.listen %q has no port number", c.Proxy.Listen)
	}
	conn.Host, conn.Port, conn.Fallbacks = host, uint16(number), nil
	if c.Proxy.TLSCert == "" {
		conn.TLSConfig = nil
	}
	return conn, nil
}

// listening is one run of hubpg listen.
type listening struct {
	conn  *pgx.ConnConfig
	since int64 // -1: from now on
	json  bool
	out   io.Writer
	log   *slog.Logger

	heard map[string]int64 // by channel, the newest change printed, or the one to begin after; -1 if not known
}

// run listens until ctx ends, over as many connections as it takes. The first one has to work.
func (l *listening) run(ctx context.Context, channels []string) error {
	l.heard = map[string]int64{}
	for _, name := range channels {
		l.heard[name] = l.since
	}
	l.conn.ConnectTimeout = connectTimeout
	l.conn.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol // leaves nothing behind in the session
	begun, wait := false, firstRetry
	for {
		err := l.once(ctx, func() { begun, wait = true, firstRetry })
		if ctx.Err() != nil {
			return nil
		}
		if !begun || final(err) {
			return err
		}
		l.log.Warn("connection lost", slog.String("error", cause(err)), slog.Duration("retry", wait))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		wait = min(2*wait, lastRetry)
	}
}

// final reports whether trying again can only fail alike.
func final(err error) bool {
	if _, ok := errors.AsType[*os.PathError](err); ok {
		return true // the output is gone
	}
	e, ok := errors.AsType[*pgconn.PgError](err)
	if !ok {
		_, ok = errors.AsType[*failure](err)
		return ok
	}
	class := e.Code[:min(2, len(e.Code))]
	return class != "08" && class != "57" && class != "53" && class != "XX"
}

// once listens over one connection until that is lost. It calls ready when it listens to everything.
func (l *listening) once(ctx context.Context, ready func()) error {
	conn, err := pgx.ConnectConfig(ctx, l.conn)
	if err != nil {
		return err
	}
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(ctx) // it may be broken
	}()
	names := map[string]string{} // of channels, as the notifications will bear them
	for channel := range l.heard {
		name, err := l.listen(ctx, conn, channel)
		if err != nil {
			return err
		}
		names[name] = channel
	}
	ready()
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return fmt.Errorf("await change: %w", err)
		}
		channel, ours := names[n.Channel]
		if !ours {
			continue
		}
		if err := l.print(channel, n.Payload); err != nil {
			return err
		}
	}
}

// listen begins to listen to a channel where the last connection ended.
func (l *listening) listen(ctx context.Context, conn *pgx.Conn, channel string) (name string, err error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	if l.heard[channel] < 0 {
		// The place to begin at, for the case that the connection is lost before anything is heard. A role that may
		// not read it begins at LISTEN.
		var last int64
		err := conn.QueryRow(ctx, "select last from hubpg.change_counter").Scan(&last)
		if _, refused := errors.AsType[*pgconn.PgError](err); err != nil && !refused {
			return "", err
		}
		if err == nil {
			l.heard[channel] = last
		}
	}
	name = channel
	if after := l.heard[channel]; after >= 0 {
		name += "@" + strconv.FormatInt(after, 10)
	}
	if _, err := conn.Exec(ctx, "listen "+pgx.Identifier{name}.Sanitize()); err != nil {
		return "", err
	}
	var native bool
	if err := conn.QueryRow(ctx, "select $1 in (select pg_listening_channels())", name).Scan(&native); err != nil {
		return "", err
	}
	if native {
		return "", fail(nil, "connect to the proxy (proxy.listen), and to a channel of the account's schema",
			"channel %q is Postgres's own here, not hubpg's", channel)
	}
	return name, nil
}

// print writes one change, unless it was written already.
func (l *listening) print(channel, payload string) error {
	var change struct {
		Seq       int64
		Table     string
		ID        int64
		Op        string
		Changed   []string
		After     map[string]json.RawMessage
		Truncated bool
	}
	if err := json.Unmarshal([]byte(payload), &change); err != nil {
		return fmt.Errorf("read notification: %w", err)
	}
	if change.Seq <= l.heard[channel] {
		return nil
	}
	line := payload
	if !l.json {
		var b strings.Builder
		fmt.Fprintf(&b, "%d %s %s %d", change.Seq, change.Op, change.Table, change.ID)
		for _, column := range change.Changed {
			if value, ok := change.After[column]; ok {
				fmt.Fprintf(&b, " %s=%s", column, value)
			} else {
				fmt.Fprintf(&b, " %s", column)
			}
		}
		if change.Truncated {
			b.WriteString(" (truncated)")
		}
		line = b.String()
	}
	if _, err := fmt.Fprintln(l.out, line); err != nil {
		return fmt.Errorf("print change: %w", err)
	}
	l.heard[channel] = change.Seq
	return nil
}
