-- A record whose associations with one other table are to be read waits for that by itself, whatever else it waits for. It
-- has a table of its own, since processes of earlier versions go on while the schema is new: they count on one row a record
-- in pending_associations.

create table hubpg.pending_pairs (
    portal_id   bigint      not null,
    table_name  text        not null, -- the object table of the record
    record_id   bigint      not null,
    other_table text        not null, -- the object table at the other end
    since       timestamptz not null default clock_timestamp(),
    tries       integer     not null default 0,
    constraint pending_pairs_pkey primary key (portal_id, table_name, record_id, other_table)
);
comment on table hubpg.pending_pairs is 'records whose associations with records of one other table have to be read again';
comment on column hubpg.pending_pairs.since is 'when they were noted; later than now: not to be asked for before';
comment on column hubpg.pending_pairs.tries is 'times that they were asked for in vain';

comment on table hubpg.pending_associations is 'records whose associations of all kinds have to be read again';
comment on column hubpg.pending_associations.other_table is
    'of processes before version 15, which read only the associations with this table where it is not empty; others read all';
