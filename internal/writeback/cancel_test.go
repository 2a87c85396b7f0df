package writeback_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"hubpg/hubapi"
	"hubpg/internal/sandbox"
	"hubpg/internal/writeback"
)

// gate is a limiter that lets nothing out once it is shut.
type gate struct {
	shut    atomic.Bool
	arrived chan struct{}
}

func (g *gate) Wait(ctx context.Context, _, _ string) error {
	if !g.shut.Load() {
		return nil
	}
	select {
	case g.arrived <- struct{}{}:
	default:
	}
	<-ctx.Done()
	return ctx.Err()
}

func (*gate) Observe(string, int, http.Header, string) {}

// TestAStatementThatIsCancelledBeforeItIsSentSaysSo holds that a statement which waits for quota when it is cancelled is not told
// that HubSpot may have taken it, and that nothing is looked up for it.
func TestAStatementThatIsCancelledBeforeItIsSentSaysSo(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	g := &gate{arrived: make(chan struct{}, 1)}
	client, err := hubapi.New(a.url, hubapi.StaticToken(sandbox.DefaultToken), hubapi.WithLimiter(g))
	a.must(err)
	a.writer, err = writeback.New(writeback.Config{Pool: a.pool, Client: client, PortalID: portal})
	a.must(err)
	t.Cleanup(a.writer.Close)
	s := a.session()
	s.do("insert into hubspot.deals (dealname, dealstage, pipeline) values ('first', 'appointmentscheduled', 'default')") // definitions are read
	g.shut.Store(true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		<-g.arrived
		cancel()
	}()
	s.exec("begin")
	_, err = s.twice(ctx, "insert into hubspot.deals (dealname, dealstage, pipeline) values ('second', 'appointmentscheduled', 'default')", nil)
	if own, ok := errors.AsType[*writeback.Error](err); !ok || own.Code != "57014" {
		t.Errorf("the statement says %v", err)
	}
	s.exec("rollback")
	if got := a.text("select status || ' ' || (settled_at is null) from hubpg.writes order by id desc limit 1"); got != "refused false" {
		t.Errorf("its write is %s", got)
	}
}

// TestACancelEndsAStatementThatSkipsBadRows holds that such a statement sends nothing more once it is cancelled, costs no look at what was
// not sent, and fails for that and not for the rows that it has skipped.
func TestACancelEndsAStatementThatSkipsBadRows(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	stop := a.runWriter()
	defer stop()
	s := a.session()
	s.do("insert into hubspot.contacts (email) values ('first@example.com')") // definitions are read
	s.skip = true
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var sent, looks atomic.Int64
	arrives := func(r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/contacts/batch/create"):
			if sent.Add(1) == 1 {
				cancel()
			}
		case strings.Contains(r.URL.RawQuery, "idProperty=email"), strings.HasSuffix(r.URL.Path, "/contacts/batch/read"):
			looks.Add(1)
		}
	}
	a.arrives.Store(&arrives)
	s.exec("begin")
	_, err := s.twice(ctx, `insert into hubspot.contacts (email) select 'c' || i || case i when 1 then '' else '@example.com' end
from generate_series(1, 2000) i`, nil)
	own, ok := errors.AsType[*writeback.Error](err)
	if !ok || own.Code != writeback.CodeUnknown && own.Code != "57014" {
		t.Fatalf("the statement says %v", err)
	}
	s.exec("rollback")
	if n := sent.Load(); n > 8 { // those under way, once more each at most
		t.Errorf("%d batches were sent", n)
	}
	a.eventually("the write is resolved", func() bool { return a.text("select count(*) from hubpg.writes where settled_at is null") == "0" })
	if n := looks.Load(); n > 1500 {
		t.Errorf("%d looks", n)
	}
	a.agree("contacts", "email")
}
