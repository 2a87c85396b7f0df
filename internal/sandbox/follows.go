package sandbox

import (
	"slices"
	"strconv"
	"strings"
)

// serverSet are the values HubSpot gives a new record besides those sent.
func (a *account) serverSet(t *table, cs []change) []change {
	sent := map[string]bool{}
	for _, c := range cs {
		sent[c.p.Name] = true
	}
	values := map[string]string{"hs_object_source": "INTEGRATION", "hs_object_source_label": "INTEGRATION"}
	if t.kind.typeID == "0-1" {
		values["lifecyclestage"] = "lead"
		values["hs_is_contact"] = "true"
		values["hs_marketable_status"] = "false"
		values["hs_is_unworked"] = "true"
	}
	out := a.follows(t, nil, cs)
	for name, v := range values {
		if p := t.property(name); p != nil && !sent[name] {
			out = append(out, change{p, []byte(v)})
		}
	}
	return out
}

// follows are the calculated values that go with changes cs to r (nil for a new record).
func (a *account) follows(t *table, r *record, cs []change) []change {
	now := func(name string) (string, bool) {
		for _, c := range slices.Backward(cs) {
			if c.p.Name == name {
				return string(c.text), true
			}
		}
		if p := t.property(name); p != nil && r != nil {
			return string(packedValue(r.data, p.slot)), false
		}
		return "", false
	}
	var out []change
	give := func(name, v string) {
		if p := t.property(name); p != nil {
			out = append(out, change{p, []byte(v)})
		}
	}
	switch t.kind.typeID {
	case "0-1":
		if email, changed := now("email"); changed {
			_, domain, _ := strings.Cut(email, "@")
			give("hs_email_domain", domain)
		}
		if v, changed := now("hubspot_owner_id"); changed {
			give("hs_is_unworked", strconv.FormatBool(v == ""))
		}
	case "0-3":
		if amount, changed := now("amount"); changed {
			give("amount_in_home_currency", amount)
		}
		if stage, changed := now("dealstage"); changed {
			if st := a.stage("0-3", stage); st != nil {
				give("hs_is_closed", strconv.FormatBool(st.closed))
				give("hs_is_closed_won", strconv.FormatBool(st.closed && st.probability() == 1))
				give("hs_deal_stage_probability", st.meta("probability"))
			}
		}
	case "0-5":
		if stage, changed := now("hs_pipeline_stage"); changed {
			if st := a.stage("0-5", stage); st != nil {
				give("hs_is_closed", strconv.FormatBool(st.closed))
			}
		}
	}
	return out
}

// stage finds a pipeline stage of a type.
func (a *account) stage(typeID, id string) *stage {
	for _, p := range a.pipelines[typeID] {
		for _, st := range p.stages {
			if st.id == id {
				return st
			}
		}
	}
	return nil
}

func (st *stage) meta(name string) string {
	for _, m := range st.metadata {
		if m[0] == name {
			return m[1]
		}
	}
	return ""
}

func (st *stage) probability() float64 {
	p, err := strconv.ParseFloat(st.meta("probability"), 64)
	if err != nil {
		return 0
	}
	return p
}

// rollUp recomputes what depends on the associations of two records, when the account does that. The
// modified times stay.
func (a *account) rollUp(from *table, x *entry, to *table, y *entry) {
	if !a.cfg.Rollups {
		return
	}
	now := nowMS()
	for _, side := range []struct {
		t, other *table
		e        *entry
	}{{from, to, x}, {to, from, y}} {
		if side.e == nil {
			continue
		}
		d := direction{side.t.kind.typeID, side.other.kind.typeID}
		ls := a.visible(d, side.other, side.e.id)
		var cs []change
		if p := side.t.property("num_associated_" + side.other.kind.name); p != nil {
			cs = append(cs, change{p, []byte(strconv.Itoa(len(ls)))})
		}
		if p := side.t.property("associatedcompanyid"); p != nil && side.other.kind.typeID == "0-2" {
			var company []byte
			for _, k := range ls {
				if a.links.primary(d, a.links.sets[k.set]) {
					company = appendInt(nil, k.to)
				}
			}
			cs = append(cs, change{p, company})
		}
		if len(cs) > 0 {
			a.set(side.t, side.e, cs, true, now, "CALCULATED")
		}
	}
}
