package writeback

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/mirror"
)

// The kinds of changes, as the triggers name them.
const (
	opInsert = "insert"
	opUpdate = "update"
	opDelete = "delete"
)

// apart is where the ordinals begin in the rehearsals of a proxy that has a reference to a new record told from any other value. In the
// performance they begin at 1.
const apart = 7_000_000_000_000

// change is one captured row on its way through HubSpot.
type change struct {
	row   *Row
	place int // among the rows of the statement, from 1
	op    string
	old   map[string]json.RawMessage
	new   map[string]json.RawMessage

	ordinal int64 // inserts: the place among the rows proposed, by which the performance knows it
	wave    int   // how many changes of the same record come before

	// Records.
	def        *definition
	id         int64             // negative: the record that the insert of that ordinal makes
	properties map[string]string // to be sent
	sent       []*column         // those that properties are of

	// Associations.
	pair     *catalog.Pair
	a, b     int64 // negative as id
	was, now edge
	shown    edge // now, as the rehearsal has it

	done   bool
	moved  int64         // the record that has taken this one's place in HubSpot meanwhile, 0 if none has
	record hubapi.Record // what HubSpot has, by the definition's projection
	whole  bool          // the record was read with all its properties
	readAt time.Time
	flaws  []*flaw
}

func (c *change) accepted() bool { return c.done && len(c.flaws) == 0 }

// idle says that nothing is to be sent.
func (c *change) idle() bool {
	return c.pair == nil && (c.op == opUpdate && len(c.properties) == 0 || c.op == opDelete && c.archived())
}

// archived says that the row is that of a record deleted before, which soft deletes keep.
func (c *change) archived() bool {
	at := c.old[catalog.ArchivedAt]
	return len(at) > 0 && string(at) != "null"
}

func (c *change) schema() string { return c.row.Schema }
func (c *change) table() string  { return c.row.Table }

// name tells the row to a reader.
func (c *change) name() string {
	switch {
	case c.pair != nil:
		return fmt.Sprintf("%s %d–%d", c.table(), c.a, c.b)
	case c.op == opInsert && c.record.ID == 0:
		return fmt.Sprintf("%s row %d", c.table(), c.place)
	}
	return fmt.Sprintf("%s %d", c.table(), c.recordID())
}

func (c *change) recordID() int64 {
	if c.record.ID != 0 {
		return c.record.ID
	}
	return c.id
}

// unknown says that HubSpot may or may not have written the row, or be about to.
func (c *change) unknown() bool {
	return slices.ContainsFunc(c.flaws, func(f *flaw) bool { return f.code == CodeUnknown })
}

func (c *change) refuse(f *flaw) { c.flaws = append(c.flaws, f) }

// move refuses a change of a record that was merged into another one meanwhile, which the row of neither can show. Both are
// read again.
func (c *change) move(to int64, took bool) {
	c.moved = to
	f := &flaw{
		code: CodeGone, gone: true, message: fmt.Sprintf("record %d was merged into record %d meanwhile", c.id, to),
		hint: "the tables follow in a moment; look at the record that is left, and repeat the statement for it if need be",
	}
	if took {
		f.message += ", which has taken the change all the same"
	}
	c.refuse(f)
}

// plan is a statement's changes in the order in which they are sent.
type plan struct {
	changes []*change
	created map[int64]*change // inserts of records by ordinal
	xid     string            // the client's transaction
	stamped bool              // the statement sets created_at or updated_at
}

// plan reads and validates the rows of a request.
func (w *Writer) plan(ctx context.Context, r *Request, cat *mirror.Catalog, fresh bool) (*plan, error) {
	var err error
	p := &plan{created: map[int64]*change{}}
	waves := map[string]int{}
	for i := range r.Rows {
		row := &r.Rows[i]
		c := &change{row: row, place: i + 1, op: row.Op}
		if err := c.decode(p); err != nil {
			return nil, fmt.Errorf("read row %d of %s: %w", row.N, row.Table, err)
		}
		if c.pair = pairNamed(cat, row.Table); c.pair != nil {
			if err := w.planEdge(ctx, c); err != nil {
				return nil, err
			}
		} else if t := cat.Named(row.Table); t != nil {
			if c.def, err = w.define(ctx, t, fresh); err != nil {
				return nil, err
			}
			c.planRecord(p)
			c.flaws = append(c.flaws, w.denials(t.Name)...)
		} else {
			return nil, fmt.Errorf("table %s.%s is not mirrored", row.Schema, row.Table)
		}
		key := c.key()
		c.wave = waves[key]
		waves[key]++
		if c.op == opInsert && c.pair == nil {
			p.created[c.ordinal] = c
		}
		p.changes = append(p.changes, c)
	}
	p.collide()
	p.embed()
	return p, nil
}

// embed refuses values that the id of a new record is part of: in the rehearsal it has none yet.
func (p *plan) embed() {
	for _, c := range p.changes {
		for _, col := range c.sent {
			if p.refers(c.properties[col.Property]) {
				c.refuse(&flaw{
					code: "0A000", column: col.Name, message: "the value holds the id of a record that HubSpot has yet to make",
					hint: "insert the record first, and use its id in another statement",
				})
			}
		}
	}
}

// refers says whether a value holds the placeholder of one of the new records.
func (p *plan) refers(value string) bool {
	const head, length = "-7", len("-7000000000000")
	for len(p.created) > 0 {
		i := strings.Index(value, head)
		if i < 0 {
			break
		}
		value = value[i:]
		if id, err := strconv.ParseInt(value[:min(length, len(value))], 10, 64); err == nil && id < -apart && p.created[-id] != nil {
			return true
		}
		value = value[len(head):]
	}
	return false
}

// key identifies the record or association that a change is about.
func (c *change) key() string {
	if c.pair != nil {
		return fmt.Sprintf("%s %d %d", c.table(), c.a, c.b)
	}
	return c.table() + " " + strconv.FormatInt(c.id, 10)
}

// decode takes the row apart; what the capture added about the statement goes to the plan.
func (c *change) decode(p *plan) error {
	for _, side := range []struct {
		raw  json.RawMessage
		into *map[string]json.RawMessage
	}{{c.row.Old, &c.old}, {c.row.New, &c.new}} {
		if len(side.raw) == 0 || bytes.Equal(side.raw, []byte("null")) {
			continue
		}
		if err := json.Unmarshal(side.raw, side.into); err != nil {
			return err
		}
		if xid := (*side.into)["_xid"]; xid != nil {
			if err := json.Unmarshal(xid, &p.xid); err != nil {
				return err
			}
			delete(*side.into, "_xid")
		}
	}
	if raw := c.new["_row"]; raw != nil {
		if err := json.Unmarshal(raw, &c.ordinal); err != nil {
			return err
		}
		delete(c.new, "_row")
	}
	return nil
}

// planRecord turns the row of an object table into properties.
func (c *change) planRecord(p *plan) {
	side := c.new
	if c.op == opDelete {
		side = c.old
	}
	if err := json.Unmarshal(side[catalog.ID], &c.id); err != nil {
		c.refuse(&flaw{code: "23502", column: catalog.ID, message: "the row has no id"})
		return
	}
	if c.op == opDelete {
		return
	}
	if c.op == opInsert && c.id > 0 {
		c.refuse(&flaw{
			code: "428C9", column: catalog.ID, message: "HubSpot gives a record its id; it cannot be chosen",
			hint: "leave id out, and read it with RETURNING id",
		})
	}
	c.properties = map[string]string{}
	for _, name := range sortedKeys(c.new) {
		switch name {
		case catalog.ID:
		case catalog.CreatedAt, catalog.UpdatedAt:
			p.stamped = true
		case catalog.ArchivedAt:
			if c.op == opInsert || !bytes.Equal(c.old[name], c.new[name]) {
				c.refuse(&flaw{code: "428C9", column: name, message: name + " is kept by hubpg and cannot be set", hint: "use DELETE"})
			}
		case catalog.ReadAt, catalog.Unparsed:
			c.refuse(&flaw{code: "428C9", column: name, message: name + " is kept by hubpg and cannot be set"})
		case catalog.Overflow:
			c.planOverflow()
		default:
			c.set(name, c.new[name])
		}
	}
	if c.op == opUpdate && c.archived() && len(c.properties) > 0 {
		c.refuse(&flaw{code: CodeGone, gone: true, message: "the record was deleted in HubSpot", hint: "restore it in HubSpot first"})
	}
	if c.op == opInsert && len(c.flaws) == 0 {
		if group := c.def.missing(c.properties); group != "" {
			c.refuse(&flaw{code: "23502", column: c.lacks(group), message: "a new record of " + c.table() + " needs " + group})
		}
	}
}

// lacks is the column of a required property; "" where there is a choice of several.
func (c *change) lacks(property string) string {
	if strings.Contains(property, " ") {
		return ""
	}
	return columnOf(c.def, property)
}

// planOverflow takes what changed in _overflow, whose keys are columns like others.
func (c *change) planOverflow() {
	read := func(raw json.RawMessage) map[string]json.RawMessage {
		m := map[string]json.RawMessage{}
		if len(raw) > 0 && json.Unmarshal(raw, &m) != nil {
			c.refuse(&flaw{code: "22P02", column: catalog.Overflow, message: "_overflow must be an object of column names and values"})
		}
		return m
	}
	was, is := read(c.old[catalog.Overflow]), read(c.new[catalog.Overflow])
	for _, name := range sortedKeys(is) {
		if !bytes.Equal(was[name], is[name]) {
			c.set(name, is[name])
		}
	}
	for _, name := range sortedKeys(was) {
		if _, stays := is[name]; !stays {
			c.set(name, json.RawMessage("null"))
		}
	}
}

func (c *change) set(name string, raw json.RawMessage) {
	col := c.def.columns[name]
	if col == nil {
		c.refuse(&flaw{code: "42703", column: name, message: c.table() + " has no column " + name})
		return
	}
	text, err := hubspotText(col.Kind, raw)
	if err != nil {
		c.refuse(&flaw{code: "22P02", column: name, message: err.Error()})
		return
	}
	if f := col.check(text); f != nil {
		c.refuse(f)
		return
	}
	c.properties[col.Property] = text
	c.sent = append(c.sent, col)
}

// groups orders the changes: by wave, then by table and kind as the statement first touched them, with associations
// after the records they need.
func (p *plan) groups() [][]*change {
	type key struct {
		wave  int
		class int
		table string
		op    string
	}
	index := map[key]int{}
	var groups [][]*change
	var keys []key
	for _, c := range p.changes {
		k := key{wave: c.wave, table: c.table(), op: c.op}
		if c.pair != nil && c.op != opDelete {
			k.class = 1
		}
		i, ok := index[k]
		if !ok {
			i = len(groups)
			index[k], groups, keys = i, append(groups, nil), append(keys, k)
		}
		groups[i] = append(groups[i], c)
	}
	order := make([]int, len(groups))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(x, y int) int {
		return cmp.Or(cmp.Compare(keys[x].wave, keys[y].wave), cmp.Compare(keys[x].class, keys[y].class))
	})
	sorted := make([][]*change, len(groups))
	for i, at := range order {
		sorted[i] = groups[at]
	}
	return sorted
}

// resolve replaces the placeholder of a record that the statement itself creates. It reports false when that failed.
func (p *plan) resolve(id int64) (int64, bool) {
	if id >= 0 {
		return id, true
	}
	c := p.created[-id]
	if c == nil || !c.accepted() {
		return id, false
	}
	return c.record.ID, true
}

func sortedKeys(m map[string]json.RawMessage) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
