package materialize

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// ResyncReport tells what reading a table again has found.
type ResyncReport struct {
	Table   string
	Read    int64 // records, associations or entries that HubSpot has
	Changed int64 // rows that were not as HubSpot has them
	Took    time.Duration
}

// Resync reads everything that HubSpot has for a table again and stores it in the same table, then asks about each row that
// HubSpot did not list. Each page is a transaction: a reader sees every row all the time, as it was or as HubSpot has
// it. The lanes may go on meanwhile. Breaking off loses nothing; starting again starts from the beginning.
func Resync(ctx context.Context, cfg VerifyConfig, table string) (*ResyncReport, error) {
	report, err := resync(ctx, cfg, table)
	if err != nil {
		return nil, fmt.Errorf("resync %s: %w", table, err)
	}
	return report, nil
}

func resync(ctx context.Context, cfg VerifyConfig, table string) (*ResyncReport, error) {
	cfg.Tables, cfg.Repair = []string{table}, true
	v, cat, err := newVerifier(ctx, cfg)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	report := &ResyncReport{Table: table}
	switch pair := slices.IndexFunc(cat.Pairs, func(p *catalog.Pair) bool { return p.Name == table }); {
	case table == mirror.Merges:
		return nil, errors.New("merges are read with the records; resync the table of the records")
	case cat.Named(table) != nil:
		report.Read, err = v.resyncObject(ctx, cat.Named(table))
	case pair >= 0:
		report.Read, err = v.resyncPair(ctx, cat.Pairs[pair])
	case table == mirror.ListMemberships, table == mirror.FormSubmissions:
		r := &TableReport{}
		if err = v.lookup(ctx, cat, table, r); err == nil {
			err = v.mendDoubts(ctx)
		}
		report.Read = r.HubSpotRows
	default:
		report.Read, err = v.resyncLookup(ctx, cat, table)
	}
	report.Changed, report.Took = v.repair.changed, time.Since(began)
	return report, err
}

// resyncObject stores every page of the listing. Rows that claim to be newer than what the listing shows, and rows that
// it does not show, are read by id.
func (v *verifier) resyncObject(ctx context.Context, t *catalog.Table) (int64, error) {
	var live, open []int64
	after, large := "", false
	for {
		tg := newTarget(t, 0)
		fits := !large && v.Client.FitsURL(t.Path, tg.projection)
		options := hubapi.ListOptions{After: after, Limit: hubapi.MaxPage}
		if fits {
			options.Projection = tg.projection
		}
		page, err := v.Client.ListObjects(ctx, t.Path, options)
		if _, is := errors.AsType[*hubapi.TooLargeError](err); is && fits {
			large = true
			continue // from here on by id, in parts
		}
		if err != nil {
			return 0, err
		}
		ids := make([]int64, len(page.Records))
		for i := range page.Records {
			ids[i] = page.Records[i].ID
		}
		live = append(live, ids...)
		var refused []int64
		if !fits {
			refused = ids
		} else if refused, err = v.storePage(ctx, tg, page); errors.Is(err, mirror.ErrStaleCatalog) {
			refused = ids // by id, with the columns as they are now
		} else if _, wide := errors.AsType[*mirror.WideRowError](err); wide {
			refused = ids
		} else if err != nil {
			return 0, err
		}
		if t, err = v.repair.records(ctx, t, refused); err != nil {
			return 0, err
		}
		v.Progress(t.Name, int64(len(live)))
		if page.After == "" {
			break
		}
		if page.After == after {
			return 0, fmt.Errorf("list %s: the cursor %s repeats", t.Path, page.After)
		}
		after = page.After
	}
	slices.Sort(live)
	live = slices.Compact(live)
	o := &verifyObject{verifier: v, table: t, columns: t.Readable(), report: &TableReport{}}
	open, _, err := o.unlisted(ctx, live)
	if err != nil {
		return 0, err
	}
	if t, err = v.repair.records(ctx, t, open); err != nil {
		return 0, err
	}
	return int64(len(live)), v.repair.applier.Recount(ctx, v.Pool, t)
}

// storePage stores a page of the listing and returns the ids whose rows are newer.
func (v *verifier) storePage(ctx context.Context, t *target, page *hubapi.Page) (refused []int64, err error) {
	batch := t.batch(changes.Repair)
	batch.ReadAt = page.ReadAt
	for i := range page.Records {
		batch.Rows = append(batch.Rows, row(&page.Records[i]))
	}
	err = v.repair.apply(ctx, func(tx pgx.Tx) (mirror.Result, error) {
		res, err := v.repair.applier.Upsert(ctx, tx, batch)
		refused = res.Refused
		return res, err
	})
	return refused, err
}

func (v *verifier) resyncPair(ctx context.Context, p *catalog.Pair) (read int64, err error) {
	ids, err := v.ends(ctx, p)
	if err != nil {
		return 0, err
	}
	for chunk := range slices.Chunk(ids, hubapi.MaxAssociationInputs) {
		n, err := v.mendEdges(ctx, p, chunk)
		if err != nil {
			return read, err
		}
		read += n
		v.Progress(p.Name, read)
	}
	return read, nil
}

func (v *verifier) resyncLookup(ctx context.Context, cat *mirror.Catalog, name string) (read int64, err error) {
	scopes, err := v.scopes(ctx, name)
	if err != nil {
		return 0, err
	}
	for _, scope := range scopes {
		snapshot := &mirror.Snapshot{Schema: v.schema, Table: name, Scope: scope, ReadAt: time.Now(), Source: changes.Repair}
		if snapshot.Rows, err = v.lookupRows(ctx, cat, scope, name); err != nil {
			return read, err
		}
		if err := v.repair.apply(ctx, func(tx pgx.Tx) (mirror.Result, error) { return v.repair.applier.Replace(ctx, tx, snapshot) }); err != nil {
			return read, err
		}
		read += int64(len(snapshot.Rows))
	}
	return read, nil
}
