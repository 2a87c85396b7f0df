-- What a statement that writes asks of Postgres takes less time, most of all on wide tables. Every column cost a comparison
-- of its own, most of them of null with null; now only values are compared. Functions that nobody but those of hubpg may
-- call have no search path and no rights of their own any more: whoever calls them has both, and each change of them costs
-- more than what these functions do. The signatures stay, and so does everything that they say.

-- As in 004.
create or replace function hubpg.check_permit(permit text) returns void
    language plpgsql stable
as $$
begin
    if permit is null or (select encode(sha256(s.key || sha256(s.key || convert_to(left(permit, 32) || ':' || pg_backend_pid(), 'UTF8'))), 'hex')
        from hubpg.write_secret s) is distinct from substr(permit, 33) then
        raise exception 'this session holds no permit to write'
            using errcode = '42501', hint = 'these functions are for the hubpg proxy; send the statement itself through it';
    end if;
end
$$;

-- As in 004.
create or replace function hubpg.write_mode(permit text, mode text) returns void
    language plpgsql
as $$
begin
    perform hubpg.check_permit(permit);
    insert into hubpg.write_sessions as s (pid, xid, mode)
    values (pg_backend_pid(), pg_current_xact_id(), write_mode.mode)
    on conflict (pid) do update
    set xid = excluded.xid, mode = excluded.mode;
    perform set_config('hubpg.write_row', '0', true);
end
$$;

-- As in 008.
create or replace function hubpg.write_step(schema_name text, table_name text, proposed boolean default false) returns text
    language plpgsql stable
as $$
declare
    step text;
begin
    select s.mode into step
    from hubpg.write_sessions s
    where s.pid = pg_backend_pid() and s.xid = pg_current_xact_id_if_assigned();
    if step is null and not proposed then
        raise exception '%.% mirrors HubSpot and cannot be changed directly', schema_name, table_name
            using errcode = 'HS001', schema = schema_name, table = table_name,
                  hint = 'send the statement through the hubpg proxy, which changes HubSpot first; a direct connection may only read. If it came through the proxy, it hides the table''s name: write that into the text, or into a comment in the body of the function';
    end if;
    return step;
end
$$;

-- What performed looks at.
create function hubpg.write_complete() returns void
    language plpgsql
as $$
declare
    most   constant integer := 100;
    unused integer;
    named  text;
    other  record;
begin
    select c.schema_name, c.table_name into other
    from hubpg.write_capture c
    where c.pid = pg_backend_pid()
    order by c.n
    limit 1;
    if found then
        perform hubpg.write_changed_meanwhile(other.schema_name, other.table_name);
    end if;
    if not exists (
        select from hubpg.write_answers w
        where w.pid = pg_backend_pid() and not w.used and not w.answer ? 'skip' and w.answer ?| '{row,read_at}') then
        return;
    end if;
    select count(*), string_agg(w.name, ', ') filter (where w.place <= most) into unused, named
    from (
        select (w.answer ->> 'table') || ' ' || coalesce(w.answer #>> '{row,id}',
                   replace(substring(w.key from '^.[0-9]+:([0-9]+(:[0-9]+)?)'), ':', '–'), '') as name,
               row_number() over (order by w.key) as place
        from hubpg.write_answers w
        where w.pid = pg_backend_pid() and not w.used and not w.answer ? 'skip' and w.answer ?| '{row,read_at}'
    ) w;
    raise exception 'HubSpot has accepted rows that the statement does not change any more'
        using errcode = '40001',
              detail = format('accepted by HubSpot all the same, %s: %s. The tables will follow HubSpot.', unused, named),
              hint = 'rows that they depend on were skipped, or were changed by others meanwhile; look at the rows and repeat the statement if it is still needed';
end
$$;
revoke execute on function hubpg.write_complete() from public;

-- As in 008.
create or replace function hubpg.performed(permit text) returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform hubpg.check_permit(permit);
    perform hubpg.write_complete();
end
$$;

-- As in 007.
create or replace function hubpg.performed(permit text, locks bigint[]) returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform hubpg.check_permit(permit);
    perform hubpg.write_complete();
    if locks is null then
        perform hubpg.unlock_tables();
        return;
    end if;
    perform pg_advisory_unlock_shared(k) from unnest(locks) k;
    delete from hubpg.write_answers w where w.pid = pg_backend_pid();
    delete from hubpg.write_sessions s where s.pid = pg_backend_pid();
end
$$;

-- As in 008, with what differs looked for once and among values only.
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
            was := jsonb_strip_nulls(to_jsonb(old));
        else
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
        insert into hubpg.write_capture (pid, schema_name, table_name, op, old_row, new_row)
        values (pg_backend_pid(), tg_table_schema, tg_table_name, lower(tg_op), was, is_);
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
