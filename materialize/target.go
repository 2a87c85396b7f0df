package materialize

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// phaseLive is the phase of a table that is complete.
const phaseLive = "live"

// target is an object table as a lane reads and writes it.
type target struct {
	table      *catalog.Table
	columns    []catalog.Column // those that HubSpot can be asked for; values of records are aligned with them
	projection *hubapi.Projection
	number     uint8 // of the table, in keys of seen
}

func newTarget(t *catalog.Table, number uint8) *target {
	tg := &target{table: t, columns: t.Readable(), number: number}
	tg.projection = projection(tg.columns)
	return tg
}

func projection(columns []catalog.Column) *hubapi.Projection {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Property
	}
	return hubapi.NewProjection(names)
}

func (t *target) name() string { return t.table.Name }

func (t *target) ident() string { return pgx.Identifier{t.table.Schema, t.table.Name}.Sanitize() }

// batch begins a batch for all columns of the table.
func (t *target) batch(source changes.Source) *mirror.Batch {
	return &mirror.Batch{Table: t.table, Columns: t.columns, Source: source}
}

// row is a record as the applier takes it. It shares the record's memory.
func row(r *hubapi.Record) mirror.Row {
	return mirror.Row{ID: r.ID, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, Values: r.Values}
}

// tables is this process's copy of the catalog. It may be old: the applier refuses to store with columns that are not
// the table's, and then the copy is made again.
type tables struct {
	mu      sync.Mutex // guards below
	catalog *mirror.Catalog
	targets map[string]*target
	numbers map[string]uint8
	loaded  time.Time
}

// catalogAge is how old the copy of the catalog may grow. Storing with an old copy is refused anyway; age matters only
// for tables and association tables that another process has added.
const catalogAge = 30 * time.Second

func newTables() *tables { return &tables{numbers: map[string]uint8{}} }

// forget makes the next use load the catalog again.
func (c *tables) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.catalog = nil
}

func (e *Engine) catalog(ctx context.Context) (*mirror.Catalog, error) {
	e.tables.mu.Lock()
	defer e.tables.mu.Unlock()
	if err := e.loadCatalog(ctx); err != nil {
		return nil, err
	}
	return e.tables.catalog, nil
}

// loadCatalog makes sure that the copy is there and young. The caller holds the lock.
func (e *Engine) loadCatalog(ctx context.Context) error {
	c := e.tables
	if c.catalog != nil && time.Since(c.loaded) < catalogAge {
		return nil
	}
	loaded, err := e.mapper.Load(ctx, e.cfg.Pool)
	if err != nil {
		return err
	}
	c.catalog, c.targets, c.loaded = loaded, map[string]*target{}, time.Now()
	return nil
}

// target returns the object table of the lane.
func (s *step) target(ctx context.Context) (*target, error) { return s.e.target(ctx, s.args.Table) }

func (e *Engine) target(ctx context.Context, name string) (*target, error) {
	c := e.tables
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := e.loadCatalog(ctx); err != nil {
		return nil, err
	}
	if t, ok := c.targets[name]; ok {
		return t, nil
	}
	table := c.catalog.Named(name)
	if table == nil { // another process may have just made it
		c.catalog = nil
		if err := e.loadCatalog(ctx); err != nil {
			return nil, err
		}
		table = c.catalog.Named(name)
	}
	if table == nil {
		return nil, fmt.Errorf("table %s is not in the catalog", name)
	}
	number, ok := c.numbers[name]
	if !ok {
		number = uint8(len(c.numbers) % 255)
		c.numbers[name] = number
	}
	t := newTarget(table, number)
	c.targets[name] = t
	return t, nil
}

// liveTarget returns the object table of the lane once it has been filled, nil before that. The lanes of a table that is gone
// end; they are started anew if it comes back.
func (s *step) liveTarget(ctx context.Context) (*target, error) {
	var filled, gone bool
	err := s.e.cfg.Pool.QueryRow(ctx, `
select backfill_done_at is not null, phase = 'gone'
from hubpg.objects
where portal_id = $1 and table_name = $2`, s.args.Portal, s.args.Table).Scan(&filled, &gone)
	if gone || errors.Is(err, pgx.ErrNoRows) {
		return nil, errEnded
	}
	if err != nil {
		return nil, fmt.Errorf("read phase of %s: %w", s.args.Table, err)
	}
	if !filled {
		return nil, nil
	}
	return s.target(ctx)
}
