"""psycopg 3: libpq, extended protocol, pipeline mode, binary COPY."""
import datetime
import decimal
import json
import os
import threading
import uuid

import psycopg
from psycopg.types.json import Jsonb


def ok(name):
    print("ok", name, flush=True)


conn = psycopg.connect("", autocommit=True)
assert conn.execute("select current_user").fetchone() == (os.environ["PGUSER"],)
assert conn.pgconn.ssl_in_use == bool(os.environ["HUBPG_CA"])
ok("connect")

row = (7, 2**53 + 1, decimal.Decimal("1.50"), True, datetime.datetime(2026, 1, 2, 3, 4, 5, 678000, datetime.timezone.utc),
       datetime.date(2026, 1, 2), ["a", 'b,"c"', None], uuid.UUID(int=1), None, "é", b"\0\xff")
for binary in (False, True):
    cur = conn.cursor(binary=binary)
    got = cur.execute("select %s::int4, %s::int8, %s::numeric, %s::bool, %s::timestamptz, %s::date, %s::text[], %s::uuid, %s::text, %s::text, %s::bytea", row).fetchone()
    assert got == row, got
    assert cur.execute("select %s", (Jsonb({"a": [1, "é"]}),)).fetchone() == ({"a": [1, "é"]},)
ok("types")

for i in range(10):
    assert conn.execute("select %s::int * 2", (i,), prepare=True).fetchone() == (2 * i,)
ok("prepared")

conn.execute("create temp table t (id int primary key, name text)")
with conn.pipeline() as pipeline:
    cursors = [conn.execute("select %s::int", (i,)) for i in range(300)]
    pipeline.sync()
    assert [c.fetchone()[0] for c in cursors] == list(range(300))
try:
    with conn.pipeline():
        conn.execute("insert into t values (1, 'kept until the error')")
        conn.execute("select 1/%s::int", (0,))
        conn.execute("insert into t values (2, 'skipped')")
    raise AssertionError("divided by zero")
except psycopg.errors.DivisionByZero:
    pass
assert conn.execute("select count(*) from t").fetchone() == (0,)
with conn.cursor() as cur:
    cur.executemany("insert into t values (%s, %s)", [(i, f"name {i}") for i in range(1000)])
assert conn.execute("select count(*) from t").fetchone() == (1000,)
ok("batch")

conn.execute("truncate t")
with conn.cursor() as cur:
    with cur.copy("copy t from stdin (format binary)") as copy:
        copy.set_types(["int4", "text"])
        for i in range(20000):
            copy.write_row((i, f"name {i}"))
    with cur.copy("copy t to stdout") as copy:
        assert sum(int(r[0]) for r in copy.rows()) == 199990000
    try:
        with cur.copy("copy t from stdin") as copy:
            copy.write("not a number\tx\n")
        raise AssertionError("a bad row was taken")
    except psycopg.errors.InvalidTextRepresentation:
        pass
ok("copy")

big = "x" * (8 << 20)
assert conn.execute("select %s::text", (big,)).fetchone()[0] == big
ok("large")

try:
    conn.execute("select 1/0")
    raise AssertionError("divided by zero")
except psycopg.errors.DivisionByZero:
    pass
assert conn.execute("select 1").fetchone() == (1,)
ok("error")

try:
    with conn.transaction():
        conn.execute("delete from t")
        try:
            with conn.transaction():
                conn.execute("select * from nowhere")
        except psycopg.errors.UndefinedTable:
            pass
        raise psycopg.Rollback
except psycopg.Rollback:
    pass
assert conn.execute("select count(*) from t").fetchone() == (20000,)
with conn.transaction(), conn.cursor("named") as served:
    served.execute("select id from t")
    assert sum(r[0] for r in served) == 199990000
ok("transaction")

threading.Timer(0.2, conn.cancel_safe).start()
try:
    conn.execute("select pg_sleep(30)")
    raise AssertionError("was not cancelled")
except psycopg.errors.QueryCanceled:
    pass
assert conn.execute("select 2").fetchone() == (2,)
ok("cancel")

other = psycopg.connect("", autocommit=True)
conn.execute("listen native")
other.execute("notify native, 'hello'")
(n,) = conn.notifies(timeout=10, stop_after=1)
assert (n.channel, n.payload) == ("native", "hello")
ok("listen native")

conn.execute("listen hubspot_deals")
(seq,) = other.execute("select ring()").fetchone()
(n,) = conn.notifies(timeout=10, stop_after=1)
assert n.channel == "hubspot_deals" and json.loads(n.payload)["seq"] == seq, n
ok("listen hubspot")
other.close()
conn.close()
