"""psycopg 2: libpq, simple protocol."""
import datetime
import decimal
import io
import json
import os
import select
import threading
import time
import uuid

import psycopg2
import psycopg2.errors
import psycopg2.extras


def ok(name):
    print("ok", name, flush=True)


def heard(conn):
    end = time.monotonic() + 10
    while not conn.notifies:
        assert time.monotonic() < end, "no notification"
        select.select([conn], [], [], 1)
        conn.poll()
    return conn.notifies.pop(0)


conn = psycopg2.connect("")
conn.autocommit = True
cur = conn.cursor()
cur.execute("select current_user, (select ssl from pg_stat_ssl where pid = pg_backend_pid())")
assert cur.fetchone()[0] == os.environ["PGUSER"]
assert bool(conn.info.ssl_in_use) == bool(os.environ["HUBPG_CA"])
ok("connect")

psycopg2.extras.register_uuid()
row = (7, 2**53 + 1, decimal.Decimal("1.50"), True, datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, datetime.timezone.utc),
       datetime.date(2026, 1, 2), ["a", 'b,"c"', None], uuid.UUID(int=1), None, "é")
cur.execute("select %s::int4, %s::int8, %s::numeric, %s::bool, %s::timestamptz, %s::date, %s::text[], %s::uuid, %s::text, %s::text", row)
assert cur.fetchone() == row
cur.execute("select %s::jsonb, %s::bytea", (psycopg2.extras.Json({"a": [1, "é"]}), psycopg2.Binary(b"\0\xff")))
document, raw = cur.fetchone()
assert document == {"a": [1, "é"]} and bytes(raw) == b"\0\xff"
ok("types")

cur.execute("prepare twice as select $1::int * 2")
for i in range(5):
    cur.execute("execute twice (%s)", (i,))
    assert cur.fetchone() == (2 * i,)
ok("prepared")

cur.execute("create temp table t (id int primary key, name text)")
psycopg2.extras.execute_values(cur, "insert into t values %s", [(i, f"name {i}") for i in range(1000)])
psycopg2.extras.execute_batch(cur, "update t set name = %s where id = %s", [(f"new {i}", i) for i in range(1000)])
cur.execute("select count(*) from t where name like 'new %'")
assert cur.fetchone() == (1000,)
ok("batch")

cur.execute("truncate t")
text = "".join(f"{i}\tname {i}\n" for i in range(20000))
cur.copy_expert("copy t from stdin", io.StringIO(text))
out = io.StringIO()
cur.copy_expert("copy t to stdout", out)
assert out.getvalue() == text
try:
    cur.copy_expert("copy t from stdin", io.StringIO("not a number\tx\n"))
    raise AssertionError("a bad row was taken")
except psycopg2.errors.InvalidTextRepresentation:
    pass
ok("copy")

big = "x" * (8 << 20)
cur.execute("select %s", (big,))
assert cur.fetchone()[0] == big
ok("large")

try:
    cur.execute("select 1/0")
    raise AssertionError("divided by zero")
except psycopg2.errors.DivisionByZero:
    pass
cur.execute("select 1")
assert cur.fetchone() == (1,)
ok("error")

conn.autocommit = False
cur.execute("delete from t")
conn.rollback()
cur.execute("select count(*) from t")
assert cur.fetchone() == (20000,)
with conn.cursor("named") as served:  # a cursor of the server's
    served.itersize = 100
    served.execute("select id from t order by id")
    assert sum(r[0] for r in served) == 199990000
conn.commit()
conn.autocommit = True
ok("transaction")

threading.Timer(0.2, conn.cancel).start()
try:
    cur.execute("select pg_sleep(30)")
    raise AssertionError("was not cancelled")
except psycopg2.errors.QueryCanceled:
    pass
cur.execute("select 2")
assert cur.fetchone() == (2,)
ok("cancel")

cur.execute("listen native; notify native, 'hello'")
n = heard(conn)
assert (n.channel, n.payload) == ("native", "hello")
ok("listen native")

cur.execute("listen hubspot_deals")
other = psycopg2.connect("")
other.autocommit = True
with other.cursor() as o:
    o.execute("select ring()")
    (seq,) = o.fetchone()
n = heard(conn)
assert n.channel == "hubspot_deals" and json.loads(n.payload)["seq"] == seq, n
ok("listen hubspot")
other.close()
conn.close()
