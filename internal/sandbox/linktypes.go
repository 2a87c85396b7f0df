package sandbox

const (
	categoryHubSpot = "HUBSPOT_DEFINED"
	categoryUser    = "USER_DEFINED"
)

// defineStandardLinks defines the association types between standard object types.
func defineStandardLinks(a *account) {
	name := func(typeID string) string { return a.byPath[typeID].kind.singular }
	plain := func(from, to string, id, inverse int) {
		a.links.define(direction{from, to}, linkType{
			id: id, inverse: inverse, category: categoryHubSpot, name: name(from) + "_to_" + name(to),
		}, name(to)+"_to_"+name(from), "")
	}
	primary := func(from, to string, id, inverse int) {
		a.links.define(direction{from, to}, linkType{
			id: id, inverse: inverse, category: categoryHubSpot, label: "Primary",
			name: name(from) + "_to_" + name(to), primary: true,
		}, name(to)+"_to_"+name(from), "Primary")
	}
	const (
		contact, company, deal, ticket = "0-1", "0-2", "0-3", "0-5"
		product, item, quote           = "0-7", "0-8", "0-14"
	)
	primary(contact, company, 1, 2)
	plain(contact, company, 279, 280)
	plain(deal, contact, 3, 4)
	primary(deal, company, 5, 6)
	plain(deal, company, 341, 342)
	plain(contact, ticket, 15, 16)
	primary(ticket, company, 26, 25)
	plain(ticket, company, 339, 340)
	plain(deal, ticket, 27, 28)
	plain(deal, item, 19, 20)
	plain(quote, deal, 64, 63)
	plain(quote, item, 67, 68)
	plain(quote, contact, 69, 70)
	plain(contact, contact, 449, 449)
	plain(company, company, 450, 450)
	// Parents and children carry only these two types, each side its own.
	a.links.define(direction{company, company}, linkType{
		id: 13, inverse: 14, category: categoryHubSpot, label: "Parent Company", name: "parent_to_child_company",
	}, "child_to_parent_company", "Child Company")

	plain("0-48", contact, 194, 193)
	plain("0-48", company, 182, 181)
	plain("0-48", deal, 206, 205)
	plain("0-48", ticket, 220, 219)
	plain("0-49", contact, 198, 197)
	plain("0-49", company, 186, 185)
	plain("0-49", deal, 210, 209)
	plain("0-49", ticket, 224, 223)
	plain("0-47", contact, 200, 199)
	plain("0-47", company, 188, 187)
	plain("0-47", deal, 212, 211)
	plain("0-47", ticket, 226, 225)
	plain("0-46", contact, 202, 201)
	plain("0-46", company, 190, 189)
	plain("0-46", deal, 214, 213)
	plain("0-46", ticket, 228, 227)
	plain("0-27", contact, 204, 203)
	plain("0-27", company, 192, 191)
	plain("0-27", deal, 216, 215)
	plain("0-27", ticket, 230, 229)
	plain("0-18", contact, 81, 82)
	plain("0-18", company, 87, 88)
	plain("0-18", deal, 85, 86)
	plain("0-116", contact, 453, 454)
	plain("0-116", company, 459, 460)
	plain("0-136", contact, 578, 579)
	plain("0-136", company, 610, 611)
	plain("0-123", contact, 507, 508)
	plain("0-123", company, 509, 510)
	plain("0-123", item, 513, 514)
	plain("0-142", contact, 586, 587)
	plain("0-53", contact, 177, 178)
	plain("0-53", company, 179, 180)
	plain("0-421", contact, 906, 907)
}

// defineUserLabel adds a user-defined label; inverseLabel is empty when both sides share it.
func (l *links) defineUserLabel(d direction, label, inverseLabel, name string) *linkType {
	id := l.next
	inverse := id
	l.next++
	if d.from != d.to || inverseLabel != "" {
		inverse = l.next
		l.next++
	}
	if inverseLabel == "" {
		inverseLabel = label
	}
	lt := linkType{id: id, inverse: inverse, category: categoryUser, label: label, name: name}
	l.define(d, lt, name+"_inverse", inverseLabel)
	return l.byID[d][id]
}
