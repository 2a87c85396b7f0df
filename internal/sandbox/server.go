package sandbox

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// maxURL is the longest request URI HubSpot takes.
const maxURL = 8 << 10

// accountZone is the account's time zone: the daily limit is reset at its midnight.
const accountZone = "US/Eastern"

// Server is a simulated HubSpot. It implements [http.Handler]: the API under the paths HubSpot uses,
// the admin API under /_sandbox/. Its methods may be called by many goroutines.
type Server struct {
	cfg       Config
	account   *account
	oauth     *authority
	webhooks  *webhooks
	journal   *journal
	exports   *exports
	downloads downloads
	limiter   *limiter
	faults    *faults
	stats     *stats
	bodies    *bodies
	zone      *time.Location
	calls     atomic.Uint64

	scopeMu  sync.RWMutex
	withheld map[string]bool // guarded by scopeMu
}

// New makes a simulated account and seeds it.
func New(cfg Config) *Server {
	s := newServer(cfg)
	s.account.seed()
	s.account.watch = s.watch
	return s
}

// newServer makes a server whose account has nothing in it, not even object types.
func newServer(cfg Config) *Server {
	cfg = cfg.withDefaults()
	zone, err := time.LoadLocation(accountZone)
	if err != nil {
		zone = time.FixedZone(accountZone, -5*3600) // no zone database on this machine
	}
	s := &Server{
		cfg:     cfg,
		account: newAccount(cfg),
		oauth:   newAuthority(cfg),
		limiter: newLimiter(cfg, zone),
		faults:  newFaults(cfg.Seed),
		stats:   newStats(),
		bodies:  newBodies(),
		zone:    zone,
	}
	s.webhooks = newWebhooks(cfg, s.oauth.apps)
	s.journal = newJournal(s.oauth.apps)
	s.exports = &exports{}
	for _, f := range cfg.Faults {
		s.InjectFault(f)
	}
	s.WithholdScopes(cfg.WithheldScopes...)
	return s
}

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, adminPrefix) {
		s.serveAdmin(w, r)
		return
	}
	c := &call{
		s: s, method: r.Method, path: r.URL.Path, correlation: s.correlation(), label: "other", origin: origin(r),
	}
	arrived := time.Now()
	var f *Fault
	answer := s.answer(c, r, &f)
	s.stats.count(c.label, answer.status)
	answer.set("X-HubSpot-Correlation-Id", c.correlation)
	defer answer.release(s.bodies)
	if rest := s.cfg.Latency - time.Since(arrived); rest > 0 && !pause(r, rest) {
		return
	}
	kind := FaultKind("")
	if f != nil {
		kind = f.Kind
	}
	switch kind {
	case FaultDrop, FaultDropAfter:
		panic(http.ErrAbortHandler)
	case FaultCut:
		answer.writeHeader(w, len(answer.body))
		_, _ = w.Write(answer.body[:len(answer.body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case FaultSlow:
		answer.writeHeader(w, len(answer.body))
		trickle(w, r, answer.body, f.Delay)
	default:
		if answer.status == 0 {
			return // the client has gone
		}
		answer.writeHeader(w, len(answer.body))
		if r.Method != http.MethodHead {
			_, _ = w.Write(answer.body) // the client may have gone
		}
	}
}

// answer serves the call up to the point where its reply is to be sent. fault becomes the fault, if
// any, that bends the sending.
func (s *Server) answer(c *call, r *http.Request, fault **Fault) *reply {
	if len(r.RequestURI) > maxURL || len(r.URL.RequestURI()) > maxURL {
		return htmlReply(http.StatusRequestURITooLong, "414 Request-URI Too Large")
	}
	handle := s.route(c, r.URL.EscapedPath())
	c.token = s.oauth.find(bearer(r.Header))
	if f := s.faults.strike(r.Method, r.URL.Path, c.token != nil); f != nil {
		*fault = f
		if f.Kind == FaultExpiredToken && c.token != nil {
			s.oauth.expire(c.token)
		}
		if canned := c.canned(f); canned != nil || f.Kind == FaultDrop {
			v := s.limiter.admit(c.app(), c.limits, false)
			if canned == nil {
				canned = &reply{}
			}
			if s.cfg.Limits && canned.status != http.StatusUnauthorized && !canned.html {
				v.describe(canned, c.limits) // a gateway's page knows nothing of limits
			}
			return canned
		}
	}
	if refused := s.authorize(c, r.Header); refused != nil {
		return refused // belongs to no app, so it counts for none
	}
	v := s.limiter.admit(c.app(), c.limits, s.cfg.Limits)
	answer := s.serve(c, r, handle, v, *fault)
	if s.cfg.Limits {
		v.describe(answer, c.limits)
	}
	return answer
}

func (s *Server) serve(c *call, r *http.Request, handle handler, v verdict, f *Fault) *reply {
	if v.policy != "" {
		return c.tooMany(v.policy)
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return c.invalid("Invalid query string")
	}
	c.query = query
	c.body, err = io.ReadAll(http.MaxBytesReader(nil, r.Body, maxBody))
	if err != nil {
		if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
			return c.fail(failure{status: http.StatusRequestEntityTooLarge, message: "Request body too large"})
		}
		return c.invalid("Unreadable request body")
	}
	// The account is read and written half-way through the latency.
	if s.cfg.Latency > 0 && !pause(r, s.cfg.Latency/2) {
		return &reply{}
	}
	if handle == nil {
		return c.notFound()
	}
	if f != nil && f.Kind == FaultEmptyPage && c.label == "search" {
		return s.emptySearch(c)
	}
	if f != nil && f.Kind == FaultSilence {
		return c.silence()
	}
	return handle(c)
}

// origin is the address under which the client knows this server.
func origin(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

// correlation is a UUID, version 7, unique in this server.
func (s *Server) correlation() string {
	n := mix(s.calls.Add(1) ^ uint64(s.cfg.Seed)<<32)
	ms := uint64(time.Now().UnixMilli())
	return fmt.Sprintf("%08x-%04x-7%03x-%04x-%012x", ms>>16&0xffffffff, ms&0xffff, n>>52, n>>36&0x3fff|0x8000, n&0xffffffffffff)
}

// pause waits, and tells whether the client is still there.
func pause(r *http.Request, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-r.Context().Done():
		return false
	}
}

// trickle sends body in ten pieces over d.
func trickle(w http.ResponseWriter, r *http.Request, body []byte, d time.Duration) {
	const pieces = 10
	if d <= 0 {
		d = time.Second
	}
	for i := range pieces {
		from, to := len(body)*i/pieces, len(body)*(i+1)/pieces
		if _, err := w.Write(body[from:to]); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		if !pause(r, d/pieces) {
			return
		}
	}
}
