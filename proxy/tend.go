package proxy

import (
	"context"
	"fmt"
	"strings"
	"time"

	"hubpg/internal/changes"
	"hubpg/internal/sqlstmt"

	"github.com/jackc/pgx/v5"
)

// Bounds of what the hub looks at besides the log; at the catalogs it looks as often as at that.
const (
	pollsPerGrants = 20
	grantsAtOnce   = 1000
	maxNames       = 200_000
)

// tend keeps what the hub knows of the database fresh until ctx ends.
func (h *Hub) tend(ctx context.Context) {
	tick := time.NewTicker(h.poll)
	defer tick.Stop()
	for n := 0; ; n++ {
		if err := h.readNames(ctx); err != nil && ctx.Err() == nil {
			h.log.Warn("look up which names may leave something behind in a session", "error", err)
		}
		if n%pollsPerGrants == 0 {
			if err := h.checkGrants(ctx); err != nil && ctx.Err() == nil {
				h.log.Warn("check what listeners may hear", "error", err)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// names are those that a query may not use if it is known to leave nothing behind in its session.
type names struct {
	words  map[string]struct{}
	sieve  *sqlstmt.Sieve // of words, and of those with which a query writes
	all    bool           // any query may: an operator or a cast of somebody's own changes things
	number int64          // of the reading, from 1
	added  int64          // the last reading that found a name which the one before had not
}

// suspect reports whether a query that uses a name may leave something behind in its session.
func (n *names) suspect(word string) bool {
	_, found := n.words[word]
	return found || n.all
}

// clears reports whether text leaves nothing behind, and whether that rests on what it names. It is quick, and may be false
// for a text that leaves nothing behind.
func (n *names) clears(text []byte) (cleared, named bool) {
	if n.sieve == nil || n.all {
		return false, false
	}
	return n.sieve.Clears(text)
}

// writeWords are those with which a query that begins with SELECT does more than read.
var writeWords = []string{"into", "insert", "update", "delete", "merge"}

// Every function but Postgres's own that are known not to change anything; every view and foreign table but
// Postgres's and hubpg's own; tables with policies; types with checks.
const (
	selectNames = `
select p.proname::text from pg_proc p
where p.provolatile = 'v' or p.pronamespace not in ('pg_catalog'::regnamespace, 'hubpg'::regnamespace)
union
select c.relname::text from pg_class c
where c.relkind in ('v', 'f') and c.relnamespace not in
    ('pg_catalog'::regnamespace, 'information_schema'::regnamespace, 'hubpg'::regnamespace)
or c.relrowsecurity
union
select t.typname::text from pg_type t
where t.typtype = 'd' and t.typnamespace <> 'information_schema'::regnamespace
limit $1`
	selectOwnOperators = `
select exists (select from pg_operator o join pg_proc p on p.oid = o.oprcode
    where o.oprnamespace <> 'pg_catalog'::regnamespace and p.provolatile = 'v')
or exists (select from pg_cast c join pg_proc p on p.oid = c.castfunc
    where p.pronamespace <> 'pg_catalog'::regnamespace and p.provolatile = 'v')`
)

func (h *Hub) readNames(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, hubPatience)
	defer cancel()
	old := h.names.Load()
	n := &names{words: map[string]struct{}{}, number: old.number + 1, added: old.added}
	err := insist(ctx, func() error { return h.pool.QueryRow(ctx, selectOwnOperators).Scan(&n.all) })
	if err != nil {
		return fmt.Errorf("read operators: %w", err)
	}
	rows, err := h.pool.Query(ctx, selectNames, maxNames+1)
	if err != nil {
		return fmt.Errorf("read names: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("read names: %w", err)
	}
	n.all = n.all || len(list) > maxNames
	for _, name := range list {
		n.words[name] = struct{}{}
		if _, known := old.words[name]; !known {
			n.added = n.number
		}
	}
	n.sieve = sqlstmt.NewSieve(append(list, writeWords...), nil)
	if n.all && !old.all {
		n.added = n.number
	}
	h.names.Store(n)
	return nil
}

// hearing is a role that listens, or wants to, on a channel.
type hearing struct{ role, channel string }

// permits reports whether a role may read what a channel tells: the tables of the schema, or the one table, and of these every row.
func (h *Hub) permits(ctx context.Context, role, channel string) (bool, error) {
	v, err, _ := h.flight.Do("permits "+role+"\x00"+channel, func() (any, error) {
		refused, err := h.forbidden(ctx, []hearing{{role, channel}})
		return len(refused) == 0, err
	})
	if err != nil {
		return false, err
	}
	return v.(bool), nil
}

// forbidden returns those of a list that are not permitted, roles that are no more included.
func (h *Hub) forbidden(ctx context.Context, list []hearing) ([]hearing, error) {
	ctx, cancel := context.WithTimeout(ctx, hubPatience)
	defer cancel()
	// A channel that was cut is that of every table whose name begins so.
	const sql = `
select k.n
from unnest($1::text[], $2::text[], $3::text[], $4::bool[]) with ordinality as k(role, schema, name, cut, n)
left join pg_roles r on r.rolname = k.role
where r.oid is null or not coalesce((
    select bool_and(has_schema_privilege(r.oid, n.oid, 'usage')
        and (c.oid is null or has_table_privilege(r.oid, c.oid, 'select')
            and (not c.relrowsecurity or r.rolsuper or r.rolbypassrls
                or not c.relforcerowsecurity and pg_has_role(r.oid, c.relowner, 'usage'))))
    from pg_namespace n
    left join pg_class c
    on c.relnamespace = n.oid and c.relkind in ('r', 'p', 'v', 'm', 'f')
        and (k.name = '' or c.relname = k.name or k.cut and starts_with(c.relname::text, k.name))
    where n.nspname = k.schema), true)`
	roles, schemas, tables, cut := make([]string, len(list)), make([]string, len(list)), make([]string, len(list)), make([]bool, len(list))
	for i, k := range list {
		roles[i] = k.role
		schemas[i], tables[i] = h.target(k.channel)
		cut[i] = changes.MayBeCut(k.channel) && !strings.HasPrefix(k.channel, schemas[i]+"_"+tables[i]+".")
	}
	var places []int64
	err := insist(ctx, func() error {
		rows, err := h.pool.Query(ctx, sql, roles, schemas, tables, cut)
		if err == nil {
			places, err = pgx.CollectRows(rows, pgx.RowTo[int64])
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("check permission to listen: %w", err)
	}
	refused := make([]hearing, len(places))
	for i, n := range places {
		refused[i] = list[n-1]
	}
	return refused, nil
}

// checkGrants ends the listeners that may no longer hear what they listen to.
func (h *Hub) checkGrants(ctx context.Context) error {
	h.mu.Lock()
	seen := map[hearing]struct{}{}
	for channel, subs := range h.channels {
		for sub := range subs {
			seen[hearing{sub.listener.startup.Parameter("user"), channel}] = struct{}{}
		}
	}
	h.mu.Unlock()
	list := make([]hearing, 0, len(seen))
	for k := range seen {
		list = append(list, k)
	}
	for len(list) > 0 {
		n := min(len(list), grantsAtOnce)
		refused, err := h.forbidden(ctx, list[:n])
		if err != nil {
			return err
		}
		h.silence(refused)
		list = list[n:]
	}
	return nil
}

// silence ends the sessions of those that may not listen any more.
func (h *Hub) silence(refused []hearing) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, k := range refused {
		for sub := range h.channels[k.channel] {
			if sub.listener.startup.Parameter("user") == k.role {
				sub.listener.cut(errNoLongerPermitted())
			}
		}
	}
}
