package telemetry

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Sources are asked at every scrape. Each must answer within the context it is given, or from memory.
type Sources struct {
	Proxy  func() Proxy
	Quota  func() *Quota // nil where this process spends none
	Tables func(context.Context) ([]Table, error)
	Feeds  func(context.Context) ([]Feed, error)
	// Webhooks is nil, or answers nil, where this process takes none.
	Webhooks func() *Webhooks
}

// Proxy is a snapshot of the proxy's counters; what is not said to be "now" only grows.
type Proxy struct {
	Sessions      int64            // clients connected now
	SessionsTotal int64            // clients ever accepted
	Refused       map[string]int64 // connections refused, by reason
	Ended         map[string]int64 // sessions ended, by where
	Cancels       int64            // cancel requests forwarded
	BytesIn       int64            // from clients
	BytesOut      int64            // to clients
	Listeners     int64            // subscriptions held by the hub now
	Parked        int64            // listening clients that hold no backend now
	Kept          int64            // backends that wait for their next client now
	Reused        int64            // times that a client was given one
	Delivered     int64            // notifications handed to clients
	CutOff        int64            // listeners ended because they read too slowly
	Waits         int64            // statements that hubpg.max_staleness has had look how fresh their tables are
	Stale         int64            // those of them that failed, because the tables were not fresh in time
	Held          int64            // bytes of long statements that are held now
	NotHeld       int64            // statements that failed because there was no room to hold them, or their COPY data
	Spooled       int64            // bytes of COPY data in files now
	Position      int64            // newest change that the hub has rung; negative before its first read
	HubFailures   int64            // times that the hub lost its connection
}

// Quota is a snapshot of the budget of HubSpot calls.
type Quota struct {
	Buckets        []Bucket
	Refused        map[string]int64 // 429s, by policy
	DailyUsed      int              // calls of this database since midnight in the account's time zone
	DailyRemaining int              // of all apps of the account, as HubSpot last said; negative when not known
}

// Bucket is one of HubSpot's limits.
type Bucket struct {
	Name    string
	Limit   float64          // calls per second that HubSpot allows
	Granted map[string]int64 // calls let through, by class
	Waiting map[string]int   // calls that wait now, by class
	Paused  bool             // HubSpot has asked for a pause
}

// Table is the state of one mirrored table.
type Table struct {
	Name  string
	Rows  float64
	Lag   time.Duration // how long ago the table was last verified complete; negative when never
	Ready bool          // the first backfill is complete
	Error bool
}

// scrapeTimeout bounds the question to Postgres in a scrape.
const scrapeTimeout = 5 * time.Second

// snapshots collects what is asked at scrape time.
type snapshots struct {
	sources Sources

	sessions, sessionsTotal, refusals, ended, cancels, bytes            *prometheus.Desc
	listeners, parked, kept, reused, delivered                          *prometheus.Desc
	cutOff, position, hubFailures, waits, stale, held, notHeld, spooled *prometheus.Desc
	limit, granted, waiting, paused, refused, used, remaining           *prometheus.Desc
	rows, lag, ready, failing, up                                       *prometheus.Desc
}

func newSnapshots(sources Sources) *snapshots {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, labels, nil)
	}
	return &snapshots{
		sources: sources,

		sessions:      desc("hubpg_proxy_sessions", "Clients connected now. At the configured limit new ones are refused."),
		sessionsTotal: desc("hubpg_proxy_sessions_total", "Clients ever accepted. A steep rise: an app connects for every query."),
		refusals:      desc("hubpg_proxy_refused_connections_total", "Connections refused, by reason. Growth at sessions or address: raise the limit or find the leak.", "reason"),
		ended:         desc("hubpg_proxy_ended_sessions_total", "Sessions ended, by where. Growth at server or unreachable: Postgres is in trouble; at panic: report it.", "where"),
		cancels:       desc("hubpg_proxy_cancels_total", "Cancel requests forwarded. A steep rise: clients run into their own timeouts."),
		bytes:         desc("hubpg_proxy_bytes_total", "Bytes relayed, by direction.", "direction"),
		listeners:     desc("hubpg_proxy_listeners", "Subscriptions held by the hub now. Zero while an app should listen: it lost its LISTEN."),
		parked:        desc("hubpg_proxy_parked_sessions", "Listening clients that hold no backend now. Far below the listeners: their sessions hold state, or the proxy cannot log in again."),
		kept:          desc("hubpg_proxy_kept_backends", "Backends that wait for their next client now. At proxy.keep_backends all the time: more could be kept."),
		reused:        desc("hubpg_proxy_reused_backends_total", "Times that a client was given a kept backend. Flat while clients come and go: no two log in alike, or they leave settings of their own."),
		delivered:     desc("hubpg_proxy_notifications_total", "Notifications handed to clients. Flat while hubpg_lane_rows_total grows and apps listen: the hub is stuck."),
		cutOff:        desc("hubpg_proxy_slow_listeners_total", "Listeners ended because they did not read. Any growth: an app is too slow."),
		position:      desc("hubpg_proxy_log_position", "Newest change that the hub has rung. Behind hubpg.change_counter for long: the hub is stuck."),
		hubFailures:   desc("hubpg_proxy_hub_failures_total", "Times the hub lost its connection to Postgres. It recovers by itself; growth means an unstable database."),
		waits:         desc("hubpg_proxy_freshness_waits_total", "Statements that hubpg.max_staleness has had look how fresh their tables are. A steep rise costs quota: each may be a poll."),
		stale:         desc("hubpg_proxy_stale_statements_total", "Statements that failed because their tables were not as fresh as asked for in time. Growth: see lag and errors in hubpg.status."),
		held:          desc("hubpg_proxy_held_bytes", "What long statements take of proxy.statement_memory now. Near it: long statements wait, and some fail."),
		notHeld:       desc("hubpg_proxy_statements_not_held_total", "Statements that failed with 53200, 53100 or 54000 because there was no room to hold them. Growth: raise proxy.statement_memory, or proxy.copy_disk for 53100."),
		spooled:       desc("hubpg_proxy_copy_disk_bytes", "What COPY data for HubSpot takes of proxy.copy_disk now, in files. Near it: a COPY of more than a MiB fails."),

		limit:     desc("hubpg_quota_limit_calls_per_second", "What HubSpot allows the account. Lower than the plan promises: another limit was learned from its headers.", "bucket"),
		granted:   desc("hubpg_quota_calls_total", "Calls let through by the budget.", "bucket", "class"),
		waiting:   desc("hubpg_quota_waiting_calls", "Calls that wait for quota now. Many of class fresh for long: the share is too small for the account.", "bucket", "class"),
		paused:    desc("hubpg_quota_paused", "1 while HubSpot has asked for a pause. Often: other apps of the account use more than was left to them.", "bucket"),
		refused:   desc("hubpg_quota_refused_calls_total", "Calls that HubSpot refused with 429, by policy. Any growth: other apps use more than was left to them.", "policy"),
		used:      desc("hubpg_quota_daily_used_calls", "Calls of this database since midnight in the account's time zone."),
		remaining: desc("hubpg_quota_daily_remaining_calls", "Calls that the account has left today, all apps together. Near zero: tables get stale until midnight."),

		rows:    desc("hubpg_table_rows", "Rows of a mirrored table. A sudden drop deserves a look at hubpg.changes.", "table"),
		lag:     desc("hubpg_table_lag_seconds", "Time since the table was last verified complete. Growing without end: its lane is stuck.", "table"),
		ready:   desc("hubpg_table_ready", "1 once the first backfill is complete. 0 for long: see the ETA in hubpg.status.", "table"),
		failing: desc("hubpg_table_error", "1 while the table's last read failed. hubpg.status has the remedy.", "table"),
		up:      desc("hubpg_database_up", "1 if Postgres answered this scrape. 0: nothing can be stored."),
	}
}

// Describe sends every description.
func (s *snapshots) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		s.sessions, s.sessionsTotal, s.refusals, s.ended, s.cancels, s.bytes,
		s.listeners, s.parked, s.kept, s.reused, s.delivered, s.cutOff, s.position, s.hubFailures, s.waits, s.stale, s.held, s.notHeld, s.spooled,
		s.limit, s.granted, s.waiting, s.paused, s.refused, s.used, s.remaining, s.rows, s.lag, s.ready, s.failing, s.up,
	} {
		ch <- d
	}
}

// Collect asks the sources.
func (s *snapshots) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	counter := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, value, labels...)
	}
	if s.sources.Proxy != nil {
		p := s.sources.Proxy()
		gauge(s.sessions, float64(p.Sessions))
		counter(s.sessionsTotal, float64(p.SessionsTotal))
		counter(s.cancels, float64(p.Cancels))
		counter(s.bytes, float64(p.BytesIn), "in")
		counter(s.bytes, float64(p.BytesOut), "out")
		gauge(s.listeners, float64(p.Listeners))
		gauge(s.parked, float64(p.Parked))
		gauge(s.kept, float64(p.Kept))
		counter(s.reused, float64(p.Reused))
		counter(s.delivered, float64(p.Delivered))
		counter(s.cutOff, float64(p.CutOff))
		counter(s.hubFailures, float64(p.HubFailures))
		counter(s.waits, float64(p.Waits))
		counter(s.stale, float64(p.Stale))
		gauge(s.held, float64(p.Held))
		counter(s.notHeld, float64(p.NotHeld))
		gauge(s.spooled, float64(p.Spooled))
		if p.Position >= 0 {
			gauge(s.position, float64(p.Position))
		}
		for reason, n := range p.Refused {
			counter(s.refusals, float64(n), reason)
		}
		for where, n := range p.Ended {
			counter(s.ended, float64(n), where)
		}
	}
	if s.sources.Quota != nil {
		if q := s.sources.Quota(); q != nil {
			s.collectQuota(q, gauge, counter)
		}
	}
	if s.sources.Tables != nil {
		s.collectTables(gauge)
	}
}

func (s *snapshots) collectQuota(q *Quota, gauge, counter func(*prometheus.Desc, float64, ...string)) {
	for _, b := range q.Buckets {
		gauge(s.limit, b.Limit, b.Name)
		gauge(s.paused, number(b.Paused), b.Name)
		for class, n := range b.Granted {
			counter(s.granted, float64(n), b.Name, class)
		}
		for class, n := range b.Waiting {
			gauge(s.waiting, float64(n), b.Name, class)
		}
	}
	for policy, n := range q.Refused {
		counter(s.refused, float64(n), policy)
	}
	gauge(s.used, float64(q.DailyUsed))
	if q.DailyRemaining >= 0 {
		gauge(s.remaining, float64(q.DailyRemaining))
	}
}

func (s *snapshots) collectTables(gauge func(*prometheus.Desc, float64, ...string)) {
	ctx, cancel := context.WithTimeout(context.Background(), scrapeTimeout)
	defer cancel()
	tables, err := s.sources.Tables(ctx)
	gauge(s.up, number(err == nil))
	for _, t := range tables {
		gauge(s.rows, t.Rows, t.Name)
		gauge(s.ready, number(t.Ready), t.Name)
		gauge(s.failing, number(t.Error), t.Name)
		if t.Lag >= 0 {
			gauge(s.lag, t.Lag.Seconds(), t.Name)
		}
	}
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
