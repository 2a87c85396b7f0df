package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/sandbox"
)

// steady is an account that changes all the time, and what hubpg may spend on it.
type steady struct {
	name  string
	types int
	share string        // of HubSpot's limits
	every time.Duration // between two changes, whose types take turns

	before  time.Duration // more than steadyBefore of changes that do not count
	lasting time.Duration
	feed    string // what HubSpot tells of changes: journal, webhooks, or "" for nothing
}

// BenchmarkChangeToNotify measures the time from a change in HubSpot to its notification at a client of the proxy, and the
// calls that each lane makes meanwhile, with HubSpot's limits on and 200 ms latency. Of twenty changes sixteen are updates,
// two new records, one is a deletion and one a new association. A file of the journal gathers events for a second; a
// webhook sets out up to a second late.
//
//   - one: a single type on the whole quota, by polling;
//   - polling, journal, webhooks: 20 types on a third of the quota, each of which changes every ten seconds;
//   - storm: the same by polling, but each type changes every second;
//   - quiet: the same by polling, but each type changes every two minutes. It takes ten minutes.
//
// Polling finds deletions and new associations when a sweep comes by, so their times count where HubSpot tells of them.
//
//	go test ./cmd/hubpg -run '^$' -bench ChangeToNotify/polling -benchtime 1x
func BenchmarkChangeToNotify(b *testing.B) {
	const third = "0.3333"
	for _, load := range []steady{
		{name: "one", types: 1, share: "1", every: 2300 * time.Millisecond, lasting: steadyFor},
		{name: "polling", types: 20, share: third, every: 500 * time.Millisecond, lasting: steadyFor},
		{name: "journal", types: 20, share: third, every: 500 * time.Millisecond, before: steadyTold, lasting: 2 * steadyFor, feed: "journal"},
		{name: "webhooks", types: 20, share: third, every: 500 * time.Millisecond, before: steadyTold, lasting: 2 * steadyFor, feed: "webhooks"},
		{name: "storm", types: 20, share: third, every: 50 * time.Millisecond, lasting: steadyFor},
		{name: "quiet", types: 20, share: third, every: 6 * time.Second, lasting: 6 * steadyFor},
	} {
		b.Run(load.name, func(b *testing.B) {
			for b.Loop() {
				load.measure(b)
			}
		})
	}
}

// Times of a measurement.
const (
	steadyBefore = 20 * time.Second  // of changes that do not count
	steadyTold   = 150 * time.Second // the same, until tables that are told of are polled as rarely as they will be
	steadyFor    = 100 * time.Second
	steadyAfter  = 30 * time.Second // for the last changes to arrive
)

func (l steady) measure(b *testing.B) {
	b.Helper()
	env := map[string]string{"HUBPG_HUBSPOT_SHARE": l.share, "HUBPG_HUBSPOT_LIMITS": "real", "HUBPG_JOURNAL": "off"}
	if l.feed != "" {
		env["HUBPG_HUBSPOT_CLIENT_ID"], env["HUBPG_HUBSPOT_CLIENT_SECRET"] = sandbox.DefaultClientID, sandbox.DefaultClientSecret
	}
	if l.feed == "journal" {
		env["HUBPG_JOURNAL"] = "auto"
	}
	names := make([]string, l.types)
	for i := range names {
		names[i] = fmt.Sprintf("busy_%02d", i)
	}
	env["HUBPG_OBJECTS"] = strings.Join(names, ",")
	a := &busyAccount{sent: map[string]time.Time{}, heard: map[string]time.Duration{}, hub: sandbox.New(sandbox.Config{
		Quiet: true, Contacts: 10, Limits: true, Latency: 200 * time.Millisecond,
		Journal: sandbox.Journal{Every: time.Second}, Webhooks: sandbox.Webhooks{Delay: time.Second},
	})}
	if err := a.fill(names); err != nil {
		b.Fatal(err)
	}
	s := serveAccount(b, a.hub, env)
	proxy, web := s.addresses(b)
	for end := time.Now().Add(10 * time.Minute); ; time.Sleep(time.Second) {
		tables := ready(b, web)
		if len(tables) >= 2*l.types-1 && !slices.ContainsFunc(slices.Collect(maps.Keys(tables)), func(name string) bool {
			return strings.HasPrefix(name, "busy") && tables[name].Phase != "live"
		}) {
			break
		}
		if time.Now().After(end) {
			b.Fatal("the tables are not there")
		}
	}
	if l.feed == "webhooks" {
		a.tell(b, web+webhookPath)
	}
	app := connect(b, proxied(s.env["HUBPG_DATABASE_URL"], proxy))
	if _, err := app.Exec(b.Context(), "listen hubspot"); err != nil {
		b.Fatal(err)
	}
	go a.hear(b, app)
	if err := a.live(l.every, max(l.before, steadyBefore)); err != nil {
		b.Fatal(err)
	}
	a.forget()
	db := connect(b, s.env["HUBPG_DATABASE_URL"])
	start, before := time.Now(), laneCalls(b, db)
	if err := a.live(l.every, l.lasting); err != nil {
		b.Fatal(err)
	}
	after, minutes := laneCalls(b, db), time.Since(start).Minutes()
	for lane, calls := range after {
		if calls > before[lane] {
			b.ReportMetric(float64(calls-before[lane])/minutes, lane+"-calls/min")
		}
	}
	time.Sleep(steadyAfter)
	a.report(b, l.feed != "")
	stats := a.hub.Stats()
	for _, limit := range []string{"burst", "search", "associations"} {
		b.ReportMetric(float64(stats.Violations[limit]), limit+"-over-limit")
	}
	s.interrupt()
	<-s.done
	s.done <- exitDone
	var counted int
	for _, calls := range laneCalls(b, db) {
		counted += calls
	}
	b.ReportMetric(float64(a.hub.Stats().DailyUsed-counted), "calls-of-no-lane")
}

// laneCalls is hubpg's own count of calls to HubSpot.
func laneCalls(b *testing.B, db *pgx.Conn) map[string]int {
	b.Helper()
	rows, err := db.Query(b.Context(), "select lane, sum(total)::int from hubpg.calls group by lane")
	if err != nil {
		b.Fatal(err)
	}
	calls := map[string]int{}
	var lane string
	var n int
	if _, err := pgx.ForEachRow(rows, []any{&lane, &n}, func() error { calls[lane] = n; return nil }); err != nil {
		b.Fatal(err)
	}
	return calls
}

// busyAccount makes changes and hears of them.
type busyAccount struct {
	hub   *sandbox.Server
	names []string
	paths []string
	ids   [][]int64 // by type
	n     int       // changes made

	mu    sync.Mutex // guards below
	sent  map[string]time.Time
	heard map[string]time.Duration
}

// fill makes the types, all but the first of which can be associated with the first, and 20 records of each.
func (a *busyAccount) fill(names []string) error {
	a.names, a.ids = names, make([][]int64, len(names))
	for i, name := range names {
		path, err := a.hub.AddObjectType(sandbox.SchemaDef{
			Name: name, SingularLabel: name, PluralLabel: name, PrimaryDisplayProperty: "name",
			Properties:        []sandbox.PropertyDef{{Name: "name", Label: "Name", Type: "string", FieldType: "text"}},
			AssociatedObjects: a.paths[:min(i, 1)],
		})
		if err != nil {
			return err
		}
		a.paths = append(a.paths, path)
		for range 20 {
			id, err := a.hub.Create(path, map[string]string{"name": "new"})
			if err != nil {
				return err
			}
			a.ids[i] = append(a.ids[i], id)
		}
	}
	return nil
}

// tell has the account send webhooks.
func (a *busyAccount) tell(b *testing.B, address string) {
	b.Helper()
	if err := a.hub.SetWebhookTarget(sandbox.DefaultClientID, address, 10); err != nil {
		b.Fatal(err)
	}
	for _, path := range a.paths {
		for _, verb := range []string{"creation", "deletion", "propertyChange", "associationChange"} {
			sub := sandbox.WebhookSubscription{EventType: "object." + verb, ObjectTypeID: path, Active: true}
			if verb == "propertyChange" {
				sub.PropertyName = "name"
			}
			if _, err := a.hub.Subscribe(sandbox.DefaultClientID, sub); err != nil {
				b.Fatal(err)
			}
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.hub.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
}

// Kinds of changes.
const (
	rowChange  = "row"
	deletion   = "deletion"
	connection = "association"
)

// live changes the account for a while.
func (a *busyAccount) live(every, lasting time.Duration) error {
	for begun, n := time.Now(), 1; time.Since(begun) < lasting; n++ {
		if err := a.change(); err != nil {
			return err
		}
		time.Sleep(time.Until(begun.Add(time.Duration(n) * every)))
	}
	return nil
}

// change makes one change, the types taking turns.
func (a *busyAccount) change() error {
	a.n++
	i, turn := a.n%len(a.ids), a.n/len(a.ids)
	ids, name := a.ids[i], fmt.Sprint("change ", a.n)
	switch id := ids[turn%len(ids)]; (a.n + turn) % 20 {
	case 0:
		a.send(deletion, a.names[i], id)
		a.ids[i] = slices.DeleteFunc(ids, func(other int64) bool { return other == id })
		return a.hub.Archive(a.paths[i], id)
	case 1, 2:
		a.send(rowChange, a.names[i], name)
		id, err := a.hub.Create(a.paths[i], map[string]string{"name": name})
		a.ids[i] = append(ids, id)
		return err
	case 3:
		if i == 0 { // which all others are associated with
			return nil
		}
		other := a.ids[0][turn%len(a.ids[0])]
		a.send(connection, a.names[0]+"_"+a.names[i], min(id, other), max(id, other))
		return a.hub.Associate(a.paths[i], id, a.paths[0], other, 0)
	default:
		a.send(rowChange, a.names[i], name)
		return a.hub.Update(a.paths[i], id, map[string]string{"name": name})
	}
}

// send notes when a change was made; what it is called is also in its notification.
func (a *busyAccount) send(what ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sent[fmt.Sprintln(what...)] = time.Now()
}

// hear notes when changes arrive, until the connection ends.
func (a *busyAccount) hear(b *testing.B, app *pgx.Conn) {
	for {
		n, err := app.WaitForNotification(b.Context())
		if err != nil {
			return
		}
		at := time.Now()
		var c struct {
			Table, Op string
			ID        int64
			After     map[string]any
		}
		if err := json.Unmarshal([]byte(n.Payload), &c); err != nil {
			b.Error(err)
			return
		}
		var key string
		switch c.Op {
		case "delete":
			key = fmt.Sprintln(deletion, c.Table, c.ID)
		case "associate":
			var ends []int64
			for column, end := range c.After {
				if id, ok := end.(float64); ok && column != "type_id" {
					ends = append(ends, int64(id))
				}
			}
			key = fmt.Sprintln(connection, c.Table, slices.Min(ends), slices.Max(ends))
		default:
			key = fmt.Sprintln(rowChange, c.Table, c.After["name"])
		}
		a.mu.Lock()
		if sent, ok := a.sent[key]; ok && a.heard[key] == 0 {
			a.heard[key] = at.Sub(sent)
		}
		a.mu.Unlock()
	}
}

// forget begins a measurement.
func (a *busyAccount) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.sent)
	clear(a.heard)
}

// report gives the times of what has arrived, and how much of each kind has not: a later change of the same record came
// first, or a sweep is still to come.
func (a *busyAccount) report(b *testing.B, told bool) {
	b.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	var took []time.Duration
	kinds, missing := map[string][]time.Duration{}, map[string]int{}
	for key := range a.sent {
		kind, _, _ := strings.Cut(key, " ")
		d, ok := a.heard[key]
		switch {
		case !ok:
			missing[kind]++
		case kind == rowChange || told:
			took = append(took, d)
			kinds[kind] = append(kinds[kind], d)
		}
	}
	slices.Sort(took)
	if len(took) == 0 {
		b.Fatal("nothing was heard")
	}
	for _, percent := range []int{50, 95, 99} {
		b.ReportMetric(took[len(took)*percent/100].Seconds(), fmt.Sprint("s-p", percent))
	}
	for kind, took := range kinds {
		slices.Sort(took)
		for _, percent := range []int{50, 95} {
			b.ReportMetric(took[len(took)*percent/100].Seconds(), fmt.Sprint(kind, "-s-p", percent))
		}
	}
	b.ReportMetric(float64(len(took)), "heard")
	for kind, n := range missing {
		b.ReportMetric(float64(n), kind+"-unheard")
	}
}
