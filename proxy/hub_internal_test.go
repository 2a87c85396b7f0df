package proxy

import (
	"testing"
	"testing/synctest"
	"time"

	"hubpg/internal/changes"
)

func TestTheHubRestsByHowManyItHasRung(t *testing.T) {
	t.Parallel()
	for rung, want := range map[int]time.Duration{
		0: 0, 1: 100 * time.Microsecond, 60: 6 * time.Millisecond, 1000: 100 * time.Millisecond, 50_000: 100 * time.Millisecond,
	} {
		if got := restAfter(rung); got != want {
			t.Errorf("after ringing %d it rests %v, want %v", rung, got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		if err := rest(t.Context(), restAfter(300)); err != nil || time.Since(begun) != 30*time.Millisecond {
			t.Errorf("rested %v: %v", time.Since(begun), err)
		}
	})
}

func TestRingTellsHowManyHaveHeard(t *testing.T) {
	t.Parallel()
	h := &Hub{schemas: []string{"hubspot"}, channels: map[string]map[*subscription]struct{}{}, counters: &counters{}}
	v := &session{server: &Server{}}
	v.server.config.Limits.ListenerQueue = 10
	for _, channel := range []string{"hubspot_deals", "hubspot_deals", "hubspot_contacts"} {
		l := newListener(v)
		h.subscribe(&subscription{Subscription: changes.Subscription{Name: channel, Channel: channel}, listener: l})
	}
	later := &subscription{Subscription: changes.Subscription{Channel: "hubspot_deals"}, listener: newListener(v), after: 9}
	h.subscribe(later) // has heard of what is to come
	list := []changes.Change{{Seq: 1, Schema: "hubspot", Table: "deals", RecordID: 1, Op: "update"}}
	if rung := h.ring(list); rung != 2 {
		t.Errorf("rung %d subscriptions, want the 2 of the channel that begin before", rung)
	}
}
