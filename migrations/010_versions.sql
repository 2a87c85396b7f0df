-- captured takes locks since 007, of which a proxy from before 007 knows nothing: where it then gave up, a session of it kept
-- appliers out of its tables until it ended. The function is what it was again, and the locks are taken by another one.

create function hubpg.rehearsed(permit text)
    returns table (n bigint, schema_name text, table_name text, op text, old_row jsonb, new_row jsonb, locks bigint[])
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    wanted bigint[];
    taken  integer := 0;
    mark   jsonb := jsonb_build_object('_xid', pg_current_xact_id_if_assigned()::text);
begin
    perform hubpg.check_permit(permit);
    select coalesce(array_agg(o.lock_key order by o.kind = 'association', o.lock_key), '{}') into wanted
    from hubpg.objects o
    join hubpg.accounts a using (portal_id)
    where o.lock_key is not null and (a.schema_name, o.table_name) in (
        select c.schema_name, c.table_name from hubpg.write_capture c where c.pid = pg_backend_pid());
    while taken < cardinality(wanted) and pg_try_advisory_lock_shared(wanted[taken + 1]) loop
        taken := taken + 1;
    end loop;
    if taken < cardinality(wanted) then
        perform pg_advisory_unlock_shared(k) from unnest(wanted[:taken]) k;
        wanted := null;
    end if;
    return query
        select row_number() over (order by c.n), c.schema_name, c.table_name, c.op, c.old_row || mark, c.new_row || mark, wanted
        from hubpg.write_capture c
        where c.pid = pg_backend_pid()
        order by c.n;
end
$$;
comment on function hubpg.rehearsed(text) is
    'what the rehearsal would do, in its order; _xid is the client''s transaction; locks are what keeps appliers out from now on, null where that has to be waited for by lock_tables';

-- A proxy of 007 or 008 asks for the locks by lock_tables where this has none.
create or replace function hubpg.captured(permit text)
    returns table (n bigint, schema_name text, table_name text, op text, old_row jsonb, new_row jsonb, locks bigint[])
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    mark jsonb := jsonb_build_object('_xid', pg_current_xact_id_if_assigned()::text);
begin
    perform hubpg.check_permit(permit);
    return query
        select row_number() over (order by c.n), c.schema_name, c.table_name, c.op, c.old_row || mark, c.new_row || mark, null::bigint[]
        from hubpg.write_capture c
        where c.pid = pg_backend_pid()
        order by c.n;
end
$$;
comment on function hubpg.captured(text) is 'as rehearsed, for proxies of earlier versions, which take the locks by lock_tables';
