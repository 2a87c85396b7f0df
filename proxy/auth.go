package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"hubpg/internal/pgwire"

	"github.com/jackc/pgx/v5/pgconn"
)

// maxServerLogin caps one message of Postgres before the session is ready.
const maxServerLogin = 64 << 10

// errNeedPassword ends a relayed login in which Postgres asked for something that cannot be relayed.
var errNeedPassword = errors.New("SCRAM cannot be relayed between two TLS connections")

// login is a session on its way from the start-up packet to the first ReadyForQuery.
type login struct {
	*session
	client *pgwire.Reader
	server *pgwire.Reader
	sent   int // messages taken from the client
	out    []byte
}

// authenticate brings the client's session up in Postgres. On return both sides are ready for queries. A
// *pgwire.Error is for the client to see; any other error is not, or was sent already.
func (v *session) authenticate(ctx context.Context) error {
	l := &login{session: v, client: pgwire.NewReader(v.client, maxLogin)}
	l.out = appendNegotiation(nil, v.startup)
	var err error
	switch v.server.config.Auth {
	case AuthSCRAM:
		err = l.verify(ctx)
	case AuthPassword:
		err = l.password(ctx)
	default:
		if err = l.relay(ctx); errors.Is(err, errNeedPassword) {
			err = l.password(ctx)
		}
	}
	if err == nil {
		v.clientRest = l.client.Rest()
	}
	return err
}

// relay passes the exchange between client and Postgres on as it is. A client whom Postgres would let in without asking anything may
// get a backend of another such one instead.
func (l *login) relay(ctx context.Context) error {
	keeper := l.session.server.keeper
	l.claim = keeper.ask(ctx, l.startup).claim("")
	if in := keeper.login(l.claim); in != nil {
		l.renewable("")
		return l.admit(in)
	}
	err := keeper.makeRoom(ctx, func() error {
		l.startAgain()
		return l.exchange(ctx)
	})
	if errors.Is(err, errNoRoom) {
		return errors.Join(errRefusedByServer, l.flush())
	}
	if l.sent > 0 || errors.Is(err, errNeedPassword) {
		l.claim = claim{} // what the client has shown, or will be asked for, is Postgres's to judge
	}
	return err
}

// startAgain forgets an attempt, if there was one, of which the client has heard nothing.
func (l *login) startAgain() {
	if l.upstream == nil {
		return
	}
	l.upstream.conn.Close()
	l.session.server.admission.leave(l.role)
	l.role, l.loggedIn, l.told = "", false, nil
	l.session.server.keys.remove(l.session)
	l.out = appendNegotiation(nil, l.startup)
}

// exchange is one attempt to log in by relaying.
func (l *login) exchange(ctx context.Context) error {
	u, err := l.session.server.dial(ctx)
	if err != nil {
		return l.unreachable(err)
	}
	l.use(u)
	if err := u.conn.SetDeadline(l.deadline); err != nil {
		return l.unreachable(err)
	}
	unwatch := context.AfterFunc(ctx, func() { _ = u.conn.SetDeadline(time.Now()) })
	defer unwatch()
	if _, err := u.conn.Write(pgwire.AppendStartup(nil, pgwire.Protocol30, l.startup.Parameters)); err != nil {
		return l.unreachable(err)
	}
	l.server = pgwire.NewReader(u.conn, maxServerLogin)
	for {
		ready, err := l.step()
		if err != nil {
			if errors.Is(err, errNeedPassword) {
				u.conn.Close()
			}
			return err
		}
		if ready {
			if l.sent == 0 {
				l.renewable("") // Postgres lets the proxy in without being told anything
			}
			l.serverRest = l.server.Rest()
			if !unwatch() {
				return errDraining()
			}
			return u.conn.SetDeadline(time.Time{})
		}
	}
}

// step passes on one message of Postgres and, if that asks for one, the client's answer. It reports whether the
// session is ready.
func (l *login) step() (bool, error) {
	h, message, err := l.server.Read()
	if err != nil {
		return false, l.unreachable(fmt.Errorf("log in to Postgres: %w", err))
	}
	switch h.Type {
	case 'R':
		return false, l.authentication(message)
	case 'K':
		pid, key, err := pgwire.ParseBackendKeyData(message)
		if err != nil {
			return false, l.unreachable(err)
		}
		l.upstream.pid, l.upstream.key = pid, key
		l.appendKey()
	case 'S':
		if p, ok := parameterOf(message); ok {
			l.told.note(p)
		}
		l.out = append(l.out, message...)
	case 'N':
		l.claim = claim{} // another login would be told as well
		l.out = append(l.out, message...)
	case 'v': // Postgres was asked for 3.0 without extensions; what the client asked for was answered already
	default:
		l.out = append(l.out, message...)
	}
	switch h.Type {
	case 'Z':
		return true, l.flush()
	case 'E':
		if l.sent == 0 && pgwire.ParseError(message).Code == noRoom {
			return false, errNoRoom
		}
		return false, errors.Join(errRefusedByServer, l.flush())
	}
	return false, nil
}

// noRoom is the SQLSTATE of a login for which Postgres, the database or the role has too many connections already.
const noRoom = "53300"

// errNoRoom ends a login that was refused so, with an error that the client has yet to be told.
var errNoRoom = errors.New("no connection left in Postgres")

// errRefusedByServer ends a login that Postgres refused with an error that the client has seen.
var errRefusedByServer = errors.New("login refused by Postgres")

func (l *login) authentication(message []byte) error {
	code, mechanisms, err := pgwire.ParseAuthentication(message)
	if err != nil {
		return l.unreachable(err)
	}
	switch code {
	case pgwire.AuthOK:
		if err := l.join(); err != nil {
			return err
		}
		l.out = append(l.out, message...)
		l.loggedIn = true
		return nil
	case pgwire.AuthSASLFinal:
		l.out = append(l.out, message...)
		return nil
	case pgwire.AuthSASL:
		if l.cannotRelay(mechanisms) {
			return errNeedPassword
		}
		l.out = pgwire.AppendSASL(l.out, l.relayable(mechanisms))
	default:
		l.out = append(l.out, message...)
	}
	answer, err := l.ask()
	if err != nil {
		return err
	}
	if code == pgwire.AuthCleartext {
		if secret, err := pgwire.ParsePassword(answer); err == nil {
			l.renewable(secret)
		}
	}
	if _, err := l.upstream.conn.Write(answer); err != nil {
		return l.unreachable(err)
	}
	return nil
}

// renewable keeps what logs in to Postgres again, as long as the session lasts.
func (l *login) renewable(secret string) {
	v := l.session
	v.renew = func(ctx context.Context) (*loginResult, error) { return v.server.login(ctx, v.startup, secret) }
}

// join counts the session, now authenticated, for its role.
func (l *login) join() error {
	user := l.startup.Parameter("user")
	if !l.session.server.admission.join(user) {
		l.session.server.counters.refused[refusedRole].Add(1)
		if err := l.flush(); err != nil {
			return err
		}
		return errTooManyOfRole(user)
	}
	l.role = user
	return nil
}

// cannotRelay: with TLS on both sides a client that binds the channel of SCRAM binds it to the proxy's certificate, and one that is told
// that binding is impossible is taken by Postgres for the victim of a downgrade. Other mechanisms (OAUTHBEARER) bind nothing.
func (l *login) cannotRelay(mechanisms []string) bool {
	if l.session.server.config.Auth != AuthAuto || !l.secure || l.upstream.tls == nil {
		return false
	}
	if !slices.ContainsFunc(mechanisms, func(m string) bool { return strings.HasPrefix(m, "SCRAM-") }) {
		return false
	}
	conn, ok := l.upstream.conn.(*tls.Conn)
	return ok && !sameCertificate(l.shown, conn.ConnectionState())
}

// relayable drops the mechanism that needs TLS where the client has none: libpq refuses to be offered it there.
func (l *login) relayable(mechanisms []string) []string {
	if l.secure {
		return mechanisms
	}
	return slices.DeleteFunc(mechanisms, func(m string) bool { return m == "SCRAM-SHA-256-PLUS" })
}

// ask sends what is due to the client and returns its answer, a message of type p.
func (l *login) ask() ([]byte, error) {
	if err := l.flush(); err != nil {
		return nil, err
	}
	if l.sent++; l.sent > maxLoginMessages {
		return nil, errLoginTooLong()
	}
	h, message, err := l.client.Read()
	switch {
	case errors.Is(err, pgwire.ErrTooLarge):
		return nil, errLoginTooLong()
	case errors.Is(err, pgwire.ErrFraming):
		return nil, errProtocol(err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, errLoginTimeout()
	case err != nil:
		return nil, fmt.Errorf("read authentication of client: %w", err)
	case h.Type != 'p':
		return nil, errProtocol(fmt.Errorf("expected password response, got message type %q", h.Type))
	}
	return message, nil
}

// password takes the client's password inside its TLS and logs in to Postgres with it.
func (l *login) password(ctx context.Context) error {
	if !l.secure {
		return errTLSRequired()
	}
	l.out = pgwire.AppendPasswordRequest(l.out)
	answer, err := l.ask()
	if err != nil {
		return err
	}
	secret, err := pgwire.ParsePassword(answer)
	if err != nil {
		return errProtocol(err)
	}
	l.renewable(secret)
	return l.enter(ctx, l.renew)
}

// enter logs in to Postgres in the client's name and tells the client what that came to.
func (l *login) enter(ctx context.Context, login func(context.Context) (*loginResult, error)) error {
	keeper := l.session.server.keeper
	if in := keeper.login(l.claim); in != nil {
		return l.admit(in)
	}
	var in *loginResult
	err := keeper.makeRoom(ctx, func() (err error) {
		in, err = login(ctx)
		return err
	})
	if err != nil {
		if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
			l.out = wireError(refused).Append(l.out)
			return errors.Join(errRefusedByServer, l.flush())
		}
		if refused, ok := errors.AsType[*pgwire.Error](err); ok {
			l.out = refused.Append(l.out)
			return errors.Join(errRefusedByServer, l.flush())
		}
		return errors.Join(l.flush(), l.unreachable(err))
	}
	if len(in.notices) > 0 {
		l.claim = claim{} // another login would be told as well
	}
	return l.admit(in)
}

// admit makes the backend that was logged in for the client its own, and tells it so.
func (l *login) admit(in *loginResult) error {
	l.use(in.upstream)
	l.serverRest = in.rest
	if err := l.join(); err != nil {
		return err
	}
	l.loggedIn = true
	l.out = pgwire.AppendAuthenticationOK(l.out)
	for _, p := range in.status {
		l.told.note(p)
		l.out = pgwire.AppendParameterStatus(l.out, p.Name, p.Value)
	}
	l.appendKey()
	for _, n := range in.notices {
		l.out = n.AppendNotice(l.out)
	}
	l.out = pgwire.AppendReady(l.out, 'I')
	return l.flush()
}

// use makes u the session's connection to Postgres.
func (l *login) use(u *upstream) { l.upstream = u }

// appendKey tells the client its process id and a cancel key of the proxy's.
func (l *login) appendKey() {
	version := negotiated(l.startup.Version)
	key := l.session.server.keys.add(l.session, l.upstream.pid, version)
	l.out = pgwire.AppendBackendKeyData(l.out, l.upstream.pid, key)
}

// unreachable keeps the cause for the log and tells the client as much as helps.
func (l *login) unreachable(err error) error {
	l.cause = err
	l.ending(endUnreachable)
	return errUnreachable(err)
}

func (l *login) flush() error {
	if len(l.out) == 0 {
		return nil
	}
	_, err := l.session.client.Write(l.out)
	l.out = l.out[:0]
	if err != nil {
		return fmt.Errorf("write to client: %w", err)
	}
	return nil
}
