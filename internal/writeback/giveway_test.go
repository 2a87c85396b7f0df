package writeback_test

import (
	"errors"
	"strconv"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// A client that has created one record and creates another meets an applier that has read the first, and waits for it under the
// lock that the client's next statement needs. It is the applier that gives way, before anybody is the victim of a deadlock.
func TestAnApplierGivesWayToAClientThatCreatesTwoRecords(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	s := a.session()
	s.exec("begin")
	first := s.do("insert into hubspot.contacts (email, firstname) values ('one@example.com', 'Ada') returning id").String()
	id, err := strconv.ParseInt(first, 10, 64)
	a.must(err)
	page := a.page("contacts", id)
	before := a.newest()

	var mu sync.Mutex
	var attempts []error
	stored := make(chan error, 1)
	go func() {
		stored <- mirror.Store(t.Context(), a.pool, func(tx pgx.Tx) error {
			_, err := a.applier.Upsert(t.Context(), tx, page)
			mu.Lock()
			defer mu.Unlock()
			attempts = append(attempts, err)
			return err
		})
	}()
	a.waiting("the applier")
	s.do("insert into hubspot.contacts (email, firstname) values ('two@example.com', 'Eve')")
	s.exec("commit")
	s.ended(true)
	a.must(<-stored)
	if len(attempts) < 2 {
		t.Errorf("%d attempts", len(attempts))
	}
	for _, err := range attempts[:len(attempts)-1] {
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "55P03" && pg.Code != "23505" {
			t.Errorf("an attempt ended with %v", err)
		}
	}
	a.agree("contacts", "email", "firstname")
	if log := a.log(before); len(log) != 2 || log[0].Op != changes.Insert || log[1].Op != changes.Insert {
		t.Errorf("log %+v", log)
	}
}

// A transaction that stays open makes the applier fail in the end, in words.
func TestAnApplierThatGivesWayForLongSaysWhy(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	id := a.contact("one@example.com")
	page := a.page("contacts", id)
	client, err := a.db.AdminConn(t).Begin(t.Context())
	a.must(err)
	defer func() { _ = client.Rollback(t.Context()) }()
	_, err = client.Exec(t.Context(), "select from hubspot.contacts where id = $1 for update", id)
	a.must(err)
	attempts := 0
	err = mirror.Store(t.Context(), a.pool, func(tx pgx.Tx) error {
		attempts++
		_, err := a.applier.Upsert(t.Context(), tx, page)
		return err
	})
	if e, ok := errors.AsType[*mirror.OccupiedError](err); !ok || e.Hint() == "" || attempts < 2 {
		t.Errorf("after %d attempts: %v", attempts, err)
	}
	a.must(client.Rollback(t.Context()))
	a.store("contacts", page)
}
