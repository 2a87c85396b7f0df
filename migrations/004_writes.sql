-- Writes: what lets a client of the proxy change a mirrored table, and everyone else not.
--
-- A statement runs twice in the client's own transaction: a rehearsal, rolled back, in which triggers capture what it
-- would do, and a performance, in which they replace each row by what HubSpot answered. Which of the two a session is in
-- stands in hubpg.write_sessions, where no client can put it without a permit.

alter table hubpg.objects add column lock_key bigint; -- the advisory lock that appliers of the table take

create table hubpg.writes (
    id              bigint      not null generated always as identity constraint writes_pkey primary key,
    portal_id       bigint      not null constraint writes_account_fkey references hubpg.accounts on delete cascade,
    at              timestamptz not null default now(),
    touched_at      timestamptz not null default now(), -- when the status last moved
    settled_at      timestamptz,                        -- null while HubSpot and the tables may differ because of it
    status          text        not null
        constraint writes_status_check check (status in
            ('intent', 'sent', 'accepted', 'refused', 'ambiguous', 'settled', 'rolled_back', 'repaired')),
    role            text        not null,
    database        text        not null default '',
    application     text        not null default '',
    client          text        not null default '',
    statement       text        not null default '',
    pid             integer     not null,
    xid             xid8,                               -- the client's transaction
    rows            integer     not null,
    calls           integer     not null default 0,
    progress        jsonb       not null default '{}', -- by table
    intent          jsonb       not null,
    outcome         jsonb,
    correlation_ids text[]      not null default '{}',
    error           text
);
create index writes_open_idx on hubpg.writes (portal_id, id) where settled_at is null;
create index writes_at_idx on hubpg.writes (at);
comment on table hubpg.writes is 'every statement that changed HubSpot through the proxy: what it meant to do, written before the first call, and what became of it';
comment on column hubpg.writes.progress is 'by table: how many rows HubSpot has accepted so far, and how many there are';
comment on column hubpg.writes.intent is 'one element per row: table, op, id, and the properties before and after';
comment on column hubpg.writes.outcome is 'one element per row: the record''s id and what HubSpot said';

alter view hubpg.status rename to lane_status;
comment on view hubpg.lane_status is 'hubpg.status without what writers add';

create view hubpg.status as
with sending as (
    select w.portal_id, p.key as table_name, sum((p.value ->> 1)::bigint) as rows, sum((p.value ->> 0)::bigint) as done
    from hubpg.writes w
    cross join jsonb_each(w.progress) p
    where w.settled_at is null and w.status in ('intent', 'sent')
    group by w.portal_id, p.key
)
select l.*, s.rows::bigint as rows_sending, s.done::bigint as rows_sent
from hubpg.lane_status l
left join sending s on s.portal_id = l.portal_id and s.table_name = l.table_name;
comment on view hubpg.status is 'one row per mirrored table: rows, progress of its first filling, how far behind HubSpot it may be, and what is wrong with it; rows_sending is how many rows statements under way want to change in HubSpot, rows_sent how many of these it has taken';

create table hubpg.write_secret (
    only_row boolean not null default true constraint write_secret_pkey primary key
        constraint write_secret_only_row_check check (only_row),
    key      bytea   not null
);
comment on table hubpg.write_secret is 'what permits are made with; readable by hubpg alone';
insert into hubpg.write_secret (key)
select decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex');

create unlogged table hubpg.write_sessions (
    pid  integer not null constraint write_sessions_pkey primary key,
    xid  xid8    not null,
    mode text    not null constraint write_sessions_mode_check check (mode in ('rehearse', 'perform'))
);
comment on table hubpg.write_sessions is 'the sessions whose present statement is a rehearsal or a performance';

create unlogged table hubpg.write_capture (
    n           bigint  not null generated always as identity constraint write_capture_pkey primary key,
    pid         integer not null,
    schema_name text    not null,
    table_name  text    not null,
    op          text    not null,
    old_row     jsonb,
    new_row     jsonb
);
create index write_capture_pid_idx on hubpg.write_capture (pid, n);
comment on table hubpg.write_capture is 'what rehearsals did; never committed';

create unlogged table hubpg.write_answers (
    pid    integer not null,
    key    text    not null, -- i<row>: the row proposed as number <row>; u<table>:<key>, d<table>:<key>: an update, a deletion
    answer jsonb   not null, -- table, row, overflow, unparsed, read_at; or skip
    used   boolean not null default false,
    constraint write_answers_pkey primary key (pid, key)
);
comment on table hubpg.write_answers is 'what HubSpot answered to the rows of the statement that is being performed';

create table hubpg.write_changes (
    id          bigint      not null generated always as identity constraint write_changes_pkey primary key,
    portal_id   bigint      not null,
    at          timestamptz not null default clock_timestamp(),
    schema_name text        not null,
    table_name  text        not null,
    record_id   bigint      not null,
    op          text        not null,
    changed     text[]      not null default '{}',
    before      jsonb,
    after       jsonb
);
create index write_changes_table_idx on hubpg.write_changes (portal_id, table_name, id);
comment on table hubpg.write_changes is
    'differences that committed writes made and that are not in hubpg.changes yet: a client''s transaction may be long and of any isolation level, so it never takes the counter of the log';

create table hubpg.association_types (
    portal_id  bigint  not null constraint association_types_account_fkey references hubpg.accounts on delete cascade,
    table_name text    not null,
    category   text    not null,
    type_id    integer not null,
    label      text,
    constraint association_types_pkey primary key (portal_id, table_name, category, type_id)
);
comment on table hubpg.association_types is 'the types of association of each association table, from its first to its second column, as far as writes have asked';

-- A permit is a nonce and its message authentication code for this backend. It needs no row that a transaction with an
-- old snapshot could not see, dies with the backend, and is never shown to the client's SQL.
create function hubpg.check_permit(permit text) returns void
    language plpgsql stable security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    held bytea := (select s.key from hubpg.write_secret s);
    said bytea := convert_to(left(permit, 32) || ':' || pg_backend_pid(), 'UTF8');
begin
    if permit is null or encode(sha256(held || sha256(held || said)), 'hex') is distinct from substr(permit, 33) then
        raise exception 'this session holds no permit to write'
            using errcode = '42501', hint = 'these functions are for the hubpg proxy; send the statement itself through it';
    end if;
end
$$;
revoke execute on function hubpg.check_permit(text) from public;

create function hubpg.write_mode(permit text, mode text) returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
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
revoke execute on function hubpg.write_mode(text, text) from public;

create function hubpg.rehearse(permit text) returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform hubpg.write_mode(permit, 'rehearse');
    delete from hubpg.write_capture c where c.pid = pg_backend_pid();
end
$$;
comment on function hubpg.rehearse(text) is 'from here to the rollback of the savepoint, changes of mirrored tables are captured';

create function hubpg.captured(permit text)
    returns table (n bigint, schema_name text, table_name text, op text, old_row jsonb, new_row jsonb)
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform hubpg.check_permit(permit);
    return query
        select row_number() over (order by c.n), c.schema_name, c.table_name, c.op,
               c.old_row || case when c.old_row is not null then jsonb_build_object('_xid', pg_current_xact_id()::text) end,
               c.new_row || case when c.new_row is not null then jsonb_build_object('_xid', pg_current_xact_id()::text) end
        from hubpg.write_capture c
        where c.pid = pg_backend_pid()
        order by c.n;
end
$$;
comment on function hubpg.captured(text) is 'what the rehearsal would do, in its order; _xid is the client''s transaction';

-- The locks belong to the session, not to the transaction, because they end before it does. Writers share them; appliers,
-- which take them alone, wait. Both take those of association tables last. An applier may wait for a row that this very
-- transaction has changed, and would be waited for here: it gives up before long, so that what was taken is let go and
-- taken again.
create function hubpg.lock_tables(permit text, tables text[]) returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    most   constant integer := 20; -- each costs deadlock_timeout
    wanted bigint[];
    taken  integer := 0;
    tries  integer := 1;
begin
    perform hubpg.check_permit(permit);
    select coalesce(array_agg(o.lock_key order by o.kind = 'association', o.lock_key), '{}') into wanted
    from hubpg.objects o
    join hubpg.accounts a using (portal_id)
    where a.schema_name || '.' || o.table_name = any (tables) and o.lock_key is not null;
    while taken < cardinality(wanted) loop
        begin
            perform pg_advisory_lock_shared(wanted[taken + 1]);
            taken := taken + 1;
        exception when deadlock_detected then
            if tries = most then
                raise;
            end if;
            tries := tries + 1;
            while taken > 0 loop
                perform pg_advisory_unlock_shared(wanted[taken]);
                taken := taken - 1;
            end loop;
        end;
    end loop;
end
$$;
comment on function hubpg.lock_tables(text, text[]) is 'keeps appliers out of these tables until unlock_tables';

create function hubpg.unlock_tables() returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    held bigint;
begin
    for held in
        select o.lock_key
        from pg_locks l
        join hubpg.objects o on o.lock_key = (l.classid::bigint << 32 | l.objid::bigint)
        where l.locktype = 'advisory' and l.objsubid = 1 and l.pid = pg_backend_pid() and l.mode = 'ShareLock' and l.granted
    loop
        while pg_advisory_unlock_shared(held) loop
            exit when not exists (
                select from pg_locks l
                where l.locktype = 'advisory' and l.objsubid = 1 and l.pid = pg_backend_pid() and l.mode = 'ShareLock'
                and (l.classid::bigint << 32 | l.objid::bigint) = held);
        end loop;
    end loop;
    if not current_setting('transaction_read_only')::boolean then
        delete from hubpg.write_answers w where w.pid = pg_backend_pid();
        delete from hubpg.write_sessions s where s.pid = pg_backend_pid();
    end if;
end
$$;
comment on function hubpg.unlock_tables() is 'ends the performance and lets appliers in again';

create function hubpg.unlock_tables(permit text) returns void
    language sql
    set search_path = pg_catalog, pg_temp
as $$ select hubpg.unlock_tables() $$;
comment on function hubpg.unlock_tables(text) is 'unlock_tables(); the permit is not needed';

create function hubpg.answer(permit text, answers jsonb) returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform hubpg.check_permit(permit);
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
comment on function hubpg.answer(text, jsonb) is 'what the rows of the performance become';

create function hubpg.perform(permit text) returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
begin
    perform hubpg.write_mode(permit, 'perform');
end
$$;
comment on function hubpg.perform(text) is 'from here to unlock_tables, changes of mirrored tables become HubSpot''s answers';

create function hubpg.performed(permit text) returns void
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
as $$
declare
    most   constant integer := 100;
    unused integer;
    named  text;
begin
    perform hubpg.check_permit(permit);
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
comment on function hubpg.performed(text) is 'fails if the performance has left out what HubSpot has accepted';

-- Guards. The statement trigger runs with the rights of whoever writes: the setting that marks an applier counts only for
-- the table's owner. A statement that changes no row passes, so that the proxy may run it as it is.
create function hubpg.write_guard() returns trigger
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    if current_setting('hubpg.applier', true) = 'on' then
        if current_user = (select pg_get_userbyid(c.relowner) from pg_class c where c.oid = tg_relid) then
            return null;
        end if;
    elsif tg_argv[0] = 'write' and tg_op <> 'TRUNCATE' then
        return null; -- the row triggers decide
    end if;
    if tg_argv[0] = 'write' then
        raise exception '%.% mirrors HubSpot and cannot be changed directly', tg_table_schema, tg_table_name
            using errcode = 'HS001', schema = tg_table_schema, table = tg_table_name,
                  hint = 'send INSERT, UPDATE and DELETE through the hubpg proxy, which changes HubSpot first';
    end if;
    raise exception '%.% mirrors HubSpot and is read-only', tg_table_schema, tg_table_name
        using errcode = 'HS001', schema = tg_table_schema, table = tg_table_name,
              hint = 'change it in HubSpot; the table follows within a minute';
end
$$;

-- What the session is in; an error if in nothing. A row that is only proposed for insertion may still meet one that is
-- there and change nothing, so its refusal waits for the after trigger: null until then.
create function hubpg.write_step(schema_name text, table_name text, proposed boolean default false) returns text
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
                  hint = 'send the statement through the hubpg proxy, which changes HubSpot first; a direct connection may only read';
    end if;
    return step;
end
$$;
revoke execute on function hubpg.write_step(text, text, boolean) from public;

create function hubpg.write_changed_meanwhile(schema_name text, table_name text) returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception 'rows of %.% changed while the statement was sent to HubSpot', schema_name, table_name
        using errcode = '40001', schema = schema_name, table = table_name,
              detail = 'HubSpot has what the statement meant at first; the table will follow HubSpot.',
              hint = 'look at the rows and repeat the statement if it is still needed';
end
$$;

-- What a row becomes: its columns as answered, everything else as it was.
create function hubpg.write_record() returns trigger
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
            update hubpg.write_answers w set used = true where w.pid = pg_backend_pid() and w.key = 'i' || ordinal
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
    if said is null then
        perform hubpg.write_changed_meanwhile(tg_table_schema, tg_table_name);
    end if;
    if said ? 'skip' then
        return null;
    end if;
    if tg_op = 'DELETE' then
        return old;
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
revoke execute on function hubpg.write_record() from public;

-- A row as the change log shows it.
create function hubpg.write_flat(record jsonb, stamps text[]) returns jsonb
    language sql immutable
as $$
    select jsonb_strip_nulls((record - '{_overflow,_read_at,_unparsed,archived_at}'::text[])
        || case when record ->> '_overflow' is null then '{}' else record -> '_overflow' end
        || case when record ->> '_unparsed' is null then '{}'
                else jsonb_build_object('_unparsed', nullif((record -> '_unparsed') - stamps, '{}')) end) - stamps
$$;

-- Arguments: the account, then the columns that hold HubSpot's stamps.

create function hubpg.write_record_done() returns trigger
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
            where to_jsonb(old) ? k;
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
        names := array(
            select k
            from (select jsonb_object_keys(was) union select jsonb_object_keys(is_)) u(k)
            where was -> k is distinct from is_ -> k and k not in ('id', 'created_at', 'updated_at'));
        if names <> '{}' then
            insert into hubpg.write_changes (portal_id, schema_name, table_name, record_id, op, changed, before, after)
            select tg_argv[0]::bigint, tg_table_schema, tg_table_name, new.id, 'update', names,
                   jsonb_object_agg(k, coalesce(was -> k, 'null')), jsonb_object_agg(k, coalesce(is_ -> k, 'null'))
            from unnest(names) k;
        end if;
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
revoke execute on function hubpg.write_record_done() from public;

-- Association tables. Arguments: the account, the columns of both ends.
create function hubpg.write_edge() returns trigger
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
            update hubpg.write_answers w set used = true where w.pid = pg_backend_pid() and w.key = 'i' || ordinal
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
    if said is null then
        perform hubpg.write_changed_meanwhile(tg_table_schema, tg_table_name);
    end if;
    if said ? 'skip' then
        return null;
    elsif tg_op = 'DELETE' then
        return old;
    elsif said -> 'row' is null or old._read_at > (said #>> '{row,_read_at}')::timestamptz then
        return old;
    end if;
    return jsonb_populate_record(old, said -> 'row');
end
$$;
revoke execute on function hubpg.write_edge() from public;

create function hubpg.write_edge_done() returns trigger
    language plpgsql security definer
    set search_path = pg_catalog, pg_temp
    set timezone = 'UTC'
as $$
declare
    step text := hubpg.write_step(tg_table_schema, tg_table_name);
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
    if tg_op = 'INSERT' and new._read_at = '-infinity' then
        perform hubpg.write_changed_meanwhile(tg_table_schema, tg_table_name);
    end if;
    if was is distinct from is_ then
        insert into hubpg.write_changes (portal_id, schema_name, table_name, record_id, op, changed, before, after)
        values (tg_argv[0]::bigint, tg_table_schema, tg_table_name, (coalesce(is_, was) ->> tg_argv[1])::bigint,
                case tg_op when 'INSERT' then 'associate' when 'DELETE' then 'dissociate' else 'update' end,
                case tg_op when 'UPDATE' then '{label}'::text[] else '{}' end, was, is_);
    end if;
    if tg_op = 'DELETE' then -- nothing stays that would refuse a read that began before
        insert into hubpg.tombstones as t (portal_id, table_name, record_id, op, read_at)
        select tg_argv[0]::bigint, tg_table_name, (was ->> tg_argv[1])::bigint, 'dissociate', (w.answer ->> 'read_at')::timestamptz
        from hubpg.write_answers w
        where w.pid = pg_backend_pid()
        and w.key = 'd' || tg_relid || ':' || (was ->> tg_argv[1]) || ':' || (was ->> tg_argv[2]) || ':' || old.type_id || ':' || old.category
        on conflict (portal_id, table_name, record_id) do update
        set op = case when excluded.read_at > t.read_at then excluded.op else t.op end,
            read_at = greatest(t.read_at, excluded.read_at);
    end if;
    return null;
end
$$;
revoke execute on function hubpg.write_edge_done() from public;
