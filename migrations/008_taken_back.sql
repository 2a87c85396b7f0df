-- A statement may change rows in a part of it that is taken back before it ends: in a block with an EXCEPTION, say. HubSpot
-- is not asked for those, and nothing is wrong with them unless they stay. The signatures of functions that a proxy asks
-- do not change, since proxies of the version before may go on for as long as they like.

-- As in 007; but a transaction that is read-only gets Postgres's own refusal, if the statement changes anything at all.
create or replace function hubpg.rehearse(
    permit text, out application text, out writes text, out on_row_error text, out timeout bigint, out impatient boolean)
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('transaction_read_only')::boolean then
        perform hubpg.check_permit(permit);
    else
        perform hubpg.write_mode(permit, 'rehearse');
        delete from hubpg.write_capture c where c.pid = pg_backend_pid();
    end if;
    application := current_setting('application_name');
    writes := coalesce(current_setting('hubpg.writes', true), '');
    on_row_error := coalesce(current_setting('hubpg.on_row_error', true), '');
    timeout := extract(epoch from current_setting('statement_timeout')::interval) * 1000;
    impatient := current_setting('idle_in_transaction_session_timeout')::interval > interval '0';
end
$$;

create or replace function hubpg.captured(permit text)
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

-- For a statement that has changed nothing, as it is run for the client to see.
create function hubpg.unchanged(permit text) returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform hubpg.check_permit(permit);
    if current_setting('transaction_read_only')::boolean then
        return;
    end if;
    if exists (select from hubpg.write_capture c where c.pid = pg_backend_pid()) then
        raise exception 'rows of HubSpot changed while the statement was looked at'
            using errcode = 'HS001', hint = 'repeat the statement';
    end if;
    delete from hubpg.write_sessions s where s.pid = pg_backend_pid();
end
$$;
comment on function hubpg.unchanged(text) is
    'ends a rehearsal that is not taken back; fails if it has changed a mirrored table after all';

-- As in 004; and what the performance has changed without an answer of HubSpot's must not have stayed.
create or replace function hubpg.performed(permit text) returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    most   constant integer := 100;
    unused integer;
    named  text;
    other  record;
begin
    perform hubpg.check_permit(permit);
    select c.schema_name, c.table_name into other
    from hubpg.write_capture c
    where c.pid = pg_backend_pid()
    order by c.n
    limit 1;
    if found then
        perform hubpg.write_changed_meanwhile(other.schema_name, other.table_name);
    end if;
    select count(*), string_agg(w.name, ', ') filter (where w.place <= most) into unused, named
    from (
        select (w.answer ->> 'table') || ' ' || coalesce(w.answer #>> '{row,id}',
                   replace(substring(w.key from '^.[0-9]+:([0-9]+(:[0-9]+)?)'), ':', '–'), '') as name,
               row_number() over (order by w.key) as place
        from hubpg.write_answers w
        where w.pid = pg_backend_pid() and not w.used and not w.answer ? 'skip' and w.answer ?| '{row,read_at}'
    ) w;
    if unused > 0 then
        raise exception 'HubSpot has accepted rows that the statement does not change any more'
            using errcode = '40001',
                  detail = format('accepted by HubSpot all the same, %s: %s. The tables will follow HubSpot.', unused, named),
                  hint = 'rows that they depend on were skipped, or were changed by others meanwhile; look at the rows and repeat the statement if it is still needed';
    end if;
end
$$;

-- As in 004, with a hint for statements in which the proxy could not see what they change.
create or replace function hubpg.write_step(schema_name text, table_name text, proposed boolean default false) returns text
    language plpgsql stable security definer
    set search_path = pg_catalog, pg_temp
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

-- As in 004; a change without an answer is left to the after trigger, and to what becomes of it.
create or replace function hubpg.write_record() returns trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
as $$
declare
    step    text := hubpg.write_step(tg_table_schema, tg_table_name, tg_op = 'INSERT');
    ordinal bigint;
    said    jsonb;
begin
    if tg_op = 'INSERT' then
        if new.id <= 0 then
            raise exception 'id must be positive' using errcode = '22023', column = 'id';
        end if;
        ordinal := coalesce(nullif(current_setting('hubpg.write_row', true), ''), '0')::bigint + 1;
        perform set_config('hubpg.write_row', ordinal::text, true);
        if step = 'perform' then
            update hubpg.write_answers w
            set used = true
            where w.pid = pg_backend_pid() and w.key = 'i' || ordinal
            and w.answer ->> 'table' = tg_table_name -- a row that was taken back had the same number
            returning w.answer into said;
        end if;
        if said is null then
            -- A proposal only: it may still meet a row that is there. The after trigger looks at what was inserted.
            new.id := coalesce(new.id, -ordinal);
            new._read_at := case step when 'perform' then '-infinity'::timestamptz else to_timestamp(ordinal) end;
            return new;
        end if;
        if said ? 'skip' then
            return null;
        end if;
        new := jsonb_populate_record(new, said -> 'row');
        new._overflow := nullif(jsonb_strip_nulls(coalesce(said -> 'overflow', '{}')), '{}');
        new._unparsed := nullif(coalesce(said -> 'unparsed', '{}'), '{}');
        return new;
    end if;
    if step = 'rehearse' then
        if tg_op = 'DELETE' then
            return old;
        end if;
        if new.id is distinct from old.id then
            raise exception 'id of %.% cannot be changed', tg_table_schema, tg_table_name
                using errcode = '428C9', schema = tg_table_schema, table = tg_table_name, column = 'id';
        end if;
        return new;
    end if;
    update hubpg.write_answers w
    set used = true
    where w.pid = pg_backend_pid() and w.key = case tg_op when 'UPDATE' then 'u' else 'd' end || tg_relid || ':' || old.id
    returning w.answer into said;
    if said ? 'skip' then
        return null;
    end if;
    if tg_op = 'DELETE' then
        return old;
    end if;
    if said is null then -- the after trigger looks at it
        new._read_at := '-infinity';
        return new;
    end if;
    new := old;
    if said -> 'row' is null
        or (coalesce(old.updated_at, '-infinity'), old._read_at)
            > (coalesce((said #>> '{row,updated_at}')::timestamptz, '-infinity'), (said #>> '{row,_read_at}')::timestamptz) then
        return new; -- nothing was sent, or the row is newer than the answer
    end if;
    new := jsonb_populate_record(old, said -> 'row');
    new._overflow := nullif(jsonb_strip_nulls(coalesce(old._overflow, '{}') || coalesce(said -> 'overflow', '{}')), '{}');
    if old._unparsed is not null or said ? 'unparsed' then
        new._unparsed := nullif((coalesce(old._unparsed, '{}')
            - array(select jsonb_object_keys((said -> 'row') || coalesce(said -> 'overflow', '{}'))))
            || coalesce(said -> 'unparsed', '{}'), '{}');
    end if;
    return new;
end
$$;

-- As in 007; a change without an answer is noted for performed, and only what differs is looked at once more.
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
begin
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
            select array_agg(n.key) into names from jsonb_each(is_) n where n.value is distinct from was -> n.key;
            select jsonb_object_agg(k, was -> k), jsonb_object_agg(k, is_ -> k) into was, is_
            from unnest(names || '{id,archived_at}'::text[]) k
            where was ? k;
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
        if old._overflow is distinct from new._overflow or old._unparsed is distinct from new._unparsed then
            was := hubpg.write_flat(was, tg_argv[1:]);
            is_ := hubpg.write_flat(is_, tg_argv[1:]);
        end if;
        -- Both have the same keys, apart from those of _overflow and _unparsed, and a key that is missing is null.
        insert into hubpg.write_changes (portal_id, schema_name, table_name, record_id, op, changed, before, after)
        select tg_argv[0]::bigint, tg_table_schema, tg_table_name, new.id, 'update', array_agg(k order by k),
               jsonb_object_agg(k, coalesce(was -> k, 'null')), jsonb_object_agg(k, coalesce(is_ -> k, 'null'))
        from (
            select n.key from jsonb_each(is_) n where n.value is distinct from was -> n.key
            union
            select o.key from jsonb_each(was) o where not is_ ? o.key
        ) u (k)
        where k <> all (tg_argv[1:] || '{id,created_at,updated_at,archived_at,_read_at}'::text[])
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

-- As write_record.
create or replace function hubpg.write_edge() returns trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
as $$
declare
    step    text := hubpg.write_step(tg_table_schema, tg_table_name, tg_op = 'INSERT');
    ordinal bigint;
    said    jsonb;
    was     jsonb;
    known   hubpg.association_types;
begin
    if tg_op = 'INSERT' then
        ordinal := coalesce(nullif(current_setting('hubpg.write_row', true), ''), '0')::bigint + 1;
        perform set_config('hubpg.write_row', ordinal::text, true);
        if step = 'perform' then
            update hubpg.write_answers w
            set used = true
            where w.pid = pg_backend_pid() and w.key = 'i' || ordinal
            and w.answer ->> 'table' = tg_table_name -- a row that was taken back had the same number
            returning w.answer into said;
            if said ? 'skip' then
                return null;
            elsif said is not null then
                return jsonb_populate_record(new, said -> 'row');
            end if;
        end if;
        select t.* into known
        from hubpg.association_types t
        where t.portal_id = tg_argv[0]::bigint and t.table_name = tg_table_name
        and case when new.type_id is null then t.label is not distinct from new.label else t.type_id = new.type_id end
        and (new.category is null or t.category = new.category)
        order by t.category = 'HUBSPOT_DEFINED' desc, t.type_id
        limit 1;
        if found then
            new.type_id := known.type_id;
            new.category := known.category;
            new.label := known.label;
        else
            new.type_id := coalesce(new.type_id, 0); -- what it is becomes known when HubSpot is asked
            new.category := coalesce(new.category, '');
        end if;
        new._read_at := case step when 'perform' then '-infinity'::timestamptz else to_timestamp(ordinal) end;
        return new;
    end if;
    if step = 'rehearse' then
        if tg_op = 'DELETE' then
            return old;
        end if;
        return new;
    end if;
    was := to_jsonb(old);
    update hubpg.write_answers w
    set used = true
    where w.pid = pg_backend_pid()
    and w.key = case tg_op when 'UPDATE' then 'u' else 'd' end || tg_relid || ':' || (was ->> tg_argv[1]) || ':'
        || (was ->> tg_argv[2]) || ':' || old.type_id || ':' || old.category
    returning w.answer into said;
    if said ? 'skip' then
        return null;
    elsif tg_op = 'DELETE' then
        return old;
    elsif said is null then -- the after trigger looks at it
        new._read_at := '-infinity';
        return new;
    elsif said -> 'row' is null or old._read_at > (said #>> '{row,_read_at}')::timestamptz then
        return old;
    end if;
    return jsonb_populate_record(old, said -> 'row');
end
$$;

-- As write_record_done.
create or replace function hubpg.write_edge_done() returns trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
as $$
declare
    step text := hubpg.write_step(tg_table_schema, tg_table_name);
    said jsonb;
    was  jsonb;
    is_  jsonb;
begin
    if tg_op <> 'INSERT' then
        was := jsonb_strip_nulls(to_jsonb(old) - '_read_at');
    end if;
    if tg_op <> 'DELETE' then
        is_ := jsonb_strip_nulls(to_jsonb(new) - '_read_at');
    end if;
    if step = 'rehearse' then
        if tg_op = 'INSERT' then
            is_ := is_ || jsonb_build_object('_row', extract(epoch from new._read_at)::bigint);
        end if;
        insert into hubpg.write_capture (pid, schema_name, table_name, op, old_row, new_row)
        values (pg_backend_pid(), tg_table_schema, tg_table_name, lower(tg_op), was, is_);
        return null;
    end if;
    if tg_op = 'DELETE' then
        select w.answer into said
        from hubpg.write_answers w
        where w.pid = pg_backend_pid()
        and w.key = 'd' || tg_relid || ':' || (was ->> tg_argv[1]) || ':' || (was ->> tg_argv[2]) || ':' || old.type_id || ':' || old.category;
    end if;
    if tg_op = 'DELETE' and said is null or tg_op <> 'DELETE' and new._read_at = '-infinity' then
        insert into hubpg.write_capture (pid, schema_name, table_name, op)
        values (pg_backend_pid(), tg_table_schema, tg_table_name, lower(tg_op));
        return null;
    end if;
    if was is distinct from is_ then
        insert into hubpg.write_changes (portal_id, schema_name, table_name, record_id, op, changed, before, after)
        values (tg_argv[0]::bigint, tg_table_schema, tg_table_name, (coalesce(is_, was) ->> tg_argv[1])::bigint,
                case tg_op when 'INSERT' then 'associate' when 'DELETE' then 'dissociate' else 'update' end,
                case tg_op when 'UPDATE' then '{label}'::text[] else '{}' end, was, is_);
    end if;
    if tg_op = 'DELETE' then -- nothing stays that would refuse a read that began before
        insert into hubpg.tombstones as t (portal_id, table_name, record_id, op, read_at)
        values (tg_argv[0]::bigint, tg_table_name, (was ->> tg_argv[1])::bigint, 'dissociate', (said ->> 'read_at')::timestamptz)
        on conflict (portal_id, table_name, record_id) do update
        set op = case when excluded.read_at > t.read_at then excluded.op else t.op end,
            read_at = greatest(t.read_at, excluded.read_at);
    end if;
    return null;
end
$$;
