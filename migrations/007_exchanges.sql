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
    set search_path = pg_catalog, pg_temp
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
