package sandbox

import (
	"runtime"
	"strconv"
	"sync"
	"time"
)

// seedTime is the instant up to which generated records were changed, so that they depend on the seed
// alone. A clock that is behind it counts instead.
var seedTime = time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)

// seed defines the object types and fills them.
func (a *account) seed() {
	now := min(seedTime.UnixMilli(), nowMS())
	a.seedOwners(now)
	a.seedPipelines(now)
	plans := map[*table]*blueprint{}
	for _, k := range standardKinds() {
		t := newTable(k)
		b := blueprintOf(k)
		plans[t] = b
		a.define(t, b)
		a.addTable(t)
	}
	defineStandardLinks(a)
	machines, err := a.addType(SchemaDef{
		Name: "machines", SingularLabel: "Machine", PluralLabel: "Machines",
		PrimaryDisplayProperty: "serial_number", RequiredProperties: []string{"serial_number"},
		SearchableProperties: []string{"serial_number", "model"}, AssociatedObjects: machineAssociations,
	}, now)
	if err != nil {
		panic(err) // the names above are valid and free
	}
	plans[machines] = machineBlueprint()
	a.define(machines, plans[machines])
	a.links.defineUserLabel(direction{"0-1", "0-2"}, "Decision maker", "", "decision_maker")
	a.links.defineUserLabel(direction{"0-1", "0-2"}, "Billing contact", "Billed through", "billing_contact")
	a.seedTeams()
	if a.cfg.Empty {
		return
	}
	defer a.seedSurfaces(now)
	companyOf := func(i int) int { // -1 for none
		h := mix(uint64(a.cfg.Seed) ^ uint64(i)*31 + 5)
		if h%100 < 15 {
			return -1
		}
		return int(h >> 8 % uint64(a.seedCount(a.byPath["companies"])))
	}
	sizes := make([]int, a.seedCount(a.byPath["companies"]))
	for i := range a.seedCount(a.byPath["contacts"]) {
		if n := companyOf(i); n >= 0 {
			sizes[n]++
		}
	}
	for _, name := range []string{"companies", "contacts"} { // contacts hold company ids
		a.fill(a.byPath[name], plans[a.byPath[name]], now, companyOf, sizes)
	}
	for _, t := range a.tables {
		if t.live.len() == 0 {
			a.fill(t, plans[t], now, companyOf, sizes)
		}
	}
	a.seedLinks(companyOf)
}

// seedSurfaces makes what the account holds besides records.
func (a *account) seedSurfaces(now int64) {
	a.seedSegments(now)
	a.seedForms(now)
	a.seedMarketing(now)
}

func blueprintOf(k *kind) *blueprint {
	switch k.name {
	case "contacts":
		return contactBlueprint()
	case "companies":
		return companyBlueprint()
	case "deals":
		return dealBlueprint()
	case "tickets":
		return ticketBlueprint()
	case "products":
		return productBlueprint()
	case "line_items":
		return lineItemBlueprint()
	case "quotes":
		return quoteBlueprint()
	case "notes", "tasks", "meetings", "calls", "emails", "communications", "postal_mail":
		return activityBlueprint(k.name)
	default:
		return plainBlueprint(k)
	}
}

// define gives t the properties of b, in the blueprint's order.
func (a *account) define(t *table, b *blueprint) {
	t.groups = b.groups
	for _, p := range b.props {
		if t.props[p.def.Name] != nil {
			continue
		}
		d := p.def
		switch d.Name {
		case "pipeline", "hs_pipeline":
			for _, pl := range a.pipelines[t.kind.typeID] {
				d.Options = append(d.Options, Option{Label: pl.label, Value: pl.id, DisplayOrder: pl.order})
			}
		case "dealstage", "hs_pipeline_stage":
			for _, pl := range a.pipelines[t.kind.typeID] {
				for _, st := range pl.stages {
					d.Options = append(d.Options, Option{Label: st.label, Value: st.id, DisplayOrder: st.order})
				}
			}
		}
		if d.ExternalOptions && len(a.pipelines[t.kind.typeID]) == 0 {
			d.Options = nil
		}
		added := t.addProperty(d)
		if !d.HubSpotDefined {
			added.created = min(seedTime.UnixMilli(), nowMS()) - 365*86_400_000
			added.updated = added.created
		}
	}
}

// seedCount is how many records of a type are seeded, growing with the contacts.
func (a *account) seedCount(t *table) int {
	n := a.cfg.Contacts
	share := func(percent, most int) int { return max(1, min(n*percent/100, most)) }
	switch t.kind.name {
	case "contacts":
		return n
	case "companies":
		return share(15, 50_000)
	case "deals":
		return share(25, 100_000)
	case "tickets":
		return share(10, 50_000)
	case "notes", "calls", "emails":
		return share(20, 50_000)
	case "tasks", "meetings":
		return share(15, 50_000)
	case "communications":
		return share(3, 5_000)
	case "products":
		return 60
	case "line_items":
		return share(40, 100_000)
	case "quotes":
		return share(5, 10_000)
	case "leads", "orders":
		return share(4, 10_000)
	case "invoices", "subscriptions", "carts":
		return share(2, 5_000)
	case "machines":
		return share(8, 20_000)
	default:
		return 0
	}
}

// fill generates a type's records on all processors.
func (a *account) fill(t *table, b *blueprint, now int64, companyOf func(int) int, sizes []int) {
	n := a.seedCount(t)
	if n == 0 {
		return
	}
	pls := a.pipelines[t.kind.typeID]
	prepare := func(g *gen) {
		g.person()
		company := g.n(len(sizes))
		switch t.kind.name {
		case "companies":
			company = g.i
			g.linkedCount = sizes[g.i]
		case "contacts":
			g.linked = 0
			if linked := companyOf(g.i); linked >= 0 {
				company = linked
				g.linked = a.seedID(a.byPath["companies"], linked)
			}
		}
		g.nameCompany(company)
		g.city = int(mix(uint64(company)) % uint64(len(cities)))
		g.amount = g.n(20_000_000)
		if len(pls) > 0 {
			g.pipeline = pls[min(g.n(4)/3, len(pls)-1)]
			g.stage = g.pipeline.stages[g.n(len(g.pipeline.stages))]
		}
	}
	workers := min(runtime.GOMAXPROCS(0), 1+n/5000)
	parts := make([][]*record, workers)
	var wg sync.WaitGroup
	for w := range workers {
		from, to := n*w/workers, n*(w+1)/workers
		wg.Go(func() { parts[w] = b.records(a, t, from, to-from, now, prepare) })
	}
	wg.Wait()
	all := make([]*record, 0, n)
	for _, p := range parts {
		all = append(all, p...)
	}
	t.load(all)
}

// seedID is the id of the i-th seeded record of a type: the same that records makes.
func (a *account) seedID(t *table, i int) int64 {
	g := &gen{}
	g.reset(a.cfg.Seed, uniqueKey(t.kind.typeID), i)
	return firstID(a.cfg.Seed, t.kind.typeID) + int64(i)*37 + int64(g.n(36))
}

func (a *account) activeOwners() []*owner {
	var os []*owner
	for _, o := range a.owners {
		if !o.archived {
			os = append(os, o)
		}
	}
	return os
}

func (a *account) seedOwners(now int64) {
	const people = 9
	teams := []team{{id: "368389", name: "Sales East", primary: true}, {id: "368390", name: "Service"}}
	for i := range people {
		g := &gen{}
		g.reset(a.cfg.Seed, 0x6f776e, i)
		g.person()
		email := appendASCII(nil, g.first)
		email = append(email, '.')
		email = appendASCII(email, g.last)
		o := &owner{
			id: 81_000_000 + int64(i)*7919 + int64(g.n(7000)), userID: 73_000_000 + int64(i)*6007 + int64(g.n(6000)),
			email: string(email) + strconv.Itoa(i) + "@northbeam.example", first: g.first, last: g.last,
			created: now - 900*86_400_000, updated: now - int64(g.n(300))*86_400_000, archived: i == people-1,
		}
		if i%3 != 2 && !o.archived {
			o.teams = []team{teams[i%2]}
		}
		a.owners = append(a.owners, o)
	}
}
