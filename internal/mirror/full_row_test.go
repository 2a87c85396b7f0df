package mirror_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// A row that is there already may be as full as a row can be when columns have to move.
func TestAFullRowMakesRoomForOverflow(t *testing.T) {
	t.Parallel()
	m := newMirrored(t)
	def := contacts()
	def.Properties = nil
	for i := range 1100 {
		def.Properties = append(def.Properties, mirror.PropertyDef{Name: fmt.Sprintf("p%04d", i), Type: "datetime"})
	}
	table := m.ensure(def)
	var wide *mirror.WideRowError
	for n := 970; !errors.As(m.store(t, table.Name, n), &wide); n++ {
		if n == len(table.Columns) {
			t.Fatalf("%d timestamps fit into a row", n)
		}
	}
	before := m.tableRows("contacts")
	if _, err := m.mapper.Narrow(t.Context(), m.pool, wide.Table); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, m.tableRows("contacts")); diff != "" {
		t.Errorf("values changed on the way: %.500s", diff)
	}
}

// store puts record 1 with the first n properties.
func (m *mirrored) store(t *testing.T, name string, n int) error {
	t.Helper()
	known, err := mirror.Load(t.Context(), m.pool, portal)
	if err != nil {
		t.Fatal(err)
	}
	table := known.Named(name)
	r := mirror.Row{ID: 1, UpdatedAt: at(n), Values: make([][]byte, len(table.Columns))}
	for i := range n {
		r.Values[i] = []byte("2026-01-02T03:04:05.678Z")
	}
	return pgx.BeginFunc(t.Context(), m.pool, func(tx pgx.Tx) error {
		_, err := m.applier.Upsert(t.Context(), tx, &mirror.Batch{
			Table: table, Columns: table.Readable(), ReadAt: at(n), Rows: []mirror.Row{r}, Source: changes.Follow,
		})
		return err
	})
}
