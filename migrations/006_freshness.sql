-- Freshness that a session can wait for: SET hubpg.max_staleness.

create function hubpg.hasten(wanted_schema text, wanted_table text) returns void
    language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    o     record;
    lanes text[];
begin
    select b.portal_id, b.table_name, b.kind
    into o
    from hubpg.objects b
    join hubpg.accounts a on a.portal_id = b.portal_id
    where a.schema_name = wanted_schema and b.table_name = wanted_table;
    if not found then
        return;
    end if;
    lanes := case o.kind when 'object' then array['follow'] when 'association' then array['associations'] else array['lookup'] end;
    -- Lanes that walk over everything rest between two passes: the rest is over. The revision fences a step that has
    -- read its cursor before.
    update hubpg.cursors c
    set position = position - 'ended' - 'took', revision = revision + 1
    where c.portal_id = o.portal_id and c.table_name = o.table_name and c.lane = any (lanes) and c.key = '' and c.position ? 'ended';
    update hubpg.river_job j
    set state = 'available', scheduled_at = now()
    where j.kind = 'hubpg_lane' and j.state in ('available', 'scheduled') and j.scheduled_at > now()
    and j.args @> jsonb_build_object('portal', o.portal_id, 'table', o.table_name, 'lane', lanes[1]);
    if o.kind = 'lookup' then -- owners, pipelines and the like are read by the schema lane
        update hubpg.river_job j
        set state = 'available', scheduled_at = now()
        where j.kind = 'hubpg_lane' and j.state in ('available', 'scheduled') and j.scheduled_at > now()
        and j.args @> jsonb_build_object('portal', o.portal_id, 'table', '', 'lane', 'schema')
        and not exists (
            select
            from hubpg.river_job k
            where k.kind = 'hubpg_lane'
            and k.args @> jsonb_build_object('portal', o.portal_id, 'table', o.table_name, 'lane', 'lookup'));
    end if;
end
$$;
revoke all on function hubpg.hasten(text, text) from public;
comment on function hubpg.hasten(text, text) is
    'makes the next look of the lane that verifies a table due at once; it costs the lane''s class of the quota what any look costs';
