-- An association of which HubSpot has told is read in its own pair.

alter table hubpg.pending_associations add other_table text not null default '';

comment on column hubpg.pending_associations.other_table is
    'the table at the other end, where HubSpot has told of an association with it and of no other change; otherwise empty: all';
