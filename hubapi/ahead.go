package hubapi

import (
	"net/http"
	"sync"
	"time"
)

const (
	// aheadTolerated is what is put down to whole seconds and to the way: HubSpot's answers tell the time by the second.
	aheadTolerated = 1500 * time.Millisecond
	// aheadSamples is how many answers have to agree that this machine's clock is ahead, and aheadFor how long they count.
	aheadSamples = 3
	aheadFor     = 5 * time.Minute
)

// hands compares this machine's clock with HubSpot's, which stands in every answer.
type hands struct {
	mu      sync.Mutex // guards below
	since   time.Time
	samples int
	least   time.Duration // by which this clock was ahead in any answer since
	ahead   time.Duration // found before since
}

// see takes note of an answer that has just come.
func (h *hands) see(resp *http.Response, now time.Time) {
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if now.Sub(h.since) > aheadFor || now.Before(h.since) {
		h.ahead, h.since, h.samples = h.now(), now, 0
	}
	if d := now.Sub(at); h.samples == 0 || d < h.least {
		h.least = d
	}
	h.samples++
}

// now is by how much the clock is ahead at least. The caller holds the lock.
func (h *hands) now() time.Duration {
	if h.samples < aheadSamples {
		return h.ahead
	}
	if h.least <= aheadTolerated {
		return 0
	}
	return h.least
}

// Ahead is by how much this machine's clock is ahead of HubSpot's, as far as answers prove it: what HubSpot has changed by
// now has no later time than now less that.
func (c *Client) Ahead() time.Duration {
	c.hands.mu.Lock()
	defer c.hands.mu.Unlock()
	return c.hands.now()
}

// AheadAtMost is by how much this machine's clock is ahead of HubSpot's at most, as far as answers tell: what HubSpot has changed
// from now on has no earlier time than now less that.
func (c *Client) AheadAtMost() time.Duration {
	c.hands.mu.Lock()
	defer c.hands.mu.Unlock()
	if c.hands.samples == 0 {
		return 0
	}
	return max(c.hands.least, 0)
}
