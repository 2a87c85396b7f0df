package mirror

import (
	"encoding/json"
	"time"
)

// Lookup is a small table that is always read whole, or whole within one scope, and replaced.
type Lookup struct {
	Name    string
	Comment string
	Key     []string // primary key columns
	Scope   string   // column whose value one read covers; "" when a read covers the table
	Range   string   // key column by whose ranges a scope may be read in parts; "" for none
	ID      string   // key column that is a number and names the record in the change log; "" for none
	Own     bool     // has a lane of its own and is there only if the account is to have it
	columns []lookupColumn
}

type lookupColumn struct{ name, sql, comment string }

// LookupRow is a row of a lookup table: one of [Owner], [Team], [Pipeline], [PipelineStage], [Property], [PropertyOption],
// [List], [ListMembership], [Form], [MarketingEmail] and [Campaign]. Its JSON form has the table's columns as keys.
type LookupRow interface{ lookup() string }

// Owner is a row of owners.
type Owner struct {
	ID            int64      `json:"id"`
	Email         string     `json:"email,omitempty"`
	FirstName     string     `json:"first_name,omitempty"`
	LastName      string     `json:"last_name,omitempty"`
	Type          string     `json:"type,omitempty"`
	UserID        int64      `json:"user_id,omitempty"`
	PrimaryTeamID int64      `json:"primary_team_id,omitempty"`
	TeamIDs       []int64    `json:"team_ids,omitempty"`
	Archived      bool       `json:"archived"`
	CreatedAt     *time.Time `json:"created_at,omitempty"`
	UpdatedAt     *time.Time `json:"updated_at,omitempty"`
}

// Team is a row of teams.
type Team struct {
	ID   int64  `json:"id"`
	Name string `json:"name,omitempty"`
}

// Pipeline is a row of pipelines. ObjectTable is the table that its records are in.
type Pipeline struct {
	ObjectTable  string     `json:"object_table"`
	ID           string     `json:"id"`
	Label        string     `json:"label,omitempty"`
	DisplayOrder int        `json:"display_order"`
	Archived     bool       `json:"archived"`
	CreatedAt    *time.Time `json:"created_at,omitempty"`
	UpdatedAt    *time.Time `json:"updated_at,omitempty"`
}

// PipelineStage is a row of pipeline_stages. IsClosed and Probability are taken from the metadata by the caller, where
// the kind of pipeline has them.
type PipelineStage struct {
	ObjectTable  string          `json:"object_table"`
	PipelineID   string          `json:"pipeline_id"`
	ID           string          `json:"id"`
	Label        string          `json:"label,omitempty"`
	DisplayOrder int             `json:"display_order"`
	IsClosed     *bool           `json:"is_closed,omitempty"`
	Probability  *json.Number    `json:"probability,omitempty"`
	Metadata     json.RawMessage `json:"metadata,omitempty"`
	Archived     bool            `json:"archived"`
	CreatedAt    *time.Time      `json:"created_at,omitempty"`
	UpdatedAt    *time.Time      `json:"updated_at,omitempty"`
}

// Property is a row of properties. ColumnName is empty for a property that has no column.
type Property struct {
	ObjectTable string     `json:"object_table"`
	Name        string     `json:"name"`
	ColumnName  string     `json:"column_name,omitempty"`
	Label       string     `json:"label,omitempty"`
	Description string     `json:"description,omitempty"`
	Type        string     `json:"type"`
	FieldType   string     `json:"field_type,omitempty"`
	GroupName   string     `json:"group_name,omitempty"`
	Calculated  bool       `json:"calculated"`
	ReadOnly    bool       `json:"read_only"`
	UniqueValue bool       `json:"unique_value"`
	Hidden      bool       `json:"hidden"`
	HubSpot     bool       `json:"hubspot_defined"`
	Archived    bool       `json:"archived"`
	CreatedAt   *time.Time `json:"created_at,omitempty"`
	UpdatedAt   *time.Time `json:"updated_at,omitempty"`
}

// PropertyOption is a row of property_options.
type PropertyOption struct {
	ObjectTable  string `json:"object_table"`
	Property     string `json:"property"`
	Value        string `json:"value"`
	Label        string `json:"label,omitempty"`
	Description  string `json:"description,omitempty"`
	DisplayOrder int    `json:"display_order"`
	Hidden       bool   `json:"hidden"`
}

func (Owner) lookup() string          { return "owners" }
func (Team) lookup() string           { return "teams" }
func (Pipeline) lookup() string       { return "pipelines" }
func (PipelineStage) lookup() string  { return "pipeline_stages" }
func (Property) lookup() string       { return "properties" }
func (PropertyOption) lookup() string { return "property_options" }

// Lookups returns all lookup tables but [Merges]; those with a lane of their own, which not every account has, come last.
func Lookups() []Lookup { return append(schemaLookups(), ownLookups()...) }

// schemaLookups are the lookup tables that every account has.
func schemaLookups() []Lookup {
	return []Lookup{
		{
			Name: "owners", Comment: "users that records can be assigned to, archived ones included", Key: []string{"id"}, ID: "id",
			columns: []lookupColumn{
				{"id", "bigint not null", "what owner properties of records hold"},
				{"email", "text", ""},
				{"first_name", "text", ""},
				{"last_name", "text", ""},
				{"type", "text", "PERSON or QUEUE"},
				{"user_id", "bigint", "the user behind the owner; not the owner's id"},
				{"primary_team_id", "bigint", ""},
				{"team_ids", "bigint[]", ""},
				{"archived", "boolean not null", ""},
				{"created_at", "timestamptz", ""},
				{"updated_at", "timestamptz", ""},
			},
		},
		{
			Name: "teams", Comment: "teams that owners belong to", Key: []string{"id"}, ID: "id",
			columns: []lookupColumn{{"id", "bigint not null", ""}, {"name", "text", ""}},
		},
		{
			Name: "pipelines", Comment: "pipelines of each object type", Key: []string{"object_table", "id"}, Scope: "object_table",
			columns: []lookupColumn{
				{"object_table", "text not null", "the table whose records move through the pipeline"},
				{"id", "text not null", "what the records' pipeline property holds"},
				{"label", "text", ""},
				{"display_order", "integer", ""},
				{"archived", "boolean not null", ""},
				{"created_at", "timestamptz", ""},
				{"updated_at", "timestamptz", ""},
			},
		},
		{
			Name: "pipeline_stages", Comment: "stages of each pipeline", Key: []string{"object_table", "pipeline_id", "id"}, Scope: "object_table",
			columns: []lookupColumn{
				{"object_table", "text not null", "the table whose records move through the pipeline"},
				{"pipeline_id", "text not null", ""},
				{"id", "text not null", "what the records' stage property holds"},
				{"label", "text", ""},
				{"display_order", "integer", ""},
				{"is_closed", "boolean", ""},
				{"probability", "numeric", "of winning a deal, 0 to 1"},
				{"metadata", "jsonb", "as HubSpot sends it"},
				{"archived", "boolean not null", ""},
				{"created_at", "timestamptz", ""},
				{"updated_at", "timestamptz", ""},
			},
		},
		{
			Name: "properties", Comment: "definitions of all properties", Key: []string{"object_table", "name"}, Scope: "object_table",
			columns: []lookupColumn{
				{"object_table", "text not null", ""},
				{"name", "text not null", "HubSpot's internal name"},
				{"column_name", "text", "the column that holds the value"},
				{"label", "text", ""},
				{"description", "text", ""},
				{"type", "text not null", ""},
				{"field_type", "text", ""},
				{"group_name", "text", ""},
				{"calculated", "boolean not null", "HubSpot computes the value"},
				{"read_only", "boolean not null", "HubSpot refuses a write"},
				{"unique_value", "boolean not null", ""},
				{"hidden", "boolean not null", ""},
				{"hubspot_defined", "boolean not null", ""},
				{"archived", "boolean not null", ""},
				{"created_at", "timestamptz", ""},
				{"updated_at", "timestamptz", ""},
			},
		},
		{
			Name: "property_options", Comment: "options of enumeration properties", Key: []string{"object_table", "property", "value"}, Scope: "object_table",
			columns: []lookupColumn{
				{"object_table", "text not null", ""},
				{"property", "text not null", ""},
				{"value", "text not null", "what records hold"},
				{"label", "text", "what HubSpot shows"},
				{"description", "text", ""},
				{"display_order", "integer", "-1: unordered"},
				{"hidden", "boolean not null", ""},
			},
		},
	}
}

// lookupByName returns the definition of a lookup table.
func lookupByName(name string) (Lookup, bool) {
	for _, l := range Lookups() {
		if l.Name == name {
			return l, true
		}
	}
	return Lookup{}, false
}
