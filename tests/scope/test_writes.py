"""A session of one user writes that user's rows, and neither changes nor takes in any other's; on every driver."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import func, orm

from netra_chdb import DataAccess, SessionFactory, create_engine, errors, models

Event = models.analytics.Event
Health = models.analytics.SystemHealthMetric
EVENTS: Any = Event.__table__


def event_of(user_id: str | None = None, name: str = "click") -> dict[str, Any]:
    row = {"event_id": uuid.uuid4().hex, "timestamp": dt.datetime.now(dt.UTC), "event_type": "ui", "event_name": name}
    return row if user_id is None else {**row, "user_id": user_id}


@pytest.fixture
def sessions(data: DataAccess) -> SessionFactory:
    return SessionFactory(data.engine)


@pytest.fixture
def other(data: DataAccess) -> str:
    """A user with two rows."""
    user_id = f"other-{uuid.uuid4().hex}"
    data.events.insert([event_of(user_id, "theirs"), event_of(user_id, "theirs")])
    return user_id


@pytest.fixture
def session(sessions: SessionFactory, user_id: str) -> Iterator[orm.Session]:
    with sessions.for_user(user_id) as session:
        yield session


def names(data: DataAccess, user_id: str) -> list[str]:
    with data.engine.connect() as connection:
        found = sa.select(EVENTS.c.event_name).where(EVENTS.c.user_id == user_id).order_by(EVENTS.c.event_name)
        return list(connection.execute(found).scalars())


def inserts() -> dict[str, Callable[[orm.Session, dict[str, Any]], Any]]:
    return {
        "add": lambda session, row: (session.add(Event(**row)), session.flush()),
        "add_all": lambda session, row: (session.add_all([Event(**row)]), session.flush()),
        "bulk_save_objects": lambda session, row: session.bulk_save_objects([Event(**row)]),
        "bulk_insert_mappings": lambda session, row: session.bulk_insert_mappings(Event, [row]),
        "insert of an entity": lambda session, row: session.execute(sa.insert(Event), [row]),
        "insert of entities": lambda session, row: session.execute(sa.insert(Event), [{**row, "event_id": "2"}, row]),
        "values of an entity": lambda session, row: session.execute(sa.insert(Event).values(**row)),
        "insert of a table": lambda session, row: session.execute(EVENTS.insert(), row),
        "executemany": lambda session, row: session.execute(EVENTS.insert(), [{**row, "event_id": "2"}, row]),
        "values of a table": lambda session, row: session.execute(EVENTS.insert().values(**row)),
        "through the connection": lambda session, row: session.connection().execute(EVENTS.insert(), [row]),
        "values by column": lambda session, row: session.execute(
            EVENTS.insert().values({EVENTS.c[name]: value for name, value in row.items()})
        ),
    }


@pytest.mark.parametrize("way", inserts())
class TestInsert:
    def test_the_users_id_is_filled_in(self, data: DataAccess, session: orm.Session, user_id: str, way: str) -> None:
        inserts()[way](session, event_of())
        assert names(data, user_id) in (["click"], ["click", "click"])

    def test_the_users_id_is_taken(self, data: DataAccess, session: orm.Session, user_id: str, way: str) -> None:
        inserts()[way](session, event_of(user_id))
        assert names(data, user_id) in (["click"], ["click", "click"])

    def test_another_users_id_is_refused(
        self, data: DataAccess, session: orm.Session, user_id: str, other: str, way: str
    ) -> None:
        with pytest.raises(errors.NetraError, match=f"session for user_id '{user_id}' refuses"):
            inserts()[way](session, event_of(other, "planted"))
        assert names(data, other) == ["theirs", "theirs"]
        assert names(data, user_id) == []


def test_more_ways_to_insert_for_another_user(data: DataAccess, session: orm.Session, user_id: str, other: str) -> None:
    row = event_of(other, "planted")
    literal = "INSERT INTO netra_analytics.events (user_id, event_name) VALUES (%(a)s, %(b)s)"
    bound: Any = sa.bindparam("whose")
    light = sa.table("events", sa.column("event_name"), schema="netra_analytics")
    mine = event_of(user_id)
    ways: list[Callable[[], Any]] = [
        lambda: session.execute(EVENTS.insert().values([mine, row])),
        lambda: session.execute(EVENTS.insert(), [mine, row]),
        lambda: session.execute(EVENTS.insert().values(**{**row, "user_id": bound}), {"whose": other}),
        lambda: session.execute(EVENTS.insert().values(**{**row, "user_id": func.upper(other)})),
        lambda: session.execute(EVENTS.insert().values(**{**row, "user_id": sa.literal(other)})),
        lambda: session.execute(light.insert(), [{"event_name": "planted"}]),
        lambda: session.execute(EVENTS.insert().from_select(["user_id"], sa.select(EVENTS.c.user_id))),
        lambda: session.execute(
            EVENTS.insert().values(**{**mine, "event_name": sa.select(func.max(EVENTS.c.user_id)).scalar_subquery()})
        ),
        lambda: session.execute(sa.text("INSERT INTO netra_analytics.events (user_id) VALUES ('x')")),
        lambda: session.connection().exec_driver_sql(
            literal, {"a": other, "b": "planted"}, execution_options={"unscoped": "text"}
        ),
        lambda: session.connection().exec_driver_sql(
            literal, [{"a": user_id, "b": "1"}, {"a": other, "b": "planted"}], execution_options={"unscoped": "text"}
        ),
        lambda: session.connection().execute(EVENTS.insert().compile(dialect=data.engine.dialect), [row]),
    ]
    for run in ways:
        with pytest.raises((errors.NetraError, sa.exc.CompileError)):
            run()
    assert names(data, other) == ["theirs", "theirs"]
    assert names(data, user_id) == []
    session.connection().exec_driver_sql(
        literal.replace("events (", "events (created_at, ").replace("(%(a)s", "(%(c)s, %(a)s"),
        {"a": user_id, "b": "own", "c": dt.datetime.now(dt.UTC)},
        execution_options={"unscoped": "text"},
    )
    session.execute(EVENTS.insert().values([{**mine, "event_name": "several"}, mine]))
    assert names(data, user_id) == ["click", "own", "several"]


def test_rows_that_are_sent_as_columns(data: DataAccess, session: orm.Session, user_id: str, other: str) -> None:
    # SQLAlchemy is spared these rows: they go from the caller's dicts to the block.
    names_of = ("user_id", "event_name", "created_at")
    light = sa.table("events", *map(sa.column, names_of), schema="netra_analytics")
    now = dt.datetime.now(dt.UTC)
    rows = [dict(zip(names_of, (user, name, now), strict=True)) for user, name in ((user_id, "1"), (other, "planted"))]
    with pytest.raises(errors.NetraError, match=f"to insert a row of user_id '{other}'"):
        session.execute(light.insert(), rows)
    whole: Any = {"insert_columns": {name: [row[name] for row in rows] for name in names_of}}
    with pytest.raises(errors.NetraError, match=f"to insert a row of user_id '{other}'"):
        session.execute(light.insert(), rows[0], execution_options=whole)
    session.execute(light.insert(), [rows[0], rows[0]])
    session.execute(light.insert(), [{**rows[0], "user_id": None}, rows[0]])
    assert names(data, user_id) == ["1"] * 4
    assert names(data, other) == ["theirs", "theirs"]


def test_a_filled_id_is_the_objects_own(session: orm.Session, user_id: str) -> None:
    added = Event(**event_of())
    session.add(added)
    session.commit()
    assert added.user_id == user_id
    assert session.get(Event, sa.inspect(added).identity) is added
    session.refresh(added)
    assert added.event_name == "click"


def test_a_table_without_users_is_asked_for_by_name(data: DataAccess, session: orm.Session) -> None:
    table: Any = Health.__table__
    row = {"service_name": uuid.uuid4().hex, "timestamp": dt.datetime.now(dt.UTC), "status": "healthy"}
    row |= {"metric_id": uuid.uuid4().hex}
    with pytest.raises(errors.NetraError, match=r"without user_id"):
        session.execute(table.insert(), [row])
    with pytest.raises(errors.NetraError, match="a SystemHealthMetric: it has no user_id"):
        session.add(Health(**row))
    session.execute(table.insert(), [row], execution_options={"unscoped": "netra_analytics.system_health_metrics"})
    with data.session() as everyone:
        assert everyone.scalar(sa.select(func.count()).where(Health.service_name == row["service_name"])) == 1


class TestObjectsOfOthers:
    def test_they_do_not_get_in(self, data: DataAccess, session: orm.Session, user_id: str, other: str) -> None:
        with data.session() as everyone:
            foreign = everyone.scalars(sa.select(Event).where(Event.user_id == other)).first()
            assert foreign is not None
            identity = sa.inspect(foreign).identity
            everyone.expunge(foreign)
        whose = f"an? Event of user_id '{other}'"
        ways: list[Callable[[], Any]] = [
            lambda: session.add(foreign),
            lambda: session.add_all([foreign]),
            lambda: session.merge(foreign),
            lambda: session.merge(foreign, load=False),
            lambda: session.delete(foreign),
            lambda: session.add(Event(**event_of(other))),
            lambda: session.merge(Event(**event_of(other))),
            lambda: session.enable_relationship_loading(foreign),
        ]
        for run in ways:
            with pytest.raises(errors.NetraError, match=whose):
                run()
        assert session.get(Event, identity) is None
        with pytest.raises(sa.exc.InvalidRequestError):
            session.refresh(foreign)
        assert list(session.identity_map.values()) == []

    def test_nor_those_whose_user_is_not_loaded(self, data: DataAccess, session: orm.Session, other: str) -> None:
        with data.session() as everyone:
            foreign = everyone.scalars(sa.select(Event).where(Event.user_id == other)).first()
            everyone.expire(foreign)
            everyone.expunge(foreign)
        ways: list[Callable[[], Any]] = [lambda: session.add(foreign), lambda: session.merge(foreign, load=False)]
        for run in ways:
            with pytest.raises(errors.NetraError, match="user_id that is not loaded"):
                run()

    def test_a_row_does_not_change_hands(
        self, data: DataAccess, session: orm.Session, user_id: str, other: str
    ) -> None:
        added = Event(**event_of())
        session.add(added)
        added.user_id = other
        with pytest.raises(errors.NetraError, match="to insert a row of user_id"):
            session.flush()
        session.rollback()
        session.add(kept := Event(**event_of(user_id)))
        session.flush()
        kept.user_id = other
        with pytest.raises(errors.NetraError, match="to change user_id"):
            session.flush()
        assert names(data, other) == ["theirs", "theirs"]
        assert names(data, user_id) == ["click"]

    def test_ones_own_may_be_merged(self, session: orm.Session, user_id: str) -> None:
        row = event_of(user_id)
        merged = session.merge(Event(**row))
        session.flush()
        assert session.merge(Event(**row), load=True) is merged
        assert session.scalars(sa.select(Event.event_id)).all() == [row["event_id"]]


class TestUpdateAndDelete:
    @pytest.fixture(autouse=True)
    def own_row(self, data: DataAccess, user_id: str) -> None:
        data.events.insert([event_of(user_id, "mine")])

    @pytest.mark.parametrize(
        "statement",
        [
            lambda: sa.update(Event).values(event_name="changed"),
            lambda: sa.update(Event).where(Event.event_type == "ui").values({Event.event_name: "changed"}),
            lambda: EVENTS.update().values(event_name="changed"),
            lambda: sa.update(Event).values(event_name="changed").execution_options(synchronize_session="fetch"),
        ],
    )
    def test_update(
        self, data: DataAccess, session: orm.Session, user_id: str, other: str, statement: Callable[[], Any]
    ) -> None:
        session.execute(statement())
        assert names(data, user_id) == ["changed"]
        assert names(data, other) == ["theirs", "theirs"]

    @pytest.mark.parametrize(
        "statement",
        [
            lambda: sa.delete(Event),
            lambda: EVENTS.delete().where(sa.or_(EVENTS.c.event_type == "ui", sa.true())),
            lambda: sa.delete(Event).with_dialect_options(clickhouse_lightweight=True),
        ],
    )
    def test_delete(
        self, data: DataAccess, session: orm.Session, user_id: str, other: str, statement: Callable[[], Any]
    ) -> None:
        session.execute(statement())
        assert names(data, user_id) == []
        assert names(data, other) == ["theirs", "theirs"]

    def test_what_passes_the_criterion_is_refused(
        self, data: DataAccess, session: orm.Session, user_id: str, other: str
    ) -> None:
        theirs = sa.select(EVENTS.alias().c.event_id).scalar_subquery()
        for statement in (
            sa.update(Event).values(user_id=other),
            EVENTS.update().values({EVENTS.c.user_id: other}),
            sa.update(Health).values(status="degraded"),
            sa.delete(Health),
            sa.update(Event).values(event_name=theirs),
            sa.update(Event)
            .where(Event.event_id.in_(sa.select(theirs.element.selected_columns[0])))
            .values(event_name="x"),
            sa.delete(Event).where(sa.exists(sa.select(EVENTS.alias().c.event_id))),
            sa.update(Event).values(event_name=func.dictGet("d", "a", 1)),
            sa.update(Event).where(sa.text("1")).values(event_name="x"),
            sa.schema.DropTable(EVENTS),
            sa.schema.CreateSchema("mine"),
        ):
            with pytest.raises(errors.NetraError, match="refuses"):
                session.connection().execute(statement)
        assert names(data, other) == ["theirs", "theirs"]
        assert names(data, user_id) == ["mine"]


def test_relationships_are_followed_within_the_scope(url: str, engine: sa.Engine, database: str) -> None:
    class Base(orm.DeclarativeBase):
        pass

    class Note(Base):
        __tablename__ = "notes"
        __table_args__ = ({"schema": database},)
        id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
        user_id: orm.Mapped[str]
        lines: orm.Mapped[list[Line]] = orm.relationship(
            primaryjoin="Note.id == foreign(Line.note)", cascade="all", lazy="selectin"
        )

    class Line(Base):
        __tablename__ = "lines"
        __table_args__ = ({"schema": database},)
        id: orm.Mapped[int] = orm.mapped_column(primary_key=True)
        note: orm.Mapped[int]
        user_id: orm.Mapped[str]

    with engine.connect() as connection:
        for name, columns in (("notes", "id Int64, user_id String"), ("lines", "id Int64, note Int64, user_id String")):
            connection.exec_driver_sql(f"CREATE TABLE {database}.{name} ({columns}) ENGINE = MergeTree ORDER BY id")
        connection.exec_driver_sql(f"INSERT INTO {database}.notes VALUES (1, 'u1'), (2, 'u2')")
        connection.exec_driver_sql(f"INSERT INTO {database}.lines VALUES (1, 1, 'u1'), (2, 1, 'u2'), (3, 2, 'u2')")
    mine = create_engine(url)
    with SessionFactory(mine).for_user("u1") as session:
        for option in (orm.selectinload(Note.lines), orm.joinedload(Note.lines), orm.lazyload(Note.lines)):
            session.expunge_all()
            (note,) = session.scalars(sa.select(Note).options(option)).unique().all()
            assert (note.id, [line.id for line in note.lines]) == (1, [1])
        planted = Note(id=3, user_id="u1", lines=[Line(id=4, note=3, user_id="u2")])
        for run in (lambda: session.merge(planted), lambda: session.add(planted)):
            with pytest.raises(errors.NetraError, match="a Line of user_id 'u2'"):
                run()
    mine.dispose()
