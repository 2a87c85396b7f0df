package mirror_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// benchRows is how many contacts a benchmark stores; enough to make the table's own costs visible.
const benchRows = 20_000

// bar is the least ratio of the applier's speed to a plain COPY's.
const bar = 0.35

// wideContacts is a contacts type with 60 properties in the mix of kinds that a real account has.
func wideContacts() *mirror.ObjectDef {
	def := contacts()
	def.Properties = nil
	for i := range 60 {
		p := mirror.PropertyDef{Name: fmt.Sprintf("property_%02d", i), Type: "string", FieldType: "text"}
		switch i % 10 {
		case 0, 1:
			p.Type, p.FieldType = "number", "number"
		case 2, 3:
			p.Type, p.FieldType = "datetime", "date"
		case 4:
			p.Type, p.FieldType = "bool", "booleancheckbox"
		case 5:
			p.Type, p.FieldType = "enumeration", "select"
		case 6:
			p.Type, p.FieldType = "enumeration", "checkbox"
		}
		if i == 59 {
			p.Type, p.FieldType = "date", "date"
		}
		def.Properties = append(def.Properties, p)
	}
	return def
}

// wideRows makes contacts of which about half of the values are set.
func wideRows(t *catalog.Table, n int) []mirror.Row {
	r := rand.New(rand.NewPCG(1, 2))
	rows := make([]mirror.Row, n)
	for i := range rows {
		rows[i] = mirror.Row{ID: int64(100_000_000 + i*3), CreatedAt: base(), UpdatedAt: at(i)}
		for _, c := range t.Readable() {
			var v []byte
			if r.IntN(2) == 0 {
				v = value(r, c.Kind)
			}
			rows[i].Values = append(rows[i].Values, v)
		}
	}
	return rows
}

func value(r *rand.Rand, k catalog.Kind) []byte {
	switch k {
	case catalog.Numeric:
		return strconv.AppendInt(nil, r.Int64N(1e9), 10)
	case catalog.Bool:
		return []byte("true")
	case catalog.Date:
		return at(r.IntN(1e9)).AppendFormat(nil, time.DateOnly)
	case catalog.Timestamp:
		return at(r.IntN(1e9)).AppendFormat(nil, "2006-01-02T15:04:05.000Z")
	case catalog.TextArray:
		return []byte("one;two;three")
	case catalog.Text:
	}
	return []byte(strings.Repeat("lorem ipsum ", 1+r.IntN(3)))
}

// BenchmarkApplierAgainstCopy stores fresh rows page by page, a transaction each, and compares with one COPY of the
// same rows, rendered beforehand, into a table without an index. The bar is a ratio of 0.35. Pages of 100 are near it
// on a busy machine, so only the larger ones, which the backfill makes when the database is what it waits for, fail.
func BenchmarkApplierAgainstCopy(b *testing.B) {
	for _, page := range []int{100, 500, 2000} {
		b.Run(fmt.Sprintf("page=%d", page), func(b *testing.B) {
			var plain, applied time.Duration
			for b.Loop() {
				m := newMirrored(b)
				table := m.ensure(wideContacts())
				rows := wideRows(table, benchRows)
				applied += m.applyAll(b, table, rows, page)
				plain += m.copyAll(b, table)
			}
			perSecond := func(d time.Duration) float64 { return float64(benchRows) * float64(b.N) / d.Seconds() }
			b.ReportMetric(perSecond(applied), "rows/s")
			b.ReportMetric(perSecond(plain), "copy-rows/s")
			ratio := plain.Seconds() / applied.Seconds()
			b.ReportMetric(ratio, "ratio")
			if page > 100 && ratio < bar {
				b.Errorf("ratio is %.2f, must be %.2f", ratio, bar)
			}
		})
	}
}

func (m *mirrored) applyAll(b *testing.B, table *catalog.Table, rows []mirror.Row, page int) time.Duration {
	ctx := b.Context()
	conn, err := m.pool.Acquire(ctx)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Release()
	began := time.Now()
	for len(rows) > 0 {
		n := min(page, len(rows))
		err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			res, err := m.applier.Upsert(ctx, tx, &mirror.Batch{
				Table: table, Columns: table.Readable(), Rows: rows[:n],
				ReadAt: at(1_000_000), Source: changes.Backfill, Quiet: true,
			})
			if err == nil && res.Inserted != n {
				err = fmt.Errorf("stored %+v", res)
			}
			return err
		})
		if err != nil {
			b.Fatal(err)
		}
		rows = rows[n:]
	}
	return time.Since(began)
}

// copyAll copies the mirrored table, as text, into one of the same columns without an index.
func (m *mirrored) copyAll(b *testing.B, table *catalog.Table) time.Duration {
	ctx := b.Context()
	conn, err := m.pool.Acquire(ctx)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Release()
	if _, err := conn.Exec(ctx, "create table plain as select * from hubspot."+table.Name+" limit 0"); err != nil {
		b.Fatal(err)
	}
	var text bytes.Buffer
	if _, err := conn.Conn().PgConn().CopyTo(ctx, &text, "copy hubspot."+table.Name+" to stdout"); err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	tag, err := conn.Conn().PgConn().CopyFrom(ctx, io.Reader(&text), "copy plain from stdin")
	if err != nil || tag.RowsAffected() != benchRows {
		b.Fatal(tag, err)
	}
	return time.Since(began)
}
