package sandbox

import "strings"

// blueprint is how the records of one type are generated: their properties and, per property, how
// many percent of the records have a value and what it is.
type blueprint struct {
	groups []group
	props  []seedProperty
}

type seedProperty struct {
	def  PropertyDef
	fill int
	make func(*gen) []byte // nil: something that suits the type
}

// add defines a property by "name|Label|type|fieldType|flags|options". Flags: c calculated, r read-only,
// u unique, o owner, x external options, f form field, s not defined by HubSpot. Options are
// "value=Label,…", or just labels when they are the values.
func (b *blueprint) add(spec string, fill int, fn func(*gen) []byte) {
	f := strings.Split(spec, "|")
	for len(f) < 6 {
		f = append(f, "")
	}
	d := PropertyDef{
		Name: f[0], Label: f[1], Type: f[2], FieldType: f[3], GroupName: b.groups[len(b.groups)-1].name,
		HubSpotDefined: !strings.Contains(f[4], "s"), FormField: strings.Contains(f[4], "f"),
		Calculated: strings.Contains(f[4], "c"), ReadOnly: strings.ContainsAny(f[4], "rc"),
		HasUniqueValue: strings.Contains(f[4], "u"), ExternalOptions: strings.ContainsAny(f[4], "xo"),
		DisplayOrder: -1,
	}
	d.Description = describe(d)
	if strings.Contains(f[4], "o") {
		d.ReferencedObjectType = "OWNER"
	}
	for i, o := range strings.Split(f[5], ",") {
		if o == "" {
			continue
		}
		value, label, ok := strings.Cut(o, "=")
		if !ok {
			label = value
		}
		d.Options = append(d.Options, Option{Label: label, Value: value, DisplayOrder: i})
	}
	if d.Type == "bool" || d.FieldType == "booleancheckbox" && len(d.Options) == 0 {
		d.Options = []Option{{Label: "Yes", Value: "true"}, {Label: "No", Value: "false", DisplayOrder: 1}}
	}
	b.props = append(b.props, seedProperty{d, fill, fn})
}

func (b *blueprint) group(name, label string) {
	b.groups = append(b.groups, group{name: name, label: label, displayOrder: len(b.groups)})
}

func describe(d PropertyDef) string {
	switch {
	case d.Calculated:
		return d.Label + ". Calculated by HubSpot from other values."
	case d.ReadOnly:
		return d.Label + ". Set by HubSpot."
	default:
		return "The " + strings.ToLower(d.Label) + " of the record."
	}
}

// value makes a value for p, nil for none.
func (p *seedProperty) value(g *gen) []byte {
	if p.fill < 100 && !g.chance(p.fill) {
		return nil
	}
	if p.make != nil {
		return p.make(g)
	}
	switch p.def.Type {
	case "number":
		return g.integer(int64(g.n(1000)))
	case "bool":
		return g.boolean(g.chance(50))
	case "date":
		return g.day()
	case "datetime":
		return g.instant()
	case "phone_number":
		return g.phone()
	case "enumeration":
		if len(p.def.Options) == 0 {
			return nil
		}
		if p.def.FieldType != "checkbox" {
			return g.text(p.def.Options[g.n(len(p.def.Options))].Value)
		}
		g.buf = g.buf[:0]
		for _, o := range p.def.Options {
			if g.chance(35) {
				if len(g.buf) > 0 {
					g.buf = append(g.buf, ';')
				}
				g.buf = append(g.buf, o.Value...)
			}
		}
		if len(g.buf) == 0 {
			return nil
		}
		return g.buf
	default:
		return g.sentence(2 + g.n(4))
	}
}

// records makes n records in id order. prepare sets what the values share; it may be nil.
func (b *blueprint) records(a *account, t *table, from, n int, now int64, prepare func(*gen)) []*record {
	makers := make([]*seedProperty, len(t.slots))
	for i := range b.props {
		p := t.props[b.props[i].def.Name]
		if p.from == stored {
			makers[p.slot] = &b.props[i]
		}
	}
	const years = 3 * 365 * 86_400_000
	hash, first := uniqueKey(t.kind.typeID), firstID(a.cfg.Seed, t.kind.typeID)
	g := &gen{owners: a.activeOwners(), buf: make([]byte, 0, 256)}
	block := make([]record, n)
	out := make([]*record, n)
	var packed []byte
	for k := range n {
		i := from + k
		g.reset(a.cfg.Seed, hash, i)
		id := first + int64(i)*37 + int64(g.n(36))
		age := float64(i) / float64(a.seedCount(t))
		g.created = now - years + int64(age*years) - int64(g.n(86_400_000))
		g.updated = g.between(g.created+1000, now)
		if prepare != nil {
			prepare(g)
		}
		packed = packed[:0]
		for slot, m := range makers {
			if m == nil {
				continue
			}
			if v := m.value(g); v != nil {
				packed = appendValue(packed, slot, v)
			}
		}
		block[k] = record{id: id, created: g.created, updated: g.updated, data: append([]byte(nil), packed...)}
		out[k] = &block[k]
	}
	return out
}
