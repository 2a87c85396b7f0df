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
)

func (c limitClass) String() string { return [...]string{"burst", "search", "associations"}[c] }

// limiter enforces the account's limits. The rolling windows count admitted calls; the daily count
// has rejected ones too, as HubSpot's.
type limiter struct {
	quota quota
	zone  *time.Location

	mu       sync.Mutex // guards below
	admitted [3]window
	arrived  [3]window
	day      string
	daily    int

	limited    map[string]int64
	violations map[string]int64
	peak       map[string]int
}

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
		limited: map[string]int64{}, violations: map[string]int64{}, peak: map[string]int{},
	}
	for class, w := range map[limitClass]window{
		limitBurst:        {span: 10 * time.Second, limit: q.burst},
		limitSearch:       {span: time.Second, limit: searchesPerSecond},
		limitAssociations: {span: 10 * time.Second, limit: q.associations},
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
	dailyMax  int
	dailyLeft int
}

// admit counts a call and, when enforcing, decides on it.
func (l *limiter) admit(class limitClass, enforce bool) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.roll(now)
	l.daily++

	arrived := &l.arrived[class]
	n := arrived.count(now) + 1
	arrived.add(now)
	l.peak[class.String()] = max(l.peak[class.String()], n)
	if n > arrived.limit {
		l.violations[class.String()]++
	}
	if l.daily > l.quota.daily {
		l.violations["daily"]++
	}

	w := &l.admitted[class]
	used := w.count(now)
	v := verdict{max: w.limit, dailyMax: l.quota.daily, dailyLeft: max(0, l.quota.daily-l.daily)}
	switch {
	case enforce && l.daily > l.quota.daily:
		v.policy = "DAILY"
	case enforce && used >= w.limit:
		v.policy = [...]string{"TEN_SECONDLY_ROLLING", "SECONDLY", "TEN_SECONDLY_ROLLING"}[class]
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
	if class == limitSearch {
		return
	}
	r.set("X-HubSpot-RateLimit-Daily", strconv.Itoa(v.dailyMax))
	r.set("X-HubSpot-RateLimit-Daily-Remaining", strconv.Itoa(v.dailyLeft))
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
