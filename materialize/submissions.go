package materialize

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// submissionSettle is how far behind the newest submission that is stored a short pass still looks.
const submissionSettle = time.Hour

// noSubmissions is the type of forms whose submissions HubSpot does not show.
const noSubmissions = "blog_comment"

// submissionPosition is the cursor of form_submissions.
type submissionPosition struct {
	rest
	Form      string    `json:"form,omitempty"`  // being read; forms with smaller ids are done
	After     string    `json:"after,omitempty"` // cursor of the page that comes next
	Until     time.Time `json:"until,omitzero"`  // how far back the form is read
	FormBegan time.Time `json:"form_began,omitzero"`
	Rows      int64     `json:"rows"` // submissions read in this pass
	Began     time.Time `json:"began,omitzero"`
	Full      bool      `json:"full,omitempty"` // the pass reads everything, not only what is new
	FullAt    time.Time `json:"full_at,omitzero"`
}

// submissions walks over the forms and what was submitted to them, newest first. Most passes end a form where it begins
// to be known; now and then one reads all of it. HubSpot gives submissions no id to ask for, and pages shift while they are
// read, so a submission has gone when two complete passes in a row have not shown it.
func (s *step) submissions(ctx context.Context) (time.Duration, error) {
	pace := s.e.cfg.Pace
	var p submissionPosition
	c, err := s.load(ctx, &p)
	if err != nil {
		return 0, err
	}
	if wait := p.wait(pace.Lookups); wait > 0 {
		return wait, nil
	}
	listed, err := allForms(ctx, s.client)
	if err != nil {
		return 0, err
	}
	if p.Began.IsZero() || !p.Ended.IsZero() {
		full, err := s.hastened(ctx, p.FullAt)
		if err != nil {
			return 0, err
		}
		full = full || time.Since(p.FullAt) > pace.Pairs
		p = submissionPosition{Began: time.Now(), Full: full, FullAt: p.FullAt}
		if full {
			p.FullAt = p.Began
		}
		if err := s.beginLookup(ctx); err != nil {
			return 0, err
		}
	}
	w := &submissionWalk{step: s, cursor: c, p: &p, listed: make(map[string]string, len(listed))}
	for i := range listed {
		w.listed[listed[i].ID] = listed[i].Type
	}
	if err := w.known(ctx); err != nil {
		return 0, err
	}
	for !s.over() {
		form, more := w.next()
		if !more {
			began := p.Began
			p.Form, p.Began, p.rest = "", time.Time{}, s.ended(p.rest, began)
			return p.wait(pace.Lookups), s.commit(ctx, s.args.Table, move{cursor: c, position: &p, live: true, verified: began}, nil)
		}
		if err := w.page(ctx, form); err != nil {
			return 0, fmt.Errorf("submissions to form %s: %w", form, err)
		}
	}
	return 0, nil
}

// submissionWalk is one step of the walk.
type submissionWalk struct {
	*step
	cursor *cursor
	p      *submissionPosition
	listed map[string]string    // type of each form that HubSpot has
	passed map[string]time.Time // when the last complete pass over a form began, by form
	order  []string
}

func (w *submissionWalk) known(ctx context.Context) error {
	rows, err := w.e.cfg.Pool.Query(ctx, `
select scope, read_at
from hubpg.lookup_reads
where portal_id = $1 and table_name = $2`, w.args.Portal, w.args.Table)
	if err != nil {
		return fmt.Errorf("list known forms: %w", err)
	}
	w.passed = map[string]time.Time{}
	var (
		form string
		at   time.Time
	)
	if _, err := pgx.ForEachRow(rows, []any{&form, &at}, func() error {
		w.passed[form] = at
		w.order = append(w.order, form)
		return nil
	}); err != nil {
		return fmt.Errorf("list known forms: %w", err)
	}
	for form, kind := range w.listed {
		if kind != noSubmissions {
			w.order = append(w.order, form)
		}
	}
	slices.Sort(w.order)
	w.order = slices.Compact(w.order)
	return nil
}

// next returns the form to go on with: the one being read, else the one behind it.
func (w *submissionWalk) next() (string, bool) {
	for _, form := range w.order {
		if form > w.p.Form || form == w.p.Form && w.p.After != "" {
			return form, true
		}
	}
	return "", false
}

// page reads one page and stores what is new on it.
func (w *submissionWalk) page(ctx context.Context, form string) error {
	if form != w.p.Form {
		w.p.Form, w.p.After, w.p.FormBegan, w.p.Until = form, "", time.Now(), time.Time{}
		if _, before := w.passed[form]; before && !w.p.Full {
			if err := w.until(ctx, form); err != nil {
				return err
			}
		}
	}
	page, err := w.client.ListSubmissions(ctx, form, w.p.After)
	if err != nil {
		_, refused := errors.AsType[*hubapi.ValidationError](err) // a type of form that has none
		_, listed := w.listed[form]
		switch {
		case nowhere(err) && !listed:
			return w.drop(ctx, form)
		case nowhere(err) || refused:
			w.p.After = ""
			return w.commit(ctx, w.args.Table, move{cursor: w.cursor, position: w.p}, nil)
		}
		return err
	}
	if page.After != "" && page.After == w.p.After {
		return fmt.Errorf("the cursor %s repeats", page.After)
	}
	batch := &mirror.SubmissionBatch{
		Schema: w.e.cfg.Schema, FormID: form, ReadAt: page.ReadAt, Mark: w.p.Until.IsZero(), Source: changes.Sweep,
	}
	if batch.Rows, err = submissionRows(page.Submissions); err != nil {
		return err
	}
	w.p.Rows += int64(len(batch.Rows))
	w.p.After = page.After
	complete := page.After == "" && w.p.Until.IsZero()
	if n := len(batch.Rows); n > 0 && batch.Rows[n-1].SubmittedAt.Before(w.p.Until) {
		w.p.After = "" // from here on everything is known
	}
	err = w.commit(ctx, w.args.Table, move{cursor: w.cursor, position: w.p}, func(tx pgx.Tx, quiet bool) (mirror.Result, error) {
		batch.Quiet = quiet
		return w.e.applier.Submit(ctx, tx, batch)
	})
	if err != nil || !complete {
		return err
	}
	return w.passedForm(ctx, form)
}

// until sets how far back a short pass reads: to what was stored when it came to the form. It is kept with the cursor, so
// that what a broken-off pass has stored already does not end the next one early.
func (w *submissionWalk) until(ctx context.Context, form string) error {
	var newest *time.Time
	err := w.e.cfg.Pool.QueryRow(ctx, `
select max(submitted_at)
from `+pgx.Identifier{w.e.cfg.Schema, w.args.Table}.Sanitize()+`
where form_id = $1`, form).Scan(&newest)
	if err != nil {
		return fmt.Errorf("look for the newest submission: %w", err)
	}
	w.p.Until = time.Unix(0, 0) // none is stored: everything is new
	if newest != nil {
		w.p.Until = newest.Add(-submissionSettle)
	}
	return nil
}

// passedForm ends a complete pass over a form: what neither it nor the one before has shown has gone.
func (w *submissionWalk) passedForm(ctx context.Context, form string) error {
	if before, ok := w.passed[form]; ok {
		if err := w.withdraw(ctx, form, before); err != nil {
			return err
		}
	}
	_, err := w.e.cfg.Pool.Exec(ctx, `
insert into hubpg.lookup_reads as r (portal_id, table_name, scope, read_at)
values ($1, $2, $3, $4)
on conflict (portal_id, table_name, scope) do update
set read_at = greatest(r.read_at, excluded.read_at)`, w.args.Portal, w.args.Table, form, w.p.FormBegan)
	if err != nil {
		return fmt.Errorf("end pass: %w", err)
	}
	w.passed[form] = w.p.FormBegan
	return nil
}

// withdraw removes what no pass has shown since the given instant.
func (w *submissionWalk) withdraw(ctx context.Context, form string, since time.Time) error {
	for {
		gone := 0
		err := w.commit(ctx, w.args.Table, move{}, func(tx pgx.Tx, quiet bool) (mirror.Result, error) {
			res, err := w.e.applier.Withdraw(ctx, tx, w.e.cfg.Schema, form, since, changes.Sweep, quiet)
			gone = res.Deleted
			return res, err
		})
		if err != nil || gone == 0 {
			return err
		}
	}
}

// drop takes out the submissions to a form that HubSpot does not have any more.
func (w *submissionWalk) drop(ctx context.Context, form string) error {
	if err := w.withdraw(ctx, form, time.Now().Add(clockSkew)); err != nil {
		return err
	}
	w.p.After = ""
	return w.commit(ctx, w.args.Table, move{cursor: w.cursor, position: w.p}, func(tx pgx.Tx, _ bool) (mirror.Result, error) {
		_, err := tx.Exec(ctx, `
delete from hubpg.lookup_reads
where portal_id = $1 and table_name = $2 and scope = $3`, w.args.Portal, w.args.Table, form)
		return mirror.Result{}, err
	})
}

// submissionRows turns submissions into rows.
func submissionRows(list []hubapi.Submission) ([]mirror.FormSubmission, error) {
	rows := make([]mirror.FormSubmission, len(list))
	for i := range list {
		fields := list[i].Values
		if fields == nil {
			fields = []hubapi.SubmissionValue{}
		}
		text, err := json.Marshal(fields)
		if err != nil {
			return nil, fmt.Errorf("encode submission: %w", err)
		}
		rows[i] = mirror.FormSubmission{SubmittedAt: list[i].SubmittedAt, Fields: text, PageURL: list[i].PageURL}
	}
	return rows, nil
}
