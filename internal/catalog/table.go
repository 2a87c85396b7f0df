package catalog

import "time"

// Column is one property of an object type as a column of its table.
type Column struct {
	Name        string // locked when first given
	Property    string // HubSpot's internal name: the identity of the column
	Kind        Kind
	Label       string
	Description string
	Calculated  bool      // HubSpot computes the value; it may change without the record being modified
	ReadOnly    bool      // HubSpot refuses a write
	Overflow    bool      // kept in the jsonb column _overflow under Name
	Pinned      bool      // never moved to _overflow
	Archived    bool      // the property is archived in HubSpot: the column stays, nothing asks for it
	Filled      bool      // every row that existed before the column has its value
	Lapsed      bool      // it was filled once: what its values are read for again is a change or a return of the definition
	ChangedAt   time.Time // of HubSpot's definition; zero where it cannot be archived
}

// Table is one object type as a table.
type Table struct {
	Schema           string
	Name             string
	Singular         string
	ObjectType       string // type id: 0-1, 2-123
	Path             string // segment of the API path
	ModifiedProperty string
	Comment          string   // of the table in the database
	Soft             bool     // rows of deleted records stay, with archived_at set
	Version          int64    // rises in the database whenever the columns change
	Columns          []Column // in table order, archived ones included
	Unique           []string // columns with a unique index, which HubSpot keeps unique; by name
	Excluded         []Column // properties that the user does not want: no column, and nothing asks for them
	Slots            int      // columns that the table has or ever had, hubpg's own included
}

// Readable returns the columns whose values HubSpot can be asked for, in table order.
func (t *Table) Readable() []Column {
	list := make([]Column, 0, len(t.Columns))
	for _, c := range t.Columns {
		if !c.Archived {
			list = append(list, c)
		}
	}
	return list
}

// Unfilled returns the readable columns that were added after rows had been stored and still lack old values.
func (t *Table) Unfilled() []Column {
	var list []Column
	for _, c := range t.Columns {
		if !c.Archived && !c.Filled {
			list = append(list, c)
		}
	}
	return list
}

// Column returns the column of a property.
func (t *Table) Column(property string) (Column, bool) {
	for _, c := range t.Columns {
		if c.Property == property {
			return c, true
		}
	}
	return Column{}, false
}

// The columns that hubpg adds to each object table.
const (
	ID        = "id"
	CreatedAt = "created_at"
	UpdatedAt = "updated_at"
	Unparsed  = "_unparsed" // jsonb: column → HubSpot's text, of the values that are not of the column's kind
	Overflow  = "_overflow" // jsonb: column → value, of the properties that have no column of their own
	// ArchivedAt is there only where deletes are soft: when hubpg learned that the record was deleted.
	ArchivedAt = "archived_at"
	ReadAt     = "_read_at" // the instant just before the read that brought the row
)
