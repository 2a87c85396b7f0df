package mirror_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"hubpg/internal/catalog"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
	"hubpg/internal/pgtest"
	"hubpg/migrations"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const portal = 4711

// base is the time from which tests count milliseconds.
func base() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) }

func at(ms int) time.Time { return base().Add(time.Duration(ms) * time.Millisecond) }

// mirrored is a fresh database with the account registered.
type mirrored struct {
	t       testing.TB
	db      *pgtest.DB
	pool    *pgxpool.Pool
	mapper  *mirror.Mapper
	applier *mirror.Applier
}

func newMirrored(t testing.TB) *mirrored {
	t.Helper()
	db := pgtest.Migrated(t, migrations.Up)
	m := &mirrored{
		t:       t,
		db:      db,
		pool:    db.Pool(t),
		mapper:  mirror.NewMapper(mirror.MapperConfig{PortalID: portal}),
		applier: mirror.NewApplier(mirror.Config{PortalID: portal}),
	}
	if err := m.mapper.EnsureAccount(m.t.Context(), m.pool); err != nil {
		t.Fatal(err)
	}
	return m
}

// contacts defines a small contacts type with one property of every kind.
func contacts() *mirror.ObjectDef {
	return &mirror.ObjectDef{
		ObjectType: "0-1", Name: "contacts", Singular: "contact", Path: "contacts", ModifiedProperty: "lastmodifieddate",
		Properties: []mirror.PropertyDef{
			{Name: "email", Type: "string", FieldType: "text", Label: "Email"},
			{Name: "score", Type: "number", FieldType: "number", Label: "Score", Description: "How hot's this lead \\ really"},
			{Name: "optout", Type: "bool", FieldType: "booleancheckbox", Label: "Opted out"},
			{Name: "birthday", Type: "date", FieldType: "date", Label: "Birthday"},
			{Name: "seen", Type: "datetime", FieldType: "date", Label: "Last seen"},
			{Name: "tags", Type: "enumeration", FieldType: "checkbox", Label: "Tags"},
		},
	}
}

func companies() *mirror.ObjectDef {
	return &mirror.ObjectDef{
		ObjectType: "0-2", Name: "companies", Singular: "company", Path: "companies",
		ModifiedProperty: "hs_lastmodifieddate", Properties: []mirror.PropertyDef{{Name: "name", Type: "string", FieldType: "text"}},
	}
}

func (m *mirrored) ensure(def *mirror.ObjectDef) *catalog.Table {
	m.t.Helper()
	t, _, err := m.mapper.EnsureObject(m.t.Context(), m.pool, def)
	if err != nil {
		m.t.Fatal(err)
	}
	return t
}

// in runs work in a transaction that commits.
func (m *mirrored) in(work func(tx pgx.Tx) (mirror.Result, error)) mirror.Result {
	m.t.Helper()
	var res mirror.Result
	err := pgx.BeginFunc(m.t.Context(), m.pool, func(tx pgx.Tx) (err error) {
		res, err = work(tx)
		return err
	})
	if err != nil {
		m.t.Fatal(err)
	}
	return res
}

// put stores rows with all readable columns.
func (m *mirrored) put(t *catalog.Table, readAt time.Time, rows ...mirror.Row) mirror.Result {
	m.t.Helper()
	return m.in(func(tx pgx.Tx) (mirror.Result, error) {
		return m.applier.Upsert(m.t.Context(), tx, &mirror.Batch{
			Table: t, Columns: t.Readable(), Rows: rows, ReadAt: readAt,
			Source: changes.Follow,
		})
	})
}

func (m *mirrored) remove(t *catalog.Table, readAt time.Time, ids ...int64) mirror.Result {
	m.t.Helper()
	return m.in(func(tx pgx.Tx) (mirror.Result, error) {
		return m.applier.Delete(m.t.Context(), tx, t, ids, readAt, changes.Delete, changes.Sweep)
	})
}

// scan reads one row.
func (m *mirrored) scan(sql string, into ...any) {
	m.t.Helper()
	if err := m.pool.QueryRow(m.t.Context(), sql).Scan(into...); err != nil {
		m.t.Fatalf("%s: %v", sql, err)
	}
}

// text reads one value as text.
func (m *mirrored) text(sql string) string {
	m.t.Helper()
	var s string
	m.scan("select coalesce(("+sql+")::text, '<null>')", &s)
	return s
}

// log reads the change log after seq.
func (m *mirrored) log(after int64) []changes.Change {
	m.t.Helper()
	list, err := changes.Read(context.WithoutCancel(m.t.Context()), m.pool, after, 100_000)
	if err != nil {
		m.t.Fatal(err)
	}
	return list
}

func row(id int64, updated time.Time, values ...any) mirror.Row {
	r := mirror.Row{ID: id, CreatedAt: base(), UpdatedAt: updated}
	for _, v := range values {
		switch v := v.(type) {
		case nil:
			r.Values = append(r.Values, nil)
		case string:
			r.Values = append(r.Values, append([]byte{}, v...))
		default:
			panic(fmt.Sprintf("value of type %T", v))
		}
	}
	return r
}
