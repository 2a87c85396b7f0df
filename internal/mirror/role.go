package mirror

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// The group roles that users are made members of.
const (
	ReaderRole = "hubspot_reader"
	WriterRole = "hubspot_writer"
)

// Roles tells what became of the group roles.
type Roles struct {
	Reader, Writer bool   // the role exists and has its grants
	Skipped        string // why not, with the next step; "" when both are there
}

// EnsureRoles makes the group roles where this role may (CREATEROLE), and grants: both may read the account's schema and
// the readable part of hubpg's own, present and future tables alike. Nothing is granted to PUBLIC. That the roles
// cannot be made is not an error: the tables work without them, and the report says what an administrator can do.
func (m *Mapper) EnsureRoles(ctx context.Context, db DB) (Roles, error) {
	var r Roles
	err := m.locked(ctx, db, "", func(tx pgx.Tx) error {
		r = Roles{}
		for _, role := range []struct {
			name string
			done *bool
		}{{ReaderRole, &r.Reader}, {WriterRole, &r.Writer}} {
			made, err := ensureRole(ctx, tx, role.name)
			if err != nil {
				return err
			}
			if !made {
				r.Skipped = fmt.Sprintf("role %s does not exist and this role may not create it; as an administrator: create role %s; create role %s",
					role.name, ReaderRole, WriterRole)
				continue
			}
			grants := grantSQL(m.c.Schema, role.name)
			if role.name == WriterRole {
				grants += writeSQL(m.c.Schema, role.name)
			}
			if err := script(ctx, tx, grants); err != nil {
				return err
			}
			*role.done = true
		}
		return nil
	})
	if err != nil {
		return r, fmt.Errorf("make group roles: %w", err)
	}
	return r, nil
}

// ensureRole makes a group role in a savepoint: two processes, also of different databases of one server, may try at
// once.
func ensureRole(ctx context.Context, tx pgx.Tx, name string) (bool, error) {
	var exists, may bool
	err := tx.QueryRow(ctx, `
select exists (select from pg_roles where rolname = $1),
       (select rolcreaterole or rolsuper from pg_roles where rolname = current_user)`, name).Scan(&exists, &may)
	if err != nil || exists || !may {
		return exists, err
	}
	err = pgx.BeginFunc(ctx, tx, func(point pgx.Tx) error {
		return script(ctx, point, "create role "+ident(name)+" nologin")
	})
	if pg, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch pg.Code {
		case "42710", "23505": // duplicate_object, unique_violation
			return true, nil
		case "42501": // insufficient_privilege
			return false, nil
		}
	}
	return err == nil, err
}

// writeSQL gives a group role the right to change tables, which the tables' triggers then hold to the way through HubSpot.
func writeSQL(schema, role string) string {
	s, r := ident(schema), ident(role)
	return fmt.Sprintf("grant insert, update, delete on all tables in schema %[1]s to %[2]s;\n"+
		"alter default privileges in schema %[1]s grant insert, update, delete on tables to %[2]s;\n", s, r)
}

// grantSQL gives a group role its reading rights.
func grantSQL(schema, role string) string {
	s, r := ident(schema), ident(role)
	var b strings.Builder
	fmt.Fprintf(&b, "grant usage on schema %s, hubpg to %s;\n", s, r)
	fmt.Fprintf(&b, "grant select on all tables in schema %s to %s;\n", s, r)
	fmt.Fprintf(&b, "alter default privileges in schema %s grant select on tables to %s;\n", s, r)
	// Of the identities of ids, which pg_dump reads.
	fmt.Fprintf(&b, "grant select on all sequences in schema %s to %s;\n", s, r)
	fmt.Fprintf(&b, "alter default privileges in schema %s grant select on sequences to %s;\n", s, r)
	for _, table := range []string{"accounts", "objects", "columns", "changes", "change_counter"} {
		fmt.Fprintf(&b, "grant select on hubpg.%s to %s;\n", table, r)
	}
	for _, view := range []string{"status", "quota", "calls"} {
		fmt.Fprintf(&b, "do $$ begin if to_regclass('hubpg.%[1]s') is not null then grant select on hubpg.%[1]s to %[2]s; end if; end $$;\n", view, r)
	}
	return b.String()
}
