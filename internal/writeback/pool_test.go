package writeback_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// TestSettlementsThatWaitLeaveAWriteItsQuota holds that a write under way finds a connection of the pool, by which it asks for the quota of
// its further batches, although as many settlements as that has connections wait for an applier that waits for the write.
func TestSettlementsThatWaitLeaveAWriteItsQuota(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	id := a.contact("one@example.com")
	var committed []*session
	for range a.pool.Config().MaxConns {
		s := a.session()
		s.exec("begin")
		s.do("update hubspot.contacts set lastname = $1", fmt.Sprint(len(committed)))
		s.exec("commit")
		committed = append(committed, s)
	}
	arrived, answer := make(chan struct{}), make(chan struct{})
	arrive, free := sync.OnceFunc(func() { close(arrived) }), sync.OnceFunc(func() { close(answer) })
	defer free()
	hold := func(r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/contacts/batch/update") {
			arrive()
			<-answer
		}
	}
	a.arrives.Store(&hold)
	long := a.session()
	wrote := make(chan error, 1)
	go func() {
		_, err := long.run("update hubspot.contacts set firstname = 'New'")
		wrote <- err
	}()
	<-arrived
	page, others := a.page("contacts", id), a.db.Pool(t)
	var waiting sync.WaitGroup
	waiting.Go(func() {
		_ = pgx.BeginFunc(t.Context(), others, func(tx pgx.Tx) error { // it may have to give up
			_, err := a.applier.Upsert(t.Context(), tx, page)
			return err
		})
	})
	a.waiting("the applier")
	for _, s := range committed {
		waiting.Go(func() {
			if err := s.writer.Settle(t.Context(), s.open[0], true); err != nil {
				t.Error(err)
			}
		})
	}
	time.Sleep(500 * time.Millisecond) // they wait behind the applier, or for their turn
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	conn, err := a.pool.Acquire(ctx)
	if err == nil {
		conn.Release()
	} else {
		t.Errorf("no connection is left: %v", err)
	}
	free()
	a.must(<-wrote)
	waiting.Wait()
	a.agree("contacts", "firstname", "lastname")
}
