-- The rows that a rehearsal has read stay locked while HubSpot is asked, as those of an UPDATE do: of two sessions that add one to
-- the same value the second waits, and adds to what the first has made of it.

alter table hubpg.write_capture
    add column record_id bigint,      -- of a row that was there
    add column seen_at   timestamptz; -- its _read_at

-- As in 013; a row that was there is captured with its version.
create or replace function hubpg.write_record_done() returns trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
as $$
declare
    step  text := hubpg.write_step(tg_table_schema, tg_table_name);
    was   jsonb;
    is_   jsonb;
    names text[];
    said  jsonb;
    gone  timestamptz;
    held  bigint;      -- the row that was there
    seen  timestamptz; -- its version
    flat  boolean; -- an update leaves _overflow and _unparsed alone: then a column that is missing is null, and nothing else is
begin
    if tg_op = 'UPDATE' then
        flat := old._overflow is not distinct from new._overflow and old._unparsed is not distinct from new._unparsed;
    end if;
    if step = 'perform' then
        if tg_op = 'DELETE' then
            select w.answer into said
            from hubpg.write_answers w
            where w.pid = pg_backend_pid() and w.key = 'd' || tg_relid || ':' || old.id;
        end if;
        if tg_op = 'DELETE' and said is null or tg_op <> 'DELETE' and new._read_at = '-infinity' then
            insert into hubpg.write_capture (pid, schema_name, table_name, op)
            values (pg_backend_pid(), tg_table_schema, tg_table_name, lower(tg_op));
            return null;
        end if;
    end if;
    if step = 'rehearse' then
        if tg_op = 'INSERT' then
            is_ := jsonb_strip_nulls(to_jsonb(new) - '_read_at') || jsonb_build_object('_row', extract(epoch from new._read_at)::bigint);
        elsif tg_op = 'DELETE' then
            held := old.id;
            seen := old._read_at;
            was := jsonb_strip_nulls(to_jsonb(old));
        else
            held := old.id;
            seen := old._read_at;
            was := to_jsonb(old);
            is_ := to_jsonb(new);
            if flat then
                was := jsonb_strip_nulls(was);
                is_ := jsonb_strip_nulls(is_);
            end if;
            select jsonb_object_agg(u.k, coalesce(was -> u.k, 'null')), jsonb_object_agg(u.k, coalesce(is_ -> u.k, 'null')) into was, is_
            from (
                select n.key from jsonb_each(is_) n where n.value is distinct from was -> n.key or n.key in ('id', 'archived_at')
                union all
                select o.key from jsonb_object_keys(was) o (key) where not is_ ? o.key
            ) u (k);
        end if;
        insert into hubpg.write_capture (pid, schema_name, table_name, op, old_row, new_row, record_id, seen_at)
        values (pg_backend_pid(), tg_table_schema, tg_table_name, lower(tg_op), was, is_, held, seen);
        return null;
    end if;
    if tg_op = 'INSERT' then
        is_ := hubpg.write_flat(to_jsonb(new), tg_argv[1:]);
        names := array(select jsonb_object_keys(is_ - '{id,created_at,updated_at}'::text[]));
        insert into hubpg.write_changes (portal_id, schema_name, table_name, record_id, op, changed, after)
        values (tg_argv[0]::bigint, tg_table_schema, tg_table_name, new.id, 'insert', names, is_);
    elsif tg_op = 'UPDATE' then
        was := to_jsonb(old);
        is_ := to_jsonb(new);
        if flat then
            was := jsonb_strip_nulls(was);
            is_ := jsonb_strip_nulls(is_);
        else
            was := hubpg.write_flat(was, tg_argv[1:]);
            is_ := hubpg.write_flat(is_, tg_argv[1:]);
        end if;
        insert into hubpg.write_changes (portal_id, schema_name, table_name, record_id, op, changed, before, after)
        select tg_argv[0]::bigint, tg_table_schema, tg_table_name, new.id, 'update', array_agg(u.k order by u.k),
               jsonb_object_agg(u.k, coalesce(was -> u.k, 'null')), jsonb_object_agg(u.k, coalesce(is_ -> u.k, 'null'))
        from (
            select n.key from jsonb_each(is_) n where n.value is distinct from was -> n.key
            union all
            select o.key from jsonb_object_keys(was) o (key) where not is_ ? o.key
        ) u (k)
        where u.k <> all (tg_argv[1:] || '{id,created_at,updated_at,archived_at,_read_at}'::text[])
        having count(*) > 0;
    else
        insert into hubpg.write_changes (portal_id, schema_name, table_name, record_id, op, before)
        values (tg_argv[0]::bigint, tg_table_schema, tg_table_name, old.id, 'delete', hubpg.write_flat(to_jsonb(old), tg_argv[1:]));
        insert into hubpg.tombstones as t (portal_id, table_name, record_id, op, read_at)
        values (tg_argv[0]::bigint, tg_table_name, old.id, 'delete', (said ->> 'read_at')::timestamptz)
        on conflict (portal_id, table_name, record_id) do update
        set op = excluded.op, read_at = greatest(t.read_at, excluded.read_at)
        returning t.read_at into gone;
        if to_jsonb(old) ? 'archived_at' then -- deletes are soft: the row stays
            perform set_config('hubpg.applier', 'on', true);
            execute format('insert into %I.%I select (jsonb_populate_record($1, $2)).*', tg_table_schema, tg_table_name)
            using old, jsonb_build_object('archived_at', gone);
            perform set_config('hubpg.applier', '', true);
        end if;
    end if;
    return null;
end
$$;

-- As hubpg.rehearsed, which proxies of earlier versions call.
create function hubpg.rehearsed_rows(permit text)
    returns table (n bigint, schema_name text, table_name text, op text, old_row jsonb, new_row jsonb, locks bigint[],
                   record_id bigint, version bigint)
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
        select row_number() over (order by c.n), c.schema_name, c.table_name, c.op, c.old_row || mark, c.new_row || mark, wanted,
               c.record_id, (extract(epoch from c.seen_at) * 1000000)::bigint
        from hubpg.write_capture c
        where c.pid = pg_backend_pid()
        order by c.n;
end
$$;
comment on function hubpg.rehearsed_rows(text) is
    'hubpg.rehearsed with the id and the version, in microseconds, of each row of an object table that was there';

create function hubpg.lock_rows(permit text, schema_name text, table_name text, ids bigint[], versions bigint[]) returns boolean
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    same bigint;
begin
    perform hubpg.check_permit(permit);
    execute format('
select count(*)
from (
    select (extract(epoch from t._read_at) * 1000000)::bigint = u.version as same
    from unnest($1, $2) with ordinality u (id, version, place)
    join %I.%I t on t.id = u.id
    order by u.place
    for no key update of t
) l
where l.same', schema_name, table_name)
    into same
    using ids, versions;
    return same = cardinality(ids);
end
$$;
comment on function hubpg.lock_rows(text, text, text, bigint[], bigint[]) is
    'locks rows, in the order in which the statement came to them, and says whether they are in these versions still';
