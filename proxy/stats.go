package proxy

import "sync/atomic"

// Stats is a snapshot of what the proxy has done since it was made.
type Stats struct {
	Sessions      int64            // open now, those still logging in included
	SessionsTotal int64            // ever begun
	Refused       map[string]int64 // connections refused, by reason: sessions, address, role, startup, replication, tls
	Ended         map[string]int64 // sessions ended, by where: clean, client, server, login, and so on to panic
	Cancels       int64            // cancel requests forwarded
	BytesIn       int64            // from clients
	BytesOut      int64            // to clients
	Listeners     int64            // subscriptions held by the hub now
	Delivered     int64            // notifications the hub has handed to clients' sockets
	CutOff        int64            // listeners ended because they read too slowly
	Parked        int64            // listening sessions that hold no backend now
	Attached      int64            // times that such a session was given one again
	Kept          int64            // backends that wait for their next client now
	Reused        int64            // times that a client was given one
	HeadStarts    int64            // logins to Postgres begun while the client still proved its password
	Express       int64            // sessions that the event loop carries now
	Rides         int64            // times that it has begun to carry one
	Waits         int64            // statements that looked whether their tables are as fresh as hubpg.max_staleness asks for
	Stale         int64            // those of them that failed
	Held          int64            // bytes of statements, their rows and answers that sessions hold now, as counted against the limit
	HeldBack      int64            // statements that wait now until there is room to hold them
	NotHeld       int64            // statements that failed for want of it, or of room for COPY data
	Spooled       int64            // bytes of COPY data in files now, as counted against the limit
	HubPosition   int64            // newest change the hub has rung; -1 before its first read
	HubFailures   int64            // times the hub lost its connection
}

type counters struct {
	sessions, sessionsTotal, cancels  atomic.Int64
	bytesIn, bytesOut                 atomic.Int64
	refused                           [refusedCount]atomic.Int64
	ended                             [endCount]atomic.Int64
	listeners, delivered, cutOff      atomic.Int64
	hubFailures, parked, attached     atomic.Int64
	express, rides, waits, stale      atomic.Int64
	notHeld, kept, reused, headStarts atomic.Int64
}

// refusal says why a connection never became a session.
type refusal uint8

const (
	refusedSessions refusal = iota
	refusedAddress
	refusedStartup
	refusedReplication
	refusedTLS
	refusedRole
	refusedCount
)

func (r refusal) String() string {
	return [...]string{"sessions", "address", "startup", "replication", "tls", "role"}[r]
}

// Stats returns a snapshot of the counters.
func (s *Server) Stats() Stats {
	c := &s.counters
	out := Stats{
		Sessions: c.sessions.Load(), SessionsTotal: c.sessionsTotal.Load(), Cancels: c.cancels.Load(),
		BytesIn: c.bytesIn.Load(), BytesOut: c.bytesOut.Load(),
		Listeners: c.listeners.Load(), Delivered: c.delivered.Load(), CutOff: c.cutOff.Load(),
		HubFailures: c.hubFailures.Load(), HubPosition: -1, Parked: c.parked.Load(), Attached: c.attached.Load(),
		Kept: c.kept.Load(), Reused: c.reused.Load(), HeadStarts: c.headStarts.Load(),
		Express: c.express.Load(), Rides: c.rides.Load(), Waits: c.waits.Load(), Stale: c.stale.Load(),
		Refused: make(map[string]int64, refusedCount), Ended: make(map[string]int64, endCount),
	}
	held, heldBack := s.memory.state()
	out.Held, out.HeldBack, out.NotHeld = held, int64(heldBack), c.notHeld.Load()
	out.Spooled, _ = s.disk.state()
	for r := range refusedCount {
		out.Refused[r.String()] = c.refused[r].Load()
	}
	for w := range endCount {
		out.Ended[w.String()] = c.ended[w].Load()
	}
	if s.hub != nil {
		out.HubPosition = s.hub.Position()
	}
	return out
}
