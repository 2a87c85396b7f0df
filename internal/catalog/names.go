package catalog

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxName is the longest identifier that Postgres keeps, in bytes.
const MaxName = 63

// Names gives out names that are unique in one scope: the columns of a table, or the tables of a schema. A name once
// given or claimed is never given again.
type Names struct {
	taken map[string]bool
}

// NewColumnNames makes the scope of one table's columns: hubpg's own columns are taken.
func NewColumnNames() *Names {
	n := &Names{taken: map[string]bool{}}
	n.Claim(ID, CreatedAt, UpdatedAt, Unparsed, Overflow, ReadAt, ArchivedAt)
	n.Claim("tableoid", "oid", "xmin", "xmax", "cmin", "cmax", "ctid") // Postgres's system columns
	return n
}

// NewTableNames makes the scope of one schema's tables: the lookup tables are taken.
func NewTableNames() *Names {
	n := &Names{taken: map[string]bool{}}
	n.Claim(reservedTables()...)
	return n
}

// reservedTables are the tables of a schema that are not object types.
func reservedTables() []string {
	return []string{
		"owners", "teams", "pipelines", "pipeline_stages", "lists", "list_memberships", "forms",
		"form_submissions", "marketing_emails", "campaigns", "properties", "property_options", "merges",
	}
}

// standardTables are the names of HubSpot's own object types, which no custom object may take even while the account
// does not use that type.
func standardTables() []string {
	return []string{
		"contacts", "companies", "deals", "tickets", "products", "line_items", "quotes", "communications",
		"feedback_submissions", "tasks", "notes", "meetings", "calls", "emails", "invoices", "marketing_events",
		"subscriptions", "goal_targets", "goals", "discounts", "fees", "taxes", "commerce_payments", "users",
		"postal_mail", "orders", "leads", "carts", "services", "courses", "listings", "appointments", "projects",
		"contracts", "deal_splits", "partner_clients", "partner_services",
	}
}

// Claim takes names that were given before.
func (n *Names) Claim(names ...string) {
	for _, name := range names {
		n.taken[name] = true
	}
}

// Taken reports whether a name has been given or claimed.
func (n *Names) Taken(name string) bool { return n.taken[name] }

// Column gives a property its column name: the property's own name in lower case, with what cannot stand unquoted
// replaced by _. A name that is taken or a reserved word gets a trailing _, then a number.
func (n *Names) Column(property string) string {
	name := plain(property)
	if reserved(name) || n.taken[name] {
		name = fit(name + "_")
	}
	return n.unique(name)
}

// Table gives an object type its table name. A standard type has its name by right; a custom object whose name is a
// standard type's, a lookup table's, that of a possible association table of standard types, or taken gets the
// prefix custom_, then a number.
func (n *Names) Table(name string, custom bool) string {
	base := plain(name)
	if !custom {
		return n.unique(base)
	}
	if n.taken[base] || reserved(base) || isStandard(base) || isStandardPair(base) {
		base = fit("custom_" + base)
	}
	return n.unique(base)
}

// Pair gives an association table its name.
func (n *Names) Pair(p *Pair) string {
	name := p.Name
	if n.taken[name] {
		name = fit(name + "_links")
	}
	return n.unique(name)
}

// unique takes name, or the first of name_2, name_3, … that is free.
func (n *Names) unique(name string) string {
	candidate := name
	for i := 2; n.taken[candidate]; i++ {
		suffix := fmt.Sprintf("_%d", i)
		head := name
		if len(head)+len(suffix) > MaxName {
			head = head[:cutAt(head, MaxName-len(suffix))]
		}
		candidate = head + suffix
	}
	n.taken[candidate] = true
	return candidate
}

// Plain makes any text a name that needs no quotes unless it is a reserved word: lower case letters, digits and _.
func Plain(text string) string { return plain(text) }

func plain(text string) string {
	var b strings.Builder
	for _, r := range text {
		switch r = unicode.ToLower(r); {
		case r == '_', r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			b.WriteRune(r)
		case r > unicode.MaxASCII && r != utf8.RuneError && unicode.IsLetter(r):
			b.WriteRune(r)
		default:
			b.WriteByte('_')
		}
	}
	name := b.String()
	if name == "" || name[0] >= '0' && name[0] <= '9' {
		name = "_" + name
	}
	return fit(name)
}

// fit shortens a name over 63 bytes: the head stays, a hash of the whole tells it from others with the same head.
func fit(name string) string {
	if len(name) <= MaxName {
		return name
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(name)) // never fails
	suffix := fmt.Sprintf("_%08x", hash.Sum32())
	return name[:cutAt(name, MaxName-len(suffix))] + suffix
}

// cutAt is the largest rune boundary of s that is at most limit.
func cutAt(s string, limit int) int {
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return limit
}

func isStandard(name string) bool {
	return slices.Contains(standardTables(), name)
}

// isStandardPair reports whether name is <a>_<b> for two standard types.
func isStandardPair(name string) bool {
	for _, a := range standardTables() {
		if b, found := strings.CutPrefix(name, a+"_"); found && isStandard(b) {
			return true
		}
	}
	return false
}
