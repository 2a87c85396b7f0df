package materialize

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"hubpg/hubapi"
	"hubpg/internal/changes"
)

// LaneJournal is of the account: HubSpot's webhooks journal.
const LaneJournal Lane = "journal"

const (
	// journalPause is the pause between two reads of the journal that bring nothing.
	journalPause = 500 * time.Millisecond
	// journalFiles is how many files of the journal are named in one call.
	journalFiles = 20
	// journalKept is how long an offset counts as one that HubSpot still has: somewhat less than the three days for which
	// it keeps the journal, so that a clock that is off is not believed.
	journalKept = 60 * time.Hour
)

const (
	hintJournalScope = "give the app the scope developer.webhooks_journal.read, and install it in this account; until then changes " +
		"are found by polling (journal: off ends the attempts)"
	hintJournalAway = "HubSpot has no webhooks journal for this app: it has to be one of the developer platform; changes are found " +
		"by polling (journal: off ends the attempts)"
	hintJournalSubscribe = "give the app the scope developer.webhooks_journal.subscriptions.write, or subscribe it to object, " +
		"association and privacy events yourself"
)

// journalError is why the journal cannot be followed at the moment. It concerns no table: they are kept by polling.
type journalError struct {
	err  error
	hint string
	off  bool // only a human can change it
}

func (e *journalError) Error() string { return e.err.Error() }
func (e *journalError) Unwrap() error { return e.err }

// selfReported is a failure that a lane has recorded itself, with the pause that it makes of it.
type selfReported struct {
	err  error
	wait time.Duration
}

func (e *selfReported) Error() string { return e.err.Error() }
func (e *selfReported) Unwrap() error { return e.err }

// journalState is how far the journal has been read. Its row is the lane's cursor, and fences like one.
type journalState struct {
	offset     string     // of the newest file that was read; "" when there was none yet
	written    *time.Time // when HubSpot published that file
	readTo     *time.Time // every file that was published before has been read; nil before the lane has begun
	revision   int64
	troubled   bool // an error is shown
	healing    *time.Time
	looked     *time.Time           // at the subscriptions, last
	subscribed map[string]time.Time // when which subscription was made, or was tried in vain
}

// journal follows the webhooks journal: files of events in order, each naming records to read. The offset of a file is
// stored together with what it names. What the journal does not say any more, the sweeps find.
func (s *step) journal(ctx context.Context) (time.Duration, error) {
	// HubSpot does not count these calls against the account, and that they succeed says nothing of its token.
	ctx = hubapi.WithCount(ctx, new(atomic.Int64))
	j := s.e.cfg.Journal.Journal(s.args.Portal)
	st, err := s.journalState(ctx)
	if err != nil {
		return 0, err
	}
	more, err := s.followJournal(ctx, j, st)
	if failed, ok := errors.AsType[*journalError](err); ok && !errors.Is(ctx.Err(), context.Canceled) {
		return 0, s.journalFailed(ctx, failed)
	}
	if err != nil {
		return 0, err
	}
	if st.troubled {
		s.e.note(ctx, "clear failure of the journal", `
update hubpg.feed_state
set last_error = null, hint = null, error_at = null, off = false
where portal_id = $1 and feed = $2`, s.args.Portal, changes.Journal)
	}
	if more {
		return 0, nil
	}
	return journalPause, nil
}

// journalState loads the lane's row, which it makes on its first run.
func (s *step) journalState(ctx context.Context) (*journalState, error) {
	const load = `
select coalesce(position, ''), written_at, read_to, revision, last_error is not null, healing_since, subscribed_at, subscribed
from hubpg.feed_state
where portal_id = $1 and feed = $2`
	st := new(journalState)
	for range 2 {
		err := s.e.cfg.Pool.QueryRow(ctx, load, s.args.Portal, changes.Journal).
			Scan(&st.offset, &st.written, &st.readTo, &st.revision, &st.troubled, &st.healing, &st.looked, &st.subscribed)
		if err == nil {
			return st, nil
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return nil, fmt.Errorf("load position in the journal: %w", err)
		}
		_, err = s.e.cfg.Pool.Exec(ctx, `
insert into hubpg.feed_state (portal_id, feed)
values ($1, $2)
on conflict do nothing`, s.args.Portal, changes.Journal)
		if err != nil {
			return nil, fmt.Errorf("begin the journal: %w", err)
		}
	}
	return nil, errors.New("load position in the journal: its row does not stay")
}

// followJournal reads what is new. more says that there is more to read.
func (s *step) followJournal(ctx context.Context, j *hubapi.Journal, st *journalState) (more bool, err error) {
	if err := s.subscribeJournal(ctx, j, st); err != nil {
		return false, err
	}
	if st.readTo == nil {
		return true, s.beginJournal(ctx, j, st)
	}
	if st.offset == "" && time.Since(*st.readTo) > journalKept {
		return true, s.healJournal(ctx, st) // what was published since may be gone already
	}
	for !s.over() {
		asked := time.Now()
		entries, err := j.NextBatch(ctx, st.offset, journalFiles)
		if _, unknown := errors.AsType[*hubapi.NotFoundError](err); unknown && st.offset != "" {
			return true, s.journalExpired(ctx, j, st)
		}
		if err != nil {
			return false, journalRefusal(fmt.Errorf("read the journal: %w", err))
		}
		for i := range entries {
			file, err := j.File(ctx, &entries[i])
			if err != nil { // the link's refusal is not the journal's
				return false, &journalError{err: fmt.Errorf("fetch a file of the journal: %w", err), hint: hubapi.Hint(err)}
			}
			if err := s.noteJournal(ctx, st, file); err != nil {
				return false, err
			}
		}
		if len(entries) < journalFiles {
			return false, s.journalRead(ctx, st, asked)
		}
	}
	return true, nil
}

// beginJournal makes the newest file the position: what is older, polling has found or will find.
func (s *step) beginJournal(ctx context.Context, j *hubapi.Journal, st *journalState) error {
	asked := time.Now()
	newest, err := j.Latest(ctx)
	if err != nil {
		return journalRefusal(fmt.Errorf("begin the journal: %w", err))
	}
	offset, written := "", (*time.Time)(nil)
	if newest != nil {
		file, err := j.File(ctx, newest)
		if err != nil {
			return &journalError{err: fmt.Errorf("fetch the newest file of the journal: %w", err), hint: hubapi.Hint(err)}
		}
		offset, written = file.Offset, instant(file.PublishedAt)
	}
	return s.moveJournal(ctx, st, `position = nullif($4, ''), written_at = $5::timestamptz, read_to = $6::timestamptz`, offset, written, asked)
}

// noteJournal stores what a file names, and that it has been read, in one transaction.
func (s *step) noteJournal(ctx context.Context, st *journalState, file *hubapi.JournalFile) error {
	m, newest := newMentions(), time.Time{}
	for i := range file.Events {
		e := &file.Events[i]
		if e.PortalID != 0 && e.PortalID != s.args.Portal {
			m.took(false)
			continue
		}
		m.journal(e)
		if e.OccurredAt.After(newest) {
			newest = e.OccurredAt
		}
	}
	err := pgx.BeginFunc(ctx, s.e.cfg.Pool, func(tx pgx.Tx) error {
		tag, err := tx.Exec(ctx, noteMentions+`
update hubpg.feed_state f
set position = $7, written_at = $8::timestamptz, read_to = greatest(f.read_to, $8::timestamptz), revision = f.revision + 1,
	events = f.events + $9::bigint,
	ignored = f.ignored + $10::bigint + (select count(*) from said) - (select count(*) from known),
	last_event_at = greatest(f.last_event_at, $11::timestamptz), heard_at = clock_timestamp()
where f.portal_id = $1 and f.feed = $2 and f.revision = $12`,
			append(m.arguments(s.args.Portal, changes.Journal),
				file.Offset, instant(file.PublishedAt), m.events, m.ignored, instant(newest), st.revision)...)
		if err == nil && tag.RowsAffected() == 0 {
			return errMoved
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("note a file of the journal: %w", err)
	}
	st.offset, st.written = file.Offset, instant(file.PublishedAt)
	st.revision++
	return nil
}

// journalRead notes that the journal has been read to its end, and the end of a healing.
func (s *step) journalRead(ctx context.Context, st *journalState, asked time.Time) error {
	return s.moveJournal(ctx, st, `
	read_to = greatest(f.read_to, $4::timestamptz),
	healed_at = case when f.healing_since is not null and `+journalHealed+` then clock_timestamp() else f.healed_at end,
	healing_since = case when `+journalHealed+` then null else f.healing_since end`, asked)
}

// moveJournal changes the lane's row if nobody else has moved it since it was read.
func (s *step) moveJournal(ctx context.Context, st *journalState, set string, args ...any) error {
	tag, err := s.e.cfg.Pool.Exec(ctx, `
update hubpg.feed_state f
set revision = f.revision + 1, `+set+`
where f.portal_id = $1 and f.feed = $2 and f.revision = $3`,
		append([]any{s.args.Portal, changes.Journal, st.revision}, args...)...)
	if err != nil {
		return fmt.Errorf("store position in the journal: %w", err)
	}
	if tag.RowsAffected() == 0 {
		return errMoved
	}
	st.revision++
	return nil
}

// journalRefusal says what kind of trouble an answer of the journal is.
func journalRefusal(err error) error {
	failed := &journalError{err: err, hint: hubapi.Hint(err)}
	if scope, ok := errors.AsType[*hubapi.ScopeError](err); ok {
		failed.off, failed.hint = true, hintJournalScope
		if len(scope.Scopes) > 0 {
			failed.hint = fmt.Sprintf("the app needs one of the scopes %v; ", scope.Scopes) + hintJournalScope
		}
	} else if _, ok := errors.AsType[*hubapi.AuthError](err); ok {
		failed.off = true
	} else if _, ok := errors.AsType[*hubapi.NotFoundError](err); ok {
		failed.off, failed.hint = true, hintJournalAway
	}
	return failed
}

// journalFailed records why the journal cannot be followed and how long the lane pauses. No table waits for it.
func (s *step) journalFailed(ctx context.Context, failed *journalError) error {
	n := s.e.faults.add(s.args)
	wait := jitter(min(firstPause<<min(n-1, 10), lastPause))
	level := slog.LevelWarn
	if rate, ok := errors.AsType[*hubapi.RateError](failed.err); ok {
		wait, level = jitter(min(max(rate.RetryAfter, firstPause), dailyPause)), slog.LevelInfo
	}
	message := "the journal cannot be read at the moment"
	if failed.off {
		wait, level = jitter(s.e.cfg.Pace.Retry), slog.LevelError
		message = "the journal is not followed, changes are found by polling only"
	}
	if n&(n-1) == 0 { // first, then ever more rarely
		s.e.log.Log(ctx, level, message, slog.Int("in_row", n), slog.Duration("wait", wait),
			slog.String("hint", failed.hint), slog.String("error", failed.Error()))
	}
	s.e.note(ctx, "show failure of the journal", `
update hubpg.feed_state
set last_error = $3, hint = nullif($4, ''), error_at = clock_timestamp(), off = $5
where portal_id = $1 and feed = $2`, s.args.Portal, changes.Journal, cut(failed.Error()), failed.hint, failed.off)
	return &selfReported{failed, wait}
}
