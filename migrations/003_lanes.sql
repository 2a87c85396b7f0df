-- What the lanes of the materializer need beyond the core, and the view that shows how they do.

alter table hubpg.accounts
    add column last_error text,
    add column hint       text,
    add column error_at   timestamptz;
comment on column hubpg.accounts.last_error is 'why nothing of this account can be read at the moment; null while all is well';

alter table hubpg.cursors
    add column revision bigint not null default 0;
comment on column hubpg.cursors.revision is 'fence: a lane moves its cursor only from the revision that it has read';

alter table hubpg.objects
    add column settled_at timestamptz, -- verified again after HubSpot's search index had settled
    add column error_lane text,        -- the lane that last_error is about
    add column hubspot_rows bigint,    -- what HubSpot counted at the last look; null where nobody has looked
    add column count_gap  bigint,      -- that minus row_count, then
    add column swept_gap  bigint,      -- the gap that sweeps were last hastened for, as far as it is still there
    add column swept_times integer,    -- how often they were hastened again for that gap
    add column sweep_from timestamptz; -- sweeps that began before this instant are to begin again
comment on column hubpg.objects.settled_at is 'every change before this instant was looked for again an hour later';

create table hubpg.suspects (
    portal_id  bigint      not null,
    table_name text        not null,
    record_id  bigint      not null,
    since      timestamptz not null default now(),
    constraint suspects_pkey primary key (portal_id, table_name, record_id),
    constraint suspects_object_fkey foreign key (portal_id, table_name) references hubpg.objects on delete cascade
);
comment on table hubpg.suspects is 'rows that HubSpot did not show where they should be; each is asked for by id before it is removed';

-- What HubSpot tells by itself, by webhooks and in its journal. It hastens reads, no more.

create table hubpg.news (
    portal_id  bigint      not null,
    table_name text        not null,
    record_id  bigint      not null,
    feed       text        not null, -- webhook or journal
    gone       boolean     not null default false, -- HubSpot said that the record is gone: if it is not found, it is
    since      timestamptz not null default clock_timestamp(),
    constraint news_pkey primary key (portal_id, table_name, record_id),
    constraint news_object_fkey foreign key (portal_id, table_name) references hubpg.objects on delete cascade
);
create index news_since_idx on hubpg.news (portal_id, since);
comment on table hubpg.news is 'records that HubSpot has named and that have to be read; what it said about them is not kept';

create table hubpg.feed_state (
    portal_id          bigint      not null constraint feed_state_account_fkey references hubpg.accounts on delete cascade,
    feed               text        not null constraint feed_state_feed_check check (feed in ('webhook', 'journal')),
    events             bigint      not null default 0,
    ignored            bigint      not null default 0, -- of them, those about nothing that has a table
    last_event_at      timestamptz,                    -- when the newest event happened, as HubSpot says
    heard_at           timestamptz,
    position           text,                           -- journal: offset of the newest file that was read
    written_at         timestamptz,                    -- journal: when that file was published
    read_to            timestamptz,                    -- journal: every file that was published before has been read
    revision           bigint      not null default 0, -- fence, as in cursors
    subscribed_at      timestamptz,                    -- journal: when its subscriptions were looked at
    subscribed         jsonb       not null default '{}', -- journal: when which subscription was made
    subscriptions_hint text,
    gap_from           timestamptz,                    -- journal: of the last gap, what nobody has read
    gap_to             timestamptz,
    healing_since      timestamptz,                    -- journal: sweeps that began later make up for the gap
    healed_at          timestamptz,
    off                boolean     not null default false,
    last_error         text,
    hint               text,
    error_at           timestamptz,
    constraint feed_state_pkey primary key (portal_id, feed)
);
comment on table hubpg.feed_state is 'how far webhooks and journal have been heard; the journal''s position moves with what its files name';

create view hubpg.feeds as
select f.portal_id,
       a.schema_name,
       f.feed,
       case
           when f.off then 'off'
           when f.last_error is not null then 'failing'
           when f.healing_since is not null then 'healing'
           else 'live'
       end as state,
       f.events,
       f.ignored,
       f.last_event_at,
       f.heard_at,
       n.waiting,
       greatest(clock_timestamp() - f.read_to, clock_timestamp() - n.since, interval '0') as lag,
       coalesce(f.last_error, case
           when f.healing_since is not null then format(
               'HubSpot keeps its journal for three days: what it told between %s and %s was not read', f.gap_from, f.gap_to)
       end) as last_error,
       coalesce(f.hint, case
           when f.healing_since is not null then 'nothing to do: archived records, ids and associations of every table are being looked through'
           else f.subscriptions_hint
       end) as hint,
       coalesce(f.error_at, f.healing_since) as error_at,
       f.gap_from,
       f.gap_to,
       f.healed_at
from hubpg.feed_state f
join hubpg.accounts a on a.portal_id = f.portal_id
cross join lateral (
    select count(*) as waiting, min(w.since) as since
    from hubpg.news w
    where w.portal_id = f.portal_id and w.feed = f.feed
) n;
comment on view hubpg.feeds is 'one row per way in which HubSpot tells of changes by itself: what was heard, how late it is, and what is wrong with it';

create table hubpg.absent (
    portal_id   bigint      not null constraint absent_account_fkey references hubpg.accounts on delete cascade,
    table_name  text        not null, -- the name that the table would have
    kind        text        not null default 'object', -- as in hubpg.objects
    object_type text        not null,
    last_error  text        not null,
    hint        text,
    error_at    timestamptz not null default now(),
    constraint absent_pkey primary key (portal_id, table_name)
);
comment on table hubpg.absent is 'tables that could not be made: HubSpot does not show the object type to this token, or something else has the name';

create table hubpg.lane_calls (
    portal_id  bigint not null constraint lane_calls_account_fkey references hubpg.accounts on delete cascade,
    table_name text   not null, -- '' for lanes of the whole account
    lane       text   not null,
    day        date   not null, -- in the account's time zone, where the daily quota begins
    today      bigint not null, -- calls on that day
    total      bigint not null,
    constraint lane_calls_pkey primary key (portal_id, table_name, lane)
);
comment on table hubpg.lane_calls is 'calls to HubSpot that each lane has made; written every few seconds';

create view hubpg.calls as
select c.portal_id,
       a.schema_name,
       nullif(c.table_name, '') as table_name,
       c.lane,
       c.total,
       c.today,
       c.day
from hubpg.lane_calls c
join hubpg.accounts a on a.portal_id = c.portal_id;
comment on view hubpg.calls is 'what each lane has cost: calls to HubSpot in all, and on the last day on which it made any';

create view hubpg.status as
with work as (
    select o.portal_id,
           o.table_name,
           coalesce((c.position ->> 'rows')::bigint, 0)              as done_rows,
           coalesce((c.position ->> 'of')::bigint, o.expected_rows) as total_rows,
           coalesce((c.position ->> 'seconds')::float8, 0)           as seconds
    from hubpg.objects o
    left join hubpg.cursors c
        on c.portal_id = o.portal_id
        and c.table_name = o.table_name
        and c.lane = case o.kind when 'association' then 'associations' when 'lookup' then 'lookup' else 'backfill' end
        and c.key = ''
)
select o.portal_id,
       a.schema_name,
       o.table_name,
       o.kind,
       o.phase,
       o.row_count as rows,
       o.expected_rows,
       case
           when o.phase = 'live' then 100.0
           when o.phase in ('degraded', 'gone') then null
           when coalesce(w.total_rows, 0) = 0 then 0.0
           else round(least(100.0 * w.done_rows / w.total_rows, 99.9), 1)
       end as progress,
       case when o.phase = 'backfill' and w.seconds > 0 then round((w.done_rows / w.seconds)::numeric, 1) end as rows_per_second,
       case
           when o.phase = 'backfill' and w.done_rows > 0 and w.seconds > 0
           then make_interval(secs => greatest(w.total_rows - w.done_rows, 0) * w.seconds / w.done_rows)
       end as eta,
       o.verified_at,
       o.settled_at,
       case when o.phase = 'live' then greatest(clock_timestamp() - o.verified_at, interval '0') end as lag,
       coalesce(a.last_error, o.last_error) as last_error,
       coalesce(a.hint, o.hint, case
           when j.healing_since is not null and o.kind <> 'lookup' then format(
               'nothing to do: HubSpot''s journal of what happened between %s and %s was not read, sweeps make up for it', j.gap_from, j.gap_to)
       end) as hint,
       coalesce(a.error_at, o.error_at) as error_at,
       o.error_lane,
       o.hubspot_rows,
       (select jsonb_object_agg(c.lane, c.total)
        from hubpg.lane_calls c
        where c.portal_id = o.portal_id and c.table_name = o.table_name) as calls
from hubpg.objects o
join hubpg.accounts a on a.portal_id = o.portal_id
join work w on w.portal_id = o.portal_id and w.table_name = o.table_name
left join hubpg.feed_state j on j.portal_id = o.portal_id and j.feed = 'journal'
union all
select b.portal_id, a.schema_name, b.table_name, b.kind, 'degraded', 0, null, null, null, null, null, null, null,
       b.last_error, b.hint, b.error_at, 'schema', null, null
from hubpg.absent b
join hubpg.accounts a on a.portal_id = b.portal_id;
comment on view hubpg.status is 'one row per mirrored table: rows, progress of its first filling, how far behind HubSpot it may be, what is wrong with it, and what each of its lanes has cost in calls to HubSpot';
