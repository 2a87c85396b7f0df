package proxy

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"hubpg/internal/pgwire"

	"github.com/jackc/pgx/v5"
)

// standingLasts is how old a standing may be that a login is judged by: longer than a client takes to prove its password.
const standingLasts = time.Second

// claim is what logins must have in common for one to be given the other's backend. The zero value is had in common with none.
type claim [sha256.Size]byte

// standingQuery says of the role $1 and the database $2 what makes a login succeed, and what it sets. It has no row where a session
// cannot be made to look like a new one: triggers on logins do not run again, and DISCARD ALL takes back a role that was set.
const standingQuery = `
select pg_catalog.concat_ws(e'\n', r.oid, r.rolsuper, r.rolconnlimit, d.oid, d.datconnlimit, s.text)
from pg_catalog.pg_roles r, pg_catalog.pg_database d, lateral (
	select pg_catalog.string_agg(pg_catalog.concat_ws(' ', setdatabase, setrole, setconfig), e'\n' order by setdatabase, setrole) as text
	from pg_catalog.pg_db_role_setting where setdatabase in (0, d.oid) and setrole in (0, r.oid)
) s
where r.rolname = $1 and d.datname = $2 and r.rolcanlogin and d.datallowconn
	and (r.rolvaliduntil is null or r.rolvaliduntil > pg_catalog.now())
	and pg_catalog.has_database_privilege(r.oid, d.oid, 'connect')
	and not coalesce((pg_catalog.to_jsonb(d) ->> 'dathasloginevt')::boolean, false)
	and coalesce(s.text, '') !~* '[{,"](role|session_authorization)='`

// standing is what the catalogs say of a login's role and database.
type standing struct {
	keeper  *keeper
	startup *pgwire.Startup
	text    string
	found   bool
	asked   time.Time
}

// look has a batch ask for the standing, before the login: what changes between makes the claim one that no later login has. It
// returns nil where the login's backend must be its own.
func (k *keeper) look(batch *pgx.Batch, startup *pgwire.Startup) *standing {
	if k == nil || setsRole(startup) {
		return nil
	}
	s := &standing{keeper: k, startup: startup, asked: time.Now()}
	user, database := startup.Parameter("user"), startup.Parameter("database")
	if database == "" {
		database = user
	}
	batch.Queue(standingQuery, user, database).QueryRow(func(row pgx.Row) error {
		err := row.Scan(&s.text)
		s.found = err == nil
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		return err
	})
	return s
}

// ask is look at once.
func (k *keeper) ask(ctx context.Context, startup *pgwire.Startup) *standing {
	batch := &pgx.Batch{}
	s := k.look(batch, startup)
	if s == nil {
		return nil
	}
	if err := k.pool.SendBatch(ctx, batch).Close(); err != nil {
		k.log.Warn("look whether a client may have a kept backend; it gets one of its own", "user", startup.Parameter("user"), "error", err)
	}
	return s
}

// lasts reports whether a login may still be judged by the standing.
func (s *standing) lasts() bool { return s == nil || time.Since(s.asked) <= standingLasts }

// claim returns what a login claims that has proved something; zero where its backend must be its own.
func (s *standing) claim(proof string) (c claim) {
	if s == nil || !s.found {
		return c
	}
	sorted := slices.Clone(s.startup.Parameters) // some drivers send them in any order
	slices.SortStableFunc(sorted, func(p, q pgwire.Parameter) int { return strings.Compare(p.Name, q.Name) })
	text := pgwire.AppendStartup(nil, pgwire.Protocol30, sorted)
	return sha256.Sum256(fmt.Appendf(text, "%d %s%d %s", len(proof), proof, len(s.text), s.text))
}

// setsRole reports whether a session may begin in a role that DISCARD ALL would take back.
func setsRole(startup *pgwire.Startup) bool {
	return slices.ContainsFunc(startup.Parameters, func(p pgwire.Parameter) bool {
		switch name, value := strings.ToLower(p.Name), strings.ToLower(p.Value); name {
		case "role", "session_authorization":
			return true
		case "options":
			return strings.Contains(value, "role") || strings.Contains(value, "authorization")
		default:
			return false
		}
	})
}
