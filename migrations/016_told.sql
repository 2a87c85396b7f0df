-- A table of which webhooks or the journal tell is polled more rarely: polls only make sure of what was told.

alter table hubpg.objects add told_at timestamptz;
comment on column hubpg.objects.told_at is 'when a record that a feed had told of was last read';
