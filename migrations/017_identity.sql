-- The ids of object tables are identity columns: what reads the catalogs, a mapper above all, learns so that they need not be given. HubSpot
-- gives them; the sequence counts down from far below any of its ids, and the trigger takes its values for what they are.

-- As in 014; an id that the column has given itself is none.
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

-- As in 013, with a hint for what was made a moment ago.
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
                  hint = 'send the statement through the hubpg proxy, which changes HubSpot first; a direct connection may only read. If it came through the proxy, it hides the table''s name: write that into the text of a DO, or into a comment in the body of a function. What another session made a moment ago the proxy knows some seconds later, what the same transaction made after its end';
    end if;
    return step;
end
$$;
