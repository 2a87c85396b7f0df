package writeback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/changes"
)

// Settle says what became in Postgres of a write that HubSpot has accepted. After a commit it moves the differences into
// the change log, and looks after what HubSpot did besides: associations that go with a record or a label. After a
// rollback it reads the records from HubSpot, because the tables follow HubSpot and not the client, and so it does after
// a refusal that says [Error.Behind].
func (w *Writer) Settle(ctx context.Context, id int64, committed bool) error {
	if err := w.settle(ctx, id, committed); err != nil {
		w.kick()
		return fmt.Errorf("settle write %d: %w", id, err)
	}
	return nil
}

func (w *Writer) settle(ctx context.Context, id int64, committed bool) error {
	s, err := w.load(ctx, w.pool, id)
	if err != nil || s == nil {
		return err
	}
	status := statusRolledBack
	switch {
	case committed:
		status = statusSettled
		err = w.follow(ctx, s)
	case s.status == statusRefused:
		status = statusRepaired
		err = w.repair(ctx, s)
	default:
		err = w.repair(ctx, s)
	}
	if err != nil {
		return err
	}
	if s.open {
		return w.leave(ctx, id)
	}
	return w.close(ctx, id, status)
}

// leave keeps a write open of which bad rows were skipped and some may land yet: [Writer.Run] looks after those.
func (w *Writer) leave(ctx context.Context, id int64) error {
	_, err := w.pool.Exec(ctx, "update hubpg.writes set status = $2 where id = $1 and settled_at is null", id, statusAmbiguous)
	w.kick()
	return err
}

func (w *Writer) close(ctx context.Context, id int64, status string) error {
	_, err := w.pool.Exec(ctx, `
update hubpg.writes
set status = $2, touched_at = now(), settled_at = now()
where id = $1 and settled_at is null`, id, status)
	return err
}

// scope is what a write may have changed.
type scope struct {
	tables  []string                    // all tables
	records map[string]map[int64]string // object tables: ids with the version that they should have, "" for any
	deleted map[string][]deletion
	merged  map[string][]int64 // records that were merged meanwhile, and those that they were merged into
	edges   map[string][]int64 // association tables: records of the first table
	lookups map[string][]sought

	status   string
	open     bool      // HubSpot may take rows yet
	at       time.Time // of the intent
	outcomes []outcome // as long as the intent, where found
	found    bool      // a lookup has added to outcomes
}

// sought is a record that may have been created, by its unique property.
type sought struct {
	lookup
	place int // of its intent
}

type deletion struct {
	id   int64
	read time.Time
}

// load reads what an open write may have changed; nil if it is settled.
func (w *Writer) load(ctx context.Context, q rowQuerier, id int64) (*scope, error) {
	var intents []intent
	var outcomes []outcome
	var in, out []byte
	var status string
	var at time.Time
	err := q.QueryRow(ctx, `
select intent, outcome, status, at
from hubpg.writes
where id = $1 and portal_id = $2 and settled_at is null`, id, w.portal).Scan(&in, &out, &status, &at)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read write: %w", err)
	}
	if err := json.Unmarshal(in, &intents); err != nil {
		return nil, fmt.Errorf("read intent: %w", err)
	}
	if out != nil {
		if err := json.Unmarshal(out, &outcomes); err != nil {
			return nil, fmt.Errorf("read outcome: %w", err)
		}
	}
	s, err := newScope(intents, outcomes)
	if err == nil {
		s.status, s.at = status, at
	}
	return s, err
}

// rowQuerier is a pool or a transaction.
type rowQuerier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

func newScope(intents []intent, outcomes []outcome) (*scope, error) {
	s := &scope{
		records: map[string]map[int64]string{}, deleted: map[string][]deletion{}, merged: map[string][]int64{}, edges: map[string][]int64{}, lookups: map[string][]sought{},
	}
	s.open = slices.ContainsFunc(outcomes, func(o outcome) bool { return o.Open })
	created := map[int64]int64{} // by placeholder
	tables := map[string]bool{}
	for i, in := range intents {
		tables[in.Table] = true
		var o outcome
		if i < len(outcomes) {
			o = outcomes[i]
		}
		if in.A != 0 || in.B != 0 {
			a := in.A
			if a < 0 {
				a = created[a]
			}
			if a > 0 {
				s.edges[in.Table] = append(s.edges[in.Table], a)
			}
			continue
		}
		if o.Exists != 0 {
			s.see(in.Table, o.Exists, o.Read)
		}
		id := in.ID
		if o.ID != 0 {
			if id < 0 {
				created[id] = o.ID
			}
			id = o.ID
		}
		if id < 0 && created[id] != 0 {
			id = created[id]
		}
		switch {
		case id > 0:
			if in.ID > 0 && id != in.ID {
				s.merged[in.Table] = append(s.merged[in.Table], in.ID, id)
			}
			s.see(in.Table, id, o.Read)
			if in.Op == opDelete && o.Done {
				read, err := time.Parse(time.RFC3339Nano, o.Read)
				if err != nil {
					return nil, fmt.Errorf("read outcome: %w", err)
				}
				s.deleted[in.Table] = append(s.deleted[in.Table], deletion{id, read})
				delete(s.records[in.Table], id)
			}
		case in.Op == opInsert && in.Unique != nil && o.Exists == 0 && (outcomes == nil || o.Open || o.Error != nil && !s.open):
			s.lookups[in.Table] = append(s.lookups[in.Table], sought{*in.Unique, i})
		}
	}
	s.tables = slices.Sorted(maps.Keys(tables))
	s.outcomes = append(outcomes, make([]outcome, max(0, len(intents)-len(outcomes)))...)
	return s, nil
}

// follow ends a committed write.
func (w *Writer) follow(ctx context.Context, s *scope) error {
	if err := w.publish(ctx, s.tables); err != nil {
		return err
	}
	cat, err := w.catalog(ctx)
	if err != nil {
		return err
	}
	for table, list := range s.deleted {
		t := cat.Named(table)
		if t == nil {
			continue
		}
		if err := w.sever(ctx, t, list); err != nil {
			return err
		}
	}
	for table, versions := range s.records {
		behind, err := w.behind(ctx, cat.Named(table), versions)
		if err != nil {
			return err
		}
		if len(behind) > 0 {
			if err := w.refreshRecords(ctx, table, behind); err != nil {
				return err
			}
		}
	}
	for table, ids := range s.merged {
		if err := w.refreshRecords(ctx, table, ids); err != nil {
			return err
		}
	}
	for table, from := range s.edges {
		if err := w.refreshEdges(ctx, table, from); err != nil {
			return err
		}
	}
	return nil
}

// outcome is what the write's record is to say, nil for what it says already.
func (s *scope) outcome() (*string, error) {
	if !s.found {
		return nil, nil
	}
	text, err := encode(s.outcomes)
	if err != nil {
		return nil, fmt.Errorf("record outcome: %w", err)
	}
	return &text, nil
}

func (s *scope) add(table string, id int64) { s.see(table, id, "") }

// see notes the version that a record should have.
func (s *scope) see(table string, id int64, version string) {
	if s.records[table] == nil {
		s.records[table] = map[int64]string{}
	}
	s.records[table][id] = max(version, s.records[table][id])
}

// sever removes the associations of records that the write has deleted.
func (w *Writer) sever(ctx context.Context, t *catalog.Table, list []deletion) error {
	ids, read := make([]int64, len(list)), list[0].read
	for i, d := range list {
		ids[i] = d.id
		if d.read.Before(read) {
			read = d.read
		}
	}
	err := w.store(ctx, func(tx pgx.Tx) error {
		_, err := w.applier.Delete(ctx, tx, t, ids, read, changes.Delete, changes.Write)
		return err
	})
	if err != nil {
		return fmt.Errorf("remove associations: %w", err)
	}
	return nil
}

// behind lists the records whose rows are older than the write made them, which the performance then did not reach.
func (w *Writer) behind(ctx context.Context, t *catalog.Table, versions map[int64]string) ([]int64, error) {
	if t == nil || len(versions) == 0 {
		return nil, nil
	}
	ids, reads := make([]int64, 0, len(versions)), make([]string, 0, len(versions))
	for id, read := range versions {
		if read == "" {
			continue // nothing was sent
		}
		ids, reads = append(ids, id), append(reads, read)
	}
	rows, err := w.pool.Query(ctx, `
select u.id
from unnest($1::bigint[], $2::text[]) u(id, read)
left join `+pgx.Identifier{t.Schema, t.Name}.Sanitize()+` t on t.id = u.id
where t.id is null and not exists (
  select from hubpg.tombstones g where g.portal_id = $3 and g.table_name = $4 and g.record_id = u.id)
or t._read_at < u.read::timestamptz and t.updated_at is not null
order by u.id`, ids, reads, w.portal, t.Name)
	if err != nil {
		return nil, fmt.Errorf("compare %s: %w", t.Name, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("compare %s: %w", t.Name, err)
	}
	return list, nil
}

// repair makes the tables what HubSpot says about everything that a write may have changed.
func (w *Writer) repair(ctx context.Context, s *scope) error {
	if err := w.publish(ctx, s.tables); err != nil {
		return err
	}
	cat, err := w.catalog(ctx)
	if err != nil {
		return err
	}
	for table, list := range s.deleted {
		for _, d := range list {
			s.add(table, d.id)
		}
	}
	for table, ids := range s.merged {
		for _, id := range ids {
			s.add(table, id)
		}
	}
	for table, list := range s.lookups {
		t := cat.Named(table)
		if t == nil {
			continue
		}
		if err := w.seek(ctx, t, list, s); err != nil {
			return err
		}
	}
	for table, versions := range s.records {
		if err := w.refreshRecords(ctx, table, slices.Collect(maps.Keys(versions))); err != nil {
			return err
		}
	}
	for table, from := range s.edges {
		if err := w.refreshEdges(ctx, table, from); err != nil {
			return err
		}
	}
	return nil
}

// seek looks for records that may have been created.
func (w *Writer) seek(ctx context.Context, t *catalog.Table, list []sought, s *scope) error {
	places := map[string]map[string][]int{} // of intents, by property and value
	for _, l := range list {
		if places[l.Property] == nil {
			places[l.Property] = map[string][]int{}
		}
		value := asCompared(l.Value)
		places[l.Property][value] = append(places[l.Property][value], l.place)
	}
	for property, byValue := range places {
		for values := range slices.Chunk(slices.Sorted(maps.Keys(byValue)), hubapi.MaxPage) {
			found, err := w.client.BatchReadBy(ctx, t.Path, property, values, hubapi.NewProjection(nil))
			if isA[*hubapi.NotFoundError](err) {
				continue // there is none of them
			}
			if err != nil {
				return fmt.Errorf("look up %s by %s: %w", t.Name, property, err)
			}
			for value, r := range found.Records {
				s.add(t.Name, r.ID)
				if w.predates(&r, s.at) {
					continue
				}
				for _, place := range byValue[value] {
					o := &s.outcomes[place]
					o.ID, o.Done, s.found = r.ID, true, true
				}
			}
		}
	}
	return nil
}

// publish moves the committed differences of tables into the change log.
func (w *Writer) publish(ctx context.Context, tables []string) error {
	if len(tables) == 0 {
		return nil
	}
	cat, err := w.catalog(ctx)
	if err != nil {
		return err
	}
	if len(cat.Tables) == 0 {
		return nil
	}
	return w.store(ctx, func(tx pgx.Tx) error {
		_, err := w.applier.Publish(ctx, tx, cat.Tables[0].Schema, tables...)
		return err
	})
}
