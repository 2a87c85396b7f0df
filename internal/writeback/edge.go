package writeback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
)

// edge is the label of an association.
type edge struct {
	typeID   int
	category string
	label    string
}

// edgeTypes are the types of association of a pair, from its first to its second table.
type edgeTypes struct {
	list   []hubapi.AssociationType
	readAt time.Time
}

func (t *edgeTypes) plain() (hubapi.AssociationType, bool) {
	for _, a := range t.list {
		if a.Label == "" {
			return a, true
		}
	}
	return hubapi.AssociationType{}, false
}

// find returns the type that a row means: by id if it has one, else by label.
func (t *edgeTypes) find(e edge) (hubapi.AssociationType, bool) {
	if e.typeID == 0 && e.label == "" {
		return t.plain()
	}
	for _, a := range t.list {
		if (e.category == "" || a.Category == e.category) && (e.typeID == a.TypeID || e.typeID == 0 && a.Label == e.label) {
			return a, true
		}
	}
	return hubapi.AssociationType{}, false
}

// typesOf returns the types of association of a pair, and keeps them where the triggers find them.
func (w *Writer) typesOf(ctx context.Context, p *catalog.Pair, fresh bool) (*edgeTypes, error) {
	w.mu.Lock()
	known := w.edges[p.Name]
	w.mu.Unlock()
	if known != nil && (!fresh || time.Since(known.readAt) < recheckAfter) {
		return known, nil
	}
	began := time.Now()
	list, err := w.client.ListAssociationLabels(ctx, p.A.Path, p.B.Path)
	if err != nil {
		return nil, fmt.Errorf("read labels of %s: %w", p.Name, err)
	}
	text, err := json.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("encode labels of %s: %w", p.Name, err)
	}
	if err := w.reserve.with(ctx, func(conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, `
with said as (
  select l ->> 'category' as category, (l ->> 'typeId')::int as type_id, nullif(l ->> 'label', '') as label
  from jsonb_array_elements($3::jsonb) l
), gone as (
  delete from hubpg.association_types t
  where t.portal_id = $1 and t.table_name = $2
  and not exists (select from said s where s.category = t.category and s.type_id = t.type_id)
)
insert into hubpg.association_types as t (portal_id, table_name, category, type_id, label)
select $1, $2, category, type_id, label from said
on conflict (portal_id, table_name, category, type_id) do update
set label = excluded.label
where t.label is distinct from excluded.label`, w.portal, p.Name, string(text))
		return err
	}); err != nil {
		return nil, fmt.Errorf("store labels of %s: %w", p.Name, err)
	}
	known = &edgeTypes{list: list, readAt: began}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.edges[p.Name] = known
	return known, nil
}

// planEdge turns the row of an association table into a change of the association.
func (w *Writer) planEdge(ctx context.Context, c *change) error {
	read := func(side map[string]json.RawMessage) (a, b int64, e edge, err error) {
		err = errors.Join(
			json.Unmarshal(side[c.pair.ColumnA()], &a), json.Unmarshal(side[c.pair.ColumnB()], &b),
			json.Unmarshal(side["type_id"], &e.typeID), json.Unmarshal(side["category"], &e.category),
		)
		if raw := side["label"]; raw != nil && err == nil {
			err = json.Unmarshal(raw, &e.label)
		}
		return a, b, e, err
	}
	var err error
	if c.op != opInsert {
		if c.a, c.b, c.was, err = read(c.old); err != nil {
			return fmt.Errorf("read association: %w", err)
		}
	}
	if c.op == opDelete {
		return nil
	}
	a, b, now, err := read(c.new)
	if err != nil {
		return fmt.Errorf("read association: %w", err)
	}
	if c.op == opUpdate && (a != c.a || b != c.b) {
		c.refuse(&flaw{
			code: "0A000", message: "the records of an association cannot be changed",
			hint: "delete the association and insert another",
		})
		return nil
	}
	c.a, c.b, c.shown = a, b, now
	if c.op == opUpdate && now.typeID == c.was.typeID && now.label != c.was.label {
		now.typeID, now.category = 0, "" // the label was changed: it says which type is meant
	}
	for _, fresh := range []bool{false, true} {
		types, err := w.typesOf(ctx, c.pair, fresh)
		if err != nil {
			return err
		}
		if t, ok := types.find(now); ok {
			c.now = edge{typeID: t.TypeID, category: t.Category, label: t.Label}
			if c.op == opUpdate && c.was.label != "" && t.Label == "" {
				c.refuse(&flaw{
					code: codeUnique, column: "label", message: "the association has a row without a label besides this one",
					hint: "delete the row of the label; the association stays",
				})
			}
			return nil
		}
	}
	what := fmt.Sprintf("%q", now.label)
	if now.label == "" {
		what = fmt.Sprintf("type %d", now.typeID)
	}
	c.refuse(&flaw{
		code: "22P02", column: "label", message: "HubSpot has no association label " + what + " for " + c.table(),
		hint: "add the label in HubSpot (Settings → Objects → Associations), or leave it out",
	})
	return nil
}

// collide refuses changes after which two rows would be of one association: in the rehearsal they have types of their own still, and
// Postgres would find out when HubSpot has taken both.
func (p *plan) collide() {
	type key struct {
		table    string
		a, b     int64
		typeID   int
		category string
	}
	left := map[key]*change{} // the last change of each row, by what the rehearsal has made of it
	var order []key
	for _, c := range p.changes {
		if c.pair == nil {
			continue
		}
		at := func(e edge) key { return key{c.table(), c.a, c.b, e.typeID, e.category} }
		if c.op != opInsert {
			delete(left, at(c.was))
		}
		if c.op != opDelete && len(c.flaws) == 0 {
			left[at(c.shown)] = c
			order = append(order, at(c.shown))
		}
	}
	taken := map[key]*change{}
	for _, k := range order {
		c := left[k]
		if c == nil {
			continue
		}
		end := key{k.table, k.a, k.b, c.now.typeID, c.now.category}
		if other := taken[end]; other != nil && other != c {
			c.refuse(&flaw{
				code: codeUnique, column: "label", message: fmt.Sprintf("the association of %d with %d would have the label %q twice", k.a, k.b, c.now.label),
				hint: "an association with a label has a row without one besides; change the row of the label alone, as with where label = …",
			})
			continue
		}
		taken[end] = c
	}
}

// sendEdges sends changes of one association table and one kind.
func (m *mission) sendEdges(ctx context.Context, list []*change) {
	switch list[0].op {
	case opDelete:
		m.sendEnds(ctx, list)
	case opUpdate:
		m.sendLabels(ctx, list)
	default:
		var bare, labelled []*change
		for _, c := range list {
			if c.now.label == "" {
				bare = append(bare, c)
			} else {
				labelled = append(labelled, c)
			}
		}
		m.pairs(ctx, bare, func(c *hubapi.Client, p *catalog.Pair, in []hubapi.AssociationWrite) (*hubapi.AssociationBatch, error) {
			return c.BatchAssociateDefault(ctx, p.A.Path, p.B.Path, in)
		}, func(*change) []hubapi.AssociationTypeRef { return nil })
		m.sendLabels(ctx, labelled)
	}
}

// sendLabels gives pairs a label. HubSpot replaces the types that a pair has by those sent, so all that stay are sent; and nobody else
// does so between the reading of them and the writing.
func (m *mission) sendLabels(ctx context.Context, list []*change) {
	if len(list) == 0 {
		return
	}
	err := m.w.turn(ctx, list[0].pair, func() error {
		have, err := m.w.readEdges(ctx, list[0].pair, ends(list))
		m.calls.Add(1)
		if err == nil {
			m.label(ctx, list, have)
		}
		return err
	})
	if err == nil || ctx.Err() != nil {
		return
	}
	for _, c := range list {
		c.flaws = append(c.flaws, flawsOf(err, nil)...)
	}
}

// label writes the labels of pairs that have certain others.
func (m *mission) label(ctx context.Context, list []*change, have *edgesRead) {
	m.pairs(ctx, list, func(c *hubapi.Client, p *catalog.Pair, in []hubapi.AssociationWrite) (*hubapi.AssociationBatch, error) {
		return c.BatchCreateAssociations(ctx, p.A.Path, p.B.Path, in)
	}, func(c *change) []hubapi.AssociationTypeRef {
		refs := []hubapi.AssociationTypeRef{{Category: c.now.category, TypeID: c.now.typeID}}
		for _, t := range have.of(c.a, c.b) {
			ref := hubapi.AssociationTypeRef{Category: t.Category, TypeID: t.TypeID}
			replaced := c.op == opUpdate && c.was.label != "" && t.TypeID == c.was.typeID && t.Category == c.was.category
			if t.Label != "" && !replaced && !slices.Contains(refs, ref) {
				refs = append(refs, ref)
			}
		}
		return refs
	})
}

// sendEnds takes labels from pairs, or ends the association where the unlabelled type goes.
func (m *mission) sendEnds(ctx context.Context, list []*change) {
	plain := map[[2]int64]bool{}
	for _, c := range list {
		if c.was.label == "" {
			plain[[2]int64{c.a, c.b}] = true
		}
	}
	var ends, labels []*change
	for _, c := range list {
		if plain[[2]int64{c.a, c.b}] {
			ends = append(ends, c)
		} else {
			labels = append(labels, c)
		}
	}
	m.pairs(ctx, labels, func(c *hubapi.Client, p *catalog.Pair, in []hubapi.AssociationWrite) (*hubapi.AssociationBatch, error) {
		return c.BatchArchiveAssociationLabels(ctx, p.A.Path, p.B.Path, in)
	}, func(c *change) []hubapi.AssociationTypeRef {
		return []hubapi.AssociationTypeRef{{Category: c.was.category, TypeID: c.was.typeID}}
	})
	m.pairs(ctx, ends, func(c *hubapi.Client, p *catalog.Pair, in []hubapi.AssociationWrite) (*hubapi.AssociationBatch, error) {
		return archiveAll(ctx, c, p, in)
	}, func(*change) []hubapi.AssociationTypeRef { return nil })
}

// archiveAll ends the associations of pairs, whose input HubSpot wants by first record.
func archiveAll(ctx context.Context, client *hubapi.Client, p *catalog.Pair, in []hubapi.AssociationWrite) (*hubapi.AssociationBatch, error) {
	index := map[int64]int{}
	var inputs []hubapi.AssociationArchive
	for _, pair := range in {
		i, ok := index[pair.From]
		if !ok {
			i = len(inputs)
			index[pair.From], inputs = i, append(inputs, hubapi.AssociationArchive{From: pair.From})
		}
		inputs[i].To = append(inputs[i].To, pair.To)
	}
	b, err := client.BatchArchiveAssociations(ctx, p.A.Path, p.B.Path, inputs)
	if err != nil {
		return nil, err
	}
	out := &hubapi.AssociationBatch{Errs: make([]error, len(in)), CorrelationID: b.CorrelationID, SentAt: b.SentAt}
	for i, pair := range in {
		out.Errs[i] = b.Errs[index[pair.From]]
	}
	return out, nil
}

type pairCall func(*hubapi.Client, *catalog.Pair, []hubapi.AssociationWrite) (*hubapi.AssociationBatch, error)

// pairs sends changes in batches, each pair of records once with all its types. All these calls may be repeated, so a
// lost answer is met by one more try.
func (m *mission) pairs(ctx context.Context, list []*change, call pairCall, types func(*change) []hubapi.AssociationTypeRef) {
	index := map[[2]int64]int{}
	var inputs []hubapi.AssociationWrite
	var owners [][]*change
	for _, c := range list {
		k := [2]int64{c.a, c.b}
		i, ok := index[k]
		if !ok {
			i = len(inputs)
			index[k] = i
			inputs, owners = append(inputs, hubapi.AssociationWrite{From: c.a, To: c.b}), append(owners, nil)
		}
		for _, ref := range types(c) {
			if !slices.Contains(inputs[i].Types, ref) {
				inputs[i].Types = append(inputs[i].Types, ref)
			}
		}
		owners[i] = append(owners[i], c)
	}
	for at := 0; at < len(inputs) && !m.ended(ctx); at += hubapi.MaxAssociationArchives {
		end := min(at+hubapi.MaxAssociationArchives, len(inputs))
		m.sendPairs(ctx, inputs[at:end], owners[at:end], call)
		for _, o := range owners[at:end] {
			m.note(o)
		}
		m.count(ctx, slices.Concat(owners[at:end]...))
	}
}

func (m *mission) sendPairs(ctx context.Context, in []hubapi.AssociationWrite, owners [][]*change, call pairCall) {
	pair := owners[0][0].pair
	m.calls.Add(1)
	b, err := call(m.w.client, pair, in)
	if isA[*hubapi.AmbiguousError](err) && ctx.Err() == nil {
		m.calls.Add(1)
		b, err = call(m.w.client, pair, in)
	}
	if isA[*hubapi.SplitError](err) && len(in) > 1 {
		half := len(in) / 2
		m.sendPairs(ctx, in[:half], owners[:half], call)
		m.sendPairs(ctx, in[half:], owners[half:], call)
		return
	}
	if err == nil {
		m.heard(b.CorrelationID)
	} else if ctx.Err() != nil && !isA[*hubapi.AmbiguousError](err) {
		return // HubSpot has nothing of it
	}
	answered := time.Now() // associations have no version: a read that began earlier may have missed it
	for i := range in {
		reason := err
		if reason == nil {
			reason = b.Errs[i]
		}
		for _, c := range owners[i] {
			if reason != nil {
				flaws := flawsOf(reason, nil)
				if c.op == opInsert {
					flaws = withoutEnd(flaws)
				}
				c.flaws = append(c.flaws, flaws...)
				continue
			}
			c.done, c.readAt = true, answered
		}
	}
}

// ends lists the records of the first table, each once.
func ends(list []*change) []int64 {
	ids := make([]int64, 0, len(list))
	for _, c := range list {
		ids = append(ids, c.a)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}
