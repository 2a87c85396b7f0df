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
	Patience time.Duration // how long lanes that are waited for may stand still; 0 means 3 min
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
	Late        int64 // differed, were as HubSpot has them once the lanes had looked, and may have changed in HubSpot; no difference
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

	// Unexplained differences are none that HubSpot made: the lane had stored what HubSpot says already, or the change log tells
	// of another row than there was.
	Unexplained bool
	Healed      bool // unexplained, and as HubSpot has it since: a lane came by while Verify looked on
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
// read again from both sides before they are called different.
//
// What changes in HubSpot reaches a table by lanes of which some come by rarely, so that a difference may merely be late.
// HubSpot's own instants decide where it gives them: a record modified, archived or merged after the instant up to which
// the lane in charge has looked is pending, one before it is different. Of everything else nobody says since when it
// has been so (erased records, associations, members of lists, calculated values): there the lanes are asked to look, and
// what differs as before when they have looked at everything is different. When no process keeps the account there
// is nobody to wait for, and everything that differs is.
//
// A lane may heal a row while Verify looks on. It is different nevertheless where no change in HubSpot explains how it differed:
// HubSpot says of a lookup table what it said when the table was stored last, or the change log, which tells of every
// association since the first filling, tells of another row than there was. Where nothing proves it, the row counts as late.
//
// A table that cannot be compared has the reason in its report and does not stop the others. Verify changes nothing by itself
// unless it is told to repair.
func Verify(ctx context.Context, cfg VerifyConfig) (*Report, error) {
	v, cat, err := newVerifier(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	report := &Report{Began: time.Now()}
	for _, c := range v.comparisons(cat) {
		r := &TableReport{Table: c.table}
		if r.Err = c.compare(ctx, r); ctx.Err() != nil {
			return nil, fmt.Errorf("verify %s: %w", c.table, context.Cause(ctx))
		}
		v.noteRepaired(r)
		report.Tables = append(report.Tables, *r)
	}
	if err := v.decide(ctx, report); err != nil {
		return nil, fmt.Errorf("verify: %w", err)
	}
	report.Ended = time.Now()
	return report, nil
}

// comparison is what has to be done for one table.
type comparison struct {
	table   string
	compare func(ctx context.Context, r *TableReport) error
}

// comparisons lists what is to be compared.
func (v *verifier) comparisons(cat *mirror.Catalog) (list []comparison) {
	add := func(table string, compare func(ctx context.Context, r *TableReport) error) {
		if v.wanted(table) {
			list = append(list, comparison{table, compare})
		}
	}
	for _, t := range cat.Tables {
		add(t.Name, func(ctx context.Context, r *TableReport) error { return v.object(ctx, t, r) })
	}
	for _, p := range cat.Pairs {
		add(p.Name, func(ctx context.Context, r *TableReport) error { return v.pair(ctx, p, r) })
	}
	for _, l := range mirror.Lookups() {
		if slices.Contains(v.have, l.Name) {
			add(l.Name, func(ctx context.Context, r *TableReport) error { return v.lookup(ctx, cat, l.Name, r) })
		}
	}
	if slices.Contains(v.have, mirror.Merges) {
		add(mirror.Merges, func(ctx context.Context, r *TableReport) error { return v.merges(ctx, cat, r) })
	}
	return list
}

// noteRepaired adds what has been repaired since the last call to the table's report.
func (v *verifier) noteRepaired(r *TableReport) {
	if v.repair != nil {
		r.Repaired += v.repair.changed
		v.repair.changed = 0
	}
}

// newVerifier fills in what the configuration leaves open.
func newVerifier(ctx context.Context, cfg VerifyConfig) (*verifier, *mirror.Catalog, error) {
	if cfg.Pool == nil || cfg.Client == nil || cfg.PortalID == 0 {
		return nil, nil, errors.New("pool, client and portal id are required")
	}
	if cfg.Settle == 0 {
		cfg.Settle = defaultVerifySettle
	}
	if cfg.Patience == 0 {
		cfg.Patience = defaultVerifyPatience
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
	doubts []doubtful         // what waits for the lanes
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
func (v *verifier) settle(ctx context.Context) error { return v.pauseFor(ctx, v.Settle) }

func (v *verifier) pauseFor(ctx context.Context, d time.Duration) error {
	pause := time.NewTimer(d)
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
