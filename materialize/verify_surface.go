package materialize

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// members compares list_memberships, list by list and page by page.
func (v *verifier) members(ctx context.Context, r *TableReport) error {
	if err := v.countRows(ctx, mirror.ListMemberships, r); err != nil {
		return err
	}
	segments, err := v.Client.ListSegments(ctx)
	if err != nil {
		return err
	}
	known, err := v.scopes(ctx, mirror.ListMemberships)
	if err != nil {
		return err
	}
	lists := map[int64]*hubapi.Segment{}
	for _, scope := range known {
		if id, err := strconv.ParseInt(scope, 10, 64); err == nil {
			lists[id] = nil
		}
	}
	for i := range segments {
		lists[segments[i].ID] = &segments[i]
	}
	for _, id := range slices.Sorted(maps.Keys(lists)) {
		if err := v.membersOf(ctx, id, lists[id], r); err != nil {
			return fmt.Errorf("list %d: %w", id, err)
		}
		v.Progress(mirror.ListMemberships, r.HubSpotRows)
	}
	return nil
}

// membersOf compares one list, and once more when it differs.
func (v *verifier) membersOf(ctx context.Context, id int64, list *hubapi.Segment, r *TableReport) error {
	shown, _, found, err := v.compareMembers(ctx, id)
	for round := 1; err == nil && len(found) > 0 && round < verifyRounds; round++ {
		if err = v.settle(ctx); err == nil {
			shown, _, found, err = v.compareMembers(ctx, id)
		}
	}
	if err != nil {
		return err
	}
	r.HubSpotRows += shown
	if len(found) == 0 {
		return nil
	}
	v.doubt(doubtful{r, v.lookupDetectors(mirror.ListMemberships), func(ctx context.Context, looked bool) error {
		_, differing, again, err := v.compareMembers(ctx, id)
		if err != nil {
			return fmt.Errorf("list %d: %w", id, err)
		}
		r.judgeRows(v.Keep, found, again, looked)
		for _, s := range differing {
			if v.repair == nil {
				break
			}
			if err := v.repairMembers(ctx, list, s); err != nil {
				return err
			}
		}
		return nil
	}})
	return nil
}

// compareMembers walks over a list and returns how many members HubSpot showed, the pages that the table is not like,
// and the differences.
func (v *verifier) compareMembers(ctx context.Context, id int64) (
	shown int64, differing []*mirror.Snapshot, found []Difference, err error,
) {
	from, after := int64(math.MinInt64+1), ""
	for {
		s := &mirror.Snapshot{
			Schema: v.schema, Table: mirror.ListMemberships, Scope: strconv.FormatInt(id, 10), ReadAt: time.Now(),
			Range: &mirror.Range{After: from, UpTo: math.MaxInt64},
		}
		page, err := v.Client.ListMembers(ctx, id, after)
		if nowhere(err) {
			page, err = &hubapi.MemberPage{}, nil // the list has gone, and so should its members
		}
		if err != nil {
			return 0, nil, nil, err
		}
		for _, m := range page.Members {
			s.Rows = append(s.Rows, mirror.ListMembership{ListID: id, RecordID: m.RecordID, JoinedAt: instant(m.Since)})
		}
		shown += int64(len(page.Members))
		if n := len(page.Members); page.After != "" && n > 0 {
			s.Range.UpTo = page.Members[n-1].RecordID
		} else if page.After != "" {
			s.Range.UpTo = from
		}
		list, err := v.rowsDiffer(ctx, s)
		if err != nil {
			return 0, nil, nil, err
		}
		if len(list) > 0 {
			differing, found = append(differing, s), append(found, list...)
		}
		switch page.After {
		case "":
			return shown, differing, found, nil
		case after:
			return 0, nil, nil, fmt.Errorf("the cursor %s repeats", after)
		}
		from, after = s.Range.UpTo, page.After
	}
}

// repairMembers makes a range of a list what HubSpot showed, save for members that it says are still there.
func (v *verifier) repairMembers(ctx context.Context, list *hubapi.Segment, s *mirror.Snapshot) error {
	shown := make([]int64, 0, len(s.Rows))
	for _, row := range s.Rows {
		if m, ok := row.(mirror.ListMembership); ok {
			shown = append(shown, m.RecordID)
		}
	}
	stored, err := lackingMembers(ctx, v.Pool, s, shown, 0)
	if err != nil {
		return err
	}
	if list != nil {
		stay, err := stillMembers(ctx, v.Client, list, stored)
		if err != nil {
			return err
		}
		s.Rows = append(s.Rows, stay...)
	}
	s.Source = changes.Repair
	err = v.repair.apply(ctx, func(tx pgx.Tx) (mirror.Result, error) { return v.repair.applier.Replace(ctx, tx, s) })
	if errors.Is(err, mirror.ErrOlder) {
		return nil // a lane has read it since
	}
	return err
}

// submissions compares form_submissions, form by form. A submission is the same as long as it is there.
func (v *verifier) submissions(ctx context.Context, r *TableReport) error {
	if err := v.countRows(ctx, mirror.FormSubmissions, r); err != nil {
		return err
	}
	listed, err := allForms(ctx, v.Client)
	if err != nil {
		return err
	}
	known, err := v.scopes(ctx, mirror.FormSubmissions)
	if err != nil {
		return err
	}
	forms := map[string]bool{}
	for _, form := range known {
		forms[form] = false
	}
	for i := range listed {
		if listed[i].Type != noSubmissions {
			forms[listed[i].ID] = true
		}
	}
	for _, form := range slices.Sorted(maps.Keys(forms)) {
		if err := v.submissionsTo(ctx, form, forms[form], r); err != nil {
			return fmt.Errorf("form %s: %w", form, err)
		}
		v.Progress(mirror.FormSubmissions, r.HubSpotRows)
	}
	return nil
}

// submissionKey identifies a submission to a form.
type submissionKey struct {
	at     int64 // ms
	digest string
}

// submissionsTo compares one form, and once more when it differs.
func (v *verifier) submissionsTo(ctx context.Context, form string, exists bool, r *TableReport) error {
	shown, found, err := v.compareSubmissions(ctx, form)
	for round := 1; err == nil && len(found) > 0 && round < verifyRounds; round++ {
		if err = v.settle(ctx); err == nil {
			shown, found, err = v.compareSubmissions(ctx, form)
		}
	}
	if err != nil {
		return err
	}
	r.HubSpotRows += int64(shown)
	if len(found) == 0 {
		return nil
	}
	v.doubt(doubtful{r, v.lookupDetectors(mirror.FormSubmissions), func(ctx context.Context, looked bool) error {
		_, again, err := v.compareSubmissions(ctx, form)
		if err != nil {
			return fmt.Errorf("form %s: %w", form, err)
		}
		r.judgeRows(v.Keep, found, again, looked)
		if v.repair == nil || len(again) == 0 {
			return nil
		}
		return v.repairSubmissions(ctx, form, exists)
	}})
	return nil
}

// compareSubmissions reads a form from both sides, and returns how many submissions HubSpot showed and which differ.
func (v *verifier) compareSubmissions(ctx context.Context, form string) (shown int, found []Difference, err error) {
	theirs := map[submissionKey]bool{}
	err = v.walkSubmissions(ctx, form, false, func(b *mirror.SubmissionBatch) error {
		for i := range b.Rows {
			theirs[submissionKey{b.Rows[i].SubmittedAt.UnixMilli(), b.Rows[i].Digest()}] = true
		}
		return nil
	})
	if err != nil {
		return 0, nil, err
	}
	ours, err := v.storedSubmissions(ctx, form)
	if err != nil {
		return 0, nil, err
	}
	for key := range theirs {
		if !ours[key] {
			found = append(found, Difference{Kind: RowMissing, HubSpot: key.text(form), Stored: "null"})
		}
	}
	for key := range ours {
		if !theirs[key] {
			found = append(found, Difference{Kind: RowExtra, HubSpot: "null", Stored: key.text(form)})
		}
	}
	return len(theirs), found, nil
}

func (k submissionKey) text(form string) string {
	return fmt.Sprintf(`{"form_id":%q,"submitted_at":%q,"digest":%q}`, form, time.UnixMilli(k.at).UTC().Format(time.RFC3339Nano), k.digest)
}

// walkSubmissions reads all submissions to a form. One that HubSpot does not know has none, unless it is said to exist.
func (v *verifier) walkSubmissions(ctx context.Context, form string, exists bool, each func(*mirror.SubmissionBatch) error) error {
	for after := ""; ; {
		page, err := v.Client.ListSubmissions(ctx, form, after)
		if _, refused := errors.AsType[*hubapi.ValidationError](err); refused || nowhere(err) && !exists {
			return nil
		}
		if err != nil {
			return err
		}
		b := &mirror.SubmissionBatch{Schema: v.schema, FormID: form, ReadAt: page.ReadAt, Mark: true, Source: changes.Repair}
		if b.Rows, err = submissionRows(page.Submissions); err != nil {
			return err
		}
		if err := each(b); err != nil {
			return err
		}
		if page.After == "" {
			return nil
		}
		if page.After == after {
			return fmt.Errorf("the cursor %s repeats", after)
		}
		after = page.After
	}
}

func (v *verifier) storedSubmissions(ctx context.Context, form string) (map[submissionKey]bool, error) {
	rows, err := v.Pool.Query(ctx, `
select (extract(epoch from submitted_at) * 1000)::bigint, digest
from `+pgx.Identifier{v.schema, mirror.FormSubmissions}.Sanitize()+`
where form_id = $1`, form)
	if err != nil {
		return nil, fmt.Errorf("list stored submissions: %w", err)
	}
	stored := map[submissionKey]bool{}
	var key submissionKey
	if _, err := pgx.ForEachRow(rows, []any{&key.at, &key.digest}, func() error {
		stored[key] = true
		return nil
	}); err != nil {
		return nil, fmt.Errorf("list stored submissions: %w", err)
	}
	return stored, nil
}

// repairSubmissions stores what HubSpot shows, and removes what it then has not shown: the comparison has read the form
// several times before.
func (v *verifier) repairSubmissions(ctx context.Context, form string, exists bool) error {
	began := time.Now()
	err := v.walkSubmissions(ctx, form, exists, func(b *mirror.SubmissionBatch) error {
		return v.repair.apply(ctx, func(tx pgx.Tx) (mirror.Result, error) { return v.repair.applier.Submit(ctx, tx, b) })
	})
	for gone := 1; err == nil && gone > 0; {
		err = v.repair.apply(ctx, func(tx pgx.Tx) (mirror.Result, error) {
			res, err := v.repair.applier.Withdraw(ctx, tx, v.schema, form, began, changes.Repair, false)
			gone = res.Deleted
			return res, err
		})
	}
	return err
}

func (v *verifier) countRows(ctx context.Context, table string, r *TableReport) error {
	if err := v.Pool.QueryRow(ctx, "select count(*) from "+pgx.Identifier{v.schema, table}.Sanitize()).Scan(&r.StoredRows); err != nil {
		return fmt.Errorf("count rows: %w", err)
	}
	return nil
}
