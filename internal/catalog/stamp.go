package catalog

// HubSpot's own stamps of a record's last modification. Contacts have both.
const (
	modifiedStamp        = "hs_lastmodifieddate"
	contactModifiedStamp = "lastmodifieddate"
)

// Stamp reports whether a property holds nothing but when the record was last modified. Jobs of HubSpot's own touch
// whole accounts at once and change nothing else: such columns are stored, and are no news.
func (t *Table) Stamp(property string) bool {
	return property == modifiedStamp || property == contactModifiedStamp || property != "" && property == t.ModifiedProperty
}

// Stamps returns the names of the columns that are stamps.
func (t *Table) Stamps() []string {
	names := []string{}
	for i := range t.Columns {
		if c := &t.Columns[i]; t.Stamp(c.Property) {
			names = append(names, c.Name)
		}
	}
	return names
}
