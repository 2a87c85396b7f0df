package proxy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"hubpg/internal/changes"

	"github.com/cenkalti/backoff/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/singleflight"
)

const (
	hubPage     = 1000             // changes read at once
	hubPatience = 30 * time.Second // for one query of the hub

	// A change costs a write and the waking of a client for each who hears of it, several changes together hardly more.
	// So the next pass over the log waits for as long as the last one has rung sessions, which leaves most of the
	// processors to those who commit.
	restPerSession = 100 * time.Microsecond
	longestRest    = 100 * time.Millisecond
)

// Hub follows the change log and rings the sessions that listen. However many they are, Postgres has one listener.
//
// Guarantee: a subscription that takes effect when the log's newest change is n is rung once for every later change of
// its channel, in the order of the log; one with replay from n likewise. A subscription for which this cannot be kept
// ends, with its session and a reason.
type Hub struct {
	pool     *pgxpool.Pool
	database string // that the log is in
	schemas  []string
	poll     time.Duration
	log      *slog.Logger
	counters *counters
	flight   singleflight.Group

	names atomic.Pointer[names] // what a read may not name if it is to leave nothing behind

	mu       sync.Mutex // guards below
	position int64      // newest change rung; -1 before the log was first read
	channels map[string]map[*subscription]struct{}
}

func newHub(config *Config, c *counters) *Hub {
	h := &Hub{
		pool: config.Changes, database: config.Changes.Config().ConnConfig.Database,
		schemas: config.Schemas, poll: config.Poll, log: config.Logger, counters: c,
		position: -1, channels: map[string]map[*subscription]struct{}{},
	}
	h.names.Store(&names{all: true})
	return h
}

// serves reports whether the hub answers for the channels of a session: it must be on the database of the log.
func (h *Hub) serves(v *session) bool { return h != nil && databaseOf(v) == h.database }

// Position returns the newest change that has been rung, or -1 before the log was first read.
func (h *Hub) Position() int64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.position
}

// Run follows the log until ctx ends, through any loss of its connection.
func (h *Hub) Run(ctx context.Context) error {
	var tending sync.WaitGroup
	defer tending.Wait()
	tending.Go(func() { h.tend(ctx) })
	delay := backoff.NewExponentialBackOff()
	delay.InitialInterval, delay.MaxInterval = 100*time.Millisecond, 5*time.Second
	for {
		err := h.follow(ctx, delay.Reset)
		if ctx.Err() != nil {
			return nil
		}
		h.counters.hubFailures.Add(1)
		wait := delay.NextBackOff()
		h.log.Warn("listen hub lost the change log", "error", err, "retry", wait)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// follow reads the log over one connection until that fails. It calls healthy when the log has been read once.
func (h *Hub) follow(ctx context.Context, healthy func()) error {
	config := h.pool.Config().ConnConfig.Copy()
	config.RuntimeParams["application_name"] = "hubpg listen hub"
	woken := false
	config.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) { woken = true }
	opening, cancel := context.WithTimeout(ctx, hubPatience)
	defer cancel()
	conn, err := pgx.ConnectConfig(opening, config)
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer func() { _ = conn.Close(opening) }() // a failed connection is dropped by the server as well
	if _, err := conn.Exec(opening, "listen "+pgx.Identifier{changes.WakeChannel}.Sanitize()); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	if err := h.resume(opening, conn); err != nil {
		return err
	}
	healthy()
	for {
		woken = false
		begun := time.Now()
		rung, err := h.catchUp(ctx, conn)
		if err != nil {
			return err
		}
		if err := rest(ctx, time.Until(begun.Add(restAfter(rung)))); err != nil {
			return err
		}
		if woken {
			continue // rung while reading
		}
		if err := h.await(ctx, conn.PgConn()); err != nil {
			return err
		}
	}
}

// restAfter is how long after the begin of a pass that has rung n sessions the next may begin.
func restAfter(n int) time.Duration {
	return min(time.Duration(n)*restPerSession, longestRest)
}

func rest(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// await returns when the bell has rung or a poll is due.
func (h *Hub) await(ctx context.Context, conn *pgconn.PgConn) error {
	due, cancel := context.WithTimeout(ctx, h.poll)
	defer cancel()
	err := conn.WaitForNotification(due)
	if err != nil && (ctx.Err() != nil || due.Err() == nil || conn.IsClosed()) {
		return fmt.Errorf("await change: %w", err)
	}
	return nil
}

// resume finds the place in the log after a connect. What was missed is in the log, unless retention has taken it or
// the database is not the one it was; then the listeners are told.
func (h *Hub) resume(ctx context.Context, conn *pgx.Conn) error {
	oldest, newest, err := changes.Bounds(ctx, conn)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.position >= 0 && (newest < h.position || oldest > h.position+1) {
		h.log.Error("change log no longer holds the hub's place; ending its listeners",
			"position", h.position, "oldest", oldest, "newest", newest)
		h.endAll(errLogGap())
		h.position = -1
	}
	if h.position < 0 {
		h.position = newest
	}
	return nil
}

// catchUp rings everything that the log holds after the hub's position, and tells how many sessions it has rung.
func (h *Hub) catchUp(ctx context.Context, conn *pgx.Conn) (rung int, err error) {
	for {
		after := h.Position()
		list, err := h.read(ctx, conn, after)
		if errors.Is(err, errGap) {
			return rung, h.resume(ctx, conn)
		}
		if err != nil {
			return rung, err
		}
		rung += h.ring(list)
		if len(list) < hubPage {
			return rung, nil
		}
	}
}

// errGap says that changes after the place asked for are no longer in the log.
var errGap = errors.New("changes have left the log")

// read returns the next page of the log after a place.
func (h *Hub) read(ctx context.Context, q changes.Querier, after int64) ([]changes.Change, error) {
	ctx, cancel := context.WithTimeout(ctx, hubPatience)
	defer cancel()
	list, err := changes.Read(ctx, q, after, hubPage)
	if err != nil || len(list) > 0 && list[0].Seq == after+1 {
		return list, err
	}
	// A number is missing at the start: not given out yet, dropped with an old day, or one row erased.
	oldest, _, err := changes.Bounds(ctx, q)
	if err == nil && oldest > after+1 {
		err = errGap
	}
	return list, err
}

// readAgain is read over the pool.
func (h *Hub) readAgain(ctx context.Context, after int64) (list []changes.Change, err error) {
	err = insist(ctx, func() error {
		list, err = h.read(ctx, h.pool, after)
		if errors.Is(err, errGap) {
			return backoff.Permanent(err)
		}
		return err
	})
	return list, err
}

// ring hands each change to the subscriptions of its channels, and tells how many that were.
func (h *Hub) ring(list []changes.Change) (rung int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	pages := map[string][]*event{} // by channel; shared by all who listen to it
	for i := range list {
		c := &list[i]
		var e *event
		for _, channel := range c.Channels() {
			if len(h.channels[channel]) == 0 {
				continue
			}
			if e == nil {
				e = h.event(c)
			}
			pages[channel] = append(pages[channel], e)
		}
		h.position = c.Seq
	}
	var several map[*listener][]bell
	for channel, events := range pages {
		for sub := range h.channels[channel] {
			b := bell{sub, after(events, sub.after)}
			if !sub.live || len(b.events) == 0 {
				continue
			}
			rung++
			if sub.listener.held == 1 {
				sub.listener.push(b)
				continue
			}
			if several == nil {
				several = map[*listener][]bell{}
			}
			several[sub.listener] = append(several[sub.listener], b)
		}
	}
	for l, bells := range several {
		l.push(inOrder(bells)...)
	}
	return rung
}

// after returns those of a page that come after a place.
func after(page []*event, seq int64) []*event {
	if page[0].seq > seq {
		return page
	}
	n, _ := slices.BinarySearchFunc(page, seq+1, func(e *event, seq int64) int { return cmp.Compare(e.seq, seq) })
	return page[n:]
}

// inOrder mixes what one session hears on several channels into the order of the log; of one change the wider
// channel rings first.
func inOrder(bells []bell) []bell {
	var mixed []bell
	for _, b := range bells {
		for i := range b.events {
			mixed = append(mixed, bell{b.sub, b.events[i : i+1]})
		}
	}
	slices.SortFunc(mixed, func(a, b bell) int {
		return cmp.Or(cmp.Compare(a.events[0].seq, b.events[0].seq),
			cmp.Compare(len(a.sub.Channel), len(b.sub.Channel)), cmp.Compare(a.sub.Name, b.sub.Name))
	})
	return mixed
}

// target takes a channel's name apart: schema, and table if it is for one.
func (h *Hub) target(channel string) (schema, table string) {
	for _, s := range h.schemas {
		if channel == s {
			return s, ""
		}
		// Of two schemas that fit, the longer is meant: hubspot_eu_deals belongs to hubspot_eu.
		if rest, ok := strings.CutPrefix(channel, s+"_"); ok && len(s) > len(schema) {
			schema = s
			table, _, _ = strings.Cut(rest, ".")
		}
	}
	return schema, table
}

// insist repeats a query of the pool that failed for its connection: those of before a restart of Postgres are found
// dead one by one.
func insist(ctx context.Context, query func() error) error {
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		err := query()
		if refused, ok := errors.AsType[*pgconn.PgError](err); ok && !strings.HasPrefix(refused.Code, "57P") {
			err = backoff.Permanent(err)
		}
		return struct{}{}, err
	}, backoff.WithMaxTries(5), backoff.WithBackOff(backoff.NewConstantBackOff(20*time.Millisecond)))
	return err
}

// event is a change on its way to its listeners, who share it.
type event struct {
	seq     int64
	payload string
}

func (h *Hub) event(c *changes.Change) *event {
	payload, err := c.Payload()
	if err != nil {
		// Only a column that is not JSON after all can do this; the reader still learns what to fetch.
		h.log.Error("encode change for listeners", "seq", c.Seq, "error", err)
		bare := changes.Change{Seq: c.Seq, Table: c.Table, RecordID: c.RecordID, Op: c.Op}
		payload, _ = bare.Payload()
	}
	return &event{seq: c.Seq, payload: payload}
}

// newest returns the newest number of the log. Callers at one time share one query: an answer from just before the
// question can only make a subscription start earlier.
func (h *Hub) newest(ctx context.Context) (int64, error) {
	v, err, _ := h.flight.Do("newest", func() (any, error) {
		ctx, cancel := context.WithTimeout(ctx, hubPatience)
		defer cancel()
		const sql = `select last from hubpg.change_counter`
		var last int64
		err := insist(ctx, func() error { return h.pool.QueryRow(ctx, sql).Scan(&last) })
		if err != nil {
			return nil, fmt.Errorf("read newest change: %w", err)
		}
		return last, nil
	})
	if err != nil {
		return 0, err
	}
	return v.(int64), nil
}

// subscribe puts a subscription into force for changes after sub.after. One whose start lies behind the hub is caught
// up by its listener first.
func (h *Hub) subscribe(sub *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	sub.live = sub.after >= h.position
	subs := h.channels[sub.Channel]
	if subs == nil {
		subs = map[*subscription]struct{}{}
		h.channels[sub.Channel] = subs
	}
	subs[sub] = struct{}{}
	sub.listener.held++
	h.counters.listeners.Add(1)
}

func (h *Hub) unsubscribe(sub *subscription) {
	h.mu.Lock()
	defer h.mu.Unlock()
	subs := h.channels[sub.Channel]
	delete(subs, sub)
	if len(subs) == 0 {
		delete(h.channels, sub.Channel)
	}
	sub.listener.held--
	h.counters.listeners.Add(-1)
}

// startOf returns where a subscription begins and whether the hub rings it already.
func (h *Hub) startOf(sub *subscription) (after int64, live bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return sub.after, sub.live
}

// goLive ends the replay of a subscription that has seen everything up to seq. It reports false if the hub is ahead:
// then there is more to replay.
func (h *Hub) goLive(sub *subscription, seq int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	sub.after = seq
	sub.live = seq >= h.position
	return sub.live || sub.gone.Load()
}

// check returns the place after which a replay begins, for 0 that before all that is kept, or says why it is not possible.
func (h *Hub) check(ctx context.Context, after int64) (from int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, hubPatience)
	defer cancel()
	var oldest, newest int64
	err = insist(ctx, func() (err error) {
		oldest, newest, err = changes.Bounds(ctx, h.pool)
		return err
	})
	switch {
	case err != nil:
		return 0, err
	case after == 0:
		return oldest - 1, nil
	case after < oldest-1:
		return 0, &pastError{after: after, oldest: oldest}
	case after > newest:
		return 0, &futureError{after: after, newest: newest}
	}
	return after, nil
}

// endAll ends every listening session. mu is held.
func (h *Hub) endAll(e *hubError) {
	for _, subs := range h.channels {
		for sub := range subs {
			sub.listener.cut(e)
		}
	}
}
