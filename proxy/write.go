package proxy

import (
	"context"
	"errors"
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
	askRehearse = "select current_user, r.* from hubpg.rehearse($1) r"
	// New records get their numbers from here on, negative, for ids: such as are no value of the client's own, so that the Writer can tell.
	askApart     = "select hubpg.number_from($1, 7000000000000)"
	askCaptured  = "select * from hubpg.rehearsed_rows($1)"
	askUnchanged = "select hubpg.unchanged($1)"
	// The backend waits for HubSpot inside the transaction; the rollback to the savepoint takes the setting back.
	askPatience = "select pg_catalog.set_config('idle_in_transaction_session_timeout', '0', true)"
	askLock     = "select hubpg.lock_tables($1, $2::text[])"
	askUnlock   = "select hubpg.unlock_tables()"
	// The rows stay locked until the transaction ends. What comes behind is taken back up to here, and the locks are kept.
	askLockRows = "select hubpg.lock_rows($1, $2, $3, $4, $5)"
	askKeep     = "savepoint " + keptSavepoint
	askBackKept = "rollback to savepoint " + keptSavepoint
	askPerform  = "select hubpg.perform($1, $2)"
	askDone     = "select hubpg.performed($1, $2)"
	// A client that forgets its transaction must not keep the rows from following HubSpot.
	askIdle = `select pg_catalog.set_config('idle_in_transaction_session_timeout',
    case when pg_catalog.current_setting('idle_in_transaction_session_timeout')::interval between interval '1 microsecond' and $1::text::interval
    then pg_catalog.current_setting('idle_in_transaction_session_timeout') else $1::text end, true)`
)

// learnTime bounds how long a statement waits for records that HubSpot has and the tables lack.
const learnTime = 5 * time.Second

// write performs a statement that may change mirrored tables, inside a transaction block. It reports false if the
// statement failed: then the client has been told, and the transaction is as after any error.
//
// A statement that HubSpot refuses because of records that the tables lack is attempted once more when they have them:
// ON CONFLICT then does what it says, and a plain INSERT fails by the table's own index.
func (t *takeover) write(a *act) (bool, error) {
	if a.effect.CopyIn && !a.simple {
		return t.refuse(failure("0A000", "COPY into a table of HubSpot needs the simple query protocol", "",
			"Send the COPY as a query without parameters, or use INSERT."))
	}
	if !a.simple && !a.known {
		return t.refuse(failure("0A000", "the prepared statement has been replaced or closed since the portal was bound to it", "",
			"Execute the portal before you deallocate the statement."))
	}
	permit, err := t.pen.permitted(t.ctx)
	if err != nil {
		t.log.Error("permit a session to write", "error", err)
		return t.refuse(errorOf(t.ctx, err))
	}
	if ok, err := t.reread(); err != nil || !ok {
		return false, err
	}
	if a.effect.CopyIn {
		a.copied = newSpool(t.session.server)
		defer a.copied.close()
	}
	defer t.rows.release()
	var until time.Time // the statement's time is up, all attempts together
	for again := true; ; again = false {
		r, ok, err := t.proposed(a, permit)
		if err != nil || r == nil {
			return ok, err
		}
		if until.IsZero() && r.timeout > 0 {
			until = time.Now().Add(r.timeout)
		}
		request := t.request(a, r, permit)
		result, cause := t.send(request, until)
		if cause == nil {
			return t.accepted(a, r, &request, result)
		}
		if refused := cause.behind(); refused != nil {
			t.lost = append(t.lost, refused.ID)
			if again && !cause.ended {
				failed, ok, err := t.learn(until)
				if err != nil || !ok {
					return false, err
				}
				if failed == nil {
					continue
				}
				if failed.ended {
					cause = failed
				}
			}
		}
		e := errorOf(cause.ctx, cause.err)
		if e.Code == "58000" {
			t.log.Error("write to HubSpot", "error", cause.err)
		}
		return t.refuse(e)
	}
}

// proposed rehearses a statement, keeps appliers out of the tables that it changes, and others from the rows. Without a rehearsal
// the statement is over: it has failed, or has been run as it is.
func (t *takeover) proposed(a *act, permit string) (r *rehearsal, ok bool, err error) {
	for try := 1; ; try++ {
		if r, ok, err = t.rehearsed(a, permit); err != nil || !ok {
			if err == nil && r != nil && r.ends {
				ok, err = t.byItself(a)
			}
			return nil, ok, err
		}
		var again bool
		changes := len(r.rows) > 0 || r.tooLarge
		if changes {
			ok, again, err = t.keepRows(r, permit, try)
		} else {
			ok, again, err = t.asItIs(a, permit, try)
		}
		switch {
		case again:
		case changes && ok && err == nil:
			return r, true, nil
		default:
			return nil, ok, err
		}
	}
}

// keepRows keeps what was rehearsed as it is until the statement is performed. Rows that others have changed since are to be rehearsed
// again, by when nobody can change them any more.
func (t *takeover) keepRows(r *rehearsal, permit string, try int) (ok, again bool, err error) {
	if e := r.objection(); e != nil {
		if r.unheld {
			t.session.server.counters.notHeld.Add(1)
		}
		ok, err = t.refuse(e)
		return ok, false, err
	}
	if r.locks == nil {
		t.ask(askLock, []byte(permit), array(tablesOf(r.rows)))
	}
	same := true
	if r.writes != string(WriteDryRun) {
		for _, rows := range r.seen {
			r.kept = true
			s := t.ask(askLockRows, []byte(permit), []byte(rows.schema), []byte(rows.table), array(rows.ids), array(rows.versions))
			s.row = func(columns [][]byte) error {
				same = same && string(columns[0]) == "t"
				return nil
			}
		}
	}
	if r.kept {
		t.ask(askKeep)
	}
	if r.impatient {
		t.ask(askPatience)
	}
	if len(t.steps) > 0 {
		if f, err := t.play(); err != nil || f != nil {
			ok, err = t.finish(f, err)
			return ok, false, err
		}
	}
	if same {
		return true, false, nil
	}
	if try == maxRehearsals {
		ok, err = t.refuse(failure("40001", "rows of HubSpot changed while the statement was looked at", "", "Repeat the statement."))
		return ok, false, err
	}
	t.ask(askBackKept)
	t.ask(askUnlock)
	t.ask(askRelease) // the rows stay locked
	if f, err := t.play(); err != nil || f != nil {
		ok, err = t.finish(f, err)
		return ok, false, err
	}
	t.locked = false
	return true, true, nil
}

// objection is why a rehearsed statement is not sent, nil if it is.
func (r *rehearsal) objection() *pgwire.Error {
	switch {
	case r.unheld:
		return errMemory(errMemoryFull)
	case r.tooLarge:
		return failure("54000", "the statement changes too much of HubSpot at once", "", "Split it into several.")
	case r.writes == "off":
		return failure("HS010", "writes to HubSpot are off in this session", "", "Set hubpg.writes to on, or to dry_run.")
	case r.writes != "" && r.writes != string(WriteOn) && r.writes != string(WriteDryRun):
		return failure("22023", "hubpg.writes is "+strconv.Quote(r.writes), "", "Set it to on, off or dry_run.")
	case r.onRowError != "" && r.onRowError != "fail" && r.onRowError != "skip":
		return failure("22023", "hubpg.on_row_error is "+strconv.Quote(r.onRowError), "", "Set it to fail or skip.")
	}
	return nil
}

// accepted goes on with a statement that HubSpot has taken.
func (t *takeover) accepted(a *act, r *rehearsal, request *WriteRequest, result WriteResult) (bool, error) {
	for _, n := range result.Notices {
		e := pgwire.Error{Severity: n.Severity, Code: n.Code, Message: n.Message, Detail: n.Detail, Hint: n.Hint}
		if err := t.tell(e.AppendNotice(nil)); err != nil {
			return false, err
		}
	}
	if request.Mode == WriteDryRun {
		return t.dryRun(a, request.Permit)
	}
	return t.perform(a, r, request.Permit, result)
}

// learn takes a refused statement back and has the records that are in its way stored in the tables, so that it can be
// rehearsed once more. It reports false if the statement is over.
func (t *takeover) learn(until time.Time) (failed *writeFailure, ok bool, err error) {
	t.ask(askBack)
	t.ask(askUnlock)
	t.ask(askRelease)
	if f, err := t.play(); err != nil || f != nil {
		ok, err = t.finish(f, err)
		return nil, ok, err
	}
	t.locked = false
	last := len(t.lost) - 1
	failed = t.interruptibly(until, func(ctx context.Context) error {
		// The client's own transaction may hold what the records wait for; then they come after its end.
		ctx, cancel := context.WithTimeout(ctx, learnTime)
		defer cancel()
		return t.pen.writer.Settle(ctx, t.lost[last], false)
	})
	if failed == nil {
		t.lost = t.lost[:last]
	}
	return failed, true, nil
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
	ctx   context.Context
	err   error
	ended bool // the context was over by then
}

// behind is a refusal because of records that the tables lack, nil for anything else.
func (f *writeFailure) behind() *WriteError {
	if e, ok := errors.AsType[*WriteError](f.err); ok && e.Behind {
		return e
	}
	return nil
}

// send waits for HubSpot.
func (t *takeover) send(request WriteRequest, until time.Time) (result WriteResult, failed *writeFailure) {
	failed = t.interruptibly(until, func(ctx context.Context) (err error) {
		result, err = t.pen.writer.Write(ctx, request)
		return err
	})
	return result, failed
}

// interruptibly waits for what the writer does. A cancel of the client, its statement timeout and the end of the session end the
// wait.
func (t *takeover) interruptibly(until time.Time, do func(context.Context) error) *writeFailure {
	ctx, cancel := context.WithCancelCause(t.ctx)
	defer cancel(nil)
	if !until.IsZero() {
		var stop context.CancelFunc
		ctx, stop = context.WithDeadlineCause(ctx, until, errStatementTimeout)
		defer stop()
	}
	t.session.interruptible(cancel)
	defer t.session.interruptible(nil)
	err := t.flush()
	if err == nil {
		err = do(ctx)
	}
	if err != nil {
		return &writeFailure{ctx: ctx, err: err, ended: ctx.Err() != nil}
	}
	return nil
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
