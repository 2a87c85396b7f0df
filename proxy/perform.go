package proxy

import (
	"fmt"
	"slices"

	"hubpg/internal/pgwire"
)

// dryRun shows the client what the statement would have come to, and takes it back.
func (t *takeover) dryRun(a *act, permit string) (bool, error) {
	t.ask(askBack)
	t.ask(askUnlock)
	t.ask(askRehearse, []byte(permit))
	if a.effect.CopyIn {
		if f, err := t.play(); err != nil || f != nil {
			return t.finish(f, err)
		}
	}
	t.presentAgain(a)
	if a.effect.CopyIn {
		if f, err := t.play(); err != nil || f != nil {
			return t.finish(f, err)
		}
	}
	t.ask(askBack)
	t.ask(askRelease)
	ok, err := t.finish(t.play())
	t.locked = t.locked && !ok
	return ok, err
}

// perform runs the statement with HubSpot's answers in the place of its own.
func (t *takeover) perform(a *act, r *rehearsal, permit string, result WriteResult) (bool, error) {
	if result.ID != 0 {
		t.pen.unsettled = append(t.pen.unsettled, result.ID)
	}
	if r.kept {
		t.ask(askBackKept)
	} else {
		t.ask(askBack)
	}
	t.ask(askPerform, []byte(permit), result.Answers)
	if a.effect.CopyIn {
		if f, err := t.play(); err != nil || f != nil {
			return t.lose(result.ID, f, err)
		}
	}
	t.presentAgain(a).hold = true // until nothing can fail any more
	if a.effect.CopyIn {
		if f, err := t.play(); err != nil || f != nil {
			return t.lose(result.ID, f, err)
		}
	}
	commits := t.own && (a.simple && a.last || !a.simple && t.syncFollows())
	t.ask(askDone, []byte(permit), r.locks)
	if !commits {
		t.ask(askIdle, []byte(fmt.Sprintf("%dms", t.session.server.config.Limits.IdleAfterWrite.Milliseconds())))
		t.ask(askRelease)
	} else {
		t.ask("commit")
	}
	f, err := t.play()
	if err != nil || f != nil {
		return t.lose(result.ID, f, err)
	}
	t.locked = false
	switch {
	case commits:
		t.committed()
		t.over = !a.simple
	case !t.own, a.simple && !a.last:
		t.release()
	}
	return true, nil
}

// presentAgain adds the statement for the client to see, with the data it has sent.
func (t *takeover) presentAgain(a *act) *step {
	s := t.present(a)
	s.copied, s.replay = a.copied, a.copied != nil
	return s
}

// lose ends a statement that HubSpot has accepted and Postgres has not: its records are read again.
func (t *takeover) lose(id int64, f *fault, err error) (bool, error) {
	if err != nil {
		return false, err // the session ends, and settles what is open
	}
	t.held = nil // the statement's own tag
	if id != 0 {
		t.pen.unsettled = slices.DeleteFunc(t.pen.unsettled, func(other int64) bool { return other == id })
		t.lost = append(t.lost, id)
	}
	return t.finish(f, nil)
}

// finish ends a script: with nil, nothing has failed; otherwise the client is told what Postgres said.
func (t *takeover) finish(f *fault, err error) (bool, error) {
	if err != nil || f == nil || t.void {
		return err == nil && f == nil, err
	}
	return t.fail(f.message)
}

// refuse fails the statement for a reason of the proxy's or the writer's.
func (t *takeover) refuse(e *pgwire.Error) (bool, error) { return t.fail(e.Append(nil)) }

// fail tells the client of an error and leaves the transaction as Postgres would: failed, or, where it was the proxy's
// own, rolled back.
func (t *takeover) fail(message []byte) (bool, error) {
	t.release()
	if t.own {
		if err := t.warn(t.pen.unsettled); err != nil {
			return false, err
		}
		if err := t.tell(message); err != nil {
			return false, err
		}
		return false, t.rollback()
	}
	if t.locked || t.status == 'T' {
		e := pgwire.ParseError(message)
		err := t.insist(func() int {
			if t.locked && t.status == 'E' {
				t.ask(askBack)
			}
			if t.locked {
				t.ask(askUnlock)
			}
			t.ask(raise(e)) // nobody hears it: it makes the block fail
			return len(t.steps) - 1
		})
		if err != nil {
			return false, err
		}
		t.locked = false
	}
	if t.status == 'I' { // the block ended with the error
		t.abandon()
	}
	return false, t.tell(message)
}

// insist plays a script that may fail only from the step on that it names. A cancel request meant for the statement
// before can hit it; then it is played again.
func (t *takeover) insist(script func() (mayFail int)) error {
	const tries = 3
	for try := 1; ; try++ {
		mayFail := script()
		if len(t.steps) == 0 {
			return nil
		}
		f, err := t.play()
		if err != nil || f == nil || f.step >= mayFail {
			return err
		}
		if e := pgwire.ParseError(f.message); try == tries || e.Code != "57014" {
			return fmt.Errorf("%w: %w", errOutOfStep, e)
		}
	}
}

// plain runs a statement that changes no mirrored table, among others that do.
func (t *takeover) plain(a *act) (bool, error) {
	t.present(a)
	return t.finish(t.play())
}
