package materialize

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"hubpg/hubapi"
	"hubpg/internal/mirror"
)

const (
	// verifyRounds is how often rows that seem to differ are read again. A row that is equal in one of them is equal.
	verifyRounds = 3
	// defaultVerifySettle is the pause before each of those rounds.
	defaultVerifySettle = 2 * time.Second
	// defaultVerifyKeep is how many differences per table are kept to be shown; all are counted.
	defaultVerifyKeep = 100
)

// VerifyConfig says what to compare. Pool, Client and PortalID are required.
type VerifyConfig struct {
	Pool     *pgxpool.Pool
	Client   *hubapi.Client
	PortalID int64
	Tables   []string      // names; empty for all
	Settle   time.Duration // pause before rows that differ are read again; 0 means 2 s
	Keep     int           // differences per table to keep in the report; 0 means 100

	// Sample compares the values of so many records per table, chosen at random, instead of all; ids are compared
	// completely in any case. 0 means all.
	Sample int
	// Repair stores what HubSpot says where it differs. RowNotify is as in [Config].
	Repair, RowNotify bool

	// Progress, when set, is called as the comparison of a table goes on, with the rows compared so far.
	Progress func(table string, rows int64)
}

// Report is the outcome of a comparison.
type Report struct {
	Began, Ended time.Time
	Tables       []TableReport // object tables, then association tables, then lookups
}

// Equal reports whether every table was compared and none differs.
func (r *Report) Equal() bool {
	for i := range r.Tables {
		if t := &r.Tables[i]; t.Err != nil || t.Missing+t.Extra+t.Different > 0 {
			return false
		}
	}
	return true
}

// TableReport is the outcome for one table.
type TableReport struct {
	Table       string
	HubSpotRows int64
	StoredRows  int64
	Missing     int64 // HubSpot has them, the table does not
	Extra       int64 // the table has them, HubSpot does not
	Different   int64 // both have them, with other values
	Pending     int64 // changed in HubSpot so lately that the table does not claim to have them yet; no difference
	Repaired    int64 // rows that are as HubSpot has them since
	Differences []Difference
	Err         error // why the table could not be compared to the end; everything else is then unknown
}

// DifferenceKind says in what way a row differs.
type DifferenceKind string

// The ways in which a row can differ.
const (
	RowMissing  DifferenceKind = "missing"
	RowExtra    DifferenceKind = "extra"
	ValueDiffer DifferenceKind = "value"
)

// Difference is one row, or one value of a row, that is not as HubSpot has it.
type Difference struct {
	Kind       DifferenceKind
	ID         int64  // of associations: the record of the first column
	Column     string // of values only
	HubSpot    string // JSON
	Stored     string // JSON
	Calculated bool   // HubSpot computes the value, and may have done so again without the record being modified
}

// add counts a row's differences and keeps them while there is room.
func (t *TableReport) add(keep int, list ...Difference) {
	for i, d := range list {
		switch {
		case d.Kind == RowMissing:
			t.Missing++
		case d.Kind == RowExtra:
			t.Extra++
		case i == 0:
			t.Different++
		}
		if len(t.Differences) < keep {
			t.Differences = append(t.Differences, d)
		}
	}
}

// Verify compares tables with HubSpot: which rows there are, and every value of every row. Rows that seem to differ are
// read again from both sides before they are called different, and a row that changed in HubSpot after the instant up
// to which its table is verified is pending, not different. A table that cannot be compared has the reason in its
// report and does not stop the others. Verify changes nothing
// unless it is told to repair.
func Verify(ctx context.Context, cfg VerifyConfig) (*Report, error) {
	v, cat, err := newVerifier(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	report := &Report{Began: time.Now()}
	record := func(t *TableReport, err error) error {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		t.Err = err
		if v.repair != nil {
			t.Repaired, v.repair.changed = v.repair.changed, 0
		}
		report.Tables = append(report.Tables, *t)
		return nil
	}
	for _, t := range cat.Tables {
		if v.wanted(t.Name) {
			r := &TableReport{Table: t.Name}
			if err := record(r, v.object(ctx, t, r)); err != nil {
				return nil, fmt.Errorf("verify %s: %w", t.Name, err)
			}
		}
	}
	for _, p := range cat.Pairs {
		if v.wanted(p.Name) {
			r := &TableReport{Table: p.Name}
			if err := record(r, v.pair(ctx, p, r)); err != nil {
				return nil, fmt.Errorf("verify %s: %w", p.Name, err)
			}
		}
	}
	for _, l := range mirror.Lookups() {
		if v.wanted(l.Name) && slices.Contains(v.have, l.Name) {
			r := &TableReport{Table: l.Name}
			if err := record(r, v.lookup(ctx, cat, l.Name, r)); err != nil {
				return nil, fmt.Errorf("verify %s: %w", l.Name, err)
			}
		}
	}
	if v.wanted(mirror.Merges) && slices.Contains(v.have, mirror.Merges) {
		r := &TableReport{Table: mirror.Merges}
		if err := record(r, v.merges(ctx, cat, r)); err != nil {
			return nil, fmt.Errorf("verify %s: %w", mirror.Merges, err)
		}
	}
	report.Ended = time.Now()
	return report, nil
}

// newVerifier fills in what the configuration leaves open.
func newVerifier(ctx context.Context, cfg VerifyConfig) (*verifier, *mirror.Catalog, error) {
	if cfg.Pool == nil || cfg.Client == nil || cfg.PortalID == 0 {
		return nil, nil, errors.New("pool, client and portal id are required")
	}
	if cfg.Settle == 0 {
		cfg.Settle = defaultVerifySettle
	}
	if cfg.Keep == 0 {
		cfg.Keep = defaultVerifyKeep
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string, int64) {}
	}
	cat, err := mirror.Load(ctx, cfg.Pool, cfg.PortalID)
	if err != nil {
		return nil, nil, err
	}
	v := &verifier{VerifyConfig: cfg, live: map[string][]int64{}}
	if err := v.names(ctx); err != nil {
		return nil, nil, err
	}
	if cfg.Repair {
		if v.repair, err = newRepairs(ctx, &cfg, v.schema); err != nil {
			return nil, nil, err
		}
	}
	return v, cat, nil
}

// verifier is one run of Verify.
type verifier struct {
	VerifyConfig
	schema string
	have   []string           // all tables that are mirrored
	live   map[string][]int64 // ids that HubSpot has, by table, in ascending order
	repair *repairs           // nil when nothing is to be changed
}

func (v *verifier) wanted(table string) bool {
	return len(v.Tables) == 0 || slices.Contains(v.Tables, table)
}

// names learns the account's schema and refuses tables that are not there.
func (v *verifier) names(ctx context.Context) error {
	if err := v.Pool.QueryRow(ctx, "select schema_name from hubpg.accounts where portal_id = $1", v.PortalID).Scan(&v.schema); err != nil {
		return fmt.Errorf("look for account %d: %w", v.PortalID, err)
	}
	rows, err := v.Pool.Query(ctx, "select table_name from hubpg.objects where portal_id = $1", v.PortalID)
	if err != nil {
		return fmt.Errorf("list tables: %w", err)
	}
	if v.have, err = pgx.CollectRows(rows, pgx.RowTo[string]); err != nil {
		return fmt.Errorf("list tables: %w", err)
	}
	for _, name := range v.Tables {
		if !slices.Contains(v.have, name) {
			return &UnknownTableError{Name: name}
		}
	}
	return nil
}

// UnknownTableError means that hubpg keeps no table of this name.
type UnknownTableError struct{ Name string }

// Error names the table.
func (e *UnknownTableError) Error() string { return "table " + e.Name + " is not mirrored" }

// Hint is what to do about it.
func (e *UnknownTableError) Hint() string { return "hubpg status lists the tables that are" }

// settle waits before rows are read again.
func (v *verifier) settle(ctx context.Context) error {
	pause := time.NewTimer(v.Settle)
	defer pause.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-pause.C:
		return nil
	}
}

// inSnapshot runs work in a transaction that sees one state of the database and renders times in UTC.
func (v *verifier) inSnapshot(ctx context.Context, work func(tx pgx.Tx) error) error {
	options := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	return pgx.BeginTxFunc(ctx, v.Pool, options, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select set_config('TimeZone', 'UTC', true)"); err != nil {
			return err
		}
		return work(tx)
	})
}
