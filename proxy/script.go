package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"hubpg/internal/pgwire"
	"hubpg/internal/sqlstmt"
)

// Names of the proxy's own statement, portals and savepoint in a client's session.
const (
	ownName       = "hubpg"
	ownRehearsal  = "hubpg rehearsal"
	ownSavepoint  = "hubpg_write"
	keptSavepoint = "hubpg_rows" // within that one
)

// answersPerAsk is how many messages answer a statement of the proxy's own that returns no rows.
const answersPerAsk = 5

// act is a statement of the client that is to be performed.
type act struct {
	sql     string
	effect  sqlstmt.Effect
	simple  bool   // it came in a Query
	last    bool   // of the Query: its tag waits for the commit
	portal  string // otherwise: the portal, and the messages that bind and execute it
	bind    []byte
	execute []byte
	parse   []byte // before bind, where the client has no such statement any more
	known   bool   // bind is of the statement that the client has bound
	there   bool   // Postgres has been asked whether it has the portal
	copied  *spool // COPY data, once the client has sent it
	taken   bool   // the client has
}

// step is one statement in a script.
type step struct {
	group  int  // number of ReadyForQuery before its answers
	secret bool // its parameters are not for the client to see
	told   bool // the client sees its answers
	simple bool // with the description of its rows
	hold   bool // but the tag is held until nothing can fail any more
	copied *spool
	replay bool // COPY data comes from copied; otherwise from the client, and goes there as well
	row    func(columns [][]byte) error
	tag    func(tag string) error // before the tag is told
}

// fault is the error that Postgres answered to a step.
type fault struct {
	step    int
	message []byte
}

// ask adds a statement of the proxy's own to the script. It goes through a statement and a portal with names of their
// own, so that the client's unnamed ones stay what they are.
func (t *takeover) ask(sql string, parameters ...[]byte) *step {
	t.toServer = pgwire.AppendClose(t.toServer, 'P', ownName)
	t.toServer = pgwire.AppendClose(t.toServer, 'S', ownName)
	t.toServer = pgwire.AppendParse(t.toServer, ownName, sql)
	t.toServer = pgwire.AppendBind(t.toServer, ownName, ownName, parameters...)
	t.toServer = pgwire.AppendExecute(t.toServer, ownName, 0)
	return t.add(step{secret: len(parameters) > 0})
}

func (t *takeover) add(s step) *step {
	s.group = t.groups
	t.steps = append(t.steps, s)
	return &t.steps[len(t.steps)-1]
}

// rehearse adds the statement with nobody listening.
func (t *takeover) rehearse(a *act) *step {
	if a.simple {
		t.toServer = pgwire.AppendClose(t.toServer, 'S', ownRehearsal)
		t.toServer = pgwire.AppendParse(t.toServer, ownRehearsal, a.sql)
		t.toServer = pgwire.AppendClose(t.toServer, 'P', ownRehearsal)
		t.toServer = pgwire.AppendBind(t.toServer, ownRehearsal, ownRehearsal)
	} else {
		if !a.there { // it ends with its transaction, and was not made where Bind was skipped: Postgres says so
			a.there = true
			t.toServer = pgwire.AppendMessage(t.toServer, 'D', []byte{'P'}, []byte(a.portal), []byte{0})
		}
		t.prepareAgain(a)
		_, rest, _ := pgwire.CutString(a.bind[pgwire.HeaderLen:])
		t.toServer = pgwire.AppendClose(t.toServer, 'P', ownRehearsal)
		t.toServer = pgwire.AppendMessage(t.toServer, 'B', []byte(ownRehearsal), []byte{0}, rest)
	}
	t.toServer = pgwire.AppendExecute(t.toServer, ownRehearsal, 0)
	return t.add(step{})
}

// present adds the statement for the client to see.
func (t *takeover) present(a *act) *step {
	if a.simple {
		if n := len(t.steps); n > 0 && t.steps[n-1].group == t.groups {
			t.endGroup()
		}
		t.toServer = pgwire.AppendQuery(t.toServer, a.sql)
		s := t.add(step{told: true, simple: true, hold: a.last && t.own})
		t.groups++
		return s
	}
	if a.bind != nil {
		t.prepareAgain(a)
		if a.portal != "" {
			t.toServer = pgwire.AppendClose(t.toServer, 'P', a.portal)
		}
		t.toServer = append(t.toServer, a.bind...)
	}
	t.toServer = append(t.toServer, a.execute...)
	return t.add(step{told: true, hold: t.own})
}

// prepareAgain adds the statement that a portal was bound to, where it has gone.
func (t *takeover) prepareAgain(a *act) {
	if a.parse != nil {
		t.toServer = pgwire.AppendClose(t.toServer, 'S', ownRehearsal)
		t.toServer = append(t.toServer, a.parse...)
	}
}

// endGroup adds a Sync.
func (t *takeover) endGroup() {
	t.toServer = pgwire.AppendClose(t.toServer, 'P', ownName)
	t.toServer = pgwire.AppendClose(t.toServer, 'S', ownName)
	t.toServer = pgwire.AppendSync(t.toServer)
	t.groups++
}

// play sends the script and reads its answers. It returns the first error that Postgres reported, if any. Where a message
// of the client before the script has failed, the client has been told by then, and void is set.
func (t *takeover) play() (*fault, error) {
	if n := len(t.steps); n > 0 && t.steps[n-1].group == t.groups {
		t.endGroup()
	}
	steps, groups := t.steps, t.groups
	t.steps, t.groups = nil, 0
	if err := t.flushServer(); err != nil {
		return nil, err
	}
	if t.ahead {
		t.ahead = false
		if _, err := t.hearEarlier(true); err != nil {
			return nil, err
		}
	}
	var first *fault
	at := 0
	for group := 0; group < groups; {
		h, err := t.server.Peek()
		var message []byte
		switch {
		case err != nil:
		case t.holds(h):
			_, message, err = t.server.Read()
		case h.Type == 'E':
			message, err = t.shortened()
		default:
			if err = t.large(h, steps, at); err != nil {
				return nil, err
			}
			continue
		}
		if err != nil {
			if first != nil { // said on the way out
				t.toClient = append(t.toClient, first.message...)
			}
			return nil, errors.Join(errToServer, err)
		}
		switch h.Type {
		case 'Z':
			t.status = message[pgwire.HeaderLen]
			group++
			for at = 0; at < len(steps) && steps[at].group < group; at++ {
			}
			continue
		case 'E':
			if first == nil {
				first = &fault{at, bytes.Clone(message)}
				if at < len(steps) && steps[at].secret { // log_parameter_max_length_on_error puts them into the context
					first.message = pgwire.WithoutContext(message)
				}
			}
			continue
		case 'S', 'A':
			if err := t.tell(message); err != nil {
				return nil, err
			}
			continue
		}
		if at >= len(steps) {
			if h.Type == '3' || h.Type == 'N' {
				continue
			}
			return nil, protocolError(h.Type)
		}
		done, err := t.answer(&steps[at], message)
		if err != nil {
			return nil, err
		}
		if done {
			at++
		}
	}
	return first, nil
}

// answer handles a message that answers a step and reports whether it is the last one.
func (t *takeover) answer(s *step, message []byte) (done bool, err error) {
	switch message[0] {
	case 'D':
		if s.row != nil {
			columns, err := pgwire.ParseDataRow(message)
			if err != nil {
				return false, errors.Join(errOutOfStep, err)
			}
			return false, s.row(columns)
		}
	case 'N':
		if s.told && t.own && pgwire.ParseError(message).Code == "25001" {
			return false, nil // BEGIN where the proxy has begun
		}
	case '1', '2', '3', 'n', 't':
		return false, nil
	case 'T':
		if !s.simple {
			return false, nil
		}
	case 'G':
		return false, t.copyIn(s, message)
	case 'C', 'I', 's':
		if s.tag != nil {
			tag, _, _ := pgwire.CutString(message[pgwire.HeaderLen:])
			if err := s.tag(string(tag)); err != nil {
				return true, err
			}
		}
		if s.told && s.hold {
			t.held = append(t.held[:0], message...)
			return true, nil
		}
		if s.told {
			return true, t.tell(message)
		}
		return true, nil
	}
	if s.told {
		return false, t.tell(message)
	}
	return false, nil
}

// large handles a message that is too large to be held: it is the client's, or nobody's.
func (t *takeover) large(h pgwire.Header, steps []step, at int) error {
	if at < len(steps) && steps[at].told {
		return t.stream(h)
	}
	if at < len(steps) && steps[at].row != nil {
		if err := steps[at].row(nil); err != nil {
			return err
		}
	}
	if _, err := t.server.Forward(io.Discard); err != nil {
		return errors.Join(errToServer, err)
	}
	return nil
}

// shortened takes an error that is too large to be held.
func (t *takeover) shortened() ([]byte, error) {
	head, err := t.server.Head(maxError)
	if err != nil {
		return nil, err
	}
	message := pgwire.ShortenError(head)
	_, err = t.server.Forward(io.Discard)
	return message, err
}

// copyIn feeds a COPY FROM STDIN.
func (t *takeover) copyIn(s *step, begin []byte) error {
	if s.replay {
		err := s.copied.each(func(message []byte) error {
			t.toServer = append(t.toServer, message...)
			if len(t.toServer) > flushAt {
				return t.flushServer()
			}
			return nil
		})
		if err != nil {
			t.toServer = pgwire.AppendMessage(t.toServer, 'f', []byte("hubpg cannot read the data again\x00"))
		} else {
			t.toServer = pgwire.AppendMessage(t.toServer, 'c')
		}
		return t.flushServer()
	}
	t.toClient = append(t.toClient, begin...)
	if err := t.flush(); err != nil {
		return err
	}
	for {
		h, err := t.client.Peek()
		if err != nil {
			return err
		}
		if h.Type != 'S' && h.Type != 'H' { // which count for nothing
			t.count(h)
		}
		if h.Type == 'd' && h.Size > pgwire.MaxTake {
			if err := t.copyLarge(s.copied, h); err != nil {
				return err
			}
			continue
		}
		_, message, err := t.client.Read()
		if err != nil {
			return fmt.Errorf("read copy data: %w", err)
		}
		t.received(len(message))
		switch h.Type {
		case 'd':
			if s.copied != nil && !s.copied.add(message) {
				continue // the end is told to Postgres when the client has sent it all
			}
		case 'c':
			if s.copied != nil && s.copied.broken != nil {
				t.toServer = pgwire.AppendMessage(t.toServer, 'f', []byte(s.copied.broken.Message+"\x00"))
				return t.flushServer()
			}
		case 'f':
		case 'H', 'S':
			continue
		default:
			return fmt.Errorf("%w: message type %q in copy data", pgwire.ErrFraming, h.Type)
		}
		t.toServer = append(t.toServer, message...)
		if h.Type == 'd' && len(t.toServer) < flushAt {
			continue
		}
		if err := t.flushServer(); err != nil || h.Type != 'd' {
			return err
		}
	}
}

// copyLarge passes on a large message of COPY data, and keeps it, piece by piece.
func (t *takeover) copyLarge(copied *spool, h pgwire.Header) error {
	t.received(h.Size)
	if copied != nil && !copied.admits(h.Size) {
		_, err := t.client.Forward(io.Discard)
		return err
	}
	if err := t.flushServer(); err != nil {
		return err
	}
	_, err := t.client.Forward(&copyPieces{t, copied})
	return err
}

// copyPieces is where the pieces of COPY data go. Postgres gets all of a message of which it has got the beginning; what cannot
// be kept fails the COPY at its end.
type copyPieces struct {
	*takeover
	copied *spool
}

func (c *copyPieces) Write(piece []byte) (int, error) {
	if c.copied != nil {
		c.copied.add(piece)
	}
	n, err := c.upstream.conn.Write(piece)
	if err != nil {
		err = errors.Join(errToServer, err)
	}
	return n, err
}
