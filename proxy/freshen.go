package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"hubpg/internal/pgwire"
	"hubpg/internal/sqlstmt"
)

// codeStale is the SQLSTATE of a statement whose tables are not as fresh as hubpg.max_staleness asks for.
const codeStale = "HS020"

// What a client's backend is asked before a statement waits. SHOW and SET take no snapshot, so that a transaction that
// keeps its first one does not get it before the wait.
const (
	askStaleness = "show " + stalenessSetting
	askPath      = "show search_path"
	askUser      = "show session_authorization"
	askRole      = "show role"
	askTimeLimit = "show statement_timeout"
	askIdleLimit = "show idle_in_transaction_session_timeout"
	// A setting of somebody's own can be shown once it has been named. This leaves its value alone…
	askMeet = "select pg_catalog.set_config('" + stalenessSetting + "', coalesce(pg_catalog.current_setting('" + stalenessSetting +
		"', true), ''), false)"
	// … and this too, where the session has never set it, without a snapshot.
	askMeetFirst = "set " + stalenessSetting + " to default"
)

// wish is what a session wants of the tables that a statement names.
type wish struct {
	names         []sqlstmt.Name
	staleness     string // value of the setting
	path          string // search_path
	user, role    string
	timeout, idle string
	inBlock       bool
}

// freshen waits until the tables that a message of the client names are as fresh as the session asks for. It returns false
// if the message must not be passed on: then the client has been told, and the transaction is as after any error.
func (t *takeover) freshen(message []byte) (bool, error) {
	ok, err := t.between(message[0] == 'Q')
	if err != nil || t.void {
		return false, err
	}
	if !ok {
		return true, nil // the transaction has failed: Postgres says so
	}
	if t.each { // the value and the names of each depend on those before it
		return true, t.meet()
	}
	names, all := t.vigil.reads(message)
	if ok, err := t.await(names, all); err != nil || !ok {
		return false, err
	}
	if message[0] == 'P' {
		t.vigil.awaited = names
	}
	return true, nil
}

// several reports whether a Query holds more than one statement.
func several(query []byte) bool {
	text, _, _ := pgwire.CutString(query[pgwire.HeaderLen:])
	n := 0
	for range sqlstmt.EachEffect(string(text)) {
		if n++; n > 1 {
			return true
		}
	}
	return false
}

// between makes sure that everything which was asked before is answered, opening a transaction only if something of the
// present round has been passed on. It reports false where the transaction has failed.
func (t *takeover) between(query bool) (bool, error) {
	if t.own || t.asking {
		return t.open(query, false)
	}
	if err := t.stage(query); err != nil {
		return false, err
	}
	return t.status != 'E' && !t.void, nil
}

// await waits for tables, of which all says whether they are all that the statement names.
func (t *takeover) await(names []sqlstmt.Name, all bool) (bool, error) {
	if err := t.meet(); err != nil {
		return false, err
	}
	if len(names) == 0 && all && !t.vigil.doubtful {
		return true, nil
	}
	w := wish{names: names, inBlock: t.status == 'T'}
	if err := t.insist(func() int { return t.askWish(&w) }); err != nil {
		return false, err
	}
	if w.staleness == "" {
		t.vigil.unset()
		return true, nil
	}
	if !all {
		return t.refuse(failure("54000", "the session has prepared more statements, or one of more names, than hubpg can keep fresh", "",
			fmt.Sprintf("Reset %s, or prepare fewer and shorter statements on tables of HubSpot.", stalenessSetting)))
	}
	if err := t.flush(); err != nil {
		return false, err
	}
	if refused := t.fresh(&w); refused != nil {
		return t.refuse(refused)
	}
	return true, nil
}

// meet makes sure that the backend knows the setting by name.
func (t *takeover) meet() error {
	g := t.vigil
	if g.met() {
		return nil
	}
	err := t.insist(func() int {
		if g.backend == 0 && t.status != 'I' {
			t.ask(askMeetFirst)
		} else {
			t.ask(askMeet)
		}
		return len(t.steps)
	})
	if err == nil {
		g.backend = t.upstream.pid
	}
	return err
}

func (t *takeover) askWish(w *wish) (steps int) {
	for _, q := range []struct {
		sql string
		to  *string
	}{
		{askStaleness, &w.staleness}, {askPath, &w.path}, {askUser, &w.user}, {askRole, &w.role}, {askTimeLimit, &w.timeout}, {askIdleLimit, &w.idle},
	} {
		t.ask(q.sql).row = func(columns [][]byte) error {
			if len(columns) != 1 {
				return protocolError('D')
			}
			*q.to = string(columns[0])
			return nil
		}
	}
	return len(t.steps)
}

// fresh waits. A cancel of the client, its timeouts and the end of the session end the wait.
func (t *takeover) fresh(w *wish) *pgwire.Error {
	ctx, cancel := context.WithCancelCause(t.ctx)
	defer cancel(nil)
	t.session.interruptible(cancel)
	defer t.session.interruptible(nil)
	s := t.session.server
	err := s.freshness.await(ctx, w, s.config.Limits.FreshWithin)
	if err == nil {
		return nil
	}
	if stale, ok := errors.AsType[*staleError](err); ok {
		s.counters.stale.Add(1)
		return stale.wire(w)
	}
	var setting *settingError
	switch {
	case errors.As(err, &setting):
		return failure("22023", setting.Error(), "", "Give it an interval such as '5s' or '1 min', or '' for none.")
	case errors.Is(context.Cause(ctx), errCanceled):
		return failure("57014", "canceling statement due to user request", "", "")
	case ctx.Err() != nil: // the session ends
		return errDraining()
	}
	t.log.Error("look how fresh tables are", "error", err)
	return failure("58000", "hubpg cannot find out how fresh the tables are", "", "The log of hubpg has the cause.")
}

// wire words the error for the client.
func (e *staleError) wire(w *wish) *pgwire.Error {
	out := failure(codeStale, fmt.Sprintf("%s.%s is not as fresh as %s = '%s' asks for", e.table.Schema, e.table.Name, stalenessSetting,
		w.staleness), e.detail(), e.remedy())
	out.Schema, out.Table = e.table.Schema, e.table.Name
	if e.statementTimeout {
		out.Code = "57014"
	}
	return out
}

func (e *staleError) detail() string {
	var parts []string
	switch e.state.phase {
	case "live":
		if e.state.verified.IsZero() {
			parts = append(parts, "It has not been looked through yet.")
		} else {
			parts = append(parts, fmt.Sprintf("It holds what HubSpot had %s ago; it was waited for for %s.",
				e.state.now.Sub(e.state.verified).Round(time.Second/10), e.waited.Round(time.Second/10)))
		}
	case "degraded":
		parts = append(parts, "It cannot be read from HubSpot at the moment.")
	default:
		parts = append(parts, "It is still being filled for the first time.")
	}
	if e.state.problem != "" {
		parts = append(parts, "The last look failed: "+e.state.problem)
	}
	return strings.Join(parts, " ")
}

func (e *staleError) remedy() string {
	if e.state.hint != "" {
		return e.state.hint
	}
	return fmt.Sprintf("select * from hubpg.status says how each table does; a larger %s, or '', asks for less.", stalenessSetting)
}
