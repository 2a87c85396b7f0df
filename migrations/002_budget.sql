-- The request budget of each account, shared by every process that calls HubSpot for it.

create unlogged table hubpg.quota_buckets (
    portal_id      bigint           not null,
    bucket         text             not null
        constraint quota_buckets_bucket_check check (bucket in ('burst', 'search', 'association', 'daily')),
    max_calls      integer,          -- HubSpot's limit per window; null where there is none or none is known
    window_ms      integer,          -- null for daily
    share          double precision not null default 1, -- what reads may use of it
    free_at        timestamptz      not null default '-infinity', -- calls before this instant are given away
    read_free_at   timestamptz      not null default '-infinity', -- the same for reads
    paused_until   timestamptz      not null default '-infinity', -- HubSpot refused: nothing goes out before
    slow_until     timestamptz      not null default '-infinity', -- HubSpot refused: half the pace until then
    counted_from   timestamptz      not null default '-infinity', -- start of the window that calls are counted in
    counted        integer          not null default 0,
    counted_before integer          not null default 0,           -- in the window before
    day_start      timestamptz      not null default '-infinity', -- daily: midnight in the account's time zone
    resets_at      timestamptz      not null default '-infinity', -- daily: the next one
    reads          integer          not null default 0,           -- daily: calls of this database
    writes         integer          not null default 0,
    remaining      integer,                                       -- daily: what HubSpot said is left for all apps
    remaining_at   timestamptz,
    constraint quota_buckets_pkey primary key (portal_id, bucket)
) with (fillfactor = 50);
comment on table hubpg.quota_buckets is
    'one row per limit that HubSpot counts calls against; unlogged, since a lost row is learned again from HubSpot';

create view hubpg.quota as
select q.portal_id,
       q.bucket,
       q.max_calls,
       q.window_ms,
       q.share,
       case
           when q.bucket = 'daily' then q.reads + q.writes
           when at.age < q.window_ms then
               q.counted + round(q.counted_before * (1 - at.age / q.window_ms))::integer
           when at.age < 2 * q.window_ms then round(q.counted * (2 - at.age / q.window_ms))::integer
           else 0
       end as used,
       case when q.bucket = 'daily' then q.reads end as reads,
       case when q.bucket = 'daily' then q.writes end as writes,
       q.remaining,
       q.remaining_at,
       case when q.paused_until > now() then q.paused_until end as paused_until,
       case when q.slow_until > now() then q.slow_until end as slow_until,
       case when q.bucket = 'daily' then nullif(q.resets_at, '-infinity') end as resets_at
from hubpg.quota_buckets q
cross join lateral (
    select case when isfinite(q.counted_from) then extract(epoch from clock_timestamp() - q.counted_from) * 1000 else 1e12 end as age
) at;
comment on view hubpg.quota is 'how much of each HubSpot limit is used, over its last window or since midnight';

-- How hubpg signs in to each account that was connected by OAuth.

create table hubpg.sign_ins (
    portal_id      bigint           not null constraint sign_ins_pkey primary key,
    client_id      text             not null,
    refresh_token  bytea            not null, -- sealed
    access_token   bytea            not null, -- sealed
    expires_at     timestamptz      not null, -- of the access token
    life           double precision not null, -- of the access token when it was new, in seconds
    scopes         text[]           not null default '{}',
    generation     bigint           not null default 1, -- rises with each new access token
    connected_at   timestamptz      not null default now(),
    refreshed_at   timestamptz      not null default now(),
    refused_at     timestamptz,               -- HubSpot does not take the refresh token any more: connect again
    refused_reason text
);
comment on table hubpg.sign_ins is
    'accounts connected by OAuth; tokens are sealed with a key outside the database; one refresh at a time, by row lock';
