package proxy

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Auth says how a client proves to Postgres who it is.
type Auth string

// The ways to authenticate. Postgres always decides; the proxy keeps no passwords.
const (
	// AuthAuto relays the exchange, except where TLS on both sides makes relaying SCRAM impossible: there it does
	// what AuthPassword does.
	AuthAuto Auth = "auto"
	// AuthRelay passes every authentication message on as it is.
	AuthRelay Auth = "relay"
	// AuthPassword asks for the password inside the client's TLS and logs in to Postgres with it.
	AuthPassword Auth = "password"
	// AuthSCRAM verifies the client's SCRAM-SHA-256 proof against the verifier that AuthQuery reads, and logs in to
	// Postgres with the key that the proof gives away. It works with any mix of TLS, channel binding included, for roles
	// whose password is stored as SCRAM-SHA-256.
	AuthSCRAM Auth = "scram"
)

// Defaults of [Config] and [Limits].
const (
	DefaultListen       = "127.0.0.1:6432"
	DefaultDrainTimeout = 30 * time.Second
	DefaultPoll         = 3 * time.Second
	DefaultListenerIdle = 5 * time.Second
	DefaultExpressAfter = 8

	DefaultSessions           = 10_000
	DefaultSessionsPerAddress = 5_000
	DefaultLoginTimeout       = time.Minute // as Postgres's authentication_timeout: who asks a person for a token takes long
	DefaultConnectTimeout     = 10 * time.Second
	DefaultListenerQueue      = 16_384
	DefaultListens            = 10_000
	DefaultCutOffGrace        = 5 * time.Second
	DefaultCopyBytes          = 256 << 20
	DefaultIdleAfterWrite     = time.Minute
	DefaultFreshWithin        = 30 * time.Second
	DefaultStatementMemory    = 512 << 20
	DefaultCopyDisk           = 2 << 30 // eight of the largest, which the disk of a small machine has room for
	DefaultStatementWait      = 10 * time.Second
	DefaultKeptFor            = time.Minute
)

// maxLogin caps one authentication message of a client; Postgres's own cap for tokens.
const maxLogin = 65_535

// maxLoginMessages caps how many messages a client may send before it is authenticated.
const maxLoginMessages = 16

// Config says what to serve. The zero value of every field but Upstream is its default.
type Config struct {
	// Listen is the TCP address to serve; DefaultListen if empty, "none" for no TCP.
	Listen string
	// Socket is a directory for a Unix socket named as Postgres names its own; none if empty.
	Socket string
	// TakeOver allows the address and the socket to be those of a running proxy of the same user, which is then to be
	// stopped: it goes on accepting until nothing waits there any more, so that no client is refused.
	TakeOver bool
	// Upstream is the connection string of the Postgres behind the proxy. Clients log in as themselves: of the string
	// only hosts, ports and the ssl… settings are used. Without sslmode a host that is not local must verify.
	Upstream string
	// Auth is AuthAuto if empty.
	Auth Auth
	// AuthQuery is for AuthSCRAM: a query with the role's name as $1 whose one row holds the name and the stored
	// password; no row for an unknown role. DefaultAuthQuery if empty.
	AuthQuery string
	// AuthPool is where AuthQuery runs, and where roles are looked at before a client is given a kept backend: on the server that
	// the clients log in to; Changes if nil.
	AuthPool *pgxpool.Pool
	// TLS is the certificate shown to clients; without one the proxy speaks plain text only.
	TLS TLS
	// Changes is a pool on the database that holds the change log, for the LISTEN hub and hubpg.max_staleness. Without it
	// every channel is Postgres's own. The hub keeps one connection of it for itself and borrows another for replays.
	Changes *pgxpool.Pool
	// Writer sends what clients write to HubSpot. It needs Changes. Without it the guard in the database refuses them.
	Writer Writer
	// Schemas are those whose channels the hub serves and whose tables are written through Writer; "hubspot" if empty.
	Schemas []string
	// ExpressAfter is how many reads in a row must leave the buffer for the client's messages unfilled before the event
	// loop carries the session. Less than 0 is never: two goroutines carry every session.
	ExpressAfter int
	// Poll is how often the hub looks at the log when nothing wakes it.
	Poll time.Duration
	// ListenerIdle is how long a client that only listens must be silent before its backend is ended; it gets another
	// one when it asks for anything. Less than 0 is never.
	ListenerIdle time.Duration
	// DrainTimeout is how long transactions may go on once Run's context has ended.
	DrainTimeout time.Duration
	Limits       Limits
	Logger       *slog.Logger
}

// TLS names the certificate shown to clients.
type TLS struct {
	CertFile, KeyFile string
	// ClientCAFile makes clients show a certificate that an authority in this file has signed, besides logging in as
	// without. It implies Required.
	ClientCAFile string
	// Required refuses clients that do not ask for TLS, except over a Unix socket.
	Required bool
}

// Limits bound what clients can make the proxy spend. Zero values are the defaults above.
type Limits struct {
	Sessions           int           // at once
	SessionsPerAddress int           // at once from one client address
	SessionsPerRole    int           // at once of one role; unlike the others, zero is no limit
	LoginTimeout       time.Duration // from the first byte to the end of authentication
	ConnectTimeout     time.Duration // to reach Postgres
	ListenerQueue      int           // notifications waiting for one session before it is cut off
	Listens            int           // in force for one session, and in one transaction of it, UNLISTENs included
	CutOffGrace        time.Duration // for a client that does not read to take its last error
	CopyBytes          int64         // of one COPY FROM STDIN into a mirrored table, kept until HubSpot has answered
	// CopyDisk is what all sessions together may keep of such data in files, which have all of a COPY but its first MiB.
	CopyDisk int64
	// IdleAfterWrite is how long a transaction that has changed mirrored rows may be idle before Postgres ends its
	// session: its locks keep those rows from following HubSpot. A shorter idle_in_transaction_session_timeout holds.
	IdleAfterWrite time.Duration
	// StatementMemory is what all sessions together may hold of statements longer than 64 KiB that must be looked at whole,
	// of prepared ones that write, and of rows on their way to HubSpot. A statement of n bytes takes 4n; one that has to
	// wait for it is not read meanwhile.
	StatementMemory int64
	StatementWait   time.Duration // for that; then the statement fails
	// KeptBackends is how many backends whose clients have left are kept for the next ones; none unless it is more than 0. It needs
	// Config.AuthPool. DESIGN.md says what a client can tell a kept backend from a new one by.
	KeptBackends int
	KeptFor      time.Duration // since the backend's login
	// FreshWithin is how long a statement waits for its tables to be as fresh as hubpg.max_staleness asks for.
	FreshWithin time.Duration
}

func (c Config) withDefaults() Config {
	setDefault(&c.Listen, DefaultListen)
	setDefault(&c.Auth, AuthAuto)
	setDefault(&c.AuthQuery, DefaultAuthQuery)
	if c.AuthPool == nil {
		c.AuthPool = c.Changes
	}
	c.TLS.Required = c.TLS.Required || c.TLS.ClientCAFile != ""
	setDefault(&c.Poll, DefaultPoll)
	setDefault(&c.ListenerIdle, DefaultListenerIdle)
	setDefault(&c.ExpressAfter, DefaultExpressAfter)
	setDefault(&c.DrainTimeout, DefaultDrainTimeout)
	setDefault(&c.Limits.Sessions, DefaultSessions)
	setDefault(&c.Limits.SessionsPerAddress, DefaultSessionsPerAddress)
	setDefault(&c.Limits.LoginTimeout, DefaultLoginTimeout)
	setDefault(&c.Limits.ConnectTimeout, DefaultConnectTimeout)
	setDefault(&c.Limits.ListenerQueue, DefaultListenerQueue)
	setDefault(&c.Limits.Listens, DefaultListens)
	setDefault(&c.Limits.CutOffGrace, DefaultCutOffGrace)
	setDefault(&c.Limits.CopyBytes, DefaultCopyBytes)
	setDefault(&c.Limits.CopyDisk, DefaultCopyDisk)
	setDefault(&c.Limits.IdleAfterWrite, DefaultIdleAfterWrite)
	setDefault(&c.Limits.FreshWithin, DefaultFreshWithin)
	setDefault(&c.Limits.StatementMemory, DefaultStatementMemory)
	setDefault(&c.Limits.StatementWait, DefaultStatementWait)
	setDefault(&c.Limits.KeptFor, DefaultKeptFor)
	if len(c.Schemas) == 0 {
		c.Schemas = []string{"hubspot"}
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) validate() error {
	switch c.Auth {
	case AuthAuto, AuthRelay:
	case AuthSCRAM:
		if c.AuthPool == nil && c.Changes == nil {
			return errors.New("auth \"scram\" needs a pool to read verifiers with")
		}
	case AuthPassword:
		if c.TLS.CertFile == "" {
			return errors.New("auth \"password\" needs a TLS certificate: passwords are taken inside the client's TLS only")
		}
	default:
		return fmt.Errorf("unknown auth %q: use auto, relay, password or scram", c.Auth)
	}
	if c.TLS.ClientCAFile != "" && c.TLS.CertFile == "" {
		return errors.New("certificates of clients need TLS, but there is no certificate to show them")
	}
	if (c.TLS.CertFile == "") != (c.TLS.KeyFile == "") {
		return errors.New("TLS needs both a certificate and a key file")
	}
	if c.TLS.Required && c.TLS.CertFile == "" {
		return errors.New("TLS is required of clients, but there is no certificate")
	}
	if c.Limits.KeptBackends > 0 && c.AuthPool == nil {
		return errors.New("keeping backends needs a pool to look at roles with")
	}
	if c.Writer != nil && c.Changes == nil {
		return errors.New("a writer needs the pool on the database of the mirrored tables")
	}
	if c.Listen == "none" && c.Socket == "" {
		return errors.New("nothing to listen on: neither a TCP address nor a socket directory")
	}
	return nil
}

// parseUpstream parses the connection string. Where it says nothing about TLS and a host is not local, the server
// must show a certificate that verifies.
func parseUpstream(conn string) (*pgconn.Config, error) {
	config, err := pgconn.ParseConfig(conn)
	if err != nil {
		return nil, fmt.Errorf("parse upstream: %w", err)
	}
	if strings.Contains(conn, "sslmode") || os.Getenv("PGSSLMODE") != "" || allLocal(config) {
		return config, nil
	}
	if config, err = pgconn.ParseConfig(withVerify(conn)); err != nil {
		return nil, fmt.Errorf("parse upstream: %w", err)
	}
	return config, nil
}

func allLocal(config *pgconn.Config) bool {
	local := isLocal(config.Host)
	for _, f := range config.Fallbacks {
		local = local && isLocal(f.Host)
	}
	return local
}

func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return host == "" || host == "localhost" || strings.HasPrefix(host, "/") || ip.IsLoopback()
}

func withVerify(conn string) string {
	if u, err := url.Parse(conn); err == nil && strings.HasPrefix(u.Scheme, "postgres") {
		query := u.Query()
		query.Set("sslmode", "verify-full")
		u.RawQuery = query.Encode()
		return u.String()
	}
	return conn + " sslmode=verify-full"
}
