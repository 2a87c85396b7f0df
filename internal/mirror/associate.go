package mirror

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
	"hubpg/internal/changes"
)

// Edge is one labelled association of record A with record B, seen from A.
type Edge struct {
	A, B     int64
	TypeID   int
	Category string
	Label    string // "" for the unlabelled type
}

// AssociationBatch holds all associations of some records of type A with type B.
type AssociationBatch struct {
	Pair   *catalog.Pair
	From   []int64 // records of A whose associations were read to the end; no others but Silent are touched
	Edges  []Edge  // each edge's A is one of From
	Silent []int64 // records of A that the answer left out, without a word
	ReadAt time.Time
	Source changes.Source
	Quiet  bool
}

// edgeJSON renders a row of an association table (under alias t) as the log shows it.
const edgeJSON = "jsonb_strip_nulls(to_jsonb(t) - '_read_at')"

// Associate makes the stored associations of the records in From equal to Edges. An edge that appears is an associate,
// one that is gone a dissociate, one with another label an update; the log's record id is A's. Records whose
// associations, or that themselves, are known to be newer than ReadAt are refused.
//
// Records in Silent have no associations if none are stored. Otherwise they are left as they are and returned as Doubted,
// until an answer that was asked for [SilencePause] after the first has left them out too, without one between that did not.
//
// That a record had no associations is remembered for the time a read may be under way, except by quiet batches.
func (a *Applier) Associate(ctx context.Context, tx pgx.Tx, b *AssociationBatch) (Result, error) {
	var res Result
	if len(b.From)+len(b.Silent) == 0 {
		return res, nil
	}
	res, err := a.associate(ctx, tx, b)
	if err != nil {
		return res, fmt.Errorf("associate %s: %w", b.Pair.Name, err)
	}
	return res, nil
}

func (a *Applier) associate(ctx context.Context, tx pgx.Tx, b *AssociationBatch) (res Result, err error) {
	if b.ReadAt.IsZero() {
		return res, fmt.Errorf("batch has no read time")
	}
	readAt := stored(b.ReadAt)
	from := slices.Compact(slices.Sorted(slices.Values(b.From)))
	for _, e := range b.Edges {
		if _, listed := slices.BinarySearch(from, e.A); !listed {
			return res, fmt.Errorf("edge of record %d, which is not in the batch", e.A)
		}
	}
	table, colA := ident(b.Pair.Schema, b.Pair.Name), ident(b.Pair.ColumnA())
	doubted, err := a.hearSilence(ctx, tx, b, table, colA, readAt)
	if err != nil {
		return res, err
	}
	from = slices.Compact(slices.Sorted(slices.Values(slices.Concat(from, slices.DeleteFunc(slices.Clone(b.Silent), func(id int64) bool {
		return slices.Contains(doubted, id)
	})))))
	if res.Doubted = doubted; len(from) == 0 {
		return res, nil
	}
	goneB, err := a.sortEnds(ctx, tx, b, table, colA, from, readAt, &res)
	if err != nil {
		return res, err
	}
	from = slices.DeleteFunc(from, func(id int64) bool {
		_, refused := slices.BinarySearch(res.Refused, id)
		return refused
	})
	e := edgeColumns(b.Edges, from, goneB)
	events, err := a.moveEdges(ctx, tx, b, table, from, e, readAt, &res)
	if err != nil {
		return res, err
	}
	if !b.Quiet {
		lonely := slices.DeleteFunc(slices.Clone(from), func(id int64) bool { return slices.Contains(e.a, id) })
		if err := a.bury(ctx, tx, b.Pair.Name, lonely, string(changes.Dissociate), readAt); err != nil {
			return res, err
		}
	}
	return res, a.finish(ctx, tx, b.Pair.Name, res.Inserted-res.Deleted, events, &res)
}

// SilencePause is how much later a record must have been left out of an answer once more before its associations are
// believed to be gone.
const SilencePause = 10 * time.Second

// hearSilence returns, in ascending order, those of the silent records that have associations stored and were not left out
// before, at least SilencePause ago, and notes them. What was read, or written by a client, since they were left out first
// has broken the silence.
func (a *Applier) hearSilence(
	ctx context.Context, tx pgx.Tx, b *AssociationBatch, table, colA string, readAt time.Time,
) (doubted []int64, err error) {
	if len(b.Silent) == 0 {
		return nil, nil
	}
	batch := &pgx.Batch{}
	enter(batch, b.Pair.Schema, b.Pair.Name)
	batch.Queue(`
with held as (
	select `+colA+` as id, max(_read_at) as seen
	from `+table+`
	where `+colA+` = any($3)
	group by 1
), doubted as (
	select h.id
	from held h
	left join hubpg.silences s on s.portal_id = $1 and s.table_name = $2 and s.record_id = h.id
	where s.read_at is null or s.read_at > $4::timestamptz - $5::interval or s.read_at < h.seen
), noted as (
	insert into hubpg.silences (portal_id, table_name, record_id, read_at)
	select $1, $2, id, $4
	from doubted
	order by id
	on conflict (portal_id, table_name, record_id) do update
	set read_at = excluded.read_at
	where silences.read_at < (select seen from held where id = excluded.record_id))
select id
from doubted
order by id`, a.portal, b.Pair.Name, b.Silent, readAt, SilencePause).Query(func(rows pgx.Rows) (err error) {
		doubted, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		return err
	})
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return nil, fmt.Errorf("look for associations of records that were left out: %w", err)
	}
	return doubted, nil
}

// sortEnds locks the table and finds the records of A whose associations are known to be newer, which it counts as
// refused, and the records of B that are known to be gone, which it returns.
func (a *Applier) sortEnds(ctx context.Context, tx pgx.Tx, b *AssociationBatch, table, colA string, from []int64,
	readAt time.Time, res *Result,
) (goneB []int64, err error) {
	batch := &pgx.Batch{}
	enter(batch, b.Pair.Schema, b.Pair.Name)
	batch.Queue("select true from hubpg.objects where portal_id = $1 and table_name = $2", a.portal, b.Pair.Name).
		QueryRow(func(row pgx.Row) error {
			var known bool
			err := row.Scan(&known)
			if errors.Is(err, pgx.ErrNoRows) {
				return ErrUnknownTable
			}
			return err
		})
	batch.Queue("delete from hubpg.silences where portal_id = $1 and table_name = $2 and record_id = any($3)", a.portal, b.Pair.Name, from)
	// A client's transaction may have changed some and yet to commit: locking waits for it, and what follows sees it.
	batch.Queue("select from "+table+" where "+colA+" = any($1) for no key update", from)
	batch.Queue(`
select `+colA+`
from `+table+`
where `+colA+` = any($3) and _read_at > $4
union
select record_id
from hubpg.tombstones
where portal_id = $1 and table_name = $2 and record_id = any($3) and read_at > $4
union
select record_id
from hubpg.tombstones
where portal_id = $1 and table_name = $5 and record_id = any($3) and read_at >= $4
order by 1`, a.portal, b.Pair.Name, from, readAt, b.Pair.A.Name).
		Query(func(rows pgx.Rows) error {
			res.Refused, err = pgx.CollectRows(rows, pgx.RowTo[int64])
			res.Stale = len(res.Refused)
			return err
		})
	to := make([]int64, len(b.Edges))
	for i, e := range b.Edges {
		to[i] = e.B
	}
	batch.Queue(`
select record_id
from hubpg.tombstones
where portal_id = $1 and table_name = $2 and record_id = any($3) and read_at >= $4
order by 1`, a.portal, b.Pair.B.Name, to, readAt).
		Query(func(rows pgx.Rows) error {
			goneB, err = pgx.CollectRows(rows, pgx.RowTo[int64])
			return err
		})
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return nil, err
	}
	return goneB, nil
}

// edgeArrays is a list of edges turned by column, as Postgres's unnest takes it.
type edgeArrays struct {
	a, b       []int64
	types      []int32
	categories []string
	labels     []*string
}

// edgeColumns turns the edges of from that do not end in goneB; both lists are sorted.
func edgeColumns(edges []Edge, from, goneB []int64) edgeArrays {
	type key struct {
		a, b     int64
		typeID   int
		category string
	}
	e := edgeArrays{a: []int64{}, b: []int64{}, types: []int32{}, categories: []string{}, labels: []*string{}}
	seen := make(map[key]bool, len(edges))
	for i := range edges {
		edge := &edges[i]
		if _, listed := slices.BinarySearch(from, edge.A); !listed {
			continue
		}
		if _, gone := slices.BinarySearch(goneB, edge.B); gone {
			continue
		}
		k := key{edge.A, edge.B, edge.TypeID, edge.Category}
		if seen[k] {
			continue
		}
		seen[k] = true
		var label *string
		if edge.Label != "" {
			label = &edge.Label
		}
		e.a, e.b = append(e.a, edge.A), append(e.b, edge.B)
		e.types, e.categories = append(e.types, int32(edge.TypeID)), append(e.categories, edge.Category)
		e.labels = append(e.labels, label)
	}
	return e
}

// moveEdges stores the edges in one statement, whose parts all see the table as it was, and returns the events. Edges
// that a client has committed since the ends were sorted are newer than this read and stay.
func (a *Applier) moveEdges(ctx context.Context, tx pgx.Tx, b *AssociationBatch, table string, from []int64, e edgeArrays,
	readAt time.Time, res *Result,
) ([]changes.Change, error) {
	colA, colB := ident(b.Pair.ColumnA()), ident(b.Pair.ColumnB())
	key := func(x, y string) string {
		return x + "." + colA + " = " + y + "." + colA + " and " + x + "." + colB + " = " + y + "." + colB +
			" and " + x + ".type_id = " + y + ".type_id and " + x + ".category = " + y + ".category"
	}
	row := func(alias string) string {
		return "jsonb_strip_nulls(jsonb_build_object(" + quote(b.Pair.ColumnA()) + ", " + alias + "." + colA + ", " +
			quote(b.Pair.ColumnB()) + ", " + alias + "." + colB + ", 'label', " + alias + ".label, 'type_id', " + alias +
			".type_id, 'category', " + alias + ".category))"
	}
	found, err := tx.Query(ctx, `
with incoming as materialized (
  select * from unnest($2::bigint[], $3::bigint[], $4::int[], $5::text[], $6::text[])
    as u(`+colA+`, `+colB+`, type_id, category, label)
), old as materialized (
  select * from `+table+` where `+colA+` = any($1) and _read_at <= $7
), gone as (
  delete from `+table+` t
  where t.`+colA+` = any($1) and t._read_at <= $7 and not exists (select from incoming n where `+key("n", "t")+`)
), put as (
  insert into `+table+` as t (`+colA+`, `+colB+`, type_id, category, label, _read_at)
  select `+colA+`, `+colB+`, type_id, category, label, $7 from incoming
  on conflict (`+colA+`, `+colB+`, type_id, category) do update
  set label = excluded.label, _read_at = excluded._read_at
)
select coalesce(n.`+colA+`, o.`+colA+`),
       case when o.type_id is null then 'associate' when n.type_id is null then 'dissociate' else 'update' end,
       case when o.type_id is not null then `+row("o")+` end,
       case when n.type_id is not null then `+row("n")+` end
from old o
full join incoming n on `+key("n", "o")+`
where o.type_id is null or n.type_id is null or o.label is distinct from n.label
order by 1, coalesce(n.`+colB+`, o.`+colB+`), coalesce(n.type_id, o.type_id)`,
		from, e.a, e.b, e.types, e.categories, e.labels, readAt)
	if err != nil {
		return nil, fmt.Errorf("store edges: %w", err)
	}
	list, err := pgx.CollectRows(found, func(row pgx.CollectableRow) (changes.Change, error) {
		c := changes.Change{Schema: b.Pair.Schema, Table: b.Pair.Name, Source: b.Source}
		err := row.Scan(&c.RecordID, &c.Op, &c.Before, &c.After)
		switch c.Op {
		case changes.Associate:
			res.Inserted++
		case changes.Dissociate:
			res.Deleted++
		default:
			res.Updated++
			c.Changed = []string{"label"}
		}
		return c, err
	})
	if err != nil {
		return nil, fmt.Errorf("store edges: %w", err)
	}
	res.Unchanged = len(e.a) - res.Inserted - res.Updated
	if b.Quiet {
		return nil, nil
	}
	return list, nil
}

// Linked returns the records of A that are stored as associated with any of the given records of B: when B's
// associations may have changed, those are the records of A to read again.
func (a *Applier) Linked(ctx context.Context, tx pgx.Tx, p *catalog.Pair, to []int64) ([]int64, error) {
	colA, colB := ident(p.ColumnA()), ident(p.ColumnB())
	rows, err := tx.Query(ctx, "select distinct "+colA+" from "+ident(p.Schema, p.Name)+" where "+colB+" = any($1) order by 1", to)
	if err != nil {
		return nil, fmt.Errorf("read links of %s: %w", p.Name, err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if err != nil {
		return nil, fmt.Errorf("read links of %s: %w", p.Name, err)
	}
	return list, nil
}
