package sandbox

import (
	"context"
	"sync"
	"time"
)

// Run delivers webhooks and changes records now and then, as a working company does, until ctx ends; it changes
// nothing when the account is quiet. It returns nil.
func (s *Server) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	wg.Go(func() { s.deliver(ctx) })
	defer wg.Wait()
	if s.cfg.Quiet {
		<-ctx.Done()
		return nil
	}
	timer := time.NewTimer(s.cfg.ChangeEvery)
	defer timer.Stop()
	for n := uint64(0); ; n++ {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		s.Step()
		// Between half and one and a half of the mean.
		mean := uint64(s.cfg.ChangeEvery)
		timer.Reset(time.Duration(mean/2 + mix(uint64(s.cfg.Seed)+n)%(mean+1)))
	}
}

// Step makes one spontaneous change. The sequence of changes depends on the seed and what the account
// holds, not on time.
func (s *Server) Step() {
	a := s.account
	a.edit(func(now int64) {
		a.changes++
		switch n := a.rng.IntN(100); {
		case n < 30:
			a.moveStage("0-3", "pipeline", "dealstage", now)
		case n < 40:
			a.moveStage("0-5", "hs_pipeline", "hs_pipeline_stage", now)
		case n < 62:
			a.touch("0-1", now, "phone", "jobtitle", "loyalty_points", "hs_lead_status",
				"newsletter", "interests", "hubspot_owner_id")
		case n < 70:
			a.touch("0-2", now, "phone", "service_level", "numberofemployees", "description", "hubspot_owner_id")
		case n < 76:
			a.touch("machines", now, "status", "operating_hours", "last_service_at", "under_warranty")
		case n < 84:
			a.arrive(now)
		case n < 91:
			a.note(now)
		case n < 96:
			a.introduce()
		case n < 98:
			if t, e := a.any("0-46"); e != nil {
				a.archive(t, e, now)
			}
		default:
			if t, e := a.any("0-1"); e != nil {
				a.archive(t, e, now)
			}
		}
	})
}

// any picks a live record of a type, nil when there is none.
func (a *account) any(path string) (*table, *entry) {
	t := a.table(path)
	if t == nil || t.live.len() == 0 {
		return t, nil
	}
	var e *entry
	t.live.ascend(t.live.at(a.rng.IntN(t.live.len())), func(x *entry) bool { e = x; return false })
	return t, e
}

func (a *account) newGen(now int64) *gen {
	return &gen{x: a.rng.Uint64(), created: now - 86_400_000, updated: now, owners: a.activeOwners()}
}

// moveStage moves a deal or ticket to the next stage of its pipeline.
func (a *account) moveStage(path, pipelineProp, stageProp string, now int64) {
	t, e := a.any(path)
	if e == nil {
		return
	}
	stageP := t.property(stageProp)
	if stageP == nil {
		return
	}
	present := string(packedValue(e.cur.data, stageP.slot))
	for _, p := range a.pipelines[path] {
		for i, st := range p.stages {
			if st.id == present {
				next := p.stages[(i+1)%len(p.stages)]
				a.live(t, e, map[string]string{pipelineProp: p.id, stageProp: next.id}, now)
				return
			}
		}
	}
	if ps := a.pipelines[path]; len(ps) > 0 {
		a.live(t, e, map[string]string{pipelineProp: ps[0].id, stageProp: ps[0].stages[0].id}, now)
	}
}

// touch gives one of the named properties of some record another value.
func (a *account) touch(path string, now int64, names ...string) {
	t, e := a.any(path)
	if e == nil {
		return
	}
	p := t.property(names[a.rng.IntN(len(names))])
	if p == nil {
		return
	}
	g := a.newGen(now)
	sp := seedProperty{def: p.PropertyDef, fill: 100}
	switch p.Name {
	case "phone":
		sp.make = (*gen).phone
	case "jobtitle":
		sp.make = func(g *gen) []byte { return g.text(g.pick(jobTitles)) }
	case "hubspot_owner_id":
		sp.make = (*gen).owner
	}
	was := string(packedValue(e.cur.data, p.slot))
	for range 4 {
		if v := string(sp.value(g)); v != was {
			a.live(t, e, map[string]string{p.Name: v}, now)
			return
		}
	}
}

// live applies a change made by a person in the account.
func (a *account) live(t *table, e *entry, props map[string]string, now int64) {
	cs, err := t.changes(props)
	if err != nil {
		return // the account lacks the property
	}
	a.set(t, e, append(a.follows(t, e.cur, cs), cs...), false, now, "CRM_UI")
}

// arrive makes a new contact at some company.
func (a *account) arrive(now int64) {
	contacts := a.table("0-1")
	companies, company := a.any("0-2")
	g := a.newGen(now)
	g.person()
	g.nameCompany(g.n(100_000))
	g.i = int(contacts.lastID % 1_000_000_007)
	props := map[string]string{"firstname": g.first, "lastname": g.last, "phone": string(g.phone())}
	email := appendASCII(nil, g.first)
	email = append(email, '.')
	email = appendInt(email, int64(g.i))
	props["email"] = string(email) + "@" + g.domain
	if company != nil {
		if name := companies.property("name"); name != nil {
			props["company"] = string(packedValue(company.cur.data, name.slot))
		}
	}
	cs, err := contacts.changes(props)
	if err != nil || a.conflict(contacts, nil, cs) != nil {
		return
	}
	e := a.insert(contacts, append(a.serverSet(contacts, cs), cs...), now)
	if company != nil {
		a.links.put(direction{"0-1", "0-2"}, e.id, company.id, []int{1, 279})
		a.rollUp(contacts, e, companies, company)
	}
}

// note writes a note on a contact.
func (a *account) note(now int64) {
	notes := a.table("0-46")
	contacts, contact := a.any("0-1")
	g := a.newGen(now)
	cs, err := notes.changes(map[string]string{
		"hs_timestamp": string(appendInstant(nil, now)), "hs_note_body": string(g.sentence(9)),
	})
	if err != nil {
		return
	}
	e := a.insert(notes, append(a.serverSet(notes, cs), cs...), now)
	if contact != nil {
		a.links.put(direction{"0-46", "0-1"}, e.id, contact.id, onlyUnlabeled(a, direction{"0-46", "0-1"}))
		a.rollUp(notes, e, contacts, contact)
	}
}

// introduce associates a deal with a contact, or ends an association.
func (a *account) introduce() {
	deals, deal := a.any("0-3")
	contacts, contact := a.any("0-1")
	if deal == nil || contact == nil {
		return
	}
	d := direction{"0-3", "0-1"}
	if ls := a.links.of(d, deal.id); len(ls) > 1 {
		a.links.put(d, deal.id, ls[0].to, nil)
		return
	}
	a.links.put(d, deal.id, contact.id, onlyUnlabeled(a, d))
	a.rollUp(deals, deal, contacts, contact)
}

func onlyUnlabeled(a *account, d direction) []int { return []int{a.links.unlabeled(d).id} }
