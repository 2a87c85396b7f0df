package materialize

import "hubpg/hubapi"

// DefaultPace returns the pace of an Engine that was given none.
func DefaultPace() Pace { return Pace{}.withDefaults() }

// DefaultFetchers is how many ranges of ids of one table a backfill reads at once.
const DefaultFetchers = 8

// Outlook names what an Engine mirrors, so that its cost can be told before it runs.
type Outlook struct {
	Types []hubapi.ObjectType // HubSpot's own object types that may be read
	Links [][2]string         // pairs of HubSpot's own object types whose associations are kept, by type id
}

// NewOutlook returns what an Engine without a choice of objects mirrors, given which optional types are switched on. Custom
// objects and their associations come in addition.
func NewOutlook(enabled map[string]bool) Outlook {
	o := Outlook{Links: standardLinks()}
	for _, t := range hubapi.StandardTypes() {
		if on, listed := enabled[t.TypeID]; t.Searchable && (on || !listed) {
			o.Types = append(o.Types, t)
		}
	}
	return o
}
