"""SQLAlchemy: reflection of the mirrored schema, automap, queries over what was reflected."""
import sys

from sqlalchemy import MetaData, create_engine, func, inspect, select, text
from sqlalchemy.ext.automap import automap_base
from sqlalchemy.orm import Session


def ok(name):
    print("ok", name, flush=True)


for driver in ("psycopg2", "psycopg"):
    engine = create_engine(f"postgresql+{driver}://", pool_size=2)
    with engine.connect() as conn:
        assert conn.execute(text("select count(*) from hubspot.deals")).scalar() == 2
    inspector = inspect(engine)
    assert set(inspector.get_table_names(schema="hubspot")) == {"deals", "contacts", "deals_contacts"}
    assert inspector.get_view_names(schema="hubspot") == ["open_deals"]
    columns = {c["name"]: c for c in inspector.get_columns("deals", schema="hubspot")}
    assert str(columns["amount"]["type"]) == "NUMERIC" and columns["amount"]["comment"] == "Amount in the deal's currency"
    assert inspector.get_pk_constraint("deals", schema="hubspot")["constrained_columns"] == ["id"]
    assert len(inspector.get_foreign_keys("deals_contacts", schema="hubspot")) == 2
    assert {i["name"] for i in inspector.get_indexes("deals", schema="hubspot")} == {"deals_dealstage_idx"}

    metadata = MetaData(schema="hubspot")
    metadata.reflect(engine)
    deals = metadata.tables["hubspot.deals"]
    with engine.connect() as conn:
        assert conn.execute(select(func.sum(deals.c.amount))).scalar() == 300

    base = automap_base()
    base.prepare(autoload_with=engine, schema="hubspot")
    with Session(engine) as session:
        deal = session.get(base.classes.deals, 1)
        assert [c.email for c in deal.contacts_collection] == ["a@example.com"], deal
    engine.dispose()
    ok("reflection with " + driver)
sys.exit(0)
