"""psqlODBC through pyodbc."""
import datetime
import decimal
import glob
import os
import threading

import pyodbc


def ok(name):
    print("ok", name, flush=True)


(library,) = glob.glob("/usr/lib/*/odbc/psqlodbcw.so")
mode = "verify-full" if os.environ["HUBPG_CA"] else "disable"
conn = pyodbc.connect(
    f"DRIVER={library};SERVER={os.environ['PGHOST']};PORT={os.environ['PGPORT']};DATABASE={os.environ['PGDATABASE']};"
    f"UID={os.environ['PGUSER']};PWD={os.environ['PGPASSWORD']};SSLmode={mode};UseServerSidePrepare=1", autocommit=True)
cur = conn.cursor()
assert cur.execute("select current_user::text").fetchone()[0] == os.environ["PGUSER"]
ok("connect")

row = cur.execute("select cast(? as int4), cast(? as int8), cast(? as numeric), cast(? as date), cast(? as text), cast(null as text), cast(? as bytea)",
                  7, 2**53 + 1, decimal.Decimal("1.50"), datetime.date(2026, 1, 2), "é", b"\0\xff").fetchone()
assert tuple(row) == (7, 2**53 + 1, decimal.Decimal("1.50"), datetime.date(2026, 1, 2), "é", None, b"\0\xff"), row
ok("types")

for i in range(10):
    assert cur.execute("select cast(? as int) * 2", i).fetchone()[0] == 2 * i
ok("prepared")

cur.execute("create temp table t (id int primary key, name text)")
cur.executemany("insert into t values (?, ?)", [(i, f"name {i}") for i in range(1000)])
assert cur.execute("select count(*) from t").fetchone()[0] == 1000
ok("batch")

big = "x" * (4 << 20)
assert len(cur.execute("select repeat('x', ?)", len(big)).fetchone()[0]) >= 8190  # the driver's limit of a long value
ok("large")

try:
    cur.execute("select 1/0")
    raise AssertionError("divided by zero")
except pyodbc.Error as e:
    assert e.args[0] == "22012", e
assert cur.execute("select 1").fetchone()[0] == 1
ok("error")

conn.autocommit = False
cur.execute("delete from t")
conn.rollback()
assert cur.execute("select count(*) from t").fetchone()[0] == 1000
conn.commit()
conn.autocommit = True
ok("transaction")

canceller = threading.Timer(0.3, cur.cancel)
canceller.start()
try:
    cur.execute("select pg_sleep(30)")
    raise AssertionError("was not cancelled")
except pyodbc.Error as e:
    assert e.args[0] in ("57014", "HY008"), e
# The driver manager closes the statement's cursor when SQLCancel returns, which may be after the statement has failed:
# whoever goes on before that loses the next result, on Postgres itself too.
canceller.join()
assert cur.execute("select 2").fetchone()[0] == 2
ok("cancel")

names = {(r.table_name, r.column_name) for r in cur.columns(schema="hubspot")}
assert ("deals", "dealstage") in names and ("contacts", "email") in names, names
assert [r.column_name for r in cur.primaryKeys("deals", schema="hubspot")] == ["id"]
ok("introspection")
conn.close()
