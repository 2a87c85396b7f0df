package mirror

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
)

// applierSetting marks a transaction as an applier's. It counts only for the owner of the tables.
const applierSetting = "hubpg.applier"

// guardTrigger is the statement trigger that every mirrored table has; a table without it has none of the others.
const guardTrigger = "hubpg_guard"

// guarded is a table that gets its triggers.
type guarded struct {
	schema, name string
	kind         string   // as in hubpg.objects
	args         []string // of the row triggers, after the account
}

func guardedObject(t *catalog.Table) guarded {
	return guarded{schema: t.Schema, name: t.Name, kind: "object", args: t.Stamps()}
}

func guardedPair(p *catalog.Pair) guarded {
	return guarded{schema: p.Schema, name: p.Name, kind: "association", args: []string{p.ColumnA(), p.ColumnB()}}
}

// guard gives a table, in the transaction that makes it, the triggers without which anybody with the privilege could
// change it behind HubSpot's back. Object and association tables let the proxy's writes through; lookups let nothing
// through but the applier.
func (m *Mapper) guard(ctx context.Context, tx pgx.Tx, g guarded) error {
	var owner string
	if err := tx.QueryRow(ctx, "select pg_get_userbyid(relowner) from pg_class where oid = $1::text::regclass",
		ident(g.schema, g.name)).Scan(&owner); err != nil {
		return fmt.Errorf("guard %s: %w", g.name, err)
	}
	if err := script(ctx, tx, guardSQL(g, m.c.PortalID, owner)); err != nil {
		return fmt.Errorf("guard %s: %w", g.name, err)
	}
	if _, err := tx.Exec(ctx, "update hubpg.objects set lock_key = $3 where portal_id = $1 and table_name = $2",
		m.c.PortalID, g.name, lockKey(g.schema, g.name)); err != nil {
		return fmt.Errorf("guard %s: %w", g.name, err)
	}
	return nil
}

// guardSQL makes the triggers. The condition of the row triggers is cheap and false for appliers, who then pay nothing
// else; it holds for a client that sets the applier's setting, even in the middle of its statement.
func guardSQL(g guarded, portal int64, owner string) string {
	table := ident(g.schema, g.name)
	mode, before, after := "write", "write_record", "write_record_done"
	switch g.kind {
	case "association":
		before, after = "write_edge", "write_edge_done"
	case "lookup":
		mode = "refuse"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "create trigger %s before insert or update or delete or truncate on %s\n  for each statement execute function hubpg.write_guard(%s);\n",
		guardTrigger, table, quote(mode))
	if mode == "refuse" {
		return b.String()
	}
	args := list(append([]string{fmt.Sprint(portal)}, g.args...), ", ", quote)
	for _, t := range []struct{ name, when, function string }{
		{"hubpg_write", "before", before}, {"hubpg_write_done", "after", after},
	} {
		fmt.Fprintf(&b, `create trigger %s %s insert or update or delete on %s
  for each row
  when (current_setting(%s, true) is distinct from 'on' or current_user <> %s)
  execute function hubpg.%s(%s);
`, t.name, t.when, table, quote(applierSetting), quote(owner), t.function, args)
	}
	return b.String()
}

// guardAll gives triggers to the account's tables that have none: those made before there were writes. What somebody has put in the
// place of a table is none of them.
func (m *Mapper) guardAll(ctx context.Context, tx pgx.Tx) error {
	rows, err := tx.Query(ctx, `
select o.table_name, o.kind
from hubpg.objects o
join pg_class c on c.relname = o.table_name and c.relnamespace = to_regnamespace($2)
where o.portal_id = $1 and case when o.kind = 'lookup' then c.relkind = 'r' and (
	select array_agg(a.attname::text) from pg_attribute a where a.attrelid = c.oid and not a.attisdropped) @> ($4::jsonb ->> o.table_name)::text[]
	else `+ours+` end
and not exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgname = $3)
order by o.table_name`, m.c.PortalID, ident(m.c.Schema), guardTrigger, lookupKeys())
	if err != nil {
		return fmt.Errorf("list unguarded tables: %w", err)
	}
	open, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (g guarded, err error) {
		g.schema = m.c.Schema
		return g, row.Scan(&g.name, &g.kind)
	})
	if err != nil || len(open) == 0 {
		return err
	}
	known, err := Load(ctx, tx, m.c.PortalID)
	if err != nil {
		return err
	}
	for _, g := range open {
		switch g.kind {
		case "object":
			if t := known.Named(g.name); t != nil {
				g = guardedObject(t)
			}
		case "association":
			i := slices.IndexFunc(known.Pairs, func(p *catalog.Pair) bool { return p.Name == g.name })
			if i < 0 {
				continue
			}
			g = guardedPair(known.Pairs[i])
		}
		if err := m.guard(ctx, tx, g); err != nil {
			return err
		}
	}
	return nil
}

// lookupKeys are the keys of the lookup tables as array literals, by table.
func lookupKeys() map[string]string {
	keys := map[string]string{}
	for _, l := range append(Lookups(), mergesTable()) {
		keys[l.Name] = "{" + strings.Join(l.Key, ",") + "}"
	}
	return keys
}
