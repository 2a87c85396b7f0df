-- hubpg's own state. Everything here is hubpg's to change; users read the views and hubpg.changes.

create table hubpg.accounts (
    portal_id   bigint      not null constraint accounts_pkey primary key,
    schema_name text        not null constraint accounts_schema_name_key unique,
    time_zone   text        not null default 'UTC',
    added_at    timestamptz not null default now()
);
comment on table hubpg.accounts is 'HubSpot accounts kept by this database; each has a schema of its own';
comment on column hubpg.accounts.portal_id is 'HubSpot''s id of the account (Hub ID)';
comment on column hubpg.accounts.time_zone is 'the daily API quota starts again at midnight in this zone';

create table hubpg.objects (
    portal_id         bigint      not null constraint objects_account_fkey references hubpg.accounts on delete cascade,
    table_name        text        not null,
    kind              text        not null constraint objects_kind_check check (kind in ('object', 'association', 'lookup')),
    object_type       text        not null, -- HubSpot's type id (0-1, 2-123); for associations from:to
    path              text        not null, -- segment of the API path
    singular          text        not null,
    modified_property text,
    from_table        text,                 -- associations: the tables of both ends
    to_table          text,
    phase             text        not null default 'new'
        constraint objects_phase_check check (phase in ('new', 'backfill', 'live', 'degraded', 'gone')),
    row_count         bigint      not null default 0, -- exact: kept by every transaction that adds or removes rows; those of deleted records do not count
    deletes           text        not null default 'hard' -- soft: rows of deleted records stay, with archived_at set
        constraint objects_deletes_check check (deletes in ('hard', 'soft')),
    catalog_version   bigint      not null default 1, -- rises when the columns change; appliers with an older catalog are refused
    expected_rows     bigint,               -- what HubSpot said there is; for progress only
    backfill_from     timestamptz,
    backfill_done_at  timestamptz,
    verified_at       timestamptz,          -- every change that HubSpot made before this instant is in the table
    last_error        text,
    hint              text,
    error_at          timestamptz,
    constraint objects_pkey primary key (portal_id, table_name)
);
comment on table hubpg.objects is 'one row per mirrored table: what it mirrors, how far it is, what is wrong with it';

create table hubpg.columns (
    portal_id   bigint      not null,
    table_name  text        not null,
    property    text        not null, -- HubSpot's internal name: the identity of a column
    column_name text        not null, -- resolved once, then locked
    kind        text        not null, -- SQL type
    placement   text        not null default 'column'
        constraint columns_placement_check check (placement in ('column', 'overflow', 'excluded')),
    pinned      boolean     not null default false, -- never moved to _overflow
    label       text        not null default '',
    description text        not null default '',
    calculated  boolean     not null default false,
    read_only   boolean     not null default false,
    filled_at   timestamptz, -- when every old row had been given its value; null while a fill is due
    archived_at timestamptz,
    lapsed      boolean     not null default false, -- filled once, and read again because the definition was changed or restored
    changed_at  timestamptz, -- of HubSpot's definition; null where it cannot be archived
    locked_at   timestamptz not null default now(),
    constraint columns_pkey primary key (portal_id, table_name, property),
    constraint columns_name_key unique (portal_id, table_name, column_name),
    constraint columns_object_fkey foreign key (portal_id, table_name) references hubpg.objects on delete cascade
);
comment on table hubpg.columns is 'which property is which column; a name is locked when first given';

create table hubpg.cursors (
    portal_id  bigint      not null,
    table_name text        not null,
    lane       text        not null,
    key        text        not null default '', -- a range of the backfill, otherwise empty
    position   jsonb       not null,
    moved_at   timestamptz not null default now(),
    constraint cursors_pkey primary key (portal_id, table_name, lane, key),
    constraint cursors_object_fkey foreign key (portal_id, table_name) references hubpg.objects on delete cascade
);
comment on table hubpg.cursors is 'how far each lane has come; moved only in the transaction that stores the rows it covers';

create table hubpg.tombstones (
    portal_id  bigint      not null,
    table_name text        not null,
    record_id  bigint      not null,
    op         text        not null,
    read_at    timestamptz not null, -- reads begun before this instant may not bring the record back
    constraint tombstones_pkey primary key (portal_id, table_name, record_id)
);
comment on table hubpg.tombstones is 'records known to be gone, and the ends of associations known to have none, so that a late page cannot revive them';

create table hubpg.lookup_reads (
    portal_id  bigint      not null constraint lookup_reads_account_fkey references hubpg.accounts on delete cascade,
    table_name text        not null,
    scope      text        not null default '', -- the part of the table that is read at once, '' for all of it
    read_at    timestamptz not null,
    mark       text, -- what HubSpot said of the scope as a whole when it was read to the end: while it says the same, nothing has changed
    constraint lookup_reads_pkey primary key (portal_id, table_name, scope)
);
comment on table hubpg.lookup_reads is 'when each lookup table was last read whole, so that an older read never replaces a newer one';

create table hubpg.pending_associations (
    portal_id  bigint      not null,
    table_name text        not null, -- the object table whose record changed
    record_id  bigint      not null,
    since      timestamptz not null default now(),
    constraint pending_associations_pkey primary key (portal_id, table_name, record_id)
);
comment on table hubpg.pending_associations is 'records whose associations have to be read again';

create table hubpg.change_counter (
    only_row boolean not null default true constraint change_counter_pkey primary key
        constraint change_counter_only_row_check check (only_row),
    last     bigint  not null default 0
);
comment on table hubpg.change_counter is 'the newest sequence number; its row lock makes sequence order commit order';
insert into hubpg.change_counter default values;

create table hubpg.changes (
    seq         bigint      not null,
    at          timestamptz not null default now(),
    schema_name text        not null,
    table_name  text        not null,
    record_id   bigint,
    op          text        not null,
    changed     text[]      not null default '{}',
    before      jsonb,
    after       jsonb,
    source      text        not null
) partition by range (at);
create index changes_seq_idx on hubpg.changes (seq);
create index changes_record_idx on hubpg.changes (table_name, record_id, seq);
create table hubpg.changes_default partition of hubpg.changes default;
comment on table hubpg.changes is 'every real difference stored in a mirrored table, in commit order; partitioned by day, old days are dropped';
comment on column hubpg.changes.changed is 'the columns that differ; before and after hold just these';
