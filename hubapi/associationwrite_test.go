package hubapi_test

import (
	"slices"
	"testing"

	"hubpg/hubapi"
	"hubpg/internal/sandbox"
)

func TestAssociationsAreWrittenPairByPair(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"v4", "2026-03", "2026-09"} {
		s, c := account(t, sandbox.Config{Contacts: 30}, hubapi.WithVersions(hubapi.Versions{Associations: version}))
		contacts, companies := live(s.Snapshot("contacts")), live(s.Snapshot("companies"))
		ctx := t.Context()
		between := func(contact, company int) []int {
			var types []int
			for _, e := range s.Edges("contacts", "companies") {
				if e.From == contacts[contact].ID && e.To == companies[company].ID {
					types = append(types, e.TypeID)
				}
			}
			slices.Sort(types)
			return types
		}
		primary := []hubapi.AssociationTypeRef{{Category: "HUBSPOT_DEFINED", TypeID: 1}}
		b, err := c.BatchCreateAssociations(ctx, "contacts", "companies", []hubapi.AssociationWrite{
			{From: contacts[0].ID, To: companies[0].ID, Types: primary},
			{From: contacts[1].ID, To: 99, Types: primary},
			{From: contacts[2].ID, To: companies[1].ID, Types: []hubapi.AssociationTypeRef{{Category: "HUBSPOT_DEFINED", TypeID: 4711}}},
			{From: contacts[3].ID, To: companies[1].ID, Types: primary},
		})
		if err != nil {
			t.Fatalf("%s: %v", version, err)
		}
		if b.Errs[0] != nil || b.Errs[3] != nil || b.Failed() != 2 {
			t.Errorf("%s: %v", version, b.Errs)
		}
		rowIs[*hubapi.NotFoundError](t, version+" no such company", b.Errs[1])
		rowIs[*hubapi.ValidationError](t, version+" no such type", b.Errs[2])
		if got := between(0, 0); !slices.Equal(got, []int{1, 279}) {
			t.Errorf("%s: types %v", version, got)
		}
		b, err = c.BatchArchiveAssociationLabels(ctx, "contacts", "companies", []hubapi.AssociationWrite{
			{From: contacts[0].ID, To: companies[0].ID, Types: primary},
		})
		if err != nil || b.Failed() != 0 || !slices.Equal(between(0, 0), []int{279}) {
			t.Errorf("%s: %v, %v, types %v", version, b, err, between(0, 0))
		}
		b, err = c.BatchArchiveAssociations(ctx, "contacts", "companies", []hubapi.AssociationArchive{
			{From: contacts[0].ID, To: []int64{companies[0].ID}}, {From: contacts[3].ID, To: []int64{companies[1].ID}},
		})
		if err != nil || b.Failed() != 0 || len(between(0, 0)) != 0 || len(between(3, 1)) != 0 {
			t.Errorf("%s: %v, %v", version, b, err)
		}
		b, err = c.BatchAssociateDefault(ctx, "contacts", "companies", []hubapi.AssociationWrite{
			{From: contacts[0].ID, To: companies[0].ID, Types: primary},
		})
		if err != nil || b.Failed() != 0 || !slices.Equal(between(0, 0), []int{279}) {
			t.Errorf("%s: %v, %v, types %v", version, b, err, between(0, 0))
		}
	}
}

func TestLostAnswersOfAssociationWritesAreAmbiguous(t *testing.T) {
	t.Parallel()
	s, c := account(t, sandbox.Config{Contacts: 5})
	s.InjectFault(sandbox.Fault{Kind: sandbox.FaultDropAfter, Path: "associations"})
	in := []hubapi.AssociationWrite{{From: s.Snapshot("contacts")[0].ID, To: s.Snapshot("companies")[0].ID}}
	before := s.Stats().Calls
	_, err := c.BatchAssociateDefault(t.Context(), "contacts", "companies", in)
	rowIs[*hubapi.AmbiguousError](t, "associate", err)
	if calls := s.Stats().Calls - before; calls != 1 {
		t.Errorf("%d calls", calls)
	}
}
