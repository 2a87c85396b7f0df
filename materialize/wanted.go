package materialize

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"hubpg/hubapi"
	"hubpg/internal/mirror"
)

// customTypes is how the type ids of custom objects begin.
const customTypes = "2-"

// objectType is an object type that the account may have.
type objectType struct {
	def        mirror.ObjectDef // without properties
	pipelines  bool
	linked     []string           // type ids that a custom object's schema associates it with
	properties []hubapi.Property  // of custom objects, whose schema holds them
	standard   *hubapi.ObjectType // nil for custom objects
}

// objectTypes lists HubSpot's own types that are switched on, and the account's custom ones.
func (s *step) objectTypes(ctx context.Context) ([]objectType, error) {
	enabled, err := s.client.ListEnablement(ctx)
	if err != nil && !unreadable(err) {
		return nil, err // without it, every optional type is tried
	}
	var types []objectType
	for _, t := range hubapi.StandardTypes() {
		if on, listed := enabled[t.TypeID]; !t.Searchable || (listed && !on) {
			continue
		}
		types = append(types, objectType{
			def: mirror.ObjectDef{
				ObjectType: t.TypeID, Name: t.Name, Singular: t.Singular, Path: t.Name, ModifiedProperty: t.ModifiedProperty,
			},
			pipelines: t.Pipelines,
			standard:  &t,
		})
	}
	schemas, err := s.client.ListSchemas(ctx)
	if err != nil && !unreadable(err) {
		return nil, err
	}
	s.absence(ctx, "custom objects", "", err)
	s.hidden = err != nil
	if err == nil {
		if err := s.retire(ctx, schemas); err != nil {
			return nil, err
		}
	}
	for _, c := range schemas {
		if c.Archived {
			continue
		}
		t := objectType{
			def: mirror.ObjectDef{
				ObjectType: c.ObjectTypeID, Name: c.Name, Singular: c.Name, Path: c.ObjectTypeID,
				ModifiedProperty: "hs_lastmodifieddate", Custom: true, Label: c.Labels.Plural,
			},
			pipelines:  true,
			properties: c.Properties,
		}
		for _, a := range c.Associations {
			t.linked = append(t.linked, a.FromObjectTypeID, a.ToObjectTypeID)
		}
		types = append(types, t)
	}
	return s.wanted(ctx, types)
}

// wanted returns those of types that the account is to have. Tables of the others, from a time when they were wanted,
// stay to be looked at; their lanes end.
func (s *step) wanted(ctx context.Context, types []objectType) ([]objectType, error) {
	only := s.e.cfg.Objects
	if err := s.showUnknown(ctx, types); err != nil || len(only) == 0 {
		return types, err
	}
	names, err := s.tableNames(ctx)
	if err != nil {
		return nil, err
	}
	kept := slices.DeleteFunc(slices.Clone(types), func(t objectType) bool {
		return !slices.Contains(only, t.def.Name) && !slices.Contains(only, names[t.def.ObjectType])
	})
	_, err = s.e.cfg.Pool.Exec(ctx, `
with dropped as (
	update hubpg.objects
	set phase = 'gone', last_error = null, error_at = null, error_lane = null,
		hint = 'left out by the setting objects; drop the table when its rows are not needed'
	where portal_id = $1 and phase <> 'gone' and (
		kind = 'object' and object_type <> all ($2) and object_type = any ($3)
		or kind = 'lookup' and table_name = any ($4) and table_name <> all ($5))
	returning table_name)
delete from hubpg.river_job
where kind = $6 and state in ('available', 'scheduled') and (args ->> 'portal')::bigint = $1
and args ->> 'table' in (
	select table_name
	from dropped
	union all
	select table_name
	from hubpg.objects
	where portal_id = $1 and phase = 'gone')`,
		s.args.Portal, typeIDs(kept), typeIDs(types), ownLookups(), s.e.wantedLookups(), laneKind)
	if err != nil {
		return nil, fmt.Errorf("leave out tables: %w", err)
	}
	return kept, nil
}

func typeIDs(types []objectType) []string {
	ids := make([]string, len(types))
	for i, t := range types {
		ids[i] = t.def.ObjectType
	}
	return ids
}

// tableNames are the names of the object tables that are there, by type id: a custom object's is another than its own
// where that is taken.
func (s *step) tableNames(ctx context.Context) (map[string]string, error) {
	cat, err := s.e.catalog(ctx)
	if err != nil {
		return nil, err
	}
	names := make(map[string]string, len(cat.Tables))
	for _, t := range cat.Tables {
		names[t.ObjectType] = t.Name
	}
	return names, nil
}

// retire marks the tables of custom objects that the account does not have any more, which HubSpot has to say of each: a list may be
// short. Their rows stay to be looked at; their lanes end.
func (s *step) retire(ctx context.Context, schemas []hubapi.Schema) error {
	cat, err := s.e.catalog(ctx)
	if err != nil {
		return err
	}
	for _, t := range cat.Tables {
		if !strings.HasPrefix(t.ObjectType, customTypes) || slices.ContainsFunc(schemas, func(c hubapi.Schema) bool {
			return c.ObjectTypeID == t.ObjectType && !c.Archived
		}) {
			continue
		}
		if s.e.gone(ctx, t.Name) {
			continue
		}
		schema, err := s.client.GetSchema(ctx, t.ObjectType)
		_, unknown := errors.AsType[*hubapi.ValidationError](err)
		switch {
		case nowhere(err) || unknown:
		case unreadable(err), err == nil && !schema.Archived:
			continue
		case err != nil:
			return fmt.Errorf("look for the object type of %s: %w", t.Name, err)
		}
		_, err = s.e.cfg.Pool.Exec(ctx, `
update hubpg.objects
set phase = 'gone', last_error = null, error_at = null, error_lane = null,
	hint = 'the object type was removed in HubSpot; drop the table when its rows are not needed'
where portal_id = $1 and table_name = $2 and phase <> 'gone'`, s.args.Portal, t.Name)
		if err != nil {
			return fmt.Errorf("retire %s: %w", t.Name, err)
		}
	}
	return s.inherit(ctx, cat, schemas)
}
