package proxy

import (
	"bytes"

	"hubpg/internal/pgwire"
	"hubpg/internal/sqlstmt"
)

// Bounds of a residue. What does not fit keeps the session on its backend.
const (
	maxResidue  = 4 << 10 // bytes of settings and statements
	maxStateful = 32      // of each
	maxTexts    = 1000    // looked at before the session listens
)

// residue is what a client has left behind in its backend. As long as it can be left behind in another one just the
// same, by saying it again, the session may go on without a backend while it has nothing to ask. The session's mu
// guards it.
type residue struct {
	beyond     bool              // it is more than that, or may be: nothing below counts
	settings   []string          // texts of SET and RESET, in order
	statements map[string][]byte // Parse messages as Postgres got them, by name
	size       int
	round      uint64 // the last round in which something was added

	judged int64 // the newest reading of the catalogs by which a query was found harmless; 0 if none was

	texts   int    // looked at so far
	setting string // parsed without a name: added when it is executed
	bound   bool   // the message before was a Bind, of that setting
	fresh   bool   // the message is the first of its round
}

// header looks at the header of a message of the client, before the ledger does.
func (r *residue) header(typ byte, size int, l *ledger) {
	if r.beyond {
		return
	}
	r.fresh = !l.open
	switch typ {
	case 'Q', 'P':
		if size > pgwire.MaxTake {
			r.give()
		}
	case 'F', 'd', 'c', 'f':
		r.give()
	}
	if r.setting == "" {
		return
	}
	switch {
	case typ == 'D', typ == 'H':
	case typ == 'B' && !r.bound:
		r.bound = true
	case typ == 'E' && r.bound:
		r.add(r.setting, l.asked+1)
		r.setting, r.bound = "", false
	default:
		r.give()
	}
}

// give gives up: the session keeps its backend.
func (r *residue) give() { *r = residue{beyond: true} }

// query takes note of the text of a Query that begins a round.
func (r *residue) query(text []byte, l *ledger, h *Hub) {
	switch r.judge(text, l, h) {
	case sqlstmt.Setting:
		if !r.fresh || l.ready != 'I' || l.asked != l.answered+1 {
			r.give() // it may be taken back with a transaction, or never be reached
			return
		}
		r.add(string(text), l.asked)
	case sqlstmt.Anything:
		r.give()
	}
}

// parse takes note of a Parse, as Postgres gets it.
func (r *residue) parse(name string, text, message []byte, l *ledger, h *Hub) {
	state := r.judge(text, l, h)
	if r.beyond {
		return
	}
	old, known := r.statements[name]
	if known && name != "" || state == sqlstmt.Anything {
		r.give()
		return
	}
	if state == sqlstmt.Setting {
		named := len(r.statements)
		if _, unnamed := r.statements[""]; unnamed {
			named--
		}
		if name != "" || named > 0 || !r.fresh || l.ready != 'I' || l.asked != l.answered {
			r.give() // what will be executed, and when, would have to be followed too closely
			return
		}
		r.setting = string(text)
	}
	if known && state == sqlstmt.Nothing && bytes.Equal(old, message) {
		r.round = l.asked + 1 // as before, once it has been answered
		return
	}
	if r.size += len(message) - len(old); r.size > maxResidue || len(r.statements) >= maxStateful {
		r.give()
		return
	}
	if r.statements == nil {
		r.statements = map[string][]byte{}
	}
	r.statements[name] = append([]byte(nil), message...)
	r.round = l.asked + 1
}

// judge says what a text leaves behind.
func (r *residue) judge(text []byte, l *ledger, h *Hub) sqlstmt.State {
	if r.beyond {
		return sqlstmt.Nothing
	}
	if r.texts++; r.texts > maxTexts && !l.active {
		r.give() // it does not look like a listener, and need not be slowed down
		return sqlstmt.Nothing
	}
	n := h.names.Load()
	if cleared, named := n.clears(text); cleared {
		if named {
			r.judged = n.number
		}
		return sqlstmt.Nothing
	}
	return sqlstmt.LeavesBehind(string(text), func(word string) bool {
		r.judged = n.number
		return n.suspect(word)
	})
}

// proved reports whether queries that were found harmless still are: nothing of a name that they use has come up by
// the first reading of the catalogs that began after them. Until that is known it is false.
func (r *residue) proved(n *names) bool {
	if r.judged > 0 && n.added > r.judged {
		r.give()
	}
	return !r.beyond && (r.judged == 0 || n.number >= r.judged+2)
}

// add keeps a setting that takes effect in round.
func (r *residue) add(setting string, round uint64) {
	if r.size += len(setting); r.size > maxResidue || len(r.settings) >= maxStateful {
		r.give()
		return
	}
	r.settings = append(r.settings, setting)
	r.round = round
}

// remembers reports whether the names in Close matter.
func (l *listener) remembers() bool { return l != nil && len(l.residue.statements) > 0 }

// closed takes note of a Close.
func (r *residue) closed(name string) {
	r.size -= len(r.statements[name])
	delete(r.statements, name)
}

// failed takes note of an error in answer to round: what was added there or later may not have happened.
func (r *residue) failed(round uint64) {
	if !r.beyond && (r.round >= round || r.setting != "") {
		r.give()
	}
}

// again returns the messages that leave the same behind, and how many ReadyForQuery will answer them.
func (r *residue) again() (messages []byte, rounds int) {
	for _, s := range r.settings {
		messages = pgwire.AppendQuery(messages, s)
		rounds++
	}
	for _, parse := range r.statements {
		messages = pgwire.AppendSync(append(messages, parse...))
		rounds++
	}
	return messages, rounds
}
