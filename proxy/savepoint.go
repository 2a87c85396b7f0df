package proxy

import "slices"

// What a transaction has listened to and then undone. Tags of Postgres name no savepoint, and that of ROLLBACK TO is
// ROLLBACK's. So while there is something to undo, savepoints and rollbacks are read in the client's texts and counted with
// its LISTENs. A statement that was not, being prepared before the first LISTEN, is taken for one about the innermost
// savepoint.

// savepoint is one of the current transaction, as far as LISTENs go.
type savepoint struct {
	name   string // empty if it was not read
	staged int    // so many actions came before it
}

// staging reports whether there is something that a rollback would undo.
func (l *ledger) staging() bool { return len(l.pending)+len(l.staged) > 0 }

// done takes back the promise that a tag of Postgres has kept, if it is of one of these kinds.
func (l *ledger) done(kinds ...actionKind) (action, bool) {
	if len(l.pending) == 0 || !slices.Contains(kinds, l.pending[0].kind) {
		return action{}, false
	}
	a := l.pending[0].action
	l.pending = l.pending[1:]
	return a, true
}

// mark notes that Postgres has set a savepoint.
func (l *ledger) mark(name string) {
	if len(l.marks) < maxPrepared {
		l.marks = append(l.marks, savepoint{name, len(l.staged)})
	}
}

// marked finds a savepoint among the marks. One that was not read may be any; one that is not there was set before the
// first LISTEN, as were none of the marks.
func (l *ledger) marked(name string) int {
	for i, m := range slices.Backward(l.marks) {
		if m.name == name || m.name == "" || name == "" {
			return i
		}
	}
	return 0
}

// undo takes back what a ROLLBACK or ROLLBACK TO of the client's has undone.
func (l *ledger) undo(a action) {
	l.doubtful = 0
	i := l.marked(a.name)
	if a.kind == actRollback || i == len(l.marks) || a.name != l.marks[i].name && l.marks[i].name != "" {
		l.staged, l.marks = nil, nil
		return
	}
	l.staged = l.staged[:l.marks[i].staged]
	l.marks = l.marks[:i+1] // the savepoint itself remains
}

// rollback undoes what was staged since the innermost savepoint. Whether the statement was ROLLBACK or ROLLBACK TO shows at
// the next ReadyForQuery: outside a transaction, what came before the savepoint is undone too.
func (l *ledger) rollback() {
	l.doubtful = 0
	if n := len(l.marks); n > 0 {
		l.doubtful = l.marks[n-1].staged
	}
	l.staged = l.staged[:min(l.doubtful, len(l.staged))]
}

// abort forgets the transaction.
func (l *ledger) abort() {
	l.staged, l.marks, l.doubtful = nil, l.marks[:0], 0
}
