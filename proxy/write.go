package proxy

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"hubpg/internal/pgwire"
	"hubpg/internal/sqlstmt"
)

// codeGuard is what the guard of a mirrored table says to a change that was not rehearsed.
const codeGuard = "HS001"

// maxCaptured bounds what one statement may change, as its rows in JSON.
const maxCaptured = 256 << 20

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
	askCaptured  = "select * from hubpg.captured($1)"
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

// rehearsal is what a statement would do.
type rehearsal struct {
	role, application  string
	writes, onRowError string
	timeout            time.Duration
	impatient          bool // the session may not wait inside a transaction
	rows               []CapturedRow
	size               int
	tooLarge           bool
	locks              []byte // what keeps appliers out, as Postgres wrote it; nil if they have to be waited for
}

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

// rehearsed runs the statement, looks at what it would do and takes it back, up to the savepoint.
func (t *takeover) rehearsed(a *act, permit string) (*rehearsal, bool, error) {
	r := &rehearsal{}
	t.ask(askSavepoint)
	scope := t.pen.watch.current.Load()
	if names := t.pen.unresolved(scope, &a.effect); len(names) > 0 {
		t.ask(askResolve, array(names)).row = func(columns [][]byte) error {
			t.pen.resolve(scope, string(columns[0]), string(columns[1]))
			return nil
		}
	}
	t.ask(askRehearse, []byte(permit)).row = r.settings
	if a.effect.CopyIn {
		t.endGroup()
		if f, err := t.play(); err != nil || f != nil {
			_, err = t.finish(f, err)
			return nil, false, err
		}
		s := t.present(a)
		s.told, s.hold, s.copied, s.replay = false, false, a.copied, a.taken
		a.taken = true
		f, err := t.play()
		if err == nil && f != nil && a.copied.broken != "" {
			f.message = failure("54000", a.copied.broken, "", "Split the data, or use INSERT.").Append(nil)
		}
		if err != nil || f != nil {
			_, err = t.finish(f, err)
			return nil, false, err
		}
	} else {
		t.rehearse(a)
	}
	locks := len(t.steps)
	t.ask(askCaptured, []byte(permit)).row = r.captured
	t.ask(askBack)
	f, err := t.play()
	t.locked = len(r.rows) > 0 || r.tooLarge || f != nil && f.step >= locks
	ok, err := t.finish(f, err)
	return r, ok, err
}

// maxRehearsals bounds how often a statement is rehearsed.
const maxRehearsals = 5

// asItIs runs a statement of which the rehearsal has changed nothing, or nothing that it has not taken back itself. By now
// there may be something for it to change: then it is to be rehearsed again, unless the client has seen part of its answer.
func (t *takeover) asItIs(a *act, permit string, try int) (ok, again bool, err error) {
	said, flushes := len(t.toClient), t.flushes
	t.ask(askRehearse, []byte(permit))
	if a.effect.CopyIn {
		if f, err := t.play(); err != nil || f != nil {
			ok, err = t.finish(f, err)
			return ok, false, err
		}
	}
	t.presentAgain(a).hold = true // until it is known that nothing has changed
	if a.effect.CopyIn {
		if f, err := t.play(); err != nil || f != nil {
			ok, err = t.finish(f, err)
			return ok, false, err
		}
	}
	t.ask(askUnchanged, []byte(permit))
	t.ask(askRelease)
	f, err := t.play()
	if err == nil && f == nil && (!t.own || a.simple && !a.last) {
		t.release()
	}
	if err != nil || f == nil || pgwire.ParseError(f.message).Code != codeGuard {
		ok, err = t.finish(f, err)
		return ok, false, err
	}
	if t.flushes != flushes || try == maxRehearsals {
		ok, err = t.refuse(failure("40001", "rows of HubSpot changed while the statement was looked at", "", "Repeat the statement."))
		return ok, false, err
	}
	t.toClient, t.held = t.toClient[:said], nil
	err = t.insist(func() int {
		t.ask(askBack)
		t.ask(askRelease)
		return len(t.steps)
	})
	return err == nil, err == nil, err
}

func (r *rehearsal) settings(columns [][]byte) error {
	if len(columns) != 6 {
		return protocolError('D')
	}
	r.role, r.application = string(columns[0]), string(columns[1])
	r.writes, r.onRowError = strings.ToLower(string(columns[2])), strings.ToLower(string(columns[3]))
	ms, err := strconv.ParseInt(string(columns[4]), 10, 64)
	if err != nil {
		return protocolError('D')
	}
	r.timeout = time.Duration(ms) * time.Millisecond
	r.impatient = string(columns[5]) == "t"
	return nil
}

// captured takes a row; nil is one that was too large to be held.
func (r *rehearsal) captured(columns [][]byte) error {
	for _, c := range columns {
		r.size += len(c)
	}
	if columns == nil || r.size > maxCaptured {
		r.tooLarge, r.rows = true, nil
		return nil
	}
	if r.tooLarge {
		return nil
	}
	n, err := strconv.ParseInt(string(columns[0]), 10, 64)
	if err != nil || len(columns) != 7 {
		return protocolError('D')
	}
	r.locks = bytes.Clone(columns[6])
	r.rows = append(r.rows, CapturedRow{
		N: n, Schema: string(columns[1]), Table: string(columns[2]), Op: string(columns[3]),
		Old: json.RawMessage(bytes.Clone(columns[4])), New: json.RawMessage(bytes.Clone(columns[5])),
	})
	return nil
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

// dryRun shows the client what the statement would have come to, and takes it back.
func (t *takeover) dryRun(a *act, permit string) (bool, error) {
	t.ask(askBack)
	t.ask(askUnlock)
	t.ask(askRehearse, []byte(permit))
	if a.effect.CopyIn {
		if f, err := t.play(); err != nil || f != nil {
			return t.finish(f, err)
		}
	}
	t.presentAgain(a)
	if a.effect.CopyIn {
		if f, err := t.play(); err != nil || f != nil {
			return t.finish(f, err)
		}
	}
	t.ask(askBack)
	t.ask(askRelease)
	ok, err := t.finish(t.play())
	t.locked = t.locked && !ok
	return ok, err
}

// perform runs the statement with HubSpot's answers in the place of its own.
func (t *takeover) perform(a *act, r *rehearsal, permit string, result WriteResult) (bool, error) {
	if result.ID != 0 {
		t.pen.unsettled = append(t.pen.unsettled, result.ID)
	}
	t.ask(askBack)
	t.ask(askPerform, []byte(permit), result.Answers)
	if a.effect.CopyIn {
		if f, err := t.play(); err != nil || f != nil {
			return t.lose(result.ID, f, err)
		}
	}
	t.presentAgain(a).hold = true // until nothing can fail any more
	if a.effect.CopyIn {
		if f, err := t.play(); err != nil || f != nil {
			return t.lose(result.ID, f, err)
		}
	}
	commits := t.own && (a.simple && a.last || !a.simple && t.syncFollows())
	t.ask(askDone, []byte(permit), r.locks)
	if !commits {
		t.ask(askIdle, []byte(fmt.Sprintf("%dms", t.session.server.config.Limits.IdleAfterWrite.Milliseconds())))
	}
	t.ask(askRelease)
	if commits {
		t.ask("commit")
	}
	f, err := t.play()
	if err != nil || f != nil {
		return t.lose(result.ID, f, err)
	}
	t.locked = false
	switch {
	case commits:
		t.committed()
		t.over = !a.simple
	case !t.own, a.simple && !a.last:
		t.release()
	}
	return true, nil
}

// presentAgain adds the statement for the client to see, with the data it has sent.
func (t *takeover) presentAgain(a *act) *step {
	s := t.present(a)
	s.copied, s.replay = a.copied, a.copied != nil
	return s
}

// lose ends a statement that HubSpot has accepted and Postgres has not: its records are read again.
func (t *takeover) lose(id int64, f *fault, err error) (bool, error) {
	if err != nil {
		return false, err // the session ends, and settles what is open
	}
	t.held = nil // the statement's own tag
	if id != 0 {
		t.pen.unsettled = slices.DeleteFunc(t.pen.unsettled, func(other int64) bool { return other == id })
		t.lost = append(t.lost, id)
	}
	return t.finish(f, nil)
}

// finish ends a script: with nil, nothing has failed; otherwise the client is told what Postgres said.
func (t *takeover) finish(f *fault, err error) (bool, error) {
	if err != nil || f == nil || t.void {
		return err == nil && f == nil, err
	}
	return t.fail(f.message)
}

// refuse fails the statement for a reason of the proxy's or the writer's.
func (t *takeover) refuse(e *pgwire.Error) (bool, error) { return t.fail(e.Append(nil)) }

// fail tells the client of an error and leaves the transaction as Postgres would: failed, or, where it was the proxy's
// own, rolled back.
func (t *takeover) fail(message []byte) (bool, error) {
	t.release()
	if t.own {
		if err := t.warn(t.pen.unsettled); err != nil {
			return false, err
		}
		if err := t.tell(message); err != nil {
			return false, err
		}
		return false, t.rollback()
	}
	if t.locked || t.status == 'T' {
		e := pgwire.ParseError(message)
		err := t.insist(func() int {
			if t.locked && t.status == 'E' {
				t.ask(askBack)
			}
			if t.locked {
				t.ask(askUnlock)
			}
			t.ask(raise(e)) // nobody hears it: it makes the block fail
			return len(t.steps) - 1
		})
		if err != nil {
			return false, err
		}
		t.locked = false
	}
	if t.status == 'I' { // the block ended with the error
		t.abandon()
	}
	return false, t.tell(message)
}

// insist plays a script that may fail only from the step on that it names. A cancel request meant for the statement
// before can hit it; then it is played again.
func (t *takeover) insist(script func() (mayFail int)) error {
	const tries = 3
	for try := 1; ; try++ {
		mayFail := script()
		if len(t.steps) == 0 {
			return nil
		}
		f, err := t.play()
		if err != nil || f == nil || f.step >= mayFail {
			return err
		}
		if e := pgwire.ParseError(f.message); try == tries || e.Code != "57014" {
			return fmt.Errorf("%w: %w", errOutOfStep, e)
		}
	}
}

// plain runs a statement that changes no mirrored table, among others that do.
func (t *takeover) plain(a *act) (bool, error) {
	t.present(a)
	return t.finish(t.play())
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

// unresolved lists the targets whose meaning depends on the search path and has not been looked up.
func (p *pen) unresolved(scope *scope, e *sqlstmt.Effect) []string {
	var names []string
	for _, t := range e.Targets {
		if _, known := p.resolved[t.Name]; !known && scope.relevance(t) == ambiguous {
			names = append(names, t.Name)
		}
	}
	return names
}

// resolve notes the schema that a name means on the search path.
func (p *pen) resolve(scope *scope, name, schema string) {
	if len(p.resolved) >= maxResolved {
		clear(p.resolved)
	}
	if p.resolved == nil {
		p.resolved = map[string]bool{}
	}
	p.resolved[name] = schema != "" && scope.relevance(sqlstmt.Name{Schema: schema, Name: name}) == relevant
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
