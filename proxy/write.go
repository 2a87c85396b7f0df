package proxy

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"hubpg/internal/pgwire"
)

// What the proxy asks of a client's backend. The functions are those of the schema hubpg.
const (
	askSavepoint = "savepoint " + ownSavepoint
	askBack      = "rollback to savepoint " + ownSavepoint
	askRelease   = "release savepoint " + ownSavepoint
	askResolve   = `select t.name, n.nspname
from unnest($1::text[]) t (name)
left join pg_catalog.pg_class c on c.oid = pg_catalog.to_regclass(pg_catalog.quote_ident(t.name))
left join pg_catalog.pg_namespace n on n.oid = c.relnamespace`
	askRehearse  = "select current_user, r.* from hubpg.rehearse($1) r"
	askCaptured  = "select * from hubpg.rehearsed($1)"
	askUnchanged = "select hubpg.unchanged($1)"
	// The backend waits for HubSpot inside the transaction; the rollback to the savepoint takes the setting back.
	askPatience = "select pg_catalog.set_config('idle_in_transaction_session_timeout', '0', true)"
	askLock     = "select hubpg.lock_tables($1, $2::text[])"
	askUnlock   = "select hubpg.unlock_tables()"
	askPerform  = "select hubpg.perform($1, $2)"
	askDone     = "select hubpg.performed($1, $2)"
	// A client that forgets its transaction must not keep the rows from following HubSpot.
	askIdle = `select pg_catalog.set_config('idle_in_transaction_session_timeout',
    case when pg_catalog.current_setting('idle_in_transaction_session_timeout')::interval between interval '1 microsecond' and $1::text::interval
    then pg_catalog.current_setting('idle_in_transaction_session_timeout') else $1::text end, true)`
)

// write performs a statement that may change mirrored tables, inside a transaction block. It reports false if the
// statement failed: then the client has been told, and the transaction is as after any error.
func (t *takeover) write(a *act) (bool, error) {
	if a.effect.CopyIn && !a.simple {
		return t.refuse(failure("0A000", "COPY into a table of HubSpot needs the simple query protocol", "",
			"Send the COPY as a query without parameters, or use INSERT."))
	}
	permit, err := t.pen.permitted(t.ctx)
	if err != nil {
		t.log.Error("permit a session to write", "error", err)
		return t.refuse(errorOf(t.ctx, err))
	}
	if a.effect.CopyIn {
		a.copied = &spool{limit: t.session.server.config.Limits.CopyBytes}
		defer a.copied.close()
	}
	r, ok, err := t.rehearsed(a, permit)
	for try := 1; err == nil && ok && len(r.rows) == 0 && !r.tooLarge; try++ {
		var again bool
		if ok, again, err = t.asItIs(a, permit, try); !again {
			return ok, err
		}
		r, ok, err = t.rehearsed(a, permit)
	}
	if err != nil || !ok {
		return false, err
	}
	switch {
	case r.tooLarge:
		return t.refuse(failure("54000", "the statement changes too much of HubSpot at once", "", "Split it into several."))
	case r.writes == "off":
		return t.refuse(failure("HS010", "writes to HubSpot are off in this session", "", "Set hubpg.writes to on, or to dry_run."))
	case r.writes != "" && r.writes != string(WriteOn) && r.writes != string(WriteDryRun):
		return t.refuse(failure("22023", "hubpg.writes is "+strconv.Quote(r.writes), "", "Set it to on, off or dry_run."))
	case r.onRowError != "" && r.onRowError != "fail" && r.onRowError != "skip":
		return t.refuse(failure("22023", "hubpg.on_row_error is "+strconv.Quote(r.onRowError), "", "Set it to fail or skip."))
	}
	if r.impatient {
		t.ask(askPatience)
	}
	if r.locks == nil {
		t.ask(askLock, []byte(permit), array(tablesOf(r.rows)))
	}
	if len(t.steps) > 0 {
		if f, err := t.play(); err != nil || f != nil {
			return t.finish(f, err)
		}
	}
	request := t.request(a, r, permit)
	result, cause := t.send(request, r.timeout)
	if cause != nil {
		e := errorOf(cause.ctx, cause.err)
		if e.Code == "58000" {
			t.log.Error("write to HubSpot", "error", cause.err)
		}
		return t.refuse(e)
	}
	for _, n := range result.Notices {
		e := pgwire.Error{Severity: n.Severity, Code: n.Code, Message: n.Message, Detail: n.Detail, Hint: n.Hint}
		if err := t.tell(e.AppendNotice(nil)); err != nil {
			return false, err
		}
	}
	if request.Mode == WriteDryRun {
		return t.dryRun(a, permit)
	}
	return t.perform(a, r, permit, result)
}

func (t *takeover) request(a *act, r *rehearsal, permit string) WriteRequest {
	mode := WriteOn
	if r.writes == string(WriteDryRun) {
		mode = WriteDryRun
	}
	sql := strings.TrimSpace(a.sql)
	return WriteRequest{
		Permit: permit, PID: t.upstream.pid, Role: r.role, Database: databaseOf(t.session), Application: r.application,
		Client: addressOf(t.session.client), SQL: strings.ToValidUTF8(sql[:min(len(sql), maxSQL)], ""), Mode: mode,
		SkipBadRows: r.onRowError == "skip", Rows: r.rows,
	}
}

// writeFailure is why a Writer did not do what was asked, with the context that it had.
type writeFailure struct {
	ctx context.Context
	err error
}

// send waits for HubSpot. A cancel of the client, its statement timeout and the end of the session end the wait.
func (t *takeover) send(request WriteRequest, timeout time.Duration) (WriteResult, *writeFailure) {
	ctx, cancel := context.WithCancelCause(t.ctx)
	defer cancel(nil)
	if timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, timeout, errStatementTimeout)
		defer stop()
	}
	t.session.interruptible(cancel)
	defer t.session.interruptible(nil)
	if err := t.flush(); err != nil {
		return WriteResult{}, &writeFailure{ctx, err}
	}
	result, err := t.pen.writer.Write(ctx, request)
	if err != nil {
		return WriteResult{}, &writeFailure{ctx, err}
	}
	return result, nil
}

// permitted returns the session's permit.
func (p *pen) permitted(ctx context.Context) (string, error) {
	if p.permit != "" {
		return p.permit, nil
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	permit, err := p.writer.Permit(ctx, p.session.upstream.pid, p.session.startup.Parameter("user"))
	if err != nil {
		return "", fmt.Errorf("get a permit: %w", err)
	}
	p.permit = permit
	return permit, nil
}

func tablesOf(rows []CapturedRow) []string {
	seen := map[string]struct{}{}
	var names []string
	for i := range rows {
		name := rows[i].Schema + "." + rows[i].Table
		if _, ok := seen[name]; !ok {
			seen[name] = struct{}{}
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// array writes a text[] in Postgres's text format.
func array(items []string) []byte {
	out := []byte{'{'}
	for i, item := range items {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, '"')
		for j := range len(item) {
			if item[j] == '"' || item[j] == '\\' {
				out = append(out, '\\')
			}
			out = append(out, item[j])
		}
		out = append(out, '"')
	}
	return append(out, '}')
}

// databaseOf is the database that a session is on.
func databaseOf(v *session) string {
	if name := v.startup.Parameter("database"); name != "" {
		return name
	}
	return v.startup.Parameter("user")
}
