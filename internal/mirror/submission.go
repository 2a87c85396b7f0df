package mirror

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/changes"
)

// FormSubmission is a row of form_submissions without its form. Submissions never change; two of one millisecond with
// the same content are one row, because nothing that HubSpot says tells them apart.
type FormSubmission struct {
	SubmittedAt time.Time
	Fields      json.RawMessage
	PageURL     string
}

// Digest is what tells the submission from others of its form and millisecond.
func (s *FormSubmission) Digest() string {
	hash := sha256.New()
	_, _ = hash.Write(withoutNUL(s.Fields)) // never fails
	_, _ = hash.Write([]byte{0})
	_, _ = hash.Write([]byte(s.PageURL))
	return hex.EncodeToString(hash.Sum(nil)[:16])
}

// SubmissionBatch is a number of submissions to one form, read by one request.
type SubmissionBatch struct {
	Schema string
	FormID string
	Rows   []FormSubmission
	ReadAt time.Time
	Mark   bool // note that the rows were shown, for [Applier.Withdraw]
	Source changes.Source
	Quiet  bool
}

// Submit stores the submissions that are not in the table yet.
func (a *Applier) Submit(ctx context.Context, tx pgx.Tx, b *SubmissionBatch) (Result, error) {
	var res Result
	if b.ReadAt.IsZero() {
		return res, errors.New("store submissions: no read time")
	}
	if len(b.Rows) == 0 {
		return res, nil
	}
	if err := enterNow(ctx, tx, b.Schema, FormSubmissions); err != nil {
		return res, fmt.Errorf("store submissions: %w", err)
	}
	n := len(b.Rows)
	at, digests, fields, pages := make([]time.Time, n), make([]string, n), make([]string, n), make([]*string, n)
	for i := range b.Rows {
		r := &b.Rows[i]
		at[i], digests[i], fields[i] = stored(r.SubmittedAt), r.Digest(), string(withoutNUL(r.Fields))
		if len(r.Fields) == 0 {
			fields[i] = "null"
		}
		if page := strings.ToValidUTF8(strings.ReplaceAll(r.PageURL, "\x00", ""), ""); page != "" {
			pages[i] = &page
		}
	}
	conflict := "do nothing"
	if b.Mark {
		conflict = "do update set _read_at = greatest(t._read_at, excluded._read_at)"
	}
	found, err := tx.Query(ctx, `
with incoming as (
  select distinct on (submitted_at, digest) *
  from unnest($2::timestamptz[], $3::text[], $4::text[], $5::text[]) as u (submitted_at, digest, fields, page_url)
), fresh as materialized (
  select n.submitted_at, n.digest
  from incoming n
  where not exists (select from `+ident(b.Schema, FormSubmissions)+` o
                    where o.form_id = $1 and o.submitted_at = n.submitted_at and o.digest = n.digest)
), put as (
  insert into `+ident(b.Schema, FormSubmissions)+` as t (form_id, submitted_at, digest, fields, page_url, _read_at)
  select $1, submitted_at, digest, nullif(fields::jsonb, 'null'), page_url, $6
  from incoming
  on conflict (form_id, submitted_at, digest) `+conflict+`
  returning t.*
)
select `+submissionJSON+`
from put t
join fresh f using (submitted_at, digest)
order by t.submitted_at, t.digest`, b.FormID, at, digests, fields, pages, stored(b.ReadAt))
	if err != nil {
		return res, fmt.Errorf("store submissions: %w", err)
	}
	events, err := submissionEvents(found, b.Schema, changes.Insert, b.Source)
	if err != nil {
		return res, fmt.Errorf("store submissions: %w", err)
	}
	res.Inserted, res.Unchanged = len(events), n-len(events)
	if b.Quiet {
		events = nil
	}
	return res, a.finish(ctx, tx, FormSubmissions, res.Inserted, events, &res)
}

// submissionJSON renders a row of form_submissions (under alias t) as the log shows it.
const submissionJSON = "jsonb_strip_nulls(to_jsonb(t) - '_read_at')"

// withdrawn bounds how many rows one call of Withdraw removes.
const withdrawn = 1000

// Withdraw removes submissions to a form that no pass has shown since the given instant, at most a thousand at a time; it
// is to be called until it removes none.
func (a *Applier) Withdraw(ctx context.Context, tx pgx.Tx, schema, formID string, since time.Time, source changes.Source, quiet bool,
) (Result, error) {
	var res Result
	if err := enterNow(ctx, tx, schema, FormSubmissions); err != nil {
		return res, fmt.Errorf("withdraw submissions: %w", err)
	}
	found, err := tx.Query(ctx, `
with gone as (
  delete from `+ident(schema, FormSubmissions)+`
  where ctid = any (array(
    select ctid from `+ident(schema, FormSubmissions)+` where form_id = $1 and _read_at < $2 limit $3))
  returning *
)
select `+submissionJSON+`
from gone t
order by submitted_at, digest`, formID, stored(since), withdrawn)
	if err != nil {
		return res, fmt.Errorf("withdraw submissions: %w", err)
	}
	events, err := submissionEvents(found, schema, changes.Delete, source)
	if err != nil {
		return res, fmt.Errorf("withdraw submissions: %w", err)
	}
	res.Deleted = len(events)
	if quiet {
		events = nil
	}
	return res, a.finish(ctx, tx, FormSubmissions, -res.Deleted, events, &res)
}

func submissionEvents(found pgx.Rows, schema string, op changes.Op, source changes.Source) ([]changes.Change, error) {
	return pgx.CollectRows(found, func(row pgx.CollectableRow) (changes.Change, error) {
		c := changes.Change{Schema: schema, Table: FormSubmissions, Op: op, Source: source}
		into := &c.After
		if op == changes.Delete {
			into = &c.Before
		}
		return c, row.Scan(into)
	})
}

// enterNow begins a call that has nothing else to send along.
func enterNow(ctx context.Context, tx pgx.Tx, schema, table string) error {
	batch := &pgx.Batch{}
	enter(batch, schema, table)
	return tx.SendBatch(ctx, batch).Close()
}
