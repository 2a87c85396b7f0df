package writeback

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"hubpg/hubapi"
	"hubpg/internal/mirror"
)

const (
	maxShown = 100 // rows that a dry run describes
	maxPlans = 5   // of one statement, while the catalog changes under it
)

// Write sends a statement's rows to HubSpot and returns the answers for its performance. An error of type [*Error] is the
// client's; rows that HubSpot accepted all the same are in its detail and are read into the tables by [Writer.Run].
func (w *Writer) Write(ctx context.Context, r Request) (Result, error) {
	p, id, err := w.intended(ctx, &r)
	if err != nil {
		return Result{}, err
	}
	if p.flawed() && !r.SkipBadRows {
		return Result{}, p.failure(0, false)
	}
	res := Result{}
	if p.stamped {
		res.Notices = append(res.Notices, Notice{
			Severity: "NOTICE", Code: "01000", Message: "created_at and updated_at are HubSpot's; the values given were not used",
		})
	}
	if r.DryRun {
		res.Notices = append(append(res.Notices, p.warnings()...), p.described()...)
		return res, nil
	}
	m := &mission{w: w, p: p, skip: r.SkipBadRows}
	if id != 0 {
		res.ID = id
		defer w.setActive(res.ID, false)
		m.id = res.ID
		m.send(ctx)
		// A client that gave up after the last row was answered is told what all were.
		if gaveUp := ctx.Err() != nil && !p.answered(); gaveUp || !r.SkipBadRows && (p.flawed() || m.stop.Load()) {
			return Result{}, w.fail(ctx, res.ID, m)
		}
		if err := w.accepted(ctx, m); err != nil {
			w.kick()
			return Result{}, err
		}
	} else {
		m.send(ctx) // settles what needs no call
	}
	if res.Answers, err = p.answers(); err != nil {
		return Result{}, err
	}
	res.Notices = append(res.Notices, p.warnings()...)
	return res, nil
}

// accepted records what HubSpot has taken, while HubSpot is asked what has become of it.
func (w *Writer) accepted(ctx context.Context, m *mission) error {
	unread := m.unread()
	e, err := m.ending(statusAccepted)
	if err != nil {
		return err
	}
	var g errgroup.Group
	g.Go(func() error { return w.end(ctx, m.id, e) })
	m.readBack(ctx, unread)
	return g.Wait()
}

// intended plans a request and, where HubSpot has to be called, records it. A plan that is to be carried out is made by the
// catalog as it was last known, and recording it is what finds out whether that is still the present one.
func (w *Writer) intended(ctx context.Context, r *Request) (p *plan, id int64, err error) {
	if cat, sum := w.known(); cat != nil && !r.DryRun {
		if p, err = w.plan(ctx, r, cat, false); err == nil && !p.flawed() && p.busy() {
			if id, err = w.begin(ctx, r, p, sum); !errors.Is(err, mirror.ErrStaleCatalog) {
				return p, id, err
			}
		}
	}
	for range maxPlans {
		var sum string
		if p, sum, err = w.validated(ctx, r); err != nil || r.DryRun || !p.busy() || p.flawed() && !r.SkipBadRows {
			return p, 0, err
		}
		if id, err = w.begin(ctx, r, p, sum); !errors.Is(err, mirror.ErrStaleCatalog) {
			return p, id, err
		}
	}
	return nil, 0, err
}

// validated plans a request by the present catalog, and tells that catalog's version. Before anything is refused because
// of a definition, the definition is read again unless it is new.
func (w *Writer) validated(ctx context.Context, r *Request) (*plan, string, error) {
	for _, fresh := range []bool{false, true} {
		cat, sum, err := w.present(ctx)
		if err != nil {
			return nil, "", fmt.Errorf("plan write: %w", err)
		}
		p, err := w.plan(ctx, r, cat, fresh)
		if err != nil {
			if fs := flawsOf(err, nil); isA[*hubapi.APIError](err) || isA[*hubapi.UnavailableError](err) || isA[*hubapi.RateError](err) {
				return nil, "", &Error{Code: fs[0].code, Message: err.Error(), Hint: fs[0].hint}
			}
			return nil, "", fmt.Errorf("plan write: %w", err)
		}
		if fresh || !p.flawed() {
			return p, sum, nil
		}
	}
	return nil, "", errors.New("plan write: unreachable")
}

// fail records a mission that ended with refusals and returns the client's error.
func (w *Writer) fail(ctx context.Context, id int64, m *mission) error {
	if ctx.Err() != nil && (m.skip || !m.p.flawed()) {
		for _, c := range m.p.changes {
			if !c.done && len(c.flaws) == 0 {
				c.refuse(&flaw{code: codeCancelled, message: "the statement was cancelled before the row was sent"})
			}
		}
	}
	failure := m.p.failure(id, m.skip)
	failure.Behind = m.p.behind()
	status := statusRefused
	if slices.ContainsFunc(m.p.changes, (*change).unknown) {
		status = statusAmbiguous
	}
	if err := w.finish(ctx, id, m, status); err != nil {
		w.logger.Error("record outcome of write", "write", id, "error", err)
	}
	w.setActive(id, false)
	if !failure.Behind { // who asked settles it
		w.kick()
	}
	return failure
}

func (p *plan) flawed() bool {
	for _, c := range p.changes {
		if len(c.flaws) > 0 {
			return true
		}
	}
	return false
}

// answered says whether of every row it is known what became of it.
func (p *plan) answered() bool {
	for _, c := range p.changes {
		if !c.accepted() && (len(c.flaws) == 0 || c.unknown()) {
			return false
		}
	}
	return true
}

// busy says whether HubSpot has to be called.
func (p *plan) busy() bool {
	for _, c := range p.changes {
		if len(c.flaws) == 0 && !c.idle() {
			return true
		}
	}
	return false
}

// described says what would be sent.
func (p *plan) described() []Notice {
	var list []Notice
	total := 0
	for _, c := range p.changes {
		if len(c.flaws) > 0 || c.idle() {
			continue
		}
		if total++; total > maxShown {
			continue
		}
		n := Notice{Severity: "NOTICE", Code: "01000", Message: "dry run: would " + c.op + " " + c.name()}
		switch {
		case c.pair != nil && c.op != opDelete && c.now.label != "":
			n.Detail = fmt.Sprintf("label %q", c.now.label)
		case c.pair == nil && c.op != opDelete:
			for _, col := range c.sent {
				if n.Detail != "" {
					n.Detail += ", "
				}
				n.Detail += fmt.Sprintf("%s = %q", col.Property, c.properties[col.Property])
			}
		}
		list = append(list, n)
	}
	rows := fmt.Sprintf("%d rows", total)
	if total == 1 {
		rows = "1 row"
	}
	return append(list, Notice{
		Severity: "NOTICE", Code: "01000", Message: "dry run: " + rows + " would be sent to HubSpot; nothing was changed",
	})
}
