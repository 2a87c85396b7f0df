package mirror

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/catalog"
)

// Notify says what a transaction that adds to the change log rings besides the one wake-up.
type Notify uint8

// The choices of the setting notify.
const (
	NotifyRows Notify = iota // every change on all its channels, for clients connected straight to Postgres
	NotifyOff                // nothing: every listener comes through the proxy
)

// Config configures an [Applier].
type Config struct {
	PortalID int64 // the account whose tables are written
	Notify   Notify
}

// Applier stores what was read from HubSpot. See the package documentation for its guarantees.
type Applier struct {
	portal int64
	notify Notify
}

// NewApplier returns an Applier for one account.
func NewApplier(c Config) *Applier {
	return &Applier{portal: c.PortalID, notify: c.Notify}
}

// ErrStaleCatalog means that the table's columns have changed since the caller's catalog was loaded. Nothing was
// stored: roll back, load the catalog again, and read the page again with the new columns.
var ErrStaleCatalog = errors.New("the catalog is older than the table's columns")

// ErrUnknownTable means that the table is not in hubpg.objects: the mapper has not made it, or it was removed.
var ErrUnknownTable = errors.New("no such mirrored table")

// Result counts what one call did.
type Result struct {
	Inserted  int // rows that were not there
	Restored  int // of Inserted: records that had been deleted
	Updated   int // rows of which a kept column changed
	Unchanged int // rows that are as they were; their version may have moved
	Deleted   int // rows removed
	Stale     int // rows that lost against a newer version or a tombstone, or that a partial batch does not cover

	Refused []int64 // the ids counted in Stale
	Plain   []int64 // of Updated: only columns changed that users write, and none that HubSpot sets; not for quiet batches
	Doubted []int64 // records of A whose associations are to be asked for again, see AssociationBatch.Silent
	Events  int     // rows added to the change log
	LastSeq int64   // seq of the newest of them, 0 without events
}

// Lock takes the locks of tables (names within schema) in one fixed order. A transaction that will make more than one
// call locks all their tables first; otherwise two transactions could each wait for the other's table.
func (a *Applier) Lock(ctx context.Context, tx pgx.Tx, schema string, tables ...string) error {
	keys := make([]int64, 0, len(tables))
	for _, table := range tables {
		keys = append(keys, lockKey(schema, table))
	}
	slices.Sort(keys)
	if i, found := slices.BinarySearch(keys, lockKey(schema, Merges)); found { // which Upsert takes behind its table
		keys = append(slices.Delete(keys, i, i+1), lockKey(schema, Merges))
	}
	batch := &pgx.Batch{}
	batch.Queue(setLockTimeout, lockWait)
	for _, key := range slices.Compact(keys) {
		batch.Queue("select pg_advisory_xact_lock($1)", key)
	}
	batch.Queue(setLockTimeout, rowWait)
	if err := tx.SendBatch(ctx, batch).Close(); err != nil {
		return fmt.Errorf("lock tables of %s: %w", schema, err)
	}
	return nil
}

// setLockTimeout bounds, until the transaction ends or it is set again, how long its statements wait for a lock.
const setLockTimeout = "select set_config('lock_timeout', $1, true)"

// lockKey is the advisory lock of one mirrored table.
func lockKey(schema, table string) int64 {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte("hubpg table " + schema + "." + table)) // never fails
	return int64(hash.Sum64())
}

// enter queues what begins every call: the table's lock, and the settings that the rest relies on. Timestamps in the
// log are rendered in UTC whatever the role's time zone is.
func enter(b *pgx.Batch, schema, table string) {
	b.Queue(`
select set_config('`+applierSetting+`', 'on', true), set_config('lock_timeout', $2, true), pg_advisory_xact_lock($1),
       set_config('lock_timeout', $3, true), set_config('TimeZone', 'UTC', true), current_setting('transaction_isolation')`,
		lockKey(schema, table), lockWait, rowWait).QueryRow(func(row pgx.Row) error {
		var isolation string
		if err := row.Scan(nil, nil, nil, nil, nil, &isolation); err != nil {
			return err
		}
		if isolation != "read committed" {
			return fmt.Errorf("transaction is %s, must be read committed", isolation)
		}
		return nil
	})
}

func ident(parts ...string) string { return pgx.Identifier(parts).Sanitize() }

func tableIdent(t *catalog.Table) string { return ident(t.Schema, t.Name) }
