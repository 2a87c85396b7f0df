package proxy

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"hubpg/internal/pgwire"
	"hubpg/internal/scram"
)

// How a login to Postgres begins while the client still proves its password.
//
// A client computes for some milliseconds before it can answer a challenge of SCRAM, and Postgres takes as long to start a process. The
// proxy has the latter done meanwhile: it connects, says who is to be logged in, and takes Postgres's own challenge, which only the
// client's proof can answer. So nobody gets further without a proof than a client of Postgres does; but Postgres does some work for who has
// proved nothing. Therefore it is for regulars only: clients at an address from which the same role has logged in to the same database, and
// no longer once a proof fails there; few at once, and not for long.

// Bounds of head starts.
const (
	headStarts   = 8                      // at once
	headStartFor = 500 * time.Millisecond // until the client's proof; half of the least authentication_timeout that Postgres can have
	maxRegulars  = 1000
	maxNameBytes = 63 // of a role or a database, as in Postgres
)

// regular is a role that has logged in to a database, at Postgres by SCRAM, from an address.
type regular struct {
	network        netip.Prefix
	user, database string
}

// regulars are who may have a head start. They may be used by any goroutine.
type regulars struct {
	mu    sync.Mutex // guards below
	known map[regular]struct{}
	ahead int // head starts under way
}

// add makes somebody a regular, in the place of another where there are many.
func (r *regulars) add(who regular) {
	if len(who.user) > maxNameBytes || len(who.database) > maxNameBytes {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.known == nil {
		r.known = map[regular]struct{}{}
	}
	if _, known := r.known[who]; !known && len(r.known) >= maxRegulars {
		for other := range r.known {
			delete(r.known, other)
			break
		}
	}
	r.known[who] = struct{}{}
}

func (r *regulars) remove(who regular) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, who)
}

// enter reports whether somebody may have a head start now. Every true needs one leave.
func (r *regulars) enter(who regular) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.known[who]; !known || r.ahead >= headStarts {
		return false
	}
	r.ahead++
	return true
}

func (r *regulars) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ahead--
}

// regular is who the client says it is.
func (v *session) regular() regular {
	return regular{v.network, v.startup.Parameter("user"), databaseOf(v)}
}

// headStart is a login under way for a client that has not proved its password yet; nil is none.
type headStart struct {
	cancel context.CancelFunc
	leave  func()        // gives its place to others
	done   chan struct{} // closed when the below is known
	in     *keyLogin     // nil if it came to nothing
	stop   func() bool   // has the end of its time not end in, or reports that it has
}

// headStart begins one where the client may have it, and where no kept backend waits for who makes this claim. It needs one end.
func (l *login) headStart(ctx context.Context, c claim) *headStart {
	server, startup := l.session.server, l.startup
	if server.keeper.has(c) || !server.regulars.enter(l.regular()) {
		return nil
	}
	server.counters.headStarts.Add(1)
	h := &headStart{leave: sync.OnceFunc(server.regulars.leave), done: make(chan struct{})}
	ctx, h.cancel = context.WithTimeout(ctx, headStartFor)
	go func() {
		defer close(h.done)
		defer l.recover()
		if !h.run(ctx, server, startup) {
			h.leave() // it is made again, and fails for the client to see, once that has proved its password
		}
	}()
	return h
}

// run takes the login to Postgres's challenge and reports whether it got there.
func (h *headStart) run(ctx context.Context, server *Server, startup *pgwire.Startup) bool {
	in, err := server.approach(ctx, startup)
	if err != nil {
		return false
	}
	if err := in.within(ctx, in.meet); err != nil {
		in.conn.Close()
		return false
	}
	h.in = in
	h.stop = context.AfterFunc(ctx, func() {
		in.conn.Close()
		h.leave()
	})
	return true
}

// finish takes the login to its end with the keys of the client that has proved its password. It returns nil without an error if there is
// none, or none any more.
func (h *headStart) finish(ctx context.Context, keys *scram.Keys) (*loginResult, error) {
	if h == nil {
		return nil, nil
	}
	<-h.done
	in := h.in
	if h.in = nil; in == nil || !h.stop() {
		return nil, nil
	}
	return in.finish(ctx, keys)
}

// end ends the login, unless it was finished.
func (h *headStart) end() {
	if h == nil {
		return
	}
	h.cancel()
	<-h.done
	h.leave()
}

// errNotChallenged says that Postgres wants something else than a proof by SCRAM.
var errNotChallenged = errors.New("there is no challenge")

// meet takes the login to Postgres's challenge, and fails where there is none.
func (in *keyLogin) meet() error {
	for in.challenge == nil {
		h, message, err := in.reader.Read()
		if err != nil {
			return err
		}
		if h.Type != 'R' {
			return errNotChallenged
		}
		code, _, err := pgwire.ParseAuthentication(message)
		if err != nil || code != pgwire.AuthSASL && code != pgwire.AuthSASLContinue {
			return errNotChallenged
		}
		if err := in.authentication(message); err != nil {
			return err
		}
	}
	return nil
}
