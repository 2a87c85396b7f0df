-- What a statement that writes asks of Postgres takes fewer exchanges, and each of them less time. The functions that are
-- not asked any more stay for a proxy of the version before, which may still be finishing transactions.

-- Its answer is what the session has set, so that this needs no exchange of its own.
drop function hubpg.rehearse(text);
create function hubpg.rehearse(
    permit text, out application text, out writes text, out on_row_error text, out timeout bigint, out impatient boolean)
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform hubpg.write_mode(permit, 'rehearse');
    delete from hubpg.write_capture c where c.pid = pg_backend_pid();
    application := current_setting('application_name');
    writes := coalesce(current_setting('hubpg.writes', true), '');
    on_row_error := coalesce(current_setting('hubpg.on_row_error', true), '');
    timeout := extract(epoch from current_setting('statement_timeout')::interval) * 1000;
    impatient := current_setting('idle_in_transaction_session_timeout')::interval > interval '0';
end
$$;
comment on function hubpg.rehearse(text) is
    'from here to the rollback of the savepoint, changes of mirrored tables are captured; timeout in ms, impatient where the session may not wait inside a transaction';

-- The locks are those of lock_tables. They stay when the savepoint is rolled back, since they belong to the session. Rows
-- that the rehearsal has changed are locked still, so nothing may be waited for here.
drop function hubpg.captured(text);
create function hubpg.captured(permit text)
    returns table (n bigint, schema_name text, table_name text, op text, old_row jsonb, new_row jsonb, locks bigint[])
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    wanted bigint[];
    taken  integer := 0;
    mark   jsonb := jsonb_build_object('_xid', pg_current_xact_id()::text);
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
comment on function hubpg.captured(text) is
    'what the rehearsal would do, in its order; _xid is the client''s transaction; locks are what keeps appliers out from now on, null where that has to be waited for by lock_tables';

create function hubpg.perform(permit text, answers jsonb) returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform hubpg.write_mode(permit, 'perform');
    delete from hubpg.write_answers w where w.pid = pg_backend_pid();
    insert into hubpg.write_answers (pid, key, answer)
    select pg_backend_pid(),
           case when a.value ? 'n' then 'i' || (a.value ->> 'n')
                else left(a.value ->> 'op', 1) || to_regclass(format('%I.%I', a.value ->> 'schema', a.value ->> 'table'))::oid
                     || ':' || (a.value ->> 'key')
           end,
           a.value - '{n,op,schema,key}'::text[]
    from jsonb_array_elements(answers) a;
end
$$;
comment on function hubpg.perform(text, jsonb) is
    'from here to performed, changes of mirrored tables become what HubSpot answered, which is answers';

create function hubpg.performed(permit text, locks bigint[]) returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform hubpg.performed(permit);
    if locks is null then
        perform hubpg.unlock_tables();
        return;
    end if;
    perform pg_advisory_unlock_shared(k) from unnest(locks) k;
    delete from hubpg.write_answers w where w.pid = pg_backend_pid();
    delete from hubpg.write_sessions s where s.pid = pg_backend_pid();
end
$$;
comment on function hubpg.performed(text, bigint[]) is
    'ends the performance and lets appliers in again; fails if it has left out what HubSpot has accepted';

-- As in 004, in a language whose plans outlive a transaction.
create or replace function hubpg.write_flat(record jsonb, stamps text[]) returns jsonb
    language plpgsql immutable
as $$
declare
    flat jsonb := record - '{_overflow,_read_at,_unparsed,archived_at}'::text[];
begin
    if record ->> '_overflow' is not null then
        flat := flat || (record -> '_overflow');
    end if;
    if record ->> '_unparsed' is not null then
        flat := flat || jsonb_build_object('_unparsed', nullif((record -> '_unparsed') - stamps, '{}'));
    end if;
    return jsonb_strip_nulls(flat) - stamps;
end
$$;

-- As in 004, with each row made JSON once.
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
    gone  timestamptz;
begin
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
        if new._read_at = '-infinity' then
            perform hubpg.write_changed_meanwhile(tg_table_schema, tg_table_name);
        end if;
        is_ := hubpg.write_flat(to_jsonb(new), tg_argv[1:]);
        names := array(select jsonb_object_keys(is_ - '{id,created_at,updated_at}'::text[]));
        insert into hubpg.write_changes (portal_id, schema_name, table_name, record_id, op, changed, after)
        values (tg_argv[0]::bigint, tg_table_schema, tg_table_name, new.id, 'insert', names, is_);
    elsif tg_op = 'UPDATE' then
        was := hubpg.write_flat(to_jsonb(old), tg_argv[1:]);
        is_ := hubpg.write_flat(to_jsonb(new), tg_argv[1:]);
        insert into hubpg.write_changes (portal_id, schema_name, table_name, record_id, op, changed, before, after)
        select tg_argv[0]::bigint, tg_table_schema, tg_table_name, new.id, 'update', array_agg(k order by k),
               jsonb_object_agg(k, coalesce(was -> k, 'null')), jsonb_object_agg(k, coalesce(is_ -> k, 'null'))
        from (select jsonb_object_keys(was) union select jsonb_object_keys(is_)) u(k)
        where was -> k is distinct from is_ -> k and k not in ('id', 'created_at', 'updated_at')
        having count(*) > 0;
    else
        insert into hubpg.write_changes (portal_id, schema_name, table_name, record_id, op, before)
        values (tg_argv[0]::bigint, tg_table_schema, tg_table_name, old.id, 'delete', hubpg.write_flat(to_jsonb(old), tg_argv[1:]));
        insert into hubpg.tombstones as t (portal_id, table_name, record_id, op, read_at)
        select tg_argv[0]::bigint, tg_table_name, old.id, 'delete', (w.answer ->> 'read_at')::timestamptz
        from hubpg.write_answers w
        where w.pid = pg_backend_pid() and w.key = 'd' || tg_relid || ':' || old.id
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
