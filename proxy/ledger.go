package proxy

// ledger keeps account of what the client has asked and Postgres has answered: enough to know when the session is
// between transactions and which LISTENs have come into force, and no more. The session's mu guards it.
//
// Rounds. A Query, FunctionCall or Sync of the client is answered by one ReadyForQuery. There are two exceptions, and the
// client may have sent what they are about before it can know: after an error in the extended protocol Postgres skips
// everything up to the next Sync, also Queries; and while it takes COPY data it ignores a Sync. So what was asked stands in
// flight until it was answered, and is taken out of there as Postgres would read it. Rounds have numbers in order; one
// that is skipped or ignored is passed over.
type ledger struct {
	asked    uint64 // the last round begun by the client
	answered uint64 // the last round ended by Postgres
	flight   flight // what the client has said and Postgres has not answered
	open     bool   // the client has said something since the last round, apart from COPY data
	feeding  bool   // it has sent COPY data since, and not its end
	skipping bool   // Postgres has reported an error and waits for a Sync that the client has yet to send
	copying  bool   // Postgres takes COPY data
	doubt    bool   // what is in flight is not known any more, and nothing is added to it
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
	kind := saidQuery
	switch {
	case sync:
		l.skipping, kind = false, saidSync
	case l.skipping:
		return
	}
	l.asked++
	l.open, l.feeding = false, false
	l.fly(kind, l.asked)
}

// step notes a message of the extended protocol that Postgres answers within the round.
func (l *ledger) step() {
	l.open = true
	if !l.skipping {
		l.fly(saidStep, 0)
	}
}

// copyDone notes the end of the client's COPY data.
func (l *ledger) copyDone() {
	l.feeding = false
	if !l.flight.empty() { // else there is no COPY
		l.fly(saidEnd, 0)
	}
}

// fly notes what Postgres has to look at, as long as that is known.
func (l *ledger) fly(kind saying, round uint64) {
	if l.doubt = l.doubt || l.flight.overfull(); !l.doubt {
		l.flight.add(kind, round)
	}
}

// copyIn notes that Postgres has begun to take COPY data.
func (l *ledger) copyIn() { l.copying = l.flight.head() != saidNothing }

// stepped notes the last of Postgres's answers to a step, or one of those to a Query.
func (l *ledger) stepped(complete bool) {
	head := l.flight.head()
	if l.copying && complete {
		l.copying = false
		l.flight.endCopy()
	}
	if head == saidStep {
		l.flight.take()
	}
	l.level()
}

// failed notes an error.
func (l *ledger) failed() {
	l.errored = true
	head := l.flight.head()
	if l.copying {
		l.copying = false
		if l.flight.endCopy() {
			l.doubt = true // only Postgres knows which Syncs came after the error and count
		}
	}
	if head == saidStep {
		l.skipping = !l.flight.skip()
	}
	l.level()
}

// answer notes a ReadyForQuery.
func (l *ledger) answer(status byte) {
	if round, ok := l.flight.answer(); ok {
		l.answered = round
	}
	l.ready, l.errored, l.copying = status, false, false
	l.level()
}

// level passes over the rounds that were taken out after the last one that will be answered.
func (l *ledger) level() {
	if l.flight.rounds == 0 {
		l.answered = l.asked
	}
}

// at is the round that Postgres answers next.
func (l *ledger) at() uint64 {
	if round, ok := l.flight.round(); ok {
		return round
	}
	return l.asked + 1
}

// uncertain reports whether what is in flight has to be found out before more is said. It is asked between rounds.
func (l *ledger) uncertain() bool { return l.doubt || l.flight.full() }

// fathomed notes that everything was answered but the message at hand, or that this is skipped, as what comes before the
// client's next Sync.
func (l *ledger) fathomed(typ byte, skipped bool) {
	l.flight.clear()
	if l.skipping && !skipped && (typ == 'Q' || typ == 'F') {
		l.asked++
	}
	l.skipping, l.copying, l.doubt, l.errored = skipped, false, false, skipped
	l.pending = nil
	l.answered = l.asked
	if skipped {
		return
	}
	switch typ {
	case 'Q', 'F':
		l.answered--
		l.flight.add(saidQuery, l.asked)
	case 'S':
		l.answered--
		l.flight.add(saidSync, l.asked)
	case 'P', 'B', 'D', 'E', 'C':
		l.flight.add(saidStep, 0)
	}
}

// over reports whether the client waits for an answer, or for nothing: what it has said ends a round.
func (l *ledger) over() bool { return !l.open && !l.feeding && !l.skipping }

// rested reports whether nothing is under way.
func (l *ledger) rested() bool { return l.over() && !l.doubt && l.asked == l.answered }

// settled reports whether everything asked was answered and no transaction is open.
func (l *ledger) settled() bool { return l.rested() && l.ready == 'I' }
