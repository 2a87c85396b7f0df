package mirror

import (
	"fmt"
	"slices"
	"time"

	"hubpg/internal/catalog"
	"hubpg/internal/changes"
)

// Row is one record as HubSpot gave it.
type Row struct {
	ID        int64
	CreatedAt time.Time
	UpdatedAt time.Time
	Values    [][]byte // one per column of the batch; nil: never set; empty: cleared. Both are stored as NULL
}

// Batch is a number of records of one type, all read by one request.
type Batch struct {
	Table   *catalog.Table
	Columns []catalog.Column // asked for; columns not listed are left as they are
	Rows    []Row
	ReadAt  time.Time // just before the request was sent
	Source  changes.Source
	Quiet   bool // store without adding to the change log

	// Force lets the batch win over rows that claim a later version but were read before it. It is for records that were
	// read by id to repair what is stored; a listing may be late.
	Force bool
}

// check refuses what a caller must not send.
func (b *Batch) check() error {
	if b.ReadAt.IsZero() {
		return fmt.Errorf("batch of %s has no read time", b.Table.Name)
	}
	seen := make(map[string]bool, len(b.Columns))
	for _, c := range b.Columns {
		if seen[c.Name] {
			return fmt.Errorf("batch of %s names column %s twice", b.Table.Name, c.Name)
		}
		seen[c.Name] = true
	}
	for i := range b.Rows {
		if len(b.Rows[i].Values) != len(b.Columns) {
			return fmt.Errorf("record %d of %s has %d values for %d columns",
				b.Rows[i].ID, b.Table.Name, len(b.Rows[i].Values), len(b.Columns))
		}
	}
	return nil
}

// whole reports whether the batch asked for every column that can be read.
func (b *Batch) whole() bool {
	asked := make(map[string]bool, len(b.Columns))
	for _, c := range b.Columns {
		asked[c.Property] = true
	}
	for i := range b.Table.Columns {
		if c := &b.Table.Columns[i]; !c.Archived && !asked[c.Property] {
			return false
		}
	}
	return true
}

// unique returns the rows with each id once, the newest version of it, in the order of ids.
func (b *Batch) unique() []*Row {
	rows := make([]*Row, len(b.Rows))
	sorted := true
	for i := range b.Rows {
		rows[i] = &b.Rows[i]
		sorted = sorted && (i == 0 || rows[i-1].ID < rows[i].ID)
	}
	if sorted {
		return rows
	}
	slices.SortStableFunc(rows, func(x, y *Row) int {
		if x.ID != y.ID {
			if x.ID < y.ID {
				return -1
			}
			return 1
		}
		return y.UpdatedAt.Compare(x.UpdatedAt) // newest first, which Compact keeps
	})
	return slices.CompactFunc(rows, func(x, y *Row) bool { return x.ID == y.ID })
}

// version is what decides between two states of one record.
type version struct {
	updated time.Time
	read    time.Time
}

func (v version) newerThan(w version) bool {
	if c := v.updated.Compare(w.updated); c != 0 {
		return c > 0
	}
	return v.read.After(w.read)
}

// stored rounds an instant to what timestamptz holds.
func stored(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }
