package materialize

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/changes"
)

// healingLanes are the sweeps that find what a journal would have told: records that are gone or were missed, and
// associations. Changes of records are followed by polling anyway.
var healingLanes = []string{string(LaneArchived), string(LaneIDs), string(LanePairs)}

// journalHealed is the condition that every sweep that was begun to heal has ended, in a statement on hubpg.feed_state f.
// Tables that cannot be read now are left out: their sweeps come when they can be.
const journalHealed = `not exists (
	select
	from hubpg.cursors c
	join hubpg.objects o on o.portal_id = c.portal_id and o.table_name = c.table_name and o.phase = 'live'
	where c.portal_id = f.portal_id and c.lane in ('archived', 'ids', 'associations') and c.key = ''
	and (c.position ->> 'ended' is null or (c.position ->> 'ended')::timestamptz < f.healing_since))`

// journalExpired decides what it means that HubSpot does not know the offset any more.
//
// Files are kept for three days. If the lane has read the journal to its end within that time, and its last file is older,
// then the account was merely quiet: every file that is kept was published later, and is read next. Otherwise files that
// nobody has read may be gone.
func (s *step) journalExpired(ctx context.Context, j *hubapi.Journal, st *journalState) error {
	if _, err := j.Earliest(ctx); err != nil { // then it is not the offset that is unknown
		return journalRefusal(fmt.Errorf("read the journal: %w", err))
	}
	if st.written != nil && time.Since(*st.written) > journalKept && time.Since(*st.readTo) < journalKept {
		return s.moveJournal(ctx, st, `position = null, written_at = null`)
	}
	return s.healJournal(ctx, st)
}

// healJournal starts over with the oldest file that is kept, and has everything looked through that the files before it
// may have told of: whatever pass of a sweep was under way or had ended begins anew, in the transaction that gives the
// offset up.
func (s *step) healJournal(ctx context.Context, st *journalState) error {
	since := time.Now()
	err := pgx.BeginFunc(ctx, s.e.cfg.Pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, `
update hubpg.feed_state
set revision = revision + 1, position = null, written_at = null, read_to = $4,
	gap_from = case when healing_since is null then read_to else least(gap_from, read_to) end, gap_to = $4,
	healing_since = $4, healed_at = null
where portal_id = $1 and feed = $2 and revision = $3`, s.args.Portal, changes.Journal, st.revision, since)
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 0 {
			return errMoved
		}
		return s.restartLanes(ctx, tx, healingLanes)
	})
	if err != nil {
		return fmt.Errorf("give up the position in the journal: %w", err)
	}
	s.e.log.Warn("the journal does not reach back far enough, every table is looked through",
		slog.Time("from", *st.readTo), slog.Time("to", since))
	st.revision++
	st.offset, st.written, st.readTo = "", nil, &since
	return nil
}

// restartLanes makes lanes that walk over everything begin a new pass at once. A pass under way stores nothing more: its
// cursor has moved.
func (s *step) restartLanes(ctx context.Context, tx pgx.Tx, lanes []string) error {
	_, err := tx.Exec(ctx, `
update hubpg.cursors
set position = '{}', revision = revision + 1, moved_at = now()
where portal_id = $1 and lane = any ($2) and key = '' and revision > 0`, s.args.Portal, lanes)
	if err == nil {
		_, err = tx.Exec(ctx, `
update hubpg.river_job
set state = 'available', scheduled_at = now()
where kind = $1 and state in ('available', 'scheduled') and (args ->> 'portal')::bigint = $2 and args ->> 'lane' = any ($3)`,
			laneKind, s.args.Portal, lanes)
	}
	if err != nil {
		return fmt.Errorf("restart sweeps: %w", err)
	}
	return nil
}

// subscribeJournal makes sure, now and then and when there is a new table, that the journal tells of every type that has a table. Types that it
// cannot tell of are kept by polling.
func (s *step) subscribeJournal(ctx context.Context, j *hubapi.Journal, st *journalState) error {
	if st.looked != nil && time.Since(*st.looked) < s.e.cfg.Pace.Schema {
		return nil
	}
	wanted, err := s.journalSubscriptions(ctx)
	if err != nil {
		return err
	}
	have, err := j.Subscriptions(ctx)
	if err == nil {
		for _, sub := range missingSubscriptions(wanted, have) {
			if err = s.subscribe(ctx, j, st, sub); err != nil {
				break
			}
		}
	}
	if scope, ok := errors.AsType[*hubapi.ScopeError](err); ok {
		// What it is subscribed to already can be read all the same.
		s.e.log.Warn("the journal's subscriptions cannot be kept", slog.String("error", scope.Error()), slog.String("hint", hintJournalSubscribe))
		s.e.note(ctx, "show failure of the journal", `
update hubpg.feed_state
set subscriptions_hint = $3
where portal_id = $1 and feed = $2`, s.args.Portal, changes.Journal, hintJournalSubscribe)
	} else if err != nil {
		return journalRefusal(fmt.Errorf("subscribe to the journal: %w", err))
	}
	return s.moveJournal(ctx, st, `
	subscribed_at = $4::timestamptz, subscribed = $5::jsonb,
	subscriptions_hint = case when $6 then null else f.subscriptions_hint end`, time.Now(), st.subscribed, err == nil)
}

// subscribedAgain is how long a subscription that was made counts as made, even if HubSpot lists it in a form that is not
// recognized.
const subscribedAgain = 24 * time.Hour

// subscribe adds one subscription, unless that has been done, or was in vain, not long ago.
func (s *step) subscribe(ctx context.Context, j *hubapi.Journal, st *journalState, sub hubapi.JournalSubscription) error {
	key := sub.Type + " " + sub.ObjectTypeID
	if time.Since(st.subscribed[key]) < subscribedAgain {
		return nil
	}
	_, err := j.Subscribe(ctx, sub)
	_, invalid := errors.AsType[*hubapi.ValidationError](err)
	_, conflict := errors.AsType[*hubapi.ConflictError](err)
	_, unknown := errors.AsType[*hubapi.NotFoundError](err)
	if invalid || conflict || unknown {
		s.e.log.Debug("the journal does not tell of this", slog.String("subscription", key), slog.String("error", err.Error()))
		err = nil
	}
	if err == nil {
		st.subscribed[key] = time.Now()
	}
	return err
}

// Types of subscriptions.
const (
	journalObject      = "OBJECT"
	journalAssociation = "ASSOCIATION"
	journalPrivacy     = "GDPR_PRIVACY_DELETION"
)

// journalSubscriptions are what the journal should tell: everything about records of types that have a table.
func (s *step) journalSubscriptions(ctx context.Context) ([]hubapi.JournalSubscription, error) {
	rows, err := s.e.cfg.Pool.Query(ctx, `
select object_type
from hubpg.objects
where portal_id = $1 and kind = 'object' and phase <> 'gone'
order by table_name`, s.args.Portal)
	if err != nil {
		return nil, fmt.Errorf("list types for the journal: %w", err)
	}
	types, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list types for the journal: %w", err)
	}
	wanted := []hubapi.JournalSubscription{{Type: journalPrivacy, PortalID: s.args.Portal}}
	for _, t := range types {
		for _, kind := range []string{journalObject, journalAssociation} {
			wanted = append(wanted, hubapi.JournalSubscription{Type: kind, PortalID: s.args.Portal, ObjectTypeID: t})
		}
	}
	return wanted, nil
}

// missingSubscriptions returns those of wanted that no subscription without filters covers. HubSpot may name all actions
// where none were given, so that a list of actions is no filter.
func missingSubscriptions(wanted, have []hubapi.JournalSubscription) []hubapi.JournalSubscription {
	type key struct {
		kind, objectType string
		portal           int64
	}
	covered := map[key]bool{}
	for _, h := range have {
		if len(h.Properties) == 0 && len(h.ObjectIDs) == 0 && len(h.AssociatedObjectTypeIDs) == 0 {
			covered[key{h.Type, h.ObjectTypeID, h.PortalID}] = true
		}
	}
	var missing []hubapi.JournalSubscription
	for _, w := range wanted {
		if !covered[key{w.Type, w.ObjectTypeID, w.PortalID}] {
			missing = append(missing, w)
		}
	}
	return missing
}
