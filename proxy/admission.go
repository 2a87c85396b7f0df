package proxy

import (
	"net"
	"net/netip"
	"sync"

	"hubpg/internal/pgwire"
)

// admission counts connections against the limits. A connection over a limit is still let in, as one of a few, to be
// told so.
type admission struct {
	limits Limits

	mu        sync.Mutex // guards below
	total     int
	refusing  int
	addresses map[netip.Prefix]int
	roles     map[string]int
}

// verdict is what admission decided; its zero value is a connection within the limits.
type verdict struct {
	err    *pgwire.Error
	reason refusal
}

// admit reports false for a connection that must be closed without a word. Every true needs one release.
func (a *admission) admit(address netip.Prefix) (verdict, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var v verdict
	switch {
	case a.total >= a.limits.Sessions:
		v = verdict{errTooManySessions(), refusedSessions}
	case address.IsValid() && a.addresses[address] >= a.limits.SessionsPerAddress:
		v = verdict{errTooManyFromAddress(), refusedAddress}
	default:
		a.total++
		a.addresses[address]++
		return v, true
	}
	if a.refusing >= refusalSlots {
		return v, false
	}
	a.refusing++
	return v, true
}

func (a *admission) release(address netip.Prefix, v verdict) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if v.err != nil {
		a.refusing--
		return
	}
	a.total--
	if a.addresses[address]--; a.addresses[address] == 0 {
		delete(a.addresses, address)
	}
}

// join counts an authenticated session for its role and reports whether the role may have it. Counting before that
// would let anybody use up the sessions of a role. Every true needs one leave.
func (a *admission) join(role string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if role == "" {
		return true // Postgres lets nobody in by that name
	}
	if limit := a.limits.SessionsPerRole; limit > 0 && a.roles[role] >= limit {
		return false
	}
	a.roles[role]++
	return true
}

// leave takes back a join; the empty role never joined.
func (a *admission) leave(role string) {
	if role == "" {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.roles[role]--; a.roles[role] == 0 {
		delete(a.roles, role)
	}
}

// addressOf returns a client's address without its port; empty for a Unix socket.
func addressOf(conn net.Conn) string {
	if tcp, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.IP.String()
	}
	return ""
}

// networkOf returns what the connections of one client have in common: an IPv4 address, also where it comes inside of an IPv6
// one, or the 64 bits of an IPv6 address behind which a host may have as many as it likes. Link-local addresses share
// these bits with all others of the link, and count whole. It is not valid for a Unix socket.
func networkOf(conn net.Conn) netip.Prefix {
	const hostBits = 64
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	address := tcp.AddrPort().Addr().Unmap()
	bits := address.BitLen()
	if address.Is6() && !address.IsLinkLocalUnicast() {
		bits = hostBits
	}
	return netip.PrefixFrom(address.WithZone(""), bits).Masked()
}
