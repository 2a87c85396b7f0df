package proxy

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"hubpg/internal/sqlstmt"

	"github.com/jackc/pgx/v5"
)

// readable is what tells the statements of a session that might wait for fresh tables one day.
type readable struct {
	sieve  *sqlstmt.Sieve // names of mirrored schemas and tables and of views on these
	preset bool           // hubpg.max_staleness is set for a role, a database or the server: a session may begin with it
	called bool           // a function sets it: any session may have it at any time
}

// mayName reports whether text could name a mirrored table. False is certain, but for tables made a moment ago.
func (r *readable) mayName(text []byte) bool { return r.sieve.MayChange(text) }

// watchHeeded looks for the setting where no session would name it.
const watchHeeded = `
select exists (select from pg_db_role_setting s where s.setconfig::text ilike '%' || $1 || '%')
or coalesce(current_setting($1, true), '') <> '', exists (
    select
    from pg_proc p
    where p.pronamespace not in ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
    and p.prosrc ilike '%' || $1 || '%')`

const watchLookups = `
select o.table_name
from hubpg.objects o
join hubpg.accounts a using (portal_id)
where a.schema_name = any ($1) and o.kind = 'lookup' and o.phase <> 'gone'`

// readReadable reads what is new in a scope of which the tables that are changed are known.
func (w *watch) readReadable(ctx context.Context, s *scope) error {
	rows, err := w.pool.Query(ctx, watchLookups, w.schemas)
	if err != nil {
		return fmt.Errorf("read lookup tables: %w", err)
	}
	words, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("read lookup tables: %w", err)
	}
	words = slices.AppendSeq(words, maps.Keys(s.schemas))
	words = slices.AppendSeq(words, maps.Keys(s.bare))
	s.readable.sieve = sqlstmt.NewSieve(nil, words)
	if err := w.pool.QueryRow(ctx, watchHeeded, stalenessSetting).Scan(&s.readable.preset, &s.readable.called); err != nil {
		return fmt.Errorf("look who has set %s: %w", stalenessSetting, err)
	}
	return nil
}
