package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"hubpg/internal/handover"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
)

// refusalSlots is how many connections over the limit may wait at once for a proper error; more are just closed.
const refusalSlots = 64

// What a draining server allows to those who connected before it stopped to accept.
const (
	greetGrace = time.Second      // to send a start-up packet
	firstGrace = 10 * time.Second // since its login, to a session that has asked nothing yet
	youngGrace = time.Second      // since its login, to any other: a driver may ask in several steps
)

// drainStep is how often a draining server looks for sessions that have become idle.
const drainStep = 20 * time.Millisecond

// Server relays Postgres sessions and serves the LISTEN hub.
type Server struct {
	config    Config
	upstream  *pgconn.Config
	hub       *Hub       // nil without a change log
	watch     *watch     // likewise
	freshness *freshness // likewise
	tls       *certificate
	verifiers *verifiers // nil unless they are read
	roster    *roster    // nil without a change log
	keeper    *keeper    // nil unless backends are kept
	regulars  regulars
	listeners []net.Listener
	aside     *handover.Aside // nil where there is no such thing
	admission admission
	memory    memory
	disk      memory // what COPY data takes in files
	loops     loops
	keys      cancelKeys
	counters  counters

	mu       sync.Mutex // guards below
	sessions map[*session]struct{}
	draining bool
}

// New checks the configuration and opens the listening sockets, so that a port in use is known before anything else
// is started. [Server.Run] serves them; a Server that is not going to run must be closed.
func New(cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s := &Server{config: cfg, sessions: map[*session]struct{}{}}
	s.admission = admission{limits: cfg.Limits, addresses: map[netip.Prefix]int{}, roles: map[string]int{}}
	s.memory.size, s.disk.size = cfg.Limits.StatementMemory, cfg.Limits.CopyDisk
	s.keys.sessions = map[cancelKey]*session{}
	var err error
	if s.upstream, err = parseUpstream(cfg.Upstream); err != nil {
		return nil, err
	}
	if cfg.TLS.CertFile != "" {
		if s.tls, err = loadCertificate(cfg.TLS); err != nil {
			return nil, err
		}
	}
	if cfg.Auth == AuthSCRAM {
		s.verifiers = newVerifiers(&s.config)
	}
	s.keeper = newKeeper(&s.config, &s.counters)
	if cfg.Changes != nil {
		s.hub = newHub(&s.config, &s.counters)
		s.watch = newWatch(&s.config)
		s.freshness = newFreshness(&s.config, &s.counters)
	}
	if err := s.listen(); err != nil {
		s.Close()
		return nil, err
	}
	s.meet()
	if cfg.Changes != nil {
		s.roster = newRoster(&s.config, s.Addr().String())
	}
	return s, nil
}

func (s *Server) listen() error {
	if s.config.Listen != "none" {
		l, err := handover.TCP(context.Background(), s.config.Listen, s.config.TakeOver)
		if err != nil {
			return fmt.Errorf("listen for Postgres clients: %w", err)
		}
		s.listeners = append(s.listeners, l)
	}
	if s.config.Socket == "" {
		return nil
	}
	path := socketPath(s.config.Socket, s.Addr())
	l, err := handover.Unix(context.Background(), path, s.config.TakeOver)
	if err != nil {
		return fmt.Errorf("listen for Postgres clients: %w", err)
	}
	s.listeners = append(s.listeners, l)
	return nil
}

// socketPath names the socket as libpq looks for it: by the TCP port, or Postgres's own if there is none.
func socketPath(dir string, addr net.Addr) string {
	port := 5432
	if tcp, ok := addr.(*net.TCPAddr); ok {
		port = tcp.Port
	}
	return filepath.Join(dir, ".s.PGSQL."+strconv.Itoa(port))
}

// Addr is the TCP address being served, or the Unix socket's where there is no TCP.
func (s *Server) Addr() net.Addr {
	if len(s.listeners) == 0 {
		return nil
	}
	return s.listeners[0].Addr()
}

// Close closes the listening sockets. Sessions are ended by the context of [Server.Run].
func (s *Server) Close() {
	for _, l := range s.listeners {
		l.Close()
	}
	s.closeAside()
}

func (s *Server) closeAside() {
	if s.aside != nil {
		s.aside.Close()
	}
}

// ReloadTLS reads the certificate files again; sessions begun later are shown the new certificate. On an error the
// old one stays.
func (s *Server) ReloadTLS() error {
	if s.tls == nil {
		return nil
	}
	return s.tls.load()
}

// Run serves until ctx ends and every session is over: idle ones are told 57P01 at once, transactions may finish
// within the drain timeout. Who is connecting at that moment is let in and may ask a first question. It returns nil
// after such an end.
func (s *Server) Run(ctx context.Context) error {
	defer s.Close()
	if err := s.loops.start(); err != nil {
		return err
	}
	// Sessions and the hub outlive ctx by the drain.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	in := &entrance{}
	in.greet, in.endGreet = context.WithCancel(work)
	in.login, in.endLogin = context.WithCancel(work)
	defer in.endGreet()
	defer in.endLogin()
	var hub errgroup.Group
	if s.hub != nil {
		hub.Go(func() error { return s.hub.Run(work) })
	}
	if s.roster != nil {
		hub.Go(func() error { return s.roster.Run(work) })
	}
	if s.watch != nil {
		hub.Go(func() error { return s.watch.Run(work) })
		hub.Go(func() error { return s.freshness.Run(work) })
	}
	if s.keeper != nil {
		hub.Go(func() error { return s.keeper.Run(work) })
	}
	hub.Go(func() error { return s.serveAside(work) })
	var sessions sync.WaitGroup
	serve := func(conn net.Conn) { sessions.Go(func() { s.serve(work, in, &sessions, conn) }) }
	accepting, accept := errgroup.WithContext(ctx)
	for _, l := range s.listeners {
		accepting.Go(func() error { return s.accept(accept, l, serve) })
	}
	err := accepting.Wait()
	s.drain(&sessions, in)
	s.keeper.stop()
	s.closeAside()
	stop()
	return errors.Join(err, hub.Wait(), s.loops.stop())
}

// entrance bounds how long the connections that are not sessions yet outlive the context of Run.
type entrance struct {
	greet, login       context.Context // until the start-up packet, and until the session has begun
	endGreet, endLogin context.CancelFunc
}

// accept serves one listening socket until ctx ends, and then what is waiting there.
func (s *Server) accept(ctx context.Context, l net.Listener, serve func(net.Conn)) error {
	unwatch := context.AfterFunc(ctx, func() {
		if timed, ok := l.(interface{ SetDeadline(time.Time) error }); !ok || timed.SetDeadline(time.Now()) != nil {
			l.Close()
		}
	})
	defer unwatch()
	for {
		conn, err := l.Accept()
		switch {
		case err == nil:
			serve(conn)
			continue
		case ctx.Err() != nil:
			return handover.Drain(l, serve)
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept on %s: %w", l.Addr(), err)
		case err != nil:
			// Out of descriptors, most likely: sessions that end will free some.
			s.config.Logger.Error("accept connection", "address", l.Addr().String(), "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}
}

// serve takes one connection from its first byte to its end, or until it needs no goroutine.
func (s *Server) serve(work context.Context, in *entrance, sessions *sync.WaitGroup, conn net.Conn) {
	network := networkOf(conn)
	refused, ok := s.admission.admit(network)
	if !ok {
		s.counters.refused[refusedSessions].Add(1)
		conn.Close()
		return
	}
	tune(conn)
	confine(conn)
	v := &session{server: s, client: conn, network: network, refused: refused, among: sessions, log: s.config.Logger}
	v.live(func() bool { return v.serve(work, in) })
}

// tune sets what both legs of a session want of TCP. Go sets TCP_NODELAY by itself.
func tune(conn net.Conn) {
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	// A connection on which this fails is about to fail in a way that its reader will report.
	_ = tcp.SetKeepAliveConfig(net.KeepAliveConfig{
		Enable: true, Idle: time.Minute, Interval: 15 * time.Second, Count: 4,
	})
	if within(tcp) {
		_ = tcp.SetReadBuffer(nearBuffer)
	}
}

// confine bounds what the kernel takes for a client on this machine. Of what is sent to Postgres it may take more: Postgres reads a
// few KiB at a time, and each time there would be room for a few KiB.
func confine(client net.Conn) {
	if tcp, ok := client.(*net.TCPConn); ok && within(tcp) {
		_ = tcp.SetWriteBuffer(nearBuffer)
	}
}

// nearBuffer bounds the kernel's buffers of a connection within the machine, which need not bridge any distance. Otherwise a stream whose
// receiver is slow fills megabytes, which have left the processor's caches when they are read. Linux makes twice as much of it, where
// net.core.rmem_max and wmem_max allow that, which are 208 KiB unless somebody has changed them. Less than 128 KiB would end the reading
// of long streams in large pieces (netloop's muchRoom).
const nearBuffer = 160 << 10

// within reports whether both ends of a connection are on this machine.
func within(conn *net.TCPConn) bool {
	here, ok := conn.LocalAddr().(*net.TCPAddr)
	there, okThere := conn.RemoteAddr().(*net.TCPAddr)
	return ok && okThere && (there.IP.IsLoopback() || there.IP.Equal(here.IP))
}

// drain ends all sessions, and all connections on their way to become one, and waits for them.
func (s *Server) drain(sessions *sync.WaitGroup, in *entrance) {
	done := make(chan struct{})
	go func() { // ends with the last session
		sessions.Wait()
		close(done)
	}()
	deadline := time.NewTimer(s.config.DrainTimeout)
	defer deadline.Stop()
	silent := time.AfterFunc(greetGrace, in.endGreet)
	defer silent.Stop()
	step := time.NewTicker(drainStep)
	defer step.Stop()
	force := false
	for {
		for _, v := range s.open() {
			v.drain(force)
		}
		select {
		case <-done:
			return
		case <-deadline.C:
			force = true
			in.endGreet()
			in.endLogin()
		case <-step.C:
		}
	}
}

// open lists the sessions that are being relayed.
func (s *Server) open() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
	list := make([]*session, 0, len(s.sessions))
	for v := range s.sessions {
		list = append(list, v)
	}
	return list
}

func (s *Server) add(v *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions[v] = struct{}{}
	s.roster.enter(v, v.upstream.pid)
}

func (s *Server) remove(v *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, v)
	s.roster.leave(v)
}
