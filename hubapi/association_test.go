package hubapi_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"hubpg/hubapi"
)

func TestAssociationsAccountForEveryInput(t *testing.T) {
	t.Parallel()
	const primary = `{"category":"HUBSPOT_DEFINED","typeId":1,"label":"Primary"},{"category":"HUBSPOT_DEFINED","typeId":279,"label":null}`
	types := []hubapi.AssociationType{
		{Category: "HUBSPOT_DEFINED", TypeID: 1, Label: "Primary"}, {Category: "HUBSPOT_DEFINED", TypeID: 279},
	}
	none := func(id string) string {
		return `{"status":"error","category":"OBJECT_NOT_FOUND","subCategory":"crm.associations.NO_ASSOCIATIONS_FOUND","message":"m","context":{"fromObjectId":["` + id + `"],"fromObjectType":["deal"]}}`
	}
	for name, c := range map[string]struct {
		answer string
		want   hubapi.AssociationResult
	}{
		"found, more to come, none": {
			`{"status":"COMPLETE","results":[{"from":{"id":"1"},"to":[{"toObjectId":9001,"associationTypes":[` + primary + `]},{"toObjectId":"9002","associationTypes":[]}]},` +
				`{"from":{"id":"2"},"to":[{"toObjectId":7,"associationTypes":[]}],"paging":{"next":{"after":"NTAw","link":"x"}}}],"numErrors":1,"errors":[` + none("3") + `]}`,
			hubapi.AssociationResult{Results: []hubapi.AssociationsOf{
				{FromID: 1, To: []hubapi.AssociatedTo{{ToID: 9001, Types: types}, {ToID: 9002}}},
				{FromID: 2, To: []hubapi.AssociatedTo{{ToID: 7}}, After: "NTAw"},
				{FromID: 3},
			}},
		},
		"left out without an error": {
			`{"status":"COMPLETE","results":[{"from":{"id":"1"},"to":[]}]}`,
			hubapi.AssociationResult{Results: []hubapi.AssociationsOf{{FromID: 1}}, Unmentioned: []int64{3}, Unanswered: []int64{2}},
		},
		"empty though all is well": {
			`{"status":"COMPLETE","results":[]}`,
			hubapi.AssociationResult{Unmentioned: []int64{1, 3}, Unanswered: []int64{2}},
		},
		"gone": {
			`{"results":[],"numErrors":3,"errors":[` + none("1") + `,` + none("3") + `,{"category":"VALIDATION_ERROR","subCategory":"crm.associations.FROM_OBJECT_NOT_FOUND","message":"No contact with ID 2 exists","context":{"fromObjectId":[2]}}]}`,
			hubapi.AssociationResult{Results: []hubapi.AssociationsOf{{FromID: 1}, {FromID: 3}}, Missing: []int64{2}},
		},
		"gone, said otherwise": {
			`{"results":[],"numErrors":3,"errors":[` + none("1") + `,` + none("3") + `,{"category":"OBJECT_NOT_FOUND","subCategory":"crm.associations.FROM_OBJECT_NOT_FOUND","message":"No contact with ID 2 exists","context":{"objectId":["2"],"objectType":["contact"]}}]}`,
			hubapi.AssociationResult{Results: []hubapi.AssociationsOf{{FromID: 1}, {FromID: 3}}, Missing: []int64{2}},
		},
		"an error that explains nothing": {
			`{"results":[{"from":{"id":"1"},"to":[]}],"numErrors":1,"errors":[{"category":"INTERNAL"}]}`,
			hubapi.AssociationResult{Results: []hubapi.AssociationsOf{{FromID: 1}}, Unanswered: []int64{2, 3}},
		},
		"errors that are only counted": {
			`{"results":[{"from":{"id":"1"},"to":[]}],"numErrors":2}`,
			hubapi.AssociationResult{Results: []hubapi.AssociationsOf{{FromID: 1}}, Unanswered: []int64{2, 3}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &recorder{status: http.StatusMultiStatus, answer: c.answer}
			res, err := serve(t, r.ServeHTTP).BatchReadAssociations(t.Context(), "contacts", "companies",
				[]hubapi.AssociationInput{{ID: 1}, {ID: 2, After: "abc"}, {ID: 3}})
			if err != nil {
				t.Fatal(err)
			}
			if r.bodies[0] != `{"inputs":[{"id":"1"},{"id":"2","after":"abc"},{"id":"3"}]}` {
				t.Errorf("asked %s", r.bodies[0])
			}
			if diff := cmp.Diff(&c.want, res, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(hubapi.AssociationResult{}, "ReadAt")); diff != "" {
				t.Errorf("result (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDefinitionsAreReadLeniently(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	properties := &recorder{answer: `{"results":[{"updatedAt":"2025-10-28T17:42:40.714Z","createdAt":"1970-01-01T00:00:00Z","name":"email","label":"Email","type":"string","fieldType":"text","options":[{"label":"A","value":"a","displayOrder":-1,"hidden":false}],"displayOrder":3,"calculated":false,"hubspotDefined":true,"modificationMetadata":{"readOnlyValue":false},"new_member":{"x":[1]}},
		{"name":"score","type":"number","calculated":true,"createdAt":null,"modificationMetadata":{"readOnlyValue":true}}]}`}
	ps, err := serve(t, properties.ServeHTTP).ListProperties(ctx, "contacts", false)
	if err != nil || len(ps) != 2 || !ps[0].Writable() || ps[1].Writable() || ps[0].Options[0].DisplayOrder != -1 || !ps[1].CreatedAt.IsZero() {
		t.Errorf("properties %+v, %v", ps, err)
	}
	owners := &recorder{answer: `{"results":[{"id":"12236123","email":"a@b.c","type":"PERSON","userId":null,"userIdIncludingInactive":12236123,"archived":true,"teams":[{"id":"5","name":"T","primary":true}]}]}`}
	os, err := serve(t, owners.ServeHTTP).ListOwners(ctx, true)
	if err != nil || len(os) != 1 || os[0].ID != 12236123 || os[0].UserID != 0 || os[0].Teams[0].ID != 5 {
		t.Errorf("owners %+v, %v", os, err)
	}
	pipelines := &recorder{answer: `{"results":[{"id":"default","label":"Sales","displayOrder":0,"createdAt":"1970-01-01T00:00:00Z","stages":[{"id":"s1","metadata":{"isClosed":"false","probability":0.2},"displayOrder":"1"}]}]}`}
	pl, err := serve(t, pipelines.ServeHTTP).ListPipelines(ctx, "deals")
	if err != nil || len(pl) != 1 || pl[0].Stages[0].Metadata["probability"] != "0.2" || pl[0].Stages[0].DisplayOrder != 1 {
		t.Errorf("pipelines %+v, %v", pl, err)
	}
	account := &recorder{answer: `{"portalId":12345678,"accountType":"STANDARD","timeZone":"US/Eastern","utcOffsetMilliseconds":-14400000,"additionalCurrencies":[]}`}
	a, err := serve(t, account.ServeHTTP).GetAccount(ctx)
	if err != nil || a.PortalID != 12345678 {
		t.Errorf("account %+v, %v", a, err)
	}
	if _, offset := time.Date(2026, 7, 1, 0, 0, 0, 0, a.Location()).Zone(); offset != -4*3600 {
		t.Errorf("offset %d", offset)
	}
	limits := &recorder{answer: `{"hubspotDefinedObjectTypes":[{"objectTypeId":"0-1","usage":"12","limit":15000000,"percentage":0.1}],"customObjectTypes":{"overallUsage":3,"byObjectType":[{"objectTypeId":"2-5","usage":3}]}}`}
	l, err := serve(t, limits.ServeHTTP).GetRecordLimits(ctx)
	if err != nil || l["0-1"].Usage != 12 || l["2-5"].Usage != 3 {
		t.Errorf("limits %+v, %v", l, err)
	}
	usage := &recorder{answer: `{"results":[{"name":"private-apps-api-calls-daily","usageLimit":250000,"currentUsage":1234,"fetchStatus":"SUCCESS","resetsAt":"2026-11-24T05:00:00Z"}]}`}
	u, err := serve(t, usage.ServeHTTP).GetDailyUsage(ctx)
	if err != nil || u.Limit != 250000 || u.Used != 1234 || u.ResetsAt.Hour() != 5 {
		t.Errorf("usage %+v, %v", u, err)
	}
}

func TestListingsFollowTheirCursor(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("limit") != "500" {
			t.Errorf("asked %s", r.URL)
		}
		page := &recorder{answer: `{"results":[{"id":"1"}],"paging":{"next":{"after":"x/y"}}}`}
		if r.URL.Query().Get("after") == "x/y" {
			page.answer = `{"results":[{"id":"2"}]}`
		}
		page.ServeHTTP(w, r)
	})
	owners, err := c.ListOwners(t.Context(), false)
	if err != nil || len(owners) != 2 {
		t.Errorf("got %+v, %v", owners, err)
	}
}

func TestSchemaMissingScopeNamesTheScope(t *testing.T) {
	t.Parallel()
	r := &recorder{status: 403, answer: `{"status":"error","message":"m","correlationId":"c","context":{"requiredGranularScopes":["custom-object-read"]},"category":"MISSING_SCOPES"}`}
	_, err := serve(t, r.ServeHTTP).ListSchemas(t.Context())
	e, ok := errors.AsType[*hubapi.ScopeError](err)
	if !ok || e.CorrelationID != "c" || e.Scopes[0] != "custom-object-read" {
		t.Errorf("got %#v", err)
	}
}

func TestStandardTypesAreDistinct(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	for _, o := range hubapi.StandardTypes() {
		for _, key := range []string{o.Name, o.TypeID} {
			if key == "" || seen[key] {
				t.Errorf("%q is empty or twice in the table", key)
			}
			seen[key] = true
		}
		if o.Singular == "" || o.CreatedProperty == "" || o.ReadScope == "" {
			t.Errorf("%+v is incomplete", o)
		}
		want := "hs_lastmodifieddate"
		if o.Name == "contacts" {
			want = "lastmodifieddate"
		}
		if o.ModifiedProperty != want {
			t.Errorf("%s is followed by %s, want %s", o.Name, o.ModifiedProperty, want)
		}
	}
}
