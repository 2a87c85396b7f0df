package writeback_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/changes"
	"hubpg/internal/sandbox"
	"hubpg/internal/writeback"
)

// results is what the answer to a batch holds.
func results(body map[string]any) []any {
	list, _ := body["results"].([]any)
	return list
}

// drop leaves a record out of an answer.
func drop(i int) func(map[string]any) {
	return func(body map[string]any) {
		if list := results(body); i < len(list) {
			body["results"] = slices.Delete(slices.Clone(list), i, i+1)
		}
	}
}

// stranger is a record that nobody asked for.
func stranger(id int64) map[string]any {
	return map[string]any{
		"id": strconv.FormatInt(id, 10), "properties": map[string]any{"firstname": "Stranger", "email": "stranger@example.com"},
		"createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-01T00:00:00.000Z", "archived": false,
	}
}

// TestAnswersThatDoNotFitTheirQuestion holds that of an answer which leaves rows out, repeats them, names strangers or is
// larger than any may be, nothing is believed that reading does not confirm; and that nothing is made twice.
func TestAnswersThatDoNotFitTheirQuestion(t *testing.T) {
	t.Parallel()
	const (
		inserts = "insert into hubspot.contacts (email, firstname) select 'c' || i || '@example.com', 'New' from generate_series(1, 3) i"
		updates = "update hubspot.contacts set lastname = 'Changed'"
	)
	for name, with := range map[string]func(map[string]any){
		"fewer":    drop(1),
		"none":     func(body map[string]any) { body["results"] = []any{} },
		"stranger": func(body map[string]any) { body["results"] = append(results(body), stranger(77)) },
		"in the place of another": func(body map[string]any) {
			drop(0)(body)
			body["results"] = append(results(body), stranger(77))
		},
		"twice": func(body map[string]any) {
			if list := results(body); len(list) > 0 {
				body["results"] = append(list, list[0])
			}
		},
		"twice in the place of another": func(body map[string]any) {
			if list := results(body); len(list) > 1 {
				body["results"] = append(list[:len(list)-1:len(list)-1], list[0])
			}
		},
		"more than the cap": func(body map[string]any) {
			for i := range int64(300) {
				body["results"] = append(results(body), stranger(1000+i))
			}
		},
		"no list": func(body map[string]any) { body["results"] = "here you are" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			s := a.session()
			a.bend("/batch/create", 1, with)
			if res := s.do(inserts); res.tag != "INSERT 0 3" {
				t.Errorf("insert: tag %q", res.tag)
			}
			a.bend("/batch/update", 1, with)
			if res := s.do(updates); res.tag != "UPDATE 3" {
				t.Errorf("update: tag %q", res.tag)
			}
			if got := a.hub.Count("contacts"); got != 3 {
				t.Errorf("HubSpot has %d contacts", got)
			}
			a.agree("contacts", "email", "firstname", "lastname")
			if got := a.text("select string_agg(status, ',' order by id) from hubpg.writes"); got != "settled,settled" {
				t.Errorf("writes are %s", got)
			}
		})
	}
}

// TestARecordThatIsMergedMeanwhile holds that a change of a record which has another id by the time it is asked for is told,
// whatever HubSpot makes of it, and that the tables have the record that is left at once.
func TestARecordThatIsMergedMeanwhile(t *testing.T) {
	t.Parallel()
	for _, answered := range []string{"as refused", "with the other record", "not at all"} {
		t.Run(answered, func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			stop := a.runWriter()
			defer stop()
			one, two := a.contact("one@example.com"), a.contact("two@example.com")
			var left int64
			merge := sync.OnceFunc(func() {
				var err error
				if left, err = a.hub.Merge("contacts", two, one); err != nil {
					t.Error(err)
				}
			})
			arrives := func(r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/batch/update") {
					merge()
				}
			}
			a.arrives.Store(&arrives)
			switch answered {
			case "with the other record":
				a.bend("/batch/update", 1, func(body map[string]any) {
					if err := a.hub.Update("contacts", left, map[string]string{"firstname": "Changed"}); err != nil {
						t.Error(err)
					}
					record := stranger(left)
					record["objectWriteTraceId"] = "1"
					body["results"], body["errors"], body["numErrors"] = []any{record}, []any{}, 0
				})
			case "not at all":
				a.bend("/batch/update", 1, func(body map[string]any) {
					body["results"], body["errors"], body["numErrors"] = []any{}, []any{}, 0
				})
			}
			e := a.session().refused(writeback.CodeGone, "update hubspot.contacts set firstname = 'Changed' where id = $1", one)
			if answered != "as refused" && !strings.Contains(e.Message, fmt.Sprintf("record %d was merged into record %d", one, left)) {
				t.Errorf("%s", e.Message)
			}
			if told := strings.Contains(e.Message, "has taken the change"); told != (answered == "with the other record") {
				t.Errorf("%s", e.Message)
			}
			a.eventually("the table has the record that is left", func() bool {
				return a.text("select string_agg(id::text, ',') from hubspot.contacts") == fmt.Sprint(left)
			})
			a.agree("contacts", "email", "firstname")
			a.eventually("the write is resolved", func() bool {
				return a.text("select string_agg(status, ',') from hubpg.writes where settled_at is not null") == "repaired"
			})
		})
	}
}

// TestADeletionOfARecordThatIsMergedDeletesNoOther holds that a record which has become part of another one, as the table has yet to
// hear, is not deleted together with that.
func TestADeletionOfARecordThatIsMergedDeletesNoOther(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	stop := a.runWriter()
	defer stop()
	one, two, three := a.contact("one@example.com"), a.contact("two@example.com"), a.contact("three@example.com")
	left, err := a.hub.Merge("contacts", two, one)
	a.must(err)
	e := a.session().refused(writeback.CodeGone, "delete from hubspot.contacts where id in ($1, $2)", one, three)
	if !strings.Contains(e.Message, fmt.Sprintf("record %d was merged into record %d", one, left)) {
		t.Errorf("%s", e.Message)
	}
	if got := a.value("contacts", left, "email"); got != "two@example.com" {
		t.Errorf("of the record that is left HubSpot has %s", got)
	}
	a.eventually("the table has not the record that was merged", func() bool {
		return a.text("select count(*) from hubspot.contacts where id = $1", one) == "0"
	})
	s := a.session()
	s.skip = true
	a.read("contacts", changes.Sweep)
	s.do("delete from hubspot.contacts where email <> 'two@example.com'")
	a.eventually("the table has the record that is left", func() bool {
		return a.text("select string_agg(id::text, ',') from hubspot.contacts where id <> $1", two) == fmt.Sprint(left)
	})
	if got := a.value("contacts", three, "email"); got != "<none>" {
		t.Errorf("HubSpot still has %s", got)
	}
}

// TestADefinitionThatChangesMeanwhile holds that a property which cannot be set any more is refused by HubSpot, and the next
// time before HubSpot is asked.
func TestADefinitionThatChangesMeanwhile(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	id := a.contact("one@example.com")
	s := a.session()
	s.do("update hubspot.contacts set jobtitle = 'Reader' where id = $1", id)
	a.must(a.hub.ChangeProperty("contacts", sandbox.PropertyDef{Name: "jobtitle", Label: "Job Title", Type: "string", FieldType: "text", ReadOnly: true}))
	for attempt, calls := range []int{1, 0} {
		writes := a.hub.Stats().ByFamily["write"]
		e := s.refused("428C9", "update hubspot.contacts set jobtitle = 'Writer' where id = $1", id)
		if got := a.hub.Stats().ByFamily["write"] - writes; e.Column != "jobtitle" || int(got) != calls {
			t.Errorf("attempt %d: %d calls that write: %+v", attempt, got, e)
		}
	}
	a.agree("contacts", "jobtitle")
}

// TestATokenThatExpiresAmongBatches holds that a statement of which some batches were refused for the token fails with what
// became of each row, and that the table has the others.
func TestATokenThatExpiresAmongBatches(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	stop := a.runWriter()
	defer stop()
	a.hub.InjectFault(sandbox.Fault{Method: "POST", Path: "contacts/batch/create", Kind: sandbox.FaultExpiredToken, Skip: 1, Count: 1})
	e := a.session().refused("28000", "insert into hubspot.contacts (email) select 'c' || i || '@example.com' from generate_series(1, 250) i")
	if !strings.Contains(e.Message, " of 250 rows") || !strings.Contains(e.Detail, "accepted by HubSpot all the same") {
		t.Errorf("%s\n%s", e.Message, e.Detail)
	}
	a.eventually("the table has what HubSpot has", func() bool {
		return a.text("select count(*) from hubspot.contacts") == fmt.Sprint(a.hub.Count("contacts"))
	})
	if n := a.hub.Count("contacts"); n != 150 && n != 200 {
		t.Errorf("HubSpot has %d", n)
	}
	a.agree("contacts", "email")
}

// TestPostgresGoesAwayWhileAWriteIsSettled holds that a settlement which loses its connections is made up for, and that
// its events come once.
func TestPostgresGoesAwayWhileAWriteIsSettled(t *testing.T) {
	t.Parallel()
	for _, committed := range []bool{true, false} {
		t.Run(fmt.Sprint(committed), func(t *testing.T) {
			t.Parallel()
			a := newAccount(t)
			id := a.contact("one@example.com")
			admin := a.db.AdminConn(t)
			s := a.session()
			s.exec("begin")
			s.do("update hubspot.contacts set firstname = 'Changed' where id = $1", id)
			if committed {
				s.exec("commit")
			} else {
				s.exec("rollback")
			}
			before := a.newest()
			tx, err := admin.Begin(t.Context())
			a.must(err)
			_, err = tx.Exec(t.Context(), "lock table hubpg.changes in exclusive mode") // the log cannot be written
			a.must(err)
			done := make(chan error, 1)
			go func() { done <- a.writer.Settle(t.Context(), s.open[0], committed) }()
			a.eventually("the settlement waits", func() bool {
				var n int
				err := tx.QueryRow(t.Context(), "select count(*) from pg_locks where relation = 'hubpg.changes'::regclass and not granted").Scan(&n)
				return err == nil && n > 0
			})
			_, err = tx.Exec(t.Context(), `select pg_terminate_backend(pid, 5000) from pg_stat_activity
where datname = current_database() and usename <> current_user and pid <> pg_backend_pid()`)
			a.must(err)
			if err := <-done; err == nil {
				t.Error("settled without a connection")
			}
			a.must(tx.Rollback(t.Context()))
			stop := a.runWriter()
			defer stop()
			want := map[bool]string{true: "settled", false: "repaired"}[committed]
			a.eventually("the write is "+want, func() bool {
				var status string
				err := a.pool.QueryRow(t.Context(), "select status from hubpg.writes where settled_at is not null").Scan(&status)
				return err == nil && status == want
			})
			a.agree("contacts", "firstname")
			if log := a.log(before); len(log) != 1 {
				t.Errorf("log %+v", log)
			}
		})
	}
}

// TestRefusedValuesCostTheirRefusalsOnly holds that a client which goes on sending what HubSpot refuses, and the definition allows, does
// not have the definition read each time.
func TestRefusedValuesCostTheirRefusalsOnly(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	id := a.contact("one@example.com")
	s := a.session()
	s.do("update hubspot.contacts set jobtitle = 'Reader' where id = $1", id)
	before := a.hub.Stats().ByFamily
	const times = 20
	for range times {
		s.refused("22P02", "update hubspot.contacts set hubspot_owner_id = 999999 where id = $1", id)
	}
	after := a.hub.Stats().ByFamily
	if writes, read := after["write"]-before["write"], after["properties"]-before["properties"]; writes != times || read > 2 {
		t.Errorf("%d calls that write, %d definitions read: %v, %v", writes, read, before, after)
	}
}

// TestAClockThatIsAheadOfHubSpots holds that a new record is known as such on a machine whose clock is a minute ahead, from the first
// statement on, with a unique property and without, and where the answer was lost.
func TestAClockThatIsAheadOfHubSpots(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	b := &bend{late: time.Minute, with: func(body map[string]any) { setBack(body, time.Minute) }}
	b.calls.Store(1000)
	a.bends.Store(b)
	var err error
	a.client, err = hubapi.New(a.url, hubapi.StaticToken(sandbox.DefaultToken)) // which has heard no other clock
	a.must(err)
	a.writer = a.newWriter()
	s := a.session()
	s.do("insert into hubspot.deals (dealname, dealstage, pipeline) values ('deal', 'appointmentscheduled', 'default')")
	s.do("insert into hubspot.contacts (email) values ('one@example.com')")
	a.hub.InjectFault(sandbox.Fault{Method: "POST", Path: "batch/create", Kind: sandbox.FaultDropAfter, Count: 1})
	s.do("insert into hubspot.contacts (email) values ('two@example.com')")
	a.agree("deals", "dealname")
	a.agree("contacts", "email")
}

// setBack makes all times in an answer earlier.
func setBack(v any, by time.Duration) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			setBack(item, by)
		}
	case map[string]any:
		for k, item := range v {
			if text, ok := item.(string); ok {
				if at, err := time.Parse(time.RFC3339, text); err == nil {
					v[k] = at.Add(-by).Format("2006-01-02T15:04:05.000Z")
				}
				continue
			}
			setBack(item, by)
		}
	}
}

// TestAReadThatIsOlderThanTheWriteIsNotTaken holds that the reading behind a write, should it come from a replica that has yet to hear of
// it, does not show the client the row of before.
func TestAReadThatIsOlderThanTheWriteIsNotTaken(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	id := a.contact("one@example.com")
	s := a.session()
	s.do("update hubspot.contacts set lastname = 'Warm'")
	a.bend("/contacts/batch/read", 1, func(body map[string]any) {
		setBack(results(body), time.Second)
		for _, r := range results(body) {
			if record, ok := r.(map[string]any); ok {
				if properties, ok := record["properties"].(map[string]any); ok {
					properties["firstname"] = "Ada"
				}
			}
		}
	})
	if res := s.do("update hubspot.contacts set firstname = 'New' where id = $1 returning firstname", id); res.String() != "New" {
		t.Errorf("returned %s", res)
	}
	a.agree("contacts", "email", "firstname", "lastname")
}
