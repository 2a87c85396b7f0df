package materialize

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/changes"
	"hubpg/internal/mirror"
)

// ownLookups are the lookup tables with a lane of their own, by name.
func ownLookups() []string {
	var names []string
	for _, l := range mirror.Lookups() {
		if l.Own {
			names = append(names, l.Name)
		}
	}
	return names
}

// wantedLookups are those of them that the account is to have.
func (e *Engine) wantedLookups() []string {
	names := ownLookups()
	if len(e.cfg.Objects) > 0 {
		names = slices.DeleteFunc(names, func(name string) bool { return !slices.Contains(e.cfg.Objects, name) })
	}
	return names
}

// makeLookups makes the lookup tables. A name that something else holds costs that table only.
func (s *step) makeLookups(ctx context.Context) error {
	conflicts, err := mirror.Conflicts(s.e.mapper.EnsureLookups(ctx, s.e.cfg.Pool, s.e.wantedLookups()...))
	if err != nil {
		return err
	}
	s.foreign = map[string]bool{}
	for _, c := range conflicts {
		s.foreign[c.Table] = true
	}
	s.occupied(ctx, "lookup", conflicts)
	return nil
}

// occupied shows which tables of a kind are missing because something else has their name, with the remedy, and takes
// back what was shown of others.
func (s *step) occupied(ctx context.Context, kind string, conflicts []*mirror.ConflictError) {
	names, texts, hints := make([]string, len(conflicts)), make([]string, len(conflicts)), make([]string, len(conflicts))
	for i, c := range conflicts {
		names[i], texts[i], hints[i] = c.Table, cut(c.Error()), c.Hint
	}
	s.e.note(ctx, "clear absence", `
delete from hubpg.absent
where portal_id = $1 and kind = $2 and table_name <> all ($3)`, s.args.Portal, kind, names)
	s.e.note(ctx, "note absence", `
insert into hubpg.absent (portal_id, table_name, kind, object_type, last_error, hint)
select $1, u.name, $2, '', u.error, u.hint
from unnest($3::text[], $4::text[], $5::text[]) as u (name, error, hint)
on conflict (portal_id, table_name) do update
set kind = excluded.kind, last_error = excluded.last_error, hint = excluded.hint, error_at = now()`,
		s.args.Portal, kind, names, texts, hints)
}

// openLookups starts the lanes of the lookup tables that have one and are there.
func (s *step) openLookups(ctx context.Context) error {
	_, err := s.e.cfg.Pool.Exec(ctx, `
update hubpg.objects
set phase = case when backfill_done_at is null then 'new' else 'live' end, hint = null
where portal_id = $1 and kind = 'lookup' and phase = 'gone' and table_name = any ($2)`, s.args.Portal, s.e.wantedLookups())
	if err != nil {
		return fmt.Errorf("open lookup tables: %w", err)
	}
	rows, err := s.e.cfg.Pool.Query(ctx, `
select table_name
from hubpg.objects
where portal_id = $1 and kind = 'lookup' and table_name = any ($2)
order by table_name`, s.args.Portal, s.e.wantedLookups())
	if err != nil {
		return fmt.Errorf("list lookup tables: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list lookup tables: %w", err)
	}
	lanes := make([]laneArgs, len(names))
	for i, name := range names {
		lanes[i] = laneArgs{s.args.Portal, name, LaneLookup}
	}
	return s.e.ensureLanes(ctx, lanes...)
}

// lookup keeps a lookup table that has a lane of its own.
func (s *step) lookup(ctx context.Context) (time.Duration, error) {
	switch s.args.Table {
	case mirror.ListMemberships:
		return s.memberships(ctx)
	case mirror.FormSubmissions:
		return s.submissions(ctx)
	default:
		return s.whole(ctx)
	}
}

// wholePosition is the cursor of a lookup table that is read whole.
type wholePosition struct{ rest }

// whole reads all that a small table should hold and makes the table equal to it.
func (s *step) whole(ctx context.Context) (time.Duration, error) {
	var p wholePosition
	c, err := s.load(ctx, &p)
	if err != nil {
		return 0, err
	}
	period := s.e.cfg.Pace.Lookups
	if wait := p.wait(period); wait > 0 {
		return wait, nil
	}
	cat, err := s.e.catalog(ctx)
	if err != nil {
		return 0, err
	}
	readAt := time.Now()
	source := surfaces{pool: s.e.cfg.Pool, client: s.client, schema: s.e.cfg.Schema, catalog: cat}
	rows, err := source.rows(ctx, s.args.Table, true)
	if err != nil {
		return 0, err
	}
	if err := s.believe(ctx, s.args.Table, "", len(rows)); err != nil {
		return 0, err
	}
	p.rest = s.ended(rest{}, readAt)
	m := move{cursor: c, position: &p, live: true, verified: readAt}
	err = s.commit(ctx, s.args.Table, m, func(tx pgx.Tx, quiet bool) (mirror.Result, error) {
		return s.e.applier.Replace(ctx, tx, &mirror.Snapshot{
			Schema: s.e.cfg.Schema, Table: s.args.Table, Rows: rows, ReadAt: readAt, Source: changes.Sweep, Quiet: quiet,
		})
	})
	return p.wait(period), err
}

// surfaces reads what small lookup tables should hold.
type surfaces struct {
	pool    interface{ mirror.Querier }
	client  *hubapi.Client
	schema  string
	catalog *mirror.Catalog
}

// rows reads the content of a table. Counters of emails change by the minute; without fresh those that are stored stand.
func (f *surfaces) rows(ctx context.Context, table string, fresh bool) ([]mirror.LookupRow, error) {
	switch table {
	case mirror.Lists:
		lists, err := f.client.ListSegments(ctx)
		if err != nil {
			return nil, err
		}
		return f.lists(lists), nil
	case mirror.Forms:
		forms, err := both(ctx, f.pool, f.schema, table, func(form *hubapi.Form) string { return form.ID },
			func(archived bool) ([]hubapi.Form, error) { return f.client.ListForms(ctx, archived) })
		if err != nil {
			return nil, err
		}
		return formRows(forms)
	case mirror.MarketingEmails:
		return f.emails(ctx, fresh)
	case mirror.Campaigns:
		campaigns, err := f.client.ListCampaigns(ctx, campaignProperties())
		if err != nil {
			return nil, err
		}
		return campaignRows(campaigns), nil
	default:
		return nil, fmt.Errorf("lookup table %s: nothing is known to read for it", table)
	}
}

func (f *surfaces) lists(lists []hubapi.Segment) []mirror.LookupRow {
	rows := make([]mirror.LookupRow, len(lists))
	for i := range lists {
		l := &lists[i]
		r := mirror.List{
			ID: l.ID, Name: l.Name, ObjectType: l.ObjectTypeID, ProcessingType: l.ProcessingType, ProcessingStatus: l.ProcessingStatus,
			CreatedAt: instant(l.CreatedAt), UpdatedAt: instant(l.UpdatedAt), FiltersUpdatedAt: instant(l.FiltersUpdatedAt),
		}
		if n := l.Size(); n >= 0 {
			r.Size = &n
		}
		if t := f.catalog.Table(l.ObjectTypeID); t != nil {
			r.ObjectTable = t.Name
		}
		rows[i] = r
	}
	return rows
}

// both lists what HubSpot lists apart, in use and archived. What comes back from the archive while they are listed is in neither:
// where the table, if there is one, has one of that kind, those in use are listed again. What is listed twice is there as it was listed last.
func both[T any, K comparable](
	ctx context.Context, q mirror.Querier, schema, table string, id func(*T) K, list func(archived bool) ([]T, error),
) ([]T, error) {
	var all []T
	have := map[K]bool{}
	for _, archived := range []bool{false, true, false} {
		part, err := list(archived)
		if err != nil {
			return nil, err
		}
		fresh := map[K]bool{}
		for i := range part {
			fresh[id(&part[i])] = true
		}
		all = append(slices.DeleteFunc(all, func(one T) bool { return fresh[id(&one)] }), part...)
		maps.Copy(have, fresh)
		if !archived {
			continue
		}
		if table == "" {
			break
		}
		lacks := false
		err = q.QueryRow(ctx, "select exists (select from "+pgx.Identifier{schema, table}.Sanitize()+" where id <> all ($1))",
			slices.Collect(maps.Keys(have))).Scan(&lacks)
		if err != nil {
			return nil, fmt.Errorf("look into %s: %w", table, err)
		}
		if !lacks {
			break
		}
	}
	return all, nil
}

// allForms lists the forms in use and the archived ones, which HubSpot lists apart. Both have to arrive.
func allForms(ctx context.Context, client *hubapi.Client) ([]hubapi.Form, error) {
	forms, err := client.ListForms(ctx, false)
	if err != nil {
		return nil, err
	}
	archived, err := client.ListForms(ctx, true)
	if err != nil {
		return nil, err
	}
	return append(forms, archived...), nil
}

func formRows(forms []hubapi.Form) ([]mirror.LookupRow, error) {
	rows := make([]mirror.LookupRow, len(forms))
	for i := range forms {
		f := &forms[i]
		fields := []hubapi.FormField{}
		for _, g := range f.FieldGroups {
			fields = append(fields, g.Fields...)
		}
		text, err := json.Marshal(fields)
		if err != nil {
			return nil, fmt.Errorf("encode fields of form %s: %w", f.ID, err)
		}
		rows[i] = mirror.Form{
			ID: f.ID, Name: f.Name, Type: f.Type, Fields: text, Archived: f.Archived,
			CreatedAt: instant(f.CreatedAt), UpdatedAt: instant(f.UpdatedAt),
		}
	}
	return rows, nil
}

// emails lists marketing emails twice: HubSpot leaves some out when it is asked for counters. The counters of those
// that it left out stay as they are.
func (f *surfaces) emails(ctx context.Context, fresh bool) ([]mirror.LookupRow, error) {
	emails, err := both(ctx, f.pool, f.schema, mirror.MarketingEmails, func(m *hubapi.MarketingEmail) int64 { return m.ID },
		func(archived bool) ([]hubapi.MarketingEmail, error) {
			return f.client.ListEmails(ctx, hubapi.EmailOptions{Archived: archived})
		})
	if err != nil {
		return nil, err
	}
	stats := map[int64]json.RawMessage{}
	for _, archived := range []bool{false, true} {
		if !fresh {
			continue
		}
		list, err := f.client.ListEmails(ctx, hubapi.EmailOptions{Archived: archived, Stats: true})
		if err != nil {
			return nil, err
		}
		for i := range list {
			if stats[list[i].ID], err = json.Marshal(list[i].Stats.Counters); err != nil {
				return nil, fmt.Errorf("encode counters of email %d: %w", list[i].ID, err)
			}
		}
	}
	if err := f.keptStats(ctx, stats); err != nil {
		return nil, err
	}
	rows := make([]mirror.LookupRow, len(emails))
	for i := range emails {
		m := &emails[i]
		rows[i] = mirror.MarketingEmail{
			ID: m.ID, Name: m.Name, Subject: m.Subject, State: m.State, Type: m.Type, CampaignID: m.CampaignID,
			Published: m.IsPublished, PublishedAt: instant(m.PublishDate), Stats: stats[m.ID], Archived: m.Archived,
			CreatedAt: instant(m.CreatedAt), UpdatedAt: instant(m.UpdatedAt),
		}
	}
	return rows, nil
}

// keptStats adds the stored counters of emails that have none in stats.
func (f *surfaces) keptStats(ctx context.Context, stats map[int64]json.RawMessage) error {
	rows, err := f.pool.Query(ctx, `
select id, stats
from `+pgx.Identifier{f.schema, mirror.MarketingEmails}.Sanitize()+`
where stats is not null`)
	if err != nil {
		return fmt.Errorf("read stored counters: %w", err)
	}
	var (
		id   int64
		text []byte
	)
	_, err = pgx.ForEachRow(rows, []any{&id, &text}, func() error {
		if _, told := stats[id]; !told {
			stats[id] = slices.Clone(text)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read stored counters: %w", err)
	}
	return nil
}

// campaignProperties are the properties of campaigns that are asked for.
func campaignProperties() []string {
	return []string{
		"hs_name", "hs_campaign_status", "hs_start_date", "hs_end_date", "hs_owner", "hs_notes", "hs_audience", "hs_goal",
		"hs_currency_code", "hs_utm", "hs_color_hex", "hs_budget_items_sum_amount", "hs_spend_items_sum_amount",
	}
}

func campaignRows(campaigns []hubapi.Campaign) []mirror.LookupRow {
	rows := make([]mirror.LookupRow, len(campaigns))
	for i := range campaigns {
		c := &campaigns[i]
		rows[i] = mirror.Campaign{
			ID: c.ID, Name: c.Properties["hs_name"], Status: c.Properties["hs_campaign_status"], Properties: c.Properties,
			StartDate: day(c.Properties["hs_start_date"]), EndDate: day(c.Properties["hs_end_date"]),
			CreatedAt: instant(c.CreatedAt), UpdatedAt: instant(c.UpdatedAt),
		}
	}
	return rows
}

// day passes on what is a day and nothing else; the properties have the text.
func day(text string) string {
	if _, err := time.Parse(time.DateOnly, text); err != nil {
		return ""
	}
	return text
}

// nowhere says that HubSpot itself knows no such thing: not that the way to it is wrong.
func nowhere(err error) bool {
	e, ok := errors.AsType[*hubapi.NotFoundError](err)
	return ok && e.Status == http.StatusNotFound && !e.HTML
}
