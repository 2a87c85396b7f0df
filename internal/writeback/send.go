package writeback

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"hubpg/hubapi"
)

// skew bounds how far HubSpot's clock is behind this one, beyond what its answers tell of that.
const skew = 10 * time.Second

// predates tells whether a record was there before an instant of this machine's clock.
func (w *Writer) predates(r *hubapi.Record, at time.Time) bool {
	return !r.CreatedAt.IsZero() && r.CreatedAt.Before(at.Add(-skew-w.client.AheadAtMost()))
}

// mission is the sending of one plan.
type mission struct {
	w     *Writer
	p     *plan
	id    int64 // in hubpg.writes; 0 when nothing is to be sent
	skip  bool  // go on after refusals
	stop  atomic.Bool
	calls atomic.Int64

	mu           sync.Mutex // guards below
	correlations map[string]bool
	taken        map[string]int // rows that HubSpot has accepted, by table
	shown        time.Time      // when that was last stored
}

// heard keeps the correlation id of an answer.
func (m *mission) heard(id string) {
	if id == "" {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.correlations == nil {
		m.correlations = map[string]bool{}
	}
	m.correlations[id] = true
}

// answered returns the correlation ids of all answers.
func (m *mission) answered() map[string]bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.correlations == nil {
		return map[string]bool{}
	}
	return maps.Clone(m.correlations)
}

// send carries out the plan. What became of each change stands in it afterwards.
func (m *mission) send(ctx context.Context) {
	for _, group := range m.p.groups() {
		if m.stop.Load() {
			return
		}
		ready, idle := group[:0:0], group[:0:0]
		for _, c := range group {
			if len(c.flaws) > 0 {
				continue
			}
			if !m.prepare(c) {
				continue
			}
			if c.idle() {
				c.done = true
				idle = append(idle, c)
				continue
			}
			ready = append(ready, c)
		}
		m.count(ctx, idle)
		if len(ready) == 0 || m.ended(ctx) {
			continue
		}
		if ready[0].pair != nil {
			m.sendEdges(ctx, ready)
			m.note(ready)
			continue
		}
		var g errgroup.Group
		g.SetLimit(parallel)
		for batch := range slices.Chunk(ready, hubapi.MaxPage) {
			g.Go(func() error {
				if !m.ended(ctx) {
					m.sendRecords(ctx, batch, time.Now(), 0)
					m.note(batch)
					m.count(ctx, batch)
				}
				return nil
			})
		}
		_ = g.Wait() // outcomes stand in the changes
	}
}

// ended says that nothing more is to be sent: a row was refused, or the client has given up.
func (m *mission) ended(ctx context.Context) bool { return m.stop.Load() || ctx.Err() != nil }

// prepare resolves placeholders of records that the statement created.
func (m *mission) prepare(c *change) bool {
	fail := func(id int64) bool {
		c.refuse(&flaw{code: CodeRefused, message: fmt.Sprintf("the new record that it refers to (row %d) was not created", -id%apart)})
		m.note([]*change{c})
		return false
	}
	if c.pair == nil {
		if c.op == opInsert {
			return true
		}
		id, ok := m.p.resolve(c.id)
		if !ok {
			return fail(c.id)
		}
		c.id = id
		return true
	}
	for _, end := range []*int64{&c.a, &c.b} {
		id, ok := m.p.resolve(*end)
		if !ok {
			return fail(*end)
		}
		*end = id
	}
	return true
}

// note stops the mission after a refusal, unless bad rows are skipped.
func (m *mission) note(batch []*change) {
	if m.skip {
		return
	}
	for _, c := range batch {
		if len(c.flaws) > 0 {
			m.stop.Store(true)
			return
		}
	}
}

// sendRecords sends at most a page of changes of one table and kind, for the first time at began. A batch that HubSpot refuses as a
// whole is halved until the bad rows are alone.
func (m *mission) sendRecords(ctx context.Context, batch []*change, began time.Time, attempt int) {
	if batch[0].op == opDelete && attempt == 0 {
		if batch = m.unmerged(ctx, batch); len(batch) == 0 {
			return
		}
	}
	results, err := m.call(ctx, batch)
	answered := time.Now()
	var lost []*change
	conflicts := map[*change]error{} // of creations that may have met what the first attempt has made
	switch {
	case err == nil:
		m.heard(results.CorrelationID)
		for i, c := range batch {
			r := &results.Results[i]
			switch {
			case r.Err == nil && c.op == opUpdate && r.Record.ID != c.id:
				c.move(r.Record.ID, true)
			case r.Err == nil && c.op == opInsert && !m.made(c, &r.Record, began):
				lost = append(lost, c)
			case r.Err == nil:
				c.done, c.record, c.readAt = true, r.Record, results.SentAt
				if c.op == opDelete {
					c.readAt = answered // a read that began since it was sent may have found the record alive
				}
			case isA[*hubapi.AmbiguousError](r.Err):
				lost = append(lost, c)
			case attempt > 0 && c.op == opInsert && isA[*hubapi.ConflictError](r.Err):
				lost, conflicts[c] = append(lost, c), r.Err
			default:
				c.flaws = append(c.flaws, flawsOf(r.Err, c.def)...)
			}
		}
		m.w.doubt(batch)
		m.meet(ctx, batch)
	case isA[*hubapi.SplitError](err) && len(batch) > 1:
		half := len(batch) / 2
		m.sendRecords(ctx, batch[:half], began, attempt)
		m.sendRecords(ctx, batch[half:], began, attempt)
		return
	case isA[*hubapi.AmbiguousError](err):
		lost = batch
	case ctx.Err() != nil: // and HubSpot has nothing of it
		return
	default:
		if isA[*hubapi.ScopeError](err) {
			m.w.deny(batch[0].table(), flawsOf(err, nil))
		}
		for _, c := range batch {
			c.flaws = append(c.flaws, flawsOf(err, c.def)...)
		}
	}
	if len(lost) == 0 {
		return
	}
	again := m.find(ctx, lost, began, err)
	if len(again) > 0 && attempt == 0 && ctx.Err() == nil {
		m.sendRecords(ctx, again, began, 1)
		return
	}
	for _, c := range again {
		if refusal := conflicts[c]; refusal != nil {
			c.flaws = append(c.flaws, flawsOf(refusal, c.def)...)
			continue
		}
		c.refuse(&flaw{
			code: CodeUnknown, message: "HubSpot's answers were lost; reading shows no effect, but HubSpot may still be about to write the row",
			hint: "hubpg looks again; wait for settled_at in hubpg.writes before repeating the statement",
		})
	}
}

// unmerged returns the deletions of records that are still what the table says. HubSpot takes the id of one that was merged into another
// for that other one, which nobody has asked it to archive.
func (m *mission) unmerged(ctx context.Context, batch []*change) (stay []*change) {
	ids := make([]int64, len(batch))
	for i, c := range batch {
		ids[i] = c.id
	}
	m.calls.Add(1)
	found, err := m.w.client.BatchRead(ctx, batch[0].def.table.Path, ids, hubapi.NewProjection(nil))
	if err != nil && ctx.Err() != nil {
		return nil
	}
	for _, c := range batch {
		switch {
		case err != nil:
			c.flaws = append(c.flaws, flawsOf(err, nil)...)
		case found.Moved[c.id] != 0:
			c.move(found.Moved[c.id], false)
		default:
			stay = append(stay, c)
		}
	}
	if len(stay) < len(batch) && !m.skip {
		return nil
	}
	return stay
}

func (m *mission) call(ctx context.Context, batch []*change) (*hubapi.WriteBatch, error) {
	m.calls.Add(1)
	def := batch[0].def
	path := def.table.Path
	switch batch[0].op {
	case opInsert:
		in := make([]hubapi.CreateInput, len(batch))
		for i, c := range batch {
			in[i] = hubapi.CreateInput{Properties: c.properties, Trace: strconv.Itoa(c.place)}
		}
		return m.w.client.BatchCreate(ctx, path, in, def.whole)
	case opUpdate:
		in := make([]hubapi.UpdateInput, len(batch))
		for i, c := range batch {
			in[i] = hubapi.UpdateInput{ID: c.id, Properties: c.properties, Trace: strconv.Itoa(c.place)}
		}
		return m.w.client.BatchUpdate(ctx, path, in, def.whole)
	}
	ids := make([]int64, len(batch))
	for i, c := range batch {
		ids[i] = c.id
	}
	return m.w.client.BatchArchive(ctx, path, ids)
}

// made tells whether a record that HubSpot's answer gives to a creation can be what it has made since then: not an older
// one, nor one with another unique value.
func (m *mission) made(c *change, r *hubapi.Record, since time.Time) bool {
	if m.w.predates(r, since) {
		return false
	}
	for _, col := range c.def.unique {
		sent := c.properties[col.Property]
		slot, ok := c.def.whole.Slot(col.Property)
		if ok && sent != "" && len(r.Values[slot]) > 0 && !col.akin(sent, r.Values[slot]) {
			return false
		}
	}
	return true
}

// unique returns a unique property of the change and its value, "" if it sets none.
func (c *change) unique() (property, value string) {
	for _, col := range c.def.unique {
		if v := c.properties[col.Property]; v != "" {
			return col.Property, v
		}
	}
	return "", ""
}

// matches tells whether the record has all that was sent. Of an update letters count: what it changed may be their case alone, and it is
// no harm to send it twice.
func (c *change) matches(r *hubapi.Record) bool {
	holds := (*column).akin
	if c.op == opUpdate {
		holds = (*column).same
	}
	for _, col := range c.sent {
		slot, ok := c.def.whole.Slot(col.Property)
		if !ok || !holds(col, c.properties[col.Property], r.Values[slot]) {
			return false
		}
	}
	return true
}

// unread groups, by table, the records of a statement that is not too large which have to be read back, and counts the calls which
// that takes.
func (m *mission) unread() map[*definition][]*change {
	byTable := map[*definition][]*change{}
	total := 0
	for _, c := range m.p.changes {
		if c.pair == nil && c.op != opDelete && c.accepted() && !c.idle() && !c.whole {
			byTable[c.def] = append(byTable[c.def], c)
			total++
		}
	}
	if total > readBackRows {
		return nil
	}
	for _, list := range byTable {
		ids := map[int64]bool{}
		for _, c := range list {
			ids[c.record.ID] = true
		}
		m.calls.Add(int64((len(ids) + hubapi.MaxPage - 1) / hubapi.MaxPage))
	}
	return byTable
}

// readBack reads records whole, so that calculated and defaulted values are in the statement's answer. What cannot be read
// is left as HubSpot's answer to the write had it.
func (m *mission) readBack(ctx context.Context, unread map[*definition][]*change) {
	var g errgroup.Group
	g.SetLimit(parallel)
	for def, list := range unread {
		byID := make(map[int64][]*change, len(list))
		for _, c := range list {
			byID[c.record.ID] = append(byID[c.record.ID], c)
		}
		for ids := range slices.Chunk(slices.Sorted(maps.Keys(byID)), hubapi.MaxPage) {
			g.Go(func() error {
				found, err := m.w.client.BatchRead(ctx, def.table.Path, ids, def.whole)
				if err != nil {
					m.w.logger.Debug("read back after write", "table", def.table.Name, "error", err)
					return nil
				}
				for _, r := range found.Records {
					for _, c := range byID[r.ID] {
						if r.UpdatedAt.Before(c.record.UpdatedAt) && !c.matches(&r) {
							continue // it is from before the write
						}
						c.record, c.whole, c.readAt = r, true, found.ReadAt
					}
				}
				return nil
			})
		}
	}
	_ = g.Wait() // none fails
}
