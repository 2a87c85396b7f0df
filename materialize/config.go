package materialize

import (
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"hubpg/hubapi"
)

// Config says which account is kept where, and how eagerly. Pool and Client are required; everything else has a default.
type Config struct {
	// Pool leads to the database that holds the tables. It needs at least MinConns connections.
	Pool *pgxpool.Pool
	// Client speaks for the one account that the Engine keeps. Its Limiter shares the quota between processes.
	Client *hubapi.Client
	// Journal speaks for the app that the account is connected through, with the app's own token (client credentials), so
	// that HubSpot's webhooks journal is followed; nil: it is not.
	Journal *hubapi.Client
	// Schema is the schema of the account's tables; "hubspot" by default.
	Schema string
	// Objects restricts the account to these tables. Empty means everything that the token may read.
	Objects []string
	// BackfillEvents makes the first filling of a table write the change log too. By default it is silent.
	BackfillEvents bool
	// RowNotify sends one pg_notify per changed row and channel besides the bell; meant for applications that listen
	// on Postgres directly.
	RowNotify bool
	// IgnoreNewProperties keeps properties that HubSpot gains later out of tables that exist already.
	IgnoreNewProperties bool
	// SoftDeletes keeps the rows of deleted records, with archived_at set. By default they leave the table.
	SoftDeletes bool
	// KeepChanges is how long the change log is kept; 7 days by default.
	KeepChanges time.Duration
	// Fetchers is how many id ranges of one table are read at once; DefaultFetchers by default.
	Fetchers int
	// Remember is how many versions of records are remembered, so that a search that finds them again costs no look at the
	// table; DefaultRemember by default. A few dozen bytes each are set aside at the start.
	Remember int
	// Pace sets the periods of the lanes.
	Pace Pace
	// Meter is told about every step of every lane; nil means nobody asks.
	Meter Meter
	// Logger receives life-cycle events and what needs a human; nil discards.
	Logger *slog.Logger
}

// MinConns is the number of pool connections below which an Engine refuses to start: River's listener and leader, the
// lock that shows the process is alive, and two lanes.
const MinConns = 5

// Pace holds the periods of the lanes. Zero fields get the defaults named beside them.
type Pace struct {
	Busy       time.Duration // 500 ms: shortest pause between two polls of a table that changes
	Idle       time.Duration // 12 s: longest pause between two polls of a table that does not, where the day's quota allows
	Told       time.Duration // 60 s: the same for a table of which the journal or webhooks tell
	Overlap    time.Duration // 20 s: how far each poll looks back behind what it has read already
	Trailing   time.Duration // 5 min: pause between two re-reads of the last hour
	Settle     time.Duration // 1 h: HubSpot's search is trusted to be complete for what is older
	Schema     time.Duration // 5 min: pause between two reads of properties, pipelines and owners
	Archived   time.Duration // 10 min: pause between two walks over the archived records
	IDs        time.Duration // 6 h: pause between two walks over all ids
	Pairs      time.Duration // 24 h: pause between two walks over all associations, and over what is in all lists and forms
	Calculated time.Duration // 12 h: pause between two walks over the values that HubSpot calculates
	Counts     time.Duration // 5 min: pause between two comparisons of row counts with HubSpot's
	Lookups    time.Duration // 10 min: pause between two reads of lists, forms, marketing objects and what is new in them
	Pending    time.Duration // 1 s: pause before associations of changed records are read, so that they gather
	Log        time.Duration // 1 h: pause between two prunings of the change log
	Step       time.Duration // 15 s: after so long a lane yields its worker to the others
	Retry      time.Duration // 5 min: pause before an object that the token may not read is tried again
}

// Meter is told how steps of lanes end. It is called from many goroutines and must not block.
type Meter interface {
	Step(Step)
}

// Step describes one finished step of a lane.
type Step struct {
	Lane  Lane
	Table string // "" for lanes of the whole account
	Calls int    // to HubSpot, as it counts them: each page and each try
	Rows  int    // rows that were new or differed
	Took  time.Duration
	Err   error
}

// jobTimeout ends a step that hangs. A step aims at Pace.Step; what may exceed it is one call that waits for quota.
const jobTimeout = 3 * time.Minute

func (c Config) withDefaults() (Config, error) {
	if c.Pool == nil || c.Client == nil {
		return c, errors.New("create engine: Pool and Client are required")
	}
	if c.Schema == "" {
		c.Schema = "hubspot"
	}
	if c.Fetchers <= 0 {
		c.Fetchers = DefaultFetchers
	}
	if c.Remember <= 0 {
		c.Remember = DefaultRemember
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Meter == nil {
		c.Meter = silent{}
	}
	c.Pace = c.Pace.withDefaults()
	return c, nil
}

func (p Pace) withDefaults() Pace {
	for _, f := range []struct {
		have     *time.Duration
		fallback time.Duration
	}{
		{&p.Busy, 500 * time.Millisecond},
		{&p.Idle, 12 * time.Second},
		{&p.Told, time.Minute},
		{&p.Overlap, 20 * time.Second},
		{&p.Trailing, 5 * time.Minute},
		{&p.Settle, time.Hour},
		{&p.Schema, 5 * time.Minute},
		{&p.Archived, 10 * time.Minute},
		{&p.IDs, 6 * time.Hour},
		{&p.Pairs, 24 * time.Hour},
		{&p.Calculated, 12 * time.Hour},
		{&p.Counts, 5 * time.Minute},
		{&p.Lookups, 10 * time.Minute},
		{&p.Pending, time.Second},
		{&p.Log, time.Hour},
		{&p.Step, 15 * time.Second},
		{&p.Retry, 5 * time.Minute},
	} {
		if *f.have <= 0 {
			*f.have = f.fallback
		}
	}
	p.Idle = max(p.Idle, p.Busy)
	p.Step = min(p.Step, jobTimeout/2)
	return p
}

// silent is the Meter nobody reads.
type silent struct{}

func (silent) Step(Step) {}
