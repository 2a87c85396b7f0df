package proxy

import (
	"context"
	"fmt"
	"slices"
	"time"

	"hubpg/internal/pgwire"
	"hubpg/internal/sqlstmt"
)

// rollback ends the proxy's own transaction after an error.
func (t *takeover) rollback() error {
	t.held = nil
	err := t.insist(func() int {
		if t.status != 'I' {
			t.ask("rollback")
		}
		if t.locked {
			t.ask(askUnlock)
		}
		return len(t.steps)
	})
	if err != nil {
		return err
	}
	t.own, t.locked, t.void = false, false, true
	t.abandon()
	return nil
}

// commit ends the proxy's own transaction.
func (t *takeover) commit() error {
	t.ask("commit")
	f, err := t.play()
	if err != nil {
		return err
	}
	if f != nil {
		t.held = nil
		if err := t.warn(t.pen.unsettled); err != nil {
			return err
		}
		if err := t.tell(f.message); err != nil {
			return err
		}
		return t.rollback()
	}
	t.committed()
	return nil
}

// committed notes that the transaction has committed, the proxy's own or the client's.
func (t *takeover) committed() {
	t.release()
	t.kept = append(t.kept, t.pen.unsettled...)
	t.pen.unsettled, t.pen.marks = nil, nil
	t.own = false
}

// abandon notes that the transaction has not committed.
func (t *takeover) abandon() {
	t.lost = append(t.lost, t.pen.unsettled...)
	t.pen.unsettled, t.pen.marks = nil, nil
}

// settle tells the writer what has been decided. The client has its answer already. What is lost waits until the
// client's transaction ends, which may hold locks on the very rows that are to be read again; then the session's next
// statement waits for it, to see what HubSpot has.
func (t *takeover) settle() {
	if t.pen == nil {
		return
	}
	kept, lost := t.kept, append(t.pen.undone, t.lost...)
	t.kept, t.lost, t.pen.undone = nil, nil, nil
	t.pen.settleBehind(t.ctx, kept)
	if t.status != 'I' {
		t.pen.undone = lost
		return
	}
	t.pen.tried = 0
	t.pen.settle(t.ctx, lost, false)
}

// reread has the records stored that statements have changed in HubSpot which were rolled back to a savepoint, before their transaction
// writes again: to set a value back to what the transaction sees would be no change. Where it has one snapshot it would go on
// seeing that, and what it has locked itself comes after its end.
func (t *takeover) reread() (bool, error) {
	p := t.pen
	p.undone, t.lost = append(p.undone, t.lost...), nil
	if len(p.undone) == p.tried {
		return true, nil
	}
	level := ""
	t.ask("show transaction_isolation").row = func(columns [][]byte) error {
		level = string(columns[0])
		return nil
	}
	if f, err := t.play(); err != nil || f != nil {
		return t.finish(f, err)
	}
	var failed *writeFailure
	if level == "read committed" || level == "read uncommitted" {
		left := p.undone[:p.tried:p.tried]
		failed = t.interruptibly(time.Time{}, func(ctx context.Context) error {
			bounded, cancel := context.WithTimeout(ctx, learnTime)
			defer cancel()
			for _, id := range p.undone[p.tried:] {
				if p.writer.Settle(bounded, id, false) != nil {
					left = append(left, id)
				}
			}
			return ctx.Err()
		})
		p.undone = left
	}
	p.tried = len(p.undone)
	if failed != nil {
		return t.refuse(errorOf(failed.ctx, failed.err))
	}
	return true, nil
}

// warn tells the client that HubSpot keeps what is rolled back here.
func (t *takeover) warn(ids []int64) error {
	if len(ids) == 0 {
		return nil
	}
	what := "a statement of this transaction stays in HubSpot"
	if len(ids) > 1 {
		what = fmt.Sprintf("%d statements of this transaction stay in HubSpot", len(ids))
	}
	notice := pgwire.Error{
		Severity: "NOTICE", Code: "HS011", Message: what + ", which had accepted it and cannot roll back",
		Detail: "The tables follow HubSpot in a moment.",
	}
	if len(ids) > 1 {
		notice.Message = what + ", which had accepted them and cannot roll back"
	}
	return t.tell(notice.AppendNotice(nil))
}

// control runs a statement that begins or ends a transaction or a part of it.
func (t *takeover) control(a *act) (bool, error) {
	c, p := a.effect.Control, t.pen
	if c == sqlstmt.PrepareTwice && len(p.unsettled) > 0 {
		return t.refuse(failure("0A000", "a transaction that has written to HubSpot cannot be prepared", "", "Commit it."))
	}
	place, before := p.place(a.effect.Savepoint)
	going := p.unsettled
	if c == sqlstmt.RollbackTo {
		going = going[before:]
	}
	var tag string
	s := t.present(a)
	s.hold = false
	s.tag = func(said string) error {
		if tag = said; tag == "ROLLBACK" {
			return t.warn(going)
		}
		return nil
	}
	f, err := t.play()
	if err != nil {
		return false, err
	}
	if f != nil {
		return t.fail(f.message)
	}
	switch {
	case c == sqlstmt.Begin:
		t.own = false
	case c == sqlstmt.Savepoint:
		p.mark(a.effect.Savepoint)
	case c == sqlstmt.Release:
		p.marks = p.marks[:max(place, 0)]
	case c == sqlstmt.RollbackTo:
		t.lost = append(t.lost, going...)
		p.unsettled = p.unsettled[:before]
		p.marks = p.marks[:place+1]
	case tag == "COMMIT":
		t.committed()
	default:
		t.own = false
		t.abandon()
	}
	return true, nil
}

// place finds a savepoint: its index among the marks and how many unsettled writes came before it. One that is not
// known was made before all of them.
func (p *pen) place(name string) (index, before int) {
	for i, m := range slices.Backward(p.marks) {
		if m.name == name {
			return i, min(m.before, len(p.unsettled))
		}
	}
	return -1, 0
}

func (p *pen) mark(name string) {
	if len(p.unsettled) > 0 && len(p.marks) < maxPrepared {
		p.marks = append(p.marks, mark{name, len(p.unsettled)})
	}
}
