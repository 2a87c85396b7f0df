package sandbox

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
)

// stateVersion changes with the form of the saved state; another version is refused.
const stateVersion = 1

// The saved form of an account. What can be derived (search index, unique values, paths) is not in it, nor is what
// only makes search misbehave: a restored account's index is up to date.
type (
	savedAccount struct {
		Version   int
		Seed      int64
		Seq       uint64
		LastType  int
		Changes   int64
		Tables    []savedTable
		LinkTypes []savedLinkType
		NextLink  int
		Sets      [][]int
		Sides     []savedSide
		Owners    []savedOwner
		Pipelines []savedPipeline
		Surfaces  surfaces
	}
	savedTable struct {
		Kind    savedKind
		Groups  []savedGroup
		Slots   []savedProperty
		Records []savedRecord // in id order
		Aliases map[int64]int64
		LastID  int64
	}
	savedKind struct {
		TypeID, Name, Singular, Label, Plural, Alias      string
		CreatedProp, ModifiedProp, Display, Scope         string
		Defaults, Query                                   []string
		Required                                          [][]string
		Merges, Unsearched, ReadOnly, Activatable, Custom bool
		Inactive                                          bool
		FQN                                               string
		RequiredList, SearchableList                      []string
		SchemaID                                          string
		CreatedAt, UpdatedAt                              int64
	}
	savedGroup struct {
		Name, Label  string
		DisplayOrder int
		Archived     bool
	}
	savedProperty struct {
		Def                        PropertyDef
		Created, Updated, Archived int64
	}
	savedRecord struct {
		ID, Created, Updated, Archived int64
		Seq                            uint64
		Data                           []byte
		Trail                          map[int][]savedValue
	}
	savedValue struct {
		Text, Source string
		At           int64
	}
	savedLinkType struct {
		From, To              string
		ID, Inverse           int
		Category, Label, Name string
		Primary               bool
	}
	savedSide struct {
		From, To string
		Links    map[int64][]savedLink
	}
	savedLink struct {
		To  int64
		Set uint32
	}
	savedOwner struct {
		ID, UserID         int64
		Email, First, Last string
		Teams              []savedTeam
		Created, Updated   int64
		Archived           bool
	}
	savedTeam struct {
		ID, Name string
		Primary  bool
	}
	savedPipeline struct {
		TypeID, ID, Label string
		Order             int
		Created, Updated  int64
		Stages            []savedStage
	}
	savedStage struct {
		ID, Label        string
		Order            int
		Created, Updated int64
		Metadata         [][2]string
		Closed           bool
	}
)

// Save writes the account's whole content, so that [Restore] can go on with it. Counters of calls, limits in use and
// faults are not part of it.
func (s *Server) Save(w io.Writer) error {
	var state savedAccount
	s.account.view(func() { state = s.account.save() })
	buffered := bufio.NewWriter(w)
	packed := gzip.NewWriter(buffered)
	err := errors.Join(gob.NewEncoder(packed).Encode(&state), packed.Close(), buffered.Flush())
	if err != nil {
		return fmt.Errorf("save account: %w", err)
	}
	return nil
}

// Restore makes a simulated account with the content that [Server.Save] wrote. Of cfg everything counts but what
// decides the content.
func Restore(cfg Config, r io.Reader) (*Server, error) {
	unpacked, err := gzip.NewReader(bufio.NewReader(r))
	if err != nil {
		return nil, fmt.Errorf("restore account: %w", err)
	}
	var state savedAccount
	if err := gob.NewDecoder(unpacked).Decode(&state); err != nil {
		return nil, fmt.Errorf("restore account: %w", err)
	}
	if _, err := unpacked.Read(make([]byte, 1)); !errors.Is(err, io.EOF) { // the end is where the checksum is compared
		err = cmp.Or(err, errors.New("more than one state"))
		return nil, fmt.Errorf("restore account: %w", err)
	}
	if state.Version != stateVersion {
		return nil, fmt.Errorf("restore account: the state is of version %d, want %d", state.Version, stateVersion)
	}
	cfg.Seed = state.Seed
	s := newServer(cfg)
	s.account.restoreState(&state)
	s.account.watch = s.watch
	return s, nil
}

// save copies the account; the lock is held.
func (a *account) save() savedAccount {
	state := savedAccount{
		Version: stateVersion, Seed: a.cfg.Seed, Seq: a.seq, LastType: a.lastType, Changes: a.changes, NextLink: a.links.next,
		Surfaces: a.surfaces.clone(),
	}
	for _, t := range a.tables {
		state.Tables = append(state.Tables, t.save())
	}
	for _, d := range slices.SortedFunc(maps.Keys(a.links.types), compareDirections) {
		for _, lt := range a.links.types[d] {
			state.LinkTypes = append(state.LinkTypes, savedLinkType{
				d.from, d.to, lt.id, lt.inverse, lt.category, lt.label, lt.name, lt.primary,
			})
		}
	}
	for _, set := range a.links.sets {
		state.Sets = append(state.Sets, set)
	}
	for _, d := range slices.SortedFunc(maps.Keys(a.links.sides), compareDirections) {
		side := savedSide{From: d.from, To: d.to, Links: make(map[int64][]savedLink, len(a.links.sides[d]))}
		for from, links := range a.links.sides[d] {
			saved := make([]savedLink, len(links))
			for i, l := range links {
				saved[i] = savedLink{l.to, l.set}
			}
			side.Links[from] = saved
		}
		state.Sides = append(state.Sides, side)
	}
	for _, o := range a.owners {
		saved := savedOwner{
			ID: o.id, UserID: o.userID, Email: o.email, First: o.first, Last: o.last,
			Created: o.created, Updated: o.updated, Archived: o.archived,
		}
		for _, t := range o.teams {
			saved.Teams = append(saved.Teams, savedTeam{t.id, t.name, t.primary})
		}
		state.Owners = append(state.Owners, saved)
	}
	for _, typeID := range slices.Sorted(maps.Keys(a.pipelines)) {
		for _, p := range a.pipelines[typeID] {
			state.Pipelines = append(state.Pipelines, p.save(typeID))
		}
	}
	return state
}

func compareDirections(a, b direction) int {
	return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to))
}

func (p *pipeline) save(typeID string) savedPipeline {
	saved := savedPipeline{typeID, p.id, p.label, p.order, p.created, p.updated, nil}
	for _, st := range p.stages {
		saved.Stages = append(saved.Stages, savedStage{st.id, st.label, st.order, st.created, st.updated, st.metadata, st.closed})
	}
	return saved
}

func (t *table) save() savedTable {
	k := t.kind
	saved := savedTable{Aliases: maps.Clone(t.aliases), LastID: t.lastID, Kind: savedKind{
		k.typeID, k.name, k.singular, k.label, k.plural, k.alias, k.createdProp, k.modifiedProp, k.display, k.scope,
		k.defaults, k.query, k.required, k.merges, k.unsearched, k.readOnly, k.activatable, k.custom, k.inactive,
		k.fqn, k.requiredList, k.searchableList, k.schemaID, k.createdAt, k.updatedAt,
	}}
	for _, g := range t.groups {
		saved.Groups = append(saved.Groups, savedGroup{g.name, g.label, g.displayOrder, g.archived})
	}
	for _, p := range t.slots {
		saved.Slots = append(saved.Slots, savedProperty{p.PropertyDef, p.created, p.updated, p.archived})
	}
	saved.Records = make([]savedRecord, 0, len(t.entries))
	for _, id := range slices.Sorted(maps.Keys(t.entries)) {
		e := t.entries[id]
		r := savedRecord{e.id, e.cur.created, e.cur.updated, e.cur.archived, e.cur.seq, e.cur.data, nil}
		if e.trail != nil {
			r.Trail = make(map[int][]savedValue, len(e.trail.bySlot))
			for slot, values := range e.trail.bySlot {
				for _, v := range values {
					r.Trail[slot] = append(r.Trail[slot], savedValue{v.text, v.source, v.at})
				}
			}
		}
		saved.Records = append(saved.Records, r)
	}
	return saved
}

// restoreState fills an empty account.
func (a *account) restoreState(state *savedAccount) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.surfaces = state.Surfaces
	for _, g := range a.surfaces.Segments {
		if g.Members == nil { // gob leaves empty maps out
			g.Members = map[int64]int64{}
		}
	}
	a.seq, a.lastType, a.changes = state.Seq, state.LastType, state.Changes
	// The generator of spontaneous changes goes on with other numbers, not with those already used.
	a.rng = rand.New(rand.NewPCG(uint64(state.Seed), mix(uint64(state.Changes)+state.Seq)))
	for i := range state.Tables {
		a.addTable(restoreTable(&state.Tables[i]))
	}
	a.due(0)
	for _, lt := range state.LinkTypes {
		a.links.add(direction{lt.From, lt.To}, &linkType{
			id: lt.ID, inverse: lt.Inverse, category: lt.Category, label: lt.Label, name: lt.Name, primary: lt.Primary,
		})
	}
	a.links.next = state.NextLink
	for _, set := range state.Sets {
		a.links.intern(set)
	}
	for _, side := range state.Sides {
		links := make(map[int64][]link, len(side.Links))
		for from, saved := range side.Links {
			for _, l := range saved {
				links[from] = append(links[from], link{l.To, l.Set})
			}
		}
		a.links.sides[direction{side.From, side.To}] = links
	}
	for _, o := range state.Owners {
		restored := &owner{
			id: o.ID, userID: o.UserID, email: o.Email, first: o.First, last: o.Last,
			created: o.Created, updated: o.Updated, archived: o.Archived,
		}
		for _, t := range o.Teams {
			restored.teams = append(restored.teams, team{t.ID, t.Name, t.Primary})
		}
		a.owners = append(a.owners, restored)
	}
	for _, p := range state.Pipelines {
		restored := &pipeline{id: p.ID, label: p.Label, order: p.Order, created: p.Created, updated: p.Updated}
		for _, st := range p.Stages {
			restored.stages = append(restored.stages, &stage{
				id: st.ID, label: st.Label, order: st.Order, created: st.Created, updated: st.Updated,
				metadata: st.Metadata, closed: st.Closed,
			})
		}
		a.pipelines[p.TypeID] = append(a.pipelines[p.TypeID], restored)
	}
}

func restoreTable(saved *savedTable) *table {
	k := saved.Kind
	t := newTable(&kind{
		typeID: k.TypeID, name: k.Name, singular: k.Singular, label: k.Label, plural: k.Plural, alias: k.Alias,
		createdProp: k.CreatedProp, modifiedProp: k.ModifiedProp, display: k.Display, scope: k.Scope,
		defaults: k.Defaults, query: k.Query, required: k.Required,
		merges: k.Merges, unsearched: k.Unsearched, readOnly: k.ReadOnly, activatable: k.Activatable,
		custom: k.Custom, inactive: k.Inactive, fqn: k.FQN,
		requiredList: k.RequiredList, searchableList: k.SearchableList,
		schemaID: k.SchemaID, createdAt: k.CreatedAt, updatedAt: k.UpdatedAt,
	})
	for _, g := range saved.Groups {
		t.groups = append(t.groups, group{g.Name, g.Label, g.DisplayOrder, g.Archived})
	}
	for _, p := range saved.Slots {
		restored := t.addProperty(p.Def)
		restored.created, restored.updated, restored.archived = p.Created, p.Updated, p.Archived
	}
	var live []*record
	for _, r := range saved.Records {
		if r.Archived == 0 {
			live = append(live, &record{r.ID, r.Created, r.Updated, 0, r.Seq, r.Data})
		}
	}
	t.load(live)
	for _, r := range saved.Records {
		e := t.entries[r.ID]
		if e == nil { // archived
			e = &entry{id: r.ID, cur: &record{r.ID, r.Created, r.Updated, r.Archived, r.Seq, r.Data}}
			t.entries[r.ID] = e
			t.gone.insert(e)
		}
		for slot, values := range r.Trail {
			if e.trail == nil {
				e.trail = &trail{bySlot: map[int][]pastValue{}}
			}
			for _, v := range values {
				e.trail.bySlot[slot] = append(e.trail.bySlot[slot], pastValue{text: v.Text, at: v.At, source: v.Source})
			}
		}
	}
	if t.gone.len() > 0 {
		t.purgeAt = 0
	}
	t.lastID = saved.LastID
	if saved.Aliases != nil {
		t.aliases = saved.Aliases
	}
	return t
}
