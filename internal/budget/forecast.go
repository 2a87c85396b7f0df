package budget

import (
	"math"
	"time"
)

// Load is what there is to keep true, for a Forecast.
type Load struct {
	Tables        []TableLoad
	Pairs         []PairLoad
	ChangesPerDay int64 // records that change, each alone: the dearest way
	Fetchers      int   // ranges of ids of one table that a backfill reads at once
}

// TableLoad is one mirrored object type.
type TableLoad struct {
	Name      string
	Rows      int64
	Wide      bool // its properties do not fit a URL: records are listed by id and then read in batches
	Pipelines bool
}

// PairLoad is one association table.
type PairLoad struct {
	Name string
	Rows int64 // records of the side that is read from
}

// Rhythm is how often each lane comes round.
type Rhythm struct {
	Busy, Idle time.Duration // shortest and longest pause between two polls of a table
	Trailing   time.Duration
	Schema     time.Duration
	Archived   time.Duration
	IDs        time.Duration
	Pairs      time.Duration
	Calculated time.Duration
	Counts     time.Duration
	Lookups    time.Duration
}

// Limits are those of the account.
type Limits struct {
	Burst       int // calls per 10 s
	Association int // calls per 10 s
	Search      int // calls per second
	Daily       int // 0 when there is none or none is known
}

// Forecast is what a Load costs.
type Forecast struct {
	Backfill BackfillForecast
	Lanes    []LaneForecast // calls a day once every table is live
	Day      int64          // their sum, and that of the changes
	Allowed  int64          // what reads may use of a day, 0 without a daily limit
	Fits     bool
}

// BackfillForecast is the cost of filling every table once.
type BackfillForecast struct {
	ObjectCalls      int64
	AssociationCalls int64
	Takes            time.Duration // at the pace that the tightest limit allows
	Bound            string        // which one: burst, association or daily
}

// LaneForecast is the cost of one kind of work.
type LaneForecast struct {
	Lane   string
	Family string // of limits: search, object, association
	Class  string
	Calls  int64 // a day
	Most   bool  // an upper bound: it depends on how changes fall together
}

const (
	recordsPerCall      = 100
	associationsPerCall = 1000
	lookupCalls         = 11
	dayLength           = 24 * time.Hour
)

// Forecast estimates what l costs under the limits, with c's share and guard. It does not touch the database.
//
// The formulae, with ⌈⌉ for rounding up:
//
//	backfill       Σ tables ⌈rows/100⌉, twice where wide, and Fetchers where that is more than a page: as many ranges of
//	               ids turn out empty  +  Σ pairs ⌈rows/1000⌉
//	its duration   max(object calls / burst pace, association calls / association pace, all calls / (day's share × 0.85)),
//	               pace = the lesser of limit × share / window and ⌈limit × share⌉ / (window + guard)
//	follow         tables × day/[QuietPause] searches
//	trailing       tables × day/Trailing searches
//	schema         day/Schema × (5 + tables + tables with pipelines)
//	archived       tables × day/Archived, one page each
//	ids            day/IDs × Σ ⌈rows/100⌉
//	calculated     day/Calculated × Σ ⌈rows/100⌉
//	associations   day/Pairs × Σ pairs ⌈rows/1000⌉
//	counts         day/Counts
//	lookup         day/Lookups × 11, with one page of lists, forms, emails and campaigns each; what is in lists and forms
//	               comes on top
//	changes        each alone: the polls between Busy and Idle, a batch read, a read of each pair of its table;
//	               searches never exceed their pace
//
// It leaves out retries, pages of associations beyond the first of a record, and what the engine saves when changes come
// together.
func (c Config) Forecast(l Load, limits Limits, r Rhythm) Forecast {
	c = c.withDefaults()
	var f Forecast
	tables := int64(len(l.Tables))
	var pipelines, pages, associations int64
	for _, t := range l.Tables {
		n := ceil(t.Rows, recordsPerCall)
		pages += n
		f.Backfill.ObjectCalls += n
		if t.Wide {
			f.Backfill.ObjectCalls += n
		}
		if n > 1 {
			f.Backfill.ObjectCalls += int64(l.Fetchers)
		}
		if t.Pipelines {
			pipelines++
		}
	}
	for _, p := range l.Pairs {
		if p.Rows > 0 { // what has no records is not asked for
			associations += ceil(p.Rows, associationsPerCall)
		}
	}
	f.Backfill.AssociationCalls = associations
	searchPace := c.pace(searchBucket, limits.Search, time.Second)
	r.Idle = QuietPause(r.Idle, tables, int64(float64(limits.Daily)*c.Share))
	polls := tables * times(r.Idle)
	f.Lanes = []LaneForecast{
		{"follow", "search", fresh.String(), polls, false},
		{"trailing", "search", sweeps.String(), tables * times(r.Trailing), false},
		{"schema", "object", fresh.String(), times(r.Schema) * (5 + tables + pipelines), false},
		{"archived", "object", sweeps.String(), tables * times(r.Archived), false},
		{"ids", "object", sweeps.String(), perDay(pages, r.IDs), false},
		{"calculated", "object", sweeps.String(), perDay(pages, r.Calculated), false},
		{"associations", "association", sweeps.String(), perDay(associations, r.Pairs), false},
		{"counts", "object", sweeps.String(), times(r.Counts), false},
		{"lookup", "object", sweeps.String(), lookupCalls * times(r.Lookups), false},
	}
	if n := l.ChangesPerDay; n > 0 && tables > 0 {
		extra := int64(math.Log(float64(r.Idle)/float64(r.Busy)) / math.Log(1.25))
		searches := min(n*extra, max(0, int64(searchPace*dayLength.Seconds())-polls))
		links := int64(math.Ceil(2 * float64(len(l.Pairs)) / float64(tables)))
		f.Lanes = append(f.Lanes,
			LaneForecast{"changes: polls", "search", fresh.String(), searches, true},
			LaneForecast{"changes: records", "object", fresh.String(), n, true},
			LaneForecast{"changes: associations", "association", fresh.String(), n * links, true})
	}
	for _, lane := range f.Lanes {
		f.Day += lane.Calls
	}
	f.Fits = true
	if limits.Daily > 0 {
		f.Allowed = int64(float64(limits.Daily) * c.Share)
		f.Fits = f.Day <= f.Allowed
	}
	f.Backfill.takes(c, limits)
	return f
}

// takes finds the limit that decides how long a backfill takes.
func (b *BackfillForecast) takes(c Config, limits Limits) {
	bound := func(name string, calls int64, perSecond float64) {
		if d := time.Duration(float64(calls) / perSecond * float64(time.Second)); d > b.Takes || b.Bound == "" {
			b.Takes, b.Bound = d, name
		}
	}
	bound("burst", b.ObjectCalls, c.pace(burstBucket, limits.Burst, 10*time.Second))
	bound("association", b.AssociationCalls, c.pace(associationBucket, limits.Association, 10*time.Second))
	if limits.Daily > 0 {
		// Within the first day's part nothing has to wait for midnight.
		part := float64(limits.Daily) * c.Share * backfill.dailyCap()
		if all := b.ObjectCalls + b.AssociationCalls; float64(all) > part {
			bound("daily", all, part/dayLength.Seconds())
		}
	}
}

// pace is how many reads a second go out under a limit.
func (c Config) pace(bucket string, calls int, window time.Duration) float64 {
	part := float64(max(calls, 1)) * c.Share
	return min(part/window.Seconds(), math.Ceil(part-1e-9)/(window+c.guard(bucket)).Seconds())
}

// quietPart is the part of what reads may use of a day that polls of tables without changes may use.
const quietPart = 0.5

// QuietPause returns the longest pause between two polls of one of the tables, when none of them changes: the one that is
// wished for, or longer where all polls together would use too much of what reads may use of a day; 0 calls mean that no
// limit is known.
func QuietPause(wished time.Duration, tables, daily int64) time.Duration {
	if daily <= 0 {
		return wished
	}
	return max(wished, time.Duration(float64(dayLength)*float64(tables)/(quietPart*float64(daily))))
}

// gatherPart is the part of what reads may use of a day that reading the associations of changed records may use, when all
// tables change all the time.
const gatherPart = 0.125

// GatherPause returns how long records that have merely changed wait for others of their table before their associations are
// read, where a round over all tables costs so many calls: the pause that is wished for, or a longer one, at most longest,
// where rounds that often would use too much of what reads may use of a day; 0 calls a day mean that no limit is known.
func GatherPause(wished, longest time.Duration, round, daily int64) time.Duration {
	if daily <= 0 {
		return wished
	}
	return max(wished, min(longest, time.Duration(float64(dayLength)*float64(round)/(gatherPart*float64(daily)))))
}

func ceil(n, by int64) int64 { return max(1, (n+by-1)/by) }

// times is how often something happens in a day.
func times(every time.Duration) int64 {
	if every <= 0 {
		return 0
	}
	return int64(dayLength / every)
}

// perDay is the cost of something that costs calls each time.
func perDay(calls int64, every time.Duration) int64 {
	if every <= 0 {
		return 0
	}
	return int64(float64(calls) * float64(dayLength) / float64(every))
}
