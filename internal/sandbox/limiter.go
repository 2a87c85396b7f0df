package sandbox

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// limitClass says which limits a call falls under, besides the daily one.
type limitClass uint8

const (
	limitBurst limitClass = iota
	limitSearch
	limitAssociations
	limitJournal              // reading the webhooks journal
	limitJournalSubscriptions // its subscriptions
	limitJournalSnapshots     // its snapshots
	limitNone                 // signing in, files behind signed addresses
	limitClasses              = int(limitNone)
)

func (c limitClass) String() string {
	return [...]string{
		"burst", "search", "associations", "journal", "journal-subscriptions", "journal-snapshots", "none",
	}[c]
}

// daily tells whether calls of the class count towards the account's day.
func (c limitClass) daily() bool { return c < limitJournal }

// limiter enforces the account's limits. The rolling windows count admitted calls; the daily count
// has rejected ones too, as HubSpot's.
type limiter struct {
	quota quota
	zone  *time.Location

	mu       sync.Mutex // guards below
	admitted [limitClasses]window
	arrived  [limitClasses]window
	apps     map[string]*appWindows // bursts of OAuth apps, by client id
	day      string
	daily    int

	limited    map[string]int64
	violations map[string]int64
	peak       map[string]int
}

// appBurst is what an app from the marketplace may call in ten seconds.
const appBurst = 110

// appWindows are the bursts of one OAuth app; the account's own belong to its static token.
type appWindows struct{ admitted, arrived window }

// window is the calls of a rolling span of time.
type window struct {
	span  time.Duration
	limit int
	times []time.Time // oldest first, from head on
	head  int
}

// count forgets what is older than the span and counts the rest.
func (w *window) count(now time.Time) int {
	for w.head < len(w.times) && now.Sub(w.times[w.head]) >= w.span {
		w.head++
	}
	if w.head > 1024 && w.head > len(w.times)/2 {
		w.times = append(w.times[:0], w.times[w.head:]...)
		w.head = 0
	}
	return len(w.times) - w.head
}

func (w *window) add(now time.Time) { w.times = append(w.times, now) }

func newLimiter(cfg Config, zone *time.Location) *limiter {
	q := cfg.Tier.quota()
	l := &limiter{
		quota: q, zone: zone, daily: cfg.DailyUsed, day: time.Now().In(zone).Format(time.DateOnly),
		apps: map[string]*appWindows{}, limited: map[string]int64{}, violations: map[string]int64{}, peak: map[string]int{},
	}
	for class, w := range map[limitClass]window{
		limitBurst:        {span: 10 * time.Second, limit: q.burst},
		limitSearch:       {span: time.Second, limit: searchesPerSecond},
		limitAssociations: {span: 10 * time.Second, limit: q.associations},

		limitJournal:              {span: time.Second, limit: 100},
		limitJournalSubscriptions: {span: time.Second, limit: 50},
		limitJournalSnapshots:     {span: time.Second, limit: 10},
	} {
		l.admitted[class], l.arrived[class] = w, w
	}
	return l
}

// verdict is what the limiter says about a call.
type verdict struct {
	policy    string // the limit that refuses the call; empty when admitted
	remaining int    // of the window, after this call
	max       int
	dailyMax  int // 0 when the day does not matter to the app
	dailyLeft int
}

// windows are where a call of app counts. An app's burst is its own; everything else is the account's.
func (l *limiter) windows(app *app, class limitClass) (arrived, admitted *window) {
	if app == nil || class != limitBurst {
		return &l.arrived[class], &l.admitted[class]
	}
	w := l.apps[app.ClientID]
	if w == nil {
		limit := appBurst
		if app.Private {
			limit = l.quota.burst
		}
		w = &appWindows{window{span: 10 * time.Second, limit: limit}, window{span: 10 * time.Second, limit: limit}}
		l.apps[app.ClientID] = w
	}
	return &w.arrived, &w.admitted
}

// admit counts a call of an app, nil for the static token, and, when enforcing, decides on it.
func (l *limiter) admit(app *app, class limitClass, enforce bool) verdict {
	if class == limitNone {
		return verdict{}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.roll(now)
	daily := class.daily() && (app == nil || app.Private)
	if daily {
		l.daily++
	}

	arrived, w := l.windows(app, class)
	n := arrived.count(now) + 1
	arrived.add(now)
	l.peak[class.String()] = max(l.peak[class.String()], n)
	if n > arrived.limit {
		l.violations[class.String()]++
	}
	if daily && l.daily > l.quota.daily {
		l.violations["daily"]++
	}

	used := w.count(now)
	v := verdict{max: w.limit}
	if daily {
		v.dailyMax, v.dailyLeft = l.quota.daily, max(0, l.quota.daily-l.daily)
	}
	switch {
	case enforce && daily && l.daily > l.quota.daily:
		v.policy = "DAILY"
	case enforce && used >= w.limit && w.span == time.Second:
		v.policy = "SECONDLY"
	case enforce && used >= w.limit:
		v.policy = "TEN_SECONDLY_ROLLING"
	default:
		w.add(now)
		used++
	}
	v.remaining = max(0, w.limit-used)
	if v.policy != "" {
		l.limited[v.policy]++
	}
	return v
}

// roll starts a new day at midnight of the account's zone.
func (l *limiter) roll(now time.Time) {
	if day := now.In(l.zone).Format(time.DateOnly); day != l.day {
		l.day, l.daily = day, 0
	}
}

// used is today's count and when it is reset.
func (l *limiter) used() (n int, resets time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now().In(l.zone)
	l.roll(now)
	y, m, d := now.Date()
	return l.daily, time.Date(y, m, d+1, 0, 0, 0, 0, l.zone)
}

// describe sets the rate limit headers; search has none.
func (v verdict) describe(r *reply, class limitClass) {
	if class != limitBurst && class != limitAssociations {
		return
	}
	if v.dailyMax > 0 {
		r.set("X-HubSpot-RateLimit-Daily", strconv.Itoa(v.dailyMax))
		r.set("X-HubSpot-RateLimit-Daily-Remaining", strconv.Itoa(v.dailyLeft))
	}
	if class != limitBurst {
		return
	}
	r.set("X-HubSpot-RateLimit-Interval-Milliseconds", "10000")
	r.set("X-HubSpot-RateLimit-Max", strconv.Itoa(v.max))
	r.set("X-HubSpot-RateLimit-Remaining", strconv.Itoa(v.remaining))
	r.set("X-HubSpot-RateLimit-Secondly", strconv.Itoa(v.max/10))
	r.set("X-HubSpot-RateLimit-Secondly-Remaining", strconv.Itoa(min(v.max/10, v.remaining)))
}

// tooMany is the 429 of a policy.
func (c *call) tooMany(policy string) *reply {
	f := failure{status: http.StatusTooManyRequests, errorType: "RATE_LIMIT", policy: policy}
	switch policy {
	case "DAILY":
		f.message = "You have reached your daily limit."
	case "SECONDLY":
		f.message, f.errorType, f.policy = "You have reached your secondly limit.", "", ""
		f.category = "RATE_LIMITS"
	default:
		f.message = "You have reached your ten_secondly_rolling limit."
	}
	r := c.fail(f)
	r.limiter = policy
	return r
}
