package status

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
)

// Feed is a way in which HubSpot tells of changes by itself.
type Feed struct {
	Schema      string     `json:"schema"`
	Name        string     `json:"feed"`  // webhook or journal
	State       string     `json:"state"` // live, healing, failing or off
	Events      int64      `json:"events"`
	Ignored     int64      `json:"ignored"` // of them, those about nothing that has a table
	Waiting     int64      `json:"waiting"` // records that were named and have not been read yet
	LastEventAt *time.Time `json:"last_event_at,omitempty"`
	HeardAt     *time.Time `json:"heard_at,omitempty"`
	Lag         float64    `json:"lag_seconds"` // how late what HubSpot tells is read
	Error       string     `json:"error,omitempty"`
	Hint        string     `json:"hint,omitempty"`
	ErrorAt     *time.Time `json:"error_at,omitempty"`
}

// ReadFeeds reads hubpg.feeds. It returns [ErrNoSchema] where hubpg has never run.
func ReadFeeds(ctx context.Context, q Querier) ([]Feed, error) {
	rows, err := q.Query(ctx, `
select schema_name, feed, state, events, ignored, waiting, last_event_at, heard_at, extract(epoch from lag)::float8,
       coalesce(last_error, ''), coalesce(hint, ''), error_at
from hubpg.feeds
order by schema_name, feed`)
	if err != nil {
		return nil, readError(err)
	}
	feeds, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f Feed, err error) {
		err = row.Scan(&f.Schema, &f.Name, &f.State, &f.Events, &f.Ignored, &f.Waiting, &f.LastEventAt, &f.HeardAt, &f.Lag,
			&f.Error, &f.Hint, &f.ErrorAt)
		return f, err
	})
	if err != nil {
		return nil, readError(err)
	}
	return feeds, nil
}

// LagSpan is Lag as the page renders it.
func (f Feed) LagSpan() *float64 { return &f.Lag }

// writeFeeds prints what HubSpot tells by itself, nothing where it tells nothing.
func (r *Report) writeFeeds(w io.Writer) error {
	for _, f := range r.Feeds {
		heard := "nothing heard yet"
		if f.HeardAt != nil {
			heard = "last heard " + f.HeardAt.UTC().Format(time.RFC3339)
		}
		_, err := fmt.Fprintf(w, "%s %s: %s, %d events, %s, %d records waiting, lag %s\n",
			f.Schema, f.Name, f.State, f.Events, heard, f.Waiting, span(f.LagSpan()))
		if err == nil && f.Error != "" {
			_, err = fmt.Fprintf(w, "%s %s: %s\n", f.Schema, f.Name, oneLine(f.Error))
		}
		if err == nil && f.Hint != "" {
			_, err = fmt.Fprintf(w, "%s %s: %s\n", f.Schema, f.Name, f.Hint)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
