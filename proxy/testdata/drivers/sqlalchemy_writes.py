"""SQLAlchemy: contacts of HubSpot created, updated, upserted and deleted through its ORM."""
from sqlalchemy import Column, BigInteger, Text, create_engine, event, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, declarative_base


def ok(name):
    print("ok", name, flush=True)


class Contact(declarative_base()):
    __tablename__ = "contacts"
    __table_args__ = {"schema": "hubspot"}
    id = Column(BigInteger, primary_key=True)
    # SQLAlchemy matches the rows that a bulk insert returns to its objects by a sentinel: unless told otherwise by the
    # order of their ids, which is HubSpot's to choose.
    email = Column(Text, nullable=False, insert_sentinel=True)
    firstname = Column(Text)
    lastname = Column(Text)


for driver in ("psycopg2", "psycopg"):
    engine = create_engine(f"postgresql+{driver}://")
    inserts = []

    @event.listens_for(engine, "before_cursor_execute")
    def note(conn, cursor, statement, parameters, context, executemany):
        if statement.startswith("INSERT"):
            inserts.append(statement)

    name = driver + "-orm"
    email = f"{name}@example.com"
    with Session(engine) as session:
        contact = Contact(email=email, firstname="Created")
        session.add(contact)
        session.commit()
        id = contact.id
        assert id > 0 and contact.firstname == "Created", contact
        many = [Contact(email=f"{name}{n}@example.com", firstname=f"Many {n}") for n in range(5)]
        session.add_all(many)
        inserts.clear()
        session.flush()
        assert len(inserts) == 1 and "RETURNING" in inserts[0], inserts
        for n, one in enumerate(many):
            session.refresh(one)
            assert one.firstname == f"Many {n}", (n, one.firstname)
        session.commit()
    ok("create with " + driver)

    with Session(engine) as session:
        contact = session.get(Contact, id)
        contact.lastname = "Updated"
        session.commit()
        assert session.scalars(select(Contact.lastname).where(Contact.id == id)).one() == "Updated"
        session.query(Contact).where(Contact.email.like(f"{name}_@%")).update({"lastname": "All"}, synchronize_session=False)
        session.commit()
    ok("update with " + driver)

    with Session(engine) as session:
        statement = insert(Contact).values(email=email, firstname="Upserted")
        statement = statement.on_conflict_do_update(index_elements=[Contact.email], set_={"firstname": statement.excluded.firstname})
        contact = session.scalars(statement.returning(Contact), execution_options={"populate_existing": True}).one()
        assert (contact.id, contact.firstname, contact.lastname) == (id, "Upserted", "Updated"), contact.id
        session.commit()
    ok("upsert with " + driver)

    with Session(engine) as session:
        session.delete(session.scalars(select(Contact).where(Contact.email == f"{name}0@example.com")).one())
        session.commit()
    ok("delete with " + driver)
    engine.dispose()
