-- Records about whose associations HubSpot says nothing are asked for ever more rarely, and not for ever.

alter table hubpg.pending_associations add tries integer not null default 0;

comment on column hubpg.pending_associations.tries is 'times that they were asked for in vain';
comment on column hubpg.pending_associations.since is 'when they were noted; later than now: not to be asked for before';
