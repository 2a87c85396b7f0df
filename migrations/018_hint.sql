-- What the same transaction has made is known to the proxy by now: as in 017, without saying that it is not.

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
                  hint = 'send the statement through the hubpg proxy, which changes HubSpot first; a direct connection may only read. If it came through the proxy, it hides the table''s name: write that into the text of a DO, or into a comment in the body of a function. What another session made a moment ago the proxy knows some seconds later';
    end if;
    return step;
end
$$;
