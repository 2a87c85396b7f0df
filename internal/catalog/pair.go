package catalog

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Pair is the association table of two object types. Its rows are the associations of A's records with B's, seen from
// A: type ids and labels are those of the direction A → B.
type Pair struct {
	Schema string
	Name   string // <a>_<b>
	A, B   *Table
}

// standard lists HubSpot's object types in catalog order: what points comes before what it points at, so that the
// tables read as people say them (deals_contacts, contacts_companies). The order is a contract: it names tables.
func standard() []string {
	return []string{
		"0-46",  // notes
		"0-27",  // tasks
		"0-48",  // calls
		"0-49",  // emails
		"0-47",  // meetings
		"0-18",  // communications
		"0-116", // postal_mail
		"0-19",  // feedback_submissions
		"0-54",  // marketing_events
		"0-8",   // line_items
		"0-84",  // discounts
		"0-85",  // fees
		"0-86",  // taxes
		"0-101", // commerce_payments
		"0-53",  // invoices
		"0-69",  // subscriptions
		"0-14",  // quotes
		"0-142", // carts
		"0-123", // orders
		"0-421", // appointments
		"0-410", // courses
		"0-420", // listings
		"0-162", // services
		"0-970", // projects
		"0-74",  // goal_targets
		"0-5",   // tickets
		"0-136", // leads
		"0-3",   // deals
		"0-1",   // contacts
		"0-2",   // companies
		"0-7",   // products
		"0-115", // users
	}
}

// CompareTypes orders two object types: the known standard ones first and in their fixed order, then other standard
// types, then custom objects, each by number.
func CompareTypes(a, b string) int {
	order := standard()
	rank := func(t string) (class, major, minor int) {
		if i := slices.Index(order, t); i >= 0 {
			return 0, i, 0
		}
		left, right, _ := strings.Cut(t, "-")
		major, err := strconv.Atoi(left)
		if err != nil {
			return 2, 0, 0
		}
		minor, err = strconv.Atoi(right)
		if err != nil {
			return 2, 0, 0
		}
		return 1, major, minor
	}
	classA, majorA, minorA := rank(a)
	classB, majorB, minorB := rank(b)
	return cmp.Or(cmp.Compare(classA, classB), cmp.Compare(majorA, majorB), cmp.Compare(minorA, minorB), strings.Compare(a, b))
}

// NewPair makes the association table of two tables of one schema, whichever way round they are given. Its name may
// still have to give way to a table that is already there; see [Names.Pair].
func NewPair(x, y *Table) *Pair {
	if CompareTypes(x.ObjectType, y.ObjectType) > 0 {
		x, y = y, x
	}
	return &Pair{Schema: x.Schema, Name: fit(x.Name + "_" + y.Name), A: x, B: y}
}

// typeID is a column that each association table has besides.
const typeID = "type_id"

// ColumnA is the name of the column that holds A's record id.
func (p *Pair) ColumnA() string { return p.A.reference() }

// reference is the name of a column that holds the id of one of the table's records.
func (t *Table) reference() string {
	if name := fit(t.Singular + "_id"); name != typeID {
		return name
	}
	return t.Singular + "_record_id"
}

// ColumnB is the name of the column that holds B's record id. Where a type is associated with itself it is the record
// pointed at, to_<singular>_id.
func (p *Pair) ColumnB() string {
	if name := p.B.reference(); name != p.ColumnA() {
		return name
	}
	return fit("to_" + p.B.reference())
}

// Key is the pair's object type in hubpg.objects: both type ids with a colon between.
func (p *Pair) Key() string { return p.A.ObjectType + ":" + p.B.ObjectType }
