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
    add column error_lane text;        -- the lane that last_error is about
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

create table hubpg.absent (
    portal_id   bigint      not null constraint absent_account_fkey references hubpg.accounts on delete cascade,
    table_name  text        not null, -- the name that the table would have
    object_type text        not null,
    last_error  text        not null,
    hint        text,
    error_at    timestamptz not null default now(),
    constraint absent_pkey primary key (portal_id, table_name)
);
comment on table hubpg.absent is 'object types that have no table, because HubSpot does not show them to this token';

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
        and c.lane = case o.kind when 'association' then 'associations' else 'backfill' end
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
       coalesce(a.hint, o.hint) as hint,
       coalesce(a.error_at, o.error_at) as error_at,
       o.error_lane
from hubpg.objects o
join hubpg.accounts a on a.portal_id = o.portal_id
join work w on w.portal_id = o.portal_id and w.table_name = o.table_name
union all
select b.portal_id, a.schema_name, b.table_name, 'object', 'degraded', 0, null, null, null, null, null, null, null,
       b.last_error, b.hint, b.error_at, 'schema'
from hubpg.absent b
join hubpg.accounts a on a.portal_id = b.portal_id;
comment on view hubpg.status is 'one row per mirrored table: rows, progress of its first filling, how far behind HubSpot it may be, and what is wrong with it';
