package proxy

import (
	"errors"

	"hubpg/internal/pgwire"
)

// Bounds of a takeover.
const (
	maxStatement = 64 << 20 // a message of the client that is looked at whole; a larger one is relayed unseen
	maxAnswer    = 16 << 20 // a message of Postgres that is held, if there is memory for it; a larger one is streamed
	maxError     = 8 << 10  // what is told of an error that may not be held
	flushAt      = 64 << 10 // bytes for the client that are written without waiting for the end of the round
)

// takeover is the part of a session in which front speaks with Postgres itself, because a statement changes mirrored
// tables or waits until they are fresh. It begins before that statement and ends as soon as relaying is right again: after the statement, or at
// the end of the round where the proxy has to end a transaction there or an error has made the rest of it void.
//
// The answers of Postgres go through the same filter as ever, so the ledger and the listener know of no difference.
type takeover struct {
	*front
	client *messages
	server *messages // nil until back has given the baton
	filter *back

	toServer []byte
	toClient []byte // whole messages
	flushes  int    // times that toClient was written
	held     []byte // the tag of a statement that is told once its transaction has committed

	hand   byte // type of the client's message at hand
	steps  []step
	groups int // Syncs and Queries in toServer

	status  byte // of the transaction
	own     bool // the transaction is the proxy's, to end with the round
	solo    bool // it was begun for the one statement of a Query
	locked  bool // appliers are kept out of tables
	void    bool // an error was told; what the client sends up to its Sync counts for nothing
	pending bool // messages of the client were passed on, and not all their answers back
	each    bool // the statements of the Query wait one by one for their tables to be fresh
	split   bool // the round was ended to find out its answers, and with it the portals that it had made
	ahead   bool // a transaction is being begun behind those; what Postgres says to that comes before the next script's
	over    bool // the transaction of this round has been committed, and the Sync that ends the round comes next

	whole holding // a large message of the client
	reply holding // the largest one of Postgres
	rows  holding // what a rehearsal has captured
	short bool    // something of the rehearsal could not be held for want of memory

	kept, lost []int64 // accepted writes that Postgres has committed or not, to be settled once the client knows
}

// takeOver performs what the client has sent, from the message at the start of rest on, and returns what is to be
// relayed after it.
func (f *front) takeOver(rest []byte) (left []byte, err error) {
	pump := f.pump
	f.pump = nil
	t := &takeover{
		front: f, client: newMessages(f.session.client, rest, maxStatement), filter: &back{session: f.session, ctx: f.ctx},
	}
	pump.Close()
	m := &f.server.memory
	t.whole.memory, t.reply.memory, t.rows.memory = m, m, m
	defer func() {
		t.whole.release()
		t.reply.release()
		t.rows.release()
	}()
	f.mu.Lock()
	f.claim = claim{}
	if f.listener != nil {
		f.listener.residue.give()
	}
	f.mu.Unlock()
	defer func() {
		if t.server != nil {
			f.returnBaton(t.server.left())
		}
	}()
	defer t.settle()
	defer t.filter.unlock()
	if err := t.run(); err != nil {
		_ = t.flush() // what Postgres has said so far
		return nil, err
	}
	return t.client.left(), nil
}

func (t *takeover) run() error {
	for first := true; ; first = false {
		h, err := t.client.Peek()
		if err != nil {
			return err
		}
		if !first { // the pump has shown it to Header before it stopped
			t.count(h)
		}
		if t.hand = h.Type; t.unsure() {
			if err := t.stage(h.Type == 'Q' || h.Type == 'F' || h.Type == 'S'); err != nil {
				return err
			}
		}
		switch {
		case h.Size <= pgwire.MaxTake:
			err = t.take()
		case t.passes(h):
			err = t.pour()
		default:
			err = t.takeWhole(h)
		}
		if err != nil {
			return err
		}
		if !t.own && !t.void && !t.over {
			return t.flush()
		}
	}
}

// count shows the header of a message of the client to the ledger.
func (t *takeover) count(h pgwire.Header) {
	t.front.Begin()
	t.front.Header(h.Type, h.Size)
	t.front.Scanned()
}

// take handles one message of the client.
func (t *takeover) take() error {
	h, message, err := t.client.Read()
	if err != nil {
		return err
	}
	t.received(len(message))
	switch {
	case h.Type == 'S' && (t.own || t.void || t.over):
		return t.sync()
	case t.void && h.Type != 'X':
		return nil
	case h.Type == 'H' && t.own && len(message) == pgwire.HeaderLen:
		return t.answers()
	case h.Type == 'F' && t.own:
		return t.call(message)
	case t.pen == nil:
		return t.pass(message)
	}
	if t.pen.outdated(message, t.front.settled) {
		t.pen.look(t.ctx)
	}
	writes := t.pen.claims(message)
	if t.pen.full {
		return t.declined(h.Type == 'Q', errMemoryFull)
	}
	if t.vigil.claims(message) {
		t.each = h.Type == 'Q' && several(message)
		ok, err := t.freshen(message)
		switch {
		case err != nil:
			return err
		case !ok && h.Type == 'Q':
			return t.endQuery()
		case !ok:
			t.void = true
			return t.flush()
		}
	}
	switch {
	case h.Type == 'Q' && (writes || t.each || t.own): // it ends a transaction of the round's
		return t.query(message)
	case writes:
		return t.execute(message)
	}
	return t.pass(message)
}

func (t *takeover) received(n int) { t.session.server.counters.bytesIn.Add(int64(n)) }

// pass sends a message of the client on as it is.
func (t *takeover) pass(message []byte) error {
	t.release()
	if t.listener != nil && len(message) <= pgwire.MaxTake {
		t.mu.Lock()
		message = t.listener.rewrite(t.ctx, message)
		t.mu.Unlock()
	}
	t.pending = true
	if len(message) <= pgwire.MaxTake {
		t.toServer = append(t.toServer, message...)
		return t.flushServer()
	}
	if err := t.flushServer(); err != nil {
		return err
	}
	if _, err := t.upstream.conn.Write(message); err != nil {
		return errors.Join(errToServer, err)
	}
	return nil
}

// open makes sure that the statement to come runs inside a transaction block, with all earlier messages answered. It
// reports false if it must not be performed: an earlier message failed, or the transaction has failed before. With ahead
// the answers may wait for the next script, which must begin with what fails outside of a block.
func (t *takeover) open(query, ahead bool) (bool, error) {
	if t.own {
		err := t.answers()
		return !t.void, err
	}
	wasOpen := t.asking
	if err := t.stage(query); err != nil || t.void {
		return false, err
	}
	block := t.status
	switch t.pen.block {
	case blockOpen:
		block = 'T'
	case blockClosed:
		block = 'I'
	}
	if block == 'E' {
		return false, nil
	}
	if query && !wasOpen {
		return true, nil
	}
	if ahead && block == 'I' {
		t.beginBehind()
		t.ahead = true
		return true, nil
	}
	return t.settleEarlier(block == 'I')
}

// settleEarlier has the messages of this round answered, and opens a transaction behind them if begin is set.
func (t *takeover) settleEarlier(begin bool) (bool, error) {
	if begin {
		t.beginBehind()
	} else {
		t.toServer = pgwire.AppendSync(t.toServer)
	}
	if err := t.flushServer(); err != nil {
		return false, err
	}
	return t.hearEarlier(begin)
}

// beginBehind asks for a transaction behind the messages of this round. In the extended protocol it takes in what came
// before it since the last Sync, as Postgres's implicit one would have.
func (t *takeover) beginBehind() {
	t.ask("begin")
	t.steps = nil
	t.toServer = pgwire.AppendSync(t.toServer)
}

// hearEarlier passes on the answers to the messages of this round, but not those to the beginning of a transaction
// behind them. It reports false if one of the messages has failed.
func (t *takeover) hearEarlier(begin bool) (bool, error) {
	t.mu.Lock()
	failed := t.ledger.errored // back has passed the error on before it gave the baton
	t.mu.Unlock()
	var tail [][]byte // small messages that may be the answers to our own
	open := begin
	for {
		h, err := t.server.Peek()
		if err != nil {
			return false, errors.Join(errToServer, err)
		}
		if !t.holds(h) {
			failed = failed || h.Type == 'E'
			for _, m := range tail {
				if err := t.tell(m); err != nil {
					return false, err
				}
			}
			tail = nil
			if err := t.stream(h); err != nil {
				return false, err
			}
			continue
		}
		_, message, err := t.server.Read()
		if err != nil {
			return false, errors.Join(errToServer, err)
		}
		switch h.Type {
		case 'Z':
			if !begin || failed {
				for _, m := range tail {
					if err := t.tell(m); err != nil {
						return false, err
					}
				}
			}
			t.status, t.pending = message[pgwire.HeaderLen], false
			if begin {
				t.own = open && !failed
			}
			t.void = failed
			return !failed, nil
		case 'N':
			if begin && pgwire.ParseError(message).Code == "25001" {
				open = false // the block is the client's own after all
				continue
			}
		case 'S', 'A':
		case 'G':
			if t.fed() {
				break
			}
			if err := t.copyIn(&step{}, message); err != nil {
				return false, err
			}
			t.toServer = pgwire.AppendSync(t.toServer) // the one before it was ignored, as amid data
			if err := t.flushServer(); err != nil {
				return false, err
			}
			continue
		case '1', '2', '3', 'C':
			tail = append(tail, append([]byte(nil), message...))
			if len(tail) > answersPerAsk {
				if err := t.tell(tail[0]); err != nil {
					return false, err
				}
				tail = tail[1:]
			}
			continue
		default:
			failed = failed || h.Type == 'E'
			for _, m := range tail {
				if err := t.tell(m); err != nil {
					return false, err
				}
			}
			tail = nil
		}
		if err := t.tell(message); err != nil {
			return false, err
		}
	}
}

// answers has everything that was passed on in a transaction of the proxy's own answered: Flush, in effect.
func (t *takeover) answers() error {
	t.release()
	if err := t.catchUp(); err != nil {
		return err
	}
	return t.flush()
}

// catchUp passes on the answers to what was passed on in a transaction of the proxy's own.
func (t *takeover) catchUp() error {
	if !t.pending {
		return nil
	}
	ok, err := t.settleEarlier(false)
	if err == nil && !ok {
		err = t.rollback()
	}
	return err
}

// sync ends the client's round.
func (t *takeover) sync() error {
	if t.own && t.pending {
		if err := t.answers(); err != nil || t.ignored() {
			return err
		}
	}
	if t.own {
		if err := t.commit(); err != nil {
			return err
		}
	}
	return t.ready()
}

// syncFollows reports whether the client is known to end its round next.
func (t *takeover) syncFollows() bool {
	next := t.client.buffered()
	return len(next) >= pgwire.HeaderLen && next[0] == 'S' && pgwire.SizeOf(next) == pgwire.HeaderLen
}

// ready tells the client that its round is over.
func (t *takeover) ready() error {
	t.void, t.over = false, false
	t.pen.synced()
	if err := t.tell(pgwire.AppendReady(nil, t.status)); err != nil {
		return err
	}
	return t.flush()
}

// release lets the held tag go: the client has asked for more before its transaction ends.
func (t *takeover) release() {
	t.toClient = append(t.toClient, t.held...)
	t.held = nil
}

// tell queues a message for the client.
func (t *takeover) tell(message []byte) error {
	t.toClient = append(t.toClient, message...)
	if len(t.toClient) > flushAt {
		return t.flush()
	}
	return nil
}

// flush writes what is queued for the client, as back would.
func (t *takeover) flush() error {
	if len(t.toClient) == 0 {
		return nil
	}
	t.flushes++
	chunk := make([]byte, 0, len(t.toClient))
	t.filter.Begin()
	for rest := t.toClient; len(rest) >= pgwire.HeaderLen; {
		size := pgwire.SizeOf(rest)
		message := rest[:size]
		rest = rest[size:]
		if t.filter.Header(message[0], size) {
			message = t.filter.Take(message)
		}
		chunk = append(chunk, message...)
	}
	t.filter.Scanned()
	t.toClient = t.toClient[:0]
	return t.filter.Write(chunk, true)
}

// flushServer writes what is queued for Postgres.
func (t *takeover) flushServer() error {
	if len(t.toServer) == 0 {
		return nil
	}
	_, err := t.upstream.conn.Write(t.toServer)
	if t.toServer = t.toServer[:0]; cap(t.toServer) > flushAt {
		t.toServer = nil
	}
	if err != nil {
		return errors.Join(errToServer, err)
	}
	return nil
}
