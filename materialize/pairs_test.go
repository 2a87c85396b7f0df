package materialize

import (
	"testing"

	"hubpg/internal/catalog"
	"hubpg/internal/mirror"
)

// TestChangedRecordsAreReadInATableThatAnotherProcessHasJustMade: the copy of the catalog that a process keeps is half a
// minute old at most, which is too old for a record that is about to be taken off the list.
func TestChangedRecordsAreReadInATableThatAnotherProcessHasJustMade(t *testing.T) {
	t.Parallel()
	e := fenced(t)
	config := mirror.MapperConfig{PortalID: 1, Schema: "hubspot"}
	e.mapper = mirror.NewMapper(config)
	s := newStep(e, laneArgs{1, "", LanePending})
	known := func() (names []string) {
		t.Helper()
		_, listed, err := s.rowCounts(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		pairs, err := s.pairsNamed(t.Context(), listed)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range pairs {
			names = append(names, p.Name)
		}
		return names
	}
	if names := known(); len(names) != 0 {
		t.Fatalf("there are %v already", names)
	}
	if _, err := e.cfg.Pool.Exec(t.Context(), "create schema hubspot"); err != nil {
		t.Fatal(err)
	}
	things := &catalog.Table{Schema: "hubspot", Name: "things", Singular: "thing", ObjectType: "2-1", Path: "things"}
	if _, _, err := mirror.NewMapper(config).EnsurePair(t.Context(), e.cfg.Pool, things, things); err != nil {
		t.Fatal(err)
	}
	if names := known(); len(names) != 1 {
		t.Errorf("the process knows %v", names)
	}
}
