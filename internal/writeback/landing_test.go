package writeback_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hubpg/internal/writeback"
)

// patient makes the account's writer one that waits for an hour for what HubSpot may still take up.
func (a *account) patient() {
	a.t.Helper()
	var err error
	a.writer, err = writeback.New(writeback.Config{Pool: a.pool, Client: a.client, PortalID: portal, Every: 20 * time.Millisecond, Landing: time.Hour})
	a.must(err)
	a.t.Cleanup(a.writer.Close)
}

// openWrite is the only write: its status, whether it is open, and its outcome.
const openWrite = "select status || ' ' || (settled_at is null) || ' ' || coalesce(outcome -> 0 ->> 'done', '') from hubpg.writes"

// pass lets the hour go by.
func (a *account) pass() {
	a.t.Helper()
	_, err := a.pool.Exec(a.t.Context(), "update hubpg.writes set touched_at = now() - interval '2 hours'")
	a.must(err)
}

// looksByEmail says whether a request looks for contacts by their addresses.
func looksByEmail(r *http.Request) bool {
	if !strings.HasSuffix(r.URL.Path, "/contacts/batch/read") {
		return false
	}
	body, err := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	return err == nil && bytes.Contains(body, []byte(`"idProperty":"email"`))
}

// TestACreateThatLandsAfterItsConnectionDiedIsFound holds that nobody is told that HubSpot did not take a row which it
// may still be about to take, and that the write stays open until what has landed meanwhile is found.
func TestACreateThatLandsAfterItsConnectionDiedIsFound(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	a.patient()
	s := a.session()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	lands := make(chan struct{})
	land := sync.OnceFunc(func() { close(lands) })
	defer land()
	var looks atomic.Int64
	hold := func(r *http.Request) {
		switch {
		case looksByEmail(r):
			looks.Add(1)
		case strings.HasSuffix(r.URL.Path, "/contacts/batch/create"):
			body, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			*r = *r.WithContext(context.WithoutCancel(r.Context())) // HubSpot has it, whatever becomes of the connection
			r.Body = io.NopCloser(bytes.NewReader(body))
			cancel()
			<-lands
		}
	}
	a.arrives.Store(&hold)
	s.exec("begin")
	_, err := s.twice(ctx, "insert into hubspot.contacts (email) values ('late@example.com')", nil)
	if own, ok := errors.AsType[*writeback.Error](err); !ok || own.Code != writeback.CodeUnknown || own.Hint == "" {
		t.Fatalf("the statement says %v", err)
	}
	s.exec("rollback")
	stop := a.runWriter()
	defer stop()
	a.eventually("the write is looked up again", func() bool { return looks.Load() >= 2 })
	time.Sleep(100 * time.Millisecond) // several looks for open writes
	if got := a.text(openWrite); got != "ambiguous true false" || looks.Load() != 2 {
		t.Errorf("while HubSpot may have it, it is %q after %d looks", got, looks.Load())
	}
	land()
	a.eventually("HubSpot has the record", func() bool { return len(a.hub.Snapshot("contacts")) == 1 })
	a.pass()
	a.eventually("the write is resolved", func() bool { return a.text(openWrite) == "repaired false true" })
	a.agree("contacts", "email")
	if got := a.text("select (w.outcome -> 0 ->> 'id')::bigint = c.id from hubpg.writes w, hubspot.contacts c"); got != "true" {
		t.Errorf("its record names another contact: %s", got)
	}
}

// TestAnOrphanedCreateThatLandsLateIsFound is the same for a process that was killed between intent and outcome.
func TestAnOrphanedCreateThatLandsLateIsFound(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	a.patient()
	died := a.session()
	died.exec("begin")
	xid := ""
	a.must(died.conn.QueryRow(t.Context(), "select pg_current_xact_id()::text").Scan(&xid))
	_, err := a.pool.Exec(t.Context(), `insert into hubpg.writes (portal_id, status, role, pid, xid, rows, intent, touched_at)
values ($1, 'intent', 'app', 1, $2::text::xid8, 1,
  '[{"table": "contacts", "op": "insert", "id": -1, "unique": {"property": "email", "value": "late@example.com"}}]', now() - interval '2 hours')`, portal, xid)
	a.must(err)
	stop := a.runWriter()
	defer stop()
	time.Sleep(100 * time.Millisecond) // several looks for open writes
	if got := a.text(openWrite); got != "intent true " {
		t.Errorf("while the client's transaction is open, it is %q", got)
	}
	died.exec("rollback")
	a.eventually("the write is known to be orphaned", func() bool { return a.text(openWrite) == "ambiguous true " })
	time.Sleep(100 * time.Millisecond)
	if got := a.text(openWrite); got != "ambiguous true " {
		t.Errorf("while HubSpot may have it, it is %q", got)
	}
	if _, err := a.hub.Create("contacts", map[string]string{"email": "late@example.com"}); err != nil {
		t.Fatal(err)
	}
	a.pass()
	a.eventually("the write is resolved", func() bool { return a.text(openWrite) == "repaired false true" })
	a.agree("contacts", "email")
}

// TestRecoveryLeavesAWriteAloneThatIsUnderWay holds that a write whose client has gone is its own process's until that has
// recorded what became of it, and that one of which no transaction is known is left alone for a minute.
func TestRecoveryLeavesAWriteAloneThatIsUnderWay(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	a.patient()
	s := a.session()
	id := a.contact("one@example.com")
	arrived, lands := make(chan struct{}), make(chan struct{})
	arrive, land := sync.OnceFunc(func() { close(arrived) }), sync.OnceFunc(func() { close(lands) })
	defer land()
	hold := func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/contacts/batch/update") {
			arrive()
			<-lands
		}
	}
	a.arrives.Store(&hold)
	killer := a.db.AdminConn(t)
	s.exec("begin")
	s.between = runtime.Goexit // there is no session to go on in
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = s.twice(t.Context(), "update hubspot.contacts set firstname = 'Kept' where id = $1", []any{id})
	}()
	<-arrived
	if _, err := killer.Exec(t.Context(), "select pg_terminate_backend($1, 10000)", s.conn.PgConn().PID()); err != nil {
		t.Fatal(err)
	}
	_, err := a.pool.Exec(t.Context(), `insert into hubpg.writes (portal_id, status, role, pid, rows, intent)
values ($1, 'intent', 'app', 1, 0, '[]')`, portal)
	a.must(err)
	stop := a.runWriter()
	defer stop()
	time.Sleep(150 * time.Millisecond) // several looks for open writes
	if got := a.text("select string_agg(status, ',') from hubpg.writes"); got != "intent,intent" {
		t.Errorf("under way, they are %q", got)
	}
	land()
	<-done
	a.eventually("the write is resolved", func() bool {
		return a.text("select status || ' ' || (settled_at is null) from hubpg.writes where pid <> 1") == "repaired false"
	})
	a.agree("contacts", "firstname")
	_, err = a.pool.Exec(t.Context(), "update hubpg.writes set touched_at = now() - interval '2 minutes' where pid = 1")
	a.must(err)
	a.eventually("the other is orphaned", func() bool { return a.text("select status from hubpg.writes where pid = 1") == "ambiguous" })
}

// TestAnAcceptanceIsRecordedBeforeItIsReadBack holds that what HubSpot has accepted stands in hubpg.writes, with the new
// record's id, while its record is still being read: a process that is killed meanwhile leaves nothing to be looked for.
func TestAnAcceptanceIsRecordedBeforeItIsReadBack(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	s := a.session()
	answers := make(chan struct{})
	answer := sync.OnceFunc(func() { close(answers) })
	defer answer()
	hold := func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/contacts/batch/read") {
			<-answers
		}
	}
	a.arrives.Store(&hold)
	done := make(chan error, 1)
	go func() {
		_, err := s.run("insert into hubspot.contacts (email) values ('new@example.com')")
		done <- err
	}()
	a.eventually("the acceptance is recorded", func() bool { return a.text("select max(status) from hubpg.writes") == "accepted" })
	if got, want := a.text("select (outcome -> 0 ->> 'id') || ' ' || calls from hubpg.writes"), fmt.Sprintf("%d 2", a.hub.Snapshot("contacts")[0].ID); got != want {
		t.Errorf("its record says %s, want %s", got, want)
	}
	answer()
	a.must(<-done)
	a.agree("contacts", "email")
}

// TestASkippedRowThatLandsLaterIsFound holds that a row which was skipped because nobody knew whether HubSpot has it keeps its
// write open beyond the end of the transaction, either way, until what has landed meanwhile is found.
func TestASkippedRowThatLandsLaterIsFound(t *testing.T) {
	t.Parallel()
	for _, end := range []string{"commit", "rollback", "crash"} {
		t.Run(end, func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			a.patient()
			id := a.contact("one@example.com")
			s := a.session()
			s.skip = true
			s.do("update hubspot.contacts set lastname = 'Warm'")
			var late []func()
			hold := func(r *http.Request) {
				if !strings.HasSuffix(r.URL.Path, "/contacts/batch/create") {
					return
				}
				body, err := io.ReadAll(r.Body)
				if err != nil {
					return
				}
				again := r.Clone(context.WithoutCancel(r.Context()))
				late = append(late, func() {
					again.Body = io.NopCloser(bytes.NewReader(body))
					a.hub.ServeHTTP(httptest.NewRecorder(), again)
				})
				panic(http.ErrAbortHandler)
			}
			a.arrives.Store(&hold)
			s.exec("begin")
			s.do(`with made as (insert into hubspot.contacts (email) values ('late@example.com'))
update hubspot.contacts set firstname = 'Kept' where id = $1`, id)
			if len(s.notes) != 1 || s.notes[0].Code != writeback.CodeUnknown {
				t.Fatalf("notices: %+v", s.notes)
			}
			switch end {
			case "crash":
				s.exec("commit")
			default:
				s.exec(end)
				s.ended(end == "commit")
			}
			stop := a.runWriter()
			defer stop()
			const last = `
select status || ' ' || (settled_at is null) || ' ' || (select bool_and((o ->> 'done')::boolean) from jsonb_array_elements(outcome) o)
from hubpg.writes
order by id desc
limit 1`
			a.eventually("the write waits for what may land", func() bool { return a.text(last) == "ambiguous true false" })
			time.Sleep(100 * time.Millisecond) // several looks for open writes
			if got := a.text(last); got != "ambiguous true false" {
				t.Errorf("while HubSpot may have it, it is %q", got)
			}
			for _, land := range late {
				land()
			}
			a.pass()
			a.eventually("the write is resolved", func() bool { return a.text(last) == "repaired false true" })
			a.agree("contacts", "email", "firstname")
		})
	}
}
