package proxy

import (
	"net"
	"net/netip"
	"testing"
)

// peer is a connection from an address.
type peer struct {
	net.Conn
	from net.Addr
}

func (p peer) RemoteAddr() net.Addr { return p.from }

func from(address string) peer {
	return peer{from: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), 4711))}
}

func TestConnectionsAreCountedByWhatAHostOwns(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		first, second string
		shared        bool
	}{
		{"192.0.2.1", "192.0.2.1", true},
		{"192.0.2.1", "192.0.2.2", false},
		{"192.0.2.1", "::ffff:192.0.2.1", true},
		{"::ffff:192.0.2.1", "::ffff:192.0.2.2", false},
		{"2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff", true},
		{"2001:db8:0:1::1", "2001:db8:0:2::1", false},
		{"::1", "::1", true},
		{"::1", "127.0.0.1", false},
		{"fe80::1%eth0", "fe80::1%eth0", true},
		{"fe80::1%eth0", "fe80::2%eth0", false},
	} {
		a := admission{limits: Limits{Sessions: 10, SessionsPerAddress: 1}, addresses: map[netip.Prefix]int{}}
		first, second := from(test.first), from(test.second)
		v, ok := a.admit(networkOf(first))
		if !ok || v.err != nil {
			t.Fatalf("%s was refused", test.first)
		}
		refused, ok := a.admit(networkOf(second))
		if !ok || (refused.err != nil) != test.shared {
			t.Errorf("%s beside %s: refused %v, want %v", test.second, test.first, refused.err, test.shared)
		}
		a.release(networkOf(second), refused)
		a.release(networkOf(first), v)
		if len(a.addresses) != 0 || a.total != 0 || a.refusing != 0 {
			t.Errorf("%s and %s have left, and %+v", test.first, test.second, &a.addresses)
		}
	}
	a := admission{limits: Limits{Sessions: 10, SessionsPerAddress: 1}, addresses: map[netip.Prefix]int{}}
	for range 3 {
		if v, ok := a.admit(networkOf(peer{from: &net.UnixAddr{Net: "unix"}})); !ok || v.err != nil {
			t.Error("a Unix socket has an address")
		}
	}
}
