package hubapi_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hubpg/hubapi"
	"hubpg/internal/sandbox"
)

// rowIs says whether a row's error is of a type.
func rowIs[E error](t *testing.T, what string, err error) E {
	t.Helper()
	e, ok := errors.AsType[E](err)
	if !ok {
		t.Errorf("%s: %T %v", what, err, err)
	}
	return e
}

func truthOf(t *testing.T, s *sandbox.Server, objectType string, id int64) sandbox.Record {
	t.Helper()
	all := s.Snapshot(objectType)
	i := slices.IndexFunc(all, func(r sandbox.Record) bool { return r.ID == id })
	if i < 0 {
		t.Fatalf("%s %d does not exist", objectType, id)
	}
	return all[i]
}

// reachable returns the live contacts that have an email.
func reachable(s *sandbox.Server) []sandbox.Record {
	return slices.DeleteFunc(live(s.Snapshot("contacts")), func(r sandbox.Record) bool { return r.Properties["email"] == "" })
}

func TestCreateGivesEachInputItsOwnRecord(t *testing.T) {
	t.Parallel()
	s, c := account(t, sandbox.Config{Contacts: 20})
	in := make([]hubapi.CreateInput, hubapi.MaxPage)
	for i := range in {
		in[i].Properties = map[string]string{"email": fmt.Sprintf("New.%d@Example.com", i), "firstname": strconv.Itoa(i)}
	}
	b, err := c.As(hubapi.Writes).BatchCreate(t.Context(), "contacts", in, hubapi.NewProjection([]string{"lifecyclestage", "firstname"}))
	if err != nil {
		t.Fatal(err)
	}
	if b.CorrelationID == "" || b.SentAt.IsZero() || b.Failed() != 0 {
		t.Errorf("batch %+v", b)
	}
	for i, r := range b.Results {
		truth := truthOf(t, s, "contacts", r.Record.ID)
		if !r.New || truth.Properties["firstname"] != strconv.Itoa(i) || string(r.Record.Values[1]) != strconv.Itoa(i) ||
			len(r.Record.Values) != 2 || !truth.UpdatedAt.Equal(r.Record.UpdatedAt) {
			t.Fatalf("input %d got %+v, truth %+v", i, r, truth)
		}
	}
}

func TestWritesAreOfTheirOwnClass(t *testing.T) {
	t.Parallel()
	var classes []hubapi.Class
	_, c := account(t, sandbox.Config{Contacts: 5}, hubapi.WithObserver(func(call hubapi.Call) { classes = append(classes, call.Class) }))
	if _, err := c.As(hubapi.Sweeps).BatchArchive(t.Context(), "contacts", []int64{1}); err != nil {
		t.Fatal(err)
	}
	if err := listContacts(t.Context(), c.As(hubapi.Sweeps)); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(classes, []hubapi.Class{hubapi.Writes, hubapi.Sweeps}) {
		t.Errorf("classes %v", classes)
	}
}

func TestEachRowOfABatchFailsAlone(t *testing.T) {
	t.Parallel()
	s, c := account(t, sandbox.Config{Contacts: 20})
	there := reachable(s)[0]
	b, err := c.BatchCreate(t.Context(), "contacts", []hubapi.CreateInput{
		{Properties: map[string]string{"email": "good@example.com"}},
		{Properties: map[string]string{"email": there.Properties["email"]}},
		{Properties: map[string]string{"email": "x@example.com", "no_such": "1"}},
		{Properties: map[string]string{"email": "not an address"}},
		{Properties: map[string]string{"email": "fine@example.com"}, Trace: "mine"},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b.Failed() != 3 || b.Results[0].Err != nil || b.Results[4].Err != nil {
		t.Fatalf("results %+v", b.Results)
	}
	conflict := rowIs[*hubapi.ConflictError](t, "taken email", b.Results[1].Err)
	if conflict.ExistingID != there.ID || conflict.CorrelationID != b.CorrelationID {
		t.Errorf("conflict %+v, want record %d", conflict, there.ID)
	}
	unknown := rowIs[*hubapi.ValidationError](t, "unknown property", b.Results[2].Err)
	if len(unknown.Details) != 1 || unknown.Details[0].Property != "no_such" || unknown.Details[0].Code != "PROPERTY_DOESNT_EXIST" {
		t.Errorf("details %+v", unknown.Details)
	}
	rowIs[*hubapi.ValidationError](t, "bad email", b.Results[3].Err)
	for _, i := range []int{0, 4} {
		if want := b.Results[i].Record.ID; truthOf(t, s, "contacts", want).Archived {
			t.Errorf("row %d is not there", i)
		}
	}
}

func TestUpdateUpsertAndArchiveByRow(t *testing.T) {
	t.Parallel()
	s, c := account(t, sandbox.Config{Contacts: 20})
	all := reachable(s)
	ctx := t.Context()
	up, err := c.BatchUpdate(ctx, "contacts", []hubapi.UpdateInput{
		{ID: all[0].ID, Properties: map[string]string{"phone": ""}},
		{ID: 1, Properties: map[string]string{"phone": "2"}},
		{ID: all[1].ID, Properties: map[string]string{"hs_object_id": "7"}},
		{ID: all[2].ID, Properties: map[string]string{"phone": "4"}},
	}, hubapi.NewProjection([]string{"phone"}))
	if err != nil {
		t.Fatal(err)
	}
	rowIs[*hubapi.NotFoundError](t, "no such id", up.Results[1].Err)
	rowIs[*hubapi.ValidationError](t, "read-only property", up.Results[2].Err)
	if up.Failed() != 2 || up.Results[3].Record.ID != all[2].ID || string(up.Results[3].Record.Values[0]) != "4" || up.Results[3].New {
		t.Errorf("update %+v", up.Results)
	}
	email := all[3].Properties["email"]
	ups, err := c.BatchUpsert(ctx, "contacts", "email", []hubapi.UpsertInput{
		{Key: strings.ToUpper(email), Properties: map[string]string{"phone": "5"}},
		{Key: "first@example.com", Properties: map[string]string{"phone": "6"}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if r := ups.Results; r[0].Record.ID != all[3].ID || r[0].New || !r[1].New || r[1].Record.ID == 0 {
		t.Errorf("upsert %+v", r)
	}
	gone, err := c.BatchArchive(ctx, "contacts", []int64{all[4].ID, all[5].ID})
	if err != nil || gone.Failed() != 0 || gone.Results[1].Record.ID != all[5].ID {
		t.Fatalf("archive %+v, %v", gone, err)
	}
	if !truthOf(t, s, "contacts", all[4].ID).Archived {
		t.Error("the record is still live")
	}
}

func TestWritesRefusedBeforeAnyCall(t *testing.T) {
	t.Parallel()
	s, c := account(t, sandbox.Config{Contacts: 5})
	ctx := t.Context()
	_, twice := c.BatchUpdate(ctx, "contacts", []hubapi.UpdateInput{{ID: 7}, {ID: 7}}, nil)
	_, none := c.BatchCreate(ctx, "contacts", nil, nil)
	_, many := c.BatchArchive(ctx, "contacts", make([]int64, 101))
	_, keys := c.BatchUpsert(ctx, "contacts", "email", []hubapi.UpsertInput{{Key: "a@b.c"}, {Key: "A@b.c"}}, nil)
	_, traces := c.BatchCreate(ctx, "contacts", []hubapi.CreateInput{{Trace: "1"}, {}}, nil)
	_, pairs := c.BatchCreateAssociations(ctx, "contacts", "companies", make([]hubapi.AssociationWrite, 2001))
	for i, err := range []error{twice, none, many, keys, traces, pairs} {
		if err == nil {
			t.Errorf("case %d went out", i)
		}
	}
	if calls := s.Stats().Calls; calls != 0 {
		t.Errorf("%d calls", calls)
	}
}

func TestLostAnswersOfWritesAreAmbiguousAndNotRepeated(t *testing.T) {
	t.Parallel()
	for _, kind := range []sandbox.FaultKind{
		sandbox.FaultDropAfter, sandbox.FaultDrop, sandbox.FaultCut, sandbox.FaultInternal, sandbox.FaultBadGateway,
		sandbox.FaultGatewayTimeout,
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s, c := account(t, sandbox.Config{Contacts: 5})
			before := s.Count("contacts")
			s.InjectFault(sandbox.Fault{Kind: kind, Path: "batch/create", Count: 1})
			in := []hubapi.CreateInput{{Properties: map[string]string{"email": "once@example.com"}}}
			_, err := c.BatchCreate(t.Context(), "contacts", in, nil)
			ambiguous := rowIs[*hubapi.AmbiguousError](t, "create", err)
			if ambiguous != nil && ambiguous.SentAt.IsZero() {
				t.Error("when it was sent is not known")
			}
			if n := s.Count("contacts") - before; n > 1 {
				t.Fatalf("created %d times", n)
			}
			found, err := c.GetObject(t.Context(), "contacts", "once@example.com", hubapi.GetOptions{IDProperty: "email"})
			if s.Count("contacts") > before {
				if err != nil || found.Record.ID == 0 {
					t.Errorf("the record made is not found: %v", err)
				}
			} else {
				rowIs[*hubapi.NotFoundError](t, "nothing made", err)
			}
		})
	}
}

func TestRefusedWritesAreRepeatedUntilTheyRunOnce(t *testing.T) {
	t.Parallel()
	for _, kind := range []sandbox.FaultKind{sandbox.FaultRateBurst, sandbox.FaultLocked} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			s, c := account(t, sandbox.Config{Contacts: 5}, hubapi.WithRetry(hubapi.RetryPolicy{Locked: 1, TenSecondly: 1}))
			before := s.Count("contacts")
			s.InjectFault(sandbox.Fault{Kind: kind, Path: "batch/create", Count: 3})
			in := []hubapi.CreateInput{{Properties: map[string]string{"email": "once@example.com"}}}
			if _, err := c.BatchCreate(t.Context(), "contacts", in, nil); err != nil || s.Count("contacts") != before+1 {
				t.Errorf("%d made, %v", s.Count("contacts")-before, err)
			}
		})
	}
}

func TestUnreadableAnswersOfWritesAreAmbiguous(t *testing.T) {
	t.Parallel()
	in := []hubapi.CreateInput{{}, {}}
	for name, answer := range map[string]string{
		"not records": `{"status":"COMPLETE","results":[{"properties":{}}]}`,
		"not JSON":    `<html>all went well</html>`,
		"half":        `{"status":"COMPLETE","results":[{"id":"1"`,
		"too long":    `{"status":"COMPLETE","results":[` + strings.Repeat(" ", 5000) + `]}`,
	} {
		calls := 0
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			calls++
			_, _ = w.Write([]byte(answer))
		}, hubapi.WithMaxBody(4000))
		_, err := c.BatchCreate(t.Context(), "contacts", in, nil)
		rowIs[*hubapi.AmbiguousError](t, name, err)
		if calls != 1 {
			t.Errorf("%s: %d calls", name, calls)
		}
	}
}

func TestCancelledWritesAreAmbiguousOnlyWhenSent(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	arrived := make(chan struct{})
	c := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // the server notices a lost client only then
		close(arrived)
		<-r.Context().Done()
	})
	go func() { <-arrived; cancel() }()
	_, err := c.BatchArchive(ctx, "contacts", []int64{1})
	rowIs[*hubapi.AmbiguousError](t, "sent", err)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the cause is lost: %v", err)
	}
	_, err = c.BatchArchive(ctx, "contacts", []int64{1})
	if _, ok := errors.AsType[*hubapi.AmbiguousError](err); ok || !errors.Is(err, context.Canceled) {
		t.Errorf("not sent: %v", err)
	}
}

func TestWholeRefusalsAskForASplit(t *testing.T) {
	t.Parallel()
	const conflict = `{"status":"error","message":"Contact already exists","correlationId":"c","category":"CONFLICT"}`
	for name, answer := range map[string]struct {
		status int
		body   string
	}{
		"conflict":   {409, conflict},
		"validation": {400, `{"status":"error","message":"Property values were not valid: []","category":"VALIDATION_ERROR"}`},
		"too large":  {413, `<h1>413</h1>`},
	} {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(answer.status)
			_, _ = w.Write([]byte(answer.body))
		})
		_, err := c.BatchCreate(t.Context(), "contacts", make([]hubapi.CreateInput, 3), nil)
		if split := rowIs[*hubapi.SplitError](t, name, err); split != nil && split.Rows != 3 {
			t.Errorf("%s: %d rows", name, split.Rows)
		}
		one, err := c.BatchCreate(t.Context(), "contacts", make([]hubapi.CreateInput, 1), nil)
		if err != nil || one.Results[0].Err == nil {
			t.Errorf("%s: a single row is to blame itself: %+v, %v", name, one, err)
		}
	}
}

func TestAnswersOfEveryVersionAreSettled(t *testing.T) {
	t.Parallel()
	const refused = `{"status":"error","category":"VALIDATION_ERROR","message":"bad","context":{"objectWriteTraceId":["1"]},` +
		`"errors":[{"message":"bad","code":"INVALID_OPTION","context":{"propertyName":["p"]}}]}`
	in := []hubapi.CreateInput{
		{Properties: map[string]string{"amount": "1.0"}},
		{Properties: map[string]string{"amount": "x"}},
		{Properties: map[string]string{"amount": "2"}},
	}
	for name, answer := range map[string]struct {
		status int
		body   string
	}{
		"207 by content": {207, `{"results":[{"id":"12","properties":{"amount":"2"}},{"id":"10","properties":{"amount":"1"}}],` +
			`"numErrors":1,"errors":[` + refused + `]}`},
		"200 with errors, by trace": {200, `{"results":[{"id":"12","objectWriteTraceId":"2","properties":{}},` +
			`{"id":"10","objectWriteTraceId":"0","properties":{}}],"numErrors":1,"errors":[` + refused + `]}`},
		"errors first": {201, `{"errors":[` + refused + `],"numErrors":1,` +
			`"results":[{"id":"10","properties":{"amount":"1.0"}},{"id":"12","properties":{"amount":"2"}}]}`},
	} {
		c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(answer.status)
			_, _ = w.Write([]byte(answer.body))
		})
		b, err := c.BatchCreate(t.Context(), "deals", in, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if r := b.Results; r[0].Record.ID != 10 || r[2].Record.ID != 12 || r[0].Err != nil || r[2].Err != nil {
			t.Errorf("%s: %+v", name, r)
		}
		refusal := rowIs[*hubapi.ValidationError](t, name, b.Results[1].Err)
		if refusal != nil && (len(refusal.Details) != 1 || refusal.Details[0].Property != "p" || refusal.Details[0].Code != "INVALID_OPTION") {
			t.Errorf("%s: details %+v", name, refusal.Details)
		}
	}
}

func TestRowsThatAreNotAccountedForAreAmbiguous(t *testing.T) {
	t.Parallel()
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusMultiStatus)
		_, _ = w.Write([]byte(`{"results":[{"id":"10","properties":{"amount":"7"}}]}`))
	})
	b, err := c.BatchCreate(t.Context(), "deals", []hubapi.CreateInput{
		{Properties: map[string]string{"amount": "1"}}, {Properties: map[string]string{"amount": "2"}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.Results {
		rowIs[*hubapi.AmbiguousError](t, "row", b.Results[i].Err)
	}
	one, err := c.BatchCreate(t.Context(), "deals", []hubapi.CreateInput{{Properties: map[string]string{"amount": "1"}}}, nil)
	if err != nil || one.Results[0].Record.ID != 10 {
		t.Errorf("the only record is not the only input's: %+v, %v", one, err)
	}
	twins := []hubapi.CreateInput{
		{Properties: map[string]string{"amount": "7"}, Associations: []hubapi.InlineAssociation{{ToID: 1}}},
		{Properties: map[string]string{"amount": "7"}, Associations: []hubapi.InlineAssociation{{ToID: 2}}},
	}
	b, err = c.BatchCreate(t.Context(), "deals", twins, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range b.Results {
		rowIs[*hubapi.AmbiguousError](t, "twin", b.Results[i].Err)
	}
}

func TestMergeAndErasure(t *testing.T) {
	t.Parallel()
	s, c := account(t, sandbox.Config{Contacts: 20})
	all := reachable(s)
	ctx := t.Context()
	p := hubapi.NewProjection([]string{"email"})
	merged, err := c.MergeObjects(ctx, "contacts", all[0].ID, all[1].ID, p)
	if err != nil || merged.Record.ID == all[0].ID || merged.Record.ID == 0 {
		t.Fatalf("merged into %+v, %v", merged, err)
	}
	for _, old := range []int64{all[0].ID, all[1].ID} {
		got, err := c.GetObject(ctx, "contacts", strconv.FormatInt(old, 10), hubapi.GetOptions{Projection: p})
		if err != nil || got.Record.ID != merged.Record.ID || got.ReadAt.IsZero() {
			t.Errorf("old id %d gives %+v, %v", old, got, err)
		}
	}
	if err := c.GDPRDelete(ctx, "contacts", all[2].Properties["email"], "email"); err != nil {
		t.Fatal(err)
	}
	id := strconv.FormatInt(all[2].ID, 10)
	for _, archived := range []bool{false, true} {
		_, err := c.GetObject(ctx, "contacts", id, hubapi.GetOptions{Archived: archived})
		rowIs[*hubapi.NotFoundError](t, "erased", err)
	}
	if _, err := c.BatchArchive(ctx, "contacts", []int64{all[3].ID}); err != nil {
		t.Fatal(err)
	}
	got, err := c.GetObject(ctx, "contacts", strconv.FormatInt(all[3].ID, 10), hubapi.GetOptions{Archived: true})
	if err != nil || !got.Record.Archived {
		t.Errorf("archived record %+v, %v", got, err)
	}
}

func TestBatchReadByKeyTellsWhatExists(t *testing.T) {
	t.Parallel()
	s, c := account(t, sandbox.Config{Contacts: 20})
	there := reachable(s)[:3]
	p := hubapi.NewProjection([]string{"firstname"})
	keys := []string{"nobody@example.com"}
	for _, r := range there {
		keys = append(keys, strings.ToUpper(r.Properties["email"]))
	}
	res, err := c.BatchReadBy(t.Context(), "contacts", "email", keys, p)
	if err != nil || len(res.Records) != 3 || res.ReadAt.IsZero() {
		t.Fatalf("%+v, %v", res, err)
	}
	for i, want := range there {
		got := res.Records[keys[i+1]]
		if got.ID != want.ID || string(got.Values[0]) != want.Properties["firstname"] || len(got.Values) != 1 {
			t.Errorf("%s is %+v, want %d", keys[i+1], got, want.ID)
		}
	}
}
