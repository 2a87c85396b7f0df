package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"hubpg/hubapi"
	"hubpg/internal/mirror"
	"hubpg/internal/pgtest"
	"hubpg/internal/signin"
	"hubpg/internal/status"
	"hubpg/migrations"
)

// failure is what the user sees of an error: one line that says what is wrong, one that says what to do.
type failure struct {
	message string
	hint    string
	status  int
	cause   error
}

// Error is the first line.
func (f *failure) Error() string { return f.message }

// Hint is the second line.
func (f *failure) Hint() string { return f.hint }

// Unwrap returns the cause.
func (f *failure) Unwrap() error { return f.cause }

// fail makes a failure with a next step.
func fail(cause error, hint, format string, args ...any) error {
	return &failure{message: fmt.Sprintf(format, args...), hint: hint, status: exitFailed, cause: cause}
}

func (f *failure) print(w io.Writer) {
	fmt.Fprintf(w, "hubpg: %s\n", oneLine(f.message))
	if f.hint != "" {
		fmt.Fprintf(w, "  next: %s\n", oneLine(f.hint))
	}
}

// usageError is a command line that cannot be understood.
type usageError struct{ problem, command string }

func (e usageError) Error() string { return e.problem }
func (e usageError) Hint() string  { return "see " + e.command + " --help" }

// explain turns any error into what the user is told. It is the only place that knows every kind.
func explain(err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if e, ok := errors.AsType[usageError](err); ok {
		return &failure{message: e.problem, hint: e.Hint(), status: exitUsage}
	}
	f := &failure{message: err.Error(), status: exitFailed, cause: err}
	for _, known := range []func(error, *failure) bool{explainSetup, explainHubSpot, explainPostgres, explainNetwork} {
		if known(err, f) {
			return f
		}
	}
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		f.hint = hinted.Hint()
	}
	if errors.Is(err, context.Canceled) {
		f.message, f.hint = "interrupted", ""
	}
	return f
}

func explainSetup(err error, f *failure) bool {
	if e, ok := errors.AsType[*migrations.SetupError](err); ok {
		if e.Err != nil && explainPostgres(e.Err, f) {
			return true
		}
		f.message, f.hint = e.Problem, e.Hint
		if e.Err != nil {
			f.message += ": " + e.Err.Error()
		}
		return true
	}
	if e, ok := errors.AsType[*mirror.ConflictError](err); ok {
		f.message, f.hint = e.Name+" already exists and "+e.Held, e.Hint
		return true
	}
	if e, ok := errors.AsType[*signin.SealError](err); ok {
		f.message, f.hint = e.Error(), e.Hint()
		return true
	}
	if e, ok := errors.AsType[*signin.RefusedError](err); ok {
		f.message, f.hint = e.Error(), e.Hint()
		return true
	}
	switch {
	case errors.Is(err, status.ErrNoSchema):
		f.hint = "start hubpg serve against this database first"
	case errors.Is(err, pgtest.ErrNoBinaries):
		f.hint = "install Postgres (Debian: apt-get install postgresql) or point " + pgtest.BinariesVariable +
			" at a directory with initdb and postgres"
	default:
		return false
	}
	return true
}

// explainHubSpot knows the errors of the client by what the operator has to do.
func explainHubSpot(err error, f *failure) bool {
	if e, ok := errors.AsType[*hubapi.AuthError](err); ok {
		f.message, f.hint = "HubSpot refuses the token: "+cause(e.Err), e.Hint
		return true
	}
	if e, ok := errors.AsType[*hubapi.ScopeError](err); ok {
		f.hint = e.Hint
		return true
	}
	if e, ok := errors.AsType[*hubapi.RateError](err); ok {
		f.hint = e.Hint
		if f.hint == "" {
			f.hint = "wait " + e.RetryAfter.String() + " and start again"
		}
		return true
	}
	if e, ok := errors.AsType[*hubapi.NotFoundError](err); ok {
		f.hint = e.Hint
		if f.hint == "" {
			f.hint = "check hubspot.url: nothing that HubSpot's API has is there"
		}
		return true
	}
	if e, ok := errors.AsType[*hubapi.UnavailableError](err); ok {
		f.message = "HubSpot cannot be reached: " + networkReason(e)
		f.hint = "check hubspot.url (HUBPG_HUBSPOT_URL), the network and status.hubspot.com"
		return true
	}
	return false
}

// explainPostgres knows the refusals of Postgres that an operator can do something about.
func explainPostgres(err error, f *failure) bool {
	if e, ok := errors.AsType[*pgconn.PgError](err); ok {
		f.message = "Postgres: " + e.Message
		f.hint = postgresHint(e)
		return f.hint != ""
	}
	if e, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		f.message = fmt.Sprintf("cannot connect to Postgres at %s: %s", e.Config.Host, networkReason(err))
		f.hint = "check database.url (HUBPG_DATABASE_URL) and that the server runs"
		return true
	}
	if e, ok := errors.AsType[*pgconn.ParseConfigError](err); ok {
		f.message = "database.url cannot be understood"
		if e.Unwrap() != nil { // the error itself quotes the URL
			f.message += ": " + cause(e)
		}
		f.hint = "use postgres://user:password@host:5432/database; percent-encode special characters"
		return true
	}
	return false
}

func postgresHint(e *pgconn.PgError) string {
	switch {
	case e.Code == "28P01", e.Code == "28000":
		return "check the role and password in database.url and the server's pg_hba.conf"
	case e.Code == "3D000":
		return "create the database, or correct its name in database.url"
	case e.Code == "25006":
		return "the database is read-only: connect to the primary, or clear default_transaction_read_only for this role"
	case e.Code == "42501":
		return "connect as the role that owns the database, or grant it create on the database"
	case e.Code == "53300":
		return "the server has no connection left: raise max_connections or close others"
	case strings.HasPrefix(e.Code, "57P"):
		return "the server is starting or stopping: try again when it is up"
	}
	return e.Hint
}

func explainNetwork(err error, f *failure) bool {
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "listen" {
		f.message = fmt.Sprintf("cannot listen on %s: %s", e.Addr, networkReason(err))
		f.hint = "choose another address, or stop what uses this one"
		return true
	}
	return false
}

// listenError names the flag that chooses another port.
func listenError(err error, what, address, flag string) error {
	hint := fmt.Sprintf("stop what uses it, or choose another address with %s", flag)
	if !errors.Is(err, syscall.EADDRINUSE) {
		hint = fmt.Sprintf("choose another address with %s", flag)
	}
	return fail(err, hint, "%s cannot listen on %s: %s", what, address, networkReason(err))
}

// networkReason is the innermost cause in plain words.
func networkReason(err error) string {
	var dns *net.DNSError
	var closed *url.Error
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return "the port is in use"
	case errors.Is(err, syscall.EACCES), errors.Is(err, os.ErrPermission):
		return "permission denied"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.As(err, &dns):
		return fmt.Sprintf("host %s does not resolve", dns.Name)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return "timed out"
	case errors.Is(err, os.ErrNotExist):
		return "no such socket"
	case errors.As(err, &closed):
		return cause(closed.Err)
	}
	return cause(err)
}

// cause is the last error of a chain, of several joined the first.
func cause(err error) string {
	for {
		inner := errors.Unwrap(err)
		if joined, ok := err.(interface{ Unwrap() []error }); ok && len(joined.Unwrap()) > 0 {
			inner = joined.Unwrap()[0]
		}
		if inner == nil {
			return oneLine(err.Error())
		}
		err = inner
	}
}

func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
