package sandbox

import "strconv"

func (a *account) seedPipelines(now int64) {
	type row struct{ id, label, meta string }
	add := func(typeID, id, label, metaName string, rows ...row) {
		p := &pipeline{id: id, label: label, order: len(a.pipelines[typeID])}
		if id != "default" && id != "0" {
			p.created, p.updated = now-400*86_400_000, now-90*86_400_000
		}
		for i, r := range rows {
			st := &stage{id: r.id, label: r.label, order: i, created: p.created, updated: p.updated}
			switch metaName {
			case "probability":
				st.closed = r.meta == "1.0" || r.meta == "0.0"
				st.metadata = [][2]string{{"isClosed", strconv.FormatBool(st.closed)}, {"probability", r.meta}}
			default:
				st.closed = r.meta == "CLOSED"
				st.metadata = [][2]string{{"ticketState", r.meta}, {"isClosed", strconv.FormatBool(st.closed)}}
			}
			p.stages = append(p.stages, st)
		}
		a.pipelines[typeID] = append(a.pipelines[typeID], p)
	}
	add("0-3", "default", "Sales Pipeline", "probability",
		row{"appointmentscheduled", "Appointment Scheduled", "0.2"},
		row{"qualifiedtobuy", "Qualified To Buy", "0.4"},
		row{"presentationscheduled", "Presentation Scheduled", "0.6"},
		row{"decisionmakerboughtin", "Decision Maker Bought-In", "0.8"},
		row{"contractsent", "Contract Sent", "0.9"},
		row{"closedwon", "Closed Won", "1.0"},
		row{"closedlost", "Closed Lost", "0.0"})
	add("0-3", "75860141", "Service Renewals", "probability",
		row{"148300001", "Renewal due", "0.5"},
		row{"148300002", "Offer sent", "0.7"},
		row{"148300003", "Renewed", "1.0"},
		row{"148300004", "Churned", "0.0"})
	add("0-5", "0", "Support Pipeline", "ticketState",
		row{"1", "New", "OPEN"}, row{"2", "Waiting on contact", "OPEN"},
		row{"3", "Waiting on us", "OPEN"}, row{"4", "Closed", "CLOSED"})
	add("0-136", "lead-pipeline-id", "Lead pipeline", "ticketState",
		row{"new-stage-id", "New", "OPEN"}, row{"attempting-stage-id", "Attempting", "OPEN"},
		row{"connected-stage-id", "Connected", "OPEN"}, row{"qualified-stage-id", "Qualified", "CLOSED"})
	add("0-123", "14a2e10e-5471-408a-906e-c51f3b04369e", "Order Pipeline", "ticketState",
		row{"4b27b500-f031-4927-9811-68a0b525cbae", "Open", "OPEN"},
		row{"3c85a297-e9ce-400b-b42e-9f16853d69d6", "Shipped", "OPEN"},
		row{"aa99e8d0-c1d5-4071-b915-d240bbb1aed9", "Delivered", "CLOSED"})
}

// seedLinks associates the seeded records.
func (a *account) seedLinks(companyOf func(int) int) {
	contacts, companies := a.byPath["contacts"], a.byPath["companies"]
	nContacts, nCompanies := a.seedCount(contacts), a.seedCount(companies)
	pairs := make([][2]int64, 0, nContacts)
	for i := range nContacts {
		if n := companyOf(i); n >= 0 {
			pairs = append(pairs, [2]int64{a.seedID(contacts, i), a.seedID(companies, n)})
		}
	}
	a.links.load(direction{"0-1", "0-2"}, pairs, []int{1, 279})

	// Every type below is associated with some contacts and a company each.
	link := func(name, to string, percent, most int, ids func(d direction) []int) {
		t, other := a.byPath[name], a.byPath[to]
		d := direction{t.kind.typeID, other.kind.typeID}
		n, m := a.seedCount(t), a.seedCount(other)
		if a.links.types[d] == nil || n == 0 || m == 0 {
			return
		}
		var pairs [][2]int64
		g := &gen{}
		for i := range n {
			g.reset(a.cfg.Seed, uniqueKey(d.from+">"+d.to), i)
			if !g.chance(percent) {
				continue
			}
			for range 1 + g.n(most) {
				pairs = append(pairs, [2]int64{a.seedID(t, i), a.seedID(other, g.n(m))})
			}
		}
		a.links.load(d, pairs, ids(d))
	}
	unlabeled := func(d direction) []int { return []int{a.links.unlabeled(d).id} }
	withPrimary := func(d direction) []int {
		ids := unlabeled(d)
		for _, lt := range a.links.types[d] {
			if lt.primary {
				ids = append(ids, lt.id)
			}
		}
		return ids
	}
	link("deals", "companies", 90, 1, withPrimary)
	link("deals", "contacts", 85, 3, unlabeled)
	link("tickets", "companies", 60, 1, withPrimary)
	link("tickets", "contacts", 90, 1, unlabeled)
	link("line_items", "deals", 95, 1, unlabeled)
	link("quotes", "deals", 90, 1, unlabeled)
	for _, name := range []string{"notes", "calls", "emails", "tasks", "meetings", "communications"} {
		link(name, "contacts", 85, 2, unlabeled)
		link(name, "deals", 40, 1, unlabeled)
		link(name, "companies", 50, 1, unlabeled)
	}
	link("leads", "contacts", 100, 1, unlabeled)
	link("orders", "companies", 90, 1, unlabeled)
	link("machines", "companies", 95, 1, unlabeled)
	link("machines", "tickets", 20, 2, unlabeled)

	// Some people also have a label of the account's own, and some companies a parent.
	d := direction{"0-1", "0-2"}
	for _, lt := range a.links.types[d] {
		if lt.category != categoryUser {
			continue
		}
		for i := lt.id % 7; i < nContacts; i += 23 {
			if n := companyOf(i); n >= 0 {
				a.links.put(d, a.seedID(contacts, i), a.seedID(companies, n), []int{1, lt.id, 279})
			}
		}
	}
	for i := 10; i < nCompanies; i += 20 {
		a.links.put(direction{"0-2", "0-2"}, a.seedID(companies, i/10), a.seedID(companies, i), []int{13})
	}
}
