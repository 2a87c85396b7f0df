package materialize

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/internal/mirror"
)

const (
	// defaultVerifyPatience is how long lanes that were asked to look may stand still: as long as a step may take.
	defaultVerifyPatience = jobTimeout
	// lookPause is the pause between two looks at how far they are.
	lookPause = 250 * time.Millisecond
	// withdrawPasses is how many passes it takes until a submission that HubSpot does not show any more has left.
	withdrawPasses = 2
)

// doubtful are rows of a table that differ and may merely be late: neither HubSpot nor the table says since when. They
// are looked at again when the lanes that would have found them have looked at everything from begin to end.
type doubtful struct {
	report *TableReport
	lanes  []laneArgs
	// again compares the rows once more. What has stayed as it was, although the lanes have looked in between, is wrong;
	// when they have not looked, everything is that still differs.
	again func(ctx context.Context, looked bool) error
}

// doubt puts the rows of a table off until the lanes have looked.
func (v *verifier) doubt(d doubtful) { v.doubts = append(v.doubts, d) }

// decide has the lanes look and then compares what is in doubt.
func (v *verifier) decide(ctx context.Context, report *Report) error {
	var lanes []laneArgs
	for _, d := range v.doubts {
		lanes = append(lanes, d.lanes...)
	}
	idle, err := v.look(ctx, unique(lanes))
	if err != nil {
		return err
	}
	for _, d := range v.doubts {
		looked := !slices.ContainsFunc(d.lanes, func(a laneArgs) bool { return slices.Contains(idle, a) })
		err := d.again(ctx, looked)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if i := slices.IndexFunc(report.Tables, func(t TableReport) bool { return t.Table == d.report.Table }); err == nil && i >= 0 {
			v.noteRepaired(d.report)
			report.Tables[i] = *d.report
		} else if i >= 0 {
			report.Tables[i].Err = err
		}
	}
	v.doubts = nil
	return nil
}

// mendDoubts repairs what is in doubt, without waiting for lanes.
func (v *verifier) mendDoubts(ctx context.Context) error {
	for _, d := range v.doubts {
		if err := d.again(ctx, false); err != nil {
			return err
		}
	}
	v.doubts = nil
	return nil
}

// unique returns each lane once.
func unique(lanes []laneArgs) []laneArgs {
	var list []laneArgs
	for _, a := range lanes {
		if !slices.Contains(list, a) {
			list = append(list, a)
		}
	}
	return list
}

// judge counts the differences of one row that stand after the lanes have looked. before are those from before: what
// HubSpot has changed since is not decided.
func (t *TableReport) judge(keep int, before, after []Difference, looked bool) (wrong bool) {
	if looked {
		after = slices.DeleteFunc(slices.Clone(after), func(d Difference) bool {
			return !slices.ContainsFunc(before, func(b Difference) bool { return b.told() == d.told() })
		})
	}
	if len(after) == 0 {
		t.Pending++
		return false
	}
	t.add(keep, after...)
	return true
}

// healed counts the differences that are there no more, and that no change in HubSpot explains.
func (t *TableReport) healed(keep int, before, after []Difference) (some bool) {
	for _, d := range before {
		if d.Unexplained && !slices.ContainsFunc(after, func(a Difference) bool { return a.told() == d.told() }) {
			d.Healed, some = true, true
			t.add(keep, d)
		}
	}
	return some
}

// told is what HubSpot says, and about which row.
func (d Difference) told() Difference {
	d.Unexplained = false
	if d.Kind != RowExtra {
		d.Stored = ""
	}
	return d
}

// look has lanes look at everything in their tables, and waits until each has done so from begin to end. It returns those
// that have not: nobody keeps the account, HubSpot does not let them, or they do not get on.
func (v *verifier) look(ctx context.Context, lanes []laneArgs) (idle []laneArgs, err error) {
	if len(lanes) == 0 {
		return nil, nil
	}
	kept, err := v.isKept(ctx)
	if err != nil || !kept {
		return lanes, err
	}
	for pass := range withdrawPasses {
		some := lanes
		if pass > 0 {
			some = slices.DeleteFunc(slices.Clone(lanes), func(a laneArgs) bool { return a.Table != mirror.FormSubmissions })
		}
		late, err := v.lookOnce(ctx, some)
		if err != nil {
			return nil, err
		}
		idle = append(idle, late...)
	}
	return idle, nil
}

// isKept says whether a process keeps the account: one that has taken steps of its lanes and shows its life sign.
func (v *verifier) isKept(ctx context.Context) (kept bool, err error) {
	err = v.Pool.QueryRow(ctx, `
select exists (
	select
	from (
		select distinct attempted_by[cardinality(attempted_by)] as process
		from hubpg.river_job
		where kind = $2 and (args ->> 'portal')::bigint = $3 and attempted_by is not null) p
	where not pg_try_advisory_xact_lock_shared($1, hashtext(process)))`, int32(aliveLock), laneKind, v.PortalID).Scan(&kept)
	if err != nil {
		return false, fmt.Errorf("look for a process that keeps the account: %w", err)
	}
	return kept, nil
}

func (v *verifier) lookOnce(ctx context.Context, lanes []laneArgs) (idle []laneArgs, err error) {
	asked := time.Now() // lanes write down by this clock, and not by that of Postgres, when they have looked
	tables := make([]string, len(lanes))
	for i, a := range lanes {
		tables[i] = a.Table
	}
	if _, err := v.Pool.Exec(ctx, `
update hubpg.objects
set sweep_from = clock_timestamp()
where portal_id = $1 and table_name = any ($2)`, v.PortalID, tables); err != nil {
		return nil, fmt.Errorf("ask lanes to look: %w", err)
	}
	todo, moved, since := slices.Clone(lanes), "", time.Now()
	for time.Since(since) < v.Patience {
		state, left, err := v.looking(ctx, todo, asked)
		if err != nil {
			return nil, err
		}
		if state != moved || len(left) < len(todo) {
			moved, since = state, time.Now()
		}
		if todo = left; len(todo) == 0 {
			break
		}
		v.Progress(todo[0].Table, 0)
		if err := v.hasten(ctx, todo); err != nil {
			return nil, err
		}
		if err := v.pauseFor(ctx, lookPause); err != nil {
			return nil, err
		}
	}
	return todo, v.suspectsSettled(ctx, tables)
}

// looking returns those of lanes that have not looked at everything since the given instant, and how far they are. One
// whose table cannot be read at all stays among them without getting on.
func (v *verifier) looking(ctx context.Context, lanes []laneArgs, asked time.Time) (state string, left []laneArgs, err error) {
	tables, names := make([]string, len(lanes)), make([]string, len(lanes))
	for i, a := range lanes {
		tables[i], names[i] = a.Table, string(a.Lane)
	}
	rows, err := v.Pool.Query(ctx, `
select case when l.lane = any ($5)
		then c.position ? 'ended'
			and (c.position ->> 'ended')::timestamptz - coalesce((c.position ->> 'took')::float8, 0) / 1e9 * interval '1 second' > $4
		else o.verified_at > $4 end,
	concat_ws(' ', c.revision, o.verified_at)
from unnest($2::text[], $3::text[]) with ordinality as l (table_name, lane, n)
left join hubpg.objects o on o.portal_id = $1 and o.table_name = l.table_name
left join hubpg.cursors c on c.portal_id = $1 and c.table_name = l.table_name and c.lane = l.lane and c.key = ''
order by l.n`, v.PortalID, tables, names, asked, []string{string(LaneIDs), string(LaneArchived), string(LaneCalculated)})
	if err != nil {
		return "", nil, fmt.Errorf("look how far lanes are: %w", err)
	}
	var done *bool
	var at string
	n := 0
	_, err = pgx.ForEachRow(rows, []any{&done, &at}, func() error {
		if done == nil || !*done {
			left = append(left, lanes[n])
			state += at + ";"
		}
		n++
		return nil
	})
	if err != nil {
		return "", nil, fmt.Errorf("look how far lanes are: %w", err)
	}
	return state, left, nil
}

// hasten ends the rest of lanes.
func (v *verifier) hasten(ctx context.Context, lanes []laneArgs) error {
	for _, a := range lanes {
		var err error
		switch a.Lane {
		case LaneIDs, LaneArchived, LaneCalculated:
			_, err = v.Pool.Exec(ctx, wakeLane, laneKind, a)
		default:
			_, err = v.Pool.Exec(ctx, `select hubpg.hasten($1, $2)`, v.schema, a.Table)
		}
		if err != nil {
			return fmt.Errorf("ask %s of %s to look: %w", a.Lane, a.Table, err)
		}
	}
	return nil
}

// suspectsSettled waits until HubSpot has been asked about the records that the lanes have missed.
func (v *verifier) suspectsSettled(ctx context.Context, tables []string) error {
	began, now := time.Now(), time.Time{}
	if err := v.Pool.QueryRow(ctx, `select clock_timestamp()`).Scan(&now); err != nil {
		return fmt.Errorf("look for suspects: %w", err)
	}
	for time.Since(began) < v.Patience {
		var open bool
		err := v.Pool.QueryRow(ctx, `
select exists (
	select from hubpg.suspects
	where portal_id = $1 and table_name = any ($2) and since <= $3)`, v.PortalID, tables, now).Scan(&open)
		if err != nil {
			return fmt.Errorf("look for suspects: %w", err)
		}
		if !open {
			return nil
		}
		var lanes []laneArgs
		for _, table := range tables {
			lanes = append(lanes, laneArgs{v.PortalID, table, LaneArchived})
		}
		if err := v.hasten(ctx, unique(lanes)); err != nil {
			return err
		}
		if err := v.pauseFor(ctx, lookPause); err != nil {
			return err
		}
	}
	return nil
}
