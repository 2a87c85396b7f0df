package proxy

// ledger keeps account of what the client has asked and Postgres has answered: enough to know when the session is
// between transactions and which LISTENs have come into force, and no more. The session's mu guards it.
//
// Rounds. A Query, FunctionCall or Sync of the client is answered by one ReadyForQuery; asked and answered count
// them. The one exception is a Sync that reaches Postgres while it takes COPY data: that is ignored. A client of
// the extended protocol may send such a Sync before it can know, so the ledger takes it back when the copy ends.
type ledger struct {
	asked    uint64 // rounds begun by the client
	answered uint64 // rounds ended by Postgres
	kinds    uint64 // one bit for each of the last 64 rounds, the newest lowest: 1 for a Sync
	open     bool   // the client has said something since the last round
	copying  bool   // Postgres takes COPY data for the extended protocol
	ready    byte   // status in the last ReadyForQuery
	errored  bool   // Postgres has reported an error since then

	active   bool              // the session has subscriptions
	prepared map[string]action // statements of the client that listen, by name
	portals  map[string]action // portals of such statements
	pending  []promise         // LISTENs, UNLISTENs and what undoes them, sent to Postgres, in order
	staged   []action          // those it has done in the current transaction
	marks    []savepoint       // savepoints of the current transaction
	doubtful int               // so many of staged were before a rollback to a savepoint, or to the start
}

// promise is an action that Postgres has been sent.
type promise struct {
	action
	round uint64 // in which it will be answered
}

// ask notes a message that ends a round of the client.
func (l *ledger) ask(sync bool) {
	l.asked++
	l.kinds <<= 1
	if sync {
		l.kinds |= 1
	}
	l.open = false
}

// answer notes a ReadyForQuery.
func (l *ledger) answer(status byte) {
	l.answered++
	if l.copying || l.asked < l.answered {
		l.asked = l.answered // a copy that failed and was given up without CopyDone, most likely
	}
	l.ready, l.errored, l.copying = status, false, false
}

// copyIn notes that Postgres has begun to take COPY data.
func (l *ledger) copyIn() {
	age := l.asked - l.answered // rounds in flight; the copy belongs to the oldest of them
	l.copying = age == 0 || age > 64 || l.kinds>>(age-1)&1 == 1
}

// copyDone notes the end of the client's COPY data. Every Sync that it sent so far was ignored.
func (l *ledger) copyDone() {
	l.open = false
	if l.copying {
		l.asked, l.copying = l.answered, false
	}
}

// settled reports whether everything asked was answered and no transaction is open.
func (l *ledger) settled() bool {
	return !l.open && l.asked == l.answered && l.ready == 'I'
}
