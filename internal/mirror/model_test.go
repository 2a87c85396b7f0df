package mirror_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"pgregory.net/rapid"

	"hubpg/internal/catalog"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// modelRow is what the model believes about one record.
type modelRow struct {
	updated, read int // milliseconds after base
	values        map[string]string
}

// model is the mirror as its documentation describes it, in memory.
type model struct {
	rows   map[int64]modelRow
	graves map[int64]int // tombstones: the instant of the deletion
	silent bool          // something was stored quietly: the log does not tell everything
}

// put is Upsert.
func (m *model) put(columns []catalog.Column, whole bool, readAt int, id int64, updated int, values []string) {
	have, exists := m.rows[id]
	newer := updated > have.updated || updated == have.updated && readAt > have.read
	same := updated == have.updated && readAt == have.read
	switch {
	case !exists && !whole:
		return
	case !exists:
		if grave, buried := m.graves[id]; buried && readAt <= grave {
			return
		}
		delete(m.graves, id)
		have = modelRow{values: map[string]string{}}
	case !newer && (whole || !same):
		return
	}
	have.values = maps.Clone(have.values)
	for i, c := range columns {
		delete(have.values, c.Name)
		if values[i] != "" {
			have.values[c.Name] = values[i]
		}
	}
	if whole {
		have.updated, have.read = updated, readAt
	}
	m.rows[id] = have
}

// remove is Delete.
func (m *model) remove(id int64, readAt int) {
	if have, exists := m.rows[id]; exists && have.read > readAt {
		return
	}
	delete(m.rows, id)
	m.graves[id] = max(m.graves[id], readAt)
}

// modelDef has columns of several kinds, two in _overflow (made so by the test), and both stamps.
func modelDef() *mirror.ObjectDef {
	def := contacts()
	def.Properties = append(def.Properties, mirror.PropertyDef{Name: "extra", Type: "number"}, mirror.PropertyDef{Name: "note", Type: "string"},
		mirror.PropertyDef{Name: "lastmodifieddate", Type: "datetime"}, mirror.PropertyDef{Name: "hs_lastmodifieddate", Type: "datetime"})
	return def
}

// withoutStamps drops what the log leaves out.
func withoutStamps(rows map[int64]map[string]any) map[int64]map[string]any {
	out := map[int64]map[string]any{}
	for id, row := range rows {
		row = maps.Clone(row)
		for _, stamp := range []string{"lastmodifieddate", "hs_lastmodifieddate"} {
			delete(row, stamp)
			if unparsed, ok := row["_unparsed"].(map[string]any); ok {
				unparsed = maps.Clone(unparsed)
				delete(unparsed, stamp)
				row["_unparsed"] = unparsed
				if len(unparsed) == 0 {
					delete(row, "_unparsed")
				}
			}
		}
		out[id] = row
	}
	return out
}

// modelValue draws a value for a kind, now and then one that does not parse.
func modelValue(t *rapid.T, c catalog.Column) string {
	choices := map[catalog.Kind][]string{
		catalog.Text:      {"", "a", "b", "tab\there", `back\slash "quoted"`},
		catalog.Numeric:   {"", "1", "1.0", "2.50", "1e3", "many"},
		catalog.Bool:      {"", "true", "false", "perhaps"},
		catalog.Date:      {"", "2024-02-29", "1743638400000", "2024-02-30"},
		catalog.Timestamp: {"", "2024-10-28T16:39:01.173Z", "1762212973632", "then"},
		catalog.TextArray: {"", "x", "x;y", ";"},
	}
	return rapid.SampledFrom(choices[c.Kind]).Draw(t, c.Name)
}

// canonicalRow is what a row looks like in JSON when it holds the given HubSpot values.
func canonicalRow(id int64, columns []catalog.Column, values map[string]string) map[string]any {
	row := map[string]any{"id": json.Number(strconv.FormatInt(id, 10))}
	unparsed := map[string]any{}
	for _, c := range columns {
		raw, set := values[c.Name]
		if !set {
			continue
		}
		if text, ok := c.Kind.AppendJSON(nil, []byte(raw)); ok {
			row[c.Name] = decoded(text)
		} else {
			unparsed[c.Name] = raw
		}
	}
	if len(unparsed) > 0 {
		row["_unparsed"] = unparsed
	}
	return row
}

// decoded decodes JSON with numbers as values: 1.0 equals 1.
func decoded(text []byte) any {
	var v any
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		return err.Error()
	}
	return numbers(v)
}

func numbers(v any) any {
	switch v := v.(type) {
	case json.Number:
		f, _ := v.Float64()
		return json.Number(strconv.FormatFloat(f, 'g', -1, 64))
	case map[string]any:
		for k := range v {
			v[k] = numbers(v[k])
		}
	}
	return v
}

// tableRows reads the table as the log would show it.
func (m *mirrored) tableRows(table string) map[int64]map[string]any {
	m.t.Helper()
	rows, err := m.pool.Query(m.t.Context(), `
select id, jsonb_strip_nulls((to_jsonb(t) - array['_overflow', '_read_at', 'created_at', 'updated_at']) || coalesce(t._overflow, '{}'))
from hubspot.`+table+` t
where to_jsonb(t) ->> 'archived_at' is null`)
	if err != nil {
		m.t.Fatal(err)
	}
	out := map[int64]map[string]any{}
	var id int64
	var text json.RawMessage
	if _, err := pgx.ForEachRow(rows, []any{&id, &text}, func() error {
		out[id] = decoded(text).(map[string]any)
		return nil
	}); err != nil {
		m.t.Fatal(err)
	}
	return out
}

// replay builds the table from the log alone and checks the log's own claims on the way.
func replay(list []changes.Change, table string) (map[int64]map[string]any, error) {
	rows := map[int64]map[string]any{}
	for i, c := range list {
		if c.Seq != int64(i+1) {
			return nil, fmt.Errorf("change %d has seq %d", i+1, c.Seq)
		}
		if c.Table != table {
			continue
		}
		row, exists := rows[c.RecordID]
		switch c.Op {
		case changes.Insert, changes.Restore:
			if exists {
				return nil, fmt.Errorf("change %d: record %d was there", c.Seq, c.RecordID)
			}
			after := decoded(c.After).(map[string]any)
			delete(after, "created_at")
			delete(after, "updated_at")
			rows[c.RecordID] = after
		case changes.Delete, changes.Merge:
			before := decoded(c.Before).(map[string]any)
			delete(before, "created_at")
			delete(before, "updated_at")
			if diff := cmp.Diff(row, before); diff != "" {
				return nil, fmt.Errorf("change %d: before is not what was there: %s", c.Seq, diff)
			}
			delete(rows, c.RecordID)
		case changes.Update:
			before, after := decoded(c.Before).(map[string]any), decoded(c.After).(map[string]any)
			keys := slices.Sorted(maps.Keys(after))
			if changed := slices.Sorted(slices.Values(c.Changed)); !slices.Equal(changed, keys) || len(keys) == 0 {
				return nil, fmt.Errorf("change %d: changed is %v, after has %v", c.Seq, changed, keys)
			}
			for k, v := range after {
				if cmp.Equal(before[k], v) || !cmp.Equal(before[k], row[k]) {
					return nil, fmt.Errorf("change %d: %s from %v to %v, was %v", c.Seq, k, before[k], v, row[k])
				}
				if v == nil {
					delete(row, k)
				} else {
					row[k] = v
				}
			}
		}
	}
	return rows, nil
}

// TestAnyHistoryLeavesTheNewestVersions runs random histories, with versions and reads out of order, against the model:
// the table is the model, the log replayed from empty is the table, seq has no gap and the row count is exact.
func TestAnyHistoryLeavesTheNewestVersions(t *testing.T) {
	t.Parallel()
	for _, deletes := range []string{"hard", "soft"} {
		t.Run("deletes="+deletes, func(t *testing.T) {
			t.Parallel()
			m := newMirrored(t)
			m.mapper = mirror.NewMapper(mirror.MapperConfig{PortalID: portal, SoftDeletes: deletes == "soft"})
			anyHistory(t, m)
		})
	}
}

func anyHistory(t *testing.T, m *mirrored) {
	number := 0
	rapid.Check(t, func(rt *rapid.T) {
		number++
		def := modelDef()
		def.ObjectType, def.Name, def.Custom = fmt.Sprintf("2-%d", number), fmt.Sprintf("history_%d", number), true
		table := m.ensure(def)
		m.exec("update hubpg.columns set placement = 'overflow' where table_name = $1 and property in ('extra', 'note', 'hs_lastmodifieddate')", table.Name)
		m.exec("update hubpg.objects set catalog_version = catalog_version + 1 where table_name = $1", table.Name)
		m.exec("truncate hubpg.changes")
		m.exec("update hubpg.change_counter set last = 0")
		table = m.ensure(def)
		state := &model{rows: map[int64]modelRow{}, graves: map[int64]int{}}
		for range rapid.IntRange(1, 12).Draw(rt, "steps") {
			if rapid.IntRange(0, 3).Draw(rt, "what") == 0 {
				m.modelDelete(rt, table, state)
			} else {
				m.modelUpsert(rt, table, state)
			}
		}
		want := map[int64]map[string]any{}
		for id, row := range state.rows {
			want[id] = canonicalRow(id, table.Columns, row.values)
		}
		got := m.tableRows(table.Name)
		if diff := cmp.Diff(want, got); diff != "" {
			rt.Fatalf("table is not the model: %s", diff)
		}
		if !state.silent {
			replayed, err := replay(m.log(0), table.Name)
			if err != nil {
				rt.Fatal(err)
			}
			if diff := cmp.Diff(withoutStamps(got), replayed); diff != "" {
				rt.Fatalf("log is not the table: %s", diff)
			}
		}
		if count := m.text("select row_count from hubpg.objects where table_name = '" + table.Name + "'"); count != strconv.Itoa(len(want)) {
			rt.Fatalf("row count is %s, want %d", count, len(want))
		}
		if buried := m.text("select count(*) from hubpg.tombstones where table_name = '" + table.Name + "'"); buried != strconv.Itoa(len(state.graves)) {
			rt.Fatalf("%s tombstones, want %d", buried, len(state.graves))
		}
	})
}

func (m *mirrored) modelDelete(t *rapid.T, table *catalog.Table, state *model) {
	ids := rapid.SliceOfN(rapid.Int64Range(1, 6), 1, 3).Draw(t, "deleted")
	readAt := rapid.IntRange(1, 30).Draw(t, "deleted at")
	m.remove(table, at(readAt), ids...)
	for _, id := range ids {
		state.remove(id, readAt)
	}
}

func (m *mirrored) modelUpsert(t *rapid.T, table *catalog.Table, state *model) {
	columns := table.Readable()
	if rapid.IntRange(0, 3).Draw(t, "partial") == 0 {
		columns = rapid.SliceOfNDistinct(rapid.SampledFrom(columns), 1, len(columns), func(c catalog.Column) string { return c.Name }).Draw(t, "columns")
	}
	whole := len(columns) == len(table.Readable())
	readAt := rapid.IntRange(1, 30).Draw(t, "read at")
	quiet := rapid.IntRange(0, 9).Draw(t, "quiet") == 0
	b := &mirror.Batch{Table: table, Columns: columns, ReadAt: at(readAt), Source: changes.Follow, Quiet: quiet}
	for _, id := range rapid.SliceOfNDistinct(rapid.Int64Range(1, 6), 0, 5, rapid.ID[int64]).Draw(t, "ids") {
		updated := rapid.IntRange(0, 5).Draw(t, "updated")
		var texts []string
		var values []any
		for _, c := range columns {
			text := modelValue(t, c)
			texts = append(texts, text)
			if text == "" && rapid.Bool().Draw(t, "never set") {
				values = append(values, nil)
			} else {
				values = append(values, text)
			}
		}
		b.Rows = append(b.Rows, row(id, at(updated), values...))
		state.put(columns, whole, readAt, id, updated, texts)
	}
	state.silent = state.silent || quiet
	m.in(func(tx pgx.Tx) (mirror.Result, error) { return m.applier.Upsert(m.t.Context(), tx, b) })
}

// exec runs one statement.
func (m *mirrored) exec(sql string, args ...any) {
	m.t.Helper()
	if _, err := m.pool.Exec(m.t.Context(), sql, args...); err != nil {
		m.t.Fatalf("%s: %v", sql, err)
	}
}

// TestTwoAppliersTakeTurns lets several appliers store the same records, in the order that chance gives them, in
// transactions that also touch a second table.
func TestTwoAppliersTakeTurns(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	people, firms := m.ensure(contacts()), m.ensure(companies())
	const workers, rounds, records = 4, 15, 20
	done := make(chan error, workers)
	for w := range workers {
		go func() {
			done <- func() error {
				applier := mirror.NewApplier(mirror.Config{PortalID: portal, Notify: mirror.Notify(w % 2)})
				for round := range rounds {
					b := &mirror.Batch{Table: people, Columns: people.Readable(), ReadAt: at(round*workers + w), Source: changes.Follow}
					c := &mirror.Batch{Table: firms, Columns: firms.Readable(), ReadAt: b.ReadAt, Source: changes.Follow}
					for id := range int64(records) {
						name := fmt.Sprintf("%d by %d", round, w)
						b.Rows = append(b.Rows, row(id+1, at(round), name, nil, nil, nil, nil, nil))
						c.Rows = append(c.Rows, row(id+1, at(round), name))
					}
					err := pgx.BeginFunc(t.Context(), m.pool, func(tx pgx.Tx) error {
						if err := applier.Lock(t.Context(), tx, "hubspot", "contacts", "companies"); err != nil {
							return err
						}
						first, second := b, c
						if w%2 == 0 {
							first, second = c, b
						}
						if _, err := applier.Upsert(t.Context(), tx, first); err != nil {
							return err
						}
						_, err := applier.Upsert(t.Context(), tx, second)
						return err
					})
					if err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	for range workers {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	want := fmt.Sprintf("%d by %d", rounds-1, workers-1)
	for _, table := range []string{"contacts", "companies"} {
		replayed, err := replay(m.log(0), table)
		if err != nil {
			t.Fatal(err)
		}
		got := m.tableRows(table)
		if diff := cmp.Diff(got, replayed); diff != "" || len(got) != records {
			t.Errorf("%d rows; log is not the table: %s", len(got), diff)
		}
		column := map[string]string{"contacts": "email", "companies": "name"}[table]
		for id, r := range got {
			if r[column] != want {
				t.Errorf("%s %d is %v, want %s", table, id, r[column], want)
			}
		}
	}
}

// TestAppliersOfOneTableNeedNoLockOfTheirCaller inserts the same new records from several transactions at once.
func TestAppliersOfOneTableNeedNoLockOfTheirCaller(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	table := m.ensure(companies())
	const workers, rounds = 4, 20
	inserted := make(chan int, workers)
	for range workers {
		go func() {
			sum := 0
			defer func() { inserted <- sum }()
			for round := range rounds {
				b := &mirror.Batch{Table: table, Columns: table.Readable(), ReadAt: at(round), Source: changes.Follow}
				for id := range int64(10) {
					b.Rows = append(b.Rows, row(int64(round)*10+id, at(round), "x"))
				}
				err := pgx.BeginFunc(t.Context(), m.pool, func(tx pgx.Tx) error {
					res, err := m.applier.Upsert(t.Context(), tx, b)
					sum += res.Inserted
					return err
				})
				if err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	sum := 0
	for range workers {
		sum += <-inserted
	}
	if got := m.text("select row_count from hubpg.objects where table_name = 'companies'"); sum != rounds*10 || got != strconv.Itoa(sum) {
		t.Errorf("%d inserts, row count %s, want %d", sum, got, rounds*10)
	}
}

// TestAReaderNeverSeesTheSequenceGoBack reads the log while appliers of several tables commit.
func TestAReaderNeverSeesTheSequenceGoBack(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	tables := []*catalog.Table{m.ensure(contacts()), m.ensure(companies())}
	const rounds = 40
	done := make(chan error, len(tables))
	for _, table := range tables {
		go func() {
			var err error
			for round := range rounds {
				r := mirror.Row{ID: 1, UpdatedAt: at(round), Values: make([][]byte, len(table.Readable()))}
				r.Values[0] = strconv.AppendInt(nil, int64(round), 10)
				if err = pgx.BeginFunc(t.Context(), m.pool, func(tx pgx.Tx) error {
					_, err := m.applier.Upsert(t.Context(), tx, &mirror.Batch{
						Table: table, Columns: table.Readable(), Rows: []mirror.Row{r},
						ReadAt: at(round), Source: changes.Follow,
					})
					return err
				}); err != nil {
					break
				}
			}
			done <- err
		}()
	}
	var last int64
	deadline := time.Now().Add(time.Minute)
	for last < int64(rounds*len(tables)) {
		if time.Now().After(deadline) {
			t.Fatalf("only %d changes after a minute", last)
		}
		list, err := changes.Read(t.Context(), m.pool, last, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range list {
			if c.Seq != last+1 {
				t.Fatalf("after %d came %d", last, c.Seq)
			}
			last = c.Seq
		}
	}
	for range tables {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
