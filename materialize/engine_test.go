package materialize_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/mirror"
	"hubpg/internal/pgtest"
	"hubpg/internal/sandbox"
	"hubpg/materialize"
	"hubpg/migrations"
)

func TestBackfillEqualsHubSpot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 700})
	cfg := w.config()
	cfg.Pace = slowSweeps() // nothing but the backfill can bring these rows
	w.start(cfg)
	w.awaitLive(120 * time.Second)
	w.awaitEqual(20 * time.Second)
	eventually(t, 30*time.Second, w.edgeDifference)
	if d := w.replayDifference(); d != "" {
		t.Fatal(d)
	}
}

func TestBackfillIsSilentUnlessAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 100})
	cfg := w.config()
	cfg.BackfillEvents, cfg.Pace, cfg.Objects = false, slowSweeps(), []string{"contacts"}
	w.start(cfg)
	w.awaitLive(30*time.Second, "contacts", "owners")
	if n := w.count(`select count(*) from hubpg.changes`); n != 0 {
		t.Fatalf("the first filling wrote %d changes", n)
	}
	id := w.hub.Snapshot("contacts")[0].ID
	w.must(w.hub.Update("contacts", id, map[string]string{"firstname": "Edda"}))
	eventually(t, 10*time.Second, func() string {
		if w.count(`select count(*) from hubpg.changes where table_name = 'contacts' and record_id = $1 and 'firstname' = any (changed)`, id) != 1 {
			return "no event for the change"
		}
		return ""
	})
}

func TestSecondRunReadsNothingAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 300})
	cfg := w.config()
	cfg.Pace, cfg.Objects = slowSweeps(), []string{"contacts", "deals"}
	stop := w.start(cfg)
	w.awaitLive(60 * time.Second) // the association table, too: its first pass comes after those of its ends
	w.awaitCursor("trailing", "ended", 2)
	w.awaitCursor("archived", "ended", 2)
	eventually(t, 60*time.Second, func() string {
		if n := w.count(pendingRecords); n > 0 {
			return "associations are pending"
		}
		return ""
	})
	stop()
	before := w.hub.Stats().ByFamily
	stop = w.start(w.config2(cfg))
	eventually(t, 20*time.Second, func() string {
		if w.hub.Stats().ByFamily["search"] < before["search"]+4 {
			return "the second run does not poll"
		}
		return ""
	})
	stop()
	after := w.hub.Stats().ByFamily
	for _, family := range []string{"list", "batch-read", "associations"} {
		if after[family] != before[family] {
			t.Errorf("second run made %d calls of family %s", after[family]-before[family], family)
		}
	}
}

func TestChangesDuringBackfillArrive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 1500, Latency: 15 * time.Millisecond})
	cfg := w.config()
	cfg.Objects = []string{"contacts", "companies"}
	w.start(cfg)
	changed := 0
	eventually(t, 90*time.Second, func() string {
		for range 5 {
			w.scramble("contacts", changed)
			changed++
		}
		if w.count(`select count(*) from hubpg.objects where table_name = 'contacts' and phase = 'live'`) == 1 {
			return ""
		}
		return "contacts are not live"
	})
	t.Logf("%d changes while filling", changed)
	w.awaitEqual(30 * time.Second)
	t.Logf("calls: %v", w.hub.Stats().ByFamily)
	if d := w.replayDifference(); d != "" {
		t.Fatal(d)
	}
}

func TestTwoEnginesShareAnAccount(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 600, Latency: 5 * time.Millisecond})
	cfg := w.config()
	cfg.Objects = []string{"contacts", "companies", "deals"}
	w.start(cfg)
	stopSecond := w.start(w.config2(cfg))
	for i := range 50 {
		w.scramble("contacts", i)
		w.scramble("deals", i)
	}
	w.awaitLive(90*time.Second, "contacts", "companies", "deals")
	stopSecond()
	for i := range 30 {
		w.scramble("contacts", 50+i)
	}
	w.awaitEqual(30 * time.Second)
	if d := w.replayDifference(); d != "" {
		t.Fatal(d)
	}
}

func TestMissingScopeDegradesOneTable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 60, WithheldScopes: []string{"crm.objects.deals.read"}})
	// A process may be killed between any two statements, and nobody would take back what no lane answers for.
	_, err := w.pool.Exec(t.Context(), `
alter table hubpg.objects
add constraint degraded_by_a_lane check (table_name <> 'deals' or (phase = 'degraded') = (error_lane is not null))`)
	w.must(err)
	cfg := w.config()
	cfg.Objects = []string{"contacts", "deals", "companies"}
	w.start(cfg)
	w.awaitLive(60*time.Second, "contacts", "companies")
	eventually(t, 10*time.Second, func() string {
		s := w.status("deals")
		if s.Phase != "degraded" || !strings.Contains(s.Hint, "crm.objects.deals.read") || s.LastError == "" {
			return fmt.Sprintf("deals are %q: %s (%s)", s.Phase, s.LastError, s.Hint)
		}
		return ""
	})
	_, err = w.pool.Exec(t.Context(), `alter table hubpg.objects drop constraint degraded_by_a_lane`)
	w.must(err)
	w.hub.WithholdScopes()
	w.awaitLive(30*time.Second, "deals")
	w.awaitEqual(20 * time.Second)
	// The rows may be there before the lane has looked again whose failure is told.
	eventually(t, 60*time.Second, func() string {
		if s := w.status("deals"); s.LastError != "" {
			return "the error stays: " + s.LastError
		}
		return ""
	})
}

func TestScopeLostLaterDegradesAndComesBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 60})
	cfg := w.config()
	cfg.Objects = []string{"contacts", "deals"}
	w.start(cfg)
	w.awaitLive(60*time.Second, "contacts", "deals")
	w.awaitEqual(10 * time.Second)
	w.hub.WithholdScopes("crm.objects.deals.read")
	eventually(t, 20*time.Second, func() string {
		if s := w.status("deals"); s.Phase != "degraded" {
			return "deals are " + s.Phase
		}
		return ""
	})
	id := w.hub.Snapshot("contacts")[0].ID
	w.must(w.hub.Update("contacts", id, map[string]string{"firstname": "Still here"}))
	w.awaitEqual(10*time.Second, "contacts")
	if d := w.difference("deals"); d != "" {
		t.Fatalf("a refused read changed rows: %s", d)
	}
	w.hub.WithholdScopes()
	w.awaitLive(30*time.Second, "deals")
}

func TestTokenOfAnotherAccountIsRefused(t *testing.T) {
	t.Parallel()
	db := pgtest.Migrated(t, migrations.Up)
	first := newWorldOn(t, sandbox.Config{Contacts: 10, PortalID: 111}, db)
	cfg := first.config()
	cfg.Objects = []string{"contacts"}
	stop := first.start(cfg)
	first.awaitLive(30*time.Second, "contacts")
	stop()
	second := newWorldOn(t, sandbox.Config{Contacts: 10, PortalID: 222}, db)
	e, err := materialize.New(second.config())
	if err != nil {
		t.Fatal(err)
	}
	err = e.Run(t.Context())
	conflict, ok := errors.AsType[*mirror.ConflictError](err)
	if !ok || conflict.Hint == "" || !strings.Contains(err.Error(), "111") {
		t.Fatalf("engine of another account ended with %v", err)
	}
}

func TestRefusedTokenPausesTheAccountAndIsTriedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 40})
	cfg := w.config()
	cfg.Objects = []string{"contacts"}
	w.start(cfg)
	w.awaitLive(60*time.Second, "contacts")
	w.hub.InjectFault(sandbox.Fault{
		Kind: sandbox.FaultStatus, Status: 401,
		Body: `{"status":"error","message":"Authentication credentials not found.","category":"INVALID_AUTHENTICATION"}`,
	})
	eventually(t, 20*time.Second, func() string {
		if s := w.status("contacts"); s.LastError == "" || s.Hint == "" {
			return "the status does not say that the token is refused"
		}
		return ""
	})
	before := w.hub.Stats().Calls
	time.Sleep(4 * time.Second) // the pause is a second in tests, and one lane tries after it
	if n := w.hub.Stats().Calls - before; n > 6 {
		t.Errorf("%d calls in four seconds with a token that is refused", n)
	}
	w.hub.ClearFaults()
	w.must(w.hub.Update("contacts", w.live("contacts")[0].ID, map[string]string{"firstname": "back"}))
	w.awaitEqual(time.Minute, "contacts")
	eventually(t, time.Minute, func() string { return w.status("contacts").LastError })
}

func TestWrongTokenIsReportedWithRemedy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 10})
	cfg := w.config()
	client, err := hubapi.New(w.url, hubapi.StaticToken("not-this-one"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Client = client
	e, err := materialize.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	err = e.Run(t.Context())
	if _, ok := errors.AsType[*hubapi.AuthError](err); !ok || strings.Contains(err.Error(), "not-this-one") {
		t.Fatalf("engine with a wrong token ended with %v", err)
	}
}

func TestPostgresRestartLosesNothing(t *testing.T) {
	t.Parallel()
	bin, err := pgtest.FindBinaries()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "hubpg-restart") //nolint:usetesting // not t.TempDir: Postgres may run as another user
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cluster, err := pgtest.Start(t.Context(), pgtest.ClusterConfig{Dir: filepath.Join(dir, "data"), Bin: bin.Dir})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Stop(); err != nil {
			t.Error(err)
		}
	})
	db := &pgtest.DB{Name: "postgres", URL: cluster.URL("postgres"), Cluster: cluster}
	conn := db.Conn(t)
	if err := migrations.Up(t.Context(), conn); err != nil {
		t.Fatal(err)
	}
	w := newWorldOn(t, sandbox.Config{Contacts: 1200, Latency: 10 * time.Millisecond}, db)
	cfg := w.config()
	cfg.Objects = []string{"contacts", "companies"}
	w.start(cfg)
	for i, mode := range []pgtest.Mode{pgtest.Fast, pgtest.Immediate} {
		eventually(t, 30*time.Second, func() string {
			var n int
			if err := w.pool.QueryRow(context.Background(), `select count(*) from hubspot.contacts`).Scan(&n); err != nil {
				return err.Error()
			}
			if n < 100+500*i {
				return fmt.Sprintf("%d rows", n)
			}
			return ""
		})
		for j := range 20 {
			w.scramble("contacts", 20*i+j)
		}
		if err := cluster.Restart(t.Context(), mode); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 60*time.Second, func() string {
		var live bool
		err := w.pool.QueryRow(context.Background(),
			`select count(*) = 2 from hubpg.objects where table_name in ('contacts', 'companies') and phase = 'live'`).Scan(&live)
		if err != nil {
			return err.Error()
		}
		if !live {
			return "not live"
		}
		return ""
	})
	w.awaitEqual(30 * time.Second)
	if d := w.replayDifference(); d != "" {
		t.Fatal(d)
	}
}

// What one process has shown must not stay because another, which has seen the lane succeed a moment ago, believes that
// nothing is shown, and the lane then sleeps.
func TestAFailureShownByAnotherProcessGoesWithTheNextSuccess(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sandbox.Config{Contacts: 5})
	cfg := w.config()
	cfg.Objects = []string{"contacts", "companies"}
	cfg.Pace.Pairs = time.Hour
	w.start(cfg)
	w.awaitLive(time.Minute, "contacts", "companies", "contacts_companies")
	if n := w.count(`
with shown as (
	update hubpg.objects
	set phase = 'degraded', last_error = 'no scope', error_at = now(), error_lane = $1
	where table_name = 'contacts_companies'
	returning table_name)
select count(*) from shown`, materialize.LanePairs); n != 1 {
		t.Fatal("no table to be degraded")
	}
	eventually(t, 25*time.Second, func() string {
		w.count(`
with woken as (
	update hubpg.river_job
	set state = 'available', scheduled_at = now()
	where state in ('available', 'scheduled') and args @> jsonb_build_object('lane', $1::text, 'table', 'contacts_companies')
	returning id)
select count(*) from woken`, materialize.LanePairs)
		if s := w.status("contacts_companies"); s.Phase != "live" || s.LastError != "" {
			return fmt.Sprintf("phase %s, error %q", s.Phase, s.LastError)
		}
		return ""
	})
}
