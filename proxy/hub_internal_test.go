package proxy

import (
	"net"
	"strings"
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

// TestASlowListenerIsToldWhereToGoOn without a gap on any of its channels.
func TestASlowListenerIsToldWhereToGoOn(t *testing.T) {
	t.Parallel()
	events := func(seqs ...int64) (list []*event) {
		for _, seq := range seqs {
			list = append(list, &event{seq: seq})
		}
		return list
	}
	for name, c := range map[string]struct {
		heard, waits, comes []int64
		replayed            int64 // up to here on the other channel; less than 0: it is not replayed
		want                string
	}{
		"it has heard nothing":              {nil, []int64{8, 9, 10}, []int64{11}, -1, "@7 "},
		"it has heard some":                 {[]int64{5, 6}, []int64{8, 9, 10}, []int64{11}, -1, "@7 "},
		"another channel is replayed":       {[]int64{1001}, []int64{1002, 1003, 1004}, []int64{1005}, 7, "@7 "},
		"another channel, all of it queued": {[]int64{1001}, []int64{1002, 1003, 1004}, []int64{1005}, 1004, "@1001 "},
	} {
		client, server := net.Pipe()
		defer client.Close()
		defer server.Close()
		v := &session{server: &Server{}, client: server}
		v.server.config.Limits.ListenerQueue = 3
		l := newListener(v)
		live, replay := &subscription{listener: l}, &subscription{listener: l, reached: c.replayed}
		if c.replayed >= 0 {
			l.replays = []*subscription{replay}
		}
		if c.heard != nil {
			l.push(bell{live, events(c.heard...)})
			if _, n, more := l.take(nil); n != len(c.heard) || more {
				t.Errorf("%s: %d taken, more %v", name, n, more)
			}
		}
		l.push(bell{live, events(c.waits...)})
		l.push(bell{live, events(c.comes...)})
		if e := l.doom.Load(); e == nil || !strings.Contains(e.Hint, c.want) {
			t.Errorf("%s: %+v", name, e)
		}
	}
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
