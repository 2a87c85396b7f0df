package mirror_test

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// event is a change as tests write it.
type event struct {
	Seq           int64
	ID            int64
	Op            changes.Op
	Changed       []string
	Before, After string
}

func events(list []changes.Change) []event {
	out := []event{}
	for _, c := range list {
		out = append(out, event{c.Seq, c.RecordID, c.Op, c.Changed, canonical(c.Before), canonical(c.After)})
	}
	return out
}

func canonical(text json.RawMessage) string {
	if text == nil {
		return ""
	}
	var v any
	d := json.NewDecoder(strings.NewReader(string(text)))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return err.Error()
	}
	out, _ := json.Marshal(v)
	return string(out)
}

func TestValuesBecomeTyped(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	table := m.ensure(contacts())
	res := m.put(table, at(1), row(1, at(0), "a\tb\\c\n\r\"d\x00é", "0.2000000000000000111", "true", "1743685150726", "1762212973632", "a;b\"\\;c"))
	if res.Inserted != 1 {
		t.Fatalf("got %+v", res)
	}
	got := m.text("select jsonb_build_array(email, score, optout, birthday, seen, tags) from hubspot.contacts")
	want := `["a\tb\\c\n\r\"dé", 0.2000000000000000111, true, "2025-04-03", "2025-11-03T23:36:13.632+00:00", ["a", "b\"\\", "c"]]`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestValuesThatDoNotParseAreKeptAside(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	table := m.ensure(contacts())
	m.put(table, at(1), row(1, at(0), "", "12;34", "maybe", "soon", "\x00later", ";"))
	if got := m.text("select jsonb_build_array(email, score, optout, birthday, seen, tags) from hubspot.contacts"); got != `[null, null, null, null, null, []]` {
		t.Errorf("columns are %s", got)
	}
	want := `{"seen": "later", "score": "12;34", "optout": "maybe", "birthday": "soon"}`
	if got := m.text("select _unparsed from hubspot.contacts"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// A value that parses takes its text away again; the other columns keep theirs.
	m.put(table, at(2), row(1, at(1), "", "12", "maybe", "soon", "later", ";"))
	want = `{"seen": "later", "optout": "maybe", "birthday": "soon"}`
	if got := m.text("select _unparsed from hubspot.contacts"); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	last := m.log(1)
	if len(last) != 1 || !slices.Equal(last[0].Changed, []string{"score", "_unparsed"}) {
		t.Errorf("log says %+v", last)
	}
}

func TestEventsAreTheStoredDifferences(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	table := m.ensure(contacts())
	m.put(table, at(1), row(2, at(0), "b@x", "1.0", nil, nil, nil, nil), row(1, at(0), "a@x", nil, "false", nil, nil, "x"))
	m.put(table, at(2), // 1.00 is 1.0; a cleared value is gone; x;y is another list
		row(1, at(1), "", nil, "false", nil, nil, "x;y"), row(2, at(1), "b@x", "1.00", "", nil, nil, nil))
	m.remove(table, at(3), 2, 3)
	m.put(table, at(4), row(2, at(0), "c@x", nil, nil, nil, nil, nil))
	want := []event{
		{
			1, 1, "insert",
			[]string{"email", "optout", "tags"},
			"",
			`{"created_at":"2026-01-02T03:04:05+00:00","email":"a@x","id":1,"optout":false,"tags":["x"],"updated_at":"2026-01-02T03:04:05+00:00"}`,
		},
		{
			2, 2, "insert",
			[]string{"email", "score"},
			"",
			`{"created_at":"2026-01-02T03:04:05+00:00","email":"b@x","id":2,"score":1.0,"updated_at":"2026-01-02T03:04:05+00:00"}`,
		},
		{3, 1, "update", []string{"email", "tags"}, `{"email":"a@x","tags":["x"]}`, `{"email":null,"tags":["x","y"]}`},
		{4, 2, "delete", []string{}, `{"created_at":"2026-01-02T03:04:05+00:00","email":"b@x","id":2,"score":1.0,"updated_at":"2026-01-02T03:04:05.001+00:00"}`, ""},
		{
			5, 2, "restore",
			[]string{"email"},
			"",
			`{"created_at":"2026-01-02T03:04:05+00:00","email":"c@x","id":2,"updated_at":"2026-01-02T03:04:05+00:00"}`,
		},
	}
	if diff := cmp.Diff(want, events(m.log(0))); diff != "" {
		t.Error(diff)
	}
	if got := m.text("select updated_at from hubspot.contacts where id = 1"); got != "2026-01-02 03:04:05.001+00" {
		t.Errorf("updated_at is %s", got)
	}
	if got := m.text("select row_count from hubpg.objects where table_name = 'contacts'"); got != "2" {
		t.Errorf("row count is %s", got)
	}
}

func TestOlderNeverOverwritesNewer(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	table := m.ensure(contacts())
	m.put(table, at(10), row(1, at(5), "new", nil, nil, nil, nil, nil))
	stale := []mirror.Result{
		m.put(table, at(20), row(1, at(4), "older version, read later", nil, nil, nil, nil, nil)),
		m.put(table, at(9), row(1, at(5), "same version, read earlier", nil, nil, nil, nil, nil)),
		m.remove(table, at(9), 1),
	}
	for i, res := range stale {
		if res.Stale != 1 || !slices.Equal(res.Refused, []int64{1}) {
			t.Errorf("%d: got %+v, want one stale row", i, res)
		}
	}
	if got := m.text("select email from hubspot.contacts"); got != "new" {
		t.Errorf("email is %q", got)
	}
	m.remove(table, at(30), 1)
	if res := m.put(table, at(30), row(1, at(6), "read before the deletion", nil, nil, nil, nil, nil)); res.Stale != 1 {
		t.Errorf("a late page brought the record back: %+v", res)
	}
	if res := m.put(table, at(31), row(1, at(6), "restored", nil, nil, nil, nil, nil)); res.Restored != 1 {
		t.Errorf("a restored record stays away: %+v", res)
	}
}

func TestNotAskedForIsNotEmpty(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	table := m.ensure(contacts())
	m.put(table, at(1), row(1, at(0), "a@x", "twelve", nil, nil, nil, "t"))
	partial := table.Columns[:1]
	res := m.in(func(tx pgx.Tx) (mirror.Result, error) {
		return m.applier.Upsert(t.Context(), tx, &mirror.Batch{
			Table: table, Columns: partial, ReadAt: at(5), Source: changes.Schema,
			Rows: []mirror.Row{row(1, at(4), "b@x"), row(2, at(4), "new")},
		})
	})
	if res.Updated != 1 || !slices.Equal(res.Refused, []int64{2}) {
		t.Errorf("got %+v, want one update and record 2 refused", res)
	}
	got := m.text("select jsonb_build_array(email, tags, _unparsed, updated_at) from hubspot.contacts")
	if want := `["b@x", ["t"], {"score": "twelve"}, "2026-01-02T03:04:05+00:00"]`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	// The row's version did not move, so the full read of the newer version still wins.
	if res := m.put(table, at(4), row(1, at(4), "c@x", nil, nil, nil, nil, nil)); res.Updated != 1 {
		t.Errorf("got %+v", res)
	}
}

func TestQuietBatchesWriteNoChanges(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	table := m.ensure(contacts())
	for i := range 2 {
		m.in(func(tx pgx.Tx) (mirror.Result, error) {
			return m.applier.Upsert(t.Context(), tx, &mirror.Batch{
				Table: table, Columns: table.Readable(), ReadAt: at(i), Quiet: true,
				Rows: []mirror.Row{row(1, at(i), string(rune('a'+i)), nil, nil, nil, nil, nil)},
			})
		})
	}
	if got := m.text("select email from hubspot.contacts"); got != "b" {
		t.Errorf("email is %q", got)
	}
	if list := m.log(0); len(list) != 0 {
		t.Errorf("log has %+v", list)
	}
}

func TestARefusedBatchChangesNothing(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	table := m.ensure(contacts())
	good := &mirror.Batch{Table: table, Columns: table.Readable(), ReadAt: at(1), Rows: []mirror.Row{row(1, at(0), "a", nil, nil, nil, nil, nil)}}
	for name, spoil := range map[string]func(b *mirror.Batch){
		"no read time":   func(b *mirror.Batch) { b.ReadAt = time.Time{} },
		"short row":      func(b *mirror.Batch) { b.Rows = []mirror.Row{row(1, at(0), "a")} },
		"column twice":   func(b *mirror.Batch) { b.Columns = append(slices.Clone(b.Columns[1:]), b.Columns[1]) },
		"stale catalog":  func(b *mirror.Batch) { old := *b.Table; old.Version--; b.Table = &old },
		"unknown table":  func(b *mirror.Batch) { other := *b.Table; other.Name = "nowhere"; b.Table = &other },
		"wrong portal":   func(*mirror.Batch) {},
		"repeatableread": func(*mirror.Batch) {},
	} {
		applier := m.applier
		options := pgx.TxOptions{}
		switch name {
		case "wrong portal":
			applier = mirror.NewApplier(mirror.Config{PortalID: portal + 1})
		case "repeatableread":
			options.IsoLevel = pgx.RepeatableRead
		}
		bad := *good
		spoil(&bad)
		err := pgx.BeginTxFunc(t.Context(), m.pool, options, func(tx pgx.Tx) error {
			_, err := applier.Upsert(t.Context(), tx, &bad)
			return err
		})
		if err == nil {
			t.Errorf("%s: stored", name)
		}
		if name == "stale catalog" && !errors.Is(err, mirror.ErrStaleCatalog) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if got := m.text("select count(*) from hubspot.contacts"); got != "0" {
		t.Errorf("%s rows", got)
	}
}

func TestListenersOnADirectConnectionAreRung(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	table := m.ensure(contacts())
	conn, err := m.pool.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Release()
	for _, channel := range []string{"hubspot", "hubspot_contacts", "hubspot_contacts.email", "hubspot_contacts.score", "hubpg_wake"} {
		if _, err := conn.Exec(t.Context(), "listen "+pgx.Identifier{channel}.Sanitize()); err != nil {
			t.Fatal(err)
		}
	}
	m.put(table, at(1), row(7, at(0), "a@x", nil, nil, nil, nil, nil), row(8, at(0), strings.Repeat("long ", 2000), nil, nil, nil, nil, nil))
	got := map[string]int{}
	for range 7 {
		n, err := conn.Conn().WaitForNotification(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n.Channel != changes.WakeChannel {
			var payload struct {
				ID        int64
				Truncated bool
			}
			if err := json.Unmarshal([]byte(n.Payload), &payload); err != nil || payload.Truncated != (payload.ID == 8) {
				t.Errorf("payload %.80s: %v", n.Payload, err)
			}
		}
		got[n.Channel]++
	}
	want := map[string]int{"hubspot": 2, "hubspot_contacts": 2, "hubspot_contacts.email": 2, "hubpg_wake": 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Plain are the records in which nothing has changed but what users write.
func TestPlainChangesAreTold(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	def := companies()
	def.Properties = append(def.Properties,
		mirror.PropertyDef{Name: "links", Type: "number", FieldType: "number", Calculated: true, ReadOnly: true},
		mirror.PropertyDef{Name: "touched", Type: "string", FieldType: "text", ReadOnly: true})
	table := m.ensure(def)
	put := func(second int, values ...[4]any) mirror.Result {
		var rows []mirror.Row
		for _, v := range values {
			r := row(int64(v[0].(int)), at(second))
			for _, c := range table.Readable() {
				text := map[string]any{"name": v[1], "links": v[2], "touched": v[3]}[c.Property]
				value, _ := text.(string)
				r.Values = append(r.Values, []byte(value))
			}
			rows = append(rows, r)
		}
		return m.put(table, at(second), rows...)
	}
	if res := put(1, [4]any{1, "a", "1", "x"}, [4]any{2, "a", "1", "x"}, [4]any{3, "a", "1", "x"}, [4]any{4, "a", "1", "x"}); len(res.Plain) > 0 {
		t.Errorf("new rows are plain changes: %v", res.Plain)
	}
	res := put(2, [4]any{1, "b", "1", "x"}, [4]any{2, "b", "2", "x"}, [4]any{3, "a", "1", "y"}, [4]any{4, "a", "1", "x"}, [4]any{5, "a", "1", "x"})
	if !slices.Equal(res.Plain, []int64{1}) || res.Updated != 3 {
		t.Errorf("plain are %v of %+v", res.Plain, res)
	}
}
