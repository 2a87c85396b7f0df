package hubapi_test

import (
	"slices"
	"strings"
	"testing"

	"hubpg/hubapi"
	"hubpg/internal/sandbox"
)

func TestPropertiesAreDefinedChangedAndArchived(t *testing.T) {
	t.Parallel()
	_, c := account(t, sandbox.Config{Empty: true})
	ctx := t.Context()
	def := hubapi.NewProperty{
		Name: "tier", Label: "Tier", Type: "enumeration", FieldType: "select", GroupName: "contactinformation",
		Options: []hubapi.PropertyOption{{Label: "Gold", Value: "gold"}, {Label: "Silver", Value: "silver", DisplayOrder: 1}},
	}
	made, err := c.CreateProperty(ctx, "contacts", def)
	if err != nil || made.Name != "tier" || len(made.Options) != 2 || !made.Writable() || made.CreatedAt.IsZero() {
		t.Fatalf("made %+v, %v", made, err)
	}
	_, err = c.CreateProperty(ctx, "contacts", def)
	taken := rowIs[*hubapi.ConflictError](t, "a name that is taken", err)
	if taken != nil && taken.SubCategory != "Properties.PROPERTY_WITH_NAME_EXISTS" {
		t.Errorf("taken: %+v", taken.APIError)
	}
	label := "Level"
	changed, err := c.UpdateProperty(ctx, "contacts", "tier", hubapi.PropertyChange{
		Label: &label, Options: []hubapi.PropertyOption{{Label: "Bronze", Value: "bronze"}},
	})
	if err != nil || changed.Label != label || len(changed.Options) != 1 || changed.Type != "enumeration" {
		t.Fatalf("changed %+v, %v", changed, err)
	}
	if got, err := c.GetProperty(ctx, "contacts", "tier"); err != nil || got.Label != label || got.Options[0].Value != "bronze" {
		t.Errorf("read %+v, %v", got, err)
	}
	if err := c.ArchiveProperty(ctx, "contacts", "tier"); err != nil {
		t.Fatal(err)
	}
	_, err = c.GetProperty(ctx, "contacts", "tier")
	rowIs[*hubapi.NotFoundError](t, "an archived definition", err)
	rowIs[*hubapi.NotFoundError](t, "archived twice", c.ArchiveProperty(ctx, "contacts", "tier"))
	archived, err := c.ListProperties(ctx, "contacts", true)
	if err != nil || !slices.ContainsFunc(archived, func(p hubapi.Property) bool { return p.Name == "tier" && !p.ArchivedAt.IsZero() }) {
		t.Errorf("archived definitions: %v", err)
	}
	def.Label = "Another"
	if again, err := c.CreateProperty(ctx, "contacts", def); err != nil || again.Label != label || !again.CreatedAt.Equal(made.CreatedAt) {
		t.Errorf("an archived name came back as %+v, %v", again, err)
	}
	for what, bad := range map[string]hubapi.NewProperty{
		"upper case":    {Name: "VIN", Label: "x", Type: "string", FieldType: "text", GroupName: "contactinformation"},
		"field type":    {Name: "vin", Label: "x", Type: "string", FieldType: "select", GroupName: "contactinformation"},
		"no options":    {Name: "vin", Label: "x", Type: "enumeration", FieldType: "select", GroupName: "contactinformation"},
		"no such group": {Name: "vin", Label: "x", Type: "string", FieldType: "text", GroupName: "nowhere"},
	} {
		_, err := c.CreateProperty(ctx, "contacts", bad)
		rowIs[*hubapi.ValidationError](t, what, err)
	}
	_, err = c.UpdateProperty(ctx, "contacts", "email", hubapi.PropertyChange{Label: &label})
	rowIs[*hubapi.ValidationError](t, "HubSpot's own definition", err)
}

func TestPropertyGroupsComeAndGo(t *testing.T) {
	t.Parallel()
	_, c := account(t, sandbox.Config{Empty: true})
	ctx := t.Context()
	made, err := c.CreatePropertyGroup(ctx, "contacts", hubapi.PropertyGroup{Name: "fleet", Label: "Fleet", DisplayOrder: 3})
	if err != nil || made.Label != "Fleet" || made.DisplayOrder != 3 {
		t.Fatalf("made %+v, %v", made, err)
	}
	_, err = c.CreatePropertyGroup(ctx, "contacts", made)
	rowIs[*hubapi.ConflictError](t, "a name that is taken", err)
	if _, err := c.UpdatePropertyGroup(ctx, "contacts", hubapi.PropertyGroup{Name: "fleet", Label: "Machines", DisplayOrder: -1}); err != nil {
		t.Fatal(err)
	}
	all, err := c.ListPropertyGroups(ctx, "contacts")
	if err != nil || !slices.Contains(all, hubapi.PropertyGroup{Name: "fleet", Label: "Machines", DisplayOrder: -1}) || len(all) < 2 {
		t.Errorf("groups %+v, %v", all, err)
	}
	if _, err := c.CreateProperty(ctx, "contacts", hubapi.NewProperty{
		Name: "vin", Label: "VIN", Type: "string", FieldType: "text", GroupName: "fleet",
	}); err != nil {
		t.Fatal(err)
	}
	used := rowIs[*hubapi.ValidationError](t, "a group in use", c.ArchivePropertyGroup(ctx, "contacts", "fleet"))
	if used != nil && used.SubCategory != "PropertyGroupError.GROUP_WITH_ACTIVE_PROPERTIES" {
		t.Errorf("in use: %+v", used.APIError)
	}
	if err := c.ArchiveProperty(ctx, "contacts", "vin"); err != nil {
		t.Fatal(err)
	}
	if err := c.ArchivePropertyGroup(ctx, "contacts", "fleet"); err != nil {
		t.Fatal(err)
	}
	rowIs[*hubapi.NotFoundError](t, "archived twice", c.ArchivePropertyGroup(ctx, "contacts", "fleet"))
}

func TestDefinitionsNeedTheirScope(t *testing.T) {
	t.Parallel()
	_, c := account(t, sandbox.Config{Empty: true, WithheldScopes: []string{"crm.schemas.contacts.write", "crm.lists.write"}})
	err := c.ArchiveProperty(t.Context(), "contacts", "phone")
	if werr := wantScope("crm.schemas.contacts.write")(nil, err); werr != nil {
		t.Error(werr)
	}
	_, err = c.ChangeMembers(t.Context(), 1, []int64{1}, nil)
	if werr := wantScope("crm.lists.write")(nil, err); werr != nil {
		t.Error(werr)
	}
}

func TestMembersAreAddedAndTaken(t *testing.T) {
	t.Parallel()
	s, c := account(t, sandbox.Config{Contacts: 20})
	ctx := t.Context()
	people := live(s.Snapshot("contacts"))
	a, b := people[0].ID, people[1].ID
	manual, err := s.AddList("contacts", "By hand", "MANUAL", "", "")
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		add, remove []int64
		want        hubapi.MembershipChange
		members     []int64
	}{
		{[]int64{a, 999}, nil, hubapi.MembershipChange{Added: []int64{a}, Missing: []int64{999}}, []int64{a}},
		{[]int64{a}, nil, hubapi.MembershipChange{}, []int64{a}}, // again, without harm
		{[]int64{b}, []int64{a}, hubapi.MembershipChange{Added: []int64{b}, Removed: []int64{a}}, []int64{b}},
		{nil, []int64{b, a}, hubapi.MembershipChange{Removed: []int64{b}}, nil},
	} {
		got, err := c.ChangeMembers(ctx, manual, step.add, step.remove)
		if err != nil || !slices.Equal(got.Added, step.want.Added) || !slices.Equal(got.Removed, step.want.Removed) ||
			!slices.Equal(got.Missing, step.want.Missing) {
			t.Errorf("add %v, remove %v: %+v, %v", step.add, step.remove, got, err)
		}
		page, err := c.ListMembers(ctx, manual, "")
		if err != nil {
			t.Fatal(err)
		}
		var members []int64
		for _, m := range page.Members {
			members = append(members, m.RecordID)
		}
		if !slices.Equal(members, step.members) {
			t.Errorf("members %v, want %v", members, step.members)
		}
	}
	dynamic, err := s.AddList("contacts", "Customers", "DYNAMIC", "lifecyclestage", "customer")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.ChangeMembers(ctx, dynamic, []int64{a}, nil)
	rowIs[*hubapi.ValidationError](t, "a dynamic list", err)
	_, err = c.ChangeMembers(ctx, 987_654, []int64{a}, nil)
	rowIs[*hubapi.NotFoundError](t, "no such list", err)
	calls := s.Stats().Calls
	for _, ids := range [][]int64{nil, make([]int64, hubapi.MaxMembershipWrites+1)} {
		if _, err := c.ChangeMembers(ctx, manual, ids, nil); err == nil || !strings.Contains(err.Error(), "want 1 to") {
			t.Errorf("%d records: %v", len(ids), err)
		}
	}
	if s.Stats().Calls != calls {
		t.Error("a call went out that HubSpot would refuse")
	}
}

func TestLostDefinitionWritesAreAmbiguous(t *testing.T) {
	t.Parallel()
	s, c := account(t, sandbox.Config{Empty: true})
	s.InjectFault(sandbox.Fault{Kind: sandbox.FaultDropAfter, Path: `/properties/`, Count: 1})
	_, err := c.CreateProperty(t.Context(), "contacts", hubapi.NewProperty{
		Name: "vin", Label: "VIN", Type: "string", FieldType: "text", GroupName: "contactinformation",
	})
	rowIs[*hubapi.AmbiguousError](t, "an answer that was lost", err)
	if p, err := c.GetProperty(t.Context(), "contacts", "vin"); err != nil || p.Name != "vin" {
		t.Errorf("it was made, and reading tells so: %+v, %v", p, err)
	}
}
