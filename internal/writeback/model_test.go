package writeback_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"hubpg/internal/changes"
	"hubpg/internal/sandbox"
	"hubpg/internal/writeback"
)

// TestAnyMixOfWritesPollsAndFaultsEndsAsHubSpot runs random statements in several sessions while HubSpot refuses, loses
// answers and is polled: afterwards the tables are HubSpot's, the log replays to the tables, and nothing was made twice.
func TestAnyMixOfWritesPollsAndFaultsEndsAsHubSpot(t *testing.T) {
	t.Parallel()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	a := newAccount(t)
	for i := range 10 {
		_, err := a.hub.Create("contacts", map[string]string{"email": fmt.Sprintf("start%d@example.com", i), "firstname": "Start"})
		a.must(err)
	}
	a.read("contacts", changes.Follow)
	stop := a.runWriter()

	var clients sync.WaitGroup
	sessions := make([]*session, 3)
	for i := range sessions {
		sessions[i] = a.session()
	}
	done := make(chan struct{})
	var poller sync.WaitGroup
	poller.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				_, _ = a.poll("contacts", changes.Follow) // a fault may hit it; the next one comes
			}
		}
	})
	for i, s := range sessions {
		r := rand.New(rand.NewPCG(seed, uint64(i)))
		clients.Go(func() {
			for n := range 15 {
				a.randomStep(s, r, fmt.Sprintf("c%d-%d", i, n))
			}
		})
	}
	clients.Wait()
	close(done)
	poller.Wait()
	a.hub.ClearFaults()
	a.eventually("every write is resolved", func() bool {
		return a.text("select count(*) from hubpg.writes where settled_at is null") == "0"
	})
	stop()
	a.read("contacts", changes.Follow)
	a.agree("contacts", "email", "firstname", "lastname")

	emails := map[string]int{}
	for _, r := range a.hub.Snapshot("contacts") {
		if !r.Archived {
			emails[r.Properties["email"]]++
		}
	}
	for email, n := range emails {
		if n != 1 {
			t.Errorf("%s was made %d times", email, n)
		}
	}
	live := map[int64]bool{}
	for _, c := range a.log(0) {
		switch c.Op {
		case changes.Insert, changes.Restore:
			if live[c.RecordID] {
				t.Errorf("seq %d: record %d appears twice", c.Seq, c.RecordID)
			}
			live[c.RecordID] = true
		case changes.Delete:
			if !live[c.RecordID] {
				t.Errorf("seq %d: record %d goes twice", c.Seq, c.RecordID)
			}
			delete(live, c.RecordID)
		default:
			if !live[c.RecordID] {
				t.Errorf("seq %d: %s of record %d, which is not there", c.Seq, c.Op, c.RecordID)
			}
		}
	}
	if len(live) != len(emails) {
		t.Errorf("the log ends with %d records, HubSpot has %d", len(live), len(emails))
	}
}

// randomStep runs one statement, in a transaction of its own or one that ends either way.
func (a *account) randomStep(s *session, r *rand.Rand, name string) {
	if r.IntN(3) == 0 {
		kinds := []sandbox.FaultKind{sandbox.FaultDropAfter, sandbox.FaultCut, sandbox.FaultDrop, sandbox.FaultInternal, sandbox.FaultGatewayTimeout}
		a.hub.InjectFault(sandbox.Fault{Method: "POST", Path: "contacts/batch/(create|update|archive)", Kind: kinds[r.IntN(len(kinds))], Count: 1})
	}
	const some = "(select id from hubspot.contacts order by md5(id::text || $1) limit 3)"
	statements := []string{
		"insert into hubspot.contacts (email, firstname) select $1 || i || '@example.com', 'I' from generate_series(1, 3) i",
		"insert into hubspot.contacts (email) values ($1 || '@example.com'), ('start1@example.com')",
		"update hubspot.contacts set firstname = $1 where id in " + some,
		"update hubspot.contacts set lastname = $1, firstname = null where id in " + some,
		"update hubspot.contacts set lastname = $1",
		"delete from hubspot.contacts where id = (select min(id) from hubspot.contacts where md5(id::text || $1) < '4')",
	}
	s.skip = r.IntN(4) == 0
	explicit := r.IntN(3) == 0
	if explicit {
		s.exec("begin")
	}
	_, err := s.run(statements[r.IntN(len(statements))], name)
	if own, ok := errors.AsType[*writeback.Error](err); err != nil && !ok {
		if pg, ok := errors.AsType[*pgconn.PgError](err); !ok || pg.Code != "40001" && pg.Code != "40P01" {
			a.t.Errorf("%s: %v", name, err)
		}
	} else if ok && own.ID == 0 {
		a.t.Errorf("%s: %v", name, own)
	}
	if explicit {
		commit := r.IntN(2) == 0 && s.conn.PgConn().TxStatus() == 'T'
		if commit {
			s.exec("commit")
		} else {
			s.exec("rollback")
		}
		s.ended(commit)
	}
}
