package proxy

import (
	"fmt"
	"strings"
	"time"
)

// Plight says of every session that listens and is not parked what decides whether it gives its backend back, and whether that helps
// to ask it once more: then it was not asked, or did not hear of it. It waits for no lock that may be what holds a session.
func (s *Server) Plight() string {
	s.mu.Lock()
	var listening []*session
	for v := range s.sessions {
		if v.listener != nil {
			listening = append(listening, v)
		}
	}
	s.mu.Unlock()
	var out strings.Builder
	before := s.Stats().Parked
	for _, v := range listening {
		state, said, free := v.plight()
		out.WriteString(state)
		if !free {
			continue
		}
		again := idleTimer{quiet: 2, seen: said}
		again.fired(v.listener)
		again.stop()
	}
	time.Sleep(time.Second)
	fmt.Fprintf(&out, "parked %d, once asked again %d\n", before, s.Stats().Parked)
	return out.String()
}

// plight also returns how much the session has said and been told, and whether its locks were free.
func (v *session) plight() (state string, said uint64, free bool) {
	if !v.out.TryLock() {
		return "out is held\n", 0, false
	}
	defer v.out.Unlock()
	if !v.mu.TryLock() {
		return "mu is held\n", 0, false
	}
	defer v.mu.Unlock()
	said = v.ledger.asked + v.ledger.answered
	if v.dozing {
		return "", said, true
	}
	l := v.listener
	state = fmt.Sprintf("boundary %v, idle %v, parking %v, demand %d, wake %d, may park %v, renewable %v, residue %+v, ledger %+v\n",
		v.boundary, v.idle, v.parking, v.baton.wanted.Load(), len(l.wake), l.mayPark(), v.renew != nil, l.residue, v.ledger)
	return state, said, true
}
