package mirror

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// DefaultKeep is how long the change log is kept.
	DefaultKeep = 7 * 24 * time.Hour
	// partitionsAhead is how many days after today have their partition made in advance.
	partitionsAhead = 7
	// marksKeep is how long it is remembered that a record had no associations: longer than any read can be under way.
	marksKeep = time.Hour
)

// MaintainChangeLog makes the partitions of the change log for today and the days ahead, drops those that lie wholly
// before now - keep, and forgets what was remembered about associations only for reads under way. Changes that were
// written before their day had a partition are moved into it. Run it at start and every few hours; a run that was
// missed costs nothing but the move.
func MaintainChangeLog(ctx context.Context, db DB, keep time.Duration) error {
	if keep <= 0 {
		keep = DefaultKeep
	}
	var now time.Time // by the clock that dates the changes
	if err := db.QueryRow(ctx, "select now()").Scan(&now); err != nil {
		return fmt.Errorf("ask for the time of the change log: %w", err)
	}
	now = now.UTC()
	today := now.Truncate(24 * time.Hour)
	for ahead := range partitionsAhead + 1 {
		if err := ensureDay(ctx, db, today.AddDate(0, 0, ahead)); err != nil {
			return fmt.Errorf("make partition of the change log: %w", err)
		}
	}
	if err := dropBefore(ctx, db, now.Add(-keep)); err != nil {
		return fmt.Errorf("drop old changes: %w", err)
	}
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "delete from hubpg.tombstones where op = 'dissociate' and read_at < $1", now.Add(-marksKeep))
		return err
	})
	if err != nil {
		return fmt.Errorf("drop old marks: %w", err)
	}
	return nil
}

func partitionName(day time.Time) string { return "changes_" + day.Format("20060102") }

// ensureDay makes the partition of one day. Rows of that day that are in the default partition would forbid it, so
// they go into the new table before it is attached.
func ensureDay(ctx context.Context, db DB, day time.Time) error {
	name := ident("hubpg", partitionName(day))
	return withLockTimeout(ctx, db, func(tx pgx.Tx) error {
		var exists bool
		if err := tx.QueryRow(ctx, "select to_regclass($1) is not null", name).Scan(&exists); err != nil || exists {
			return err
		}
		from, to := day.Format(time.RFC3339), day.AddDate(0, 0, 1).Format(time.RFC3339)
		return script(ctx, tx, `
lock table hubpg.changes_default in access exclusive mode;
create table `+name+` (like hubpg.changes including defaults including constraints);
with moved as (
  delete from hubpg.changes_default where at >= `+quote(from)+` and at < `+quote(to)+` returning *
)
insert into `+name+` select * from moved;
alter table hubpg.changes attach partition `+name+` for values from (`+quote(from)+`) to (`+quote(to)+`);`)
	})
}

// dropBefore drops the partitions of days that ended before the given instant, and what has a smaller number than any change in them: a
// transaction that began later may have got one, and what is kept has no gaps.
func dropBefore(ctx context.Context, db DB, before time.Time) error {
	rows, err := db.Query(ctx, `
select c.relname
from pg_inherits i
join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'hubpg.changes'::regclass and c.relname ~ '^changes_[0-9]{8}$'
order by c.relname`)
	if err != nil {
		return err
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range names {
		day, err := time.Parse("changes_20060102", name)
		if err != nil || day.AddDate(0, 0, 1).After(before) {
			continue
		}
		if err := withLockTimeout(ctx, db, func(tx pgx.Tx) error {
			var exists bool
			if err := tx.QueryRow(ctx, "select to_regclass($1) is not null", ident("hubpg", name)).Scan(&exists); err != nil || !exists {
				return err
			}
			var last int64
			if err := tx.QueryRow(ctx, "select coalesce(max(seq), 0) from "+ident("hubpg", name)).Scan(&last); err != nil {
				return err
			}
			if err := script(ctx, tx, "drop table "+ident("hubpg", name)); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "delete from hubpg.changes where seq <= $1", last)
			return err
		}); err != nil {
			return err
		}
	}
	return pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "delete from hubpg.changes where seq <= (select max(seq) from hubpg.changes_default where at < $1)", before)
		return err
	})
}

// withLockTimeout runs change under the log's maintenance lock, trying again as [Mapper.locked] does.
func withLockTimeout(ctx context.Context, db DB, change func(pgx.Tx) error) error {
	m := NewMapper(MapperConfig{Schema: "hubpg"})
	err := m.locked(ctx, db, "", change)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "42P07" { // made by another process meanwhile
		return nil
	}
	return err
}
