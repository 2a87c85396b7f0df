-- What HubSpot leaves out of an answer is asked for again before it counts, and not for ever.

create table hubpg.silences (
    portal_id  bigint      not null,
    table_name text        not null, -- of associations
    record_id  bigint      not null, -- at its first end
    read_at    timestamptz not null, -- when the first answer was asked for that left the record out
    constraint silences_pkey primary key (portal_id, table_name, record_id),
    constraint silences_object_fkey foreign key (portal_id, table_name) references hubpg.objects on delete cascade
);
comment on table hubpg.silences is 'records with associations that HubSpot has left out of its last answers; they are believed to have none once it does so again later';

alter table hubpg.suspects
    add tries integer not null default 0,
    add noted_at timestamptz not null default now();
comment on column hubpg.suspects.tries is 'times that they were asked for in vain';
comment on column hubpg.suspects.since is 'when they were noted; later than now: not to be asked for before';

-- Says so of records that were asked for four times in vain.
create or replace view hubpg.lane_status as
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
       coalesce(a.last_error, o.last_error, case
           when u.n > 0 then format('HubSpot says nothing about %s records, though it was asked %s times', u.n, u.tries)
       end) as last_error,
       coalesce(a.hint, o.hint, case
           when u.n > 0 and a.last_error is null and o.last_error is null then
               'nothing to do: their rows stay as they are, and they are asked for ever more rarely, at last once an hour; if it goes on, ask HubSpot about them (hubpg.suspects has their ids)'
           when j.healing_since is not null and o.kind <> 'lookup' then format(
               'nothing to do: HubSpot''s journal of what happened between %s and %s was not read, sweeps make up for it', j.gap_from, j.gap_to)
       end) as hint,
       coalesce(a.error_at, o.error_at, u.noted_at) as error_at,
       o.error_lane,
       o.hubspot_rows,
       (select jsonb_object_agg(c.lane, c.total)
        from hubpg.lane_calls c
        where c.portal_id = o.portal_id and c.table_name = o.table_name) as calls
from hubpg.objects o
join hubpg.accounts a on a.portal_id = o.portal_id
join work w on w.portal_id = o.portal_id and w.table_name = o.table_name
left join hubpg.feed_state j on j.portal_id = o.portal_id and j.feed = 'journal'
left join lateral (
    select count(*) as n, max(s.tries) as tries, min(s.noted_at) as noted_at
    from hubpg.suspects s
    where s.portal_id = o.portal_id and s.table_name = o.table_name and s.tries >= 4
) u on true
union all
select b.portal_id, a.schema_name, b.table_name, b.kind, 'degraded', 0, null, null, null, null, null, null, null,
       b.last_error, b.hint, b.error_at, 'schema', null, null
from hubpg.absent b
join hubpg.accounts a on a.portal_id = b.portal_id;
