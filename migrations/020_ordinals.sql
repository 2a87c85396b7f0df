-- The numbers of new rows within a statement survive what a PL/pgSQL function takes back by an exception block: in a loop that inserts
-- rows and catches unique_violation, the row behind one that was there had that one's number, and HubSpot's answer to it went to that one.

create sequence hubpg.write_ordinals minvalue 0;
comment on sequence hubpg.write_ordinals is
    'each session sets it for itself and reads back what it has set (currval), which no rollback undoes; what it holds means nothing';

-- The number of the next new row. Outside of a rehearsal or performance nothing is set, and a row is only proposed.
create function hubpg.write_ordinal(step text) returns bigint
    language plpgsql
as $$
declare
    ordinal bigint;
begin
    if step is not null then
        return setval('hubpg.write_ordinals', currval('hubpg.write_ordinals') + 1);
    end if;
    ordinal := coalesce(nullif(current_setting('hubpg.write_row', true), ''), '0')::bigint + 1;
    perform set_config('hubpg.write_row', ordinal::text, true);
    return ordinal;
end
$$;
revoke execute on function hubpg.write_ordinal(text) from public;

-- As in 013.
create or replace function hubpg.write_mode(permit text, mode text) returns void
    language plpgsql
as $$
begin
    perform hubpg.check_permit(permit);
    insert into hubpg.write_sessions as s (pid, xid, mode)
    values (pg_backend_pid(), pg_current_xact_id(), write_mode.mode)
    on conflict (pid) do update
    set xid = excluded.xid, mode = excluded.mode;
    perform set_config('hubpg.write_row', '0', true), setval('hubpg.write_ordinals', 0);
end
$$;

create function hubpg.number_from(permit text, past bigint) returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform hubpg.check_permit(permit);
    if not current_setting('transaction_read_only')::boolean then
        perform setval('hubpg.write_ordinals', past);
    end if;
end
$$;
comment on function hubpg.number_from(text, bigint) is 'the new rows of the rehearsal that has begun get the numbers behind past';

-- As in 017.
create or replace function hubpg.write_record() returns trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
as $$
declare
    step    text := hubpg.write_step(tg_table_schema, tg_table_name, tg_op = 'INSERT');
    ordinal bigint;
    said    jsonb;
    email   text;
    first_id constant bigint := -4611686018427387904; -- what is below was given by the column's identity
begin
    if tg_op = 'INSERT' then
        if new.id < first_id then
            new.id := null;
        elsif new.id <= 0 then
            raise exception 'HubSpot gives a record its id; it cannot be chosen'
                using errcode = '428C9', schema = tg_table_schema, table = tg_table_name, column = 'id',
                      hint = 'leave id out, and read it with RETURNING id';
        end if;
        select c.column_name into email
        from hubpg.columns c
        join hubpg.objects o using (portal_id, table_name)
        where c.portal_id = tg_argv[0]::bigint and c.table_name = tg_table_name and c.property = 'email' and c.placement = 'column'
        and o.object_type = '0-1';
        if email = 'email' then
            new.email := lower(new.email collate "C");
        elsif email is not null then -- renamed
            new := jsonb_populate_record(new, jsonb_build_object(email, lower((to_jsonb(new) ->> email) collate "C")));
        end if;
        ordinal := hubpg.write_ordinal(step);
        if step = 'perform' then
            update hubpg.write_answers w
            set used = true
            where w.pid = pg_backend_pid() and w.key = 'i' || ordinal
            and w.answer ->> 'table' = tg_table_name
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

-- As in 008.
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
        ordinal := hubpg.write_ordinal(step);
        if step = 'perform' then
            update hubpg.write_answers w
            set used = true
            where w.pid = pg_backend_pid() and w.key = 'i' || ordinal
            and w.answer ->> 'table' = tg_table_name
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
