package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"

	"hubpg/internal/pgwire"
	"hubpg/internal/scram"
)

// What the proxy itself says to a client. The SQLSTATEs are Postgres's own, so that drivers know what to do.

func fatal(code, message, hint string) *pgwire.Error {
	return &pgwire.Error{Severity: "FATAL", Code: code, Message: message, Hint: hint}
}

func errTooManySessions() *pgwire.Error {
	return fatal("53300", "sorry, too many clients already",
		"hubpg has reached its limit of sessions; close some or raise the limit.")
}

func errTooManyFromAddress() *pgwire.Error {
	return fatal("53300", "too many connections from this address",
		"hubpg limits the sessions of one client address, of IPv6 the first 64 bits; close some or raise proxy.max_sessions_per_address.")
}

func errProtocol(err error) *pgwire.Error {
	if v, ok := errors.AsType[*pgwire.VersionError](err); ok {
		return fatal("0A000", v.Error(), "")
	}
	return fatal("08P01", "invalid message from the client: "+err.Error(),
		"This port speaks the Postgres protocol; check what is connecting to it.")
}

func errReplication() *pgwire.Error {
	return fatal("0A000", "replication connections are not supported through hubpg",
		"Connect to Postgres directly for replication.")
}

func errTLSRequired() *pgwire.Error {
	return fatal("28000", "this server requires TLS", "Connect with sslmode=require or stronger.")
}

func errCertificateRequired() *pgwire.Error {
	return fatal("28000", "connection requires a valid client certificate",
		"Give the client a certificate that an authority known to hubpg has signed (sslcert, sslkey).")
}

// errNotVerified says the same whether the password is wrong, or there is none, or no such role: what is the case is
// for the log only.
func errNotVerified(user string) *pgwire.Error {
	return fatal("28P01", fmt.Sprintf("password authentication failed for user %q", user),
		"hubpg verifies passwords stored as SCRAM-SHA-256 only; one stored as md5 has to be set again.")
}

func errNoUser() *pgwire.Error {
	return fatal("28000", "no PostgreSQL user name specified in startup packet", "")
}

func errVerifierUnread() *pgwire.Error {
	return fatal("08006", "hubpg cannot read what to verify passwords with",
		"The log of hubpg has the cause: a server out of reach, or a role that may not run proxy.auth_query.")
}

// errExchange words a SCRAM exchange that went wrong for another reason than the password, as Postgres does.
func errExchange(err error) *pgwire.Error {
	code := "08P01"
	switch {
	case errors.Is(err, scram.ErrBinding):
		code = "28000"
	case errors.Is(err, scram.ErrUnsupported):
		code = "0A000"
	}
	return fatal(code, "SCRAM authentication failed: "+err.Error(), "")
}

// errKeysUseless says that Postgres wants something else than a SCRAM proof for the verifier that was read.
func errKeysUseless(why string) *pgwire.Error {
	return fatal("28000", "hubpg has verified the password but cannot log in to Postgres: "+why,
		"With proxy.auth scram, pg_hba.conf must say scram-sha-256 (or trust) for hubpg's host, and proxy.auth_url must be of the same server.")
}

func errTooManyOfRole(role string) *pgwire.Error {
	return fatal("53300", fmt.Sprintf("too many connections for role %q", role),
		"hubpg limits the sessions of one role; close some or raise proxy.max_sessions_per_role.")
}

func errLoginTimeout() *pgwire.Error {
	return fatal("57014", "canceling authentication due to timeout", "")
}

func errLoginTooLong() *pgwire.Error {
	return fatal("08P01", "too much data before authentication", "")
}

func errDraining() *pgwire.Error {
	return fatal("57P01", "terminating connection: hubpg is shutting down", "Reconnect.")
}

func errUpstreamLost() *pgwire.Error {
	return fatal("08006", "the connection to Postgres behind hubpg was lost",
		"The transaction, if any, did not commit or its outcome is unknown. Reconnect.")
}

func errUnreachable(err error) *pgwire.Error {
	e := fatal("08006", "Postgres behind hubpg cannot be reached: "+reason(err),
		"Check that Postgres runs and that hubpg's database URL is right.")
	if errors.Is(err, errUpstreamTLS) {
		e.Message = "Postgres behind hubpg: " + err.Error()
		e.Hint = "Set sslmode and sslrootcert in hubpg's database URL to what the server offers."
	}
	return e
}

func errInternal() *pgwire.Error {
	return fatal("XX000", "internal error in hubpg; the session was ended", "The log has the cause. Reconnect.")
}

func errHubNotReady() *pgwire.Error {
	return &pgwire.Error{
		Severity: "ERROR", Code: "57P03", Message: "hubpg has not reached its change log yet",
		Hint: "Try again in a moment; if this lasts, the log of hubpg has the cause.",
	}
}

func errNotPermitted() *pgwire.Error {
	return &pgwire.Error{
		Severity: "ERROR", Code: "42501", Message: "permission denied to listen on this channel",
		Hint: "A role hears only of tables whose every row it may select; grant it usage on the schema and select on its tables, without row security.",
	}
}

func errReplayPlace(err error) *pgwire.Error {
	return &pgwire.Error{
		Severity: "ERROR", Code: "22023", Message: err.Error(),
		Hint: "Behind the @ stands the seq of the last change already heard, as in \"hubspot_deals@1234\"; 0 replays all that is kept.",
	}
}

func errNoLongerPermitted() *hubError {
	e := errNotPermitted()
	e.Severity, e.Message = "FATAL", "permission to listen on this channel was revoked"
	return &hubError{e, endHub}
}

func errHubLost() *hubError {
	return &hubError{fatal("57P03", "hubpg lost its change log; notifications could have been missed",
		"Reconnect and LISTEN again, with @seq to replay what was missed."), endHub}
}

func errLogGap() *hubError {
	return &hubError{fatal("HS001", "the change log no longer holds what this session has yet to hear",
		"Reconnect, LISTEN again and read the tables anew."), endHub}
}

func errTooManyListens() *hubError {
	return &hubError{fatal("54000", "this session listens to more than hubpg can remember",
		"Reconnect and LISTEN to fewer channels, such as those of whole tables, and in shorter transactions."), endHub}
}

// errTooSlow tells a session that is cut off the change after which it may go on.
func errTooSlow(place int64) *hubError {
	return &hubError{fatal("53400", "this session does not read its notifications fast enough",
		fmt.Sprintf("Reconnect and continue with @%d after the channel's name.", place)), endSlow}
}

// pastError says that a replay asks for changes that retention has taken.
type pastError struct{ after, oldest int64 }

func (e *pastError) Error() string {
	return fmt.Sprintf("changes after %d are no longer kept; the oldest kept is %d", e.after, e.oldest)
}

// futureError says that a replay asks for a place that the log has not reached: it counts for another database.
type futureError struct{ after, newest int64 }

func (e *futureError) Error() string {
	return fmt.Sprintf("change %d has not happened; the newest is %d", e.after, e.newest)
}

// refusalOf words a replay that cannot be for the client that asked for it.
func refusalOf(err error) *pgwire.Error {
	if past, ok := errors.AsType[*pastError](err); ok {
		return &pgwire.Error{
			Severity: "ERROR", Code: "HS001", Message: past.Error(),
			Hint: fmt.Sprintf("Read the tables anew, or replay from @%d on.", past.oldest-1),
		}
	}
	if future, ok := errors.AsType[*futureError](err); ok {
		return &pgwire.Error{
			Severity: "ERROR", Code: "HS002", Message: future.Error(),
			Hint: "The number is from another database or from before a restore; read the tables anew.",
		}
	}
	return errHubNotReady()
}

// replayError words the end of a session whose replay failed half-way.
func replayError(err error) *hubError {
	if _, past := errors.AsType[*pastError](err); past || errors.Is(err, errGap) {
		return errLogGap()
	}
	return errHubLost()
}

// reason tells a client why the server could not be reached without naming hosts.
func reason(err error) string {
	var dns *net.DNSError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, os.ErrNotExist):
		return "no such socket"
	case errors.As(err, &dns):
		return "its host name does not resolve"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "timed out"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET):
		return "it closed the connection"
	default:
		return "network error"
	}
}

// where says at which point a session ended other than by the wish of its client; the label of a counter.
type where uint8

const (
	endClean       where = iota // the client said goodbye or left between messages
	endClient                   // the client vanished or broke the protocol in mid-message
	endServer                   // Postgres closed the connection or vanished
	endLogin                    // authentication failed or was given up
	endUnreachable              // Postgres could not be reached
	endDrain                    // the proxy is shutting down
	endSlow                     // a listener was cut off
	endHub                      // the LISTEN hub could not keep its promise
	endPanic                    // a bug
	endCount
)

func (w where) String() string {
	return [...]string{"clean", "client", "server", "login", "unreachable", "drain", "slow", "hub", "panic"}[w]
}
