package materialize

import (
	"encoding/json"

	"hubpg/hubapi"
	"hubpg/internal/catalog"
	"hubpg/internal/mirror"
)

// ownerRows turns owners, active and archived, into rows of owners and teams.
func ownerRows(owners []hubapi.Owner) (rows, teams []mirror.LookupRow) {
	named := map[int64]bool{}
	for i := range owners {
		o := &owners[i]
		r := mirror.Owner{
			ID: o.ID, Email: o.Email, FirstName: o.FirstName, LastName: o.LastName, Type: o.Type,
			UserID: o.UserID, Archived: o.Archived, CreatedAt: instant(o.CreatedAt), UpdatedAt: instant(o.UpdatedAt),
		}
		if r.UserID == 0 {
			r.UserID = o.UserIDIncludingInactive
		}
		for _, team := range o.Teams {
			r.TeamIDs = append(r.TeamIDs, team.ID)
			if team.Primary {
				r.PrimaryTeamID = team.ID
			}
			if !named[team.ID] {
				named[team.ID] = true
				teams = append(teams, mirror.Team{ID: team.ID, Name: team.Name})
			}
		}
		rows = append(rows, r)
	}
	return rows, teams
}

// pipelineRows turns the pipelines of one table into rows of pipelines and pipeline_stages.
func pipelineRows(table string, pipelines []hubapi.Pipeline) (rows, stages []mirror.LookupRow, err error) {
	for i := range pipelines {
		p := &pipelines[i]
		rows = append(rows, mirror.Pipeline{
			ObjectTable: table, ID: p.ID, Label: p.Label, DisplayOrder: p.DisplayOrder, Archived: p.Archived,
			CreatedAt: instant(p.CreatedAt), UpdatedAt: instant(p.UpdatedAt),
		})
		for j := range p.Stages {
			st := &p.Stages[j]
			r := mirror.PipelineStage{
				ObjectTable: table, PipelineID: p.ID, ID: st.ID, Label: st.Label, DisplayOrder: st.DisplayOrder,
				Archived: st.Archived, CreatedAt: instant(st.CreatedAt), UpdatedAt: instant(st.UpdatedAt),
			}
			if r.Metadata, err = json.Marshal(st.Metadata); err != nil {
				return nil, nil, err
			}
			if closed, ok := st.Metadata["isClosed"]; ok {
				is := closed == "true"
				r.IsClosed = &is
			}
			if text := st.Metadata["probability"]; isNumber(text) {
				n := json.Number(text)
				r.Probability = &n
			}
			stages = append(stages, r)
		}
	}
	return rows, stages, nil
}

func isNumber(text string) bool {
	var n json.Number
	return json.Unmarshal([]byte(text), &n) == nil && n != ""
}

// propertyRows turns the definitions of one table's properties into rows of properties and property_options.
func propertyRows(t *catalog.Table, properties []hubapi.Property) (rows, options []mirror.LookupRow) {
	type key struct{ property, value string }
	listed := map[key]bool{}
	for i := range properties {
		p := &properties[i]
		r := mirror.Property{
			ObjectTable: t.Name, Name: p.Name, Label: p.Label, Description: p.Description, Type: p.Type,
			FieldType: p.FieldType, GroupName: p.GroupName, Calculated: p.Calculated, ReadOnly: !p.Writable(),
			UniqueValue: p.HasUniqueValue, Hidden: p.Hidden, HubSpot: p.HubSpotDefined, Archived: p.Archived,
			CreatedAt: instant(p.CreatedAt), UpdatedAt: instant(p.UpdatedAt),
		}
		if c, ok := t.Column(p.Name); ok {
			r.ColumnName = c.Name
		}
		rows = append(rows, r)
		for _, o := range p.Options {
			if k := (key{p.Name, o.Value}); !listed[k] {
				listed[k] = true
				options = append(options, mirror.PropertyOption{
					ObjectTable: t.Name, Property: p.Name, Value: o.Value, Label: o.Label, Description: o.Description,
					DisplayOrder: o.DisplayOrder, Hidden: o.Hidden,
				})
			}
		}
	}
	return rows, options
}
