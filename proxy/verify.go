package proxy

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"hubpg/internal/pgwire"
	"hubpg/internal/scram"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// DefaultAuthQuery reads verifiers where Postgres keeps them, which takes a superuser; see [Config.AuthQuery]. A
// password past its time is none, as for Postgres itself.
const DefaultAuthQuery = `
select rolname, rolpassword
from pg_catalog.pg_authid
where rolname = $1 and (rolvaliduntil is null or rolvaliduntil > now())`

// mockSecretLen is the number of bytes that the verifiers of unknown users are made from.
const mockSecretLen = 32

// verifiers reads what clients are verified with. Nothing is kept: a password that was changed is the new one at once.
type verifiers struct {
	pool  *pgxpool.Pool // for query
	query string
	log   *slog.Logger

	secrets *pgxpool.Pool // holds the secret behind mocks; nil: every process has its own
	mu      sync.Mutex    // guards below
	mock    []byte
}

func newVerifiers(config *Config) *verifiers {
	return &verifiers{pool: config.AuthPool, query: config.AuthQuery, log: config.Logger, secrets: config.Changes}
}

// ProbeAuth runs an [Config.AuthQuery] for a role that cannot exist and returns why it fails, for those who want to
// know before the first client does.
func ProbeAuth(ctx context.Context, pool *pgxpool.Pool, query string) error {
	v := verifiers{pool: pool, query: query}
	setDefault(&v.query, DefaultAuthQuery)
	_, _, err := v.stored(ctx, "", nil)
	return err
}

// of returns the verifier of a user, and its text. For one who cannot be verified it is a mock, and why says what to log about it. What
// more adds is asked as well.
func (v *verifiers) of(ctx context.Context, user string, more func(*pgx.Batch)) (verifier scram.Verifier, text, why string, err error) {
	text, found, err := v.stored(ctx, user, more)
	if err != nil {
		return verifier, "", "", err
	}
	switch {
	case !found:
		why = "no such role, or its password has expired"
	case text == "":
		why = "the role has no password"
	default:
		if verifier, err = scram.ParseVerifier(text); err == nil {
			return verifier, text, "", nil
		}
		why = "the role's password is not stored as SCRAM-SHA-256: set it again with password_encryption = 'scram-sha-256'"
	}
	return scram.Mock(v.mockSecret(ctx), user), "", why, nil
}

// stored runs the query, and what more adds to it.
func (v *verifiers) stored(ctx context.Context, user string, more func(*pgx.Batch)) (text string, found bool, err error) {
	var name, password *string
	answered := false
	batch := &pgx.Batch{}
	batch.Queue(v.query, user).QueryRow(func(row pgx.Row) error {
		err := row.Scan(&name, &password)
		found = err == nil
		if answered = found || errors.Is(err, pgx.ErrNoRows); answered {
			return nil
		}
		return err
	})
	if more != nil {
		more(batch)
	}
	switch err := v.pool.SendBatch(ctx, batch).Close(); {
	case err != nil && answered && batch.Len() > 1: // what more has added has failed
		v.log.Warn("look whether a client may have a kept backend; it gets one of its own", "user", user, "error", err)
	case err != nil:
		return "", false, fmt.Errorf("run auth query: %w", err)
	}
	switch {
	case !found:
		return "", false, nil
	case name == nil || *name != user: // a query that folds names must not log one user in as another
		return "", false, nil
	case password == nil:
		return "", true, nil
	}
	return *password, true, nil
}

// mockSecret is the same in all proxies over a database and after any restart: otherwise the salt of an unknown user
// would change, and tell that it is one.
func (v *verifiers) mockSecret(ctx context.Context) []byte {
	v.mu.Lock()
	known := v.mock
	v.mu.Unlock()
	if known != nil {
		return known
	}
	var secret []byte
	if v.secrets != nil {
		err := v.secrets.QueryRow(ctx, "select mock_secret from hubpg.sign_in").Scan(&secret)
		if err != nil {
			v.log.Warn("read the secret behind unknown users; this process uses its own", "error", err)
		}
	}
	if len(secret) < mockSecretLen {
		secret = make([]byte, mockSecretLen)
		_, _ = rand.Read(secret) // never fails: it ends the process instead
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mock == nil {
		v.mock = secret
	}
	return v.mock
}

// verify lets the client prove that it knows its password, and logs in to Postgres with the key that the proof yields.
func (l *login) verify(ctx context.Context) error {
	user := l.startup.Parameter("user")
	if user == "" || strings.ContainsRune(user, 0) {
		return errNoUser()
	}
	exchange := scram.NewServer(endPoint(l.shown))
	l.out = pgwire.AppendSASL(l.out, exchange.Mechanisms())
	answer, err := l.ask()
	if err != nil {
		return err
	}
	mechanism, first, err := pgwire.ParseSASLInitial(answer)
	if err != nil {
		return errProtocol(err)
	}
	server, startup := l.session.server, l.startup
	var role *standing
	verifier, proof, why, err := server.verifiers.of(ctx, user, func(b *pgx.Batch) { role = server.keeper.look(b, startup) })
	if err != nil {
		l.cause = err
		return errVerifierUnread()
	}
	challenge, err := exchange.First(verifier, mechanism, first)
	if err != nil {
		return errExchange(err)
	}
	l.out = pgwire.AppendSASLChallenge(l.out, challenge, false)
	var ahead *headStart
	if why == "" {
		ahead = l.headStart(ctx, role.claim(proof))
		defer ahead.end()
	}
	keys, err := l.proof(exchange, why)
	if err != nil {
		server.regulars.remove(l.regular())
		return err
	}
	l.renew = func(ctx context.Context) (*loginResult, error) { return server.loginWithKeys(ctx, startup, keys) }
	l.claim = l.claimOfNow(ctx, role, proof)
	return l.enter(ctx, func(ctx context.Context) (*loginResult, error) {
		in, err := ahead.finish(ctx, keys)
		if in == nil && err == nil {
			in, err = l.renew(ctx)
		}
		if err == nil && in.asked {
			server.regulars.add(l.regular())
		} else {
			server.regulars.remove(l.regular())
		}
		return in, err
	})
}

// claimOfNow returns what a client claims that has proved to know a verifier. Where it has taken long, role and password are looked at
// anew: meanwhile the password may have become another, which the client has not proved to know.
func (l *login) claimOfNow(ctx context.Context, role *standing, verifier string) claim {
	if role.lasts() {
		return role.claim(verifier)
	}
	server, startup := l.session.server, l.startup
	_, now, _, err := server.verifiers.of(ctx, startup.Parameter("user"), func(b *pgx.Batch) { role = server.keeper.look(b, startup) })
	if err != nil {
		l.log.Warn("look whether a client may have a kept backend; it gets one of its own", "user", startup.Parameter("user"), "error", err)
		return claim{}
	}
	if now != verifier {
		return claim{}
	}
	return role.claim(verifier)
}

// proof asks the client for its proof and returns the keys that this yields. why says what to log of one that cannot be right.
func (l *login) proof(exchange *scram.Server, why string) (*scram.Keys, error) {
	answer, err := l.ask()
	if err != nil {
		return nil, err
	}
	signature, keys, err := exchange.Final(answer[pgwire.HeaderLen:])
	switch {
	case errors.Is(err, scram.ErrRejected):
		if why == "" {
			why = "wrong password"
		}
		user := l.startup.Parameter("user")
		l.log.Warn("client not verified", "user", user, "client", addressOf(l.session.client), "reason", why)
		return nil, errNotVerified(user)
	case err != nil:
		return nil, errExchange(err)
	}
	l.out = pgwire.AppendSASLChallenge(l.out, signature, true)
	return keys, nil
}
